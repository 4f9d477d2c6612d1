"""The topics as they stand at one moment, and their records as columns of numbers."""

import asyncio
import struct
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, Self
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa
from aiokafka import TopicPartition

from scoring.decision import Decision, Origin, microseconds
from sinks.checksum import Hashes, LedgerHashes, answer_hash, parked_hash
from sinks.ledger import LedgerDamaged
from sinks.ledger import decode as decode_ledger
from sinks.parked import ParkedDamaged, ParkedEvent, parse
from stream.contracts.codec import EVENT_DIGEST
from stream.kafka.connection import KafkaUnavailable, connection_of
from stream.kafka.groups import committed_offsets
from stream.reconcile.accounts import HOUR_MS, Decisions, Integers, LedgerRows, Span
from stream.settings import KafkaSettings

_AT_ONCE = 2_000
_WAIT_MS = 100
_UNREADABLE = (ValueError, OverflowError, struct.error)
_STILL_SECONDS = 45.0
"""Without a record for so long, a topic is given up: a transaction is open for 15 s at most."""
_EARLIER_MS = HOUR_MS
"""How far a worker's clock may be behind those that stamped the applications."""


@dataclass(frozen=True, slots=True)
class Period:
    """From a time to before another, both aware; None is the beginning, or now."""

    since: datetime | None
    until: datetime | None


