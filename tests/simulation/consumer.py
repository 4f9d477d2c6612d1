"""The product's consumer on a simulated thread, in a stand-in for the Faust app around it."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from faust.types import TP
from faust.types.transports import SchedulingStrategyT
from faust.utils.tracing import noop_span
from mode.types import ServiceT
from mode.utils.queues import FlowControlEvent, FlowControlQueue
from mode.utils.trees import Node

from stream.app import POLLS_IN_QUEUE
from stream.kafka.record_batches import RecordColumns, columns_of_records
from stream.transport.consumer import PartitionOwner, PollConsumer, PollConsumerThread, Transport
from stream.transport.in_flight import PollInFlight
from tests.simulation.broker import Broker, Place, Stored
from tests.simulation.group import Group
from tests.simulation.world import World

HEARTBEAT_SECONDS = 2.0
_BACKOFF_SECONDS = 0.1


class Assignment:
    """What is assigned in one generation, and where it is read on; None: not known yet."""

    def __init__(self, places: Collection[Place]) -> None:
        self.positions: dict[TP, int | None] = {TP(*place): None for place in places}
        self.asking: dict[TP, asyncio.Future[int | None]] = {}


class SimulatedThread(PollConsumerThread):
    """
    The thread in which aiokafka's consumer lives: member of the group, fetcher, positions.

    As in aiokafka a fetch takes the records of whatever is assigned when it ends, and moves the
    positions; what it brings reaches the consumer a moment later.
    """

    def __init__(self, consumer: "SimulatedConsumer") -> None:
        self._beacon = Node(self)
        self.consumer = consumer
        self._app = consumer.simulated
        self._world = self._app.world
        self._broker = self._app.broker
        self._group = self._app.group
        self._assigned = Assignment([])
        self._reassigning = asyncio.Event()
        self._member: int | None = None
        self._generation = 0
        self._ends: dict[TP, int] = {}

    async def coordinate(self) -> None:
        """Be a member of the group, for ever."""
        heartbeats: asyncio.Task[None] | None = None
        rejoin = asyncio.Event()
        while True:
            self._reassigning.clear()
            await self.consumer.on_partitions_revoked(set(self._assigned.positions))
            if heartbeats is not None:
                heartbeats.cancel()
            await self._join()
            rejoin = asyncio.Event()
            heartbeats = asyncio.create_task(self._heartbeat(rejoin))
            await self.consumer.on_partitions_assigned(
                set(self._assigned.positions), self._generation
            )
            await rejoin.wait()

    async def leave(self) -> None:
        member = self._member
        if member is not None:
            with suppress(KafkaError):
                await self._world.ask("leave", lambda: self._group.leave(member))

    async def _join(self) -> None:
        while True:
            member = self._member
            try:
                work = partial(self._group.join, member)
                joined = await self._world.ask("join", work, coordinator=True)
            except UnknownMemberIdError:
                self._member = None
                continue
            except KafkaError:
                await asyncio.sleep(_BACKOFF_SECONDS)
                continue
            self._member, self._generation, places = await joined
            await asyncio.sleep(self._world.transit())
            self._assigned = Assignment(places)
            self._reassigning.set()
            self._app.consumer_generation_id = self._generation
            self._asked = asyncio.create_task(self._ask_for_positions(self._assigned))
            return

    async def _heartbeat(self, rejoin: asyncio.Event) -> None:
        member, generation = self._member, self._generation
        assert member is not None
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                await self._world.ask(
                    "heartbeat", lambda: self._group.heartbeat(member, generation)
                )
            except RebalanceInProgressError:
                rejoin.set()  # and goes on, as the callbacks may take their time
            except (UnknownMemberIdError, IllegalGenerationError):
                self._member = None
                rejoin.set()
                return
            except KafkaError:
                continue

    async def getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 - as the base has it
    ) -> Mapping[TP, list[RecordColumns]]:
        if not self.consumer.flow_active:
            return {}
        until = self._world.loop.now + timeout
        while True:
            await self._reassigning.wait()
            found = await self._fetch(active_partitions or set())
            if found:
                # The way from the thread to the event loop takes its time, too.
                await asyncio.sleep(
                    self._world.transit() if self._world.random.random() < 0.2 else 0
                )
                return found
            try:
                async with asyncio.timeout_at(until):
                    await self._broker.more()
            except TimeoutError:
                return {}

    async def _ask_for_positions(self, assigned: Assignment) -> None:
        """Ask where to begin, before anybody else has been told of the assignment."""
        with suppress(KafkaError):
            for tp in sorted(assigned.positions):
                await self._committed(tp)

    async def _positions(self, active: set[TP]) -> dict[TP, int]:
        """Say where to read on in what is active and assigned."""
        positions = self._assigned.positions
        for tp in sorted(tp for tp in active if positions.get(tp, 0) is None):
            committed = await self._committed(tp)
            if positions[tp] is None:
                positions[tp] = committed or 0
        return {tp: positions[tp] or 0 for tp in sorted(active & positions.keys())}

    async def _fetch(self, active: set[TP]) -> dict[TP, list[RecordColumns]]:
        try:
            asked = await self._positions(active)
        except KafkaError:
            await asyncio.sleep(_BACKOFF_SECONDS)
            return {}
        logs = self._broker.logs
        if all(logs[tp].stable_end <= at for tp, at in asked.items()):
            return {}  # the broker would hold the request
        at_most = self._world.random.choice([1, 3, 8, 30])

        def work() -> dict[TP, tuple[list[Stored], int, int]]:
            return {
                tp: (*logs[tp].committed_records(position, at_most), logs[tp].end)
                for tp, position in asked.items()
            }

        try:
            answer = await self._world.ask("fetch", work)
        except KafkaError:
            await asyncio.sleep(_BACKOFF_SECONDS)
            return {}
        # What the next assignment wants of these is taken, too: a fetch outlives a rebalance.
        assigned = self._assigned
        found = {}
        for tp, (records, position, highwater) in answer.items():
            if assigned.positions.get(tp, -1) == asked[tp]:
                assigned.positions[tp] = position
                self._ends[tp] = highwater
                if records:
                    found[tp] = [columns_of_records(records)]
        return found

    async def seek_to_committed(self) -> Mapping[TP, int]:
        # In a thread it goes on, also where nobody waits for it any more.
        return await asyncio.shield(asyncio.create_task(self._seek_to_committed()))

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        asked = sorted(self._assigned.positions)
        assert asked, "No partitions are currently assigned"  # so does aiokafka
        found: dict[TP, Any] = {}
        for tp in asked:
            committed = await self._committed_at_last(tp)
            found[tp] = committed
            # As aiokafka does: without a committed offset a position stays where it is.
            if committed:
                self.seek(tp, committed)
        return found

    async def seek_to_beginning(self, *partitions: TP) -> None:
        if given_away := set(partitions) - self.assignment():
            raise IllegalStateError(given_away)
        for tp in partitions:
            self.seek(tp, 0)

    def seek(self, partition: TP, offset: int) -> None:
        if partition not in self._assigned.positions:
            raise IllegalStateError(partition)
        self._assigned.positions[partition] = offset

    async def _committed_at_last(self, tp: TP) -> int | None:
        while True:
            try:
                return await self._committed(tp)
            except KafkaError:
                await asyncio.sleep(_BACKOFF_SECONDS)

    async def _committed(self, tp: TP) -> int | None:
        # As in aiokafka who asks while a question is under way gets the answer to that.
        asking = self._assigned.asking
        if tp not in asking:
            asking[tp] = asyncio.ensure_future(self._ask_for_committed(tp))
            asking[tp].add_done_callback(lambda _: asking.pop(tp))
        return await asyncio.shield(asking[tp])

    async def _ask_for_committed(self, tp: TP) -> int | None:
        work = partial(self._broker.committed_offset, self._group.name, tp)
        found = await self._world.ask("committed", work, coordinator=True)
        # A coordinator that is late with markers is late with answers.
        if self._world.random.random() < self._world.weather.late_markers:
            await asyncio.sleep(self._world.random.uniform(0.1, 3.0))
        return found

    async def commit(self, tps: Mapping[TP, int]) -> bool:
        offsets = {(tp.topic, tp.partition): offset for tp, offset in tps.items()}
        while True:
            # As in aiokafka each attempt is in the name of the present generation.
            member, generation = self._member, self._generation
            work = partial(self._group.commit, member, generation, offsets)
            try:
                await self._world.ask("commit", work, coordinator=True)
            except CommitFailedError:
                return False
            except KafkaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(_BACKOFF_SECONDS)
            else:
                return True

    def assignment(self) -> set[TP]:
        return set(self._assigned.positions)

    def highwater(self, tp: TP) -> int:
        return self._ends.get(tp, 0)

    def position_now(self, tp: TP) -> int | None:
        return self._assigned.positions.get(tp)


class SimulatedConsumer(PollConsumer):
    """The product's consumer, with nothing changed but its thread."""

    def __init__(self, transport: Transport, app: "SimulatedApp") -> None:
        self.simulated = app
        super().__init__(
            transport,
            callback=app.on_message,
            on_partitions_revoked=app.on_partitions_revoked,
            on_partitions_assigned=app.on_partitions_assigned,
            loop=app.world.loop,
        )

    def _new_consumer_thread(self) -> SimulatedThread:
        return SimulatedThread(self)

    @property
    def thread(self) -> SimulatedThread:
        """The simulated thread."""
        assert isinstance(self._thread, SimulatedThread)
        return self._thread


