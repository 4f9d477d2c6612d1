"""Expressions over arrays: the features of a poll's applicants from the rows that they bring."""

from collections.abc import Sequence
from functools import reduce, singledispatch

import numpy as np
from numpy.typing import NDArray

from features.definition import Columns
from features.relational.expression import (
    Above,
    Across,
    Aggregate,
    Column,
    Difference,
    Equals,
    Expression,
    Plus,
    Quotient,
    Unless,
    walk,
)

Values = NDArray[np.float64]


class InMemory:
    """
    Expressions, ready to be computed from columns.

    The columns are a FeatureDefinition's: an object called as the application table, and rows
    called as the history tables. An applicant's values do not depend on who else is in the batch.
    """

    def __init__(self, expressions: Sequence[Expression]) -> None:
        self.expressions = tuple(expressions)
        places: dict[Expression, int] = {}
        self._steps: list[tuple[Expression, tuple[int, ...]]] = []
        for part in (part for expression in expressions for part in walk(expression)):
            if part not in places:
                places[part] = len(self._steps)
                self._steps.append((part, tuple(places[inner] for inner in part.inner)))
        self._wanted = [places[expression] for expression in expressions]

    def values(self, columns: Columns) -> list[Values]:
        """Give each expression's values for n applicants: float64[n], NaN where missing."""
        segments: dict[str, _Segments] = {}
        known: list[Values] = []
        for expression, inner in self._steps:
            given = [known[place] for place in inner]
            match expression:
                case Column():
                    known.append(columns[f"{expression.of}.{expression.name}"])
                case Aggregate():
                    table = expression.value.table
                    if table not in segments:
                        segments[table] = _Segments(columns[table])
                    known.append(segments[table].aggregate(expression, given[0]))
                case _:
                    known.append(_of_row(expression, given))
        return [known[place] for place in self._wanted]

    def features(self, columns: Columns) -> NDArray[np.float32]:
        """Give the values as features: float32[n, expressions]."""
        return finished(self.values(columns))


@singledispatch
def _of_row(expression: Expression, given: list[Values]) -> Values:
    """Compute an expression from the values of its inner ones."""
    raise NotImplementedError(type(expression), given)


@_of_row.register
def _(unless: Unless, given: list[Values]) -> Values:
    return np.where(given[0] == unless.marker, np.nan, given[0])


@_of_row.register
def _(equals: Equals, given: list[Values]) -> Values:
    return np.where(given[0] == equals.code, 1.0, 0.0)


@_of_row.register
def _(above: Above, given: list[Values]) -> Values:
    return np.where(np.isnan(given[0]), np.nan, given[0] > above.bound)


@_of_row.register
def _(plus: Plus, given: list[Values]) -> Values:
    return given[0] + plus.constant


@_of_row.register
def _(_: Difference, given: list[Values]) -> Values:
    return given[0] - given[1]


@_of_row.register
def _(_: Quotient, given: list[Values]) -> Values:
    return _over(given[0], given[1])


@_of_row.register
def _(across: Across, given: list[Values]) -> Values:
    if across.how in {"min", "max"}:
        best: Values = reduce(np.fmin if across.how == "min" else np.fmax, given)
        return best
    present = [~np.isnan(values) for values in given]
    total = reduce(np.add, map(_zero_unless, present, given))
    count = reduce(np.add, [here.astype(np.float64) for here in present])
    return np.where(count > 0, total, np.nan) if across.how == "sum" else _over(total, count)


class _Segments:
    """Each applicant's rows of one history table, side by side."""

    def __init__(self, lengths: Values) -> None:
        counts = lengths.astype(np.intp)
        self._some = counts > 0
        self._starts = (np.cumsum(counts) - counts)[self._some]
        self._owner = np.repeat(np.arange(len(counts)), counts)

    def aggregate(self, aggregate: Aggregate, values: Values) -> Values:
        """Aggregate float64[rows] to float64[applicants]."""
        result = np.full(len(self._some), np.nan)
        if len(self._starts):
            result[self._some] = self._of_those_with_rows(aggregate, values)
        return result

    def _of_those_with_rows(self, aggregate: Aggregate, values: Values) -> Values:
        how, present = aggregate.how, ~np.isnan(values)
        if how in {"min", "max"}:
            reduced: Values = (np.fmin if how == "min" else np.fmax).reduceat(values, self._starts)
            return reduced
        if how == "nunique":
            present &= self._first_of_its_kind(values)
        count = np.add.reduceat(present.astype(np.int64), self._starts)
        if how in {"count", "nunique"}:
            return count.astype(np.float64)
        unit = 10.0**aggregate.decimals
        whole = np.floor(_zero_unless(present, values) * unit + 0.5).astype(np.int64)
        total = np.add.reduceat(whole, self._starts).astype(np.float64)
        if how == "sum":
            return np.where(count > 0, total / unit, np.nan)
        return _over(total, count.astype(np.float64) * unit)

    def _first_of_its_kind(self, values: Values) -> NDArray[np.bool_]:
        order = np.lexsort((values, self._owner))
        owner, ordered = self._owner[order], values[order]
        first = np.ones(len(values), dtype=np.bool_)
        first[order[1:]] = (owner[1:] != owner[:-1]) | (ordered[1:] != ordered[:-1])
        return first


def _over(value: Values, over: Values) -> Values:
    nothing = over == 0
    return np.where(nothing, np.nan, value / np.where(nothing, 1.0, over))


def _zero_unless(present: NDArray[np.bool_], values: Values) -> Values:
    return np.where(present, values, 0.0)


def finished(values: Sequence[Values]) -> NDArray[np.float32]:
    """
    Lay float64 columns side by side as float32[n, columns]; the last step on every path.

    What a float32 cannot hold is missing.
    """
    matrix = np.empty((len(values[0]), len(values)), dtype=np.float32)
    with np.errstate(over="ignore"):
        for index, column in enumerate(values):
            matrix[:, index] = column
    # Which zero a minimum of -0.0 and 0.0 gives is an engine's choice, and which of the NaNs.
    matrix += np.float32(0)
    matrix[~np.isfinite(matrix)] = np.nan
    return matrix
