"""What a sink can never insert, out to the parked topic."""

import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby

from monitoring.metrics import Metrics
from scoring.decision import instant
from sinks.blocks import Unfit
from sinks.parked import ParkedEvent
from stream.kafka.connection import Connection, connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.kafka.topics import parked_record_bytes
from stream.settings import KafkaSettings

Park = Callable[[Sequence[Unfit]], Awaitable[None]]


def parking(kafka: KafkaSettings, metrics: Metrics, connection: Connection | None = None) -> Park:
    """
    Make what parks: it returns once all in-sync replicas have what it was given.

    It raises as `Publisher.publish`; nothing of that may then be committed.
    """
    largest = parked_record_bytes(kafka)

    async def park(found: Sequence[Unfit]) -> None:
        now_us = time.time_ns() // 1000

        def record(unfit: Unfit) -> OutRecord:
            event = ParkedEvent.of(
                unfit.poll,
                unfit,
                stage="sink",
                parked_at=instant(now_us),
                release=unfit.release,
                largest=kafka.parked_max_bytes,
            )
            return OutRecord(event.key, event.value, event.record_headers(), now_us // 1000)

        # So seldom that a producer of its own for each time is the less to keep.
        async with Publisher(
            connection or connection_of(kafka), client_id="creditstream-sink", largest=largest
        ) as publisher:
            for partition, unfits in groupby(sorted(found, key=_partition), key=_partition):
                await publisher.publish(kafka.parked, partition, map(record, unfits), largest)
        for unfit in found:
            metrics.events_parked.labels(stage="sink", code=unfit.code).inc()

    return park


def _partition(unfit: Unfit) -> int:
    return unfit.poll.partition
