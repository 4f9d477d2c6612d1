"""Default probability to score points, the field's way: so many points double the odds."""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

_CLOSEST = 1e-6


class Scorecard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Points of an applicant who will repay with odds `base_odds` : 1, and points that double them.

    >>> Scorecard(base_score=600, base_odds=20, points_to_double=20).points(np.array([1 / 21]))
    array([600], dtype=int32)
    """

    base_score: float = 600
    base_odds: float = 20
    points_to_double: float = 20

    def points(self, default_probability: NDArray[np.float64]) -> NDArray[np.int32]:
        """Give int32[n] for float64[n]; 0 where the probability is NaN."""
        factor = self.points_to_double / math.log(2)
        offset = self.base_score - factor * math.log(self.base_odds)
        held = np.clip(default_probability, _CLOSEST, 1 - _CLOSEST)
        points = np.rint(offset + factor * np.log((1 - held) / held))
        return np.where(np.isnan(points), 0, points).astype(np.int32)