class SimulatedApp:
    """
    What Faust's app does around a consumer, call for call: rebalances, flow, queues, crash, stop.

    Each topic has one agent, before which a queue of a few polls stands.
    """

    in_transaction = False
    client_only = False
    tracer = None

    def __init__(
        self,
        world: World,
        broker: Broker,
        group: Group,
        owner: PartitionOwner | None,
        commit_seconds: float,
    ) -> None:
        self.world = world
        self.broker = broker
        self.group = group
        self.crashed = False
        self.crash_cause: BaseException | None = None
        self.should_stop = False
        self.ended = asyncio.Event()
        self.consumer_generation_id = 0
        self.flow_control = FlowControlEvent(loop=world.loop)
        self.queues: dict[str, FlowControlQueue[Any]] = {}
        nothing = SimpleNamespace
        self.sensors = nothing(
            on_message_in=lambda *_: None,
            on_commit_initiated=lambda *_: None,
            on_commit_completed=lambda *_: None,
        )
        self.monitor = nothing(track_tp_end_offset=lambda *_: None, on_tp_commit=lambda *_: None)
        self.tables = nothing(on_commit=lambda *_: None)
        self.producer = nothing(flush=self._done)
        self._attachments = nothing(publish_for_tp_offset=self._nothing_attached)
        self.conf = nothing(
            broker_commit_every=None,
            ConsumerScheduler=SchedulingStrategyT,
            broker_commit_interval=commit_seconds,
            broker_commit_livelock_soft_timeout=300.0,
            stream_wait_empty=True,
        )
        transport = Transport([], self, loop=world.loop)
        transport.owner = owner
        self.consumer = SimulatedConsumer(transport, self)
        self._assigned = asyncio.Event()
        self._to_resume = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._fetching: asyncio.Task[None] | None = None

    def polls(self, topic: str) -> AsyncIterator[PollInFlight]:
        """Give the stream of a topic's polls to its agent."""
        queue: FlowControlQueue[Any] = FlowControlQueue(
            maxsize=POLLS_IN_QUEUE, flow_control=self.flow_control, clear_on_resume=True
        )
        self.queues[topic] = queue

        async def stream() -> AsyncIterator[PollInFlight]:
            while True:
                yield (await queue.get()).value

        return stream()

    async def run(self, agents: Collection[Any]) -> None:
        """Run until a crash, or until told to stop."""
        running = [asyncio.create_task(agent) for agent in agents]
        for agent in running:
            agent.add_done_callback(self._agent_ended)
        self._tasks = [
            asyncio.create_task(self.consumer.thread.coordinate()),
            asyncio.create_task(self._recover()),
            asyncio.create_task(self._commit_now_and_then()),
        ]
        for task in self._tasks:
            task.add_done_callback(self._agent_ended)
        await self.ended.wait()
        self.should_stop = True
        # As Faust's `_stop_consumer`.
        self.consumer.stop_flow()
        self.flow_control.suspend()
        self.consumer.pause_partitions(self.consumer.assignment())
        self.flow_control.clear()
        await self._cancelled([self._fetching] if self._fetching else [])
        await self.consumer.wait_empty()
        await self._cancelled(running)
        await self._cancelled(self._tasks)
        await self.consumer.thread.leave()

    async def crash(self, cause: BaseException) -> None:
        """End of an error."""
        if not self.crashed:
            self.world.note(f"crashes of {cause!r}")
            self.crashed, self.crash_cause = True, cause
        self.ended.set()

    async def on_message(self, message: Any) -> None:
        """Put a poll into its agent's queue."""
        await self.flow_control.acquire()
        await self.queues[message.topic].put(message)

    async def on_partitions_revoked(self, _revoked: set[TP]) -> None:
        """As Faust's `App._on_partitions_revoked`."""
        if self.should_stop:
            return
        assignment = self.consumer.assignment()
        if assignment:
            self.consumer.stop_flow()
            self.flow_control.suspend()
            self.consumer.pause_partitions(assignment)
            self.flow_control.clear()
            await self.consumer.wait_empty()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int) -> None:
        """As Faust's `App._on_partitions_assigned` and, a moment later, its table recovery."""
        if self.should_stop:
            return
        await asyncio.sleep(0)
        self.consumer.pause_partitions(assigned)
        await asyncio.sleep(0)
        self._to_resume = generation_id
        self._assigned.set()

    def on_rebalance_return(self) -> None: ...

    def _start_span_from_rebalancing(self, _name: str) -> Any:
        return noop_span()

    async def _recover(self) -> None:
        """One after the other, however often partitions are assigned meanwhile."""
        while True:
            await self._assigned.wait()
            self._assigned.clear()
            with suppress(IllegalStateError):  # Faust takes it for another rebalance
                await self._resume(self._to_resume)

    async def _resume(self, generation_id: int) -> None:
        await asyncio.sleep(self.world.random.choice([0, 0, 0.05]))
        if self.consumer_generation_id != generation_id:
            return
        assignment = self.consumer.assignment()
        if assignment:
            self.consumer.resume_partitions(assignment)
            await self.consumer.perform_seek()
        self.flow_control.resume()
        self.consumer.resume_flow()
        if self._fetching is None:
            self._fetching = asyncio.create_task(
                self.consumer._drain_messages(cast(ServiceT, self))  # asked only whether to stop
            )
            self._fetching.add_done_callback(self._agent_ended)

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self.conf.broker_commit_interval)
            await self.consumer.commit()

    def _agent_ended(self, task: "asyncio.Task[Any]") -> None:
        if task.cancelled() or self.should_stop:
            return
        cause = task.exception()
        if cause is not None:
            self.world.note(f"crashes of {_root(cause)!r}")
            self.crashed, self.crash_cause = True, cause
            self.ended.set()

    async def _cancelled(self, tasks: Collection["asyncio.Task[Any]"]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=30.0)

    async def _done(self) -> None: ...

    async def _nothing_attached(self, *_: object) -> list[Any]:
        return []


def _root(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
