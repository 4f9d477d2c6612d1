"""A reconciliation on a schedule: what it asks for, and what it makes of the answer."""

from collections.abc import Sequence

import msgspec
import pytest

from monitoring.difference import KINDS
from monitoring.metrics import PREFIX, Metrics
from stream.reconcile.accounts import no_differences
from stream.reconcile.schedule import Schedule

NOW = 1_790_000_000.0


class FakeProcess:
    """Answers as the command would."""

    def __init__(self, code: int, out: bytes = b"", err: bytes = b"") -> None:
        self.answer = code, out, err
        self.asked: list[Sequence[str]] = []

    async def __call__(self, arguments: Sequence[str]) -> tuple[int, bytes, bytes]:
        self.asked.append(arguments)
        return self.answer


def a_report(**differences: int) -> bytes:
    hours = [{"counts": {"consumed": 7}}]
    return msgspec.json.encode({"differences": no_differences() | differences, "hours": hours})


def a_schedule(process: FakeProcess, metrics: Metrics, *partitions: int) -> Schedule:
    return Schedule(30, lambda: set(partitions), metrics, process, clock=lambda: NOW)


def shown(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(PREFIX + name, labels)


async def test_it_looks_back_two_intervals_at_the_partitions_that_are_assigned() -> None:
    process, metrics = FakeProcess(1, a_report(missing=3)), Metrics.create()

    await a_schedule(process, metrics, 4, 1).once()

    hours = ["--hours", "1.0000"]
    assert process.asked == [
        ["reconcile", "--json", *hours, "--partition", "1", "--partition", "4"]
    ]
    assert shown(metrics, "reconcile_differences", kind="missing") == 3
    assert shown(metrics, "reconcile_differences", kind="twice") == 0
    assert shown(metrics, "reconcile_last_success_timestamp_seconds") == NOW
    assert shown(metrics, "reconcile_runs_total", result="done") == 1


@pytest.mark.parametrize(
    "process",
    [
        FakeProcess(69, err=b"error: no broker"),
        FakeProcess(0, b"no report"),
        FakeProcess(1, err=b"error: too many hours"),
        FakeProcess(-9),
    ],
    ids=["no broker", "no json", "an error", "killed"],
)
async def test_what_fails_is_counted_and_the_last_findings_stay(process: FakeProcess) -> None:
    metrics = Metrics.create()
    await a_schedule(FakeProcess(1, a_report(both=1)), metrics, 0).once()

    await a_schedule(process, metrics, 0).once()

    assert shown(metrics, "reconcile_runs_total", result="failed") == 1
    assert shown(metrics, "reconcile_differences", kind="both") == 1


async def test_a_program_that_cannot_be_started_is_counted_too() -> None:
    async def missing(_: Sequence[str]) -> tuple[int, bytes, bytes]:
        raise FileNotFoundError(2, "No such file", "creditstream")

    metrics = Metrics.create()
    await Schedule(30, lambda: {0}, metrics, missing).once()

    assert shown(metrics, "reconcile_runs_total", result="failed") == 1
    assert shown(metrics, "reconcile_last_success_timestamp_seconds") == 0


async def test_a_sink_that_lost_its_partitions_tells_of_no_differences_any_more() -> None:
    metrics, idle = Metrics.create(), FakeProcess(0)
    await a_schedule(FakeProcess(1, a_report(missing=3)), metrics, 0).once()

    await a_schedule(idle, metrics).once()

    assert idle.asked == []
    assert {shown(metrics, "reconcile_differences", kind=kind) for kind in KINDS} == {0}
