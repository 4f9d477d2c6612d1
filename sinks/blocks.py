"""Polls of the sink's topics as blocks of rows, and what of them can never be one."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Meta

from scoring.poll import Poll
from sinks.ledger import LEDGER_SCHEMA, LedgerBatch, LedgerDamaged, decode, encode_row
from sinks.parked import PARKED_SCHEMA, ParkedDamaged, ParkedEvent, SinkCode, parked_table, parse
from sinks.refusals import without_values

ARROW_STREAM = b"application/vnd.apache.arrow.stream"

_ORIGIN = ("origin_topic", "origin_partition", "origin_offset")
# The same rows make the same token, in whatever order they came.
_BY_ORIGIN = [(name, "ascending") for name in _ORIGIN]
_LONGEST_CAUSE = 500
_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class Unfit:
    """
    A record that can never be inserted, or one made of a row that cannot: the `position` of a poll.

    `value` names it, `rule` says why; `release` made the decision, and is empty where none did.
    """

    poll: Poll
    position: int
    code: SinkCode
    rule: str
    value: str = ""
    release: str = ""
    path: str = "$"


@dataclass(frozen=True, slots=True)
class Block:
    """
    Rows for a table, and the records that are `damaged`, of which there is no row.

    `unfit` makes of a row, by its number, and the reason why the table never takes it what is to be
    parked; None where it stands on the parked topic already. `feature_names` are those of each
    release that decided.
    """

    table: str
    rows: pa.Table
    damaged: Sequence[Unfit]
    unfit: Callable[[int, str], Unfit | None]
    feature_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def ledger_block(polls: Iterable[Poll]) -> Block:
    """Read ledger messages: a row for each decision."""
    batches: list[LedgerBatch] = []
    damaged = []
    for poll, position, value in _values(polls):
        try:
            batches.append(decode(value))
        except LedgerDamaged as error:
            damaged.append(_damaged(poll, position, error))
    names = {batch.release: batch.feature_names for batch in batches}
    rows = _by_origin([batch.rows for batch in batches if len(batch)])

    def unfit(row: int, cause: str) -> Unfit:
        decision = rows.slice(row, 1)
        release = decision["release"][0].as_py()
        topic, partition, offset = (decision[name][0].as_py() for name in _ORIGIN)
        produced_at_ms = decision["produced_at"].cast(pa.int64())[0].as_py()
        value = encode_row(decision, names[release])
        headers = [("content-type", ARROW_STREAM)]
        poll = Poll(topic, partition, [offset], [produced_at_ms], [None], [value], [headers])
        identity = uuid.UUID(bytes=decision["decision_id"][0].as_py())
        return Unfit(poll, 0, "refused", _cut(cause), f"decision {identity}", release)

    return Block("decision_ledger", rows, damaged, unfit, names)


def _by_origin(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Put the rows of ledger messages together, by where their applications stood."""
    if not batches:
        return LEDGER_SCHEMA.empty_table()
    # A message is of one poll, in order, and polls seldom overlap: to sort rows is to copy them.
    in_order = sorted(batches, key=_begin)
    rows = pa.Table.from_batches([one.replace_schema_metadata() for one in in_order])
    return rows if _is_by_origin(rows) else rows.sort_by(_BY_ORIGIN)


def _begin(rows: pa.RecordBatch) -> tuple[Any, ...]:
    return tuple(rows.column(name)[0].as_py() for name in _ORIGIN)


def _is_by_origin(rows: pa.Table) -> bool:
    partitions, offsets = (np.diff(rows.column(name).to_numpy()) for name in _ORIGIN[1:])
    back = (partitions < 0) | ((partitions == 0) & (offsets < 0))
    return len(rows.column(_ORIGIN[0]).unique()) == 1 and not back.any()


def parked_block(polls: Iterable[Poll]) -> Block:
    """Read parked events, a row each."""
    events: list[ParkedEvent] = []
    damaged = []
    for poll in polls:
        for position, record in enumerate(zip(poll.keys, poll.values, poll.headers, strict=True)):
            try:
                events.append(parse(*record))
            except ParkedDamaged as error:
                damaged.append(_damaged(poll, position, error))
    rows = parked_table(events).sort_by(_BY_ORIGIN) if events else PARKED_SCHEMA.empty_table()
    # Parked once more it would be read, refused and parked for ever.
    return Block("parked_events", rows, damaged, lambda *_: None)


def alarm_block(polls: Iterable[Poll]) -> Block:
    """Read drift alarms, a row each."""
    found: list[tuple[Poll, int, _AlarmRow]] = []
    damaged = []
    for poll, position, value in _values(polls):
        try:
            found.append((poll, position, msgspec.json.decode(value, type=_AlarmRow)))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            damaged.append(_damaged(poll, position, error))
    times = {name: pa.timestamp("us", tz="UTC") for name in ("raised_at", "since")}
    rows = pa.table(
        {
            name: pa.array([getattr(row, name) for *_, row in found], times.get(name))
            for name in _AlarmRow.__struct_fields__
        }
    )

    def unfit(row: int, cause: str) -> Unfit:
        poll, position, alarm = found[row]
        return Unfit(poll, position, "refused", _cut(cause), f"alarm {alarm.alarm_id}"[:120])

    return Block("drift_alarms", rows, damaged, unfit)


class _AlarmRow(msgspec.Struct, frozen=True):
    """The columns of `drift_alarms`, as an alarm's JSON names them."""

    alarm_id: str
    raised_at: Annotated[datetime, Meta(tz=True)]
    kind: str
    detector: str
    subject: str
    value: float
    threshold: float
    since: Annotated[datetime, Meta(tz=True)]
    release: str
    decisions: Annotated[int, Meta(ge=-_INT64, le=_INT64 - 1)]
    text: str


def _values(polls: Iterable[Poll]) -> Iterator[tuple[Poll, int, bytes]]:
    for poll in polls:
        for position, value in enumerate(poll.values):
            if value is not None:
                yield poll, position, value


def _damaged(poll: Poll, position: int, error: Exception) -> Unfit:
    return Unfit(poll, position, "damaged", _cut(str(error) or type(error).__name__))


def _cut(cause: str) -> str:
    return " ".join(without_values(cause).split())[:_LONGEST_CAUSE]
