"""
What became of every application, found from outside: topics, ClickHouse, the producer's own log.

It knows nothing of the workers. Contents are computed anew, offline, from the applications' topic.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from scoring.decision import Decision, microseconds
from scoring.pipeline import Pipeline
from scoring.poll import Headers, Poll
from sinks import ledger
from stream.contracts.codec import decision_records
from stream.settings import KafkaSettings
from tests.e2e.installation import Asked

_READ_SECONDS = 120.0
_EXAMPLES = 3

EventKey = tuple[str, str]
"""An event's source and its `event_id`."""


class _Event(msgspec.Struct):
    event_id: str


@dataclass(slots=True)
class Verdict:
    """How many applications there were, what became of them and, by fault, the first examples."""

    applications: int = 0
    decided: int = 0
    parked: int = 0
    repeated: int = 0
    faults: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)

    def fault(self, name: str, example: object) -> None:
        """Count a fault; the first few are kept as examples."""
        self.counts[name] += 1
        if self.counts[name] <= _EXAMPLES:
            self.faults[name].append(str(example))

    def __str__(self) -> str:
        said = ", ".join(
            f"{getattr(self, each.name)} {each.name}" for each in fields(self) if each.type == "int"
        )
        return said + "".join(
            f"; {count} {name}, such as {', '.join(self.faults[name])}"
            for name, count in self.counts.items()
        )


class Checker:
    """
    Compares what stands on topics and in ClickHouse with what ought to.

    `pipelines` are all pairs of release and table that may have decided.
    """

    def __init__(self, kafka: KafkaSettings, store: Asked, pipelines: Sequence[Pipeline]) -> None:
        self._kafka = kafka
        self._store = store
        self._pipelines = pipelines

    def check(self, acknowledged: Mapping[EventKey | None, int]) -> Verdict:
        """
        Check all partitions.

        `acknowledged` is the producer's log: how often each event was acknowledged; by None those
        that have no readable id.
        """
        verdict = Verdict()
        seen: Counter[EventKey | None] = Counter()
        on_topic: dict[str, bytes] = {}
        parked: set[tuple[int, int]] = set()
        for number in range(self._kafka.partitions):
            kafka = self._kafka
            names = (kafka.applications, kafka.decisions, kafka.parked, kafka.ledger)
            records = asyncio.run(read(kafka.bootstrap_servers, names, number))
            part = _Partition(number, *records)
            part.check(verdict, self._pipelines)
            seen += part.events
            on_topic |= part.decided
            parked |= {(number, offset) for offset in part.parked}
        for event, times in acknowledged.items():
            if seen[event] < times:
                verdict.fault("acknowledged but not on the topic", event)
        self._check_decisions_in_store(verdict, on_topic)
        self._check_parked_in_store(verdict, parked)
        return verdict

    def _check_decisions_in_store(self, verdict: Verdict, on_topic: Mapping[str, bytes]) -> None:
        shown = self._rows("SELECT * EXCEPT (reasons), toString(decision_id) AS id FROM decisions")
        times: Counter[str] = Counter()
        for row in shown:
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
        if final["n"] != len(on_topic):
            verdict.fault("FINAL has another number than the topic", final["n"])

    def _check_parked_in_store(self, verdict: Verdict, parked: set[tuple[int, int]]) -> None:
        in_store = Counter(
            (row["origin_partition"], row["origin_offset"])
            for row in self._rows("SELECT * FROM parked WHERE stage != 'sink'")
        )
        for place in parked ^ set(in_store):
            verdict.fault("parked on the topic alone, or in ClickHouse alone", place)
        for place, count in in_store.items():
            if count > 1:
                verdict.fault("parked twice in ClickHouse's view", place)

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._store.query(sql).to_pylist()
        return found


