"""
Applications read from plain JSON: in ASCII, without escapes, of known fields with allowed values.

That is what producers write. Whatever is not plain is left to the decoder that knows all of JSON,
and says what is wrong where something is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from features.definition import Attribute
from scoring.byte_strings import ByteStrings
from scoring.bytewise import decimals, instants, tokens, words
from scoring.bytewise.instants import instant_at
from scoring.bytewise.tokens import (
    COLON,
    FAILED,
    QUOTE,
    SPACE,
    behind_space,
    end_of_text,
    is_byte,
    is_null,
    is_word,
    number_at,
    whole_number,
)
from scoring.bytewise.words import byte_at
from scoring.compiled import (
    BYTES,
    DOUBLES,
    DOUBLES_OUT,
    FLAGS_OUT,
    LONGS,
    LONGS_OUT,
    SMALLS,
    STRINGS,
    compiles,
    part,
)

_INTEGER, _WHOLE, _NUMBER = range(3)
_KINDS = {"integer": _INTEGER, "whole": _WHOLE, "number": _NUMBER}
_REQUIRED, _NULLABLE = 1, 2
_DEPTH = 2

_EVENT_ID, _APPLICATION_ID, _SUBMITTED_AT, _APPLICANT_ID, _ATTRIBUTES = range(5)
_FIELDS = (b"event_id", b"application_id", b"submitted_at", b"applicant_id", b"attributes")
_FIELD_DATA = np.frombuffer(b"".join(_FIELDS), np.uint8)
_FIELD_STARTS = tuple(sum(map(len, _FIELDS[:at])) for at in range(len(_FIELDS)))
_FIELD_LENGTHS = tuple(map(len, _FIELDS))
_NEEDED = 0b111

_LONGEST_ID, _LONGEST_APPLICANT = 64, 64
_COMMA, _OPEN, _CLOSE = 44, 123, 125
_LAST_TIME_MS = 1 << 53


@dataclass(frozen=True, slots=True)
class PlainEvents:
    """
    What n documents hold, as columns; a row that is not `plain` holds nothing.

    `cells` is float64[n, attributes that are read], NaN for what is not there; `carried` says which
    events have attributes at all.
    """

    plain: NDArray[np.bool_]
    event_ids: ByteStrings
    application_ids: NDArray[np.int64]
    submitted_at_us: NDArray[np.int64]
    applicant_ids: ByteStrings
    cells: NDArray[np.float64]
    carried: NDArray[np.bool_]


class PlainReader:
    """
    Reads the plain documents of one definition's attributes, all of them numbers.

    A document is of at most `longest` bytes; it was submitted at most `age_us` before and
    `ahead_us` after its record's own time.
    """

    def __init__(
        self, attributes: Sequence[Attribute], longest: int, age_us: int, ahead_us: int
    ) -> None:
        names = ByteStrings.of(b'"' + one.name.encode() + b'"' for one in attributes)
        read = np.cumsum([one.read for one in attributes], dtype=np.int64) - 1
        kinds = [_KINDS[one.kind] for one in attributes]
        self._attributes = (
            names.data,
            names.starts,
            names.lengths,
            np.array(kinds, np.uint8),
            _bounds([one.minimum for one in attributes], kinds, -np.inf),
            _bounds([one.maximum for one in attributes], kinds, np.inf),
            np.array([_flags(one) for one in attributes], np.uint8),
            np.where([one.read for one in attributes], read, -1).astype(np.int64),
        )
        self._width = int(sum(one.read for one in attributes))
        self._limits = longest, age_us, ahead_us

    @classmethod
    def of(
        cls,
        attributes: Sequence[Attribute],
        *,
        longest: int,
        deepest: int,
        age_us: int,
        ahead_us: int,
    ) -> "PlainReader | None":
        """Make a reader; None where no document of these attributes, or this deep, is plain."""
        if deepest < _DEPTH or not all(one.kind in _KINDS for one in attributes):
            return None
        return cls(attributes, longest, age_us, ahead_us)

    def read(self, values: ByteStrings, produced_at_ms: NDArray[np.int64]) -> PlainEvents:
        """Read n documents; nulls are none."""
        count = len(values)
        starts = np.zeros((2, count), np.int64)
        lengths = np.full((2, count), -1, np.int64)
        found = PlainEvents(
            np.zeros(count, bool),
            ByteStrings(values.data, starts[0], lengths[0]),
            np.zeros(count, np.int64),
            np.zeros(count, np.int64),
            ByteStrings(values.data, starts[1], lengths[1]),
            np.full((count, self._width), np.nan),
            np.zeros(count, bool),
        )
        _read_documents(
            values.data,
            values.starts,
            values.lengths,
            produced_at_ms,
            *self._limits,
            *self._attributes,
            np.zeros(len(self._attributes[1]), np.int64),
            found.plain,
            starts[0],
            lengths[0],
            found.application_ids,
            found.submitted_at_us,
            starts[1],
            lengths[1],
            found.cells.reshape(-1),
            found.carried,
        )
        return found


def _bounds(
    bounds: Sequence[float | None], kinds: Sequence[int], none: float
) -> NDArray[np.float64]:
    # As the event's type declares them: those of integers are cut to integers.
    return np.array(
        [
            none if bound is None else int(bound) if kind == _INTEGER else bound
            for bound, kind in zip(bounds, kinds, strict=True)
        ],
        np.float64,
    )


def _flags(attribute: Attribute) -> int:
    nullable = attribute.nullable or not attribute.required
    return _REQUIRED * attribute.required | _NULLABLE * nullable


@part
def _attribute(
    data: Any, at: Any, end: Any, names: Any, starts: Any, lengths: Any, expected: Any
) -> Any:
    """Find which attribute's name stands at a place, in quotes: its number, and its end."""
    count = len(starts)
    for step in range(count):
        number = expected + step
        number -= count if number >= count else 0
        start, length = starts[number], lengths[number]
        if is_word(data, at, end, names, start, length):
            return number, at + length
    return np.int64(FAILED), at


