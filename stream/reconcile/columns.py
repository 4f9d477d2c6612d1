"""Records of the output topics as columns of numbers, and what is none of a partition's."""

import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa

from scoring.decision import Decision, Origin, microseconds
from sinks.checksum import Hashes, LedgerHashes, answer_hash, parked_hash
from sinks.ledger import LedgerDamaged
from sinks.ledger import decode as decode_ledger
from sinks.parked import ParkedDamaged, ParkedEvent, parse
from stream.contracts.codec import EVENT_DIGEST
from stream.reconcile.accounts import HOUR_MS, Decisions, Integers, LedgerRows
from stream.reconcile.snapshot import Snapshot
from stream.settings import KafkaSettings

_UNREADABLE = (ValueError, OverflowError, struct.error)


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
