"""Times of RFC 3339 in a buffer of bytes."""

from typing import Any

import numpy as np

from scoring.bytewise.tokens import COLON, FAILED, NO_DIGIT, digit_at
from scoring.bytewise.words import byte_at
from scoring.compiled import part

_FIRST_YEAR, _END_YEAR = 1970, 2200


@part
def _two_digits(data: Any, at: Any) -> Any:
    """Read two digits, where there are that many bytes; below zero: none."""
    tens, ones = byte_at(data, at) - 48, byte_at(data, at + 1) - 48
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else FAILED


@part
def instant_at(data: Any, at: Any, end: Any) -> Any:
    """Read a time of RFC 3339 from 1970 to 2199: microseconds since 1970, or below zero."""
    if end - at < 20:
        return np.int64(FAILED)
    century, of_century = _two_digits(data, at), _two_digits(data, at + 2)
    month, day = _two_digits(data, at + 5), _two_digits(data, at + 8)
    hour, minute = _two_digits(data, at + 11), _two_digits(data, at + 14)
    second = _two_digits(data, at + 17)
    separated = byte_at(data, at + 4) == 45 and byte_at(data, at + 7) == 45
    separated = separated and byte_at(data, at + 10) == 84 and byte_at(data, at + 13) == COLON
    separated = separated and byte_at(data, at + 16) == COLON
    year = 100 * century + of_century
    if not separated or min(century, of_century, month, day, hour, minute, second) < 0:
        return np.int64(FAILED)
    if year < _FIRST_YEAR or year >= _END_YEAR or month < 1 or month > 12 or day < 1:
        return np.int64(FAILED)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    longest = 30 + ((month + (month >> 3)) & 1)
    if month == 2:
        longest = 29 if leap else 28
    if day > longest or hour > 23 or minute > 59 or second > 59:
        return np.int64(FAILED)
    at += 19
    micros = np.int64(0)
    if byte_at(data, at) == 46:
        at += 1
        unit = np.int64(100_000)
        first = at
        digit = digit_at(data, at, end)
        while digit != NO_DIGIT and unit > 0:
            micros += digit * unit
            unit //= 10
            at += 1
            digit = digit_at(data, at, end)
        if at == first or digit != NO_DIGIT:
            return np.int64(FAILED)
    ahead = np.int64(0)
    if end - at == 1 and byte_at(data, at) == 90:
        pass
    elif end - at == 6 and byte_at(data, at + 3) == COLON:
        sign = byte_at(data, at)
        hours, minutes = _two_digits(data, at + 1), _two_digits(data, at + 4)
        if (sign != 43 and sign != 45) or min(hours, minutes) < 0 or hours > 23 or minutes > 59:
            return np.int64(FAILED)
        ahead = (60 * hours + minutes) * (1 if sign == 43 else -1)
    else:
        return np.int64(FAILED)
    # Days before a year and a month that both begin in March.
    years = year - 1 if month <= 2 else year
    months = month + 9 if month <= 2 else month - 3
    days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * months + 2) // 5 + day
    days -= 719_469
    seconds = 86_400 * days + 3_600 * hour + 60 * (minute - ahead) + second
    return 1_000_000 * seconds + micros
