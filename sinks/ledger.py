"""The ledger: the decisions of a poll, with the features they were made on, as Arrow messages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import lru_cache
from itertools import pairwise
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scoring.decision import (
    BANDS,
    FEATURE_SOURCES,
    NO_TIME,
    OUTCOMES,
    Decision,
    DecisionBatch,
    Origin,
    age_s,
)
from scoring.reasons import Reason
from sinks.arrow_frame import Frame, frame_of
from sinks.ledger_rows import LedgerRows

MAX_MESSAGE_BYTES = 700_000

_WORD = pa.dictionary(pa.int8(), pa.string())
_INSTANT = pa.timestamp("us", "UTC")
_REASON = pa.struct(
    [
        pa.field("code", pa.string(), nullable=False),
        pa.field("feature", pa.string(), nullable=False),
        pa.field("contribution", pa.float64(), nullable=False),
    ]
)
_REASONS = pa.list_(pa.field("item", _REASON, nullable=False))
_FEATURES = pa.list_(pa.field("item", pa.float32(), nullable=False))

LEDGER_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("decision_id", pa.binary(16), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("application_id", pa.int64(), nullable=False),
        pa.field("applicant_id", pa.string()),
        pa.field("submitted_at", _INSTANT, nullable=False),
        pa.field("produced_at", pa.timestamp("ms", "UTC"), nullable=False),
        pa.field("decided_at", _INSTANT, nullable=False),
        pa.field("outcome", _WORD, nullable=False),
        pa.field("default_probability", pa.float64()),
        pa.field("score", pa.int32()),
        pa.field("risk_band", _WORD),
        pa.field("reasons", _REASONS, nullable=False),
        pa.field("feature_source", _WORD, nullable=False),
        pa.field("features_as_of", _INSTANT),
        pa.field("features_age_s", pa.float64()),
        pa.field("features_stale", pa.bool_(), nullable=False),
        pa.field("release", pa.string(), nullable=False),
        pa.field("origin_topic", pa.string(), nullable=False),
        pa.field("origin_partition", pa.int32(), nullable=False),
        pa.field("origin_offset", pa.int64(), nullable=False),
        pa.field("features", _FEATURES, nullable=False),
    ]
)
"""The columns of a ledger message; its metadata add the release and the features' names."""

_WORDS = {"outcome": OUTCOMES, "risk_band": BANDS, "feature_source": FEATURE_SOURCES}
_SINCE_AGE = ("features_age_s", "features_stale")
_BEFORE_AGE = [name for name in LEDGER_SCHEMA.names if name not in _SINCE_AGE]

_RELEASE = b"creditstream.release"
_NAMES = b"creditstream.features"


class LedgerDamaged(Exception):
    """A message on the ledger topic is no ledger batch; says why."""

    def __init__(self, reason: str) -> None:
        msg = f"not a ledger message: {reason}"
        super().__init__(msg)
        self.reason = reason


class LedgerRowTooLarge(Exception):
    """One decision alone exceeds what a ledger message may hold."""

    def __init__(self, decision_id: bytes, size: int) -> None:
        msg = f"decision {decision_id.hex()} takes {size} bytes, more than {MAX_MESSAGE_BYTES}"
        super().__init__(msg)
        self.decision_id = decision_id
        self.size = size


@dataclass(frozen=True, slots=True)
class LedgerBatch:
    """One ledger message: `rows` in LEDGER_SCHEMA's columns, by one release."""

    rows: pa.RecordBatch
    release: str
    feature_names: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def features(self) -> NDArray[np.float32]:
        """Give what the decisions were made on: float32[n, features], all NaN where missing."""
        column = self.rows.column("features")
        matrix = np.full((len(self), len(self.feature_names)), np.nan, dtype=np.float32)
        present = column.value_lengths().to_numpy() > 0
        matrix[present] = column.flatten().to_numpy().reshape(-1, len(self.feature_names))
        return matrix

    def decision(self, row: int, text_of: Callable[[str], str]) -> Decision:
        """Give a row as it stands on the decisions' topic; `text_of` has the words of a reason."""
        (stored,) = self.rows.slice(row, 1).to_pylist()
        reasons = tuple(
            Reason(**reason, text=text_of(reason["code"])) for reason in stored["reasons"]
        )
        origin = Origin(stored["origin_topic"], stored["origin_partition"], stored["origin_offset"])
        times = {
            name: stored[name] and stored[name].astimezone(UTC)
            for name in ("submitted_at", "decided_at", "features_as_of")
        }
        own = {name: stored[name] for name in Decision.__struct_fields__ if name in stored}
        own |= {"decision_id": str(UUID(bytes=stored["decision_id"])), "reasons": reasons} | times
        return Decision(origin=origin, **own)

    def default_probability(self) -> NDArray[np.float64]:
        """Give the default probabilities: float64[n], NaN where there is none."""
        column = self.rows.column("default_probability")
        found: NDArray[np.float64] = column.to_numpy(zero_copy_only=False)
        return found


def encode(batch: DecisionBatch) -> list[bytes]:
    """
    Write decisions as Arrow IPC streams of one record batch each, none above MAX_MESSAGE_BYTES.

    A poll of usual size is one message; an empty batch is none. Raises LedgerRowTooLarge.
    """
    (messages,) = encode_parts(batch, [0, len(batch)])
    return messages


