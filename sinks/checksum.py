"""Checksums of what was decided and parked: the same of a topic's records and of ClickHouse's."""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scoring.decision import Decision, microseconds
from sinks.ledger import LedgerBatch
from sinks.parked import ParkedEvent

Hashes = NDArray[np.uint64]

# What a decision says, in an order of its own: a row of it in ClickHouse's RowBinary is hashed.
_ANSWER = np.dtype(
    [
        ("decision_id", "V16"),
        ("application_id", "<i8"),
        ("submitted_at", "<i8"),
        ("no_probability", "u1"),
        ("probability", "<f8"),
        ("no_score", "u1"),
        ("score", "<i4"),
        ("no_as_of", "u1"),
        ("as_of", "<i8"),
        ("no_age", "u1"),
        ("age", "<f8"),
        ("stale", "u1"),
        ("partition", "<i4"),
        ("offset", "<i8"),
    ]
)
_ANSWER_PACKED = struct.Struct("<16sqq?d?i?q?d?iq")
_ANSWER_SQL = """
    decision_id, application_id, toUnixTimestamp64Micro(submitted_at),
    isNull(default_probability), ifNull(default_probability, 0.),
    isNull(score), ifNull(score, toInt32(0)),
    isNull(features_as_of), ifNull(toUnixTimestamp64Micro(features_as_of), toInt64(0)),
    isNull(features_age_s), ifNull(features_age_s, 0.), features_stale,
    origin_partition, origin_offset,
    origin_topic, event_id, isNull(applicant_id), ifNull(applicant_id, ''), outcome,
    isNull(risk_band), ifNull(risk_band, ''), feature_source, release, reasons"""

DECISION_HASH_SQL = f"""reinterpretAsUInt64(substring(SHA256(formatRow('RowBinary', {_ANSWER_SQL},
    toUnixTimestamp64Micro(decided_at), source, toUnixTimestamp64Milli(produced_at), features
)), 1, 8))"""
"""The hash of a row of `decision_ledger`: `LedgerHashes.rows` of the same row."""

PARKED_HASH_SQL = """reinterpretAsUInt64(substring(SHA256(formatRow('RowBinary',
    origin_partition, origin_offset, toUnixTimestamp64Milli(produced_at),
    toUnixTimestamp64Micro(parked_at), origin_topic, stage, code, path, shown, rule, release,
    isNull(key), ifNull(key, ''), isNull(value), ifNull(value, '')
)), 1, 8))"""
"""The hash of a row of `parked_events`: `parked_hash` of the same event."""

_PARKED_FIXED = struct.Struct("<iqqq")
_ONE_BYTE = [bytes([number]) for number in range(0x80)]
_REASON = struct.Struct("<d")


class LedgerHashes:
    """
    Hashes of a ledger message's rows: the first 8 bytes of SHA-256.

    `answers` are over what the decisions' topic says too, but for the time of deciding, and equal
    `answer_hash` of the same decision; `rows` are over everything, with the features.
    """

    def __init__(self, batch: LedgerBatch) -> None:
        answers, rows = [], []
        for answer, rest in zip(_answers(batch.rows), _rest(batch.rows), strict=True):
            digest = hashlib.sha256(answer)
            answers.append(digest.digest()[:8])
            digest.update(rest)
            rows.append(digest.digest()[:8])
        self.answers: Hashes = np.frombuffer(b"".join(answers), dtype="<u8")
        self.rows: Hashes = np.frombuffer(b"".join(rows), dtype="<u8")


def answer_hash(decision: Decision) -> int:
    """Hash what a decision says, but for when; raises ValueError, struct.error where it is none."""
    probability, score, age = decision.default_probability, decision.score, decision.features_age_s
    as_of, origin = decision.features_as_of, decision.origin
    identity = bytes.fromhex(decision.decision_id.replace("-", ""))
    if len(identity) != 16:
        msg = f"{decision.decision_id!r} is no UUID"
        raise ValueError(msg)
    fixed = _ANSWER_PACKED.pack(
        identity,
        decision.application_id,
        microseconds(decision.submitted_at),
        probability is None,
        0.0 if probability is None else probability,
        score is None,
        score or 0,
        as_of is None,
        0 if as_of is None else microseconds(as_of),
        age is None,
        0.0 if age is None else age,
        decision.features_stale,
        origin.partition,
        origin.offset,
    )
    reasons = [(one.code, one.feature, one.contribution) for one in decision.reasons]
    content = (
        fixed,
        _word(origin.topic),
        _text(decision.event_id),
        _nullable(decision.applicant_id),
        _word(decision.outcome),
        _nullable(decision.risk_band),
        _word(decision.feature_source),
        _word(decision.release),
        _reasons(reasons),
    )
    return int.from_bytes(hashlib.sha256(b"".join(content)).digest()[:8], "little")


