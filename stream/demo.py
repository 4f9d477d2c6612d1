"""The demo: everything embedded, real applicants, two breakages, and a reconciled end."""

import asyncio
import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from features.taiwan_default import DEFINITION
from models.evaluate import evaluate
from models.prepare import KEY, LABEL, Prepared, prepare
from models.train import read_labelled, train
from sinks.store import SqlDoor, StoreRefused, StoreUnavailable
from stream.app import ROLES
from stream.brokers import MockBroker
from stream.publisher import Publisher
from stream.reading import status_of
from stream.send import applicants_of
from stream.settings import Settings, read_settings
from stream.simulate import Sent, Simulator, send_at_rate
from stream.supervisor import RoleProcess, stop_all

BAD_SHARE = 0.01
DOLLARS = 32.0  # New Taiwan dollars in a US dollar, September 2005
_READY_SECONDS = 60.0
_DRAIN_SECONDS = 60.0
_DRIFTED_SHARE = 2  # one applicant of so many sends the limit in the other unit


@dataclass(slots=True)
class Story:
    """What happened so far, for the live view."""

    sent: Sent = field(default_factory=Sent)
    lines: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def tell(self, line: str) -> None:
        """Add a line with its time."""
        self.lines.append(f"{time.monotonic() - self.started:5.1f} s  {line}")


@dataclass(frozen=True, slots=True)
class Installation:
    """What runs: the example's files, the processes with their settings, and where they answer."""

    folder: Path
    prepared: Prepared
    settings: dict[str, Settings]
    processes: dict[str, RoleProcess]
    urls: dict[str, str]


