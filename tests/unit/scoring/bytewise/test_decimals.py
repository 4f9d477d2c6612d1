"""Numbers as text: written as msgspec writes them, read as Python reads them, to the last bit."""

import math
import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import types

from scoring.bytewise import decimals, words
from scoring.bytewise.decimals import LONGEST_NUMBER, float_of, put_float, put_integer
from scoring.compiled import (
    BYTES_OUT,
    DOUBLES,
    DOUBLES_OUT,
    FLAGS_OUT,
    LONGS,
    LONGS_OUT,
    compiles,
)

DIGITS = types.Array(types.uint64, 1, "C", readonly=True)
EDGES = [
    *(0.0, -0.0, 1.0, 0.1, 0.3, 1 / 3, 5e-324, 2.2250738585072014e-308, 2.225073858507201e-308),
    *(1.7976931348623157e308, 1e15, 1e16, 1e17, 9007199254740993.0, 123456789012345680.0),
    *(1e-4, 1e-5, 1e22, 1e23, 4.35, 0.000123, math.inf, -math.inf, math.nan),
    *(2.0**power for power in range(-1074, 1024, 7)),
    *(10.0**power for power in range(-300, 300, 3)),
]


@compiles(types.void(DOUBLES, BYTES_OUT, LONGS_OUT), words, decimals)
def write_floats(values: Any, out: Any, ends: Any) -> None:
    at = 0
    for row in range(len(values)):
        at = put_float(out, at, values[row])
        ends[row] = at


@compiles(types.void(LONGS, BYTES_OUT, LONGS_OUT), words, decimals)
def write_integers(values: Any, out: Any, ends: Any) -> None:
    at = 0
    for row in range(len(values)):
        at = put_integer(out, at, values[row])
        ends[row] = at


@compiles(types.void(DIGITS, LONGS, DOUBLES_OUT, FLAGS_OUT), words, decimals)
def read_floats(digits: Any, powers: Any, values: Any, found: Any) -> None:
    for row in range(len(digits)):
        values[row], found[row] = float_of(digits[row], powers[row])


def written(values: Any, by: Any) -> list[bytes]:
    out = np.zeros(LONGEST_NUMBER * len(values), np.uint8)
    ends = np.zeros(len(values), np.int64)
    by(values, out, ends)
    return [out[a:b].tobytes() for a, b in zip([0, *ends], ends, strict=False)]


def of_bits(bits: int) -> float:
    (value,) = struct.unpack("d", bits.to_bytes(8, "little"))
    return float(value)


@given(st.lists(st.floats() | st.integers(0, 2**64 - 1).map(of_bits), max_size=50))
def test_a_number_is_written_as_msgspec_writes_it(values: list[float]) -> None:
    assert written(np.array(values), write_floats) == list(map(msgspec.json.encode, values))


def test_numbers_at_every_edge_are_written_as_msgspec_writes_them() -> None:
    found = written(np.array(EDGES), write_floats)

    assert found == list(map(msgspec.json.encode, EDGES))
    assert max(map(len, found)) <= LONGEST_NUMBER


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_an_integer_is_written_as_it_is(values: list[int]) -> None:
    found = written(np.array(values, dtype=np.int64), write_integers)

    assert found == [str(value).encode() for value in values]


def read(digits: int, power: int) -> float | None:
    value, found = np.zeros(1), np.zeros(1, bool)
    read_floats(np.array([digits], np.uint64), np.array([power], np.int64), value, found)
    return float(value[0]) if found[0] else None


@given(st.integers(0, 2**64 - 1), st.integers(-320, 320))
def test_a_number_is_read_as_python_reads_it_or_not_at_all(digits: int, power: int) -> None:
    found = read(digits, power)

    assert found in (None, float(f"{digits}e{power}"))
    if 1e-270 < float(f"{digits}e{power}") < 1e300 and -280 < power < 280:
        assert found is not None


@given(st.integers(2**52, 2**53 - 1), st.integers(-5, 24))
def test_halves_between_two_numbers_are_read_to_the_even_one(mantissa: int, power: int) -> None:
    digits = 2 * mantissa + 1

    assert read(digits, power) == float(f"{digits}e{power}")


@pytest.mark.parametrize("value", [value for value in EDGES if math.isfinite(value) and value > 0])
def test_what_is_written_is_read_again(value: float) -> None:
    (text,) = written(np.array([value]), write_floats)
    whole, _, exponent = text.decode().partition("e")
    before, _, behind = whole.partition(".")
    digits, power = int(before + behind), int(exponent or 0) - len(behind)

    assert read(digits, power) in (None, value) if digits < 2**64 else True
