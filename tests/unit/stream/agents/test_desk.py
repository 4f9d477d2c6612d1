import asyncio
import threading
from collections.abc import Sequence

import pytest

from stream.agents.desk import Desk

LINGER = 4


class Work:
    """Doubles numbers; `done` is what came together, and `gate` holds what is being done."""

    def __init__(self) -> None:
        self.done: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        assert self.gate.wait(10)
        self.done.append(list(numbers))
        if 0 in numbers:
            msg = "nought"
            raise ValueError(msg)
        return [2 * number for number in numbers]


def a_desk(work: Work, most: int = 100) -> Desk[int, int]:
    return Desk(work, size=abs, most=most, linger=LINGER)


async def some_turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_an_idle_desk_lingers_for_those_on_their_way() -> None:
    work = Work()

    async def later(turns: int, number: int) -> int:
        await some_turns(turns)
        return await desk.ask(number)

    with a_desk(work) as desk:
        found = await asyncio.gather(*(later(turns, 1 + turns) for turns in range(LINGER)))

    assert found == [2, 4, 6, 8]
    assert work.done == [[1, 2, 3, 4]]


async def test_what_comes_while_it_is_busy_is_done_together_afterwards() -> None:
    work = Work()
    work.gate.clear()
    with a_desk(work) as desk:
        first = asyncio.create_task(desk.ask(1))
        await some_turns(2 * LINGER)
        others = [asyncio.create_task(desk.ask(number)) for number in (2, 3)]
        await some_turns(2 * LINGER)
        work.gate.set()

        assert await asyncio.gather(first, *others) == [2, 4, 6]

    assert work.done == [[1], [2, 3]]


@pytest.mark.parametrize(
    ("sizes", "together"),
    [([4, 6, 1], [[4, 6], [1]]), ([11, 1], [[11], [1]]), ([1, 11, 2], [[1], [11], [2]])],
)
async def test_no_more_is_done_together_than_it_may_unless_it_is_one(
    sizes: list[int], together: list[list[int]]
) -> None:
    work = Work()
    with a_desk(work, most=10) as desk:
        found = await asyncio.gather(*map(desk.ask, sizes))

    assert found == [2 * size for size in sizes]
    assert work.done == together


async def test_an_error_goes_to_all_who_asked_and_to_nobody_after_them() -> None:
    work = Work()
    with a_desk(work) as desk:
        found = await asyncio.gather(desk.ask(1), desk.ask(0), return_exceptions=True)
        assert [str(one) for one in found] == ["nought", "nought"]

        assert await desk.ask(3) == 6


async def test_who_has_gone_takes_nothing_from_the_others() -> None:
    work = Work()
    work.gate.clear()
    with a_desk(work) as desk:
        gone, stayed = (asyncio.create_task(desk.ask(number)) for number in (1, 2))
        await some_turns(2 * LINGER)
        gone.cancel()
        await some_turns(1)
        work.gate.set()

        assert await stayed == 4
        assert await desk.ask(5) == 10
    assert gone.cancelled()
