"""How often records are fetched: in whole rounds, while little is being worked on."""

import asyncio
import time
from contextlib import suppress
from typing import Any

from stream.transport.column_records import ByColumns
from stream.transport.gone import StrictFetcher
from stream.transport.in_flight import PollInFlight

_ENOUGH_RECORDS = 256
# One partition's output may be long in coming; the others go on.
_LONGEST_PAUSE_SECONDS = 0.1


class Pace(ByColumns):
    """
    What was handed over and is not finished yet, as a fetcher in another thread sees it.

    A broker answers a fetch as soon as it has one record, and a fetch, a poll and its output cost
    nearly the same whatever they hold. So while a few records are being worked on, those that come
    are left with the broker: they come together once all is finished. Many records are worth their
    cost, and while they are worked on the next are fetched.
    """

    def __init__(self) -> None:
        self._under_way: dict[PollInFlight, int] = {}
        self._records = 0
        self._fetcher: PacedFetcher | None = None

    def fetched_by(self, fetcher: "PacedFetcher") -> None:
        """Name who is told when all is finished."""
        self._fetcher = fetcher

    def begin(self, poll: PollInFlight) -> None:
        """Count a poll that is handed over."""
        self._under_way[poll] = len(poll.poll)
        self._records += len(poll.poll)

    def finish(self, poll: PollInFlight) -> None:
        """Count a poll no more; one that was forgotten does not count anyway."""
        self._records -= self._under_way.pop(poll, 0)
        if not self._under_way and self._fetcher is not None:
            self._fetcher.go_on()

    def forget(self) -> None:
        """Count nothing any more."""
        self._under_way.clear()
        self._records = 0

    def slow(self) -> bool:
        """Say whether what is being worked on is not worth another fetch; from any thread."""
        return 0 < self._records < _ENOUGH_RECORDS


class PacedFetcher(StrictFetcher):
    """Fetches nothing for a moment after each answer, where its consumer's pace is slow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._answered = 0.0
        self._loop = asyncio.get_running_loop()
        if isinstance(self._key_deserializer, Pace):
            self._key_deserializer.fetched_by(self)

    def go_on(self) -> None:
        """Fetch again if there was a pause; from any thread."""
        # Its thread may have ended, even just now: then nobody waits for it.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        self._notify(self._wait_consume_future)

    def _get_actions_per_node(self, assignment: Any) -> Any:
        requests, resets, timeout, *others = super()._get_actions_per_node(assignment)
        pace = self._key_deserializer
        if requests and isinstance(pace, Pace) and pace.slow():
            pause = self._answered + _LONGEST_PAUSE_SECONDS - time.monotonic()
            if pause > 0:
                return [], resets, min(timeout, pause), *others
        return requests, resets, timeout, *others

    async def _proc_fetch_request(self, *given: Any) -> Any:
        try:
            return await super()._proc_fetch_request(*given)
        finally:
            self._answered = time.monotonic()
