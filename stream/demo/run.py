"""The demo: everything embedded, an example's applicants, two breakages, a reconciled end."""

import asyncio
import os
import random
import shlex
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sinks.store import StoreRefused, StoreUnavailable
from stream.asking.questions import status_of
from stream.demo.examples import Example
from stream.demo.installation import Installation, installed
from stream.demo.summary import decisions_of, reconciled, summarise
from stream.kafka.connection import connection_of
from stream.kafka.publisher import Publisher
from stream.process.supervisor import Command, console_script, stop_all, told_to_stop
from stream.sending.files import applicants_of
from stream.sending.simulator import Applicant, Sent, Simulator, send_at_rate

BAD_SHARE = 0.01
# Parts of the streaming time: when the unit changes, and when the worker is killed.
_DRIFT_AT, _KILL_AT = 0.3, 0.55
_LOOK_SECONDS, _STILL_SECONDS = 0.5, 30.0
_COUNT = "SELECT outcome, count() FROM decisions GROUP BY outcome"
_REPORT_SECONDS = 120.0
_ASK_NEXT = "SELECT * FROM risk_bands"


@dataclass(slots=True)
class Story:
    """What happened so far, for the live view; `synthetic` is told in it."""

    synthetic: bool = False
    sent: Sent = field(default_factory=Sent)
    lines: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def tell(self, line: str) -> None:
        """Add a line with its time."""
        self.lines.append(f"{time.monotonic() - self.started:5.1f} s  {line}")


def run_up(example: Example, folder: Path) -> int:
    """Run everything embedded until Ctrl-C or SIGTERM; give 0."""
    console = Console()
    stopping = told_to_stop()
    with installed(console, example, folder) as running:
        _introduce(console, running)
        data = shlex.quote(str(running.prepared.folder))
        _print_commands(console, running, [f"simulate --rate 50 --data {data}", f'sql "{_COUNT}"'])
        while not stopping.wait(0.2):
            running.look_after()
    return 0


def run_demo(
    example: Example, folder: Path, seconds: float, rate: float | None, *, drift: bool, kill: bool
) -> int:
    """Run the demo, at the example's rate; give 0 only if nothing was lost or decided twice."""
    console = Console()
    with installed(console, example, folder) as running:
        _introduce(console, running)
        story = Story(running.prepared.about.synthetic)
        report = Command(
            running.settings["sink"], "report", ["report", "--hours", "1"], running.report_log
        )
        rate = rate or example.rate
        breakages = {"drift": drift, "kill": kill}
        try:
            asyncio.run(_stream(console, story, running, report, seconds, rate, **breakages))
            console.print()  # the live view leaves its last line open where no terminal is
            settings = running.settings["scoring"]
            decisions = decisions_of(settings.kafka)
            result = reconciled(story.sent.events, settings, running.door)
            summarise(console, running.door, running.prepared, decisions, result)
            _print_report(console, running, report)
        finally:
            stop_all([report])
    _try_next(console, running, decisions[-1].decision_id)
    return 0 if result.good else 1


def _print_report(console: Console, running: Installation, report: Command) -> None:
    with console.status("drawing the drift report"):
        code = report.wait(_REPORT_SECONDS)
    killed = f"not ready within {_REPORT_SECONDS:.0f} s, or killed by the system"
    fate = killed if code == -signal.SIGKILL else f"exit code {code}"
    said = running.report_log.read_text().splitlines() or [fate]
    drawn = "drift report, drawn while the stream went on"
    line = f"{drawn}: {said[0]}" if code == 0 else f"no drift report: {said[-1]}"
    console.print(f"  {line}", highlight=False, soft_wrap=True)


def _introduce(console: Console, running: Installation) -> None:
    servers = running.settings["scoring"].kafka.bootstrap_servers
    for name, what in (
        ("creditstream", f"everything in {running.folder}, nothing leaves this machine"),
        ("broker", f"librdkafka's mock, {servers} (not durable)"),
        ("clickhouse", f"chDB in the sink's process, {running.folder / 'chdb'}"),
        ("status", f"{running.url('scoring')}/status  /metrics  /docs"),
    ):
        console.print(f"  {name:14}{what}", highlight=False, soft_wrap=True)
    if running.prepared.about.synthetic:
        line = "all of it: no applicant is real, and labels are drawn from a formula"
        console.print(f"  {'SYNTHETIC':14}{line}", highlight=False, soft_wrap=True)


def _try_next(console: Console, running: Installation, decision_id: str) -> None:
    applications = shlex.quote(str(running.prepared.applications))
    releases = shlex.quote(str(running.folder / "releases"))
    console.print("\nTry next")
    commands = [
        f'sql "{_ASK_NEXT}"',
        f"decision show {decision_id}",
        f"score {applications} --release {releases} -o scored.parquet",
        "drift",
    ]
    _print_commands(console, running, commands)


