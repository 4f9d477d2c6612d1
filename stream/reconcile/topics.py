"""The topics as they stand at one moment, and their records as columns of numbers."""

import asyncio
import struct
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from scoring.decision import Decision, Origin
from sinks.checksum import LedgerHashes, answer_hash, microseconds, parked_hash
from sinks.ledger import LedgerDamaged
from sinks.ledger import decode as decode_ledger
from sinks.parked import ParkedDamaged, ParkedEvent, parse
from stream.codec import EVENT_DIGEST
from stream.groups import committed_offsets
from stream.reconcile.accounts import HOUR_MS, Decisions, Integers, LedgerRows, Span
from stream.settings import KafkaSettings
from stream.topics import KafkaUnavailable, naming_the_broker

_AT_ONCE = 2_000
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
    """What is read of a partition, from `start` to before `end`; `begin` is what is kept."""

    begin: int
    start: int
    end: int

    @property
    def lost(self) -> bool:
        """Whether what stood before `start` may be of the period, and is not kept."""
        return self.start == self.begin > 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    One partition: the span of its applications, and what is to be read of each topic.

    `log_end` is where the applications end; `notes` say what cannot be judged, and why, on the
    topics and in ClickHouse.
    """

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
        common = {
            "bootstrap_servers": kafka.bootstrap_servers,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
        }
        self._reader = AIOKafkaConsumer(isolation_level="read_committed", **common)
        # To see how far topics go, with what is not yet committed.
        self._looker = AIOKafkaConsumer(isolation_level="read_uncommitted", **common)

    async def __aenter__(self) -> Self:
        with naming_the_broker(self._kafka.bootstrap_servers):
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
        servers = kafka.bootstrap_servers
        of = {
            topic: [TopicPartition(topic, number) for number in sorted(partitions)]
            for topic in (kafka.applications, kafka.decisions, kafka.ledger, kafka.parked)
        }
        every = [tp for several in of.values() for tp in several]
        outputs = [tp for tp in every if tp.topic != kafka.applications]
        inserted = await committed_offsets(
            servers, f"{prefix}-sink", [*of[kafka.ledger], *of[kafka.parked]]
        )
        decided = await committed_offsets(servers, f"{prefix}-scoring", of[kafka.applications])
        self._looker.assign(every)
        self._reader.assign(every)
        ends = await self._looker.end_offsets(outputs)
        ends |= await self._reader.end_offsets(of[kafka.applications])
        begins = await self._looker.beginning_offsets(every)
        since, until = (
            None if at is None or not by_time else microseconds(at) // 1000
            for at in (period.since, period.until)
        )
        starts = await self._at_time(every, since, begins, ends, outputs)
        stops = await self._at_time(of[kafka.applications], until, ends, ends, ())
        stretches = {
            tp: Stretch(begins[tp], starts[tp], max(starts[tp], stops.get(tp, ends[tp])))
            for tp in every
        }
        return [
            await self._snapshot(number, stretches, ends, decided, inserted)
            for number in sorted(partitions)
        ]

    async def _at_time(
        self,
        partitions: Sequence[TopicPartition],
        at_ms: int | None,
        otherwise: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
        earlier: Collection[TopicPartition],
    ) -> dict[TopicPartition, int]:
        """Look times up: of those `earlier`, with time to spare and a window of decisions."""
        if at_ms is None:
            return {tp: otherwise[tp] for tp in partitions}
        times = {tp: max(0, at_ms - _EARLIER_MS * (tp in earlier)) for tp in partitions}
        found = await self._looker.offsets_for_times(times)
        offsets = {tp: ends[tp] if found[tp] is None else found[tp].offset for tp in partitions}
        for tp in earlier:
            # A marker of a transaction may stand beside each.
            offsets[tp] = max(otherwise[tp], offsets[tp] - 2 * self._kafka.resend_window)
        return {tp: min(offset, ends[tp]) for tp, offset in offsets.items()}

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
                origin = await self._origin_at(tp, stretches[tp].begin, ends[tp])
                kept_from[tp] = min(end, max(first, settled if origin is None else origin))
                if kept_from[tp] > first:
                    notes.append(f"{tp.topic} keeps no answers before offset {kept_from[tp]}")
        of_decisions, of_ledger, of_parked = outputs
        limits = []
        for tp in (of_ledger, of_parked):
            waiting = await self._origin_at(tp, max(inserted[tp], stretches[tp].begin), ends[tp])
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
            polled = await self._reader.getmany(tp, timeout_ms=500, max_records=at_once)
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
    with suppress(LedgerDamaged, ParkedDamaged, *_UNREADABLE):
        if record.topic == kafka.ledger:
            found: list[int] = (
                decode_ledger(record.value or b"").rows.column("origin_offset").to_pylist()
            )
            return found
        if record.topic == kafka.parked:
            return [parse(record.key, record.value, record.headers).offset]
        return [msgspec.json.decode(record.value or b"", type=_Made).origin.offset]
    return []


class DecisionColumns(NamedTuple):
    """Decisions of an applications' partition, their ids, and what is none of them."""

    columns: Decisions
    ids: list[bytes]
    digests: list[bytes]
    strangers: list[Stranger]


