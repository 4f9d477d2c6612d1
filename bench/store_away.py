"""
ClickHouse away under load: latency of decisions, memory of worker and sink, and the catching up.

    python bench/store_away.py [--rate 2000] [--away 600] [--steady 60] [--partitions 4]

Apache Kafka, one scoring worker, one sink, and the engine behind HTTP (tests/chdb_server.py), which
is killed and, that many seconds later, started again. Events are sent at a steady rate whatever
comes back; latency runs from when an event was to be sent until a reader of committed records has
its decision. Last, the store must hold each decision once. Prints one JSON document.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer
from prometheus_client.parser import text_string_to_metric_families

from models.prepare import prepare
from models.prepared import Prepared
from models.train import train_prepared
from stream.bench.machine import Machine, print_json, this_machine
from stream.brokers import ApacheKafka
from stream.demo.installation import await_ready
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.kafka.roles import Role
from stream.kafka.topics import create_topics
from stream.process.supervisor import RoleProcess, stop_all
from stream.sending.files import applicants_of
from stream.sending.simulator import Simulator, send_all
from stream.settings import Settings, read_settings
from tests.clickhouse import ChdbServer
from tests.e2e.installation import free_port

EXAMPLE = Path(__file__).parents[1] / "examples" / "taiwan_default"
ROLES: tuple[Role, ...] = ("scoring", "sink")
ROWS = "creditstream_sink_rows_total"
RESIDENT = "process_resident_memory_bytes"
TICK_S, LOOK_S, WINDOW_S = 0.02, 0.5, 30.0
WARM_UP_S, PATIENCE_S = 30.0, 600.0
MIB = 2**20


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds over a phase; `p99_of_windows` are the p99 of each half minute, sorted."""

    events: int
    p50_ms: float
    p99_ms: float
    p99_of_windows: list[float]


class Phase(msgspec.Struct, frozen=True):
    """A stretch of time: latency of what was sent in it, resident memory in MiB, at most."""

    seconds: float
    latency: Latency
    resident_mib: dict[Role, float]


class StoreAway(msgspec.Struct, frozen=True):
    """What was measured. `times_the_rate` is the rate of catching up over that of arrival."""

    machine: Machine
    load_average: list[float]
    rate: float
    phases: dict[str, Phase]
    behind_rows: int
    first_rows_after_seconds: float
    caught_up_seconds: float
    caught_up_rows_per_second: float
    times_the_rate: float
    sent: int
    stored: int
    stored_once: int


class _Decided(msgspec.Struct):
    event_id: str


