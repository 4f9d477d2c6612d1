"""The poll-batch transport: Faust with one message a partition and poll, acknowledged in order."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import consumer as aiokafka_consumer
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    OffsetOutOfRangeError,
    kafka_errors,
)
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as faust_aiokafka
from faust.types import TP, ConsumerMessage
from faust.types.transports import ConsumerCallback
from mode import Service
from mode.types import ServiceT

from scoring.poll import Poll
from stream.kafka.pinned import replace
from stream.kafka.record_batches import RecordColumns
from stream.transport.column_records import ColumnResult, records_of_fetch
from stream.transport.gone import Gone, RecordsGone
from stream.transport.in_flight import PartitionProgress, PollInFlight
from stream.transport.member import Member, MemberReplaced
from stream.transport.pacing import Pace, PacedFetcher
from stream.transport.readable_records import ReadableRecords

# Faust asks the broker to hold a fetch for 1.5 s, in which a partition can stall.
LONGEST_FETCH_WAIT_MS = 100

# Below a usual session time-out: who waits longer is thrown out of the group.
DRAIN_SECONDS = 8.0
_LOOK_SECONDS = 0.01
_ENDS_SECONDS = 10.0

# Below Faust's `broker_request_timeout`, after which its recovery would end without a word.
SEEK_SECONDS = 20.0


class PartitionOwner(Protocol):
    """Who the partitions are for; it may commit the offsets of polls itself, in Faust's place."""

    commits_offsets: bool

    async def take_over(self, partitions: Collection[int]) -> None:
        """Learn which partitions are assigned, before any record of them is handed over."""


class PollConsumerThread(faust_aiokafka.AIOKafkaConsumerThread):
    """Faust's consumer thread with a shorter fetch wait, reading committed records only."""

    def _create_worker_consumer(self, transport: "Transport") -> AIOKafkaConsumer:  # type: ignore[override] # ours makes it
        # The fetcher looks the classes up in its module.
        replace(aiokafka_fetcher, "PartitionRecords", records_of_fetch)
        replace(aiokafka_fetcher, "FetchResult", ColumnResult)
        replace(aiokafka_fetcher, "MemoryRecords", ReadableRecords)
        replace(aiokafka_consumer, "GroupCoordinator", Member)
        replace(aiokafka_consumer, "Fetcher", PacedFetcher)
        kafka_errors.setdefault(MemberReplaced.errno, MemberReplaced)
        consumer = super()._create_worker_consumer(transport)
        owner = self.consumer
        assert isinstance(owner, PollConsumer)
        # Faust passes constants or nothing; aiokafka hands these to its fetcher when it starts.
        for name, value in (
            ("_fetch_max_wait_ms", transport.fetch_max_wait_ms),
            ("_isolation_level", "read_committed"),
            ("_key_deserializer", owner.pace),
        ):
            replace(consumer, name, value)
        return consumer

    def position_now(self, tp: TP) -> int | None:
        """Give the offset of the next record to fetch without asking the broker; None: not yet."""
        # Its own `position` waits for one, in its own thread.
        subscription = self._ensure_consumer()._subscription.subscription  # noqa: SLF001
        assignment = None if subscription is None else subscription.assignment
        if assignment is None or tp not in assignment.tps:
            return None
        state = assignment.state_value(tp)
        return int(state.position) if state.has_valid_position else None


