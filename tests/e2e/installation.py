"""An installation under test: its worker processes, its applications, and waiting for rows."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from models.prepared import Prepared
from sinks.door import SqlDoor
from sinks.store import StoreRefused, StoreUnavailable
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.kafka.roles import Role
from stream.process.supervisor import RoleProcess, console_script, stop_all
from stream.sending.simulator import Applicant, Simulator, send_all
from stream.settings import KafkaSettings, Settings, environment_of

PATIENCE_S = 200.0

SETTLED = (
    "SELECT (SELECT uniqExact(origin_offset) FROM decision_ledger)"
    " + (SELECT uniqExact(origin_offset) FROM parked_events) AS n"
)
DISTINCT = "SELECT uniqExact(event_id) AS n FROM decision_ledger"

_CHUNK = 5_000


class Asked(Protocol):
    """What answers queries: a store, or the door of the process that hosts one."""

    def query(self, sql: str) -> pa.Table: ...


@dataclass(frozen=True, slots=True)
class Running:
    """A process and where its status service is."""

    process: RoleProcess
    url: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def installed(settings: Settings, *roles: Role) -> Iterator[list[Running]]:
    """Run a process for each role, with a status service of its own."""
    processes: list[RoleProcess] = []
    urls: list[str] = []
    try:
        for index, role in enumerate(roles):
            status = settings.status.model_copy(update={"port": free_port()})
            log = Path(str(settings.monitor.checkpoint) + f".{index}.{role}.log")
            process = RoleProcess(settings.model_copy(update={"status": status}), role, log)
            process.start()
            processes.append(process)
            urls.append(f"http://127.0.0.1:{status.port}")
        yield [Running(process, url) for process, url in zip(processes, urls, strict=True)]
    finally:
        stop_all(processes)


@contextmanager
def running(settings: Settings, *roles: Role) -> Iterator[tuple[list[RoleProcess], SqlDoor]]:
    """Run a process for each role on an embedded store; the door is the sink's."""
    with installed(settings, *roles) as found:
        doors = [one.url for one, role in zip(found, roles, strict=True) if role == "sink"]
        yield [one.process for one in found], SqlDoor(*doors)


def applications(prepared: Prepared, events: int) -> list[OutRecord]:
    """Make good application events of real applicants, each with an id of its own."""
    rows = pq.read_table(prepared.applications).to_pylist()
    applicants = [Applicant(row.pop("application_id"), row) for row in rows]
    return [record for record, _ in islice(Simulator(applicants, "t").events(), events)]


async def send(kafka: KafkaSettings, records: Sequence[OutRecord]) -> None:
    """Send events; return once the broker has acknowledged them."""
    async with Publisher(connection_of(kafka), client_id="test") as publisher:
        for start in range(0, len(records), _CHUNK):
            chunk = records[start : start + _CHUNK]
            await send_all(publisher, kafka.applications, kafka.partitions, chunk)


def count(store: Asked, sql: str) -> int:
    """Ask for a number; -1 while nobody answers."""
    try:
        return int(store.query(sql)["n"][0].as_py())
    except (StoreUnavailable, StoreRefused):
        return -1


def wait_for(store: Asked, sql: str, expected: int, processes: list[RoleProcess]) -> None:
    """Look after the processes until the number is reached; fail when patience ends."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := count(store, sql)) < expected:
        assert time.monotonic() < deadline, f"{found} of {expected} after {PATIENCE_S} s"
        for process in processes:
            process.look_after()
        time.sleep(0.2)


def ended(settings: Settings, role: Role) -> subprocess.CompletedProcess[str]:
    """Run a role's process that ends by itself."""
    return subprocess.run(
        [console_script(), "worker", "--agents", role],
        env=os.environ | environment_of(settings),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
