"""
Numbers as decimal text and back, to the last bit.

Reading is by D. Lemire, "Number Parsing at a Gigabyte per Second" (2021), with N. Mushtak's proof
that it needs no second try; writing, which finds the shortest text that reads back as the same
number, by R. Giulietti, "The Schubfach way to render doubles" (2020).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scoring.bytewise.words import (
    bits_of_float,
    float_of_bits,
    high_product,
    leading_zeros,
    put_byte,
)
from scoring.compiled import part

_FIRST_READ, _LAST_READ = -290, 290
"""Powers of ten that are read here; others are near what a float64 cannot hold."""
_FIRST_WRITTEN, _LAST_WRITTEN = -292, 324
_EXACT = np.array([10.0**power for power in range(23)])

LONGEST_NUMBER = 26
"""Bytes that a float64 or an int64 takes as text, at most."""


def _pairs(numbers: list[int]) -> NDArray[np.uint64]:
    return np.array([[one >> 64, one & (2**64 - 1)] for one in numbers], dtype=np.uint64)


def _power_of_five(power: int) -> Any:
    """Give the first 128 bits of 5**power, as reading wants them rounded."""
    if power >= 0:
        five = 5**power
        return (five << 128) >> five.bit_length()
    five = 5**-power
    bits = (five - 1).bit_length()
    if power >= -27:
        return (1 << (bits + 127)) // five + 1
    found = (1 << (2 * bits + 128)) // five + 1
    return found >> max(0, found.bit_length() - 128)


def _power_of_ten(power: int) -> Any:
    """Give 10**power, scaled to 128 bits and rounded up, as writing wants it."""
    if power >= 0:
        ten = 10**power
        shift = ten.bit_length() - 128
        return ten << -shift if shift <= 0 else -(-ten >> shift)
    ten = 10**-power
    bits = ten.bit_length() + 127
    found = -(-(1 << bits) // ten)
    return found if found < 2**128 else -(-(1 << (bits - 1)) // ten)


_READ = _pairs([_power_of_five(power) for power in range(_FIRST_READ, _LAST_READ + 1)])
_WRITTEN = _pairs([_power_of_ten(power) for power in range(_FIRST_WRITTEN, _LAST_WRITTEN + 1)])


@part
def float_of(digits: Any, power: Any) -> Any:
    """
    Give the float64 nearest to `digits` times ten to `power`, and whether that was found.

    It is not found where the number is near the ends of what a float64 holds.
    """
    if digits == np.uint64(0):
        return 0.0, True
    if digits <= np.uint64(1 << 53) and -22 <= power <= 22:
        exact = np.float64(digits)
        return (exact / _EXACT[-power] if power < 0 else exact * _EXACT[power]), True
    if power < _FIRST_READ or power > _LAST_READ:
        return 0.0, False
    zeros = leading_zeros(digits)
    scaled = digits << np.uint64(zeros)
    five, rest = _READ[power - _FIRST_READ, 0], _READ[power - _FIRST_READ, 1]
    high, low = high_product(scaled, five), scaled * five
    if (high & np.uint64(0x1FF)) == np.uint64(0x1FF):
        more = high_product(scaled, rest)
        low += more
        if more > low:
            high += np.uint64(1)
    upper = high >> np.uint64(63)
    shift = upper + np.uint64(9)
    mantissa = high >> shift
    exponent = ((217706 * power) >> 16) + 63 + np.int64(upper) - zeros + 1023
    if exponent <= 0:
        return 0.0, False
    near = low <= np.uint64(1) and -4 <= power <= 23
    halfway = near and (mantissa & np.uint64(3)) == np.uint64(1)
    if halfway and (mantissa << shift) == high:
        mantissa &= ~np.uint64(1)
    mantissa = (mantissa + (mantissa & np.uint64(1))) >> np.uint64(1)
    if mantissa >= np.uint64(1 << 53):
        mantissa = np.uint64(1 << 52)
        exponent += 1
    if exponent >= 0x7FF:
        return 0.0, False
    mantissa &= np.uint64((1 << 52) - 1)
    return float_of_bits(mantissa | (np.uint64(exponent) << np.uint64(52))), True


@part
def put_digits(out: Any, at: Any, value: Any) -> Any:
    """Write a uint64 in decimal digits; give where they end."""
    digits = 1
    rest = value
    while rest >= np.uint64(10):
        rest //= np.uint64(10)
        digits += 1
    end = at + digits
    place = end
    rest = value
    while place > at:
        tens = rest // np.uint64(10)
        place -= 1
        put_byte(out, place, np.int64(rest - tens * np.uint64(10)) + 48)
        rest = tens
    return end


@part
def put_integer(out: Any, at: Any, value: Any) -> Any:
    """Write an int64; give where it ends."""
    if value >= 0:
        return put_digits(out, at, np.uint64(value))
    put_byte(out, at, 45)
    return put_digits(out, at + 1, np.uint64(0) - np.uint64(value))


@part
def _rounded_to_odd(high: Any, low: Any, value: Any) -> Any:
    carry = high_product(low, value)
    first, second = high * value, high_product(high, value)
    first += carry
    if first < carry:
        second += np.uint64(1)
    return second | np.uint64(first > np.uint64(1))


@part
def _shortest(bits: Any) -> Any:
    """Give the digits (uint64) and the power of ten of a float64 that is finite and above zero."""
    fraction = bits & np.uint64((1 << 52) - 1)
    biased = np.int64(bits >> np.uint64(52)) & 0x7FF
    if biased:
        c, q = fraction | np.uint64(1 << 52), biased - 1075
        if -53 < q <= 0 and (c & ((np.uint64(1) << np.uint64(-q)) - np.uint64(1))) == np.uint64(0):
            return c >> np.uint64(-q), np.int64(0)
    else:
        c, q = fraction, np.int64(-1074)
    odd = c & np.uint64(1)
    closer = fraction == np.uint64(0) and biased > 1
    k = (q * 1262611 - (524031 if closer else 0)) >> 22
    h = np.uint64(q + ((-k * 1741647) >> 19) + 1)
    high, low = _WRITTEN[-k - _FIRST_WRITTEN, 0], _WRITTEN[-k - _FIRST_WRITTEN, 1]
    middle = np.uint64(4) * c
    lower = _rounded_to_odd(high, low, (middle - np.uint64(1 if closer else 2)) << h) + odd
    value = _rounded_to_odd(high, low, middle << h)
    upper = _rounded_to_odd(high, low, (middle + np.uint64(2)) << h) - odd
    s = value // np.uint64(4)
    if s >= np.uint64(10):
        tens = s // np.uint64(10)
        forty = np.uint64(40) * tens
        below, above = lower <= forty, forty + np.uint64(40) <= upper
        if below != above:
            return tens + np.uint64(above), np.int64(k + 1)
    four = np.uint64(4) * s
    below, above = lower <= four, four + np.uint64(4) <= upper
    if below != above:
        return s + np.uint64(above), np.int64(k)
    half = four + np.uint64(2)
    up = value > half or (value == half and (s & np.uint64(1)) == np.uint64(1))
    return s + np.uint64(up), np.int64(k)


@part
def put_float(out: Any, at: Any, value: Any) -> Any:
    """Write a float64 as the shortest JSON number that reads back as it, or null; give its end."""
    if not np.isfinite(value):
        for byte in (110, 117, 108, 108):
            put_byte(out, at, byte)
            at += 1
        return at
    bits = bits_of_float(value)
    if bits >> np.uint64(63):
        put_byte(out, at, 45)
        at += 1
        bits &= np.uint64((1 << 63) - 1)
    if bits == np.uint64(0):
        for byte in (48, 46, 48):
            put_byte(out, at, byte)
            at += 1
        return at
    digits, power = _shortest(bits)
    while digits % np.uint64(10) == np.uint64(0):
        digits //= np.uint64(10)
        power += 1
    end = put_digits(out, at, digits)
    count = end - at
    point = count + power
    if power >= 0 and point <= 16:
        for _ in range(power):
            put_byte(out, end, 48)
            end += 1
        put_byte(out, end, 46)
        put_byte(out, end + 1, 48)
        return end + 2
    if 0 < point <= 16:
        return _with_point(out, at + point, end)
    if -5 < point <= 0:
        shift = 2 - point
        for place in range(end - 1, at - 1, -1):
            put_byte(out, place + shift, out[place])
        put_byte(out, at, 48)
        put_byte(out, at + 1, 46)
        for place in range(at + 2, at + shift):
            put_byte(out, place, 48)
        return end + shift
    if count > 1:
        end = _with_point(out, at + 1, end)
    put_byte(out, end, 101)
    return put_integer(out, end + 1, point - 1)


@part
def _with_point(out: Any, point: Any, end: Any) -> Any:
    for place in range(end - 1, point - 1, -1):
        put_byte(out, place + 1, out[place])
    put_byte(out, point, 46)
    return end + 1
