"""
What became of every application, found from outside: topics, ClickHouse, the producer's own log.

It knows nothing of the workers. Contents are computed anew, offline, from the applications' topic.
"""

import asyncio
import copy
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple
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


class _Event(msgspec.Struct):
    event_id: str


class Promise(NamedTuple):
    """
    What a way of delivery promises beside that nothing is missing.

    `once`: decision, ledger row and parked event stand once each on their topics. Without it they
    may stand again, but only as they were, byte for byte.
    """

    once: bool


EXACTLY_ONCE = Promise(once=True)
AT_LEAST_ONCE = Promise(once=False)


@dataclass(slots=True)
class Verdict:
    """
    How many applications there were, what became of them and, by fault, the first examples.

    `repeated` were sent again and so not decided again; `again` counts what stands on a topic once
    more.
    """

    applications: int = 0
    decided: int = 0
    parked: int = 0
    repeated: int = 0
    again: int = 0
    faults: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)

    def fault(self, name: str, example: object) -> None:
        """Count a fault; the first few are kept as examples."""
        self.counts[name] += 1
        if self.counts[name] <= _EXAMPLES:
            self.faults[name].append(str(example))

    def __str__(self) -> str:
        said = ", ".join(
            f"{getattr(self, each.name)} {each.name}" for each in fields(self) if each.type is int
        )
        return said + "".join(
            f"; {count} {name}, such as {', '.join(self.faults[name])}"
            for name, count in self.counts.items()
        )


class Checker:
    """
    Compares what stands on topics and in ClickHouse with what ought to.

    `pipelines` are all pairs of release and table that may have decided. Each look reads what is
    new since the one before and holds it against all there was; of what it has seen it keeps ids,
    places and digests. What was right at an earlier look must be in ClickHouse as it was then, by
    number and sum of hashes, and topics must not have become shorter. Whether they still hold what
    they held, a checker tells that looks for the first time.
    """

    def __init__(
        self, kafka: KafkaSettings, store: Asked, pipelines: Sequence[Pipeline], promise: Promise
    ) -> None:
        self._kafka = kafka
        self._store = store
        self._pipelines = pipelines
        self._promise = promise
        self._partitions: dict[int, _Partition] = {}
        self._events: Counter[EventKey | None] = Counter()
        self._positions: dict[TopicPartition, int] = {}
        self._seen: dict[str, tuple[str, dict[str, Any]]] = {}
        self._verdict = Verdict()

    @property
    def decided(self) -> int:
        """How many applications have a decision on the topic that was read."""
        return sum(part.decided for part in self._partitions.values())

    @property
    def parked(self) -> int:
        """How many applications are parked, on the topic that was read."""
        return sum(part.parked for part in self._partitions.values())

    def read(self, partitions: int) -> None:
        """Read what is new on the topics, which have so many partitions."""
        kafka = self._kafka
        names = (kafka.applications, kafka.decisions, kafka.parked, kafka.ledger)
        asked = [TopicPartition(name, number) for number in range(partitions) for name in names]
        found = asyncio.run(read(kafka.bootstrap_servers, asked, self._positions, self._verdict))
        for number in range(partitions):
            part = self._partitions.setdefault(number, _Partition(number, self._promise))
            part.take_in(*(found[TopicPartition(name, number)] for name in names))

    def check(self, acknowledged: Mapping[EventKey | None, int]) -> Verdict:
        """
        Check what was read since the last time; give the verdict over all there was.

        `acknowledged` is the producer's log: how often each event was acknowledged; by None those
        that have no readable id. What was read must be in ClickHouse.
        """
        verdict = self._verdict
        decided: dict[str, bytes] = {}
        parked: set[tuple[int, int]] = set()
        for part in self._partitions.values():
            found = part.check(verdict, self._pipelines)
            self._events += found.events
            decided |= found.decided
            parked |= {(part.number, offset) for offset in found.parked}
        for event, times in acknowledged.items():
            if self._events[event] < times:
                verdict.fault("acknowledged but not on the topic", event)
        self._check_decisions_in_store(verdict, decided)
        self._check_parked_in_store(verdict, parked)
        for what in (_DECISIONS, _PARKED):
            self._remember(what)
        return copy.deepcopy(verdict)

    def _check_decisions_in_store(self, verdict: Verdict, on_topic: Mapping[str, bytes]) -> None:
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
        if final["n"] != self.decided:
            verdict.fault("FINAL has another number than the topic", final["n"])

    def _check_parked_in_store(self, verdict: Verdict, parked: set[tuple[int, int]]) -> None:
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

    def _remember(self, what: str) -> None:
        ends = [part.next_offset for part in self._partitions.values()]
        numbers = list(self._partitions)
        condition = f"origin_offset < transform(origin_partition, {numbers}, {ends}, 0)"
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


