"""Polls in lanes: one after the other within a lane, side by side between lanes."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress

from stream.transport.in_flight import PollInFlight, Polls

Handle = Callable[[Sequence[PollInFlight]], Awaitable[None]]


async def in_lanes(
    polls: Polls,
    lane_of: Callable[[PollInFlight], Hashable],
    handle: Handle,
    *,
    waiting: int,
    together: int = 1,
    most_bytes: int | None = None,
    apart_s: float = 0.0,
) -> None:
    """
    Handle all polls, each lane's in order, as many `together` as wait.

    At most `waiting` polls wait in a lane; then nothing more is taken until it has moved. With
    `most_bytes`, what waits and what is handled together have each no more of records, unless it is
    a single poll. What a lane handles next is taken `apart_s` seconds after the last, or later,
    unless there is no room for more. An error of `handle` ends all lanes and goes up.
    """
    lanes: dict[Hashable, _Lane] = {}
    async with asyncio.TaskGroup() as group:
        async for poll in polls:
            lane = lane_of(poll)
            if lane not in lanes:
                lanes[lane] = _Lane(waiting, most_bytes, apart_s)
                group.create_task(_work(lanes[lane], handle, together))
            poll.begin()
            await lanes[lane].put(poll)
        for found in lanes.values():
            await found.end()


async def _work(lane: "_Lane", handle: Handle, together: int) -> None:
    while polls := await lane.take(together):
        await handle(polls)


class _Lane:
    """What waits of one lane."""

    def __init__(self, most: int, most_bytes: int | None, apart_s: float) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._apart_s = apart_s
        self._next_at = -math.inf
        self._waiting: deque[tuple[PollInFlight, int]] = deque()
        self._bytes = 0
        self._crowded = False
        self._ended = False
        self._changed = asyncio.Condition()

    async def put(self, poll: PollInFlight) -> None:
        """Add a poll once there is room for it."""
        size = poll.poll.nbytes if self._most_bytes is not None else 0
        async with self._changed:
            while len(self._waiting) >= self._most or not self._fits(self._bytes, size):
                self._crowded = True
                self._changed.notify_all()
                await self._changed.wait()
            self._waiting.append((poll, size))
            self._bytes += size
            self._changed.notify_all()

    async def end(self) -> None:
        """Say that no poll will come any more."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def take(self, most: int) -> list[PollInFlight]:
        """Give the polls that wait, at least one; none at the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or self._ended)
            if self._apart_s:
                await self._until_due()
            taken: list[PollInFlight] = []
            size = 0
            while self._waiting and len(taken) < most and self._fits(size, self._waiting[0][1]):
                poll, of_poll = self._waiting.popleft()
                taken.append(poll)
                size += of_poll
            self._bytes -= size
            self._crowded = False
            self._next_at = asyncio.get_running_loop().time() + self._apart_s
            self._changed.notify_all()
            return taken

    async def _until_due(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._next_at):
                await self._changed.wait_for(lambda: self._crowded or self._ended)

    def _fits(self, held: int, more: int) -> bool:
        return self._most_bytes is None or not held or held + more <= self._most_bytes
