"""Records out to Kafka: whole producer batches, every acknowledgement awaited within a deadline."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer import sender as aiokafka_sender
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import OffsetAndMetadata

from stream.kafka.connection import Connection
from stream.kafka.packing import (
    MAX_BATCH_BYTES,
    OutRecord,
    PackedBatch,
    PackedRecords,
    RecordTooLarge,
)
from stream.kafka.pinned import replace

TRANSACTION_SECONDS = 15.0
"""After so long the broker aborts a transaction whose producer is gone, and readers go on."""

_REQUEST_OVERHEAD = 100_000
# The broker refuses a transaction until the markers of the one before are written; aiokafka then
# sleeps a constant 20 ms, and has slept long enough after 2.
_MARKERS_SECONDS = 0.002


Records = Iterable[OutRecord] | Sequence[PackedRecords]
"""Records one by one, or those that are packed into batches already."""


class Output(NamedTuple):
    """Records for one topic, in batches of at most `largest` bytes before compression."""

    topic: str
    records: Records
    largest: int = MAX_BATCH_BYTES


class PublisherClosed(Exception):
    """A publisher writes only between entering and leaving it."""


class Publisher:
    """
    An idempotent producer (acks=all) that is done when the broker says so.

    `largest` is the size of the largest batch, in bytes before compression. `deadline` is in
    seconds and covers one `publish`; when it passes, or a send fails, `publish` raises, the caller
    ends uncommitted, and its input comes again.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        client_id: str,
        largest: int = MAX_BATCH_BYTES,
        deadline: float = 30.0,
    ) -> None:
        self._connection = connection
        self._options: dict[str, object] = {
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            # Cheapest at what aiokafka lets one choose: a quarter of zstd's time, a sixth of lz4's.
            "compression_type": "snappy",
            "max_batch_size": largest,
            "max_request_size": largest + _REQUEST_OVERHEAD,
            "request_timeout_ms": int(deadline * 1000),
        }
        self._transactional = False
        self._deadline = deadline
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        producer = self._connection.producer(**self._options)
        try:
            await asyncio.wait_for(producer.start(), self._deadline)
        except BaseException:
            await asyncio.wait_for(producer.stop(), self._deadline)
            raise
        self._producer = producer
        return self

    async def __aexit__(self, *_: object) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await asyncio.wait_for(producer.stop(), self._deadline)

    async def publish(
        self,
        topic: str,
        partition: int,
        records: Records,
        largest: int = MAX_BATCH_BYTES,
    ) -> None:
        """
        Write records to one partition in order; return once all in-sync replicas have them.

        Raises RecordTooLarge, TimeoutError, or aiokafka's KafkaError.
        """
        producer = self._entered()
        async with asyncio.timeout(self._deadline):
            sent = [
                await producer.send_batch(batch, topic, partition=partition)
                for batch in self._batches(topic, records, largest)
            ]
            await asyncio.gather(*sent)

    async def publish_all(self, partition: int, outputs: Sequence[Output]) -> None:
        """Write to the same partition of several topics at once; raises a group of `publish`'s."""
        async with asyncio.TaskGroup() as group:
            for topic, records, largest in outputs:
                group.create_task(self.publish(topic, partition, records, largest))

    def _entered(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise PublisherClosed
        return self._producer

    def _batches(
        self, topic: str, records: Records, largest: int
    ) -> list[BatchBuilder | PackedBatch]:
        batches: list[BatchBuilder | PackedBatch] = []
        batch = self._new_batch(largest)
        for record in records:
            if isinstance(record, PackedRecords):
                batches.append(PackedBatch(record, transactional=self._transactional))
                continue
            key, value, headers, timestamp_ms = record
            fields = {"key": key, "value": value, "timestamp": timestamp_ms, "headers": headers}
            if batch.append(**fields) is None:
                batches.append(batch)
                batch = self._new_batch(largest)
                batch.append(**fields)
            # A batch takes its first record whatever its size.
            if batch.record_count() == 1 and batch.size() > largest:
                raise RecordTooLarge(topic, batch.size(), largest)
        if batch.record_count():
            batches.append(batch)
        return batches

    def _new_batch(self, largest: int) -> BatchBuilder:
        # A producer's own `create_batch` knows one size for all topics.
        return BatchBuilder(
            largest, DefaultRecordBatch.CODEC_SNAPPY, is_transactional=self._transactional
        )


class TransactionalPublisher(Publisher):
    """
    Writes in transactions that hold the offset of what was read, too.

    Entering fences off whoever had the same `transactional_id` and aborts what they left open. A
    transaction that fails, or takes longer than `deadline` seconds, raises; the publisher is then
    of no use any more, and nobody may make another in its place but a new owner of its input.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        client_id: str,
        transactional_id: str,
        largest: int = MAX_BATCH_BYTES,
        deadline: float = TRANSACTION_SECONDS - 3.0,
    ) -> None:
        super().__init__(connection, client_id=client_id, largest=largest, deadline=deadline)
        replace(aiokafka_sender, "BACKOFF_OVERRIDE", _MARKERS_SECONDS)
        self._options |= {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": int(TRANSACTION_SECONDS * 1000),
        }
        self._transactional = True

    async def commit(
        self,
        partition: int,
        outputs: Sequence[Output],
        next_offset: Mapping[TopicPartition, OffsetAndMetadata],
        group: str,
    ) -> None:
        """
        Write outputs to a partition of each topic and a group's offsets, all or nothing.

        Raises as `publish_all`; ProducerFenced where another has taken over.
        """
        producer = self._entered()
        async with asyncio.timeout(self._deadline):
            await producer.begin_transaction()
            await self.publish_all(partition, outputs)
            # Not at the same time: the broker then answers with errors that cost 100 ms.
            await producer.send_offsets_to_transaction(dict(next_offset), group)
            await producer.commit_transaction()
