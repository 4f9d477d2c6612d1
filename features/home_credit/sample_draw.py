"""Drawing values that are spread as a reference column's are."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from features.home_credit.reference import ColumnReference, reference

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Codes = NDArray[np.int16]

MARKER = 365243
"""Where a date is not known or not yet, the competition's day columns hold this number."""
MONTH = 30.4375
"""Mean days of a month."""

_GRID = np.linspace(-8, 8, 3201)
_BELOW = np.array([0.5 * (1 + erf(z / sqrt(2))) for z in _GRID])


@dataclass(frozen=True, slots=True)
class Coded:
    """Strings as codes int16[n] into their names; -1 is missing."""

    codes: Codes
    names: tuple[str, ...]

    def __getitem__(self, rows: Ints | Flags) -> "Coded":
        return Coded(self.codes[rows], self.names)


Column = Floats | Ints | Coded
Columns = dict[str, Column]


def column_of(table: str, name: str) -> ColumnReference:
    """Find a reference column; raises KeyError."""
    return _by_name(table)[name]


@cache
def _by_name(table: str) -> dict[str, ColumnReference]:
    return {column.name: column for column in reference()[table].columns}


def share_below(z: Floats) -> Floats:
    """Give the share of a standard normal below each z."""
    share: Floats = np.interp(z, _GRID, _BELOW)
    return share


def at_share(column: ColumnReference, share: Floats) -> Floats:
    """
    Give the value below which that share of the column's present values lies; share in [0, 1].

    Columns with few values step; others run straight from quantile to quantile, and ever steeper
    beyond the second highest, where amounts have long tails.
    """
    if column.categories:
        values, cumulative = _steps(tuple(column.categories.items()))
        return values[np.searchsorted(cumulative, share, side="right")]
    shares, values = _knots(tuple(column.quantiles.items()))
    return np.interp(share, shares, values)


@cache
def _steps(shares: tuple[tuple[str, float], ...]) -> tuple[Floats, Floats]:
    ordered = sorted((float(value), share) for value, share in shares)
    total = np.cumsum([share for _, share in ordered])
    return np.array([value for value, _ in ordered]), total[:-1] / total[-1]


@cache
def _knots(quantiles: tuple[tuple[float, float], ...]) -> tuple[Floats, Floats]:
    shares, values = (np.array(side) for side in zip(*quantiles, strict=True))
    last, most = values[-2:]
    if most > 4 * last > 0 or most > last == 0:
        tail = np.linspace(shares[-2], 1, 12)[1:]
        along = np.linspace(0, 1, 12)[1:]
        beyond = last * (most / last) ** (along**2) if last > 0 else most * along**5
        shares, values = np.append(shares[:-1], tail), np.append(values[:-1], beyond)
    return shares, values


def pick(
    column: ColumnReference,
    share: Floats,
    *,
    only: Collection[str] = (),
    order: Sequence[str] = (),
) -> Codes:
    """
    Pick names by their shares, as codes into the column's categories in reference order.

    `share` is in [0, 1): near 0 gives the first name of `order`, near 1 the last. With `only`,
    those names alone, by their relative shares.
    """
    codes, cumulative = _choices(column, tuple(order), frozenset(only))
    return codes[np.searchsorted(cumulative, share, side="right")]


def _choices(
    column: ColumnReference, order: tuple[str, ...], only: frozenset[str]
) -> tuple[Codes, Floats]:
    names = tuple(column.categories)
    kept = [name for name in order or names if not only or name in only]
    total = np.cumsum([column.categories[name] for name in kept])
    codes = np.array([names.index(name) for name in kept], dtype=np.int16)
    return codes, total[:-1] / total[-1]


def code_of(column: ColumnReference, name: str) -> np.int16:
    """Give the code of a category; raises ValueError."""
    return np.int16(tuple(column.categories).index(name))


def coded(column: ColumnReference, codes: Codes) -> Coded:
    """Name the codes that `pick` gave."""
    return Coded(codes, tuple(column.categories))


def runs(lengths: Ints) -> tuple[Ints, Ints]:
    """
    Lay out one row for each step of each run: the run's index, and the step from 0.

    >>> runs(np.array([2, 0, 1]))
    (array([0, 0, 2]), array([0, 1, 0]))
    """
    owner = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.cumsum(lengths) - lengths
    return owner, np.arange(len(owner)) - starts[owner]


def money(amount: Floats, decimals: int = 2) -> Floats:
    """Round as the competition's amounts are: to cents, instalments to a tenth of one."""
    rounded: Floats = np.round(amount, decimals) + 0.0
    return rounded


def sometimes(random: np.random.Generator, values: Floats, missing: float) -> Floats:
    """Take away a share of the values."""
    return np.where(random.random(len(values)) < missing, np.nan, values)
