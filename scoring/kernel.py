"""The scoring kernel: LightGBM's own raw scores, to the last bit, many rows at a time."""

import re
import sys
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype
from numpy.typing import NDArray

from scoring import forest as forests
from scoring import lanes as vectors
from scoring import trees as node_tests
from scoring.compiled import NotCompiled, compiled, part
from scoring.forest import COLUMN, LEAVES, SEGMENT, SET, NotCovered, forest_of, node_dtype
from scoring.lanes import (
    added,
    cleared_above,
    cleared_above_or_nan,
    cleared_outside,
    every_leaf,
    exit_values,
    lanes_at,
    no_values,
    write_lanes,
)
from scoring.trees import ZERO, Tree

_MANY, _FEW = 64, 16
"""Rows of a block: four registers of AVX-512, which share each node's loads, or one."""
_TESTS_A_WALK = 200
"""Tests of one block of few rows in the time of LightGBM's way through one tree (`bench score`)."""
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_ZERO = float(ZERO)
_CODES_END, _NO_CODE = 2.0**31, np.uint32(2**32 - 1)
_AS_IT_IS = ("regression", "regression_l1", "huber", "fair", "quantile", "mape")
_exp = types.ExternalFunction("exp", types.float64(types.float64))


class Kernel:
    """
    Scores float32 or float64 rows by the trees of a LightGBM model over so many features.

    Raises NotCovered for an objective with an output that it does not know, for trees so large that
    LightGBM is faster, and where Numba does not compile.
    """

    def __init__(self, trees: list[Tree], features: int, objective: str, *, averaged: bool) -> None:
        self._trees = trees
        self._features = features
        self._steepness = _steepness(objective)
        self._divisor = len(trees) if averaged else 1
        forest = forest_of(trees, np.dtype(np.float32))
        self._forests = {forest.nodes.dtype["bound"]: forest}
        self._tests = (len(forest.nodes) + len(forest.sets)) / len(trees)
        if not self.pays(_FEW):
            msg = f"in trees of {self._tests:,.0f} nodes it is faster"
            raise NotCovered(msg)

    def pays(self, rows: int) -> bool:
        """Whether so many rows are scored faster than by LightGBM."""
        return min(rows, _FEW) * _TESTS_A_WALK > self._tests

    def predictions(self, matrix: NDArray[Any]) -> NDArray[np.float64]:
        """Score float[n, features]: float64[n], as `Booster.predict`, bit for bit."""
        outputs = self.raw_scores(matrix)
        if self._divisor > 1:
            outputs /= self._divisor
        if self._steepness is not None:
            _compiled_logistic()(outputs, self._steepness)
        return outputs

    def raw_scores(self, matrix: NDArray[Any]) -> NDArray[np.float64]:
        """
        Score float[n, features]: float64[n], as `Booster.predict(raw_score=True)`, bit for bit.

        A row has the same bits alone and in any batch. The GIL is free meanwhile. Raises ValueError
        for another shape or kind of values.
        """
        if matrix.ndim != 2 or matrix.shape[1] != self._features or matrix.dtype not in _FLOATS:
            msg = f"{matrix.dtype}{matrix.shape} are no rows of {self._features} features"
            raise ValueError(msg)
        matrix = np.ascontiguousarray(matrix)
        forest = self._forests.get(matrix.dtype)
        if forest is None:
            forest = self._forests[matrix.dtype] = forest_of(self._trees, matrix.dtype)
        scores = np.empty(len(matrix))
        rest = len(matrix) % _MANY
        whole = len(matrix) - (rest if rest <= 2 * _FEW else 0)
        for rows, lanes in ((slice(0, whole), _MANY), (slice(whole, None), _FEW)):
            if len(scores[rows]):
                _compiled_walk(lanes, matrix.dtype)(matrix[rows], scores[rows], *forest)
        return scores


def _steepness(objective: str) -> float | None:
    """Give the factor in the logistic function at an objective's end; None where there is none."""
    name, *parameters = objective.split()
    if name == "binary":
        given = dict(parameter.partition(":")[::2] for parameter in parameters)
        return _as_lightgbm_reads(given.get("sigmoid", ""))
    if name == "cross_entropy":
        return 1.0
    if name in _AS_IT_IS and "sqrt" not in parameters:
        return None
    msg = f"objective {objective!r}"
    raise NotCovered(msg)


def _as_lightgbm_reads(number: str) -> float:
    """Read a decimal number as LightGBM's `Atof`, which may miss the nearest float64 by a bit."""
    found = re.fullmatch(r"([0-9]{0,15})\.?([0-9]{0,15})(?:[eE]([-+]?[0-9]{1,2}))?", number)
    if found is None:
        msg = f"a sigmoid of {number!r}"
        raise NotCovered(msg)
    whole, fraction, exponent = found.groups(default="")
    value = float(whole or 0) + float(fraction or 0) / 10.0 ** len(fraction)
    power = int(exponent or 0)
    return value * 10.0**power if power >= 0 else value / 10.0**-power


