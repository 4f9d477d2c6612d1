"""How old a stored feature row may be, and what is done with one that is older."""

from typing import Annotated, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from scoring.decision import FEATURE_SOURCES, NO_TIME

StaleAction = Literal["refer", "recompute", "note"]

STALE_ACTIONS: tuple[StaleAction, ...] = get_args(StaleAction)

_TABLE = FEATURE_SOURCES.index("table")
_DAY_US = 86_400_000_000
_Words = Annotated[str, msgspec.Meta(min_length=1)]


class Freshness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A policy's word on age: a row above `max_age_days` is stale, and `stale` says what follows.

    `refer`: the outcome is refer at least, with this code and text as its first reason.
    `recompute`: the row is computed from the event where that carries attributes; else as `refer`.
    `note`: nothing follows but that the decision says so.
    """

    max_age_days: float
    stale: StaleAction
    code: _Words = "F01"
    text: _Words = "The information held about the applicant is out of date."

    def is_stale(
        self,
        sources: NDArray[np.uint8],
        submitted_at_us: NDArray[np.int64],
        as_of_us: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """
        Say which of n rows are stale: bool[n]. Times are microseconds since 1970.

        Age is counted to the submission, never to the clock: an event that comes again is judged
        alike. A row from after the submission is not stale; one whose time is not known (NO_TIME)
        is, as nothing says that it is fresh. Only rows of the feature table can be.
        """
        oldest_us = submitted_at_us - round(self.max_age_days * _DAY_US)
        return np.asarray((sources == _TABLE) & ((as_of_us == NO_TIME) | (as_of_us < oldest_us)))
