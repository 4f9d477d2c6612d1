"""The rows of ledger messages, written as pyarrow writes them, byte for byte, but compiled."""

from functools import lru_cache
from typing import Any

import numpy as np
from numba import types

from scoring.byte_strings import ByteStrings
from scoring.bytewise import words
from scoring.bytewise.strings import packed
from scoring.bytewise.words import copy_bytes, put_byte, put_half, put_word
from scoring.compiled import BYTES, BYTES_OUT, FLAGS, LONGS, STRINGS, compiles, part
from scoring.decision import MISSING_SOURCE, NO_TIME, DecisionBatch
from scoring.reasons import NO_FEATURE, Vocabulary
from sinks.arrow_frame import END, Frame

# Values of one width, side by side for a row: many columns in one array.
_VALUES = np.dtype(
    [
        ("decision_id", np.uint8, 16),
        ("application_id", np.int64),
        ("submitted_at", np.int64),
        ("produced_at", np.int64),
        ("decided_at", np.int64),
        ("default_probability", np.float64),
        ("features_as_of", np.int64),
        ("features_age_s", np.float64),
        ("origin_offset", np.int64),
        ("score", np.int32),
        ("origin_partition", np.int32),
        ("outcome", np.uint8),
        ("risk_band", np.uint8),
        ("feature_source", np.uint8),
    ]
)
_WIDTH = _VALUES.itemsize
# Where each begins in a row.
(
    _DECISION_ID,
    _APPLICATION_ID,
    _SUBMITTED_AT,
    _PRODUCED_AT,
    _DECIDED_AT,
    _PROBABILITY,
    _AS_OF,
    _AGE,
    _OFFSET,
    _SCORE,
    _PARTITION,
    _OUTCOME,
    _BAND,
    _SOURCE,
) = (place for _, place, *_ in (_VALUES.fields or {}).values())

# Of a row beside its values: offsets in seven buffers, a bit, so a byte at most, in seven more.
_OTHER_BYTES = 7 * 4 + 7
_EACH_REASON = 2 * 4 + 8
# Each of 63 buffers is padded, and has one offset more than rows where it is of offsets.
_ALL_BUFFERS = 63 * (7 + 4)

_END = np.uint64(int.from_bytes(END, "little"))

# Where the next byte, node and buffer of a message go.
_AT, _NODE, _BUFFER = range(3)


class LedgerRows:
    """Decisions, ready to be written as messages with the frame of their release and features."""

    def __init__(self, frame: Frame, batch: DecisionBatch) -> None:
        ages_s, reasons = batch.features_age_s, batch.reasons
        codes, names = _of_vocabulary(reasons.vocabulary)
        texts = (
            batch.event_ids,
            batch.sources,
            batch.applicant_ids,
            _same(batch.release, len(batch)),
            _same(batch.topic, len(batch)),
        )
        of_reasons = codes.at(reasons.words), names.at(reasons.features - NO_FEATURE)
        features_width = batch.features.itemsize * batch.features.shape[1]
        self._frame = frame
        self._columns = (
            _values(batch, ages_s).view(np.uint8),
            *(part for text in texts for part in (text.data, text.starts, text.lengths)),
            *(batch.feature_sources != MISSING_SOURCE, batch.features_as_of_us != NO_TIME),
            *(~np.isnan(ages_s), batch.features_stale),
            reasons.starts,
            *(part for text in of_reasons for part in (text.data, text.starts, text.lengths)),
            np.ascontiguousarray(reasons.contributions).view(np.uint8),
            np.ascontiguousarray(batch.features).reshape(-1).view(np.uint8),
            features_width,
        )
        each_reason = _EACH_REASON + sum(int(one.lengths.max(initial=0)) for one in (codes, names))
        self._sizes = reasons.counts * each_reason + (_WIDTH + _OTHER_BYTES + features_width)
        for text in texts:
            self._sizes += np.maximum(text.lengths, 0)

    def most_bytes(self, first: int, last: int) -> int:
        """Give what a message of the rows from `first` to before `last` takes, at most."""
        rows = int(self._sizes[first:last].sum())
        return len(self._frame.head) + rows + _ALL_BUFFERS + len(END)

    def message(self, first: int, last: int) -> bytes:
        """Write these rows, one or more, as an Arrow stream of one record batch."""
        frame = self._frame
        out = np.empty(self.most_bytes(first, last), np.uint8)
        places = (frame.rows, frame.body_length, frame.nodes, frame.buffers)
        end = _write(frame.head, *places, first, last, *self._columns, out)
        return out[:end].tobytes()


def _same(text: str, count: int) -> ByteStrings:
    data = np.frombuffer(text.encode(), np.uint8)
    return ByteStrings(data, np.zeros(count, np.int64), np.full(count, len(data), np.int64))


