import asyncio
from collections import defaultdict, deque
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaConnectionError
from faust.transport.consumer import Consumer, ThreadDelegateConsumer
from faust.types import TP

from scoring.poll import Poll
from stream.app import new_app
from stream.settings import read_settings
from stream.transport.consumer import SEEK_SECONDS, PollConsumer, PollConsumerThread, Transport
from stream.transport.gone import Gone, RecordsGone
from stream.transport.in_flight import PartitionProgress, PollInFlight
from stream.transport.pacing import Pace

PARTITION = TP("applications", 0)
FETCH = 5


class Partition(PollConsumer):
    """
    The consumer's drain over one simulated partition: the next fetch, and a committed offset.

    Everything handed over is finished and committed at once; `got` are its offsets. `during` is
    called, once, in the middle of a fetch, which has then already moved the position.
    """

    should_stop = False

    def __init__(self) -> None:
        self.app: Any = SimpleNamespace(consumer_generation_id=1)
        self.flow_active = True
        self.can_resume_flow = asyncio.Event()
        self._dropped = False
        self._progress = {}  # type: ignore[assignment] # nothing is looked up in it here
        self.pace = Pace()
        self.next_fetch = 0
        self.committed = 0
        self.got: list[int] = []
        self.during: Any = None
        self.given_away = False

    async def _wait_next_records(self, *_: object, **__: object) -> tuple[Any, Any]:
        records = [SimpleNamespace(offset=self.next_fetch + i) for i in range(FETCH)]
        self.next_fetch += FETCH
        if self.during is not None:
            self.during, happens = None, self.during
            happens()
        return {PARTITION: records}, None

    async def _hand_over(self, _tp: TP, records: list[Any]) -> None:
        self.got += [record.offset for record in records]
        self.committed = self.got[-1] + 1

    async def perform_seek(self) -> None:
        if self.given_away:
            self.given_away = False
            raise IllegalStateError
        self.next_fetch = self.committed

    async def wait(self, *events: Any, **_: object) -> Any:
        await asyncio.wait_for(events[0].wait(), 1.0)

    def rebalance(self, *, flow_on: bool) -> None:
        """A rebalance that has put the position back before the fetch came home."""
        self.app.consumer_generation_id += 1
        if not flow_on:
            self.flow_active = False
            asyncio.get_running_loop().call_soon(self.resume)

    def resume(self) -> None:
        self.flow_active = True
        self.can_resume_flow.set()


@pytest.mark.parametrize("given_away", [False, True])
@pytest.mark.parametrize("flow_on", [True, False])
async def test_a_fetch_that_outlives_a_rebalance_skips_nothing(
    flow_on: bool, given_away: bool
) -> None:
    partition = Partition()
    await partition._drain_poll()

    partition.during = lambda: partition.rebalance(flow_on=flow_on)
    partition.given_away = given_away  # by another rebalance, while it is sought back
    for _ in range(4):
        await partition._drain_poll()
        await asyncio.sleep(0)  # here the flow is switched on again

    assert len(partition.got) >= 2 * FETCH
    assert partition.got == list(range(len(partition.got)))


async def test_a_cancelled_fetch_skips_nothing() -> None:
    partition = Partition()
    transport = SimpleNamespace(app=SimpleNamespace(should_stop=True))
    partition.transport = transport  # type: ignore[assignment] # only its app is asked

    def cancel() -> None:
        raise asyncio.CancelledError

    partition.during = cancel
    await partition._drain_messages(SimpleNamespace(should_stop=False))  # type: ignore[arg-type]
    for _ in range(3):
        await partition._drain_poll()

    assert partition.got == list(range(2 * FETCH))


def a_poll(first: int, count: int, progress: PartitionProgress) -> PollInFlight:
    offsets = range(first, first + count)
    poll = Poll("t", 0, offsets, [0] * count, [None] * count, [None] * count, [[]] * count)
    in_flight = PollInFlight(poll, lambda _: progress.advance())
    progress.in_flight.append(in_flight)
    return in_flight


