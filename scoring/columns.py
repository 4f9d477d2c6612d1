"""Decoded attributes to the columns that a feature definition computes from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from features.definition import UNKNOWN_TEXT, Attribute, Columns, FeatureDefinition

Named = tuple[str, NDArray[np.float64]]
Rows = NDArray[np.intp]


class Attributes(Protocol):
    """What n events carry of attributes; `carried`, bool[n], says which carry any."""

    @property
    def carried(self) -> NDArray[np.bool_]:
        """Which events carry any."""

    def at(self, rows: Rows) -> "Attributes":
        """Give those of some events."""

    def columns(self, rows: Rows) -> Columns:
        """Give a definition's columns of events that carry attributes."""


@dataclass(frozen=True, slots=True)
class NumberAttributes:
    """Numbers alone: float64[n, attributes that are read], NaN where one is missing, by name."""

    names: tuple[str, ...]
    cells: NDArray[np.float64]
    carried: NDArray[np.bool_]

    def at(self, rows: Rows) -> "NumberAttributes":
        """Give those of some events."""
        return NumberAttributes(self.names, self.cells[rows], self.carried[rows])

    def columns(self, rows: Rows) -> Columns:
        """Give the columns of events that carry attributes."""
        return dict(zip(self.names, np.ascontiguousarray(self.cells[rows].T), strict=True))


@dataclass(frozen=True, slots=True)
class StructAttributes:
    """Attributes of any kind as the event's type decodes them; None where an event has none."""

    definition: FeatureDefinition
    structs: Sequence[Any]

    @property
    def carried(self) -> NDArray[np.bool_]:
        """Which events carry any."""
        return np.array([struct is not None for struct in self.structs], dtype=bool)

    def at(self, rows: Rows) -> "StructAttributes":
        """Give those of some events."""
        return StructAttributes(self.definition, [self.structs[row] for row in rows.tolist()])

    def columns(self, rows: Rows) -> Columns:
        """Give the columns of events that carry attributes."""
        return columns_of(self.at(rows).structs, self.definition)


def columns_of(attributes: Sequence[object], definition: FeatureDefinition) -> Columns:
    """Turn the attributes of n applications, of the definition's type, into its columns."""
    return dict(_columns(attributes, definition.attributes, ""))


def _columns(
    structs: Sequence[object], attributes: tuple[Attribute, ...], prefix: str
) -> Iterator[Named]:
    read = [(f"a{index}", one) for index, one in enumerate(attributes) if one.read]
    single = [(field, one) for field, one in read if one.kind not in {"object", "rows"}]
    # The first stands twice, as attrgetter gives one field alone without a tuple around it.
    fields = [single[0][0], *(field for field, _ in single)] if single else []
    cells = zip(*map(attrgetter(*fields), structs), strict=True) if structs and single else ()
    for (_, attribute), column in zip(single, [*cells][1:] or [()] * len(single), strict=True):
        yield prefix + attribute.name, _column(column, attribute)
    for field, attribute in read:
        inner = map(attrgetter(field), structs)
        within = f"{prefix}{attribute.name}."
        if attribute.kind == "object":
            yield from _columns(list(inner), attribute.fields, within)
        elif attribute.kind == "rows":
            lists = [rows or () for rows in inner]
            yield prefix + attribute.name, np.fromiter(map(len, lists), np.float64, len(lists))
            yield from _columns(list(chain.from_iterable(lists)), attribute.fields, within)


def _column(cells: Sequence[object], attribute: Attribute) -> NDArray[np.float64]:
    if attribute.kind == "text":
        codes = {text: float(code) for code, text in enumerate(attribute.categories)}
        cells = [None if cell is None else codes.get(cell, UNKNOWN_TEXT) for cell in cells]  # type: ignore[call-overload]
    # None, a value that is not there, becomes NaN.
    return np.array(cells, dtype=np.float64)