def _turned(matrix: Any, start: Any, stop: Any, columns: Any, block: Any) -> None:
    """Write rows as columns."""
    for column in range(np.uint64(0), np.uint64(len(columns))):
        feature = np.uint64(columns[column].feature)
        if columns[column].zero_is_missing:
            for row in range(start, stop):
                value = matrix[row, feature]
                block[column, row - start] = np.nan if abs(value) <= _ZERO else value
        else:
            for row in range(start, stop):
                block[column, row - start] = matrix[row, feature]


def _coded(matrix: Any, start: Any, stop: Any, columns: Any, codes: Any) -> None:
    """Write rows as columns of categories, which LightGBM cuts from any value above -1."""
    for column in range(np.uint64(0), np.uint64(len(columns))):
        for row in range(start, stop):
            value = matrix[row, np.uint64(columns[column])]
            known = value > -1.0 and value < _CODES_END
            codes[column, row - start] = np.uint32(value) if known else _NO_CODE


_turn, _code = part(_turned), part(_coded)


def _walk(lanes: int) -> Any:
    def walk(
        matrix: Any,
        scores: Any,
        columns: Any,
        code_columns: Any,
        nodes: Any,
        sets: Any,
        segments: Any,
        trees: Any,
        leaves: Any,
        words: Any,
    ) -> None:
        # Unsigned throughout: a signed index may be negative, and to ask that costs the loop.
        zero, one, rows = np.uint64(0), np.uint64(1), np.uint64(len(matrix))
        block = np.zeros((len(columns), lanes), matrix.dtype)
        codes = np.zeros((len(code_columns), lanes), np.uint32)
        last = np.empty(lanes)
        for start in range(zero, rows, np.uint64(lanes)):
            stop = min(start + np.uint64(lanes), rows)
            _turn(matrix, start, stop, columns, block)
            _code(matrix, start, stop, code_columns, codes)
            sums = no_values(lanes)
            segment = node = test = zero
            for tree in range(zero, np.uint64(len(trees))):
                values = no_values(lanes)
                while segment < np.uint64(trees[tree]):
                    bits = every_leaf(lanes)
                    while node < np.uint64(segments[segment].right):
                        asked = nodes[node]
                        row_values = lanes_at(block, np.uint64(asked.column), lanes)
                        bits = cleared_above(bits, row_values, asked.bound, asked.keeps)
                        node += one
                    while node < np.uint64(segments[segment].stop):
                        asked = nodes[node]
                        row_values = lanes_at(block, np.uint64(asked.column), lanes)
                        bits = cleared_above_or_nan(bits, row_values, asked.bound, asked.keeps)
                        node += one
                    while test < np.uint64(segments[segment].stop_sets):
                        of = sets[test]
                        row_codes = lanes_at(codes, np.uint64(of.column), lanes)
                        first, size = np.uint64(of.first), np.uint64(of.words)
                        bits = cleared_outside(bits, row_codes, words, first, size, of.keeps)
                        test += one
                    values = exit_values(values, bits, leaves, segment * np.uint64(LEAVES))
                    segment += one
                sums = added(sums, values)
            write_lanes(sums, last, zero)
            for row in range(start, stop):
                scores[row] = last[row - start]

    return walk


def _logistic(scores: Any, steepness: float) -> None:
    for row in range(len(scores)):
        # The C library's function, as LightGBM's: NumPy's differs in a bit for one value in fifty.
        scores[row] = 1.0 / (1.0 + _exp(-steepness * scores[row]))


@cache
def _compiled_walk(lanes: int, values: np.dtype[Any]) -> Any:
    return _compiled(_walk(lanes), f"walk-{lanes}", _signature(values))


def _signature(values: np.dtype[Any]) -> Any:
    def array(dtype: Any) -> Any:
        return types.Array(from_dtype(np.dtype(dtype)), 1, "C")

    forest = (
        *(COLUMN, np.uint32, node_dtype(values), SET, SEGMENT),
        *(np.uint32, np.float64, np.uint32),
    )
    matrix = types.Array(from_dtype(values), 2, "C", readonly=True)
    given = (matrix, array(np.float64), *(array(dtype) for dtype in forest))
    return types.void(*given)


@cache
def _compiled_logistic() -> Any:
    return _compiled(_logistic, "logistic", types.void(types.float64[::1], types.float64))


def _compiled(function: Any, name: str, signature: Any) -> Any:
    modules = sys.modules[__name__], forests, vectors, node_tests
    try:
        return compiled(function, name, signature, modules)
    except NotCompiled as error:
        raise NotCovered(str(error)) from None
