"""What became of the applications of one partition, as the topics tell it."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from aiokafka import ConsumerRecord

from scoring.decision import Decision, microseconds
from scoring.pipeline import Pipeline
from scoring.poll import Headers, Poll
from sinks import ledger
from stream.contracts.codec import decision_records
from tests.faults.verdicts import Promise, Verdict

EventKey = tuple[str, str]
"""An event's source and its `event_id`."""


class _Event(msgspec.Struct):
    event_id: str


@dataclass(frozen=True, slots=True)
class New:
    """What a look found new in a partition: decisions by id, the offsets of what was parked."""

    events: Counter[EventKey | None]
    decided: dict[str, bytes]
    parked: set[int]


class CheckedPartition:
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

    def check(self, verdict: Verdict, pipelines: Sequence[Pipeline]) -> New:
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
        return New(events, decided, parked)

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