def _print_commands(console: Console, running: Installation, commands: Sequence[str]) -> None:
    """Print commands as a shell in this folder takes them, whatever is on its path."""
    program = shlex.quote(os.path.relpath(console_script()))
    settings = shlex.quote(os.path.relpath(running.shell_settings))
    for line in (f". {settings}", *(f"{program} {command}" for command in commands)):
        console.print(f"  {line}", highlight=False, soft_wrap=True)


async def _stream(
    console: Console,
    story: Story,
    running: Installation,
    report: Command,
    seconds: float,
    rate: float,
    *,
    drift: bool,
    kill: bool,
) -> None:
    kafka = running.settings["scoring"].kafka
    applicants: Iterable[Applicant] = applicants_of(running.prepared)
    if running.example.ordered:
        applicants = list(applicants)
        random.Random(0).shuffle(applicants)  # noqa: S311 - a stream is in no order
    simulator = Simulator(applicants, "demo", BAD_SHARE)
    over = asyncio.Event()

    async def direct() -> None:
        await asyncio.sleep(seconds * _DRIFT_AT)
        if drift:
            story.tell(running.example.drift.told)
            simulator.change = running.example.drift.change()
        await asyncio.sleep(seconds * (_KILL_AT - _DRIFT_AT))
        report.start()  # it takes its time: beside the worker's restart, not after all
        if kill:
            pid = running.processes["scoring"].pid
            story.tell(f"kill -9 of the scoring worker (process {pid})")
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(seconds * (1 - _KILL_AT))
        over.set()

    async def watch() -> None:
        settled, since = 0, time.monotonic()
        scoring, starts = running.processes["scoring"], 1
        with Live(console=console, refresh_per_second=4) as live:
            # On after the last event, until the store tells of all or gets on no more.
            while settled < story.sent.events or not over.is_set():
                running.look_after()
                now = await asyncio.to_thread(_now, running)
                if scoring.starts > starts and now.lag is not None:
                    starts = scoring.starts
                    story.tell("the scoring worker is back, and goes on where it had committed")
                live.update(_view(story, now))
                if now.settled > settled or not over.is_set():
                    settled, since = now.settled, time.monotonic()
                elif time.monotonic() > since + _STILL_SECONDS:
                    return
                await asyncio.sleep(_LOOK_SECONDS)

    async with (
        Publisher(connection_of(kafka), client_id="creditstream-demo") as publisher,
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


# What ClickHouse has now: it counts on while a killed worker's own numbers begin anew.
_COUNTS = """
SELECT count() AS rows, countIf(outcome = 'approve') AS approved,
    countIf(outcome = 'refer') AS referred, countIf(outcome = 'decline') AS declined,
    countIf(decided_at > now64(6) - INTERVAL 5 SECOND) / 5 AS a_second,
    quantileExactIf(0.5)(latency_ms, decided_at > now64(6) - INTERVAL 10 SECOND) AS p50_ms,
    quantileExactIf(0.99)(latency_ms, decided_at > now64(6) - INTERVAL 10 SECOND) AS p99_ms,
    (SELECT count() FROM parked) AS parked, (SELECT count() FROM alarms) AS alarms
FROM decisions
"""


@dataclass(frozen=True, slots=True)
class Now:
    """What is to be shown: the store's counts, or why there are none, and the worker's lag."""

    counts: dict[str, float] | None
    unanswered: str = ""
    lag: int | None = None

    @property
    def settled(self) -> int:
        """How many events the store tells of."""
        return int(self.counts["rows"] + self.counts["parked"]) if self.counts else 0


def _now(running: Installation) -> Now:
    status = status_of(running.url("scoring"))
    lag = None if status is None else sum(status["lag"].values())
    try:
        (counts,) = running.door.query(_COUNTS).to_pylist()
    except (StoreUnavailable, StoreRefused) as error:
        return Now(None, str(error), lag)
    return Now(counts, "", lag)


def _view(story: Story, now: Now) -> Table:
    table = Table(show_header=False, box=None)
    elapsed_s = max(time.monotonic() - story.started, 1.0)
    sent = story.sent.events
    synthetic = "   SYNTHETIC, no applicant is real" if story.synthetic else ""
    table.add_row("events in", f"{sent:,}   {sent / elapsed_s:,.0f} a second{synthetic}")
    lag = "the worker is starting" if now.lag is None else f"lag {now.lag:,}"
    counts = now.counts
    if counts is None:
        table.add_row("clickhouse", f"does not answer: {now.unanswered}")
    else:
        table.add_row("decided", f"{counts['a_second']:,.0f} a second   {lag}")
        mix = [f"{counts[name]:,} {name}" for name in ("approved", "referred", "declined")]
        table.add_row("", f"{', '.join(mix)}   {counts['parked']} parked")
        if counts["a_second"]:
            table.add_row("latency", f"p50 {counts['p50_ms']} ms   p99 {counts['p99_ms']} ms")
        table.add_row("clickhouse", f"{counts['rows']:,} rows   {counts['alarms']} drift alarms")
    for line in story.lines:
        table.add_row("", line)
    return table
