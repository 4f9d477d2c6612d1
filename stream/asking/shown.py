"""Answers as tables for people, and as JSON lines for machines."""

import sys
from typing import Any

import msgspec
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream.settings import Settings

_WIDTH = 200  # of a table that no terminal shows


class AnswerUnreadable(Exception):
    """An answer holds bytes that are no text; says what to ask for instead."""


def print_rows(rows: pa.Table, *, as_json: bool) -> None:
    """Print a result: a table for people, JSON lines for machines."""
    if as_json:
        for row in _python(rows):
            # NaN becomes null: JSON knows none.
            line = msgspec.json.encode(row, enc_hook=str).decode()
            print(line)  # noqa: T201 - data belongs on standard output
        return
    new_console().print(rows_table(rows))


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


def new_console() -> Console:
    """Make a console as wide as its terminal or, where none is, wide enough for a table."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH)


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
    new_console().print(table)
