"""What a reconciliation says to people."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from rich.console import Console

from monitoring.difference import KINDS, MEANING, Kind
from stream.reconcile.accounts import Counts, no_differences
from stream.reconcile.report import Difference, HourOfPartition, Report, print_report

HOUR = datetime(2026, 11, 25, 14, tzinfo=UTC)


def a_report(
    named: Sequence[Difference] = (), *, store: bool = True, notes: Sequence[str] = ()
) -> Report:
    counts = no_differences()
    for one in named:
        counts[one.kind] += 1
    hours = [
        HourOfPartition(HOUR, 0, Counts(consumed=1_200, decided=1_190, parked=8, repeated=2)),
        HourOfPartition(HOUR, 1, Counts(consumed=5, decided=5, pending=3, stored=5)),
    ]
    return Report(HOUR, HOUR, "exactly_once", store, hours, counts, named, notes)


def missing(offset: int, event_id: str = "e-1", kind: Kind = "missing") -> Difference:
    return Difference(kind, "applications", 0, offset, event_id=event_id, decision_id="c137")


def said(report: Report) -> list[str]:
    out = io.StringIO()
    print_report(report, Console(file=out, width=160))
    return out.getvalue().splitlines()


def test_it_ends_with_how_many_are_accounted_for() -> None:
    assert said(a_report())[-1] == "all 1,205 applications are accounted for, 3 are pending"


def test_each_hour_and_partition_has_its_row_and_all_have_their_sum() -> None:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said(a_report())]

    hour = "2026-11-25 14:00"
    assert [hour, "0", "1,200", "1,190", "8", "2", "0", "0 + 0"] in rows
    assert ["all", "", "1,205", "1,195", "8", "2", "3", "5 + 0"] in rows
    assert not any("in ClickHouse" in line for line in said(a_report(store=False)))


@pytest.mark.parametrize(
    ("again", "line"),
    [(1, "1 decision stands on its topic again"), (2, "2 decisions stand on their topic again")],
)
def test_decisions_that_a_crash_repeated_are_said_and_no_difference(again: int, line: str) -> None:
    hours = [HourOfPartition(HOUR, 0, Counts(consumed=5, decided=5, again=again))]
    report = Report(HOUR, HOUR, "at_least_once", False, hours, no_differences(), (), ())

    assert said(report)[-2:] == [line, "all 5 applications are accounted for"]


def test_what_differs_is_named_with_its_meaning_twenty_of_a_kind() -> None:
    lines = said(a_report([*(missing(n) for n in range(25)), missing(7, kind="both")]))

    assert f"missing: 25 ({MEANING['missing']})" in lines
    assert "    applications/0/19  event e-1  decision c137" in lines
    assert "    applications/0/20  event e-1  decision c137" not in lines
    assert "    and 5 more: --json names them" in lines
    assert "both: 1 (decided and parked)" in lines
    assert not any("accounted for" in line for line in lines)


def test_an_events_own_text_does_not_act_on_the_terminal() -> None:
    assert any(
        r"event \x1b[2J[red]" in line for line in said(a_report([missing(1, "\x1b[2J[red]")]))
    )


def test_what_cannot_be_judged_is_said() -> None:
    assert "partition 0: gone" in said(a_report(notes=["partition 0: gone"]))


def test_every_kind_has_a_meaning() -> None:
    assert set(MEANING) == set(KINDS)
