"""What a demo did: reconciled, and measured against what really happened."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from models.evaluate import evaluate
from models.prepared import KEY, LABEL, Prepared
from scoring.decision import OUTCOMES, Decision
from sinks.door import SqlDoor
from sinks.parked import parse
from stream.reading import records_of, rows_table
from stream.settings import KafkaSettings

_INDENTED = (0, 0, 0, 2)

_STORED = """
SELECT count() AS rows, uniqExact(event_id) AS events,
    (SELECT count() FROM parked WHERE stage != 'sink') AS parked
FROM decisions
"""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """
    Applications sent, and what became of them: counted on the topics, and again in the store.

    `decided` and `parked` are different ids and places on their topics; `repeated` decisions stand
    there again after a crash; `decided_twice` have two different answers, or were also parked.
    """

    sent: int
    decided: int
    parked: int
    repeated: int
    decided_twice: int
    rows: int
    rows_parked: int

    @property
    def lost(self) -> int:
        """Applications of which the topics, or the store, do not tell what became."""
        return self.sent - min(self.decided + self.parked, self.rows + self.rows_parked)

    @property
    def good(self) -> bool:
        """Whether nothing is lost or decided twice, and the store has what the topics have."""
        agree = (self.decided, self.parked) == (self.rows, self.rows_parked)
        return agree and self.lost == 0 and self.decided_twice == 0


@dataclass(frozen=True, slots=True)
class Published:
    """All that stands on the topics: decisions, and where the parked events came from."""

    decisions: Sequence[Decision]
    parked: Collection[tuple[str, int, int]]


def published(kafka: KafkaSettings) -> Published:
    """Read the topics from their beginning to their present end."""
    decisions = asyncio.run(records_of(kafka.bootstrap_servers, kafka.decisions))
    parked = asyncio.run(records_of(kafka.bootstrap_servers, kafka.parked))
    events = [parse(record.key, record.value, record.headers) for record in parked]
    return Published(
        [msgspec.json.decode(record.value, type=Decision) for record in decisions],
        {
            (event.topic, event.partition, event.offset)
            for event in events
            if event.stage != "sink"  # parked after it was decided
        },
    )


def reconcile(sent: int, found: Published, door: SqlDoor) -> Reconciliation:
    """Hold topics and store against what was sent; raises the store's errors."""
    answers: dict[str, set[tuple[object, ...]]] = {}
    for made in found.decisions:
        answer = (made.outcome, made.default_probability, made.release)
        answers.setdefault(made.decision_id, set()).add(answer)
    origins = {(d.origin.topic, d.origin.partition, d.origin.offset) for d in found.decisions}
    (stored,) = door.query(_STORED).to_pylist()
    return Reconciliation(
        sent=sent,
        decided=len(answers),
        parked=len(found.parked),
        repeated=len(found.decisions) - len(answers),
        decided_twice=sum(len(several) > 1 for several in answers.values())
        + stored["rows"]
        - stored["events"]
        + len(origins.intersection(found.parked)),
        rows=stored["rows"],
        rows_parked=stored["parked"],
    )


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
    consumed = f"consumed {found.sent:,} = decided {found.decided:,} + parked {found.parked:,}"
    for line in (
        f"{consumed}   (on the topics; {found.repeated:,} delivered again after the kill)",
        f"rows in ClickHouse {found.rows:,} + {found.rows_parked:,}",
        f"[bold]lost {found.lost}   decided twice {found.decided_twice}[/]",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
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