def decision_columns(
    records: Sequence[Any], topic: str, partition: int, within: range
) -> DecisionColumns:
    """
    Turn records of the decisions' topic into columns.

    Answers are hashed only of applications `within` the offsets.
    """
    decode = msgspec.json.Decoder(Decision).decode
    offsets, answers, made_us, ids, digests = [], [], [], [], []
    strangers = []
    for record in records:
        place = (record.topic, record.partition, record.offset)
        try:
            decision = decode(record.value or b"")
            offset = decision.origin.offset
            answer = answer_hash(decision) if offset in within else 0
        except _UNREADABLE as error:
            strangers.append(Stranger(*place, "", f"not a decision: {error}"))
            continue
        if (decision.origin.topic, decision.origin.partition) != (topic, partition):
            why = f"of {decision.origin.topic}/{decision.origin.partition}/{offset}"
            strangers.append(Stranger(*place, decision.decision_id, why))
            continue
        offsets.append(offset)
        answers.append(answer)
        made_us.append(microseconds(decision.decided_at))
        ids.append(bytes.fromhex(decision.decision_id.replace("-", "")))
        digests.append(_digest(record.headers))
    columns = Decisions(
        np.array(offsets, np.int64),
        np.array(answers, np.uint64),
        np.array(made_us, np.int64),
        hashes_of(digests),
    )
    return DecisionColumns(columns, ids, digests, strangers)


def ledger_columns(
    record: Any, topic: str, partition: int, within: range
) -> tuple[LedgerRows | None, list[Stranger]]:
    """Turn a record of the ledger's topic into columns; None where it has no row `within`."""
    place = (record.topic, record.partition, record.offset)
    try:
        batch = decode_ledger(record.value or b"")
    except LedgerDamaged as damaged:
        return None, [Stranger(*place, "", str(damaged))]
    rows = batch.rows
    offsets: Integers = rows.column("origin_offset").to_numpy()
    topics, partitions = rows.column("origin_topic"), rows.column("origin_partition")
    strangers = [
        Stranger(*place, identity.hex(), f"of {of_topic}/{of_partition}/{offset}")
        for identity, of_topic, of_partition, offset in zip(
            rows.column("decision_id").to_pylist(),
            topics.to_pylist(),
            partitions.to_pylist(),
            offsets.tolist(),
            strict=True,
        )
        if (of_topic, of_partition) != (topic, partition)
    ]
    if strangers or not ((offsets >= within.start) & (offsets < within.stop)).any():
        return None, strangers
    hashes = LedgerHashes(batch)
    times = (rows.column(name).cast("int64").to_numpy() for name in ("decided_at", "produced_at"))
    decided_us, produced_ms = times
    columns = LedgerRows(offsets, hashes.answers, decided_us, hashes.rows, produced_ms // HOUR_MS)
    return columns, []


class ParkedColumns(NamedTuple):
    """Parked events of an applications' partition, and what is none of them."""

    offsets: Integers
    hashes: Any
    hours: Integers
    strangers: list[Stranger]


def parked_columns(records: Sequence[Any], topic: str, partition: int) -> ParkedColumns:
    """Turn records of the parked topic into columns."""
    events: list[ParkedEvent] = []
    strangers = []
    for record in records:
        place = (record.topic, record.partition, record.offset)
        try:
            event = parse(record.key, record.value, record.headers)
        except ParkedDamaged as damaged:
            strangers.append(Stranger(*place, "", str(damaged)))
            continue
        if (event.topic, event.partition) != (topic, partition):
            why = f"of {event.topic}/{event.partition}/{event.offset}"
            strangers.append(Stranger(*place, "", why))
        else:
            events.append(event)
    return ParkedColumns(
        np.array([event.offset for event in events], np.int64),
        np.array([parked_hash(event) for event in events], np.uint64),
        np.array([event.produced_at_ms // HOUR_MS for event in events], np.int64),
        strangers,
    )


def hashes_of(digests: Sequence[bytes]) -> Any:
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
