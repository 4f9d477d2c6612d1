"""The named points of a worker's cycle, and how a test arms them: a file a point in a folder."""

import asyncio
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Deciding = Literal["polled", "decoded", "enriched", "decided", "withheld", "sending", "sent"]
TakingOver = Literal["revoked", "asking_offset", "reading_back", "assigned"]
ExactlyOncePoint = Literal[
    Deciding, "offset_sent", "committing", "committed", "entered", TakingOver
]
AtLeastOncePoint = Literal[Deciding, "ledger_sent", "finished", "committed", TakingOver]
SinkPoint = Literal["sink_polled", "inserting", "inserted", "offsets_committed"]
MonitorPoint = Literal["checkpoint_writing", "checkpoint_written"]
Point = ExactlyOncePoint | AtLeastOncePoint | SinkPoint | MonitorPoint

EXACTLY_ONCE_POINTS: tuple[ExactlyOncePoint, ...] = get_args(ExactlyOncePoint)
AT_LEAST_ONCE_POINTS: tuple[AtLeastOncePoint, ...] = get_args(AtLeastOncePoint)
SINK_POINTS: tuple[SinkPoint, ...] = get_args(SinkPoint)
MONITOR_POINTS: tuple[MonitorPoint, ...] = get_args(MonitorPoint)
AT_REBALANCE: tuple[Point, ...] = ("entered", *get_args(TakingOver))

_CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Signal:
    """What a process sends to itself, and how many seconds after it has passed a point."""

    number: signal.Signals
    hold_s: float

    def send(self) -> None:
        """Send it."""
        os.kill(os.getpid(), self.number)


@dataclass(frozen=True, slots=True)
class Points:
    """
    Signals that wait in a folder for the process that first passes their point.

    One alone takes a signal, however many pass.
    """

    folder: Path

    def arm(
        self, point: Point, number: signal.Signals = signal.SIGKILL, hold_s: float = 0.0
    ) -> None:
        """
        Let the next process that passes a point get a signal there.

        What came to the point is held there for so many seconds first, while all else goes on.
        """
        self._taken(point).unlink(missing_ok=True)
        (self.folder / "arming").write_text(json.dumps([int(number), hold_s]))
        (self.folder / "arming").replace(self._armed(point))

    def is_armed(self, point: Point) -> bool:
        """Whether nobody has passed the point yet."""
        return self._armed(point).exists()

    def disarm_all(self) -> None:
        """Take back the signals that nobody took."""
        for armed in self.folder.glob("*.armed"):
            armed.unlink(missing_ok=True)

    def taken_by(self, point: Point) -> int:
        """Give the id of the process that took the signal; 0: none yet."""
        taken = self._taken(point)
        return int(taken.read_text()) if taken.exists() else 0

    def take(self, point: Point) -> Signal | None:
        """Take the signal of a point, if there is one; the taker sends it."""
        mine = self.folder / f"{point}.{os.getpid()}"
        try:
            self._armed(point).rename(mine)
        except FileNotFoundError:
            return None
        number, hold_s = json.loads(mine.read_text())
        mine.write_text(str(os.getpid()))
        mine.rename(self._taken(point))
        return Signal(signal.Signals(number), hold_s)

    def passed(self, point: Point) -> None:
        """Be at a point, in a thread of its own or for no time."""
        if taken := self.take(point):
            time.sleep(taken.hold_s)
            taken.send()

    async def reached(self, point: Point) -> None:
        """Be at a point, on the loop."""
        if taken := self.take(point):
            await asyncio.sleep(taken.hold_s)
            taken.send()

    def shift_clock(self, seconds: float) -> None:
        """Put the clock of all processes that look here so much ahead of the machine's."""
        (self.folder / "clock.next").write_text(str(seconds))
        (self.folder / "clock.next").replace(self.folder / _CLOCK)

    def clock_shift(self) -> float:
        """Give how far the clock is ahead, in seconds."""
        shift = self.folder / _CLOCK
        return float(shift.read_text()) if shift.exists() else 0.0

    def _taken(self, point: Point) -> Path:
        return self.folder / f"{point}.taken"

    def _armed(self, point: Point) -> Path:
        return self.folder / f"{point}.armed"
