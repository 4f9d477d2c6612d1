"""Population stability: frozen bins of the reference, and how far a window's shares moved."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10
_SMOOTHING = 0.5


@dataclass(frozen=True, slots=True)
class ReferenceBins:
    """
    Quantile bins of S subjects, frozen with the release; a missing value has a bin of its own.

    `edges[s]` are the inner edges of subject s; `shares` is float64[S, BINS + 1], the last column
    the missing share. The index (Siddiqi 2006, "Credit Risk Scorecards") is the sum over bins of
    (current - reference) * ln(current / reference); each count has 0.5 added, so that an empty
    bin has a logarithm.
    """

    edges: tuple[NDArray[np.float64], ...]
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, reference: NDArray[np.float64]) -> "ReferenceBins":
        """Make bins from reference rows float64[n, S]."""
        edges = []
        for column in reference.T:
            present = column[~np.isnan(column)]
            inner = np.quantile(present, np.linspace(0, 1, BINS + 1)[1:-1]) if present.size else []
            edges.append(np.unique(np.asarray(inner, dtype=np.float64)))
        bins = cls(tuple(edges), np.zeros((len(edges), BINS + 1)))
        shares = _shares(bins.counts(bins.places(reference)))
        return cls(tuple(edges), shares)

    def places(self, rows: NDArray[np.float64]) -> NDArray[np.int8]:
        """Find the bin of each value of float64[n, S]: int8[n, S]."""
        places = np.empty(rows.shape, dtype=np.int8)
        for index, edges in enumerate(self.edges):
            places[:, index] = np.searchsorted(edges, rows[:, index], side="left")
        places[np.isnan(rows)] = BINS
        return places

    def counts(self, places: NDArray[np.int8]) -> NDArray[np.int64]:
        """Count places int8[n, S] by bin: int64[S, BINS + 1]."""
        subjects = places.shape[1]
        flat = places + (np.arange(subjects) * (BINS + 1))
        counted = np.bincount(flat.reshape(-1), minlength=subjects * (BINS + 1))
        return counted.reshape(subjects, BINS + 1)

    def psi(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give each subject's index for a window's counts int64[S, BINS + 1]: float64[S]."""
        current = _shares(counts)
        used = np.array([len(edges) + 1 for edges in self.edges])
        in_use = np.arange(BINS + 1)[None, :] < used[:, None]
        in_use[:, BINS] = True
        terms = (current - self.shares) * np.log(current / self.shares)
        total: NDArray[np.float64] = np.where(in_use, terms, 0.0).sum(axis=1)
        return total


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    smoothed = counts + _SMOOTHING
    shares: NDArray[np.float64] = smoothed / smoothed.sum(axis=1, keepdims=True)
    return shares
