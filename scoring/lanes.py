"""
Rows side by side in vector registers, for code that Numba compiles.

Numba's own loops become vectors or do not, as LLVM sees fit. These operations are vectors from the
beginning: LLVM cuts each into as many registers as the processor needs for it, of any width.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

_BIT, _WORD, _LONG = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_KINDS = {"uint32": _WORD, "int32": _WORD, "float32": ir.FloatType(), "float64": ir.DoubleType()}
_WORD_BITS = 32

_Lowered = tuple[Any, Callable[[Any, Any, Any, Any], Any]]
"""An operation's signature, and what writes it as LLVM's instructions."""


def _operation(typed: Callable[..., _Lowered]) -> Any:
    return intrinsic(prefer_literal=True)(typed)


class Lanes(types.Type):
    """One value of a kind for each of so many rows."""

    def __init__(self, kind: str, rows: int) -> None:
        self.kind = kind
        self.rows = rows
        super().__init__(f"Lanes({kind}, {rows})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc] # untyped
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(_KINDS[lanes.kind], lanes.rows))


@_operation
def every_leaf(_: Any, rows: Any) -> _Lowered:
    """Give words with all bits set: uint32 lanes."""
    lanes = Lanes("uint32", rows.literal_value)

    def lower(context: Any, _: Any, signature: Any, __: Any) -> Any:
        return ir.Constant(context.get_value_type(signature.return_type), [-1] * lanes.rows)

    return lanes(rows), lower


@_operation
def no_values(_: Any, rows: Any) -> _Lowered:
    """Give zeros: float64 lanes."""
    lanes = Lanes("float64", rows.literal_value)

    def lower(context: Any, _: Any, signature: Any, __: Any) -> Any:
        return ir.Constant(context.get_value_type(signature.return_type), [0.0] * lanes.rows)

    return lanes(rows), lower


@_operation
def lanes_at(_: Any, block: Any, column: Any, rows: Any) -> _Lowered:
    """Read the rows of one column of a block, which is [columns, rows]."""
    lanes = Lanes(str(block.dtype), rows.literal_value)

    def lower(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        vector = context.get_value_type(signature.return_type)
        first = builder.mul(given[1], _LONG(lanes.rows))
        return builder.load(_pointer(context, builder, signature, given, 0, first, vector), align=4)

    return lanes(block, types.uint64, rows), lower


def _without(predicate: str) -> Callable[..., Any]:
    def cleared(_: Any, bits: Any, values: Any, bound: Any, keeps: Any) -> _Lowered:
        def lower(_: Any, builder: Any, __: Any, given: Any) -> Any:
            compare = builder.fcmp_unordered if predicate == "nan" else builder.fcmp_ordered
            above = compare(">", given[1], _splat(builder, given[2], bits.rows))
            return _cleared_where(builder, above, given[0], given[3], bits.rows)

        return bits(bits, values, bound, keeps), lower

    return cleared


cleared_above = _operation(_without("ordered"))
"""Keep only the bits `keeps` of words where a value is above a bound; NaN is not."""
cleared_above_or_nan = _operation(_without("nan"))
"""Keep only the bits `keeps` of words where a value is above a bound or NaN."""


@_operation
def cleared_outside(
    _: Any, bits: Any, codes: Any, sets: Any, first: Any, words: Any, keeps: Any
) -> _Lowered:
    """
    Keep only the bits `keeps` of words where a code is not in a set.

    The set is so many words of bits from the first on, and one of zeros behind them.
    """

    def lower(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        rows = bits.rows
        word = builder.lshr(given[1], _constant(5, rows))
        last = _splat(builder, builder.trunc(given[4], _WORD), rows)
        word = builder.select(builder.icmp_unsigned("<", word, last), word, last)
        start = _pointer(context, builder, signature, given, 2, given[3])
        found = _looked_up(builder, start, word, _WORD, rows)
        place = builder.and_(given[1], _constant(_WORD_BITS - 1, rows))
        found = builder.trunc(builder.lshr(found, place), ir.VectorType(_BIT, rows))
        return _cleared_where(builder, builder.not_(found), given[0], given[5], rows)

    return bits(bits, codes, sets, types.uint64, types.uint64, keeps), lower


@_operation
def exit_values(_: Any, values: Any, bits: Any, leaves: Any, first: Any) -> _Lowered:
    """Look up the leaf of each word's highest bit, from `first` on; an empty word keeps its."""

    def lower(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        rows = bits.rows
        words = ir.VectorType(_WORD, rows)
        leading = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(words, [words, _BIT]), f"llvm.ctlz.v{rows}i32"
        )
        leaf = builder.call(leading, [given[1], _BIT(0)])
        start = _pointer(context, builder, signature, given, 2, given[3])
        found = _looked_up(builder, start, leaf, ir.DoubleType(), rows)
        none = builder.icmp_unsigned("==", given[1], _constant(0, rows))
        return builder.select(none, given[0], found)

    return values(values, bits, leaves, types.uint64), lower


@_operation
def added(_: Any, sums: Any, values: Any) -> _Lowered:
    """Add row by row."""

    def lower(_: Any, builder: Any, __: Any, given: Any) -> Any:
        return builder.fadd(given[0], given[1])

    return sums(sums, values), lower


@_operation
def write_lanes(_: Any, values: Any, out: Any, first: Any) -> _Lowered:
    """Write the rows' values side by side."""

    def lower(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        vector = context.get_value_type(values)
        place = _pointer(context, builder, signature, given, 1, given[2], vector)
        builder.store(given[0], place, align=8)
        return context.get_dummy_value()

    return types.void(values, out, types.uint64), lower


def _pointer(
    context: Any,
    builder: Any,
    signature: Any,
    given: Any,
    argument: int,
    first: Any,
    to: Any = None,
) -> Any:
    array = context.make_array(signature.args[argument])(context, builder, given[argument])
    pointer = builder.gep(array.data, [first])
    return pointer if to is None else builder.bitcast(pointer, to.as_pointer())


def _splat(builder: Any, value: Any, rows: int) -> Any:
    nothing = ir.Constant(ir.VectorType(value.type, rows), ir.Undefined)
    one = builder.insert_element(nothing, value, _WORD(0))
    return builder.shuffle_vector(one, nothing, _constant(0, rows))


def _constant(value: int, rows: int) -> Any:
    return ir.Constant(ir.VectorType(_WORD, rows), [value] * rows)


def _cleared_where(builder: Any, where: Any, bits: Any, keeps: Any, rows: int) -> Any:
    return builder.select(where, builder.and_(bits, _splat(builder, keeps, rows)), bits)


def _looked_up(builder: Any, start: Any, index: Any, kind: Any, rows: int) -> Any:
    """Load row by row; the processors' own gathers were not faster."""
    found = ir.Constant(ir.VectorType(kind, rows), ir.Undefined)
    for row in range(rows):
        place = builder.zext(builder.extract_element(index, _WORD(row)), _LONG)
        value = builder.load(builder.gep(start, [place]))
        found = builder.insert_element(found, value, _WORD(row))
    return found
