"""Ends a process that stands still, and says where: no progress with lag, or an endless stop."""

import os
import threading
from collections.abc import Callable
from time import monotonic

import structlog

from stream.process.stacks import stacks

logger = structlog.get_logger(__name__)

EXIT_STALLED = 70
STOP_SECONDS = 30.0
_INTERVAL = 1.0


class Watchdog:
    """
    Watches from a thread of its own, so that a blocked event loop is seen too.

    `lag` gives the records that wait, or 1 where that cannot be known; `progressed_at` the
    monotonic time, in seconds, of the last finished poll or assignment. While nothing waits,
    nothing stands still. `end` leaves the process at once.
    """

    def __init__(
        self,
        lag: Callable[[], int],
        progressed_at: Callable[[], float],
        stall_seconds: float,
        *,
        end: Callable[[int], None] = os._exit,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._lag = lag
        self._progressed_at = progressed_at
        self._stall_seconds = stall_seconds
        self._end = end
        self._now = now
        self._stopping_since: float | None = None
        self._idle_at = now()

    def start(self) -> None:
        """Begin to watch; the thread ends with the process."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stopping(self) -> None:
        """Say that the process has been asked to stop."""
        if self._stopping_since is None:
            self._stopping_since = self._now()

    def check(self) -> None:
        """Look once."""
        now = self._now()
        if self._stopping_since is not None:
            if now - self._stopping_since > STOP_SECONDS:
                self._end_it("worker.stop_overdue", seconds=STOP_SECONDS)
            return
        lag = self._lag()
        if lag == 0:
            self._idle_at = now
        elif self.stalled:
            self._end_it("worker.stalled", lag=lag, seconds=round(self.still_seconds(), 1))

    @property
    def stalled(self) -> bool:
        """Whether records have waited too long since anything was finished."""
        return self.still_seconds() > self._stall_seconds

    def still_seconds(self) -> float:
        """Say for how many seconds records have waited without any being finished."""
        return max(0.0, self._now() - max(self._progressed_at(), self._idle_at))

    def _end_it(self, event: str, **facts: float) -> None:
        try:
            logger.critical(event, **facts, stack=stacks())
        finally:  # it ends, though nobody could say where it stands
            self._end(EXIT_STALLED)

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(_INTERVAL):
            self.check()
