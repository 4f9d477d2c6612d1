"""A LightGBM model's text as arrays: each tree's nodes, leaves and training counts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Bits of LightGBM's `decision_type`.
CATEGORICAL, DEFAULT_LEFT, MISSING_SHIFT = 1, 2, 2
MISSING_ZERO = 1
# LightGBM's predictor leaves out of a row what is no larger, so that it is a zero in every test.
ZERO = np.float32(1e-35)


@dataclass(frozen=True, slots=True)
class Tree:
    """
    One tree of m inner nodes and m + 1 leaves; a child below 0 is the leaf `~child`.

    `counts` are the training rows at each node, `leaf_counts` those at each leaf. The threshold of
    a categorical node is the number of its set: `category_words` from one of `category_bounds` to
    the next, a bit a category.
    """

    features: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    decisions: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    counts: NDArray[np.float64]
    leaf_values: NDArray[np.float64]
    leaf_counts: NDArray[np.float64]
    category_bounds: NDArray[np.int64]
    category_words: NDArray[np.int64]

    @property
    def sets(self) -> int:
        """How many sets of categories its nodes ask for."""
        return max(len(self.category_bounds) - 1, 0)

    @property
    def counted(self) -> bool:
        """Whether the training counts are there, which Shapley values are made of."""
        inner = len(self.counts) == len(self.features) and bool((self.counts > 0).all())
        return inner and (not len(self.features) or len(self.leaf_counts) == len(self.leaf_values))

    def mean(self) -> float:
        """Give the mean output over the training rows."""
        if not len(self.features):
            return float(self.leaf_values[0])
        return float(sum((self.leaf_counts / self.counts[0] * self.leaf_values).tolist()))


def not_above(bounds: NDArray[np.float64], values: np.dtype[Any]) -> NDArray[Any]:
    """Give the largest of `values`, float32 or float64, that are not above bounds."""
    with np.errstate(over="ignore"):
        nearest = bounds.astype(values)
        below = np.nextafter(nearest, values.type(-np.inf))
    found: NDArray[Any] = np.where(nearest.astype(np.float64) > bounds, below, nearest)
    return found