def _values(batch: DecisionBatch, ages_s: Any) -> Any:
    """Lay the columns of one width side by side."""
    values = np.empty(len(batch), _VALUES)
    values["decision_id"] = packed(batch.decision_ids).data.reshape(-1, 16)
    values["application_id"] = batch.application_ids
    values["submitted_at"] = batch.submitted_at_us
    values["produced_at"] = batch.produced_at_ms
    values["decided_at"] = batch.decided_at_us
    values["default_probability"] = batch.default_probability
    values["features_as_of"] = batch.features_as_of_us
    values["features_age_s"] = ages_s
    values["origin_offset"] = batch.offsets
    values["score"] = batch.scores
    values["origin_partition"] = batch.partitions
    values["outcome"] = batch.outcomes
    values["risk_band"] = batch.bands
    values["feature_source"] = batch.feature_sources
    return values


@lru_cache(maxsize=8)
def _of_vocabulary(vocabulary: Vocabulary) -> tuple[ByteStrings, ByteStrings]:
    words_of, features = vocabulary
    codes = ByteStrings.of(word.code.encode() for word in words_of)
    return codes, ByteStrings.of(name.encode() for name in ("", *features))


@part
def _end(out: Any, place: Any, body: Any, at: Any) -> None:
    """End a buffer at `at`: note where it is, and how long, and fill up to eight bytes."""
    put_word(out, place[_BUFFER], np.uint64(place[_AT] - body))
    put_word(out, place[_BUFFER] + 8, np.uint64(at - place[_AT]))
    place[_BUFFER] += 16
    while (at - body) & 7:
        put_byte(out, at, 0)
        at += 1
    place[_AT] = at


@part
def _node(out: Any, place: Any, length: Any, nulls: Any) -> None:
    put_word(out, place[_NODE], np.uint64(length))
    put_word(out, place[_NODE] + 8, np.uint64(nulls))
    place[_NODE] += 16


@part
def _bits(out: Any, at: Any, flags: Any, first: Any, last: Any) -> Any:
    """Write flags as bits; give where they end."""
    for begin in range(first, last, 8):
        byte = np.int64(0)
        for row in range(begin, min(begin + 8, last)):
            byte |= np.int64(flags[row]) << (row - begin)
        put_byte(out, at, byte)
        at += 1
    return at


@part
def _all_there(out: Any, place: Any, body: Any, count: Any) -> None:
    """Begin a column without a null."""
    _node(out, place, count, 0)
    _end(out, place, body, place[_AT])


@part
def _there(out: Any, place: Any, body: Any, flags: Any, first: Any, last: Any) -> None:
    """Begin a column with nulls where flags are not set."""
    nulls = np.int64(0)
    for row in range(first, last):
        nulls += not flags[row]
    _node(out, place, last - first, nulls)
    _end(out, place, body, _bits(out, place[_AT], flags, first, last) if nulls else place[_AT])


@part
def _put(
    out: Any, place: Any, body: Any, values: Any, column: Any, width: Any, first: Any, last: Any
) -> None:
    """Write the buffer of a column of one width."""
    at = place[_AT]
    for row in range(first, last):
        copy_bytes(out, at, values, row * _WIDTH + column, width)
        at += width
    _end(out, place, body, at)


@part
def _column(
    out: Any, place: Any, body: Any, values: Any, column: Any, width: Any, first: Any, last: Any
) -> None:
    """Write a column of one width without a null."""
    _all_there(out, place, body, last - first)
    _put(out, place, body, values, column, width, first, last)


@part
def _put_texts(
    out: Any, place: Any, body: Any, data: Any, starts: Any, lengths: Any, first: Any, last: Any
) -> None:
    """Write the offsets and the bytes of texts, nulls as empty ones."""
    at, length = place[_AT], np.int64(0)
    put_half(out, at, 0)
    for row in range(first, last):
        length += max(lengths[row], 0)
        at += 4
        put_half(out, at, length)
    _end(out, place, body, at + 4)
    at = place[_AT]
    for row in range(first, last):
        copy_bytes(out, at, data, starts[row], max(lengths[row], 0))
        at += max(lengths[row], 0)
    _end(out, place, body, at)


@part
def _texts(
    out: Any, place: Any, body: Any, data: Any, starts: Any, lengths: Any, first: Any, last: Any
) -> None:
    """Write a column of texts without a null."""
    _all_there(out, place, body, last - first)
    _put_texts(out, place, body, data, starts, lengths, first, last)


