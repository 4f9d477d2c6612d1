"""A worker process at the limit of what may be parked: it ends at each start, until it is told."""

import asyncio
import time

import msgspec
import pytest

from models.prepared import Prepared
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.kafka.records import records_of
from stream.settings import KafkaSettings, ParkingSettings, Settings
from tests.committed import committed
from tests.e2e.installation import PATIENCE_S, applications, ended, installed

BAD = 300


def without_an_age(record: OutRecord) -> OutRecord:
    event = msgspec.json.decode(record.value or b"")
    event["attributes"]["AGE"] = -3
    return record._replace(value=msgspec.json.encode(event))


def send(kafka: KafkaSettings, records: list[OutRecord]) -> None:
    async def publish() -> None:
        async with Publisher(connection_of(kafka), client_id="test") as publisher:
            await publisher.publish(kafka.applications, 0, records)

    asyncio.run(publish())


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_a_worker_at_the_limit_parks_nothing_however_often_it_starts_until_the_limit_is_raised(
    settings: Settings, prepared: Prepared
) -> None:
    kafka = settings.kafka
    records = applications(prepared, BAD + 2)
    send(kafka, [records[0], *map(without_an_age, records[1 : BAD + 1]), records[-1]])

    def read(topic: str) -> int:
        return len(asyncio.run(records_of(connection_of(kafka), topic)))

    strict = settings.model_copy(update={"parking": ParkingSettings(longest_run=20)})
    for _ in range(3):
        worker = ended(strict, "scoring")
        assert worker.returncode == 1
        (cause,) = [line for line in worker.stderr.splitlines() if "parking.limit_crossed" in line]
        assert f"would park {BAD} events one after the other" in cause
        assert f"{BAD} x invalid $.attributes.AGE" in cause
        assert (read(kafka.decisions), read(kafka.parked)) == (0, 0)

    raised = settings.model_copy(update={"parking": ParkingSettings(longest_run=BAD)})
    with installed(raised, "scoring") as (scoring,):
        deadline = time.monotonic() + PATIENCE_S
        while read(kafka.parked) < BAD:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        scoring.process.look_after()
        assert scoring.process.starts == 1
    assert len(asyncio.run(committed(kafka, kafka.decisions, 2))) == 2
