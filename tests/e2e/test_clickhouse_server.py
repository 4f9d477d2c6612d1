"""ClickHouse as a server that dies in mid stream: decisions go on, nothing is lost or twice."""

import asyncio
import json
import time
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice

import httpx
import numpy as np
import psutil
import pytest
from pydantic import SecretStr

from models.prepared import Prepared
from sinks.ledger import encode
from sinks.store import ClickHouse
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.settings import Settings
from tests.clickhouse import ChdbServer
from tests.e2e.installation import (
    DISTINCT,
    PATIENCE_S,
    Running,
    applications,
    count,
    installed,
    send,
    wait_for,
)
from tests.unit.sinks.decisions import a_batch

EVENTS = 5_000
STALL_S = 4.0


@pytest.fixture
def served(settings: Settings, chdb_server: ChdbServer) -> Settings:
    """Settings whose store is the server, on a database of the test's own."""
    server = chdb_server.server
    store = {"url": server.url, "user": server.user, "database": f"test_{uuid.uuid4().hex}"}
    changed = settings.store.model_copy(update=store | {"password": SecretStr(server.password)})
    return settings.model_copy(update={"store": changed})


@pytest.fixture
def store(served: Settings, chdb_server: ChdbServer) -> Iterator[ClickHouse]:
    store = chdb_server.server.open(served.store.database)
    yield store
    store.close()


def counted(running: Running, name: str) -> float:
    """Add up a counter over its labels, as the process's status gives it; 0 while it starts."""
    try:
        counters = httpx.get(f"{running.url}/status").json()["counters"]
    except httpx.TransportError:
        return 0
    return float(sum(value for label, value in counters.items() if label.split()[0] == name))


def wait_until_counted(running: Running, name: str, expected: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (found := counted(running, name)) < expected:
        assert time.monotonic() < deadline, f"{name}: {found} of {expected}"
        running.process.look_after()
        time.sleep(0.1)


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_decisions_go_on_while_the_server_is_dead_and_all_are_there_once_in_the_end(
    served: Settings, store: ClickHouse, chdb_server: ChdbServer, prepared: Prepared
) -> None:
    records = applications(prepared, EVENTS)
    patient = served.model_copy(update={"stall_seconds": STALL_S})

    with installed(patient, "scoring", "sink") as (scoring, sink):
        processes = [scoring.process, sink.process]
        asyncio.run(send(served.kafka, records[: EVENTS // 2]))
        wait_for(store, DISTINCT, EVENTS // 10, processes)
        chdb_server.kill()
        asyncio.run(send(served.kafka, records[EVENTS // 2 :]))
        wait_until_counted(scoring, "creditstream_decisions_total", EVENTS)
        # Its pauses have grown past what the watchdog takes for a stall.
        wait_until_counted(sink, "creditstream_sink_retries_total", 6)
        reasons = httpx.get(f"{sink.url}/readyz").json()["reasons"]
        assert [reason["check"] for reason in reasons] == ["clickhouse decision_ledger"]
        assert count(store, DISTINCT) == -1
        chdb_server.start()
        wait_for(store, DISTINCT, EVENTS, processes)

        assert count(store, "SELECT count() AS n FROM decisions") == EVENTS
        assert count(store, "SELECT uniqExact(event_id) AS n FROM decisions") == EVENTS
        assert count(store, "SELECT count() AS n FROM parked") == 0
    assert [process.starts for process in processes] == [1, 1]


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_strangers_on_its_topics_and_a_row_that_is_refused_are_parked_and_all_else_is_in(
    served: Settings, store: ClickHouse, prepared: Prepared
) -> None:
    kafka = served.kafka
    records = applications(prepared, 1_000)
    unwanted = json.loads(records[500].value or b"")["application_id"]
    strangers = (kafka.ledger, kafka.parked, kafka.alarms)

    async def send_strangers() -> None:
        async with Publisher(connection_of(kafka), client_id="test") as publisher:
            for topic in strangers:
                junk = OutRecord(b"key", b"junk", [], 1_767_225_600_000)
                await publisher.publish(topic, 1, [junk])

    with installed(served, "scoring", "sink") as (scoring, sink):
        processes = [scoring.process, sink.process]
        wait_for(store, "SELECT count() + 1 AS n FROM decisions", 1, processes)
        bad = f"ADD CONSTRAINT unwanted CHECK application_id != {unwanted}"
        store.command(f"ALTER TABLE decision_ledger {bad}")
        asyncio.run(send_strangers())
        asyncio.run(send(kafka, records))
        wait_for(store, DISTINCT, 999, processes)
        wait_for(store, "SELECT count() AS n FROM parked", 4, processes)
        ready = httpx.get(f"{sink.url}/readyz")

    parked = store.query("SELECT stage, code, origin_topic AS topic FROM parked").to_pylist()
    assert sorted((row["code"], row["topic"]) for row in parked) == sorted(
        [("refused", kafka.applications), *(("damaged", topic) for topic in strangers)]
    )
    assert {row["stage"] for row in parked} == {"sink"}
    assert count(store, "SELECT uniqExact(event_id) AS n FROM decisions") == 999
    assert [process.starts for process in processes] == [1, 1]
    assert ready.status_code == 200


MESSAGES, ROWS, FEATURES = 750, 400, 250
WARM_UP = 20
WAITING_MIB, CATCHING_UP_MIB = 128, 192


def random_messages() -> Iterator[bytes]:
    """Ledger messages of 0.45 MB, which do not compress."""
    numbers = np.random.default_rng(7)
    for message in range(MESSAGES):
        batch = a_batch(ROWS, first_offset=message * ROWS, features=FEATURES)
        batch.features[:] = numbers.random(batch.features.shape)
        yield from encode(batch)


async def fill_ledger(settings: Settings, messages: Iterable[bytes]) -> int:
    """Send messages to the ledger; give how many bytes they have."""
    kafka, size = settings.kafka, 0
    async with Publisher(connection_of(kafka), client_id="test") as publisher:
        for number, message in enumerate(messages):
            record = OutRecord(None, message, [], 1_767_225_600_000)
            await publisher.publish(kafka.ledger, number % kafka.partitions, [record])
            size += len(message)
    return size


@pytest.mark.slow
@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_a_sink_that_waits_before_a_full_topic_stays_within_the_memory_that_is_stated(
    served: Settings, store: ClickHouse, chdb_server: ChdbServer
) -> None:
    with installed(served, "sink") as (sink,):
        messages = random_messages()
        asyncio.run(fill_ledger(served, islice(messages, WARM_UP)))
        wait_for(store, DISTINCT, WARM_UP * ROWS, [sink.process])
        seen = psutil.Process(sink.process.pid).memory_info
        chdb_server.kill()
        begin = seen().rss

        assert asyncio.run(fill_ledger(served, messages)) > 300_000_000
        wait_until_counted(sink, "creditstream_sink_retries_total", 6)
        waiting = (seen().rss - begin) / 2**20

        chdb_server.start()
        most = 0.0
        while count(store, "SELECT count() AS n FROM decisions") < MESSAGES * ROWS:
            most = max(most, (seen().rss - begin) / 2**20)
            sink.process.look_after()
            time.sleep(0.1)

    print(f"grown by {waiting:.0f} MiB while it waited, {most:.0f} MiB while it caught up")  # noqa: T201
    assert waiting < WAITING_MIB
    assert most < CATCHING_UP_MIB
