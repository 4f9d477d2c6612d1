"""What a demo did: reconciled, and measured against what really happened."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from models.evaluate import evaluate
from models.prepared import KEY, LABEL, Prepared
from monitoring.difference import Kind
from scoring.decision import OUTCOMES, Decision
from sinks.door import SqlDoor
from stream.asking.shown import rows_table
from stream.kafka.connection import connection_of
from stream.kafka.records import records_of
from stream.reconcile.report import Report, print_report
from stream.reconcile.run import reconcile
from stream.reconcile.snapshot import Period
from stream.settings import KafkaSettings, Settings

_INDENTED = (0, 0, 0, 2)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Applications sent, and what `creditstream reconcile` finds of them."""

    sent: int
    report: Report

    @property
    def decided_twice(self) -> int:
        """Applications with two different answers, or that were also parked."""
        kinds: tuple[Kind, ...] = ("twice", "conflict", "both")
        return sum(self.report.differences[kind] for kind in kinds)

    @property
    def lost(self) -> int:
        """Applications of which the topics, or the store, do not tell what became."""
        total = self.report.total
        return self.sent - min(total.decided + total.parked, total.stored + total.stored_parked)

    @property
    def good(self) -> bool:
        """Whether nothing is lost or decided twice, and the store has what the topics have."""
        total = self.report.total
        agree = (total.decided, total.parked) == (total.stored, total.stored_parked)
        return agree and self.lost == 0 and self.report.good


def decisions_of(kafka: KafkaSettings) -> list[Decision]:
    """Read all decisions that stand on their topic."""
    records = asyncio.run(records_of(connection_of(kafka), kafka.decisions))
    return [msgspec.json.decode(record.value, type=Decision) for record in records]


def reconciled(sent: int, settings: Settings, door: SqlDoor) -> Reconciliation:
    """Hold topics and store against what was sent; raises as `reconcile` does."""
    return Reconciliation(sent, asyncio.run(reconcile(settings, Period(None, None), door)))


def summarise(
    console: Console,
    door: SqlDoor,
    prepared: Prepared,
    decisions: Sequence[Decision],
    found: Reconciliation,
) -> None:
    """Print what happened: the reconciliation, the mix, what was parked, alarms, AUC, examples."""
    synthetic = ", to SYNTHETIC applicants" if prepared.about.synthetic else ""
    console.rule(f"what happened{synthetic}")
    total = found.report.total
    consumed = f"consumed {found.sent:,} = decided {total.decided:,} + parked {total.parked:,}"
    for line in (
        f"{consumed}   (on the topics; {total.again:,} delivered again after the kill)",
        f"rows in ClickHouse {total.stored:,} + {total.stored_parked:,}",
        f"[bold]lost {found.lost}   decided twice {found.decided_twice}[/]",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    if not found.report.good:
        print_report(found.report, console)
    for title, sql in (
        ("outcomes", "SELECT outcome, count() AS decisions FROM decisions GROUP BY 1 ORDER BY 1"),
        ("parked by cause", "SELECT code, path, rule, events FROM parked_by_cause LIMIT 10"),
        (
            "milliseconds from the producer's timestamp to the decision",
            "SELECT minute, decisions, p50_ms, p99_ms FROM latency_by_minute",
        ),
    ):
        console.print(rows_table(door.query(sql), title))
    _print_alarms(console, door)
    _print_auc(console, door, prepared)
    _print_examples(console, decisions)


def _print_alarms(console: Console, door: SqlDoor) -> None:
    alarms = door.query("SELECT detector, text FROM alarms ORDER BY raised_at").to_pylist()
    table = Table("detector", "text", title=f"drift alarms: {len(alarms)}", title_justify="left")
    for alarm in alarms[:5]:
        table.add_row(alarm["detector"], alarm["text"])
    console.print(table)


def _print_auc(console: Console, door: SqlDoor, prepared: Prepared) -> None:
    # Clients of the table alone: the demo's own change of unit spoils what the others send.
    rows = door.query(
        "SELECT application_id, any(default_probability) AS p FROM decisions "
        "WHERE feature_source = 'table' GROUP BY application_id"
    )
    labels = pq.read_table(prepared.labels, columns=[KEY, LABEL])
    joined = rows.join(labels.drop_null(), keys=KEY, join_type="inner")
    label = joined[LABEL].to_numpy().astype(np.int8)
    if len(np.unique(label)) < 2:
        return
    auc = evaluate(label, joined["p"].to_numpy(), 0.5, seed=1)["auc"]
    truth = "SYNTHETIC labels" if prepared.about.synthetic else "what really happened"
    said = (
        f"AUC of the stream against {truth}: [bold]{auc.value:.3f}[/] "
        f"(95 % interval {auc.low:.3f} to {auc.high:.3f}, {len(label):,} clients of the table, "
        "none seen in training)"
    )
    console.print(Padding(said, _INDENTED), highlight=False)


def _print_examples(console: Console, decisions: Sequence[Decision]) -> None:
    for outcome in OUTCOMES:
        of_outcome = (d for d in decisions if d.outcome == outcome and d.score is not None)
        for decision in list(of_outcome)[:1]:
            console.print(Padding(in_words(decision), _INDENTED), highlight=False)


def in_words(decision: Decision) -> str:
    """Say a decision and its reasons as a sentence."""
    said = f"application {decision.application_id}: {decision.outcome}"
    if decision.default_probability is not None:
        said += f", default probability {decision.default_probability:.1%}, {decision.score} points"
    why = " ".join(f"{reason.text} ({reason.code})" for reason in decision.reasons)
    return f"{said}; because: {why}" if why else said
