"""What a reconciliation found, for people and for machines."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from rich.console import Console
from rich.table import Table

from monitoring.difference import MEANING, Kind
from stream.asking.shown import visible
from stream.reconcile.accounts import Counts

_SHOWN = 20
"""Differences of a kind that are shown to people."""


class Difference(msgspec.Struct, frozen=True):
    """
    Something that differs: of which application, and where that stands.

    `topic`, `partition` and `offset` name the application, or a record of an output topic that
    belongs to none. Ids are empty where they could not be read.
    """

    kind: Kind
    topic: str
    partition: int
    offset: int
    event_id: str = ""
    application_id: int | None = None
    decision_id: str = ""
    detail: str = ""


class HourOfPartition(msgspec.Struct, frozen=True):
    """What became of the applications of an hour (UTC) of a partition."""

    hour: datetime
    partition: int
    counts: Counts


class Report(msgspec.Struct, frozen=True):
    """
    What was reconciled and what differs.

    `differences` count all, `named` are the first of them. `store` is false where ClickHouse was
    not asked. `notes` say what could not be judged.
    """

    since: datetime | None
    until: datetime
    delivery: str
    store: bool
    hours: Sequence[HourOfPartition]
    differences: dict[Kind, int]
    named: Sequence[Difference]
    notes: Sequence[str]

    @property
    def total(self) -> Counts:
        """Add up all hours and partitions."""
        total = Counts()
        for one in self.hours:
            total.add(one.counts)
        return total

    @property
    def good(self) -> bool:
        """Whether nothing differs."""
        return not any(self.differences.values())


def hour_of(hour: int) -> datetime:
    """Turn hours since 1970 into a time."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)


def print_report(report: Report, console: Console) -> None:
    """Print a table by hour and partition, and then whether all is accounted for."""
    columns = ["hour (UTC)", "partition", "consumed", "decided", "parked", "sent again", "pending"]
    table = Table(*columns, *(["in ClickHouse"] if report.store else []))
    total = report.total
    for one in report.hours:
        table.add_row(f"{one.hour:%Y-%m-%d %H}:00", str(one.partition), *_cells(report, one.counts))
    if len(report.hours) > 1:
        table.add_section()
        table.add_row("all", "", *_cells(report, total))
    console.print(table)
    lines = list(report.notes)
    if total.unjudged:
        some = "application is" if total.unjudged == 1 else "applications are"
        lines.append(f"{total.unjudged:,} {some} not judged: see above")
    if total.again:
        some = "decision stands on its" if total.again == 1 else "decisions stand on their"
        lines.append(f"{total.again:,} {some} topic again")
    lines += _differences(report)
    if report.good:
        told = f"all {total.consumed:,} applications are accounted for"
        lines.append(told + (f", {total.pending:,} are pending" if total.pending else ""))
    for line in lines:
        console.print(visible(line), highlight=False, markup=False, soft_wrap=True)


def _cells(report: Report, counts: Counts) -> list[str]:
    numbers = [counts.consumed, counts.decided, counts.parked, counts.repeated, counts.pending]
    stored = [f"{counts.stored:,} + {counts.stored_parked:,}"] if report.store else []
    return [*(f"{number:,}" for number in numbers), *stored]


def _differences(report: Report) -> list[str]:
    lines = []
    for kind, count in report.differences.items():
        if not count:
            continue
        lines.append(f"{kind.replace('_', ' ')}: {count:,} ({MEANING[kind]})")
        named = [one for one in report.named if one.kind == kind]
        for one in named[:_SHOWN]:
            said = [f"{one.topic}/{one.partition}/{one.offset}"]
            said += [f"event {one.event_id}"] if one.event_id else []
            said += [f"decision {one.decision_id}"] if one.decision_id else []
            said += [one.detail] if one.detail else []
            lines.append(f"    {'  '.join(said)}")
        if count > _SHOWN:
            lines.append(f"    and {count - len(named[:_SHOWN]):,} more: --json names them")
    return lines
