"""Population stability: frozen bins of the reference, and how far a window's shares moved."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10
_FEW = BINS - 2  # so many values leave room for a bin below and a bin above them
_SMOOTHING = 0.5


@dataclass(frozen=True, slots=True)
class ReferenceBins:
    """
    Bins of S subjects, frozen with the release; a missing value has a bin of its own.

    `edges[s]` are the inner edges of subject s, ascending: quantiles of the reference, or, where
    it holds few different values, the values themselves between two open ends. `shares` is
    float64[S, BINS + 1], the last column the missing share, zero where there is no such bin;
    `means` is float64[S], zero for a subject without any value. The
    index (Siddiqi 2006, "Credit Risk Scorecards") is the sum over bins of
    (current - reference) * ln(current / reference); each count has 0.5 added, so that an empty
    bin has a logarithm.
    """

    edges: tuple[NDArray[np.float64], ...]
    shares: NDArray[np.float64]
    means: NDArray[np.float64]

    @classmethod
    def of(cls, reference: NDArray[np.float64]) -> "ReferenceBins":
        """Make bins from reference rows float64[n, S]; what is not finite counts as missing."""
        present = [column[np.isfinite(column)] for column in reference.T]
        edges = tuple(_edges(column) for column in present)
        used = np.array([len(inner) + 1 for inner in edges])
        in_use = np.arange(BINS + 1) < used[:, None]
        in_use[:, BINS] = True
        counts = _counts(_places(edges, reference))
        means = [column.mean() if column.size else 0.0 for column in present]
        return cls(edges, _shares(counts, in_use), np.array(means, dtype=np.float64))

    def places(self, rows: NDArray[np.float64]) -> NDArray[np.int8]:
        """Find the bin of each value of float64[n, S]: int8[n, S]."""
        return _places(self.edges, rows)

    def counts(self, places: NDArray[np.int8]) -> NDArray[np.int64]:
        """Count places int8[n, S] by bin: int64[S, BINS + 1]."""
        return _counts(places)

    def psi(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give each subject's index for a window's counts int64[S, BINS + 1]: float64[S]."""
        in_use = self.shares > 0
        current = _shares(counts, in_use)
        ratio = np.divide(current, self.shares, where=in_use, out=np.ones_like(current))
        total: NDArray[np.float64] = ((current - self.shares) * np.log(ratio)).sum(axis=1)
        return total

    def ridits(self) -> NDArray[np.float64]:
        """
        Give each bin's ridit: float64[S, BINS + 1] in [0, 1], NaN for the missing bin.

        A ridit (Bross 1958) is the share of the reference below the middle of the bin. Over the
        reference its mean is a half, whatever a feature's unit, and it keeps a change of level.
        """
        present = self.shares[:, :BINS]
        present = present / present.sum(axis=1, keepdims=True)
        middle = np.cumsum(present, axis=1) - present / 2
        return np.column_stack((middle, np.full(len(middle), np.nan)))


def _edges(present: NDArray[np.float64]) -> NDArray[np.float64]:
    if not present.size:
        return np.zeros(0)
    values = np.unique(present)
    if len(values) <= _FEW:
        return np.concatenate(([np.nextafter(values[0], -np.inf)], values))
    return np.unique(np.quantile(present, np.linspace(0, 1, BINS + 1)[1:-1]))


def _places(edges: tuple[NDArray[np.float64], ...], rows: NDArray[np.float64]) -> NDArray[np.int8]:
    columns = np.ascontiguousarray(rows.T)
    places = np.empty(columns.shape, dtype=np.int8)
    for place, inner, column in zip(places, edges, columns, strict=True):
        place[:] = np.searchsorted(inner, column, side="left")
    places[~np.isfinite(columns)] = BINS
    return places.T


def _counts(places: NDArray[np.int8]) -> NDArray[np.int64]:
    subjects = places.shape[1]
    flat = places + np.arange(subjects) * (BINS + 1)
    counted = np.bincount(flat.reshape(-1), minlength=subjects * (BINS + 1))
    return counted.reshape(subjects, BINS + 1)


def _shares(counts: NDArray[np.int64], in_use: NDArray[np.bool_]) -> NDArray[np.float64]:
    smoothed = np.where(in_use, counts + _SMOOTHING, 0.0)
    shares: NDArray[np.float64] = smoothed / smoothed.sum(axis=1, keepdims=True)
    return shares
