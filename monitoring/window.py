"""The last decisions: their values and bins, and what they look like."""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitoring.psi import BINS, ReferenceBins

WINDOW = 2_000


@dataclass(frozen=True, slots=True)
class Summary:
    """One subject over the window; NaN where nothing was there."""

    mean: float
    variance: float
    p05: float
    p50: float
    p95: float


class SavedWindow(msgspec.Struct, frozen=True):
    """A window as plain values: arrays as their bytes."""

    values: bytes
    places: bytes
    times_us: bytes
    seen: int


class RecentWindow:
    """
    A ring of the last WINDOW decisions of S subjects, with its counts by bin.

    `seen` counts all decisions ever taken; `counts` is int64[S, BINS + 1].
    """

    def __init__(self, bins: ReferenceBins, saved: SavedWindow | None = None) -> None:
        subjects = len(bins.edges)
        self._bins = bins
        self._values = np.full((WINDOW, subjects), np.nan, dtype=np.float32)
        self._places = np.zeros((WINDOW, subjects), dtype=np.int8)
        self._times_us = np.zeros(WINDOW, dtype=np.int64)
        self.seen = 0
        if saved is not None:
            self._values[:] = np.frombuffer(saved.values, np.float32).reshape(WINDOW, subjects)
            self._places[:] = np.frombuffer(saved.places, np.int8).reshape(WINDOW, subjects)
            self._times_us[:] = np.frombuffer(saved.times_us, np.int64)
            self.seen = saved.seen
        self.counts = bins.counts(self._places[: len(self)])

    def __len__(self) -> int:
        return min(self.seen, WINDOW)

    def add(
        self, values: NDArray[np.float64], places: NDArray[np.int8], decided_at_us: int
    ) -> None:
        """Take decisions float64[n, S] with their bins int8[n, S], all decided at one time."""
        new_values, new_places = values[-WINDOW:], places[-WINDOW:]
        skipped = len(values) - len(new_values)
        at = np.arange(self.seen + skipped, self.seen + len(values)) % WINDOW
        leaving = at[at < self.seen]  # the others were never filled
        self.counts += self._bins.counts(new_places) - self._bins.counts(self._places[leaving])
        self._values[at] = np.where(new_places < BINS, new_values, np.nan)
        self._places[at] = new_places
        self._times_us[at] = decided_at_us
        self.seen += len(values)

    def missing_shares(self) -> NDArray[np.float64]:
        """Give the share of decisions in which each subject was missing: float64[S]."""
        shares: NDArray[np.float64] = self.counts[:, BINS] / max(len(self), 1)
        return shares

    def values(self, subject: int) -> NDArray[np.float64]:
        """Give a subject's values, the oldest first: float64[len], NaN where missing."""
        values: NDArray[np.float64] = self._values[self._order(), subject].astype(np.float64)
        return values

    def places(self, subject: int) -> NDArray[np.int8]:
        """Give a subject's bins, the oldest first: int8[len]."""
        places: NDArray[np.int8] = self._places[self._order(), subject]
        return places

    def decided_at_us(self, index: int) -> int:
        """Say when the decision was made that stands at `index`, the oldest being 0."""
        return int(self._times_us[self._order()[index]])

    def summary(self, subject: int) -> Summary:
        """Describe a subject's values over the window, exactly."""
        values = self.values(subject)
        present = values[~np.isnan(values)]
        if not present.size:
            return Summary(*[float("nan")] * 5)
        p05, p50, p95 = np.quantile(present, (0.05, 0.5, 0.95)).tolist()
        variance = float(present.var(ddof=1)) if present.size > 1 else float("nan")
        return Summary(float(present.mean()), variance, p05, p50, p95)

    def saved(self) -> SavedWindow:
        """Give the state as plain values."""
        return SavedWindow(
            self._values.tobytes(), self._places.tobytes(), self._times_us.tobytes(), self.seen
        )

    def _order(self) -> NDArray[np.int64]:
        return np.arange(self.seen - len(self), self.seen) % WINDOW
