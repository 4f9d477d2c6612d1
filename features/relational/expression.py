"""
The language in which a feature over several tables is declared.

An expression has one value for each row of its `table`: of a history table, or of APPLICATION,
which has one row an applicant. Values are float64 or missing; a text is there to be compared alone.
What is missing makes missing whatever is computed from it. The meaning is the same on every engine,
to the last bit: sums and means go over whole numbers, which have no order, and everything else is
one IEEE operation after the other.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

APPLICATION = "application"

Bounds = tuple[float, float]
How = Literal["min", "max", "sum", "mean", "count", "nunique"]
AcrossHow = Literal["min", "max", "sum", "mean"]


class ExpressionInvalid(Exception):
    """An expression means nothing; says which and why."""


@dataclass(frozen=True)
class Expression:
    """What all expressions can do: be combined, and say their table, parts, bounds and formula."""

    @property
    def table(self) -> str:
        """The table of whose rows it has a value each."""
        return self.inner[0].table

    @property
    def inner(self) -> tuple["Expression", ...]:
        """The expressions that it is made of."""
        values = [getattr(self, field.name) for field in fields(self)]
        parts = [part for value in values for part in (value if type(value) is tuple else [value])]
        return tuple(part for part in parts if isinstance(part, Expression))

    @property
    def bounds(self) -> Bounds:
        """Least and greatest value; infinite where nothing bounds it."""
        return self._bounds()

    def _bounds(self) -> Bounds:
        return self.inner[0].bounds

    def __sub__(self, other: "Expression") -> "Difference":
        return Difference(self, other)

    def __add__(self, constant: float) -> "Plus":
        return Plus(self, constant)

    def __truediv__(self, other: "Expression") -> "Quotient":
        return Quotient(self, other)

    def __gt__(self, bound: float) -> "Above":
        return Above(self, bound)


class _OfOneRow(Expression):
    """Computed from several values of a row, which is of one table."""

    def __post_init__(self) -> None:
        tables = {inner.table for inner in self.inner}
        if len(tables) != 1:
            msg = f"{self}: it mixes rows of {', '.join(sorted(tables))}"
            raise ExpressionInvalid(msg)


@dataclass(frozen=True)
class Column(Expression):
    """A column as it is; `categories` where it holds texts, of which others are all alike."""

    of: str
    name: str
    least: float = -math.inf
    greatest: float = math.inf
    categories: tuple[str, ...] | None = None

    @property
    def table(self) -> str:
        """The table that it is of."""
        return self.of

    def unless(self, marker: float) -> "Unless":
        """Give the column without a value that means missing."""
        return Unless(self, marker)

    def equals(self, category: str) -> "Equals":
        """Give 1 where the text is this category, else 0, also where it is missing."""
        return Equals(self, category)

    def _bounds(self) -> Bounds:
        return self.least, self.greatest

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Unless(Expression):
    """Missing where the column holds `marker`."""

    column: Column
    marker: float

    def __str__(self) -> str:
        return f"{self.column} (missing where {self.marker:g})"


@dataclass(frozen=True)
class Equals(Expression):
    """1 where a text column holds `category`, else 0; never missing."""

    column: Column
    category: str

    def __post_init__(self) -> None:
        if self.column.categories is None or self.category not in self.column.categories:
            msg = f"{self.category!r} is no category of {self.column.of}.{self.column}"
            raise ExpressionInvalid(msg)

    @property
    def code(self) -> int:
        """The category's place among the column's."""
        assert self.column.categories is not None
        return self.column.categories.index(self.category)

    def _bounds(self) -> Bounds:
        return 0.0, 1.0

    def __str__(self) -> str:
        return f"{self.column} = '{self.category}'"


@dataclass(frozen=True)
class Above(Expression):
    """1 where a value is above `bound`, else 0."""

    value: Expression
    bound: float

    def _bounds(self) -> Bounds:
        return 0.0, 1.0

    def __str__(self) -> str:
        return f"{self.value} > {self.bound:g}"


@dataclass(frozen=True)
class Plus(Expression):
    """A value and a constant."""

    value: Expression
    constant: float

    def _bounds(self) -> Bounds:
        low, high = self.value.bounds
        return low + self.constant, high + self.constant

    def __str__(self) -> str:
        return f"({self.value} + {self.constant:g})"


@dataclass(frozen=True)
class Difference(_OfOneRow):
    """One value less another of the same row."""

    value: Expression
    less: Expression

    def _bounds(self) -> Bounds:
        (low, high), (less_low, less_high) = self.value.bounds, self.less.bounds
        return low - less_high, high - less_low

    def __str__(self) -> str:
        return f"({self.value} - {self.less})"


@dataclass(frozen=True)
class Quotient(_OfOneRow):
    """One value over another of the same row; missing where that is zero."""

    value: Expression
    over: Expression

    def _bounds(self) -> Bounds:
        low, high = self.over.bounds
        if low <= 0:
            return -math.inf, math.inf
        corners = [value / over for value in self.value.bounds for over in (low, high)]
        return min(corners), max(corners)

    def __str__(self) -> str:
        return f"{self.value} / {self.over}"


@dataclass(frozen=True)
class Across(_OfOneRow):
    """Least, greatest, sum or mean of several values of a row, of those that are not missing."""

    how: AcrossHow
    values: tuple[Expression, ...]

    def _bounds(self) -> Bounds:
        lows, highs = zip(*(value.bounds for value in self.values), strict=True)
        if self.how == "sum":
            return sum(min(low, 0.0) for low in lows), sum(max(high, 0.0) for high in highs)
        return min(lows), max(highs)

    def __str__(self) -> str:
        return f"{self.how} of {', '.join(map(str, self.values))}"


@dataclass(frozen=True)
class Aggregate(Expression):
    """
    An applicant's rows of a history table to one value: of those that are not missing.

    Missing where an applicant has no row in the table; all but the counts also where every value
    is missing. `sum` and `mean` take each value to `decimals`, half up, so that no order of rows
    makes another result. `rows` is how many an applicant has at most.
    """

    how: How
    value: Expression
    decimals: int = 3
    rows: int = 1

    def __post_init__(self) -> None:
        if self.value.table == APPLICATION:
            msg = f"{self.how} of {self.value}: an applicant has one application"
            raise ExpressionInvalid(msg)
        if self.how in {"sum", "mean"}:
            greatest = max(map(abs, self.value.bounds)) * 10**self.decimals
            if not greatest < 2**53 or not greatest * self.rows < 2**63:
                msg = (
                    f"{self.how} of {self.value}: {self.rows} values up to {greatest:g} at "
                    f"{self.decimals} decimals do not fit into 64 bits"
                )
                raise ExpressionInvalid(msg)

    @property
    def table(self) -> str:
        """An applicant's own."""
        return APPLICATION

    def _bounds(self) -> Bounds:
        low, high = self.value.bounds
        if self.how in {"count", "nunique"}:
            return 0.0, float(self.rows)
        if self.how == "sum":
            return min(low, low * self.rows), max(high, high * self.rows)
        return low, high

    def __str__(self) -> str:
        what = {"sum": "sum", "mean": "mean", "min": "least", "max": "greatest"}
        word = what.get(self.how) or ("number" if self.how == "count" else "number of different")
        return f"{word} of {self.value} over {self.value.table}"


def walk(expression: Expression) -> Iterator[Expression]:
    """Give an expression and all that it is made of, the innermost first."""
    for inner in expression.inner:
        yield from walk(inner)
    yield expression
