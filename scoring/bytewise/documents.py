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
from scoring.bytewise import decimals, words
from scoring.bytewise.decimals import float_of
from scoring.bytewise.words import byte_at, word_at
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
_SPACE, _QUOTE, _BACKSLASH, _COLON, _COMMA = 32, 34, 92, 58, 44
_OPEN, _CLOSE = 123, 125
_NO_DIGIT = 10
_MOST_DIGITS, _EXACT_DIGITS = 19, 15
_LAST_TIME_MS = 1 << 53
_FIRST_YEAR, _END_YEAR = 1970, 2200

_FAILED = -1
_WORD = 8


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
def _is(data: Any, at: Any, end: Any, word: Any, start: Any, length: Any) -> Any:
    """Say whether a word stands at a place."""
    if end - at < length:
        return False
    if length >= _WORD:
        done = np.int64(0)
        while length - done >= _WORD:
            if word_at(data, at + done) != word_at(word, start + done):
                return False
            done += _WORD
        # The last of it overlaps with what was compared.
        rest = length - _WORD
        return word_at(data, at + rest) == word_at(word, start + rest)
    for place in range(length):
        if byte_at(data, at + place) != byte_at(word, start + place):
            return False
    return True


@part
def _behind_space(data: Any, at: Any, end: Any) -> Any:
    while at < end:
        byte = byte_at(data, at)
        if byte > _SPACE or not (byte == _SPACE or 9 <= byte <= 10 or byte == 13):
            break
        at += 1
    return at


@part
def _is_byte(data: Any, at: Any, end: Any, byte: Any) -> Any:
    return at < end and byte_at(data, at) == byte


@part
def _end_of_text(data: Any, at: Any, end: Any) -> Any:
    """Give where the closing quote of a text stands that is ASCII without control or escapes."""
    while at < end:
        byte = byte_at(data, at)
        if byte == _QUOTE:
            return at
        if byte < _SPACE or byte >= 127 or byte == _BACKSLASH:
            return _FAILED
        at += 1
    return _FAILED


@part
def _is_null(data: Any, at: Any, end: Any) -> Any:
    if end - at < 4 or byte_at(data, at) != 110 or byte_at(data, at + 1) != 117:
        return False
    return byte_at(data, at + 2) == 108 and byte_at(data, at + 3) == 108


@part
def _digit(data: Any, at: Any, end: Any) -> Any:
    if at >= end:
        return _NO_DIGIT
    digit = byte_at(data, at) - 48
    return digit if 0 <= digit <= 9 else _NO_DIGIT


@part
def _whole_number(data: Any, at: Any, end: Any) -> Any:
    """Read digits without a leading zero, at most nineteen: their end and value (uint64)."""
    begin, value = at, np.uint64(0)
    digit = _digit(data, at, end)
    while digit != _NO_DIGIT:
        value = value * np.uint64(10) + np.uint64(digit)
        at += 1
        digit = _digit(data, at, end)
    count = at - begin
    if count == 0 or count > _MOST_DIGITS or (count > 1 and byte_at(data, begin) == 48):
        return _FAILED, value
    return at, value


@part
def _number(data: Any, at: Any, end: Any, integer: Any) -> Any:
    """Read a number: its end and value (float64)."""
    negative = _is_byte(data, at, end, 45)
    at += negative
    begin = at
    at, digits = _whole_number(data, at, end)
    if at == _FAILED:
        return at, 0.0
    power, count = np.int64(0), at - begin
    if _is_byte(data, at, end, 46):
        at += 1
        first = at
        digit = _digit(data, at, end)
        while digit != _NO_DIGIT:
            digits = digits * np.uint64(10) + np.uint64(digit)
            at += 1
            digit = _digit(data, at, end)
        power -= at - first
        # Zeros before the first other digit count for nothing, but who writes many of them?
        count += at - first
        if integer or at == first or count > _MOST_DIGITS:
            return np.int64(_FAILED), 0.0
    if at < end and (byte_at(data, at) | 32) == 101:
        at += 1
        down = _is_byte(data, at, end, 45)
        at += down or _is_byte(data, at, end, 43)
        first, exponent = at, np.int64(0)
        digit = _digit(data, at, end)
        while digit != _NO_DIGIT and at - first < 4:
            exponent = exponent * 10 + digit
            at += 1
            digit = _digit(data, at, end)
        if integer or at == first or digit != _NO_DIGIT:
            return np.int64(_FAILED), 0.0
        power += -exponent if down else exponent
    if integer:
        if count > _EXACT_DIGITS:  # its limits are compared as float64
            return np.int64(_FAILED), 0.0
        value = np.int64(digits)
        return at, np.float64(-value if negative else value)
    value, found = float_of(digits, power)
    # What minus nothing is, is for the other decoder to say.
    if not found or (negative and value == 0.0):
        return np.int64(_FAILED), 0.0
    return at, -value if negative else value


