"""Two real worker processes on a real broker, one of them killed: nothing lost, nothing twice."""

import asyncio
import hashlib
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaProducer

from models.prepared import Prepared
from models.release import open_release
from models.score_file import score_file
from scoring.poll import Headers
from sinks.door import SqlDoor
from stream.asking.questions import status_of
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.reconcile.run import reconcile
from stream.reconcile.snapshot import Period
from stream.sending.files import FileRun, send_file
from stream.settings import KafkaSettings, Settings
from tests.committed import committed
from tests.e2e.installation import (
    DISTINCT,
    PATIENCE_S,
    SETTLED,
    applications,
    count,
    installed,
    running,
    send,
    wait_for,
)


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_a_worker_killed_in_mid_stream_loses_nothing_and_reconciling_says_so_all_the_while(
    settings: Settings, prepared: Prepared
) -> None:
    events = int(os.environ.get("DELIVERY_TEST_EVENTS", "20000"))
    records = applications(prepared, events)

    with running(settings, "scoring", "scoring", "sink") as (processes, door):
        asyncio.run(send(settings.kafka, records[: events // 2]))
        wait_for(door, DISTINCT, events // 10, processes)
        os.kill(processes[0].pid, signal.SIGKILL)
        asyncio.run(send(settings.kafka, records[events // 2 :]))
        # Whatever is under way, and while nobody decides, is pending and no fault.
        for _ in range(4):
            under_way = asyncio.run(reconcile(settings, Period(None, None), door))
            assert under_way.good, (under_way.differences, under_way.named[:5])
            for process in processes:
                process.look_after()
        wait_for(door, DISTINCT, events, processes)

        assert count(door, "SELECT count() AS n FROM decisions") == events
        assert count(door, "SELECT uniqExact(event_id) AS n FROM decisions") == events
        assert count(door, "SELECT count() AS n FROM parked") == 0
        report = asyncio.run(reconcile(settings, Period(None, None), door))
    assert_each_decided_once(settings.kafka, events)
    assert (report.good, report.total.consumed, report.total.decided) == (True, events, events)


def assert_each_decided_once(kafka: KafkaSettings, events: int) -> None:
    """See that the decisions' topic has one decision for each of so many events, and no other."""
    values = asyncio.run(committed(kafka, kafka.decisions, events))
    decided = [msgspec.json.decode(value)["event_id"] for value in values]
    assert (len(decided), len(set(decided))) == (events, events)


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_events_sent_again_are_not_decided_again_by_a_worker_that_never_saw_them(
    settings: Settings, prepared: Prepared
) -> None:
    records = applications(prepared, 2_000)
    last = records[-1]
    assert last.value is not None
    other = last._replace(value=last.value + b" ")

    with running(settings, "scoring", "sink") as (processes, door):
        asyncio.run(send(settings.kafka, records))
        wait_for(door, DISTINCT, 2_000, processes)
        os.kill(processes[0].pid, signal.SIGKILL)
        asyncio.run(send(settings.kafka, [*records, other, *applications(prepared, 2_100)[2_000:]]))
        wait_for(door, DISTINCT, 2_100, processes)
        wait_for(door, "SELECT count() AS n FROM parked", 1, processes)

        (parked,) = door.query("SELECT code, path FROM parked").to_pylist()
    assert parked == {"code": "conflicting_duplicate", "path": "$.event_id"}
    assert_each_decided_once(settings.kafka, 2_100)


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_markers_of_transactions_at_the_end_of_topics_are_no_lag(
    settings: Settings, prepared: Prepared
) -> None:
    settings = settings.model_copy(update={"stall_seconds": 8.0})

    with installed(settings, "scoring", "sink", "monitor") as found:
        door = SqlDoor(found[1].url)
        asyncio.run(send(settings.kafka, applications(prepared, 100)))
        wait_for(door, DISTINCT, 100, [one.process for one in found])
        time.sleep(12.0)  # longer than a worker with lag may stand still
        lags = [status.get("lag") for one in found if (status := status_of(one.url)) is not None]
        for one in found:
            one.process.look_after()

    assert [set(lag.values()) for lag in lags if lag] == [{0}, {0}, {0}]
    assert [one.process.starts for one in found] == [1, 1, 1]


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_a_sink_reconciles_on_its_schedule_and_shows_what_differs(
    settings: Settings, prepared: Prepared
) -> None:
    settings = settings.model_copy(update={"reconcile_minutes": 0.1})
    done = "creditstream_reconcile_runs_total done"

    with installed(settings, "scoring", "sink") as found:
        sink, door = found[1], SqlDoor(found[1].url)
        processes = [one.process for one in found]
        asyncio.run(send(settings.kafka, applications(prepared, 200)))
        wait_for(door, DISTINCT, 200, processes)
        stray = OutRecord(b"k", b"no decision", [], int(time.time() * 1_000))
        asyncio.run(publish(settings.kafka, stray))
        runs, deadline = 0.0, time.monotonic() + PATIENCE_S
        # One may have begun before the stray record was there.
        while runs < 2:
            assert time.monotonic() < deadline
            time.sleep(0.5)
            runs = (status_of(sink.url) or {"counters": {}})["counters"].get(done, 0.0)
        metrics = httpx.get(f"{sink.url}/metrics", timeout=5.0).text

    assert 'creditstream_reconcile_differences{kind="unknown"} 1.0' in metrics
    assert 'creditstream_reconcile_differences{kind="missing"} 0.0' in metrics
    assert 'creditstream_reconcile_runs_total{result="failed"} 0.0' in metrics


async def publish(kafka: KafkaSettings, record: OutRecord) -> None:
    """Write to the decisions' topic as somebody else might."""
    async with Publisher(connection_of(kafka), client_id="stranger") as publisher:
        await publisher.publish(kafka.decisions, 0, [record])


def hostile() -> list[tuple[bytes | None, bytes | None, Headers]]:
    """Records that may crash a worker: key, value and headers, near the broker's limit of size."""
    event = {"submitted_at": datetime.now(UTC).isoformat(), "application_id": 7}
    good = msgspec.json.encode(event | {"event_id": "good-but-for-its-headers"})
    return [
        (b"k", None, []),
        (b"k", b"", []),
        (b"k", b"\xff" * 100, []),
        (b"k", b"[" * 60_000, []),
        (b"k", b"x" * 1_000_000, []),
        (b"k" * 900_000, b"x" * 90_000, []),
        (b"k", b"not json", [("h", b"x" * 950_000)]),
        (b"k", good, [("ce_source", b"x" * 900_000)]),
        (b"k", good, [("ce_source", b"\xff")]),
        (b"k", good, [("ce_source", None), ("creditstream-stage", b"x"), ("traceparent", b"")]),
        (b"k", good.replace(b"good", b"trace"), [("traceparent", b"x" * 900_000)]),
        (None, b'{"' + b"k" * 25_000 + b'":1,"' + b"k" * 25_000 + b'":2}', []),
        (None, good[:-1] + b',"\\ud800":1,"\\ud800":2}', []),
    ]


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_hostile_records_are_decided_or_parked_and_the_partition_moves_on(
    settings: Settings,
) -> None:
    records = hostile()

    async def send_hostile() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka.bootstrap_servers, max_request_size=2_000_000
        )
        async with producer:
            for key, value, headers in records:
                await producer.send_and_wait(
                    settings.kafka.applications, value, key, partition=0, headers=list(headers)
                )

    with running(settings, "scoring", "sink") as (processes, door):
        asyncio.run(send_hostile())
        wait_for(door, SETTLED, len(records), processes)

        parked = door.query(
            "SELECT code, path FROM parked ORDER BY origin_partition, origin_offset"
        ).to_pylist()
        assert count(door, "SELECT count() AS n FROM decisions") == 2
        assert [row["code"] for row in parked] == [
            "tombstone",
            "malformed",
            "malformed",
            "too_deep",
            "too_large",
            "too_large",
            "malformed",
            "invalid",
            "invalid",
            "invalid",
            "malformed",
        ]
        for row in door.query(
            "SELECT origin_offset AS at, lower(hex(SHA256(ifNull(value, '')))) AS digest "
            "FROM parked_events FINAL"
        ).to_pylist():
            assert row["digest"] == hashlib.sha256(records[row["at"]][1] or b"").hexdigest()
    assert [process.starts for process in processes] == [1, 1]


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_served_decisions_equal_offline_ones_for_all_clients(
    settings: Settings, prepared: Prepared, tmp_path: Path
) -> None:
    release = open_release(settings.release)
    clients = score_file(prepared.everyone, release, tmp_path / "offline.parquet", "application_id")

    with running(settings, "scoring", "sink") as (processes, door):
        run = FileRun.of(prepared.everyone, "application_id", settings.events, "all")
        asyncio.run(send_file(settings.kafka, prepared.everyone, "application_id", run))
        wait_for(door, DISTINCT, clients, processes)
        served = door.query(
            "SELECT application_id, default_probability, toInt32(score) AS score, "
            "toString(outcome) AS outcome, toString(risk_band) AS risk_band FROM decisions"
        )

    # Their ages differ: the table is of 2005, a row computed from an event of its submission.
    offline = pq.read_table(tmp_path / "offline.parquet").select(served.column_names)
    assert clients == 30_000
    ordered = [t.sort_by("application_id").to_pydict() for t in (served, offline)]
    assert ordered[0] == ordered[1]