class PollConsumer(faust_aiokafka.Consumer):
    """
    Hands the conductor one message for all records that a poll brought of a partition.

    A poll's next offset becomes committable when it and all polls before it in its partition are
    finished, so there is no hole that a commit could step over. Whatever was fetched in an earlier
    generation of the group is dropped and read again by its owner.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._progress: defaultdict[TP, PartitionProgress] = defaultdict(PartitionProgress)
        self.last_progress = self.loop.time()
        self.pace = Pace()
        self._dropped = False
        self._assignment = self._sought = 0
        self._ends: Mapping[TP, int] = {}
        transport = self.transport
        assert isinstance(transport, Transport)
        self._owner = transport.owner

    def _new_consumer_thread(self) -> PollConsumerThread:
        return PollConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def lag(self) -> Mapping[TP, int]:
        """
        Count the records of each assigned partition that are not yet finished.

        Safe from any thread: empty before the consumer is up, without what is being revoked.
        """
        lags = {}
        try:
            assigned = self.assignment()
        except ConsumerNotStarted:
            return {}
        for tp in assigned:
            try:
                end_offset = self.highwater(tp)
            except IllegalStateError:
                continue
            reached = self._reached(tp)
            if reached is not None:
                # The first is of the last fetch, and none is sent while polls wait for ClickHouse.
                end = max(end_offset or 0, self._ends.get(tp, 0))
                lags[tp] = max(0, end - reached)
        return lags

    def held_up(self) -> bool:
        """
        Say whether nothing comes of partitions that are assigned: not sought yet, or no flow.

        Lag does not show it, as it counts from positions. Safe from any thread, as `lag` is.
        """
        thread = self._thread
        assert isinstance(thread, PollConsumerThread)
        assigned = self.assignment()
        placed = all(thread.position_now(tp) is not None for tp in assigned)
        return bool(assigned) and not (placed and self.flow_active)

    @Service.task
    async def look_at_ends(self) -> None:
        """Ask the broker now and then where partitions end, whatever is fetched of them."""
        while not self.should_stop:
            await self.sleep(_ENDS_SECONDS)
            await self.look_at_ends_once()

    async def look_at_ends_once(self) -> None:
        """Ask the broker where the assigned partitions end; nothing is known where it is away."""
        try:
            async with asyncio.timeout(_ENDS_SECONDS):
                assigned = self.assignment()
                self._ends = await self.highwaters(*assigned) if assigned else {}
        except (ConsumerNotStarted, ConsumerStoppedError, KafkaError, TimeoutError) as error:
            self._ends = {}
            self.log.debug("no ends of partitions: %r", error)

    def _reached(self, tp: TP) -> int | None:
        """
        Give the offset before which all is finished.

        It is not the one to commit: markers of transactions may stand between the two, and a topic
        that ends with one would lag for ever.
        """
        progress = self._progress.get(tp)
        if progress is not None and progress.in_flight:
            return int(progress.in_flight[0].poll.offsets[0])
        thread = self._thread
        assert isinstance(thread, PollConsumerThread)
        return thread.position_now(tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let the polls under way finish and commit them (Faust does), then forget the rest."""
        self._assignment += 1
        await super().on_partitions_revoked(revoked)
        self._forget()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start from nothing: positions are the group's committed offsets again."""
        self._assignment += 1
        self.stop_flow()  # Faust has not, where nothing was assigned before
        self._forget()
        self.last_progress = self.loop.time()
        if self._owner is not None:
            try:
                await self._owner.take_over({tp.partition for tp in assigned})
            except Exception as error:  # noqa: BLE001 - whatever it is, the process ends of it
                await self.app.crash(error)
        await super().on_partitions_assigned(assigned, generation_id)

    def _forget(self) -> None:
        for progress in self._progress.values():
            progress.forget()
        self._progress.clear()
        self.pace.forget()

    async def perform_seek(self) -> None:
        """Seek to where the partitions assigned at present begin."""
        assignment = self._assignment
        await super().perform_seek()
        self._sought = max(self._sought, assignment)

    def resume_flow(self) -> None:
        """
        Let records flow, unless partitions were taken or given since they were sought.

        Faust asks for that before it seeks. Polls would come while their partitions are taken over,
        and be left out.
        """
        if self._sought == self._assignment:
            super().resume_flow()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """
        Seek to the committed offsets; where there is none yet, to the beginning.

        aiokafka leaves such a position where it is, and a dropped fetch may have moved it. Raises
        IllegalStateError where a partition is given away meanwhile, TimeoutError where the group
        has no coordinator that tells.
        """
        if not self.assignment():
            return {}  # aiokafka asserts that there is one
        async with asyncio.timeout(SEEK_SECONDS):
            committed = await super().seek_to_committed()
            if never := [tp for tp, offset in committed.items() if not offset]:
                # One that is given away meanwhile is sought anew by its next assignment.
                with suppress(IllegalStateError):
                    await self._thread.seek_to_beginning(*never)
        return committed

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        """
        Commit, and note as committed only what is.

        Faust notes what the group refused, too, and would not commit it again.
        """
        done = await super()._commit_offsets(offsets, start_new_transaction)
        if not done:
            for tp in offsets:
                self._committed_offset.pop(tp, None)
        return bool(done)

    async def wait_empty(self) -> None:
        """
        Wait until the polls that are being worked on are finished, then commit.

        Faust's own waits, without end, for its acknowledgements, which count for nothing here.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_SECONDS
        # After a crash nobody is left who would finish them: they come again.
        while not self.app.crashed and any(p.busy for p in self._progress.values()):
            if loop.time() > deadline:
                self.log.warning("polls were not finished within %s s", DRAIN_SECONDS)
                break
            await asyncio.sleep(_LOOK_SECONDS)
        await self.commit_and_end_transactions()

    def _on_wait(self, seconds: float) -> None:
        self.last_progress = self.loop.time() + seconds

    def _on_finish(self, poll: PollInFlight) -> None:
        # A poll of an earlier assignment is in no queue any more and moves nothing.
        self._progress[TP(poll.poll.topic, poll.poll.partition)].advance()
        self.pace.finish(poll)
        self.last_progress = self.loop.time()
        # Faust's compiled stream books its acknowledgements here, and nothing takes them out.
        self._acked.clear()
        self._acked_index.clear()

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (
            tp
            for tp, progress in self._progress.items()
            if not (self._owner and self._owner.commits_offsets)
            and progress.committable is not None
            and (topics is None or tp in topics or tp.topic in topics)
        )

    def _new_offset(self, tp: TP) -> int | None:
        return self._progress[tp].committable

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._drain_poll()
        except ConsumerStoppedError:
            if not self.transport.app.should_stop:
                raise
        except asyncio.CancelledError:
            self._dropped = True
            if not self.transport.app.should_stop:
                raise

    async def _drain_poll(self) -> None:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type] # as Faust does
        if self._dropped:
            # A fetch that outlived a rebalance moved the new position past records that nobody
            # got. Only now that the flow is on again do positions stay where they are put.
            self._progress.clear()
            self.pace.forget()
            # Given away meanwhile: the flow stands still, and once it is on again all is sought.
            with suppress(IllegalStateError):
                await self.perform_seek()
                self._dropped = False
            return
        generation = self.app.consumer_generation_id
        try:
            records, _ = await self._wait_next_records(timeout=1.0)
        except OffsetOutOfRangeError as error:
            ((tp, wanted),) = error.args[0].items()
            await self._on_gone(TP(*tp), wanted)
            return
        if not records or self.should_stop:
            await asyncio.sleep(0)
            return
        for tp, of_partition in records.items():
            if self.app.consumer_generation_id != generation or not self.flow_active:
                self._dropped = True
                return
            await self._hand_over(tp, of_partition)

    async def _on_gone(self, tp: TP, wanted: int) -> None:
        """Go on from the beginning of a partition that has not got what is wanted, if we may."""
        thread = self._thread
        assert isinstance(thread, PollConsumerThread)
        async with asyncio.timeout(SEEK_SECONDS):
            begin = (await self.earliest_offsets(tp))[tp]
            end = (await self.highwaters(tp))[tp]
        if thread.position_now(tp) != wanted or begin <= wanted <= end:
            return  # given away, or put elsewhere, or there again
        transport = self.transport
        assert isinstance(transport, Transport)
        transport.on_gone(Gone(tp.topic, tp.partition, self.app.conf.id, wanted, begin, end))
        with suppress(IllegalStateError):
            async with asyncio.timeout(SEEK_SECONDS):
                await thread.seek_to_beginning(TopicPartition(*tp))

    async def _hand_over(self, tp: TP, fetched: list[RecordColumns]) -> None:
        end_offset = self.highwater(tp)
        (records,) = fetched
        value = PollInFlight(
            _poll(tp, records), self._on_finish, self._on_wait, end_offset=end_offset
        )
        message = ConsumerMessage(
            tp.topic,
            tp.partition,
            int(records.offsets[0]),
            int(records.timestamps_ms[0]) / 1000.0,
            0,
            [],
            None,
            value,  # type: ignore[arg-type] # the agent's value: all records of a poll
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )
        self.app.monitor.track_tp_end_offset(tp, end_offset)
        self._progress[tp].in_flight.append(value)
        self.pace.begin(value)
        await self.wait_first(self.callback(message), self.suspend_flow.wait())


def _poll(tp: TP, records: RecordColumns) -> Poll:
    return Poll(
        topic=tp.topic,
        partition=tp.partition,
        offsets=records.offsets,
        produced_at_ms=records.timestamps_ms,
        keys=records.keys,
        values=records.values,
        headers=records.headers,
    )


def refuse(gone: Gone) -> None:
    """Go on without no record: raises RecordsGone."""
    raise RecordsGone(gone)


class Transport(faust_aiokafka.Transport):
    """
    Faust's aiokafka transport with the poll consumer; waits are in milliseconds.

    An `owner` takes over what is assigned, and may commit offsets itself. `on_gone` is told of
    records that are gone unread: where it returns, the partition is read on from its beginning.
    """

    consumer: Callable[..., PollConsumer] = PollConsumer
    owner: PartitionOwner | None = None
    fetch_max_wait_ms: int = LONGEST_FETCH_WAIT_MS
    on_gone: Callable[[Gone], None] = staticmethod(refuse)

    def create_consumer(self, callback: ConsumerCallback, **kwargs: Any) -> PollConsumer:
        """Make the consumer, as Faust does."""
        return self.consumer(self, callback=callback, loop=self.loop, **kwargs)