class Stretch(NamedTuple):
    """
    What is read of a partition, from `start` to before `end`.

    `lost` says whether what stood before it may be of the period, and is not kept.
    """

    start: int
    end: int
    lost: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    One partition: the span of its applications, and what is to be read of each topic.

    `log_end` is where the applications end, after all that is answered; `notes` say what cannot be
    judged, and why, on the topics and in ClickHouse.
    """

    topic: str
    partition: int
    span: Span
    log_end: int
    applications: Stretch
    decisions: Stretch
    ledger: Stretch
    parked: Stretch
    notes: Sequence[str]
    notes_of_store: Sequence[str]


class Stranger(NamedTuple):
    """A record of an output topic that answers no application."""

    topic: str
    partition: int
    offset: int
    decision_id: str
    why: str


class _Made(msgspec.Struct):
    decision_id: str
    origin: Origin


class Topics:
    """Reads committed records without a group, so that nobody's offsets move."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._connection = connection_of(kafka)
        options = {"enable_auto_commit": False, "auto_offset_reset": "earliest"}
        self._reader = self._connection.consumer(isolation_level="read_committed", **options)
        # To see how far topics go, with what is not yet committed.
        self._looker = self._connection.consumer(isolation_level="read_uncommitted", **options)

    async def __aenter__(self) -> Self:
        async with self._connection.errors_named():
            try:
                await self._reader.start()
                await self._looker.start()
            except BaseException:
                await self.__aexit__()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._reader.stop()
        await self._looker.stop()

    async def snapshots(
        self, period: Period, partitions: Collection[int], *, by_time: bool
    ) -> list[Snapshot]:
        """
        See where each partition begins and ends, and what has been done of it.

        Groups are asked first and ends after them, so that all that groups have done is before the
        ends. Without `by_time`, as the broker knows no times, all that is kept is read.
        """
        kafka, prefix = self._kafka, self._kafka.group_prefix
        of = {
            topic: [TopicPartition(topic, number) for number in sorted(partitions)]
            for topic in (kafka.applications, kafka.decisions, kafka.ledger, kafka.parked)
        }
        every = [tp for several in of.values() for tp in several]
        outputs = [tp for tp in every if tp.topic != kafka.applications]
        inserted = await self._committed(f"{prefix}-sink", [*of[kafka.ledger], *of[kafka.parked]])
        decided = await self._committed(f"{prefix}-scoring", of[kafka.applications])
        self._looker.assign(every)
        self._reader.assign(every)
        ends = await self._looker.end_offsets(outputs)
        ends |= await self._reader.end_offsets(of[kafka.applications])
        begins = await self._looker.beginning_offsets(every)
        since, until = (
            None if at is None or not by_time else max(0, microseconds(at) // 1000)
            for at in (period.since, period.until)
        )
        # Of outputs earlier, by what clocks may differ.
        sinces = {tp: since and max(0, since - _EARLIER_MS * (tp in outputs)) for tp in every}
        starts = await self._at_times(sinces, begins, ends)
        untils = dict.fromkeys(of[kafka.applications], until)
        stops = ends | await self._at_times(untils, ends, ends)
        stretches = {}
        for tp, start in starts.items():
            # And a window of decisions earlier, each with the marker of a transaction beside it.
            earlier = max(begins[tp], start - 2 * kafka.resend_window * (tp in outputs))
            lost = start == begins[tp] > 0
            stretches[tp] = Stretch(earlier, max(earlier, stops[tp]), lost)
        return [
            await self._snapshot(number, stretches, ends, decided, inserted)
            for number in sorted(partitions)
        ]

    async def _committed(
        self, group: str, asked: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        found = await committed_offsets(self._connection, group, asked)
        return {tp: at.offset for tp, at in found.items()}

    async def _at_times(
        self,
        times_ms: Mapping[TopicPartition, int | None],
        otherwise: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, int]:
        """Look up where times begin, but not beyond the ends; `otherwise` where it is None."""
        asked = {tp: at_ms for tp, at_ms in times_ms.items() if at_ms is not None}
        found = await self._looker.offsets_for_times(asked) if asked else {}
        offsets = {tp: otherwise[tp] for tp in times_ms}
        for tp, at in found.items():
            offsets[tp] = ends[tp] if at is None else min(at.offset, ends[tp])
        return offsets

    async def _snapshot(
        self,
        number: int,
        stretches: Mapping[TopicPartition, Stretch],
        ends: Mapping[TopicPartition, int],
        decided: Mapping[TopicPartition, int],
        inserted: Mapping[TopicPartition, int],
    ) -> Snapshot:
        kafka = self._kafka
        tps = [
            TopicPartition(topic, number)
            for topic in (kafka.applications, kafka.decisions, kafka.ledger, kafka.parked)
        ]
        at_applications, at_decisions, at_ledger, at_parked = (stretches[tp] for tp in tps)
        applications, *outputs = tps
        first, end = at_applications.start, at_applications.end
        settled = decided[applications]
        notes, notes_of_store = [], []
        if at_applications.lost:
            notes.append(f"{applications.topic} keeps nothing before offset {first}")
        kept_from = dict.fromkeys(outputs, first)
        for tp in outputs:
            if stretches[tp].lost:
                origin = await self._origin_at(tp, stretches[tp].start, ends[tp])
                kept_from[tp] = min(end, max(first, settled if origin is None else origin))
                if kept_from[tp] > first:
                    notes.append(f"{tp.topic} keeps no answers before offset {kept_from[tp]}")
        of_decisions, of_ledger, of_parked = outputs
        limits = []
        for tp in (of_ledger, of_parked):
            waiting = await self._origin_at(tp, max(inserted[tp], stretches[tp].start), ends[tp])
            limit = min(end, settled, end if waiting is None else max(first, waiting))
            limits.append(limit)
            if limit < min(end, settled):
                notes_of_store.append(
                    f"ClickHouse has {tp.topic} up to offset {limit}; its sink is behind"
                )
        span = Span(
            first=first,
            end=end,
            settled=settled,
            judged_from=max(kept_from[of_decisions], kept_from[of_ledger]),
            parked_from=kept_from[of_parked],
            stored=limits[0],
            stored_parked=limits[1],
        )
        return Snapshot(
            topic=applications.topic,
            partition=number,
            span=span,
            log_end=ends[applications],
            applications=at_applications,
            decisions=at_decisions,
            ledger=at_ledger,
            parked=at_parked,
            notes=[f"partition {number}: {note}" for note in notes],
            notes_of_store=[f"partition {number}: {note}" for note in notes_of_store],
        )

    async def _origin_at(self, tp: TopicPartition, offset: int, end: int) -> int | None:
        """Give where the application of the first answer from an offset on stood; None: no more."""
        async for records in self.records(tp, offset, end, at_once=1):
            for record in records:
                origins = origins_of(self._kafka, record)
                if origins:
                    return min(origins)
        return None

    async def records(
        self, tp: TopicPartition, start: int, end: int, *, at_once: int = _AT_ONCE
    ) -> AsyncIterator[list[Any]]:
        """Read from an offset to before another; raises KafkaUnavailable where nothing comes."""
        if start >= end:
            return
        self._reader.assign([tp])
        self._reader.seek(tp, start)
        loop = asyncio.get_running_loop()
        moved_at, position = loop.time(), start
        while position < end:
            polled = await self._reader.getmany(tp, timeout_ms=_WAIT_MS, max_records=at_once)
            if records := [one for one in polled.get(tp, ()) if one.offset < end]:
                yield records
            before, position = position, await self._reader.position(tp)
            if position > before:
                moved_at = loop.time()
            elif loop.time() - moved_at > _STILL_SECONDS:
                msg = f"{tp.topic}/{tp.partition} gives nothing from offset {position} on"
                raise KafkaUnavailable(msg)


def origins_of(kafka: KafkaSettings, record: Any) -> list[int]:
    """Give where the applications stood that a record of an output topic answers, if any."""
    places: Iterable[tuple[str, int]] = ()
    with suppress(LedgerDamaged, ParkedDamaged, *_UNREADABLE):
        if record.topic == kafka.ledger:
            rows = decode_ledger(record.value or b"").rows
            columns = (rows.column(f"origin_{name}").to_pylist() for name in ("topic", "offset"))
            places = zip(*columns, strict=True)
        elif record.topic == kafka.parked:
            event = parse(record.key, record.value, record.headers)
            # What a sink parked was decided, or never was an application.
            places = [(event.topic, event.offset)] if event.stage != "sink" else []
        else:
            origin = msgspec.json.decode(record.value or b"", type=_Made).origin
            places = [(origin.topic, origin.offset)]
    return [offset for topic, offset in places if topic == kafka.applications]


class DecisionColumns(NamedTuple):
    """Decisions of an applications' partition, their ids, and what is none of them."""

    columns: Decisions
    ids: list[bytes]
    digests: list[bytes]
    strangers: list[Stranger]


def decision_columns(records: Sequence[Any], snapshot: Snapshot) -> DecisionColumns:
    """
    Turn records of the decisions' topic into columns.

    Answers are hashed only of applications of the snapshot's span.
    """
    decode = msgspec.json.Decoder(Decision).decode
    span = snapshot.span
    offsets, answers, made_us, ids, digests = [], [], [], [], []
    strangers = []
    for record in records:
        try:
            decision = decode(record.value or b"")
            origin = decision.origin
            answer = answer_hash(decision) if span.first <= origin.offset < span.end else 0
            identity = bytes.fromhex(decision.decision_id.replace("-", ""))
        except _UNREADABLE as error:
            strangers.append(_stranger(record, f"not a decision: {error}"))
            continue
        if why := _not_of(snapshot, origin.topic, origin.partition, origin.offset):
            strangers.append(_stranger(record, why, decision.decision_id))
            continue
        offsets.append(origin.offset)
        answers.append(answer)
        made_us.append(microseconds(decision.decided_at))
        ids.append(identity)
        digests.append(_digest(record.headers))
    columns = Decisions(
        np.array(offsets, np.int64),
        np.array(answers, np.uint64),
        np.array(made_us, np.int64),
        hashes_of(digests),
    )
    return DecisionColumns(columns, ids, digests, strangers)


def ledger_columns(record: Any, snapshot: Snapshot) -> tuple[LedgerRows | None, list[Stranger]]:
    """Turn a record of the ledger's topic into columns; None where it has no row of the span."""
    try:
        batch = decode_ledger(record.value or b"")
    except LedgerDamaged as damaged:
        return None, [_stranger(record, str(damaged))]
    rows = batch.rows
    names = ("origin_topic", "origin_partition", "origin_offset", "decision_id")
    origins = zip(*(rows.column(name).to_pylist() for name in names), strict=True)
    strangers = []
    good = []
    for topic, partition, offset, identity in origins:
        why = _not_of(snapshot, topic, partition, offset)
        good.append(not why)
        if why:
            strangers.append(_stranger(record, why, str(UUID(bytes=identity))))
    if strangers:
        rows = rows.filter(pa.array(good))
        batch = replace(batch, rows=rows)
    offsets: Integers = rows.column("origin_offset").to_numpy()
    if not ((offsets >= snapshot.span.first) & (offsets < snapshot.span.end)).any():
        return None, strangers
    hashes = LedgerHashes(batch)
    times = (rows.column(name).cast("int64").to_numpy() for name in ("decided_at", "produced_at"))
    decided_us, produced_ms = times
    hours = produced_ms // HOUR_MS
    return LedgerRows(offsets, hashes.answers, decided_us, hashes.rows, hours), strangers


class ParkedColumns(NamedTuple):
    """Parked events of an applications' partition, and what is none of them."""

    offsets: Integers
    hashes: Hashes
    hours: Integers
    strangers: list[Stranger]


def parked_columns(records: Sequence[Any], snapshot: Snapshot) -> ParkedColumns:
    """Turn records of the parked topic into columns."""
    events: list[ParkedEvent] = []
    strangers = []
    for record in records:
        try:
            event = parse(record.key, record.value, record.headers)
        except ParkedDamaged as damaged:
            strangers.append(_stranger(record, str(damaged)))
            continue
        if event.stage == "sink":
            continue  # it was decided, or is of another topic
        if why := _not_of(snapshot, event.topic, event.partition, event.offset):
            strangers.append(_stranger(record, why))
        else:
            events.append(event)
    return ParkedColumns(
        np.array([event.offset for event in events], np.int64),
        np.array([parked_hash(event) for event in events], np.uint64),
        np.array([event.produced_at_ms // HOUR_MS for event in events], np.int64),
        strangers,
    )


def _not_of(snapshot: Snapshot, topic: str, partition: int, offset: int) -> str:
    """Say why what answers that place answers no application of the partition, if so."""
    if (topic, partition) != (snapshot.topic, snapshot.partition):
        return f"answers {topic}/{partition}/{offset}"
    if not 0 <= offset < snapshot.log_end:
        end = f"{topic}/{partition} ends at {snapshot.log_end}"
        return f"answers {topic}/{partition}/{offset}, and {end}"
    return ""


def _stranger(record: Any, why: str, decision_id: str = "") -> Stranger:
    return Stranger(record.topic, record.partition, record.offset, decision_id, why)


def hashes_of(digests: Sequence[bytes]) -> Hashes:
    """Turn digests of eight bytes into numbers, 0 where one is not known."""
    return np.frombuffer(b"".join(digest or bytes(8) for digest in digests), "<u8")


def _digest(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    with suppress(ValueError):
        for name, value in headers:
            if name == EVENT_DIGEST:
                digest = bytes.fromhex((value or b"").decode())
                return digest if len(digest) == 8 else b""
    return b""


def made_of(record: Any) -> tuple[bytes, int, bytes] | None:
    """Give a decision's id, where its application stood, and the event's digest."""
    with suppress(*_UNREADABLE):
        made = msgspec.json.decode(record.value or b"", type=_Made)
        identity = bytes.fromhex(made.decision_id.replace("-", ""))
        return identity, made.origin.offset, _digest(record.headers)
    return None