@part
def _read_attributes(
    data: Any,
    at: Any,
    end: Any,
    row: Any,
    names: Any,
    starts: Any,
    lengths: Any,
    kinds: Any,
    lows: Any,
    highs: Any,
    flags: Any,
    columns: Any,
    seen: Any,
    cells: Any,
    width: Any,
) -> Any:
    """Read the object of attributes that opens at a place; give where it is closed."""
    count = len(starts)
    needed = np.int64(0)
    for number in range(count):
        needed += flags[number] & _REQUIRED
    expected = np.int64(0)
    at = behind_space(data, at + 1, end)
    if is_byte(data, at, end, _CLOSE):
        return at + 1 if needed == 0 else np.int64(FAILED)
    while True:
        number, at = _attribute(data, at, end, names, starts, lengths, expected)
        if number == FAILED or seen[number] == row + 1:
            return np.int64(FAILED)
        seen[number] = row + 1
        expected = number + 1 if number + 1 < count else np.int64(0)
        needed -= flags[number] & _REQUIRED
        at = behind_space(data, at, end)
        if not is_byte(data, at, end, COLON):
            return np.int64(FAILED)
        at = behind_space(data, at + 1, end)
        if is_byte(data, at, end, 110):
            if not (flags[number] & _NULLABLE and is_null(data, at, end)):
                return np.int64(FAILED)
            at += 4
        else:
            at, value = number_at(data, at, end, kinds[number] == _INTEGER)
            if at == FAILED or not lows[number] <= value <= highs[number]:
                return np.int64(FAILED)
            if kinds[number] == _WHOLE and value != np.floor(value):
                return np.int64(FAILED)
            if columns[number] >= 0:
                cells[row * width + columns[number]] = value
        at = behind_space(data, at, end)
        if is_byte(data, at, end, _CLOSE):
            return at + 1 if needed == 0 else np.int64(FAILED)
        if not is_byte(data, at, end, _COMMA):
            return np.int64(FAILED)
        at = behind_space(data, at + 1, end)


@part
def _field(data: Any, at: Any, end: Any) -> Any:
    """Find which field's name begins at a place: its number, and where its quote closes."""
    for number in range(5):
        length = _FIELD_LENGTHS[number]
        if is_byte(data, at + length, end, QUOTE) and is_word(
            data, at, end, _FIELD_DATA, _FIELD_STARTS[number], length
        ):
            return number, at + length
    return np.int64(FAILED), at