@contextmanager
def installed(console: Console, example: Path, folder: Path) -> Iterator[Installation]:
    """Prepare, train and start everything embedded in `folder`; stop it all at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder = folder.resolve()
    console.print(f"[bold]creditstream[/]: everything in {folder}, nothing leaves this machine")
    with ExitStack() as stack:
        with _steps(console) as step:
            step("splitting 30,000 real clients into table, training and applications")
            prepared = prepare(example, folder / "data")
            step("training a release")
            training, calibration = (
                read_labelled(path, DEFINITION.schema, LABEL)
                for path in (prepared.training, prepared.calibration)
            )
            releases = folder / "releases"
            train(training, calibration, DEFINITION.schema, DEFINITION.name, releases)
            step("starting broker, scoring worker, ClickHouse sink and monitor")
            broker = stack.enter_context(MockBroker())
            settings = _settings(folder, prepared, broker.bootstrap_servers)
            processes = _start(settings, folder)
            stack.callback(stop_all, list(processes.values()))
            step("waiting until all are ready")
            urls = {role: f"http://127.0.0.1:{s.status.port}" for role, s in settings.items()}
            _await_ready(urls, folder)
        console.print(f"  broker      librdkafka's mock, {broker.bootstrap_servers} (not durable)")
        console.print(f"  clickhouse  chDB in the sink's process, {folder / 'chdb'}")
        console.print(f"  status      {urls['scoring']}/status  /metrics  /docs")
        console.print(f"  sql         creditstream sql --set store.door={urls['sink']} …")
        yield Installation(folder, prepared, settings, processes, urls)


def run_up(example: Path, folder: Path) -> int:
    """Run everything embedded until Ctrl-C or SIGTERM; give 0."""
    console = Console()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with installed(console, example, folder) as running:
        servers = running.settings["scoring"].kafka.bootstrap_servers
        data = running.prepared.folder
        console.print("  send some   creditstream simulate --rate 50 \\")
        console.print(f"                --data {data} --set kafka.bootstrap_servers={servers}")
        while not stopping.wait(0.2):
            for process in running.processes.values():
                process.look_after()
    return 0


def run_demo(
    example: Path, folder: Path, seconds: float, rate: float, *, drift: bool, kill: bool
) -> int:
    """Run the demo; give 0 only if nothing was lost and nothing decided twice."""
    console = Console()
    with installed(console, example, folder) as running:
        story = Story()
        asyncio.run(_stream(console, story, running, seconds, rate, drift=drift, kill=kill))
        door = SqlDoor(running.urls["sink"])
        _drain(door, story.sent)
        good = _summary(console, door, running.prepared, story.sent)
        folder = running.folder
    store = f"store.url=chdb://{folder / 'chdb'}"
    console.print(
        "\nTry next\n"
        f'  creditstream sql --set {store} "SELECT * FROM risk_bands"\n'
        f"  creditstream score {running.prepared.applications} \\\n"
        f"    --release {folder / 'releases'} -o scored.parquet\n"
        "  creditstream doctor        before you connect your own Kafka and ClickHouse",
        soft_wrap=True,
        highlight=False,
    )
    return 0 if good else 1


def _settings(folder: Path, prepared: Prepared, servers: str) -> dict[str, Settings]:
    ports = _free_ports(len(ROLES))
    common = {
        "release": str(folder / "releases"),
        "features": str(prepared.features),
        "kafka.bootstrap_servers": servers,
        "kafka.session_timeout": "6",
        # The mock broker gives one produced batch a fetch, and wakes no fetch that waits.
        "kafka.fetch_max_wait_ms": "10",
        "store.url": f"chdb://{folder / 'chdb'}",
        "monitor.checkpoint": str(folder / "monitor.checkpoint"),
        "monitor.reports": str(folder / "reports"),
    }
    return {
        role: read_settings(common | {"status.port": str(port)})
        for role, port in zip(ROLES, ports, strict=True)
    }


def _start(settings: dict[str, Settings], folder: Path) -> dict[str, RoleProcess]:
    processes: dict[str, RoleProcess] = {
        role: RoleProcess(settings[role], role, folder / f"{role}.log") for role in ROLES
    }
    for process in processes.values():
        process.start()
    return processes


def _await_ready(urls: dict[str, str], folder: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    waiting = dict(urls)
    while waiting:
        for role, url in list(waiting.items()):
            status = status_of(url)
            if status is not None and not status["not_ready"]:
                del waiting[role]
        if waiting and time.monotonic() > deadline:
            msg = (
                f"not ready after {_READY_SECONDS:.0f} s: {', '.join(waiting)}; see {folder}/*.log"
            )
            raise StoreUnavailable(msg)
        time.sleep(0.2)


async def _stream(
    console: Console,
    story: Story,
    running: Installation,
    seconds: float,
    rate: float,
    *,
    drift: bool,
    kill: bool,
) -> None:
    processes, urls = running.processes, running.urls
    kafka = running.settings["scoring"].kafka
    applicants = applicants_of(running.prepared)
    random.Random(0).shuffle(applicants)  # noqa: S311 - the data are ordered, a stream is not
    simulator = Simulator(applicants, "demo", BAD_SHARE)
    over = asyncio.Event()

    async def direct() -> None:
        await asyncio.sleep(seconds * 0.4)
        if drift:
            story.tell("one attribute changes: every second LIMIT_BAL now comes in US dollars")
            simulator.change = _in_us_dollars()
        await asyncio.sleep(seconds * 0.2)
        if kill:
            pid = processes["scoring"].pid
            story.tell(f"kill -9 of the scoring worker (process {pid})")
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(seconds * 0.4)
        over.set()

    async def watch() -> None:
        with Live(console=console, refresh_per_second=4, transient=False) as live:
            while not over.is_set():
                for process in processes.values():
                    process.look_after()
                statuses = await asyncio.gather(
                    *(asyncio.to_thread(status_of, url) for url in urls.values())
                )
                live.update(_view(story, dict(zip(urls, statuses, strict=True))))
                await asyncio.sleep(0.5)

    async with (
        Publisher(kafka.bootstrap_servers, client_id="creditstream-demo") as publisher,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(direct())
        group.create_task(watch())
        group.create_task(
            send_at_rate(
                publisher,
                kafka.applications,
                kafka.partitions,
                simulator.events(),
                story.sent,
                rate=rate,
                stop=over.is_set,
            )
        )


def _in_us_dollars() -> Any:
    turn = iter(range(10**12))

    def change(attributes: dict[str, int | float]) -> dict[str, int | float]:
        if next(turn) % _DRIFTED_SHARE:
            return attributes
        return attributes | {"LIMIT_BAL": round(attributes["LIMIT_BAL"] / DOLLARS, 2)}

    return change


def _view(story: Story, statuses: dict[str, Any]) -> Table:
    scoring, sink, monitor = (statuses[role] or {} for role in ROLES)
    counters = scoring.get("counters", {})
    outcomes = {
        name.rsplit(" ", 1)[1]: int(value)
        for name, value in counters.items()
        if "_decisions_total " in name
    }
    parked = sum(v for name, v in counters.items() if "_events_parked_total " in name)
    rows = sum(
        v
        for name, v in sink.get("counters", {}).items()
        if "decision_ledger" in name and "rows" in name
    )
    alarms = sum(
        v for name, v in monitor.get("counters", {}).items() if "drift_alarms_total " in name
    )
    table = Table(show_header=False, box=None)
    elapsed = time.monotonic() - story.started
    table.add_row(
        "sent", f"{story.sent.events:,}   {story.sent.events / max(elapsed, 1):,.0f} a second"
    )
    table.add_row("worker", "  ".join(f"{k} {v:,}" for k, v in outcomes.items()) or "starting")
    table.add_row("", f"parked {int(parked)}   lag {sum(scoring.get('lag', {}).values())}")
    table.add_row("clickhouse", f"{int(rows):,} rows")
    table.add_row("monitor", f"{int(alarms)} alarms")
    for line in story.lines:
        table.add_row("", line)
    return table


_SETTLED = """
SELECT (SELECT uniqExact(origin_partition, origin_offset) FROM decision_ledger)
    + (SELECT uniqExact(origin_partition, origin_offset) FROM parked_events) AS settled