def encode_parts(batch: DecisionBatch, cuts: Sequence[int]) -> list[list[bytes]]:
    """Write the rows from each cut to the next as `encode` does, at nearly the cost of one."""
    if not len(batch):
        return [[] for _ in cuts[1:]]
    rows = LedgerRows(_frame(batch.release, batch.feature_names), batch)
    return [_messages(rows, batch, first, last) for first, last in pairwise(cuts)]


def _messages(rows: LedgerRows, batch: DecisionBatch, first: int, last: int) -> list[bytes]:
    if first == last:
        return []
    if last - first > 1 and rows.most_bytes(first, last) > MAX_MESSAGE_BYTES:
        half = (first + last) // 2
        return [*_messages(rows, batch, first, half), *_messages(rows, batch, half, last)]
    message = rows.message(first, last)
    if len(message) > MAX_MESSAGE_BYTES:
        raise LedgerRowTooLarge(batch.decision_ids[first] or b"", len(message))
    return [message]


@lru_cache(maxsize=8)
def _frame(release: str, feature_names: tuple[str, ...]) -> Frame:
    """Take the frame of a release's messages, which has all words that a row can be of."""
    columns = [
        pa.DictionaryArray.from_arrays(pa.nulls(1, pa.int8()), pa.array(_WORDS[field.name]))
        if field.name in _WORDS
        else pa.nulls(1, field.type)
        for field in LEDGER_SCHEMA
    ]
    schema = LEDGER_SCHEMA.with_metadata(_metadata(release, feature_names))
    return frame_of(pa.RecordBatch.from_arrays(columns, schema=schema))


def encode_row(row: pa.Table, feature_names: Sequence[str]) -> bytes:
    """Write one row of LEDGER_SCHEMA as a ledger message of its own."""
    (batch,) = row.combine_chunks().to_batches()
    metadata = _metadata(batch["release"][0].as_py(), feature_names)
    sink = pa.BufferOutputStream()
    # Not compressed here: Kafka's batch is, and once is enough.
    with pa.ipc.new_stream(sink, batch.schema.with_metadata(metadata)) as writer:
        writer.write_batch(batch)
    message: bytes = sink.getvalue().to_pybytes()
    if len(message) > MAX_MESSAGE_BYTES:
        raise LedgerRowTooLarge(batch["decision_id"][0].as_py(), len(message))
    return message


def decode(message: bytes) -> LedgerBatch:
    """
    Read a ledger message; raise LedgerDamaged where it is truncated, damaged or another thing.

    The rows are checked in full, so that nothing later reads outside a buffer. A message from
    before features had an age is given one; columns that a later version added are left out.
    """
    try:
        with pa.ipc.open_stream(message) as reader:
            batches = list(reader)
        for rows in batches:
            rows.validate(full=True)
        # A damaged name is found only where it is read.
        names_read = batches[0].schema.names if batches else []
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise LedgerDamaged(str(error)) from None
    if len(batches) != 1:
        msg = f"it holds {len(batches)} record batches, not one"
        raise LedgerDamaged(msg)
    rows = _with_age(batches[0]) if names_read == _BEFORE_AGE else batches[0]
    if difference := _difference(rows.schema, rows.schema.names):
        raise LedgerDamaged(difference)
    rows = rows.select(LEDGER_SCHEMA.names)
    for field, column in zip(rows.schema, rows.columns, strict=True):
        if column.null_count and not field.nullable:
            msg = f"column {field.name!r} holds {column.null_count} nulls"
            raise LedgerDamaged(msg)
    metadata = rows.schema.metadata or {}
    try:
        names = msgspec.json.decode(metadata.get(_NAMES, b""), type=tuple[str, ...])
        release = metadata.get(_RELEASE, b"").decode()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"its metadata are damaged: {error}"
        raise LedgerDamaged(msg) from None
    lengths = rows.column("features").value_lengths().to_numpy()
    if not np.isin(lengths, (0, len(names))).all():
        msg = f"a row has neither none nor all of {len(names)} features"
        raise LedgerDamaged(msg)
    return LedgerBatch(rows, release, names)


def _metadata(release: str, feature_names: Sequence[str]) -> dict[bytes, bytes]:
    return {_RELEASE: release.encode(), _NAMES: msgspec.json.encode(feature_names)}


def _with_age(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Give a message of the version before its columns of age: nothing was stale then."""
    submitted, as_of = (
        rows.column(name).cast(pa.int64()).fill_null(NO_TIME).to_numpy()
        for name in ("submitted_at", "features_as_of")
    )
    ages_s = age_s(submitted, as_of)
    age = pa.array(ages_s, mask=np.isnan(ages_s))
    rows = rows.append_column(LEDGER_SCHEMA.field("features_age_s"), age)
    stale = pa.repeat(False, rows.num_rows)
    return rows.append_column(LEDGER_SCHEMA.field("features_stale"), stale)


def _difference(found: pa.Schema, names: Sequence[str]) -> str:
    for expected in LEDGER_SCHEMA:
        if names.count(expected.name) != 1:
            return f"column {expected.name!r} stands {names.count(expected.name)} times"
        if not found.field(expected.name).equals(expected):
            return f"column {expected.name!r} is not of the type {expected.type}"
    return ""
