"""How features are computed, declared once for the table, for training and for a new applicant."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.schema import FeatureSchema

Columns = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Attribute:
    """A field of an event's `attributes`, with the values that are allowed."""

    name: str
    kind: Literal["integer", "number"] = "number"
    minimum: float | None = None
    maximum: float | None = None
    required: bool = True
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class FeatureDefinition:
    """
    From attributes to features.

    `compute` takes one float64 column of length n for each attribute (NaN where an optional one
    is missing) and gives float32 of shape (n, features), C-contiguous. It works element by
    element, so that one row alone gives the same bits as in any batch.
    """

    name: str
    attributes: tuple[Attribute, ...]
    schema: FeatureSchema
    compute: Callable[[Columns], NDArray[np.float32]]


def by_name(schema: FeatureSchema) -> FeatureDefinition:
    """Make the identity: an event's attributes are the features themselves, by their names."""

    def compute(columns: Columns) -> NDArray[np.float32]:
        return stack([columns[name] for name in schema.names])

    attributes = tuple(
        Attribute(f.name, "number", f.minimum, f.maximum, required=False, meaning=f.meaning)
        for f in schema.features
    )
    return FeatureDefinition("by_name", attributes, schema, compute)


def stack(columns: list[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Lay F columns of length n side by side as float32 of shape (n, F), C-contiguous."""
    matrix = np.empty((len(columns[0]), len(columns)), dtype=np.float32)
    for index, column in enumerate(columns):
        matrix[:, index] = column
    return matrix
