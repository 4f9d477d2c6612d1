"""The named points of a worker's cycle, and how a test arms them: a file a point in a folder."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

ScoringPoint = Literal[
    "polled",
    "decoded",
    "enriched",
    "decided",
    "sending",
    "sent",
    "offset_sent",
    "committing",
    "committed",
    "revoked",
    "entered",
    "fenced",
    "reading_back",
    "assigned",
]
SinkPoint = Literal["sink_polled", "inserting", "inserted", "offsets_committed"]
MonitorPoint = Literal["checkpoint_writing", "checkpoint_written"]
Point = ScoringPoint | SinkPoint | MonitorPoint

SCORING_POINTS: tuple[ScoringPoint, ...] = get_args(ScoringPoint)
AT_REBALANCE: tuple[ScoringPoint, ...] = (
    "revoked",
    "entered",
    "fenced",
    "reading_back",
    "assigned",
)
SINK_POINTS: tuple[SinkPoint, ...] = get_args(SinkPoint)
MONITOR_POINTS: tuple[MonitorPoint, ...] = get_args(MonitorPoint)

_CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Points:
    """
    Signals that wait in a folder for the process that first passes their point.

    One alone takes a signal, however many pass.
    """

    folder: Path

    def arm(self, point: Point, number: signal.Signals = signal.SIGKILL) -> None:
        """Let the next process that passes a point get a signal there."""
        (self.folder / "arming").write_text(str(int(number)))
        (self.folder / "arming").replace(self._armed(point))

    def is_armed(self, point: Point) -> bool:
        """Whether nobody has passed the point yet."""
        return self._armed(point).exists()

    def disarm_all(self) -> None:
        """Take back the signals that nobody took."""
        for armed in self.folder.glob("*.armed"):
            armed.unlink(missing_ok=True)

    def taken_by(self, point: Point) -> int:
        """Give the id of the process that took the last signal; 0: none."""
        taken = self.folder / f"{point}.taken"
        return int(taken.read_text()) if taken.exists() else 0

    def passed(self, point: Point) -> None:
        """Be at a point."""
        mine = self.folder / f"{point}.{os.getpid()}"
        try:
            self._armed(point).rename(mine)
        except FileNotFoundError:
            return
        number = signal.Signals(int(mine.read_text()))
        mine.write_text(str(os.getpid()))
        mine.rename(self.folder / f"{point}.taken")
        os.kill(os.getpid(), number)

    def shift_clock(self, seconds: float) -> None:
        """Put the clock of all processes that look here so much ahead of the machine's."""
        (self.folder / "clock.next").write_text(str(seconds))
        (self.folder / "clock.next").replace(self.folder / _CLOCK)

    def clock_shift(self) -> float:
        """Give how far the clock is ahead, in seconds."""
        shift = self.folder / _CLOCK
        return float(shift.read_text()) if shift.exists() else 0.0

    def _armed(self, point: Point) -> Path:
        return self.folder / f"{point}.armed"