@part
def _features(
    out: Any, place: Any, body: Any, features: Any, width: Any, known: Any, first: Any, last: Any
) -> None:
    """Write the lists of features, of `width` bytes each, empty where they are not known."""
    _all_there(out, place, body, last - first)
    at, length = place[_AT], np.int64(0)
    put_half(out, at, 0)
    for row in range(first, last):
        length += width // 4 if known[row] else 0
        at += 4
        put_half(out, at, length)
    _end(out, place, body, at + 4)
    _all_there(out, place, body, length)
    at = place[_AT]
    for row in range(first, last):
        if known[row]:
            copy_bytes(out, at, features, row * width, width)
            at += width
    _end(out, place, body, at)


@compiles(
    types.int64(
        *(BYTES, types.int64, types.int64, types.int64, types.int64),
        *(types.int64, types.int64),
        BYTES,
        *(*STRINGS, *STRINGS, *STRINGS, *STRINGS, *STRINGS),
        *(FLAGS, FLAGS, FLAGS, FLAGS),
        *(LONGS, *STRINGS, *STRINGS),
        *(BYTES, BYTES, types.int64),
        BYTES_OUT,
    ),
    words,
)
def _write(
    head: Any,
    rows_place: Any,
    body_length_place: Any,
    nodes_place: Any,
    buffers_place: Any,
    first: Any,
    last: Any,
    values: Any,
    event_ids: Any,
    event_starts: Any,
    event_lengths: Any,
    sources: Any,
    source_starts: Any,
    source_lengths: Any,
    applicants: Any,
    applicant_starts: Any,
    applicant_lengths: Any,
    release: Any,
    release_starts: Any,
    release_lengths: Any,
    topic: Any,
    topic_starts: Any,
    topic_lengths: Any,
    known: Any,
    dated: Any,
    aged: Any,
    stale: Any,
    reason_starts: Any,
    codes: Any,
    code_starts: Any,
    code_lengths: Any,
    names: Any,
    name_starts: Any,
    name_lengths: Any,
    contributions: Any,
    features: Any,
    features_width: Any,
    out: Any,
) -> Any:
    """Write a message; give its length."""
    count, body = last - first, len(head)
    copy_bytes(out, 0, head, 0, body)
    place = np.empty(3, np.int64)
    place[_AT], place[_NODE], place[_BUFFER] = body, nodes_place, buffers_place

    _column(out, place, body, values, _DECISION_ID, 16, first, last)
    _texts(out, place, body, event_ids, event_starts, event_lengths, first, last)
    _texts(out, place, body, sources, source_starts, source_lengths, first, last)
    _column(out, place, body, values, _APPLICATION_ID, 8, first, last)
    _there(out, place, body, applicant_lengths >= 0, first, last)
    _put_texts(out, place, body, applicants, applicant_starts, applicant_lengths, first, last)
    _column(out, place, body, values, _SUBMITTED_AT, 8, first, last)
    _column(out, place, body, values, _PRODUCED_AT, 8, first, last)
    _column(out, place, body, values, _DECIDED_AT, 8, first, last)
    _column(out, place, body, values, _OUTCOME, 1, first, last)
    _there(out, place, body, known, first, last)
    _put(out, place, body, values, _PROBABILITY, 8, first, last)
    _there(out, place, body, known, first, last)
    _put(out, place, body, values, _SCORE, 4, first, last)
    _there(out, place, body, known, first, last)
    _put(out, place, body, values, _BAND, 1, first, last)

    begin, end = reason_starts[first], reason_starts[last]
    _all_there(out, place, body, count)
    for row in range(count + 1):
        put_half(out, place[_AT] + 4 * row, reason_starts[first + row] - begin)
    _end(out, place, body, place[_AT] + 4 * (count + 1))
    _all_there(out, place, body, end - begin)
    _texts(out, place, body, codes, code_starts, code_lengths, begin, end)
    _texts(out, place, body, names, name_starts, name_lengths, begin, end)
    _all_there(out, place, body, end - begin)
    copy_bytes(out, place[_AT], contributions, 8 * begin, 8 * (end - begin))
    _end(out, place, body, place[_AT] + 8 * (end - begin))
    _column(out, place, body, values, _SOURCE, 1, first, last)
    _there(out, place, body, dated, first, last)
    _put(out, place, body, values, _AS_OF, 8, first, last)
    _there(out, place, body, aged, first, last)
    _put(out, place, body, values, _AGE, 8, first, last)
    _all_there(out, place, body, count)
    _end(out, place, body, _bits(out, place[_AT], stale, first, last))
    _texts(out, place, body, release, release_starts, release_lengths, first, last)
    _texts(out, place, body, topic, topic_starts, topic_lengths, first, last)
    _column(out, place, body, values, _PARTITION, 4, first, last)
    _column(out, place, body, values, _OFFSET, 8, first, last)

    _features(out, place, body, features, features_width, known, first, last)
    put_word(out, rows_place, np.uint64(count))
    put_word(out, body_length_place, np.uint64(place[_AT] - body))
    put_word(out, place[_AT], _END)
    return place[_AT] + 8
