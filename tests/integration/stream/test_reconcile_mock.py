"""Reconciling at a broker that knows neither transactions nor times: the embedded one."""

import uuid
from pathlib import Path

from aiokafka import TopicPartition

from scoring.poll import Poll
from sinks.migrations import migrate
from sinks.store import open_store
from stream.agents.scoring import decide_and_encode
from stream.kafka.connection import connection_of
from stream.kafka.publisher import Output, Publisher
from stream.kafka.records import records_of
from stream.reconcile.run import reconcile
from stream.reconcile.snapshot import Period
from stream.settings import KafkaSettings, read_settings
from tests.integration.stream.reconciled import Installed, bad, event, poll_of
from tests.integration.stream.topics import kafka_at


async def deliver(kafka: KafkaSettings, poll: Poll, outputs: list[Output]) -> None:
    """Write output, and then the offset."""
    async with Publisher(connection_of(kafka), client_id="test") as publisher:
        await publisher.publish_all(poll.partition, outputs)


async def test_what_a_crash_repeated_is_counted_and_no_fault(
    mock_broker: str, tmp_path: Path
) -> None:
    kafka = kafka_at(mock_broker).model_copy(update={"group_prefix": uuid.uuid4().hex[:8]})
    store = open_store(f"chdb://{tmp_path}", user="", password="", database="test")
    migrate(store)
    installed = Installed(read_settings().model_copy(update={"kafka": kafka}), store, store)
    try:
        await installed.send(*map(event, range(5)), bad(5))
        sent = await records_of(connection_of(kafka), kafka.applications)
        poll = poll_of(sent, kafka)
        for now_us in (1_790_000_000_000_000, 1_790_000_001_000_000):
            ((_, outputs),) = decide_and_encode(kafka, installed.pipeline, [(poll, None)], now_us)
            await deliver(kafka, poll, outputs)
        applications = TopicPartition(kafka.applications, 0)
        await installed.commit(f"{kafka.group_prefix}-scoring", {applications: 3})
        await installed.insert()

        report = await reconcile(installed.settings, Period(None, None), store)
    finally:
        store.close()

    total = report.total
    assert report.good
    assert report.delivery == "at_least_once"
    assert (total.consumed, total.decided, total.parked, total.again) == (6, 5, 1, 5)
    assert (total.pending, total.stored, total.stored_parked) == (0, 5, 1)
