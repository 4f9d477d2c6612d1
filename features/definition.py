"""How features are computed, declared once for the table, for training and for a new applicant."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.schema import FeatureSchema

Columns = Mapping[str, NDArray[np.float64]]

_LARGEST = float(np.finfo(np.float32).max)

UNKNOWN_TEXT = -1.0
"""Stands for a text that is none of its attribute's categories."""


Kind = Literal["integer", "whole", "number", "text", "object", "rows"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """
    A field of an event's `attributes`, with the values that are allowed.

    A `whole` number may be written with a fraction of zero, an `integer` may not; an `object` and
    each of at most `most` `rows` hold `fields`. A `nullable` one may be null, one that is not
    `required` also be left out; one that is not `read` is checked, and no feature needs it.
    `categories` are the texts that features tell apart; others are allowed, and all alike.
    """

    name: str
    kind: Kind = "number"
    minimum: float | None = None
    maximum: float | None = None
    required: bool = True
    meaning: str = ""
    nullable: bool = False
    read: bool = True
    categories: tuple[str, ...] = ()
    fields: tuple["Attribute", ...] = ()
    most: int | None = None

    def __post_init__(self) -> None:
        assert not any(field.fields for field in self.fields), "rows hold plain values"


@dataclass(frozen=True, slots=True)
class FeatureDefinition:
    """
    From attributes to features.

    `compute` takes a float64 column for each attribute that is read (NaN where it is missing) and
    gives float32 of shape (n, features), C-contiguous; one applicant alone has the same bits as in
    any batch. Columns have length n. What stands in an object or in rows is called "object.field";
    a column of rows has one value for each row, the first applicant's rows first, and under the
    rows' own name stands how many each applicant has. A text is its place in `categories`, NaN, or
    UNKNOWN_TEXT. `formulas` say how a feature is computed, where that is declared.

    `protected` are features that the table holds and no training may use: they tell, or give away,
    what credit must not be refused for.
    """

    name: str
    attributes: tuple[Attribute, ...]
    schema: FeatureSchema
    compute: Callable[[Columns], NDArray[np.float32]]
    formulas: Mapping[str, str] = field(default_factory=dict)
    protected: tuple[str, ...] = ()


def by_name(schema: FeatureSchema) -> FeatureDefinition:
    """
    Make the identity: an event's attributes are the features themselves, by their names.

    A feature without bounds takes what a float32 holds; beyond that it would be infinite.
    """

    def compute(columns: Columns) -> NDArray[np.float32]:
        return stack([columns[name] for name in schema.names])

    attributes = tuple(
        Attribute(
            f.name,
            "number",
            -_LARGEST if f.minimum is None else f.minimum,
            _LARGEST if f.maximum is None else f.maximum,
            required=False,
            meaning=f.meaning,
        )
        for f in schema.features
    )
    return FeatureDefinition("by_name", attributes, schema, compute)


def stack(columns: list[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Lay F columns of length n side by side as float32 of shape (n, F), C-contiguous."""
    matrix = np.empty((len(columns[0]), len(columns)), dtype=np.float32)
    for index, column in enumerate(columns):
        matrix[:, index] = column
    return matrix
