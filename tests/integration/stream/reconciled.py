"""An installation in pieces: applications, what a worker makes of them, and what a sink inserts."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import TopicPartition

from scoring.pipeline import Pipeline
from scoring.poll import Poll
from sinks.parked import parse
from sinks.store import ClickHouse
from stream.agents.scoring import decide_and_encode
from stream.delivery.exactly_once import ExactlyOnce
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Output, Publisher
from stream.kafka.records import records_of
from stream.reconcile.report import Report
from stream.reconcile.run import reconcile
from stream.reconcile.snapshot import Period
from stream.settings import Settings
from tests.builders import a_pipeline, an_event
from tests.committed import no_transaction_open
from tests.integration.sinks.stored import Inserts

Change = Callable[[list[Output]], list[Output]]

_LONG_AGO_S = 2 * 86_400


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def event(number: int, **changes: Any) -> dict[str, Any]:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - _LONG_AGO_S))
    fields = {"event_id": f"e-{number}", "application_id": number + 1, "submitted_at": at}
    return an_event(**(fields | changes))


def bad(number: int) -> dict[str, Any]:
    return event(number, application_id="seven")


@dataclass
class Installed:
    """Topics of two partitions and a store; nothing runs by itself."""

    settings: Settings
    store: ClickHouse
    reader: ClickHouse
    pipeline: Pipeline = field(default_factory=a_pipeline)

    async def send(
        self, *events: dict[str, Any] | bytes, partition: int = 0, at_ms: int | None = None
    ) -> None:
        """Send applications."""
        stamp = now_ms() if at_ms is None else at_ms
        records = [
            OutRecord(b"k", one if isinstance(one, bytes) else msgspec.json.encode(one), [], stamp)
            for one in events
        ]
        await self.publish(self.settings.kafka.applications, records, partition)

    async def publish(self, topic: str, records: Iterable[OutRecord], partition: int = 0) -> None:
        """Write to a topic as somebody else might."""
        connection = connection_of(self.settings.kafka)
        async with Publisher(connection, client_id="test") as publisher:
            await publisher.publish(topic, partition, records)

    async def decide(self, *partitions: int, change: Change = lambda outputs: outputs) -> None:
        """Do as a scoring worker: all that waits is one poll of each partition."""
        kafka = self.settings.kafka
        group = f"{kafka.group_prefix}-scoring"
        waiting = await records_of(connection_of(kafka), kafka.applications)
        async with ExactlyOnce(kafka, group) as delivery:
            await delivery.take_over(partitions or (0, 1))
            for number in partitions or (0, 1):
                lease = delivery.lease(number)
                assert lease is not None
                poll = poll_of([one for one in waiting if one.partition == number], kafka)
                poll = await lease.take_up(poll, None, str)
                if not poll:
                    continue
                now_us = time.time_ns() // 1_000
                asked = [(poll, lease.recent)]
                ((_, outputs),) = decide_and_encode(kafka, self.pipeline, asked, now_us)
                await lease.deliver(poll, change(outputs))
        await no_transaction_open(kafka, kafka.decisions, kafka.ledger, kafka.parked)

    async def insert(self) -> None:
        """Do as a sink: insert all that is on the topics."""
        kafka = self.settings.kafka
        inserts = Inserts(self.store)
        ledger = await records_of(connection_of(kafka), kafka.ledger)
        parked = await records_of(connection_of(kafka), kafka.parked)
        inserts.insert_ledger([one.value for one in ledger])
        inserts.insert_parked([parse(one.key, one.value, one.headers) for one in parked])
        offsets: dict[TopicPartition, int] = {}
        for one in (*ledger, *parked):
            offsets[TopicPartition(one.topic, one.partition)] = one.offset + 1
        await self.commit(f"{kafka.group_prefix}-sink", offsets)

    async def commit(self, group: str, offsets: dict[TopicPartition, int]) -> None:
        """Commit a group's offsets."""
        async with connection_of(self.settings.kafka).consumer(group_id=group) as consumer:
            consumer.assign(list(offsets))
            await consumer.commit(offsets)

    async def report(self, period: Period | None = None, **changes: Any) -> Report:
        """Reconcile."""
        settings = self.settings.model_copy(update=changes)
        return await reconcile(settings, period or Period(None, None), self.reader)


def poll_of(records: Sequence[Any], kafka: Any) -> Poll:
    return Poll(
        kafka.applications,
        records[0].partition if records else 0,
        [one.offset for one in records],
        [one.timestamp for one in records],
        [one.key for one in records],
        [one.value for one in records],
        [one.headers for one in records],
    )