"""


def _drain(door: SqlDoor, sent: Sent) -> None:
    deadline = time.monotonic() + _DRAIN_SECONDS
    while time.monotonic() < deadline:
        try:
            if door.query(_SETTLED)["settled"][0].as_py() >= sent.events:
                return
        except (StoreUnavailable, StoreRefused):
            pass
        time.sleep(0.5)


def _summary(console: Console, door: SqlDoor, prepared: Prepared, sent: Sent) -> bool:
    decided = _one(door, "SELECT count() AS n FROM decisions")
    parked = _one(door, "SELECT count() AS n FROM parked")
    events = _one(door, "SELECT uniqExact(event_id) AS n FROM decisions")
    both = _one(
        door,
        "SELECT count() AS n FROM decisions WHERE (origin_partition, origin_offset) IN "
        "(SELECT origin_partition, origin_offset FROM parked)",
    )
    lost = sent.events - decided - parked
    twice = decided - events + both
    console.rule("what happened")
    console.print(
        f"  consumed {sent.events:,} = decided {decided:,} + parked {parked:,}", highlight=False
    )
    console.print(
        f"  rows in ClickHouse {decided:,}   [bold]lost {lost}   decided twice {twice}[/]"
    )
    _print(
        console,
        door,
        "outcomes",
        "SELECT outcome, count() AS decisions FROM decisions GROUP BY outcome ORDER BY outcome",
    )
    _print(
        console,
        door,
        "parked by cause",
        "SELECT code, path, rule, events FROM parked_by_cause LIMIT 10",
    )
    _print(
        console,
        door,
        "latency from the producer's timestamp",
        "SELECT minute, decisions, p50_ms, p99_ms FROM latency_by_minute",
    )
    _print(
        console,
        door,
        "drift alarms",
        "SELECT detector, subject, since, text FROM alarms ORDER BY raised_at LIMIT 5",
    )
    _print_auc(console, door, prepared)
    _print_examples(console, door)
    return lost == 0 and twice == 0


def _print_auc(console: Console, door: SqlDoor, prepared: Prepared) -> None:
    # The demo's own change of unit would spoil the figure, so what came before it counts.
    rows = door.query(
        "SELECT application_id, any(default_probability) AS p FROM decisions "
        "WHERE feature_source = 'table' GROUP BY application_id"
    )
    labels = pq.read_table(prepared.labels, columns=[KEY, LABEL])
    joined = rows.join(labels, keys=KEY, join_type="inner")
    label = joined[LABEL].to_numpy().astype(np.int8)
    if len(np.unique(label)) < 2:
        return
    auc = evaluate(label, joined["p"].to_numpy(), 0.5, seed=1)["auc"]
    console.print(
        f"  AUC of the stream against what really happened: [bold]{auc.value:.3f}[/] "
        f"(95 % interval {auc.low:.3f} to {auc.high:.3f}, {len(label):,} clients of the table, "
        "none seen in training)"
    )


def _print_examples(console: Console, door: SqlDoor) -> None:
    for outcome in ("approve", "refer", "decline"):
        rows = door.query(
            "SELECT application_id, default_probability, score, reason_codes, "
            "arrayMap(r -> r.feature, reasons) AS named FROM decisions "
            f"WHERE outcome = '{outcome}' AND isNotNull(score) LIMIT 1"
        ).to_pylist()
        for row in rows:
            why = ", ".join(
                f"{c} ({f})" for c, f in zip(row["reason_codes"], row["named"], strict=True)
            )
            because = f"; because {why}" if why else ""
            console.print(
                f"  application {row['application_id']}: {outcome}, default probability "
                f"{row['default_probability']:.1%}, {row['score']} points{because}",
                highlight=False,
            )


def _one(door: SqlDoor, sql: str) -> int:
    return int(door.query(sql)["n"][0].as_py())


def _print(console: Console, door: SqlDoor, title: str, sql: str) -> None:
    rows: pa.Table = door.query(sql)
    table = Table(*rows.column_names, title=title, title_justify="left")
    for row in rows.to_pylist():
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)


@contextmanager
def _steps(console: Console) -> Iterator[Any]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        tasks: list[Any] = []

        def step(text: str) -> None:
            if tasks:
                progress.update(tasks[-1], total=1, completed=1)
            tasks.append(progress.add_task(text, total=None))

        yield step
        progress.update(tasks[-1], total=1, completed=1)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
