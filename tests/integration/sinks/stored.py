"""What is put into the store, and how it is read back."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from scoring.decision import DecisionBatch
from scoring.decode import Rejection
from scoring.poll import Poll
from sinks.blocks import Block, alarm_block, ledger_block, parked_block
from sinks.clickhouse import ClickHouseSink
from sinks.isolation import Inserter
from sinks.ledger import encode
from sinks.parked import ParkedEvent
from sinks.store import Store, StoreUnavailable
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


class Heard:
    """What an inserter tells: why it waited, and that an attempt takes long."""

    def __init__(self) -> None:
        self.causes: list[StoreUnavailable] = []
        self.overdue_for: list[StoreUnavailable] = []
        self.waiting = asyncio.Event()
        self.pauses_s: list[float] = []

    def trying(self, longest_s: float) -> None:
        assert longest_s > 0

    def overdue(self, away: StoreUnavailable) -> None:
        self.overdue_for.append(away)

    def pausing(self, away: StoreUnavailable, pause_s: float) -> None:
        self.causes.append(away)
        self.pauses_s.append(pause_s)
        self.waiting.set()


def hurried(store: Store, heard: Heard, *, deadline_s: float = 30.0) -> Inserter:
    """Make an inserter with short pauses."""
    sink = ClickHouseSink(store)
    return Inserter(sink, heard, first_pause_s=0.01, deadline_s=deadline_s)


class Inserts:
    """Inserts into a store as a sink does that has just started: a block each."""

    def __init__(self, store: Store) -> None:
        self._sink = ClickHouseSink(store)

    def insert_ledger(self, messages: Sequence[bytes]) -> int:
        return self._insert(ledger_block([records("ledger", messages)]))

    def insert_parked(self, events: Sequence[ParkedEvent]) -> int:
        return self._insert(parked_block([parked_records(events)]))

    def insert_alarms(self, alarms: Sequence[bytes]) -> int:
        return self._insert(alarm_block([records("alarms", alarms)]))

    def _insert(self, block: Block) -> int:
        assert not block.damaged
        self._sink.name_features(block)
        count = int(block.rows.num_rows)
        if count:
            self._sink.insert(block, range(count))
        return count


def records(topic: str, values: Sequence[bytes | None], first_offset: int = 0) -> Poll:
    """Make a poll of records that have a value and nothing else."""
    count = len(values)
    offsets = range(first_offset, first_offset + count)
    return Poll(topic, 0, offsets, [START_US // 1000] * count, [None] * count, values, [[]] * count)


def parked_records(events: Sequence[ParkedEvent]) -> Poll:
    return Poll(
        "parked",
        0,
        range(len(events)),
        [START_US // 1000] * len(events),
        [event.key for event in events],
        [event.value for event in events],
        [event.record_headers() for event in events],
    )


def ledger(*batches: DecisionBatch) -> list[bytes]:
    return [message for batch in batches for message in encode(batch)]


def a_ledger_block(*batches: DecisionBatch) -> Block:
    return ledger_block([records("ledger", ledger(*batches))])


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