@compiles(
    types.void(
        *STRINGS,
        LONGS,
        types.int64,
        types.int64,
        types.int64,
        BYTES,
        LONGS,
        LONGS,
        SMALLS,
        DOUBLES,
        DOUBLES,
        SMALLS,
        LONGS,
        LONGS_OUT,
        FLAGS_OUT,
        LONGS_OUT,
        LONGS_OUT,
        LONGS_OUT,
        LONGS_OUT,
        LONGS_OUT,
        LONGS_OUT,
        DOUBLES_OUT,
        FLAGS_OUT,
    ),
    words,
    decimals,
    tokens,
    instants,
)
def _read_documents(
    data: Any,
    starts: Any,
    lengths: Any,
    produced_at_ms: Any,
    longest: Any,
    age_us: Any,
    ahead_us: Any,
    names: Any,
    name_starts: Any,
    name_lengths: Any,
    kinds: Any,
    lows: Any,
    highs: Any,
    flags: Any,
    columns: Any,
    seen: Any,
    plain: Any,
    event_starts: Any,
    event_lengths: Any,
    application_ids: Any,
    submitted_at_us: Any,
    applicant_starts: Any,
    applicant_lengths: Any,
    cells: Any,
    carried: Any,
) -> None:
    width = len(cells) // max(len(starts), 1)
    for row in range(len(starts)):
        at, end = starts[row], starts[row] + lengths[row]
        if lengths[row] < 2 or lengths[row] > longest:
            continue
        at = behind_space(data, at, end)
        if not is_byte(data, at, end, _OPEN):
            continue
        at = behind_space(data, at + 1, end)
        found, good, closed = 0, True, False
        while good and not closed:
            good = False
            if not is_byte(data, at, end, QUOTE):
                break
            field, at = _field(data, at + 1, end)
            if field == FAILED or found >> field & 1:
                break
            found |= 1 << field
            at = behind_space(data, at + 1, end)
            if not is_byte(data, at, end, COLON):
                break
            at = behind_space(data, at + 1, end)
            if field == _APPLICATION_ID:
                at, value = whole_number(data, at, end)
                if at == FAILED or value < np.uint64(1) or value > np.uint64((1 << 63) - 1):
                    break
                application_ids[row] = np.int64(value)
            elif field == _ATTRIBUTES and is_byte(data, at, end, _OPEN):
                at = _read_attributes(
                    data,
                    at,
                    end,
                    row,
                    names,
                    name_starts,
                    name_lengths,
                    kinds,
                    lows,
                    highs,
                    flags,
                    columns,
                    seen,
                    cells,
                    width,
                )
                if at == FAILED:
                    break
                carried[row] = True
            elif field >= _APPLICANT_ID and is_null(data, at, end):
                at += 4
            elif field != _ATTRIBUTES and is_byte(data, at, end, QUOTE):
                first = at + 1
                at = end_of_text(data, first, end)
                length = at - first
                if at == FAILED or length < 1:
                    break
                at += 1
                if field == _EVENT_ID:
                    if length > _LONGEST_ID:
                        break
                    spaces = False
                    for place in range(first, first + length):
                        spaces |= byte_at(data, place) == SPACE
                    if spaces:
                        break
                    event_starts[row], event_lengths[row] = first, length
                elif field == _APPLICANT_ID:
                    if length > _LONGEST_APPLICANT:
                        break
                    applicant_starts[row], applicant_lengths[row] = first, length
                else:
                    submitted_us = instant_at(data, first, first + length)
                    if submitted_us < 0:
                        break
                    submitted_at_us[row] = submitted_us
            else:
                break
            at = behind_space(data, at, end)
            closed = is_byte(data, at, end, _CLOSE)
            if not closed and not is_byte(data, at, end, _COMMA):
                break
            at = behind_space(data, at + 1, end)
            good = True
        if not good or at != end or found & _NEEDED != _NEEDED:
            continue
        produced_ms = produced_at_ms[row]
        if produced_ms < 0 or produced_ms > _LAST_TIME_MS // 1000:
            continue
        late_us = 1000 * produced_ms - submitted_at_us[row]
        plain[row] = -ahead_us <= late_us <= age_us