def parked_hash(event: ParkedEvent) -> int:
    """Hash a parked event, with its bytes."""
    at_us = microseconds(event.parked_at)
    fixed = _PARKED_FIXED.pack(event.partition, event.offset, event.produced_at_ms, at_us)
    texts = (event.topic, event.stage, event.code, event.path, event.shown, event.rule)
    content = (
        fixed,
        *map(_text, texts),
        _text(event.release),
        _nullable(event.key),
        _nullable(event.value),
    )
    return int.from_bytes(hashlib.sha256(b"".join(content)).digest()[:8], "little")


def checksum(hashes: Hashes) -> int:
    """
    Add hashes up, modulo 2^64: the same in any order, and another if one is there twice.

    >>> checksum(np.array([1, 2**64 - 1], dtype=np.uint64))
    0
    """
    return int(np.add.reduce(hashes, dtype=np.uint64))


def _answers(rows: pa.RecordBatch) -> Iterator[bytes]:
    fixed = np.zeros(rows.num_rows, dtype=_ANSWER)
    for name, column in (
        ("application_id", "application_id"),
        ("submitted_at", "submitted_at"),
        ("stale", "features_stale"),
        ("partition", "origin_partition"),
        ("offset", "origin_offset"),
    ):
        fixed[name] = _numbers(rows.column(column))
    for name, column in (
        ("probability", "default_probability"),
        ("score", "score"),
        ("as_of", "features_as_of"),
        ("age", "features_age_s"),
    ):
        found = rows.column(column)
        fixed[f"no_{name}"] = found.is_null().to_numpy(zero_copy_only=False)
        fixed[name] = _numbers(found)
    fixed["decision_id"] = np.array(rows.column("decision_id").to_pylist(), dtype="V16")
    reasons = rows.column("reasons").to_pylist()
    content, width = fixed.tobytes(), _ANSWER.itemsize
    texts = zip(
        map(_word, rows.column("origin_topic").to_pylist()),
        map(_text, rows.column("event_id").to_pylist()),
        map(_nullable, rows.column("applicant_id").to_pylist()),
        map(_word, rows.column("outcome").to_pylist()),
        map(_nullable, rows.column("risk_band").to_pylist()),
        map(_word, rows.column("feature_source").to_pylist()),
        map(_word, rows.column("release").to_pylist()),
        (_reasons([tuple(one.values()) for one in row]) for row in reasons),
        strict=True,
    )
    for number, row in enumerate(texts):
        yield content[number * width : (number + 1) * width] + b"".join(row)


def _rest(rows: pa.RecordBatch) -> Iterator[bytes]:
    features = rows.column("features")
    values = features.flatten().to_numpy().astype("<f4", copy=False).tobytes()
    begin = 0
    for decided, source, produced, length in zip(
        _numbers(rows.column("decided_at")).tolist(),
        rows.column("source").to_pylist(),
        _numbers(rows.column("produced_at")).tolist(),
        features.value_lengths().to_pylist(),
        strict=True,
    ):
        end = begin + 4 * length
        times = (decided.to_bytes(8, "little", signed=True), _word(source))
        made = produced.to_bytes(8, "little", signed=True)
        yield b"".join((*times, made, _length(length), values[begin:end]))
        begin = end


def _numbers(column: Any) -> NDArray[Any]:
    """Give a column of numbers, times or truths as numbers, 0 where there is none."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    zero = pa.scalar(False if pa.types.is_boolean(column.type) else 0, column.type)
    found: NDArray[Any] = pc.fill_null(column, zero).to_numpy(zero_copy_only=False)
    return found


def _reasons(reasons: Sequence[tuple[str, str, float]]) -> bytes:
    parts = [_length(len(reasons))]
    for code, feature, contribution in reasons:
        parts += (_word(code), _word(feature), _REASON.pack(contribution))
    return b"".join(parts)


def _nullable(text: str | bytes | None) -> bytes:
    return b"\x01\x00" if text is None else b"\x00" + _text(text)


def _text(text: str | bytes) -> bytes:
    content = text.encode() if isinstance(text, str) else text
    return _length(len(content)) + content


@lru_cache(maxsize=4_096)
def _word(text: str) -> bytes:
    return _text(text)


def _length(number: int) -> bytes:
    """Write a length as RowBinary does: LEB128."""
    if number <= 0x7F:
        return _ONE_BYTE[number]
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
