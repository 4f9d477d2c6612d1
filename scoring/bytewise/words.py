"""What the processor does in one instruction and Numba has no name for; bytes without bounds."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_BYTE, _HALF, _LONG, _DOUBLE = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.DoubleType()
_WIDE = ir.IntType(128)

_Lowered = tuple[Any, Callable[[Any, Any, Any, Any], Any]]
"""An operation's signature, and what writes it as LLVM's instructions."""


def _instruction(typed: Callable[..., _Lowered]) -> Any:
    return intrinsic(typed)


@_instruction
def high_product(_: Any, a: Any, b: Any) -> _Lowered:
    """Give the upper 64 of the 128 bits of a product of uint64."""

    def lower(_: Any, builder: Any, __: Any, given: Any) -> Any:
        product = builder.mul(builder.zext(given[0], _WIDE), builder.zext(given[1], _WIDE))
        return builder.trunc(builder.lshr(product, ir.Constant(_WIDE, 64)), _LONG)

    return types.uint64(types.uint64, types.uint64), lower


@_instruction
def leading_zeros(_: Any, value: Any) -> _Lowered:
    """Count the zero bits above the highest bit of a uint64: int64."""

    def lower(_: Any, builder: Any, __: Any, given: Any) -> Any:
        return builder.ctlz(given[0], ir.IntType(1)(0))

    return types.int64(types.uint64), lower


@_instruction
def float_of_bits(_: Any, bits: Any) -> _Lowered:
    """Take the bits of a uint64 for a float64."""

    def lower(_: Any, builder: Any, __: Any, given: Any) -> Any:
        return builder.bitcast(given[0], _DOUBLE)

    return types.float64(types.uint64), lower


@_instruction
def bits_of_float(_: Any, value: Any) -> _Lowered:
    """Take the bits of a float64 for a uint64."""

    def lower(_: Any, builder: Any, __: Any, given: Any) -> Any:
        return builder.bitcast(given[0], _LONG)

    return types.uint64(types.float64), lower


@_instruction
def byte_at(_: Any, data: Any, at: Any) -> _Lowered:
    """Read one byte of uint8[n] as an int64; an index is never counted from the end."""

    def lower(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _place(context, builder, signature, given, 0, given[1])
        return builder.zext(builder.load(place), _LONG)

    return types.int64(data, types.int64), lower


@_instruction
def word_at(_: Any, data: Any, at: Any) -> _Lowered:
    """Read eight bytes of uint8[n], the first the lowest, as a uint64."""

    def lower(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _place(context, builder, signature, given, 0, given[1])
        return builder.load(builder.bitcast(place, _LONG.as_pointer()), align=1)

    return types.uint64(data, types.int64), lower


@_instruction
def put_byte(_: Any, out: Any, at: Any, value: Any) -> _Lowered:
    """Write the lowest byte of an int64 into uint8[n]."""

    def lower(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _place(context, builder, signature, given, 0, given[1])
        builder.store(builder.trunc(given[2], _BYTE), place)
        return context.get_dummy_value()

    return types.void(out, types.int64, types.int64), lower


@_instruction
def put_word(_: Any, out: Any, at: Any, value: Any) -> _Lowered:
    """Write a uint64 into uint8[n], its lowest byte first."""

    def lower(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _place(context, builder, signature, given, 0, given[1])
        builder.store(given[2], builder.bitcast(place, _LONG.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(out, types.int64, types.uint64), lower


@_instruction
def put_half(_: Any, out: Any, at: Any, value: Any) -> _Lowered:
    """Write the lower four bytes of an int64 into uint8[n], the lowest first."""

    def lower(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _place(context, builder, signature, given, 0, given[1])
        half = builder.trunc(given[2], _HALF)
        builder.store(half, builder.bitcast(place, _HALF.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(out, types.int64, types.int64), lower


@_instruction
def copy_bytes(_: Any, out: Any, at: Any, data: Any, start: Any, count: Any) -> _Lowered:
    """Copy so many bytes from one uint8[n] into another that does not overlap."""

    def lower(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        into = _place(context, builder, signature, given, 0, given[1])
        source = _place(context, builder, signature, given, 2, given[3])
        cgutils.raw_memcpy(builder, into, source, given[4], 1)
        return context.get_dummy_value()

    return types.void(out, types.int64, data, types.int64, types.int64), lower


def _place(
    context: Any, builder: Any, signature: Any, given: Any, argument: int, index: Any
) -> Any:
    array = context.make_array(signature.args[argument])(context, builder, given[argument])
    return builder.gep(array.data, [index])
