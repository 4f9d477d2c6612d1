"""The corpus of hostile records through a real broker: each accounted for once, no worker ended."""

import asyncio

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from models.prepared import Prepared
from sinks.parked import parse
from stream.kafka.connection import connection_of
from stream.kafka.records import records_of
from stream.settings import KafkaSettings, Settings
from tests.batches import RawBatch
from tests.corpus import Case, Parked, cases
from tests.e2e.installation import SETTLED, applications, count, running, wait_for

SOUND = 20
PARTITION = 0


async def accept_any_time(kafka: KafkaSettings) -> None:
    """Let the topic take the times that a broker may be set to take."""
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await client.start()
    try:
        longest = {"message.timestamp.after.max.ms": str(2**63 - 1)}
        topic = ConfigResource(ConfigResourceType.TOPIC, kafka.applications, longest)
        await client.alter_configs([topic])
    finally:
        await client.close()


async def send(kafka: KafkaSettings, batches: list[RawBatch]) -> list[int]:
    """Send batches of one record to one partition; give each one's offset."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all") as producer:
        sent = []
        for batch in batches:
            future = await producer.send_batch(batch, kafka.applications, partition=PARTITION)
            sent.append((await future).offset)
        return sent


def of_case(case: Case) -> RawBatch:
    batch = RawBatch()
    key = None if case.key is None else case.key.content
    batch.add(key, case.value, case.raw_headers, case.produced_at_ms)
    return batch


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_each_hostile_record_ends_as_the_index_says_and_nothing_else_is_lost(
    settings: Settings, prepared: Prepared
) -> None:
    kafka = settings.kafka
    sound = []
    for record in applications(prepared, SOUND):
        batch = RawBatch()
        headers = [(name.encode(), value) for name, value in record.headers]
        batch.add(record.key, record.value, headers, record.timestamp_ms)
        sound.append(batch)
    asyncio.run(accept_any_time(kafka))
    half, total = SOUND // 2, SOUND + len(cases())

    with running(settings, "scoring", "sink") as (processes, door):
        offsets = asyncio.run(send(kafka, [*sound[:half], *map(of_case, cases()), *sound[half:]]))
        wait_for(door, SETTLED, total, processes)
        decided = count(door, "SELECT count() AS n FROM decisions")
        parked = count(door, "SELECT count() AS n FROM parked")
    assert [process.starts for process in processes] == [1, 1]
    assert decided + parked == total

    ends: dict[int, str | Parked] = {}
    for record in asyncio.run(records_of(connection_of(kafka), kafka.decisions)):
        offset = msgspec.json.decode(record.value)["origin"]["offset"]
        assert offset not in ends
        ends[offset] = "decided"
    for record in asyncio.run(records_of(connection_of(kafka), kafka.parked)):
        event = parse(record.key, record.value, record.headers)
        assert event.offset not in ends
        ends[event.offset] = Parked(event.code, event.path)
    of_cases = dict(zip(offsets[half:-half], cases(), strict=True))
    wrong = {
        case.name: ends.get(offset)
        for offset, case in of_cases.items()
        if ends.get(offset) != case.expect
    }
    assert not wrong
    assert sorted(ends) == sorted(offsets)
