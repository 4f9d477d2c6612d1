"""Decoded attributes to the columns that a feature definition computes from."""

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from features.definition import UNKNOWN_TEXT, Attribute, Columns, FeatureDefinition

Named = tuple[str, NDArray[np.float64]]


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
