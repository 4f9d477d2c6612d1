"""What plain JSON is made of: spaces, words, texts and numbers in a buffer of bytes."""

from typing import Any

import numpy as np

from scoring.bytewise.decimals import float_of
from scoring.bytewise.words import byte_at, word_at
from scoring.compiled import part

SPACE, QUOTE, COLON = 32, 34, 58
FAILED = -1
NO_DIGIT = 10
_BACKSLASH = 92
_MOST_DIGITS, _EXACT_DIGITS = 19, 15
_WORD = 8


@part
def is_word(data: Any, at: Any, end: Any, word: Any, start: Any, length: Any) -> Any:
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
def behind_space(data: Any, at: Any, end: Any) -> Any:
    """Give the first place that holds no white space."""
    while at < end:
        byte = byte_at(data, at)
        if byte > SPACE or not (byte == SPACE or 9 <= byte <= 10 or byte == 13):
            break
        at += 1
    return at


@part
def is_byte(data: Any, at: Any, end: Any, byte: Any) -> Any:
    """Say whether a byte stands at a place."""
    return at < end and byte_at(data, at) == byte


@part
def end_of_text(data: Any, at: Any, end: Any) -> Any:
    """Give where the closing quote of a text stands that is ASCII without control or escapes."""
    while at < end:
        byte = byte_at(data, at)
        if byte == QUOTE:
            return at
        if byte < SPACE or byte >= 127 or byte == _BACKSLASH:
            return FAILED
        at += 1
    return FAILED


@part
def is_null(data: Any, at: Any, end: Any) -> Any:
    """Say whether a null stands at a place."""
    if end - at < 4 or byte_at(data, at) != 110 or byte_at(data, at + 1) != 117:
        return False
    return byte_at(data, at + 2) == 108 and byte_at(data, at + 3) == 108


@part
def digit_at(data: Any, at: Any, end: Any) -> Any:
    """Read a digit, or NO_DIGIT."""
    if at >= end:
        return NO_DIGIT
    digit = byte_at(data, at) - 48
    return digit if 0 <= digit <= 9 else NO_DIGIT


@part
def whole_number(data: Any, at: Any, end: Any) -> Any:
    """Read digits without a leading zero, at most nineteen: their end and value (uint64)."""
    begin, value = at, np.uint64(0)
    digit = digit_at(data, at, end)
    while digit != NO_DIGIT:
        value = value * np.uint64(10) + np.uint64(digit)
        at += 1
        digit = digit_at(data, at, end)
    count = at - begin
    if count == 0 or count > _MOST_DIGITS or (count > 1 and byte_at(data, begin) == 48):
        return FAILED, value
    return at, value


@part
def number_at(data: Any, at: Any, end: Any, integer: Any) -> Any:
    """Read a number: its end and value (float64)."""
    negative = is_byte(data, at, end, 45)
    at += negative
    begin = at
    at, digits = whole_number(data, at, end)
    if at == FAILED:
        return at, 0.0
    power, count = np.int64(0), at - begin
    if is_byte(data, at, end, 46):
        at += 1
        first = at
        digit = digit_at(data, at, end)
        while digit != NO_DIGIT:
            digits = digits * np.uint64(10) + np.uint64(digit)
            at += 1
            digit = digit_at(data, at, end)
        power -= at - first
        # Zeros before the first other digit count for nothing, but who writes many of them?
        count += at - first
        if integer or at == first or count > _MOST_DIGITS:
            return np.int64(FAILED), 0.0
    if at < end and (byte_at(data, at) | 32) == 101:
        at += 1
        down = is_byte(data, at, end, 45)
        at += down or is_byte(data, at, end, 43)
        first, exponent = at, np.int64(0)
        digit = digit_at(data, at, end)
        while digit != NO_DIGIT and at - first < 4:
            exponent = exponent * 10 + digit
            at += 1
            digit = digit_at(data, at, end)
        if integer or at == first or digit != NO_DIGIT:
            return np.int64(FAILED), 0.0
        power += -exponent if down else exponent
    if integer:
        if count > _EXACT_DIGITS:  # its limits are compared as float64
            return np.int64(FAILED), 0.0
        value = np.int64(digits)
        return at, np.float64(-value if negative else value)
    value, found = float_of(digits, power)
    # What minus nothing is, is for the other decoder to say.
    if not found or (negative and value == 0.0):
        return np.int64(FAILED), 0.0
    return at, -value if negative else value