def committable(progress: PartitionProgress) -> int | None:
    return progress.committable


def test_a_poll_becomes_committable_only_after_all_before_it() -> None:
    progress = PartitionProgress()
    first, second, third = (a_poll(start, 10, progress) for start in (0, 10, 20))

    second.finish()
    assert committable(progress) is None
    first.finish()
    assert committable(progress) == 20
    third.finish()
    assert committable(progress) == 30


def test_a_poll_of_an_earlier_assignment_moves_nothing() -> None:
    progress = PartitionProgress()
    old = a_poll(0, 10, progress)
    progress.forget()
    progress.in_flight.clear()
    a_poll(100, 10, progress)

    old.finish()

    assert old.stale
    assert progress.committable is None


class Leaving(PollConsumer):
    """The consumer where it is about to give its partitions back."""

    def __init__(self, *polls: PollInFlight) -> None:
        self._progress = {PARTITION: PartitionProgress(deque(polls))}  # type: ignore[assignment]
        self.log: Any = SimpleNamespace(warning=lambda *_: None)
        self.app: Any = SimpleNamespace(crashed=False)
        self.committed = False

    async def commit_and_end_transactions(self) -> None:
        self.committed = True


def in_flight(*, begun: bool) -> PollInFlight:
    poll = PollInFlight(Poll("applications", 0, [0], [0], [None], [b""], [[]]), lambda _: None)
    poll.begun = begun
    return poll


async def test_a_partition_is_given_back_when_what_was_begun_is_finished() -> None:
    begun = in_flight(begun=True)
    consumer = Leaving(begun, in_flight(begun=False))

    leaving = asyncio.create_task(consumer.wait_empty())
    await asyncio.sleep(0.05)
    assert not leaving.done()
    begun.finish()

    await asyncio.wait_for(leaving, 1.0)
    assert consumer.committed


async def test_a_poll_that_is_never_finished_holds_a_partition_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.transport.consumer.DRAIN_SECONDS", 0.05)
    consumer = Leaving(in_flight(begun=True))

    await asyncio.wait_for(consumer.wait_empty(), 1.0)

    assert consumer.committed


async def test_after_a_crash_nothing_is_waited_for() -> None:
    consumer = Leaving(in_flight(begun=True))
    consumer.app.crashed = True

    await asyncio.wait_for(consumer.wait_empty(), 1.0)

    assert consumer.committed


class Uncommitted(PollConsumer):
    """The consumer of two partitions, of which the group has committed an offset of one alone."""

    def __init__(self, *, given_away: bool = False) -> None:
        self.at_beginning: list[TP] = []
        self.given_away = given_away
        self._thread: Any = self

    def assignment(self) -> set[TP]:
        return {PARTITION, TP("applications", 1)}

    async def seek_to_beginning(self, *partitions: TP) -> None:
        if self.given_away:
            raise IllegalStateError
        self.at_beginning += partitions