@dataclass(frozen=True, slots=True)
class _New:
    """What a look found new in a partition: decisions by id, the offsets of what was parked."""

    events: Counter[EventKey | None]
    decided: dict[str, bytes]
    parked: set[int]


class _Partition:
    """One partition of the applications, and the same one of the topics of what became of them."""

    def __init__(self, number: int, promise: Promise) -> None:
        self.number = number
        self.next_offset = 0
        self._promise = promise
        # By offset of the application, a digest of what became of it.
        self._decided: dict[int, bytes] = {}
        self._parked: dict[int, bytes] = {}
        self._offsets: dict[str, int] = {}
        self._on_ledger: dict[str, bytes] = {}
        self._first: dict[EventKey, bytes] = {}
        self._last_decided = -1
        self._applications: dict[int, ConsumerRecord] = {}
        self._new_decisions: list[tuple[Decision, ConsumerRecord]] = []
        self._new_parked: list[tuple[int, ConsumerRecord]] = []
        self._new_rows: list[tuple[str, bytes]] = []

    @property
    def decided(self) -> int:
        """How many applications have a decision that was read."""
        return len(self._decided.keys() | {one.origin.offset for one, _ in self._new_decisions})

    @property
    def parked(self) -> int:
        """How many applications have a parked event that was read."""
        return len(self._parked.keys() | {offset for offset, _ in self._new_parked})

    def take_in(
        self,
        applications: Sequence[ConsumerRecord],
        decisions: Sequence[ConsumerRecord],
        parked: Sequence[ConsumerRecord],
        ledgers: Sequence[ConsumerRecord],
    ) -> None:
        """Take in what was read."""
        self._applications |= {record.offset: record for record in applications}
        decode = msgspec.json.decode
        self._new_decisions += [(decode(one.value, type=Decision), one) for one in decisions]
        # What a sink parked was decided before.
        self._new_parked += [
            (_origin_of(one), one) for one in parked if _header(one, "stage") != "sink"
        ]
        for record in ledgers:
            self._new_rows += _rows_of(record, whole=not self._promise.once)

    def check(self, verdict: Verdict, pipelines: Sequence[Pipeline]) -> _New:
        """Check what the topics say of each application of the partition, and be done with it."""
        decisions = [
            self._new_decisions[at]
            for at in self._firsts(
                verdict,
                self._decided,
                [(one.origin.offset, _digest(record.value)) for one, record in self._new_decisions],
            )
        ]
        parked = {
            self._new_parked[at][0]
            for at in self._firsts(
                verdict,
                self._parked,
                [(offset, _parked_digest(record)) for offset, record in self._new_parked],
            )
        }
        for decision, _ in decisions:
            identity, offset = decision.decision_id, decision.origin.offset
            if identity in self._offsets:
                places = f"{identity}, for {self._offsets[identity]} and {offset}"
                verdict.fault("twice on the decisions topic", places)
            if offset <= self._last_decided:
                verdict.fault("out of order", f"{self.number}/{offset}")
            self._last_decided = offset
            self._offsets[identity] = offset
        offsets = {decision.origin.offset for decision, _ in decisions}
        for offset in (offsets | parked) - self._applications.keys():
            verdict.fault("of no application, or of one long done", f"{self.number}/{offset}")
        decided = {decision.decision_id: record.value for decision, record in decisions}
        self._check_ledger(verdict, decided.keys())
        events = self._check_ends(verdict)
        self._check_contents(verdict, decisions, pipelines)
        self.next_offset = max([self.next_offset - 1, *self._applications]) + 1
        self._applications.clear()
        self._new_decisions.clear()
        self._new_parked.clear()
        self._new_rows.clear()
        return _New(events, decided, parked)

    def _firsts(
        self, verdict: Verdict, known: dict[int, bytes], ends: Sequence[tuple[int, bytes]]
    ) -> list[int]:
        """Give which of some ends are their applications' first of the kind; note them as known."""
        firsts = []
        for at, (offset, digest) in enumerate(ends):
            if offset not in known:
                known[offset] = digest
                firsts.append(at)
                continue
            verdict.again += 1
            if self._promise.once:
                verdict.fault("decided or parked more than once", f"{self.number}/{offset}")
            elif digest != known[offset]:
                verdict.fault("again, and not as it was", f"{self.number}/{offset}")
        return firsts

    def _check_ledger(self, verdict: Verdict, decided: AbstractSet[str]) -> None:
        added = set()
        for identity, row in self._new_rows:
            if identity not in self._on_ledger:
                self._on_ledger[identity] = row
                added.add(identity)
                continue
            verdict.again += 1
            if self._promise.once:
                verdict.fault("twice on the ledger", identity)
            elif row != self._on_ledger[identity]:
                verdict.fault("again on the ledger, and not as it was", identity)
        for identity in added ^ decided:
            verdict.fault("decisions topic and ledger differ", identity)

    def _check_ends(self, verdict: Verdict) -> Counter[EventKey | None]:
        events: Counter[EventKey | None] = Counter()
        for offset, record in self._applications.items():
            decided, parked = offset in self._decided, offset in self._parked
            verdict.applications += 1
            verdict.decided += decided
            verdict.parked += parked
            event = event_key(record.value, record.headers)
            events[event] += 1
            digest = _digest(record.value or b"")
            if decided and parked:
                verdict.fault("decided and parked", f"{self.number}/{offset}")
            if decided and event is not None:
                self._first.setdefault(event, digest)
            if not (decided or parked):
                if event is not None and self._first.get(event) == digest:
                    verdict.repeated += 1
                else:
                    verdict.fault("missing", f"{self.number}/{offset}")
        return events

    def _check_contents(
        self,
        verdict: Verdict,
        made: Sequence[tuple[Decision, ConsumerRecord]],
        pipelines: Sequence[Pipeline],
    ) -> None:
        """Decide anew what was decided together, and compare it byte for byte."""
        for start, end in _together([decision for decision, _ in made]):
            decisions, records = zip(*made[start:end], strict=True)
            offsets = [decision.origin.offset for decision in decisions]
            if not self._applications.keys() >= set(offsets):
                continue  # said already
            poll = self._poll(offsets)
            at_us = microseconds(decisions[0].decided_at)
            found = [(record.key, record.value, tuple(record.headers)) for record in records]
            anew: list[Any] = []
            for pipeline in pipelines:
                if pipeline.release != decisions[0].release:
                    continue
                batch = pipeline.decide(poll, at_us).batch
                anew = [(key, value, tuple(h)) for key, value, h, _ in decision_records(batch)]
                if anew == found:
                    break
            else:
                differing = sum(a != b for a, b in zip(anew, found, strict=False))
                place = f"{self.number}/{offsets[0]}"
                verdict.fault("other contents", f"{differing} of {len(offsets)} from {place}")

    def _poll(self, offsets: list[int]) -> Poll:
        records = [self._applications[offset] for offset in offsets]
        return Poll(
            topic=records[0].topic,
            partition=self.number,
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


async def read(
    servers: str,
    asked: Sequence[TopicPartition],
    positions: dict[TopicPartition, int],
    verdict: Verdict,
) -> dict[TopicPartition, list[ConsumerRecord]]:
    """Read partitions from the positions to their ends, committed records only; move those on."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, isolation_level="read_committed", enable_auto_commit=False
    )
    found: dict[TopicPartition, list[ConsumerRecord]] = {tp: [] for tp in asked}
    async with asyncio.timeout(_READ_SECONDS), consumer:
        consumer.assign(list(asked))
        ends = await consumer.end_offsets(asked)
        for tp in asked:
            if ends[tp] < positions.setdefault(tp, 0):
                verdict.fault("a topic has become shorter", f"{tp.topic}/{tp.partition}")
            consumer.seek(tp, positions[tp])
        waiting = {tp for tp in asked if ends[tp] > positions[tp]}
        while waiting:
            for tp, records in (await consumer.getmany(*waiting, timeout_ms=200)).items():
                found[tp] += records
            waiting = {tp for tp in waiting if await consumer.position(tp) < ends[tp]}
        for tp in asked:
            positions[tp] = await consumer.position(tp)
    return found


def _together(decisions: Sequence[Decision]) -> Iterator[tuple[int, int]]:
    """Give the ranges of decisions of one poll: of one release, at one time."""
    start = 0
    for at in range(1, len(decisions) + 1):
        if at == len(decisions) or _of_poll(decisions[at]) != _of_poll(decisions[start]):
            yield start, at
            start = at


def _of_poll(decision: Decision) -> tuple[object, str]:
    return decision.decided_at, decision.release


def _rows_of(record: ConsumerRecord, *, whole: bool) -> Iterator[tuple[str, bytes]]:
    """Give the ids of a ledger message's rows and, where it is asked for, a digest of each."""
    rows = ledger.decode(record.value).rows
    ids = [str(UUID(bytes=identity)) for identity in rows.column("decision_id").to_pylist()]
    if not whole:
        yield from ((identity, b"") for identity in ids)
        return
    for identity, row in zip(ids, rows.to_pylist(), strict=True):
        yield identity, _digest(repr(row).encode())


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()


def _parked_digest(record: ConsumerRecord) -> bytes:
    return _digest(repr((record.key, record.value, record.headers)).encode())


def _origin_of(record: ConsumerRecord) -> int:
    return int(_header(record, "origin").rpartition("/")[2])


def _header(record: ConsumerRecord, name: str) -> str:
    return str(dict(record.headers)[f"creditstream-{name}"].decode())


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
