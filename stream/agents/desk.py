"""A desk where lanes hand in their work: what waits is done in one go, in a thread of its own."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Self, TypeVar

_Work = TypeVar("_Work")
_Done = TypeVar("_Done")


class Desk(Generic[_Work, _Done]):
    """
    Does together what several lanes ask for, and so hardly more than for one.

    Whoever finds it idle lingers for some turns of the loop, as others may be on their way; what
    comes while it is busy is done next. `do` gives a result for each piece of work, in order; an
    error of it goes to all who asked. What is done together has no more than `most` of `size`,
    unless it is a single piece.
    """

    def __init__(
        self,
        do: Callable[[Sequence[_Work]], Sequence[_Done]],
        *,
        size: Callable[[_Work], int],
        most: int,
        linger: int,
    ) -> None:
        self._do = do
        self._size = size
        self._most = most
        self._linger = linger
        self._waiting: deque[tuple[_Work, int, asyncio.Future[_Done]]] = deque()
        self._busy = False
        # Status, fetching and output go on beside it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="desk")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    async def ask(self, work: _Work) -> _Done:
        """Hand in a piece of work; give its result."""
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[_Done] = loop.create_future()
        self._waiting.append((work, self._size(work), asked))
        if not self._busy:
            self._busy = True
            self._begin_after(self._linger)
        return await asked

    def _begin_after(self, turns: int) -> None:
        # An idle loop takes no time for turns; one that brings others' work takes what it needs.
        if turns:
            asyncio.get_running_loop().call_soon(self._begin_after, turns - 1)
        else:
            self._begin()

    def _begin(self) -> None:
        work, asked = self._take()
        doing = asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)
        doing.add_done_callback(lambda done: self._end(asked, done))

    def _take(self) -> tuple[list[_Work], list[asyncio.Future[_Done]]]:
        work: list[_Work] = []
        asked: list[asyncio.Future[_Done]] = []
        size = 0
        while self._waiting and (not work or size + self._waiting[0][1] <= self._most):
            piece, of_piece, future = self._waiting.popleft()
            size += of_piece
            work.append(piece)
            asked.append(future)
        return work, asked

    def _end(
        self, asked: list[asyncio.Future[_Done]], done: asyncio.Future[Sequence[_Done]]
    ) -> None:
        waiting = [future for future in asked if not future.done()]
        if done.cancelled():
            for future in waiting:
                future.cancel()
        elif error := done.exception():
            for future in waiting:
                future.set_exception(error)
        else:
            for future, result in zip(asked, done.result(), strict=True):
                if not future.done():
                    future.set_result(result)
        if self._waiting:
            self._begin()
        else:
            self._busy = False