@pytest.mark.parametrize("given_away", [False, True])
async def test_a_partition_without_a_committed_offset_is_sought_to_its_beginning(
    given_away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = {PARTITION: 7, TP("applications", 1): None}

    async def as_faust_does(_: object) -> dict[TP, int | None]:
        return committed

    monkeypatch.setattr(ThreadDelegateConsumer, "seek_to_committed", as_faust_does)
    consumer = Uncommitted(given_away=given_away)

    assert await consumer.seek_to_committed() == committed
    assert consumer.at_beginning == ([] if given_away else [TP("applications", 1)])


async def test_a_seek_that_no_coordinator_answers_ends_before_faust_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request_timeout = new_app(read_settings(), "scoring").conf.broker_request_timeout
    assert request_timeout > SEEK_SECONDS

    async def no_answer(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(ThreadDelegateConsumer, "seek_to_committed", no_answer)
    monkeypatch.setattr("stream.transport.consumer.SEEK_SECONDS", 0.01)
    async with asyncio.timeout(5.0):
        with pytest.raises(TimeoutError):
            await Uncommitted().seek_to_committed()


class Unassigned(PollConsumer):
    """The consumer of a worker for which no partition is left, above aiokafka's own."""

    def __init__(self) -> None:
        self.aiokafka = AIOKafkaConsumer("applications", group_id="g")
        self._thread: Any = self.aiokafka


async def test_without_partitions_nothing_is_sought() -> None:
    consumer = Unassigned()
    try:
        with pytest.raises(AssertionError):
            await consumer.aiokafka.seek_to_committed()
        assert await consumer.seek_to_committed() == {}
    finally:
        await consumer.aiokafka.stop()


class Owned(PollConsumer):
    """The consumer of an owner who notes whether records flow while it takes over."""

    loop: Any = SimpleNamespace(time=lambda: 0.0)

    def __init__(self) -> None:
        self._assignment = self._sought = 0
        self._progress = defaultdict(PartitionProgress)
        self._read_offset = {}
        self._committed_offset = {}
        self._owner: Any = self
        self.pace = Pace()
        self.flow_active = True
        self.can_resume_flow = asyncio.Event()
        self.suspend_flow = asyncio.Event()
        self.flowed: list[bool] = []
        self.may_seek = asyncio.Event()

    async def take_over(self, _partitions: set[int]) -> None:
        self.flowed.append(self.flow_active)

    async def seek_to_committed(self) -> dict[TP, int]:
        await self.may_seek.wait()
        return {}


@pytest.fixture
def owned(monkeypatch: pytest.MonkeyPatch) -> Owned:
    async def go_on(*_: object) -> None: ...

    monkeypatch.setattr(Consumer, "on_partitions_assigned", go_on)
    return Owned()


async def test_nothing_flows_while_partitions_are_taken_over(owned: Owned) -> None:
    await owned.on_partitions_assigned({PARTITION}, 1)

    assert owned.flowed == [False]
    owned.may_seek.set()
    await owned.perform_seek()
    owned.resume_flow()
    assert owned.flow_active


async def test_seeking_for_an_assignment_of_before_lets_nothing_flow(owned: Owned) -> None:
    await owned.on_partitions_assigned({PARTITION}, 1)
    seeking = asyncio.create_task(owned.perform_seek())
    await asyncio.sleep(0)
    await owned.on_partitions_assigned({PARTITION}, 2)
    owned.may_seek.set()
    await seeking

    owned.resume_flow()
    assert not owned.flow_active

    await owned.perform_seek()
    owned.resume_flow()
    assert owned.flow_active


class Refused(PollConsumer):
    """The consumer where the group refuses commits, until it is told to take them."""

    def __init__(self) -> None:
        self._committed_offset = defaultdict(lambda: None)
        self.log: Any = SimpleNamespace(dev=lambda *_: None, info=lambda *_: None)
        self.in_transaction = False
        nothing = SimpleNamespace(on_tp_commit=lambda _: None, on_commit=lambda _: None)
        producer = SimpleNamespace(flush=self._done)
        self.app: Any = SimpleNamespace(producer=producer, monitor=nothing, tables=nothing)
        self.takes = False

    def assignment(self) -> set[TP]:
        return {PARTITION}

    async def _commit(self, _offsets: Any) -> bool:
        return self.takes

    async def _done(self) -> None: ...


async def test_an_offset_that_the_group_refused_is_committed_again() -> None:
    consumer = Refused()

    assert not await consumer._commit_offsets({PARTITION: 7})
    assert consumer._should_commit(PARTITION, 7)

    consumer.takes = True
    assert await consumer._commit_offsets({PARTITION: 7})
    assert not consumer._should_commit(PARTITION, 7)


class Standing(PollConsumer):
    """The consumer of a partition of which nothing is fetched any more: its last fetch saw 100."""

    def __init__(self) -> None:
        self._progress = defaultdict(PartitionProgress)
        self._ends = {}
        self.log: Any = SimpleNamespace(debug=lambda *_: None)
        self.end: int | Exception = 250

    def assignment(self) -> set[TP]:
        return {PARTITION}

    def highwater(self, tp: TP) -> int:  # noqa: ARG002 - the only one
        return 100

    def _reached(self, tp: TP) -> int:  # noqa: ARG002 - the only one
        return 100

    async def highwaters(self, *partitions: TP) -> dict[TP, int]:
        if isinstance(self.end, Exception):
            raise self.end
        return dict.fromkeys(partitions, self.end)


async def test_what_is_not_fetched_any_more_is_lag_all_the_same() -> None:
    consumer = Standing()
    assert consumer.lag() == {PARTITION: 0}

    await consumer.look_at_ends_once()
    assert consumer.lag() == {PARTITION: 150}


async def test_while_the_broker_is_away_the_ends_of_the_last_fetch_count() -> None:
    consumer = Standing()
    await consumer.look_at_ends_once()

    consumer.end = KafkaConnectionError("away")
    await consumer.look_at_ends_once()

    assert consumer.lag() == {PARTITION: 0}


class Placed(PollConsumer):
    """The consumer where a partition has the offsets 5 to 8, and `position` is read next."""

    def __init__(self, position: int, on_gone: Any) -> None:
        self.app: Any = SimpleNamespace(conf=SimpleNamespace(id="scoring"))
        self.transport = Transport.__new__(Transport)
        self.transport.on_gone = on_gone
        self._thread = self.placed = PlacedThread.__new__(PlacedThread)
        self.placed.position = position

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, 5)

    async def highwaters(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, 9)


class PlacedThread(PollConsumerThread):
    position: Any

    def position_now(self, _: TP) -> int:
        return int(self.position)

    async def seek_to_beginning(self, *partitions: Any) -> None:
        assert all(isinstance(one, TopicPartition) for one in partitions)  # aiokafka insists
        self.position = 5


@pytest.mark.parametrize(
    ("position", "wanted", "records", "then"),
    [(2, 2, [3], 5), (10, 10, [0], 5), (7, 2, [], 7), (9, 9, [], 9)],
    ids=["removed", "made anew", "put elsewhere", "there again"],
)
async def test_what_is_gone_is_told_before_the_partition_is_read_from_its_beginning(
    position: int, wanted: int, records: list[int], then: int
) -> None:
    told: list[Gone] = []
    consumer = Placed(position, told.append)

    await consumer._on_gone(PARTITION, wanted)

    assert [gone.records for gone in told] == records
    assert consumer.placed.position_now(PARTITION) == then


async def test_nothing_is_passed_over_by_default() -> None:
    consumer = Placed(2, Transport.on_gone)

    with pytest.raises(RecordsGone, match=r"offsets 2 to 4 of applications/0 were removed before"):
        await consumer._on_gone(PARTITION, 2)

    assert consumer.placed.position_now(PARTITION) == 2


@pytest.mark.parametrize(
    ("positions", "flows", "held_up"),
    [([], False, False), ([3, 0], True, False), ([3, None], True, True), ([3, 0], False, True)],
    ids=["nothing assigned", "all flows", "one not sought yet", "no flow"],
)
def test_partitions_of_which_nothing_can_come_are_held_up(
    positions: list[int | None], flows: bool, held_up: bool
) -> None:
    places = dict(zip([TP("applications", number) for number in (0, 1)], positions, strict=False))
    consumer = Held(places)
    consumer.flow_active = flows

    assert consumer.held_up() == held_up


class Held(PollConsumer):
    def __init__(self, places: dict[TP, int | None]) -> None:
        self.places = places
        self._thread = HeldThread.__new__(HeldThread)
        self._thread.places = places

    def assignment(self) -> set[TP]:
        return set(self.places)


class HeldThread(PollConsumerThread):
    places: Any

    def position_now(self, tp: TP) -> int | None:
        position: int | None = self.places[tp]
        return position
