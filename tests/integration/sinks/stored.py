"""What is put into the store, and how it is read back."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from scoring.decision import DecisionBatch
from scoring.decode import Rejection
from scoring.poll import Poll
from sinks.ledger import LedgerBatch, decode, encode
from sinks.parked import ParkedEvent
from sinks.store import Store
from tests.unit.sinks.decisions import START_US

VIEWS = (
    "decisions",
    "decision_features",
    "shared_ids",
    "decision_mix_by_hour",
    "risk_bands",
    "latency_by_minute",
    "feature_age",
    "parked",
    "parked_by_cause",
    "delivery_by_hour",
    "alarms",
)


def ledger(*batches: DecisionBatch) -> list[LedgerBatch]:
    return [decode(message) for batch in batches for message in encode(batch)]


def rows(store: Store, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = store.query(sql).to_pylist()
    return found


def parked(offset: int, *, path: str = "$.attributes.AGE", minute: int = 1) -> ParkedEvent:
    poll = Poll("applications", 0, [offset], [START_US // 1000], [b"key"], [b"\xff{}"], [[]])
    return ParkedEvent.of(
        poll,
        Rejection(0, "invalid", path, "'forty'", "Expected `int`"),
        stage="decode",
        parked_at=datetime(2026, 1, 1, 0, minute, tzinfo=UTC),
        release="release-a",
        largest=1_000,
    )


def an_alarm(identity: str = "a-1", minute: int = 3) -> bytes:
    return msgspec.json.encode(
        {
            "alarm_id": identity,
            "raised_at": datetime(2026, 1, 1, 0, minute, tzinfo=UTC),
            "kind": "drift",
            "detector": "psi",
            "subject": "AGE",
            "value": 0.31,
            "threshold": 0.25,
            "since": datetime(2026, 1, 1, tzinfo=UTC),
            "release": "release-a",
            "decisions": 5000,
            "text": "AGE moved.",
            "a_field_of_a_later_version": 1,
        }
    )


def everything(store: Store) -> str:
    """Read all that the views show of the ledger, in a fixed order."""
    found: Sequence[Any] = [
        rows(store, f"SELECT * FROM {view} ORDER BY ALL") for view in VIEWS if view != "alarms"
    ]
    return json.dumps(found, default=str)
