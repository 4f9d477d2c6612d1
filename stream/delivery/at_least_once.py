"""At least once: output first, then the offset; a new owner reads back what is out already."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import structlog
from aiokafka import TopicPartition

from scoring.envelope import read_envelope
from scoring.parking import ParkingHistory, ParkingLimit
from scoring.poll import Poll
from scoring.recent import RecentEvents, event_digest
from stream.contracts.codec import decision_record
from stream.delivery.read_back import Begun, parked_before, read_back, read_begun
from stream.kafka.connection import Connection, connection_of
from stream.kafka.groups import committed_offsets
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Output, Publisher
from stream.kafka.topics import parked_record_bytes
from stream.settings import KafkaSettings

logger = structlog.get_logger(__name__)


class PartitionLost(Exception):
    """The group has gone on with a partition since it was taken over here, without this worker."""

    def __init__(self, poll: Poll, taken_at: int, committed: int) -> None:
        msg = (
            f"{poll.topic}/{poll.partition} was taken over at {taken_at}, and the group is at "
            f"{committed} by now: another worker went on while this one slept, or committed late"
        )
        super().__init__(msg)


@dataclass(slots=True)
class SharedPartition:
    """
    A partition of the input, and what its last owner had begun of it without committing.

    The ledger is written before the decisions: a decision that anybody can have seen has its ledger
    row, and one that nobody has seen can be made of its row, as it was decided.
    """

    publisher: Publisher
    kafka: KafkaSettings
    begun: Begun
    recent: RecentEvents
    parking: ParkingHistory
    taken_at: int
    """The group's committed offset, by which all else here was read."""
    committed: Callable[[], Awaitable[int]]
    """Asks for it anew."""
    _checked: bool = field(default=False, init=False)

    async def take_up(
        self,
        poll: Poll,
        end_offset: int | None,  # noqa: ARG002 - what is committed is Faust's to know
        text_of: Callable[[str], str],
    ) -> Poll:
        """
        Publish decisions that stand on the ledger alone; give what nobody has begun.

        Raises PartitionLost.
        """
        await self._check(poll)
        if not self.begun:
            return poll
        left = [at for at, offset in enumerate(poll.offsets) if offset not in self.begun]
        if len(left) == len(poll):
            return poll
        unseen = self.begun.ledger.keys() - self.begun.decided
        made = [
            self._made(poll, at, text_of)
            for at, offset in enumerate(poll.offsets)
            if offset in unseen
        ]
        if made:
            await self.publisher.publish(self.kafka.decisions, poll.partition, made)
        logger.info(
            "delivery.resumed",
            partition=poll.partition,
            published=len(made),
            left_out=len(poll) - len(left),
        )
        return poll.at(left)

    async def deliver(
        self, poll: Poll, outputs: Sequence[Output], parking: ParkingHistory | None = None
    ) -> None:
        """Write the ledger, then all else; raises an ExceptionGroup of what `publish` does."""
        ledger = [output for output in outputs if output.topic == self.kafka.ledger]
        others = [output for output in outputs if output.topic != self.kafka.ledger]
        await self.publisher.publish_all(poll.partition, ledger)
        await self.publisher.publish_all(poll.partition, others)
        self.parking = parking or self.parking

    async def _check(self, poll: Poll) -> None:
        # Only a first poll can begin where others have come to: those behind it follow on it.
        if not self._checked and poll.offsets[0] > self.taken_at:
            committed = await self.committed()
            if committed != self.taken_at:
                raise PartitionLost(poll, self.taken_at, committed)
        self._checked = True

    def _made(self, poll: Poll, at: int, text_of: Callable[[str], str]) -> OutRecord:
        batch, row = self.begun.ledger[poll.offsets[at]]
        digest = event_digest(poll.values[at] or b"")
        envelope = read_envelope(poll.headers[at], poll.topic)
        self.recent.remember([batch.rows.column("decision_id")[row].as_py()], [digest])
        return decision_record(batch.decision(row, text_of), digest, envelope.traceparent)


class AtLeastOnce:
    """
    Output first, acknowledged by all in-sync replicas; the offset is Faust's to commit later.

    A crash between the two repeats nothing, as the next owner reads back what is out. An owner that
    slept through its session and wakes is not fenced off: what it then writes stands twice.
    """

    way = "at_least_once"
    commits_offsets = False

    def __init__(
        self,
        kafka: KafkaSettings,
        group: str,
        limit: ParkingLimit | None = None,
        connection: Connection | None = None,
    ) -> None:
        self._kafka = kafka
        self._group = group
        self._limit = limit or ParkingLimit()
        self._connection = connection or connection_of(kafka)
        self._publisher = Publisher(
            self._connection,
            client_id="creditstream-scoring",
            largest=parked_record_bytes(kafka),
        )
        self._owned: dict[int, SharedPartition] = {}

    async def __aenter__(self) -> Self:
        await self._publisher.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._publisher.__aexit__()

    async def take_over(self, partitions: Collection[int]) -> None:
        """Learn what the partitions' last owners had committed, and what they had begun."""
        self._owned = {}
        if not partitions:
            return
        kafka, connection = self._kafka, self._connection
        committed = await self._committed(partitions)
        async with asyncio.TaskGroup() as reading:  # which is mostly waiting
            begun = reading.create_task(read_begun(connection, kafka, committed))
            recent = reading.create_task(read_back(connection, kafka, partitions))
            parking = reading.create_task(parked_before(connection, kafka, partitions, self._limit))
        self._owned = {
            number: SharedPartition(
                self._publisher,
                kafka,
                begun.result()[number],
                recent.result()[number],
                parking.result()[number],
                offset,
                partial(self._committed_of, number),
            )
            for number, offset in committed.items()
        }
        logger.info(
            "delivery.taken_over",
            offsets=committed,
            begun={number: len(of) for number, of in begun.result().items() if len(of)},
        )

    def lease(self, partition: int) -> SharedPartition | None:
        """Give the partition as it is owned since the last `take_over`; None where it is not."""
        return self._owned.get(partition)

    async def _committed_of(self, partition: int) -> int:
        return (await self._committed([partition]))[partition]

    async def _committed(self, partitions: Collection[int]) -> dict[int, int]:
        asked = {number: TopicPartition(self._kafka.applications, number) for number in partitions}
        found = await committed_offsets(self._connection, self._group, asked.values())
        return {number: found[tp].offset for number, tp in asked.items()}
