"""Texts, times and ids written as JSON's texts, without the quotes around them."""

from typing import Any

import numpy as np

from scoring.bytewise.words import byte_at, copy_bytes, put_byte
from scoring.compiled import part

ESCAPED = 6
"""Bytes that one byte of a text takes, at most."""

LONGEST_INSTANT = 32
UUID_LENGTH = 36

_QUOTE, _BACKSLASH, _SPACE = 34, 92, 32
_SHORT = np.zeros(_SPACE, np.uint8)
_SHORT[[8, 9, 10, 12, 13]] = np.frombuffer(b"btnfr", np.uint8)
_DASH, _COLON = 45, 58
_DASHES = (4, 6, 8, 10)
_DAY_US = 86_400_000_000
_DAYS_TO_1970 = 719_468
"""From the first of March of the year 0."""


@part
def put_hex(out: Any, at: Any, byte: Any) -> Any:
    """Write a byte as two hexadecimal digits; give where they end."""
    high, low = byte >> 4, byte & 15
    put_byte(out, at, high + (48 if high < 10 else 87))
    put_byte(out, at + 1, low + (48 if low < 10 else 87))
    return at + 2


@part
def put_text(out: Any, at: Any, data: Any, start: Any, length: Any) -> Any:
    """Write a text of UTF-8 with what JSON wants escaped; give where it ends."""
    for place in range(start, start + length):
        byte = byte_at(data, place)
        if byte >= _SPACE and byte != _QUOTE and byte != _BACKSLASH:
            put_byte(out, at, byte)
            at += 1
            continue
        put_byte(out, at, _BACKSLASH)
        if byte >= _SPACE:
            put_byte(out, at + 1, byte)
            at += 2
        elif _SHORT[byte]:
            put_byte(out, at + 1, np.int64(_SHORT[byte]))
            at += 2
        else:
            put_byte(out, at + 1, 117)
            put_byte(out, at + 2, 48)
            put_byte(out, at + 3, 48)
            at = put_hex(out, at + 4, byte)
    return at


@part
def put_uuid(out: Any, at: Any, data: Any, start: Any) -> Any:
    """Write the sixteen bytes of a UUID; give where it ends."""
    for number in range(16):
        if number in _DASHES:
            put_byte(out, at, _DASH)
            at += 1
        at = put_hex(out, at, byte_at(data, start + number))
    return at


@part
def _put_padded(out: Any, at: Any, value: Any, width: Any) -> Any:
    for place in range(at + width - 1, at - 1, -1):
        put_byte(out, place, value % 10 + 48)
        value //= 10
    return at + width


@part
def put_instant(out: Any, at: Any, microseconds: Any) -> Any:
    """Write a time, microseconds since 1970, of the years 0 to 9999; give where it ends."""
    day, of_day = microseconds // _DAY_US, microseconds % _DAY_US
    # H. Hinnant's `civil_from_days`: years that begin in March, 400 of them an era.
    day += _DAYS_TO_1970
    era, of_era = day // 146_097, day % 146_097
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    march = (5 * of_year + 2) // 153
    month = march + 3 if march < 10 else march - 9
    at = _put_padded(out, at, year + 400 * era + (month <= 2), 4)
    put_byte(out, at, _DASH)
    at = _put_padded(out, at + 1, month, 2)
    put_byte(out, at, _DASH)
    at = _put_padded(out, at + 1, of_year - (153 * march + 2) // 5 + 1, 2)
    put_byte(out, at, 84)
    seconds, micros = of_day // 1_000_000, of_day % 1_000_000
    at = _put_padded(out, at + 1, seconds // 3_600, 2)
    put_byte(out, at, _COLON)
    at = _put_padded(out, at + 1, seconds // 60 % 60, 2)
    put_byte(out, at, _COLON)
    at = _put_padded(out, at + 1, seconds % 60, 2)
    if micros:
        put_byte(out, at, 46)
        at = _put_padded(out, at + 1, micros, 6)
    put_byte(out, at, 90)
    return at + 1


@part
def put_piece(out: Any, at: Any, data: Any, starts: Any, lengths: Any, piece: Any) -> Any:
    """Write one of many strings as it is; give where it ends."""
    copy_bytes(out, at, data, starts[piece], lengths[piece])
    return at + lengths[piece]
