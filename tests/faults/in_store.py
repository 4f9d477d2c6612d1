"""What ClickHouse shows, held against what the topics told."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from scoring.decision import Decision
from tests.e2e.installation import Asked
from tests.faults.verdicts import Verdict

# Of ClickHouse's view, what a decision on its topic has, too.
_COLUMNS = (
    "event_id",
    "application_id",
    "applicant_id",
    "submitted_at",
    "decided_at",
    "outcome",
    "default_probability",
    "score",
    "risk_band",
    "feature_source",
    "release",
    "origin_partition",
    "origin_offset",
)
_DECISIONS = f"decisions|toString(decision_id) AS id, {', '.join(_COLUMNS)}"
_PARKED = "parked WHERE stage != 'sink'|origin_partition, origin_offset, code, path, value_bytes"


class StoreLooks:
    """
    Looks at ClickHouse's views, each time at what is new.

    What was right at an earlier look must be there as it was then, by number and sum of hashes.
    """

    def __init__(self, store: Asked) -> None:
        self._store = store
        self._seen: dict[str, tuple[str, dict[str, Any]]] = {}

    def check_decisions(
        self, verdict: Verdict, on_topic: Mapping[str, bytes], all_told: int
    ) -> None:
        """Hold new decisions of the topic, by id, against the view; there are so many in all."""
        times: Counter[str] = Counter()
        for row in self._new_rows(verdict, _DECISIONS):
            times[row["id"]] += 1
            value = on_topic.get(row["id"])
            if value is None:
                verdict.fault("only in ClickHouse", row["id"])
            elif difference := _difference(msgspec.json.decode(value, type=Decision), row):
                verdict.fault("differs in ClickHouse", f"{row['id']}: {difference}")
        for identity in on_topic:
            if times[identity] != 1:
                name = "not in ClickHouse" if not times[identity] else "twice in ClickHouse's view"
                verdict.fault(name, identity)
        (final,) = self._rows("SELECT count() AS n FROM decision_ledger FINAL")
        if final["n"] != all_told:
            verdict.fault("FINAL has another number than the topic", final["n"])

    def check_parked(self, verdict: Verdict, parked: set[tuple[int, int]]) -> None:
        """Hold what is new on the parked topic, by partition and offset, against the view."""
        in_store = Counter(
            (row["origin_partition"], row["origin_offset"])
            for row in self._new_rows(verdict, _PARKED)
        )
        for place in parked ^ set(in_store):
            verdict.fault("parked on the topic alone, or in ClickHouse alone", place)
        for place, count in in_store.items():
            if count > 1:
                verdict.fault("parked twice in ClickHouse's view", place)

    def _new_rows(self, verdict: Verdict, what: str) -> list[dict[str, Any]]:
        """Give a view's rows that no earlier look has seen; those must be as they were."""
        condition, before = self._seen.get(what, ("", {}))
        view, columns = what.split("|")
        if not condition:
            return self._rows(f"SELECT {columns} FROM {view}")
        if (now := self._sum(what, condition)) != before:
            verdict.fault("changed in ClickHouse since it was looked at", f"{before} to {now}")
        joined = "AND" if "WHERE" in view else "WHERE"
        return self._rows(f"SELECT {columns} FROM {view} {joined} NOT ({condition})")

    def remember(self, ends: Mapping[int, int]) -> None:
        """Take what is there of each partition's applications before an offset for looked at."""
        numbers, offsets = list(ends), list(ends.values())
        condition = f"origin_offset < transform(origin_partition, {numbers}, {offsets}, 0)"
        for what in (_DECISIONS, _PARKED):
            self._seen[what] = condition, self._sum(what, condition)

    def _sum(self, what: str, condition: str) -> dict[str, Any]:
        view, columns = what.split("|")
        joined = "AND" if "WHERE" in view else "WHERE"
        (found,) = self._rows(
            "SELECT count() AS rows, sum(cityHash64(*)) AS hashes"
            f" FROM (SELECT {columns} FROM {view} {joined} {condition})"
        )
        return found

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._store.query(sql).to_pylist()
        return found


def _difference(decision: Decision, row: Mapping[str, Any]) -> str:
    """Say which of the columns that both have differ."""
    of_topic = {
        "origin_offset": decision.origin.offset,
        "origin_partition": decision.origin.partition,
    }
    of_topic |= {name: getattr(decision, name) for name in _COLUMNS if name not in of_topic}
    return ", ".join(
        f"{name} {row[name]!r} for {value!r}"
        for name, value in of_topic.items()
        if row[name] != value
    )
