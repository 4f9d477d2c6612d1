"""Exactly once: a transaction a poll, with its output and its offset."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Self

import structlog
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from scoring.parking import ParkingHistory
from scoring.poll import Poll
from scoring.recent import RecentEvents
from stream.delivery.read_back import read_back
from stream.kafka.connection import Connection, connection_of
from stream.kafka.groups import committed_offsets
from stream.kafka.publisher import Output, TransactionalPublisher
from stream.kafka.topics import parked_record_bytes
from stream.settings import KafkaSettings

logger = structlog.get_logger(__name__)


class LogTruncated(Exception):
    """A topic ends before what was read of it: it was made anew, or has lost records."""

    def __init__(self, poll: Poll, end_offset: int, next_offset: int) -> None:
        place = f"{poll.topic}/{poll.partition}"
        msg = (
            f"{place} ends at {end_offset}, but all before {next_offset} was decided: the topic "
            "was made anew, or has lost records. Say where to go on: kafka-consumer-groups "
            "--reset-offsets while no worker runs"
        )
        super().__init__(msg)


@dataclass(slots=True)
class OwnedPartition:
    """
    A partition of the input, and who alone writes what it leads to.

    Records below `next_offset` are never delivered again, whatever a consumer may still hand over.
    A later owner, also in this process, makes `deliver` raise. What became of the events goes with
    the offset: as its metadata, so that a new owner counts on.
    """

    publisher: TransactionalPublisher
    group: str
    next_offset: int
    recent: RecentEvents
    parking: ParkingHistory

    async def take_up(
        self,
        poll: Poll,
        end_offset: int | None,
        text_of: Callable[[str], str],  # noqa: ARG002 - nothing was begun
    ) -> Poll:
        """Give the records of a poll from the next offset on; raises LogTruncated."""
        if end_offset is not None and end_offset < self.next_offset:
            raise LogTruncated(poll, end_offset, self.next_offset)
        return poll.since(self.next_offset)

    async def deliver(
        self, poll: Poll, outputs: Sequence[Output], parking: ParkingHistory | None = None
    ) -> None:
        """Write output and offset, all or nothing; raises as `TransactionalPublisher.commit`."""
        parking = parking or self.parking
        next_offset = int(poll.offsets[-1]) + 1
        tp = TopicPartition(poll.topic, poll.partition)
        offsets = {tp: OffsetAndMetadata(next_offset, parking.text())}
        await self.publisher.commit(poll.partition, outputs, offsets, self.group)
        self.next_offset, self.parking = next_offset, parking


class ExactlyOnce:
    """
    One transaction a poll, with its output and its offset; a publisher of its own a partition.

    The transactional id follows from the partition, so that a new owner fences off the old one. It
    does so before it asks for the committed offset: what the old one had open is then aborted, and
    what it had committed is seen.
    """

    way = "exactly_once"
    commits_offsets = True

    def __init__(
        self, kafka: KafkaSettings, group: str, connection: Connection | None = None
    ) -> None:
        self._kafka = kafka
        self._group = group
        self._connection = connection or connection_of(kafka)
        self._owned: dict[int, OwnedPartition] = {}
        self._open: list[TransactionalPublisher] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def take_over(self, partitions: Collection[int]) -> None:
        """Fence off who owned the partitions before, then learn what they had committed."""
        self._owned = {}
        await self._close()
        if not partitions:
            return
        publishers = {number: self._publisher(number) for number in sorted(partitions)}
        async with asyncio.TaskGroup() as group:
            for publisher in publishers.values():
                group.create_task(self._enter(publisher))
        committed = await self._committed(publishers)
        recent = await read_back(self._connection, self._kafka, publishers)
        self._owned = {
            number: OwnedPartition(
                publisher,
                self._group,
                committed[number].offset,
                recent[number],
                ParkingHistory.parse(committed[number].metadata or ""),
            )
            for number, publisher in publishers.items()
        }
        offsets = {number: owned.next_offset for number, owned in self._owned.items()}
        logger.info("delivery.taken_over", offsets=offsets)

    def lease(self, partition: int) -> OwnedPartition | None:
        """Give the partition as it is owned since the last `take_over`; None where it is not."""
        return self._owned.get(partition)

    async def _enter(self, publisher: TransactionalPublisher) -> None:
        self._open.append(await publisher.__aenter__())

    async def _close(self) -> None:
        """Close all at once: one that waits for a broker that is away must not hold the others."""
        closing = [publisher.__aexit__() for publisher in self._open]
        self._open = []
        for failed in await asyncio.gather(*closing, return_exceptions=True):
            if failed is not None:
                logger.warning("delivery.not_closed", cause=str(failed) or type(failed).__name__)

    def _publisher(self, partition: int) -> TransactionalPublisher:
        of_partition = f"{self._kafka.applications}-{partition}"
        return TransactionalPublisher(
            self._connection,
            client_id=f"creditstream-scoring-{partition}",
            transactional_id=f"{self._group}-{of_partition}",
            largest=parked_record_bytes(self._kafka),
        )

    async def _committed(self, partitions: Collection[int]) -> dict[int, OffsetAndMetadata]:
        # Asked anew: a consumer may answer by what it asked before the fencing.
        asked = {TopicPartition(self._kafka.applications, n): n for n in partitions}
        found = await committed_offsets(self._connection, self._group, asked)
        return {number: found[tp] for tp, number in asked.items()}
