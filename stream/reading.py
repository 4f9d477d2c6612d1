"""Questions to ClickHouse and to running processes, and their answers as tables."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import httpx
import msgspec
import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.release import Release
from sinks.door import SqlDoor, StoreNotHosted
from stream.settings import Settings
from stream.store import store_of

_SHOWN = 12  # features of a decision
_WIDTH = 200  # of a table that no terminal shows


class AnswerUnreadable(Exception):
    """An answer holds bytes that are no text; says what to ask for instead."""


class Asked(Protocol):
    """What answers queries: a store, or the door of the process that hosts one."""

    def query(self, sql: str) -> pa.Table:
        """Run a query; raises StoreUnavailable, StoreRefused."""
        ...


@contextmanager
def asked(settings: Settings) -> Iterator[Asked]:
    """
    Give what answers queries, read-only.

    An embedded store that a running process hosts is asked through that process's door; one that
    nobody hosts is opened here. Raises StoreUnavailable, StoreRefused.
    """
    if settings.store.url.startswith("chdb://"):
        door = SqlDoor(settings.store.door)
        try:
            door.query("SELECT 1")
        except StoreNotHosted:
            pass
        else:
            yield door
            return
    store = store_of(settings, read_only=True)
    try:
        yield store
    finally:
        store.close()


def ask(settings: Settings, sql: str) -> pa.Table:
    """Run a query on what `asked` gives."""
    with asked(settings) as store:
        return store.query(sql)


def print_rows(rows: pa.Table, *, as_json: bool) -> None:
    """Print a result: a table for people, JSON lines for machines."""
    if as_json:
        for row in _python(rows):
            # NaN becomes null: JSON knows none.
            line = msgspec.json.encode(row, enc_hook=str).decode()
            print(line)  # noqa: T201 - data belongs on standard output
        return
    _console().print(rows_table(rows))


def rows_table(rows: pa.Table, title: str | None = None) -> Table:
    """Lay a result out for people: values as they are, but for what no terminal shows."""
    table = Table(title=title, title_justify="left")
    for name in rows.column_names:
        table.add_column(Text(name), overflow="fold")
    for row in _python(rows):
        shown = ("" if value is None else visible(str(value)) for value in row.values())
        table.add_row(*map(Text, shown))
    return table


def visible(text: str) -> str:
    """Escape what would act on a terminal or not be seen: an event's own texts may hold it."""
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode()
        for one in text
    )


def _python(rows: pa.Table) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = rows.to_pylist()
    except UnicodeDecodeError as error:
        msg = f"the answer holds a text that is not UTF-8 ({error}): ask for hex(column)"
        raise AnswerUnreadable(msg) from None
    return found


def _console() -> Console:
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH)


def status_of(url: str) -> dict[str, Any] | None:
    """Ask a process for its status; None where nobody answers."""
    try:
        answer = httpx.get(f"{url}/status", timeout=2.0)
    except httpx.TransportError:
        return None
    found: dict[str, Any] = answer.json()
    return found


def print_decision(stored: dict[str, Any], release: Release) -> None:
    """Print a stored decision: what, why, and how the model's parts add up."""
    console = _console()
    lines = [f"{stored['outcome']}   application {stored['application_id']}"]
    if stored["score"] is not None:
        probability = f"default probability {stored['default_probability']:.4%}"
        lines.append(f"{probability}   {stored['score']} points   risk {stored['risk_band']}")
    lines += [
        f"{reason['contribution']:+.4f}  {release.policy.text_of(reason['code'])} "
        f"({', '.join(filter(None, (reason['code'], reason['feature'])))})"
        for reason in stored["reasons"]
    ]
    origin = "/".join(str(stored[f"origin_{part}"]) for part in ("topic", "partition", "offset"))
    lines += [
        f"event {stored['event_id']} of {stored['source']}, {origin}",
        f"submitted {stored['submitted_at']}, decided {stored['decided_at']}",
        f"features {stored['feature_source']}{_as_of(stored)}",
        f"release {stored['release']}",
    ]
    for line in lines:
        console.print(visible(line), highlight=False, markup=False, soft_wrap=True)
    if not stored["features"]:
        return
    features = np.array([stored["features"]], dtype=np.float32)
    *parts, mean = release.scorer.contributions(features)[0].tolist()
    table = Table("feature", "value", "adds to the log-odds")
    table.add_row("(mean of the model)", "", f"{mean:+.4f}")
    strongest = sorted(range(len(parts)), key=lambda index: -abs(parts[index]))
    for index in strongest[:_SHOWN]:
        name, value = release.schema.names[index], stored["features"][index]
        table.add_row(name, f"{value:g}", f"{parts[index]:+.4f}")
    rest = strongest[_SHOWN:]
    table.add_row(f"({len(rest)} others)", "", f"{sum(parts[index] for index in rest):+.4f}")
    table.add_row("log-odds of default", "", f"{mean + sum(parts):+.4f}", style="bold")
    console.print(table)


def _as_of(stored: dict[str, Any]) -> str:
    as_of, age = stored["features_as_of"], stored["features_age_s"]
    said = "" if as_of is None else f", as of {as_of}"
    said += "" if age is None else f", {age / 86_400:.1f} days old"
    return said + (", stale" if stored["features_stale"] else "")


def print_drift(settings: Settings) -> None:
    """Print each subject's statistics from the monitor's checkpoint."""
    from monitoring.drift import DriftMonitor

    if not settings.monitor.checkpoint.is_file():
        return
    monitor = DriftMonitor.from_bytes(settings.monitor.checkpoint.read_bytes())
    table = Table()
    table.add_column("subject", no_wrap=True)
    for name in (
        "decisions",
        "mean",
        "variance",
        "p05",
        "p50",
        "p95",
        "missing",
        "PSI",
        "last alarm",
    ):
        table.add_column(name, overflow="fold")
    for row in sorted(monitor.statistics(), key=lambda row: -row.psi):
        numbers = (row.mean, row.variance, row.p05, row.p50, row.p95, row.missing_share, row.psi)
        last = f"{row.last_alarm:%Y-%m-%d %H:%M:%S}" if row.last_alarm else ""
        shown = (f"{number:.4g}" for number in numbers)
        table.add_row(row.subject, str(row.decisions), *shown, last)
    _console().print(table)