@part
def _two_digits(data: Any, at: Any) -> Any:
    """Read two digits, where there are that many bytes; below zero: none."""
    tens, ones = byte_at(data, at) - 48, byte_at(data, at + 1) - 48
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else _FAILED


@part
def _instant(data: Any, at: Any, end: Any) -> Any:
    """Read a time of RFC 3339 from 1970 to 2199: microseconds since 1970, or below zero."""
    if end - at < 20:
        return np.int64(_FAILED)
    century, of_century = _two_digits(data, at), _two_digits(data, at + 2)
    month, day = _two_digits(data, at + 5), _two_digits(data, at + 8)
    hour, minute = _two_digits(data, at + 11), _two_digits(data, at + 14)
    second = _two_digits(data, at + 17)
    separated = byte_at(data, at + 4) == 45 and byte_at(data, at + 7) == 45
    separated = separated and byte_at(data, at + 10) == 84 and byte_at(data, at + 13) == _COLON
    separated = separated and byte_at(data, at + 16) == _COLON
    year = 100 * century + of_century
    if not separated or min(century, of_century, month, day, hour, minute, second) < 0:
        return np.int64(_FAILED)
    if year < _FIRST_YEAR or year >= _END_YEAR or month < 1 or month > 12 or day < 1:
        return np.int64(_FAILED)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    longest = 30 + ((month + (month >> 3)) & 1)
    if month == 2:
        longest = 29 if leap else 28
    if day > longest or hour > 23 or minute > 59 or second > 59:
        return np.int64(_FAILED)
    at += 19
    micros = np.int64(0)
    if byte_at(data, at) == 46:
        at += 1
        unit = np.int64(100_000)
        first = at
        digit = _digit(data, at, end)
        while digit != _NO_DIGIT and unit > 0:
            micros += digit * unit
            unit //= 10
            at += 1
            digit = _digit(data, at, end)
        if at == first or digit != _NO_DIGIT:
            return np.int64(_FAILED)
    ahead = np.int64(0)
    if end - at == 1 and byte_at(data, at) == 90:
        pass
    elif end - at == 6 and byte_at(data, at + 3) == _COLON:
        sign = byte_at(data, at)
        hours, minutes = _two_digits(data, at + 1), _two_digits(data, at + 4)
        if (sign != 43 and sign != 45) or min(hours, minutes) < 0 or hours > 23 or minutes > 59:
            return np.int64(_FAILED)
        ahead = (60 * hours + minutes) * (1 if sign == 43 else -1)
    else:
        return np.int64(_FAILED)
    # Days before a year and a month that both begin in March.
    years = year - 1 if month <= 2 else year
    months = month + 9 if month <= 2 else month - 3
    days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * months + 2) // 5 + day
    days -= 719_469
    seconds = 86_400 * days + 3_600 * hour + 60 * (minute - ahead) + second
    return 1_000_000 * seconds + micros


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
        if _is(data, at, end, names, start, length):
            return number, at + length
    return np.int64(_FAILED), at


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
    at = _behind_space(data, at + 1, end)
    if _is_byte(data, at, end, _CLOSE):
        return at + 1 if needed == 0 else np.int64(_FAILED)
    while True:
        number, at = _attribute(data, at, end, names, starts, lengths, expected)
        if number == _FAILED or seen[number] == row + 1:
            return np.int64(_FAILED)
        seen[number] = row + 1
        expected = number + 1 if number + 1 < count else np.int64(0)
        needed -= flags[number] & _REQUIRED
        at = _behind_space(data, at, end)
        if not _is_byte(data, at, end, _COLON):
            return np.int64(_FAILED)
        at = _behind_space(data, at + 1, end)
        if _is_byte(data, at, end, 110):
            if not (flags[number] & _NULLABLE and _is_null(data, at, end)):
                return np.int64(_FAILED)
            at += 4
        else:
            at, value = _number(data, at, end, kinds[number] == _INTEGER)
            if at == _FAILED or not lows[number] <= value <= highs[number]:
                return np.int64(_FAILED)
            if kinds[number] == _WHOLE and value != np.floor(value):
                return np.int64(_FAILED)
            if columns[number] >= 0:
                cells[row * width + columns[number]] = value
        at = _behind_space(data, at, end)
        if _is_byte(data, at, end, _CLOSE):
            return at + 1 if needed == 0 else np.int64(_FAILED)
        if not _is_byte(data, at, end, _COMMA):
            return np.int64(_FAILED)
        at = _behind_space(data, at + 1, end)


