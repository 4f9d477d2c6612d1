"""Polls in lanes: one after the other within a lane, side by side between lanes."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence

from stream.app import Polls
from stream.in_flight import PollInFlight

Handle = Callable[[Sequence[PollInFlight]], Awaitable[None]]


async def in_lanes(
    polls: Polls,
    lane_of: Callable[[PollInFlight], Hashable],
    handle: Handle,
    *,
    waiting: int,
    together: int = 1,
) -> None:
    """
    Handle all polls, each lane's in order, as many `together` as wait.

    At most `waiting` polls wait in a lane; then nothing more is taken until it has moved. An error
    of `handle` ends all lanes and goes up.
    """
    lanes: dict[Hashable, asyncio.Queue[PollInFlight | None]] = {}
    async with asyncio.TaskGroup() as group:
        async for poll in polls:
            lane = lane_of(poll)
            if lane not in lanes:
                lanes[lane] = asyncio.Queue(waiting)
                group.create_task(_work(lanes[lane], handle, together))
            poll.begin()
            await lanes[lane].put(poll)
        for queue in lanes.values():
            await queue.put(None)


async def _work(queue: asyncio.Queue[PollInFlight | None], handle: Handle, together: int) -> None:
    ended = False
    while not ended:
        taken = [await queue.get()]
        while len(taken) < together and not queue.empty():
            taken.append(queue.get_nowait())
        ended = None in taken
        if polls := [poll for poll in taken if poll is not None]:
            await handle(polls)