class _Partition:
    """One partition of the applications, and the same one of the topics of what became of them."""

    def __init__(
        self,
        number: int,
        applications: list[ConsumerRecord],
        decisions: list[ConsumerRecord],
        parked: list[ConsumerRecord],
        ledgers: list[ConsumerRecord],
    ) -> None:
        self._number = number
        self._applications = {record.offset: record for record in applications}
        self._decisions = [msgspec.json.decode(record.value, type=Decision) for record in decisions]
        self._records = decisions
        self._ledger = [
            UUID(bytes=identity)
            for record in ledgers
            for identity in ledger.decode(record.value).rows.column("decision_id").to_pylist()
        ]
        # What a sink parked was decided before.
        self.parked = [_origin_of(one) for one in parked if _header(one, "stage") != "sink"]
        self.decided = {
            decision.decision_id: record.value
            for decision, record in zip(self._decisions, decisions, strict=True)
        }
        self.events = Counter(event_key(record.value, record.headers) for record in applications)

    def check(self, verdict: Verdict, pipelines: Sequence[Pipeline]) -> None:
        """Check what the topics say of each application of the partition."""
        offsets = [decision.origin.offset for decision in self._decisions]
        self._check_ends(verdict, Counter(offsets), Counter(self.parked))
        ids = Counter(decision.decision_id for decision in self._decisions)
        for identity, times in ids.items():
            if times > 1:
                verdict.fault("twice on the decisions topic", f"{identity} x {times}")
        if offsets != sorted(offsets):
            verdict.fault("out of order", f"partition {self._number}")
        on_ledger = Counter(map(str, self._ledger))
        for identity in ids.keys() | on_ledger.keys():
            if ids[identity] != on_ledger[identity]:
                verdict.fault("decisions topic and ledger differ", identity)
        self._check_contents(verdict, pipelines)

    def _check_ends(self, verdict: Verdict, decided: Counter[int], parked: Counter[int]) -> None:
        first: dict[EventKey, bytes | None] = {}
        for offset, record in self._applications.items():
            verdict.applications += 1
            verdict.decided += decided[offset] > 0
            verdict.parked += parked[offset] > 0
            event = event_key(record.value, record.headers)
            ends = decided[offset] + parked[offset]
            if ends > 1:
                verdict.fault("decided or parked more than once", f"{self._number}/{offset}")
            if ends == 0:
                if event is not None and first.get(event, b"") == record.value:
                    verdict.repeated += 1
                else:
                    verdict.fault("missing", f"{self._number}/{offset}")
            elif decided[offset] and event is not None:
                first.setdefault(event, record.value)
        for offset in (decided | parked).keys() - self._applications.keys():
            verdict.fault("of no application", f"{self._number}/{offset}")

    def _check_contents(self, verdict: Verdict, pipelines: Sequence[Pipeline]) -> None:
        """Decide anew what was decided together, and compare it byte for byte."""
        for start, end in _together(self._decisions):
            records = self._records[start:end]
            made = self._decisions[start:end]
            poll = self._poll([decision.origin.offset for decision in made])
            at_us = microseconds(made[0].decided_at)
            found = [(record.key, record.value, tuple(record.headers)) for record in records]
            anew: list[Any] = []
            for pipeline in pipelines:
                if pipeline.release != made[0].release:
                    continue
                batch = pipeline.decide(poll, at_us).batch
                anew = [(key, value, tuple(h)) for key, value, h, _ in decision_records(batch)]
                if anew == found:
                    break
            else:
                differing = sum(a != b for a, b in zip(anew, found, strict=False))
                place = f"{self._number}/{made[0].origin.offset}"
                verdict.fault("other contents", f"{differing} of {len(made)} from {place}")

    def _poll(self, offsets: list[int]) -> Poll:
        records = [self._applications[offset] for offset in offsets]
        return Poll(
            topic=records[0].topic,
            partition=self._number,
            offsets=offsets,
            produced_at_ms=[record.timestamp for record in records],
            keys=[record.key for record in records],
            values=[record.value for record in records],
            headers=[record.headers for record in records],
        )


def event_key(value: bytes | None, headers: Headers) -> EventKey | None:
    """Name an application's event; None where it has no id that can be read."""
    try:
        event = msgspec.json.decode(value or b"", type=_Event)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    source = dict(headers).get("ce_source") or b""
    return source.decode(), event.event_id


async def read(servers: str, topics: Sequence[str], partition: int) -> list[list[ConsumerRecord]]:
    """Read one partition of topics from beginning to end, committed records only."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, isolation_level="read_committed", enable_auto_commit=False
    )
    asked = [TopicPartition(topic, partition) for topic in topics]
    found: dict[TopicPartition, list[ConsumerRecord]] = {tp: [] for tp in asked}
    async with asyncio.timeout(_READ_SECONDS), consumer:
        consumer.assign(asked)
        await consumer.seek_to_beginning(*asked)
        ends = await consumer.end_offsets(asked)
        waiting = {tp for tp in asked if ends[tp] > await consumer.position(tp)}
        while waiting:
            for tp, records in (await consumer.getmany(*waiting, timeout_ms=200)).items():
                found[tp] += records
            waiting = {tp for tp in waiting if await consumer.position(tp) < ends[tp]}
    return [found[tp] for tp in asked]


def _together(decisions: Sequence[Decision]) -> Iterator[tuple[int, int]]:
    """Give the ranges of decisions of one poll: of one release, at one time."""
    start = 0
    for at in range(1, len(decisions) + 1):
        if at == len(decisions) or _of_poll(decisions[at]) != _of_poll(decisions[start]):
            yield start, at
            start = at


def _of_poll(decision: Decision) -> tuple[object, str]:
    return decision.decided_at, decision.release


def _origin_of(record: ConsumerRecord) -> int:
    return int(_header(record, "origin").rpartition("/")[2])


def _header(record: ConsumerRecord, name: str) -> str:
    return str(dict(record.headers)[f"creditstream-{name}"].decode())


def _difference(decision: Decision, row: Mapping[str, Any]) -> str:
    """Say which of the columns that both have differ."""
    of_topic = {
        "event_id": decision.event_id,
        "application_id": decision.application_id,
        "applicant_id": decision.applicant_id,
        "submitted_at": decision.submitted_at,
        "decided_at": decision.decided_at,
        "outcome": decision.outcome,
        "default_probability": decision.default_probability,
        "score": decision.score,
        "risk_band": decision.risk_band,
        "feature_source": decision.feature_source,
        "release": decision.release,
        "origin_offset": decision.origin.offset,
        "origin_partition": decision.origin.partition,
    }
    return ", ".join(
        f"{name} {row[name]!r} for {value!r}"
        for name, value in of_topic.items()
        if row[name] != value
    )
