"""Changes of a level: River's ADWIN over a stream, and where in a window the level changed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN

LEAST_VALUES = 40
"""Fewer are not cut."""


@dataclass(frozen=True, slots=True)
class Change:
    """What ADWIN cut: the mean of what it keeps, less the mean of what it dropped."""

    shift: float


class ChangeDetector:
    """
    ADWIN (Bifet and Gavalda 2007) over values in [0, 1].

    It holds River's compiled window itself, not the class around it: that takes a third of the
    time, goes on with the newer part of a window that was cut, as in the paper, instead of an
    empty one, and has its state as bytes, where the class could only be pickled.
    """

    __slots__ = ("_window",)

    def __init__(self, delta: float, state: bytes | None = None) -> None:
        """Begin anew, or where `state` left off; it must be what `state` gave, unharmed."""
        detector = ADWIN(delta=delta)  # type: ignore[no-untyped-call] # River's
        self._window = detector._helper  # noqa: SLF001 - see the class docstring
        if state is not None:
            self._window.__setstate__(state)

    def update(self, values: Sequence[float]) -> Change | None:
        """Take values in order; say if their level changed."""
        window = self._window
        width, total = window.get_width(), window.get_total()
        if not any(list(map(window.update, values))):  # every value must be taken
            return None
        kept, kept_total = window.get_width(), window.get_total()
        dropped = width + len(values) - kept
        dropped_total = total + sum(values) - kept_total
        return Change(shift=kept_total / kept - dropped_total / dropped)

    def state(self) -> bytes:
        """Give the state, for the same version of River."""
        state: bytes = self._window.__getstate__()
        return state


def change_point(values: NDArray[np.float64]) -> int:
    """
    Give the index at which a level most likely changed, for float64[n].

    It is the cut into two parts that leaves the least squares; ADWIN's own cut falls on the edge
    of a bucket, often hundreds of values earlier. There must be LEAST_VALUES.
    """
    size, margin = len(values), LEAST_VALUES // 2
    before = np.arange(margin, size - margin + 1)
    sums = np.cumsum(values)
    left = sums[before - 1]
    gain = (left / before - (sums[-1] - left) / (size - before)) ** 2 * before * (size - before)
    return int(before[np.argmax(gain)])
