"""Records out to Kafka: whole producer batches, every acknowledgement awaited within a deadline."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Self

from aiokafka import AIOKafkaProducer

from scoring.poll import Headers

MAX_BATCH_BYTES = 900_000
"""Of what a broker takes by default: 1,048,588 bytes."""

_REQUEST_OVERHEAD = 100_000


class OutRecord(NamedTuple):
    """One record to publish; `timestamp_ms` is in milliseconds since 1970."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


class RecordTooLarge(Exception):
    """A record does not fit into a request that the broker takes."""

    def __init__(self, topic: str, size: int, largest: int) -> None:
        msg = f"a record of {size} bytes for {topic} exceeds {largest}"
        super().__init__(msg)
        self.topic = topic
        self.size = size


class Publisher:
    """
    An idempotent producer (acks=all) that is done when the broker says so.

    `max_batch_bytes` is what the broker takes in one batch, before compression, for the topics that
    are written. `deadline` is in seconds and covers one `publish`; when it passes, or a send fails,
    `publish` raises, the caller ends uncommitted, and its input comes again.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        client_id: str,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        deadline: float = 30.0,
    ) -> None:
        self._options = {
            "bootstrap_servers": bootstrap_servers,
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            # Cheapest at what aiokafka lets one choose: a quarter of zstd's time, a sixth of lz4's.
            "compression_type": "snappy",
            "max_batch_size": max_batch_bytes,
            "max_request_size": max_batch_bytes + _REQUEST_OVERHEAD,
            "request_timeout_ms": int(deadline * 1000),
        }
        self._largest = max_batch_bytes
        self._deadline = deadline
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        producer = AIOKafkaProducer(**self._options)
        try:
            await asyncio.wait_for(producer.start(), self._deadline)
        except BaseException:
            await producer.stop()
            raise
        self._producer = producer
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await asyncio.wait_for(producer.stop(), self._deadline)

    async def publish(self, topic: str, partition: int, records: Iterable[OutRecord]) -> None:
        """
        Write records to one partition in order; return once all in-sync replicas have them.

        Raises RecordTooLarge, TimeoutError, or aiokafka's KafkaError.
        """
        assert self._producer is not None, "enter the publisher before publishing"
        async with asyncio.timeout(self._deadline):
            sent = [
                await self._producer.send_batch(batch, topic, partition=partition)
                for batch in self._batches(topic, records)
            ]
            for acknowledged in sent:
                await acknowledged

    def _batches(self, topic: str, records: Iterable[OutRecord]) -> list[object]:
        assert self._producer is not None
        batches = []
        batch = self._producer.create_batch()
        for key, value, headers, timestamp_ms in records:
            fields = {"key": key, "value": value, "timestamp": timestamp_ms, "headers": headers}
            if batch.append(**fields) is None:
                batches.append(batch)
                batch = self._producer.create_batch()
                batch.append(**fields)
            # A batch takes its first record whatever its size.
            if batch.record_count() == 1 and batch.size() > self._largest:
                raise RecordTooLarge(topic, batch.size(), self._largest)
        if batch.record_count():
            batches.append(batch)
        return batches
