"""Two real worker processes on a real broker, one of them killed: nothing lost, nothing twice."""

import asyncio
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaProducer

from models.prepare import Prepared, prepare
from models.release import open_release
from models.score_file import score_file
from scoring.poll import Headers
from sinks.store import SqlDoor, StoreRefused, StoreUnavailable
from stream.app import Role
from stream.publisher import Publisher
from stream.send import send_file
from stream.settings import Settings, read_settings
from stream.simulate import Applicant, Simulator, send_all
from stream.supervisor import RoleProcess, stop_all
from stream.topics import create_topics
from tests.builders import a_release

EXAMPLE = Path(__file__).parents[2] / "examples" / "taiwan_default"
PATIENCE_S = 200.0


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(EXAMPLE, tmp_path_factory.mktemp("data"))


@pytest.fixture
def settings(real_broker: str, prepared: Prepared, tmp_path: Path) -> Settings:
    name = uuid.uuid4().hex[:8]
    topics = {
        f"kafka.{topic}": f"{topic}.{name}"
        for topic in ("applications", "decisions", "ledger", "parked", "alarms")
    }
    settings = read_settings(
        topics
        | {
            "kafka.bootstrap_servers": real_broker,
            "kafka.group_prefix": name,
            "kafka.session_timeout": "6",
            "kafka.max_poll_records": "500",
            "release": str(a_release(tmp_path / "releases")),
            "features": str(prepared.features),
            "reasons": "on_demand",
            "store.url": f"chdb://{tmp_path / 'chdb'}",
            "monitor.checkpoint": str(tmp_path / "monitor"),
        }
    )
    asyncio.run(create_topics(settings.kafka))
    return settings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(settings: Settings, *roles: Role) -> Iterator[tuple[list[RoleProcess], SqlDoor]]:
    """Run a process for each role; the door is the sink's."""
    processes, door = [], SqlDoor("")
    with ExitStack() as stack:
        for index, role in enumerate(roles):
            status = settings.status.model_copy(update={"port": free_port()})
            log = Path(str(settings.monitor.checkpoint) + f".{index}.{role}.log")
            process = RoleProcess(settings.model_copy(update={"status": status}), role, log)
            process.start()
            processes.append(process)
            if role == "sink":
                door = SqlDoor(f"http://127.0.0.1:{status.port}")
        stack.callback(stop_all, processes)
        yield processes, door


def count(door: SqlDoor, sql: str) -> int:
    """Ask for a number; -1 while nobody answers."""
    try:
        return int(door.query(sql)["n"][0].as_py())
    except (StoreUnavailable, StoreRefused):
        return -1


def wait_for(door: SqlDoor, sql: str, expected: int, processes: list[RoleProcess]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (found := count(door, sql)) < expected:
        assert time.monotonic() < deadline, f"{found} of {expected} after {PATIENCE_S} s"
        for process in processes:
            process.look_after()
        time.sleep(0.2)


SETTLED = (
    "SELECT (SELECT uniqExact(origin_offset) FROM decision_ledger)"
    " + (SELECT uniqExact(origin_offset) FROM parked_events) AS n"
)
DISTINCT = "SELECT uniqExact(event_id) AS n FROM decision_ledger"


@pytest.mark.real_broker
@pytest.mark.timeout(450)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_in_mid_stream_loses_nothing_and_decides_nothing_twice(
    settings: Settings, prepared: Prepared, number: signal.Signals
) -> None:
    events = int(os.environ.get("DELIVERY_TEST_EVENTS", "20000"))
    rows = pq.read_table(prepared.applications).to_pylist()
    applicants = [Applicant(row.pop("application_id"), row) for row in rows]
    made = Simulator(applicants, "t").events()
    records = [next(made)[0] for _ in range(events)]

    async def send(part: range) -> None:
        async with Publisher(settings.kafka.bootstrap_servers, client_id="test") as publisher:
            for start in part:
                await send_all(
                    publisher,
                    settings.kafka.applications,
                    settings.kafka.partitions,
                    records[start : start + 5_000],
                )

    with running(settings, "scoring", "scoring", "sink") as (processes, door):
        asyncio.run(send(range(0, events // 2, 5_000)))
        wait_for(door, DISTINCT, events // 10, processes)
        os.kill(processes[0].pid, number)
        asyncio.run(send(range(events // 2, events, 5_000)))
        wait_for(door, DISTINCT, events, processes)

        assert count(door, "SELECT count() AS n FROM decisions") == events
        assert count(door, "SELECT uniqExact(event_id) AS n FROM decisions") == events
        assert count(door, "SELECT count() AS n FROM parked") == 0


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

    async def send() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka.bootstrap_servers, max_request_size=2_000_000
        )
        async with producer:
            for key, value, headers in records:
                await producer.send_and_wait(
                    settings.kafka.applications, value, key, partition=0, headers=list(headers)
                )

    with running(settings, "scoring", "sink") as (processes, door):
        asyncio.run(send())
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
    assert [process.starts for process in processes] == [1, 1]


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_served_decisions_equal_offline_ones_for_all_clients(
    settings: Settings, prepared: Prepared, tmp_path: Path
) -> None:
    release = open_release(settings.release)
    clients = score_file(prepared.everyone, release, tmp_path / "offline.parquet", "application_id")

    with running(settings, "scoring", "sink") as (processes, door):
        asyncio.run(send_file(settings.kafka, prepared.everyone, "application_id", "all"))
        wait_for(door, DISTINCT, clients, processes)
        served = door.query(
            "SELECT application_id, default_probability, toInt32(score) AS score, "
            "toString(outcome) AS outcome, toString(risk_band) AS risk_band FROM decisions"
        )

    offline = pq.read_table(tmp_path / "offline.parquet").drop_columns("release")
    assert clients == 30_000
    ordered = [t.sort_by("application_id").to_pydict() for t in (served, offline)]
    assert ordered[0] == ordered[1]