class Run:
    """One installation under load, and what is seen of it."""

    def __init__(self, settings: dict[Role, Settings], prepared: Prepared, rate: float) -> None:
        self.settings = settings
        self.kafka = settings["scoring"].kafka
        self.rate = rate
        self.sent = 0
        self.rows = 0
        self.stop = asyncio.Event()
        self._looked = asyncio.Condition()
        self._due: dict[str, float] = {}
        self._latency: list[tuple[float, float]] = []
        self._resident: dict[Role, list[tuple[float, float]]] = defaultdict(list)
        simulator = Simulator(list(applicants_of(prepared)), "away", bad_share=0)
        self._records: Iterator[OutRecord] = (record for record, _ in simulator.events())

    async def send(self, publisher: Publisher) -> None:
        """
        Send at the rate until told to stop.

        Where the broker is slow the next chunk is the larger, and an event's latency still runs
        from when it was due.
        """
        started = time.monotonic()
        topic, partitions = self.kafka.applications, self.kafka.partitions
        while not self.stop.is_set():
            number = int((time.monotonic() - started) * self.rate) - self.sent
            chunk = [next(self._records) for _ in range(number)]
            for record in chunk:
                self._due[_event_id(record)] = started + self.sent / self.rate
                self.sent += 1
            await send_all(publisher, topic, partitions, chunk)
            await asyncio.sleep(TICK_S)

    async def read(self) -> None:
        """Take the times of decisions."""
        async with AIOKafkaConsumer(
            self.kafka.decisions,
            bootstrap_servers=self.kafka.bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
        ) as reader:
            while not self.stop.is_set() or self._due:
                for found in (await reader.getmany(timeout_ms=200)).values():
                    now = time.monotonic()
                    for record in found:
                        decided = msgspec.json.decode(record.value, type=_Decided)
                        due = self._due.pop(decided.event_id)
                        self._latency.append((due, (now - due) * 1e3))

    async def look(self) -> None:
        """Take each process's memory, and the rows that the sink has inserted."""
        async with httpx.AsyncClient(timeout=10.0) as client:
            while True:
                for role in ROLES:
                    port = self.settings[role].status.port
                    text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
                    for family in text_string_to_metric_families(text):
                        for sample in family.samples:
                            if sample.name == RESIDENT:
                                seen = (time.monotonic(), sample.value / MIB)
                                self._resident[role].append(seen)
                            elif (sample.name, sample.labels.get("table")) == (
                                ROWS,
                                "decision_ledger",
                            ):
                                self.rows = int(sample.value)
                async with self._looked:
                    self._looked.notify_all()
                await asyncio.sleep(LOOK_S)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait for what `look` sees."""
        async with self._looked:
            await self._looked.wait_for(reached)

    def phase(self, begin: float, end: float) -> Phase:
        """Give what was seen in between."""
        taken = np.array([one for one in self._latency if begin <= one[0] < end])
        windows = ((taken[:, 0] - begin) // WINDOW_S).astype(int)
        p99s = sorted(
            float(np.percentile(taken[windows == window, 1], 99)) for window in np.unique(windows)
        )
        p50, p99 = np.percentile(taken[:, 1], (50, 99)).tolist()
        resident = {
            role: round(max(mib for at, mib in seen if begin <= at < end), 1)
            for role, seen in self._resident.items()
        }
        latency = Latency(len(taken), round(p50, 1), round(p99, 1), [round(p, 1) for p in p99s])
        return Phase(round(end - begin, 1), latency, resident)


def _event_id(record: OutRecord) -> str:
    return (dict(record.headers)["ce_id"] or b"").decode()


async def measure(run: Run, server: ChdbServer, steady_s: float, away_s: float) -> StoreAway:
    """Run through all phases."""
    load_average = [round(one, 2) for one in os.getloadavg()]
    marks: list[float] = []

    async def phases() -> tuple[int, float, float, int]:
        await asyncio.sleep(WARM_UP_S)
        marks.append(time.monotonic())
        await asyncio.sleep(steady_s)
        marks.append(time.monotonic())
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(away_s)
        await asyncio.to_thread(server.start)
        marks.append(time.monotonic())
        taken_before = run.rows
        behind = run.sent - taken_before
        await run.until(lambda: run.rows > taken_before)
        began, rows = time.monotonic(), run.rows
        first = began - marks[-1]
        # A second's rows are always under way.
        await run.until(lambda: run.sent - run.rows <= run.rate)
        seconds = time.monotonic() - began
        marks.append(time.monotonic())
        caught_up = run.rows - rows
        await asyncio.sleep(steady_s)
        marks.append(time.monotonic())
        run.stop.set()
        return behind, first, seconds, caught_up

    connection = connection_of(run.kafka)
    async with Publisher(connection, client_id="bench", deadline=PATIENCE_S) as publisher:
        async with asyncio.timeout(WARM_UP_S + 2 * steady_s + away_s + PATIENCE_S):
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(run.look())
                group.create_task(run.send(publisher))
                reading = group.create_task(run.read())
                behind, first, seconds, caught_up = await group.create_task(phases())
                await reading
                await run.until(lambda: run.rows == run.sent)
                looking.cancel()
    store = server.server.open(run.settings["sink"].store.database, read_only=True)
    counted = "SELECT count() AS n, uniqExact(event_id) AS ids FROM decisions"
    (found,) = store.query(counted).to_pylist()
    store.close()
    names = ("before", "away", "catching_up", "after")
    return StoreAway(
        machine=this_machine(len(os.sched_getaffinity(0))),
        load_average=load_average,
        rate=run.rate,
        phases={name: run.phase(*marks[i : i + 2]) for i, name in enumerate(names)},
        behind_rows=behind,
        first_rows_after_seconds=round(first, 2),
        caught_up_seconds=round(seconds, 2),
        caught_up_rows_per_second=round(caught_up / seconds, 1),
        times_the_rate=round(caught_up / seconds / run.rate, 2),
        sent=run.sent,
        stored=found["n"],
        stored_once=found["ids"],
    )


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=2_000.0)
    parser.add_argument("--away", type=float, default=600.0)
    parser.add_argument("--steady", type=float, default=60.0)
    parser.add_argument("--partitions", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as path, ApacheKafka() as kafka:
        folder = Path(path)
        prepared = prepare(EXAMPLE, folder / "data")
        train_prepared(prepared, folder / "releases")
        with ChdbServer(folder) as server:
            common = {
                "kafka.bootstrap_servers": kafka.bootstrap_servers,
                "kafka.partitions": str(options.partitions),
                "release": str(folder / "releases"),
                "features": str(prepared.features),
                "store.url": server.server.url,
                "store.user": server.server.user,
                "store.password": server.server.password,
            }
            settings = {
                role: read_settings({**common, "status.port": str(free_port())}) for role in ROLES
            }
            asyncio.run(create_topics(settings["scoring"].kafka))
            processes = [RoleProcess(settings[r], r, folder / f"{r}.log") for r in ROLES]
            try:
                for process in processes:
                    process.start()
                urls = {r: f"http://127.0.0.1:{settings[r].status.port}" for r in ROLES}
                await_ready(urls, folder)
                run = Run(settings, prepared, options.rate)
                print_json(asyncio.run(measure(run, server, options.steady, options.away)))
            finally:
                stop_all(processes)


if __name__ == "__main__":
    main()
