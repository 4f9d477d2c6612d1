"""How much of a partition may be parked before its release, not its events, is held to be wrong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from scoring.decode import Rejection
from scoring.envelope import redriven_of
from scoring.pipeline import Decided
from scoring.poll import Poll

Counts = Literal["release", "all"]
Bound = Literal["longest_run", "largest_share"]
Cause = tuple[str, str]
"""A rejection's code and the path that the release knows; `$` where the event named it."""

_ATTRIBUTES = "$.attributes"


class ParkingHistory(msgspec.Struct, frozen=True):
    """
    What became of the latest events of a partition that say something of a release.

    `run` is how many of them were parked since one was decided. `bits` has a bit for each of the
    last `count`, the oldest first, 1 for parked.
    """

    release: str = ""
    run: int = 0
    count: int = 0
    bits: bytes = b""

    def __post_init__(self) -> None:
        if self.run < 0 or not 0 <= self.count <= 8 * len(self.bits):
            msg = "a history has bits for all that it counts"
            raise ValueError(msg)

    @classmethod
    def of(cls, release: str, parked: NDArray[np.bool_], run: int) -> "ParkingHistory":
        """Make a history of a release's latest events, the oldest first: was each parked."""
        return cls(release, run, len(parked), np.packbits(parked).tobytes())

    @classmethod
    def parse(cls, text: str) -> "ParkingHistory":
        """Read a history from its text; anything else is the history of nothing."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError:
            return cls()

    def text(self) -> str:
        """Give the history as a text of some 100 characters, and one for each 6 of `count`."""
        return msgspec.json.encode(self).decode()

    def flags(self) -> NDArray[np.bool_]:
        """Give bool[count]: whether each was parked."""
        packed = np.frombuffer(self.bits, dtype=np.uint8)
        return np.unpackbits(packed, count=self.count).astype(bool)


class ParkingLimitCrossed(Exception):
    """`parked` events are more than a limit's bound allows; `causes` are those of the poll."""

    def __init__(self, bound: Bound, parked: int, causes: Counter[Cause]) -> None:
        super().__init__(f"{bound}: {parked}")
        self.bound = bound
        self.parked = parked
        self.causes = causes


@dataclass(frozen=True, slots=True)
class ParkingLimit:
    """
    How many events of a partition may be parked one after the other, and of the last `window`.

    A `longest_run` of 0 and a `largest_share` of 1 are no limit. It counts what a release may cause
    or `all`; events that are driven again and fail again never count. Where events are counted
    follows from the stream alone, not from how it was cut into polls.
    """

    longest_run: int = 500
    largest_share: float = 0.5
    window: int = 1_000
    counts: Counts = "release"

    def after(self, history: ParkingHistory, poll: Poll, decided: Decided) -> ParkingHistory:
        """Give the history with one more poll; raises ParkingLimitCrossed."""
        release = decided.batch.release
        if history.release != release:
            history = ParkingHistory(release)
        counted = [one for one in decided.rejections if self._counts(one, poll)]
        if not counted and not any(history.bits):
            return self._clean(history, len(decided.batch))
        parked = _in_order(poll, decided, counted)
        runs = _runs(parked, history.run)
        flags = np.concatenate((history.flags(), parked))
        known = len(flags) - len(parked)
        if counted:
            causes = Counter(map(_cause, counted))
            if self.longest_run and runs.max() > self.longest_run:
                raise ParkingLimitCrossed("longest_run", int(runs.max()), causes)
            of_window = self._within_window(flags)[known:][parked]
            if self.largest_share < 1 and of_window.max() > self.largest_share * self.window:
                raise ParkingLimitCrossed("largest_share", int(of_window.max()), causes)
        return self._history(release, flags, int(runs[-1]) if len(runs) else history.run)

    def history(self, release: str, parked: Sequence[bool]) -> ParkingHistory:
        """Give the history of a release's events that count or were decided, the oldest first."""
        flags = np.array(parked, dtype=bool)
        return self._history(release, flags, int(_runs(flags, 0)[-1]) if len(flags) else 0)

    def counted(self, code: str, path: str, *, redriven: bool) -> bool:
        """Say whether an event that is parked for this counts."""
        return not redriven and (self.counts == "all" or may_be_of_release(code, path))

    @property
    def reach(self) -> int:
        """How many events back it looks; 0: it limits nothing."""
        window = self.window if self.largest_share < 1 else 0
        return max(window, self.longest_run + 1 if self.longest_run else 0)

    def _clean(self, history: ParkingHistory, decided: int) -> ParkingHistory:
        """Give the history with more events, none of them parked, as none is that it knows."""
        count = min(history.count + decided, self.window) if self.largest_share < 1 else 0
        run = history.run if self.longest_run and not decided else 0
        return ParkingHistory(history.release, run, count, bytes((count + 7) // 8))

    def _history(self, release: str, flags: NDArray[np.bool_], run: int) -> ParkingHistory:
        # A bound that is off remembers nothing, which would be held against what comes later.
        latest = flags[max(0, len(flags) - self.window) :] if self.largest_share < 1 else flags[:0]
        return ParkingHistory.of(release, latest, run if self.longest_run else 0)

    def _counts(self, rejection: Rejection, poll: Poll) -> bool:
        redriven = redriven_of(poll.headers[rejection.position]) is not None
        return self.counted(rejection.code, rejection.path, redriven=redriven)

    def _within_window(self, flags: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Count, for each event, the parked among the `window` that end with it; 0: too few yet."""
        sums = np.concatenate(([0], np.cumsum(flags)))
        counts = np.zeros(len(flags), dtype=np.int64)
        if len(flags) >= self.window:
            counts[self.window - 1 :] = sums[self.window :] - sums[: -self.window]
        return counts


def may_be_of_release(code: str, path: str) -> bool:
    """
    Say whether another release might take an event that was rejected for this.

    Attributes and their ranges are declared by the release's definition. All else that parks an
    event (no JSON, too large, no time, an id that stands for another) it brought along itself.
    """
    return code == "invalid" and path.startswith(_ATTRIBUTES)


def _cause(rejection: Rejection) -> Cause:
    # A path outside the attributes may hold a name that the event made up.
    code, path = rejection.code, rejection.path
    return code, path if may_be_of_release(code, path) else "$"


def _in_order(poll: Poll, decided: Decided, counted: list[Rejection]) -> NDArray[np.bool_]:
    """Say of each event that was decided or is counted, in the poll's order: is it parked."""
    offsets = np.asarray(poll.offsets, dtype=np.int64)
    told = np.zeros(len(poll), dtype=bool)
    told[np.searchsorted(offsets, decided.batch.offsets)] = True
    parked = np.zeros(len(poll), dtype=bool)
    parked[[one.position for one in counted]] = True
    return parked[told | parked]


def _runs(parked: NDArray[np.bool_], before: int) -> NDArray[np.int64]:
    """Give, for each event, how many were parked up to it since one was not."""
    index = np.arange(len(parked))
    last_good = np.maximum.accumulate(np.where(parked, -1, index))
    return np.where(parked, index - last_good + np.where(last_good < 0, before, 0), 0)
