"""Columns of byte strings made of others: side by side, in one width, and numbers as text."""

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from scoring.byte_strings import ByteStrings
from scoring.bytewise import decimals, words
from scoring.bytewise.decimals import LONGEST_NUMBER, put_integer
from scoring.bytewise.words import byte_at, copy_bytes, put_byte
from scoring.compiled import BYTES_OUT, LONGS, LONGS_OUT, STRINGS, compiles


def packed(strings: ByteStrings) -> ByteStrings:
    """Lay strings one after the other, without a gap, in a buffer of their own."""
    data = np.empty(strings.size(), np.uint8)
    starts = np.empty(len(strings), np.int64)
    _pack(strings.data, strings.starts, strings.lengths, data, starts)
    return ByteStrings(data, starts, strings.lengths)


def in_one_width(strings: ByteStrings) -> NDArray[np.bytes_]:
    """Give NumPy's own column of n byte strings, none null, the shorter padded with zeros."""
    width = max(1, int(strings.lengths.max(initial=1)))
    rows = np.zeros((len(strings), width), np.uint8)
    _widen(strings.data, strings.starts, strings.lengths, rows.reshape(-1), width)
    return rows.view(f"S{width}").reshape(-1)


def or_number(strings: ByteStrings, numbers: NDArray[np.int64]) -> ByteStrings:
    """Give strings, and where one is null or empty its number in decimal digits."""
    data = np.empty(strings.size() + LONGEST_NUMBER * len(strings), np.uint8)
    starts, lengths = np.empty(len(strings), np.int64), np.empty(len(strings), np.int64)
    _string_or_number(strings.data, strings.starts, strings.lengths, numbers, data, starts, lengths)
    return ByteStrings(data, starts, lengths)


def in_hex(rows: ByteStrings) -> ByteStrings:
    """Write strings of one width in hexadecimal digits."""
    width = int(rows.lengths[0]) if len(rows) else 0
    found = np.empty((len(rows), 2 * width), np.uint8)
    _write_hex(rows.data, rows.starts, rows.lengths, found.reshape(-1))
    return ByteStrings.of_width(found)


@compiles(types.void(*STRINGS, BYTES_OUT, LONGS_OUT), words)
def _pack(data: Any, starts: Any, lengths: Any, found: Any, found_starts: Any) -> None:
    at = np.int64(0)
    for row in range(len(starts)):
        length = max(lengths[row], 0)
        copy_bytes(found, at, data, starts[row], length)
        found_starts[row] = at
        at += length


@compiles(types.void(*STRINGS, BYTES_OUT, types.int64), words)
def _widen(data: Any, starts: Any, lengths: Any, found: Any, width: Any) -> None:
    for row in range(len(starts)):
        copy_bytes(found, row * width, data, starts[row], lengths[row])


@compiles(types.void(*STRINGS, LONGS, BYTES_OUT, LONGS_OUT, LONGS_OUT), words, decimals)
def _string_or_number(
    data: Any,
    starts: Any,
    lengths: Any,
    numbers: Any,
    found: Any,
    found_starts: Any,
    found_lengths: Any,
) -> None:
    at = np.int64(0)
    for row in range(len(starts)):
        found_starts[row] = at
        length = lengths[row]
        if length > 0:
            copy_bytes(found, at, data, starts[row], length)
            at += length
        else:
            at = put_integer(found, at, numbers[row])
        found_lengths[row] = at - found_starts[row]


@compiles(types.void(*STRINGS, BYTES_OUT), words)
def _write_hex(data: Any, starts: Any, lengths: Any, found: Any) -> None:
    at = np.int64(0)
    for row in range(len(starts)):
        for place in range(starts[row], starts[row] + lengths[row]):
            byte = byte_at(data, place)
            for half in (byte >> 4, byte & 15):
                put_byte(found, at, half + (48 if half < 10 else 87))
                at += 1
