import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from scoring.poll import Poll
from stream.agents.lanes import in_lanes
from stream.transport.in_flight import PollInFlight


def a_poll(partition: int, offset: int) -> PollInFlight:
    return PollInFlight(
        Poll("t", partition, [offset], [0], [None], [b"v"], [[]]), on_finish=lambda _: None
    )


def lane(poll: PollInFlight) -> int:
    return poll.poll.partition


async def stream(*polls: PollInFlight) -> AsyncIterator[PollInFlight]:
    for poll in polls:
        yield poll


def places(polls: Sequence[PollInFlight]) -> list[tuple[int, int]]:
    return [(poll.poll.partition, int(poll.poll.offsets[0])) for poll in polls]


async def test_a_partition_that_stands_still_does_not_hold_another() -> None:
    handled: list[tuple[int, int]] = []
    other_done = asyncio.Event()

    async def handle(polls: Sequence[PollInFlight]) -> None:
        if polls[0].poll.partition == 0:
            await other_done.wait()
        handled.extend(places(polls))
        if len(handled) == 2:
            other_done.set()

    polls = [a_poll(0, 0), a_poll(1, 0), a_poll(1, 1), a_poll(0, 1)]
    async with asyncio.timeout(5):
        await in_lanes(stream(*polls), lane, handle, waiting=2)

    assert handled == [(1, 0), (1, 1), (0, 0), (0, 1)]
    assert all(poll.begun for poll in polls)


async def test_what_waits_is_handled_together_up_to_a_number() -> None:
    blocks: list[list[tuple[int, int]]] = []

    async def handle(polls: Sequence[PollInFlight]) -> None:
        await asyncio.sleep(0.01)  # meanwhile the others come in
        blocks.append(places(polls))

    polls = [a_poll(0, offset) for offset in range(8)]
    await in_lanes(stream(*polls), lane, handle, waiting=8, together=3)

    assert [place for block in blocks for place in block] == [(0, offset) for offset in range(8)]
    assert max(map(len, blocks)) == 3


async def test_no_more_is_taken_than_may_wait() -> None:
    taken = 0
    moved = asyncio.Event()

    async def endless() -> AsyncIterator[PollInFlight]:
        nonlocal taken
        while True:
            yield a_poll(0, taken)
            taken += 1

    async def handle(_: Sequence[PollInFlight]) -> None:
        await moved.wait()

    running = asyncio.create_task(in_lanes(endless(), lane, handle, waiting=4))
    for _ in range(100):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert taken <= 5


def of_bytes(offset: int, size: int) -> PollInFlight:
    poll = Poll("t", 0, [offset], [0], [b"k"], [b"v" * (size - 1)], [[]])
    return PollInFlight(poll, on_finish=lambda _: None)


async def test_neither_what_waits_nor_what_is_handled_together_has_more_bytes() -> None:
    taken = 0
    moved = asyncio.Event()
    blocks: list[list[int]] = []

    async def sizes() -> AsyncIterator[PollInFlight]:
        nonlocal taken
        for offset, size in enumerate((60, 60, 30, 250, 10, 10)):
            taken += 1
            yield of_bytes(offset, size)

    async def handle(polls: Sequence[PollInFlight]) -> None:
        blocks.append([poll.poll.nbytes for poll in polls])
        await moved.wait()

    lanes = asyncio.create_task(
        in_lanes(sizes(), lane, handle, waiting=32, together=32, most_bytes=100)
    )
    for _ in range(100):
        await asyncio.sleep(0)
    assert blocks == [[60]]
    assert taken == 4  # 60 and 30 wait, and 250 has no room

    moved.set()
    async with asyncio.timeout(5):
        await lanes
    assert blocks == [[60], [60, 30], [250], [10, 10]]


def test_the_size_of_a_poll_is_of_keys_values_and_headers() -> None:
    poll = Poll(
        "t", 0, [1, 2], [0, 0], [b"key", None], [None, b"value"], [[("a", None)], [("b", b"c")]]
    )

    assert poll.nbytes == 3 + 5 + 1 + 2


async def test_an_error_in_one_lane_ends_all_and_goes_up() -> None:
    never = asyncio.Event()

    async def handle(polls: Sequence[PollInFlight]) -> None:
        if polls[0].poll.partition == 0:
            await never.wait()
        msg = "the broker said no"
        raise OSError(msg)

    async with asyncio.timeout(5):
        with pytest.raises(ExceptionGroup) as raised:
            await in_lanes(stream(a_poll(0, 0), a_poll(1, 0)), lane, handle, waiting=1)

    assert raised.group_contains(OSError, match="the broker said no")


async def test_what_comes_within_a_time_is_handled_together_unless_there_is_no_room_for_more() -> (
    None
):
    blocks: list[list[int]] = []
    began = asyncio.Event()

    async def handle(polls: Sequence[PollInFlight]) -> None:
        blocks.append([offset for _, offset in places(polls)])
        began.set()

    async def polls() -> AsyncIterator[PollInFlight]:
        yield a_poll(0, 0)  # at once
        await began.wait()
        for offset in range(1, 7):  # four wait, the fifth has no room, nor the time to pass
            yield a_poll(0, offset)

    async with asyncio.timeout(30):
        await in_lanes(polls(), lane, handle, waiting=4, together=4, apart_s=3600)

    assert blocks == [[0], [1, 2, 3, 4], [5, 6]]


async def test_what_comes_too_soon_waits_for_its_time() -> None:
    taken_at: list[float] = []
    taken = [asyncio.Event(), asyncio.Event()]

    async def handle(polls: Sequence[PollInFlight]) -> None:
        taken_at.append(asyncio.get_running_loop().time())
        taken[int(polls[0].poll.offsets[0])].set()

    async def polls() -> AsyncIterator[PollInFlight]:
        for offset, one in enumerate(taken):
            yield a_poll(0, offset)
            await one.wait()

    async with asyncio.timeout(30):
        await in_lanes(polls(), lane, handle, waiting=4, apart_s=0.3)

    assert taken_at[1] - taken_at[0] >= 0.29