@part
def _field(data: Any, at: Any, end: Any) -> Any:
    """Find which field's name begins at a place: its number, and where its quote closes."""
    for number in range(5):
        length = _FIELD_LENGTHS[number]
        if _is_byte(data, at + length, end, _QUOTE) and _is(
            data, at, end, _FIELD_DATA, _FIELD_STARTS[number], length
        ):
            return number, at + length
    return np.int64(_FAILED), at


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
        at = _behind_space(data, at, end)
        if not _is_byte(data, at, end, _OPEN):
            continue
        at = _behind_space(data, at + 1, end)
        found, good, closed = 0, True, False
        while good and not closed:
            good = False
            if not _is_byte(data, at, end, _QUOTE):
                break
            field, at = _field(data, at + 1, end)
            if field == _FAILED or found >> field & 1:
                break
            found |= 1 << field
            at = _behind_space(data, at + 1, end)
            if not _is_byte(data, at, end, _COLON):
                break
            at = _behind_space(data, at + 1, end)
            if field == _APPLICATION_ID:
                at, value = _whole_number(data, at, end)
                if at == _FAILED or value < np.uint64(1) or value > np.uint64((1 << 63) - 1):
                    break
                application_ids[row] = np.int64(value)
            elif field == _ATTRIBUTES and _is_byte(data, at, end, _OPEN):
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
                if at == _FAILED:
                    break
                carried[row] = True
            elif field >= _APPLICANT_ID and _is_null(data, at, end):
                at += 4
            elif field != _ATTRIBUTES and _is_byte(data, at, end, _QUOTE):
                first = at + 1
                at = _end_of_text(data, first, end)
                length = at - first
                if at == _FAILED or length < 1:
                    break
                at += 1
                if field == _EVENT_ID:
                    if length > _LONGEST_ID:
                        break
                    spaces = False
                    for place in range(first, first + length):
                        spaces |= byte_at(data, place) == _SPACE
                    if spaces:
                        break
                    event_starts[row], event_lengths[row] = first, length
                elif field == _APPLICANT_ID:
                    if length > _LONGEST_APPLICANT:
                        break
                    applicant_starts[row], applicant_lengths[row] = first, length
                else:
                    submitted_us = _instant(data, first, first + length)
                    if submitted_us < 0:
                        break
                    submitted_at_us[row] = submitted_us
            else:
                break
            at = _behind_space(data, at, end)
            closed = _is_byte(data, at, end, _CLOSE)
            if not closed and not _is_byte(data, at, end, _COMMA):
                break
            at = _behind_space(data, at + 1, end)
            good = True
        if not good or at != end or found & _NEEDED != _NEEDED:
            continue
        produced_ms = produced_at_ms[row]
        if produced_ms < 0 or produced_ms > _LAST_TIME_MS // 1000:
            continue
        late_us = 1000 * produced_ms - submitted_at_us[row]
        plain[row] = -ahead_us <= late_us <= age_us
