"""Records that Kafka removed before they were read: never passed over unless somebody says so."""

import asyncio
import time
from collections import Counter

import httpx
import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete

from models.prepared import Prepared
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.kafka.records import records_of
from stream.process.supervisor import RoleProcess
from stream.settings import Settings
from tests.e2e.installation import PATIENCE_S, applications, ended, installed

FIRST, THEN, REMOVED = 40, 60, 25
PARTITION = 1


@pytest.fixture
def skipping(settings: Settings) -> Settings:
    kafka = settings.kafka.model_copy(update={"records_gone": "skip"})
    return settings.model_copy(update={"kafka": kafka})


def send(settings: Settings, records: list[OutRecord]) -> None:
    async def publish() -> None:
        async with Publisher(connection_of(settings.kafka), client_id="test") as publisher:
            await publisher.publish(settings.kafka.applications, PARTITION, records)

    asyncio.run(publish())


def decided(settings: Settings, count: int, process: RoleProcess) -> Counter[int]:
    """Wait for so many decisions; give how often each offset of the partition was decided."""
    kafka = settings.kafka
    deadline = time.monotonic() + PATIENCE_S
    while len(records := asyncio.run(records_of(connection_of(kafka), kafka.decisions))) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count}"
        process.look_after()
        time.sleep(0.2)
    origins = [msgspec.json.decode(record.value)["origin"] for record in records]
    assert {origin["partition"] for origin in origins} == {PARTITION}
    return Counter(origin["offset"] for origin in origins)


def how_a_worker_ends(settings: Settings) -> str:
    worker = ended(settings, "scoring")
    assert worker.returncode == 1
    (cause,) = [line for line in worker.stderr.splitlines() if "kafka.records_gone" in line]
    return cause


async def remove(settings: Settings, before: int) -> None:
    place = TopicPartition(settings.kafka.applications, PARTITION)
    async with connection_of(settings.kafka).admin() as admin:
        await admin.delete_records({place: RecordsToDelete(before_offset=before)})


async def make_anew(settings: Settings) -> None:
    kafka = settings.kafka
    async with connection_of(kafka).admin() as admin:
        await admin.delete_topics([kafka.applications])
        while kafka.applications in await admin.list_topics():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)
        await admin.create_topics([NewTopic(kafka.applications, kafka.partitions, 1)])


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_applications_removed_unread_end_the_worker_until_it_is_told_to_go_on(
    settings: Settings, skipping: Settings, prepared: Prepared
) -> None:
    records = applications(prepared, FIRST + THEN)
    with installed(settings, "scoring") as (scoring,):
        send(settings, records[:FIRST])
        decided(settings, FIRST, scoring.process)
    send(settings, records[FIRST:])
    asyncio.run(remove(settings, FIRST + REMOVED))

    for _ in range(2):
        said = how_a_worker_ends(settings)
        where = f"offsets {FIRST} to {FIRST + REMOVED - 1} of {settings.kafka.applications}/1"
        assert where in said
        assert f"begins at {FIRST + REMOVED}" in said
        assert "CREDITSTREAM_KAFKA__RECORDS_GONE=skip" in said

    with installed(skipping, "scoring") as (scoring,):
        found = decided(settings, FIRST + THEN - REMOVED, scoring.process)
        counters = httpx.get(f"{scoring.url}/status").json()["counters"]
        assert scoring.process.starts == 1
    expected = [*range(FIRST), *range(FIRST + REMOVED, FIRST + THEN)]
    assert found == Counter(expected)
    assert counters["creditstream_records_gone_total"] == REMOVED


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_a_topic_made_anew_under_a_worker_is_read_from_its_beginning(
    settings: Settings, prepared: Prepared
) -> None:
    records = applications(prepared, FIRST + REMOVED)
    with installed(settings, "scoring") as (scoring,):
        send(settings, records[:FIRST])
        decided(settings, FIRST, scoring.process)
        asyncio.run(make_anew(settings))
        send(settings, records[FIRST:])
        # Kafka has deleted what the group had committed, together with the topic.
        found = decided(settings, FIRST + REMOVED, scoring.process)

    assert found == Counter(range(FIRST)) + Counter(range(REMOVED))
