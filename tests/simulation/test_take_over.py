"""At least once, what an owner knows of a partition is of the offset at which it took it over."""

from collections.abc import Iterator

import pytest

from scoring.poll import Poll
from stream.delivery.at_least_once import AtLeastOnce, PartitionLost
from stream.settings import KafkaSettings
from tests.simulation.broker import Broker, Committed
from tests.simulation.clients import SimulatedConnection
from tests.simulation.world import World

GROUP = "scoring"
KAFKA = KafkaSettings(partitions=1)
PLACE = KAFKA.applications, 0


@pytest.fixture
def world() -> Iterator[World]:
    world = World(0)
    yield world
    world.loop.end()


@pytest.fixture
def broker(world: World) -> Broker:
    topics = KAFKA.applications, KAFKA.decisions, KAFKA.ledger, KAFKA.parked
    return Broker(world, topics, 1)


def a_poll(first: int) -> Poll:
    return Poll(KAFKA.applications, 0, [first], [0], [b"k"], [b"v"], [[]])


async def taken_up(world: World, broker: Broker, *firsts: int, meanwhile: int | None) -> int:
    """Take over at offset 2, let the group commit, take up polls; give how many were given."""
    connection = SimulatedConnection("simulated:1", world=world, broker=broker)
    broker.committed[GROUP, PLACE] = Committed(2)
    async with AtLeastOnce(KAFKA, GROUP, connection=connection) as delivery:
        await delivery.take_over([0])
        if meanwhile is not None:
            broker.committed[GROUP, PLACE] = Committed(meanwhile)
        lease = delivery.lease(0)
        assert lease is not None
        return sum([len(await lease.take_up(a_poll(first), None, str)) for first in firsts])


def test_who_is_handed_what_another_went_on_to_is_no_owner(world: World, broker: Broker) -> None:
    with pytest.raises(PartitionLost, match=r"at 2, .* at 5"):
        world.loop.run_until_complete(taken_up(world, broker, 5, meanwhile=5))


def test_offsets_that_nobody_has_are_no_other_owner(world: World, broker: Broker) -> None:
    assert world.loop.run_until_complete(taken_up(world, broker, 5, meanwhile=None)) == 1


def test_an_owner_may_commit(world: World, broker: Broker) -> None:
    assert world.loop.run_until_complete(taken_up(world, broker, 2, 7, meanwhile=3)) == 2
