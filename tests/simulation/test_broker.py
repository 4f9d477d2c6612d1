"""The simulated broker keeps Kafka's rules, on which everything that the simulation says rests."""

from collections.abc import Callable, Iterator

import pytest
from aiokafka.errors import (
    CommitFailedError,
    ConcurrentTransactions,
    InvalidTxnState,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from tests.simulation.broker import Broker, Committed, Place, Unwritten
from tests.simulation.group import SESSION_SECONDS, Group
from tests.simulation.world import World

PLACE: Place = ("decisions", 0)
RECORDS = [Unwritten(b"k", b"v", [], 0)]


@pytest.fixture
def world() -> Iterator[World]:
    world = World(0)
    yield world
    world.loop.end()


@pytest.fixture
def broker(world: World) -> Broker:
    return Broker(world, [PLACE[0]], 1)


def let_pass(world: World, seconds: float) -> None:
    world.loop.later(seconds, world.loop.stop)
    world.loop.run_forever()


def entered(world: World, broker: Broker) -> tuple[int, int]:
    for _ in range(2):
        try:
            return broker.enter("id")
        except ConcurrentTransactions:
            let_pass(world, 5.0)
    raise AssertionError


def seen(broker: Broker) -> int:
    return len(broker.logs[PLACE].committed_records(0, 100)[0])


def test_what_a_transaction_wrote_is_seen_once_its_marker_is_there(
    world: World, broker: Broker
) -> None:
    producer = entered(world, broker)
    broker.add_place("id", producer[1], PLACE)
    broker.produce(PLACE, RECORDS, producer, 0, "id")
    broker.add_offsets("id", producer[1], "g", {("applications", 0): Committed(5)})
    assert (seen(broker), broker.committed) == (0, {})

    broker.end("id", producer[1], committing=True)
    with pytest.raises(ConcurrentTransactions):
        broker.add_place("id", producer[1], PLACE)
    let_pass(world, 5.0)

    assert (seen(broker), broker.committed) == (1, {("g", ("applications", 0)): Committed(5)})
    assert broker.logs[PLACE].end == 2


def test_who_enters_aborts_what_is_open_and_fences_off_who_had_it(
    world: World, broker: Broker
) -> None:
    old = entered(world, broker)
    broker.add_place("id", old[1], PLACE)
    broker.produce(PLACE, RECORDS, old, 0, "id")

    new = entered(world, broker)

    assert new[1] > old[1]
    assert seen(broker) == 0
    asked: list[Callable[[], None]] = [
        lambda: broker.add_place("id", old[1], PLACE),
        lambda: broker.produce(PLACE, RECORDS, old, 1, "id"),
        lambda: broker.end("id", old[1], committing=True),
    ]
    for ask in asked:
        with pytest.raises(ProducerFenced):
            ask()


def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced_off(
    world: World, broker: Broker
) -> None:
    producer = entered(world, broker)
    broker.add_place("id", producer[1], PLACE)
    broker.produce(PLACE, RECORDS, producer, 0, "id")
    assert broker.logs[PLACE].stable_end == 0

    let_pass(world, 20.0)

    assert broker.logs[PLACE].stable_end == broker.logs[PLACE].end == 2
    with pytest.raises(ProducerFenced):
        broker.end("id", producer[1], committing=True)


def test_a_batch_that_comes_again_is_written_once_and_none_is_left_out(broker: Broker) -> None:
    producer = broker.new_producer()
    for _ in range(2):
        broker.produce(PLACE, RECORDS, producer, 0, None)
    with pytest.raises(OutOfOrderSequenceNumber):
        broker.produce(PLACE, RECORDS, producer, 2, None)

    assert seen(broker) == 1


def test_nothing_is_written_to_a_partition_that_is_no_part_of_the_transaction(
    world: World, broker: Broker
) -> None:
    producer = entered(world, broker)

    with pytest.raises(InvalidTxnState):
        broker.produce(PLACE, RECORDS, producer, 0, "id")


def test_a_member_that_is_silent_loses_its_partitions_and_may_commit_nothing(
    world: World, broker: Broker
) -> None:
    group = Group(world, broker, "g", (PLACE[0],))
    number, generation, places = group.join(None).result()
    assert places == [PLACE]
    other = group.join(None)
    with pytest.raises(RebalanceInProgressError):
        group.heartbeat(number, generation)

    let_pass(world, 2 * SESSION_SECONDS)

    assert other.result()[2] == [PLACE]
    with pytest.raises(CommitFailedError):
        group.commit(number, generation, {PLACE: 1})
    with pytest.raises(UnknownMemberIdError):
        group.heartbeat(number, generation)
