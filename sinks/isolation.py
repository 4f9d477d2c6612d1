"""Inserts that wait for the store, and find the rows of a block that it will never take."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from sinks.blocks import Block
from sinks.clickhouse import ClickHouseSink
from sinks.refusals import for_an_operator, way_out, without_values
from sinks.store import StoreRefused, StoreUnavailable

MOST_REFUSED = 16
"""Of the rows of a block: above it the table is at fault, not they."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 15.0
# Above the driver's own time-out, below what the watchdog takes for a stall.
_DEADLINE_S = 45.0

T = TypeVar("T")


class Told(Protocol):
    """Who is told how inserts go; times in seconds."""

    def trying(self, longest_s: float) -> None:
        """Hear that an attempt begins, and how long it may take."""

    def overdue(self, away: StoreUnavailable) -> None:
        """Hear that an attempt takes longer."""

    def pausing(self, away: StoreUnavailable, pause_s: float) -> None:
        """Hear that an attempt failed, and after what pause comes the next."""


class Inserter:
    """
    Makes attempts to insert into one table, one at a time, for as long as it takes.

    While the store is away it pauses, twice as long at most each time up to 15 s, and a random part
    of that. An attempt that has not answered within the deadline is told of and waited for: two at
    once would help nobody, and one that never ends is the watchdog's to end.
    """

    def __init__(
        self,
        sink: ClickHouseSink,
        told: Told,
        *,
        first_pause_s: float = _FIRST_PAUSE_S,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        self._sink = sink
        self._told = told
        self._first_pause_s = first_pause_s
        self._deadline_s = deadline_s
        # A thread of its own, which no flood of queries keeps busy.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="insert")

    async def insert(self, block: Block) -> dict[int, StoreRefused]:
        """
        Insert a block; give the rows that the table never takes, by number, with the reason.

        A row is such only if it is refused alone, and once more after the table has taken another:
        of the block, or one that it took before. Where it takes none, or refuses more than
        MOST_REFUSED of a block, the table is at fault, and is waited for.
        """
        await self._until_named(block)
        pauses = _Pauses(self._first_pause_s)
        while True:
            search = _Search(lambda rows: self._until_taken(block, rows))
            await search.look(range(block.rows.num_rows))
            if not search.refused:
                return {}
            if await self._rows_are_at_fault(block, search):
                return await search.once_more()
            await self._pause(self._fault(block.table, search), pauses)

    async def until_accepted(self, insert: Callable[[], T], table: str) -> T:
        """Run a blocking call until the store has answered; a refusal of one row or all goes up."""
        pauses = _Pauses(self._first_pause_s)
        while True:
            try:
                return await self._attempt(insert)
            except StoreUnavailable as error:
                away = error
            except StoreRefused as refused:
                cause = for_an_operator(refused.code)
                if cause is None:
                    raise
                away = StoreUnavailable(_told_of(refused, table), cause)
                self._sink.forget_releases()
            await self._pause(away, pauses)

    async def _attempt(self, insert: Callable[[], T]) -> T:
        self._told.trying(self._deadline_s)
        call = asyncio.get_running_loop().run_in_executor(self._thread, insert)
        try:
            while not (await asyncio.wait({call}, timeout=self._deadline_s))[0]:
                self._told.overdue(StoreUnavailable(f"no answer within {self._deadline_s} s"))
        finally:
            call.cancel()
        return call.result()

    async def _until_taken(self, block: Block, rows: range) -> None:
        await self.until_accepted(lambda: self._sink.insert(block, rows), block.table)

    async def _until_named(self, block: Block) -> None:
        """Insert the features' names, of which each release has one row: no row can be at fault."""
        table = "release_features"
        pauses = _Pauses(self._first_pause_s)
        while True:
            try:
                return await self.until_accepted(lambda: self._sink.name_features(block), table)
            except StoreRefused as refused:
                await self._pause(StoreUnavailable(_told_of(refused, table), "table"), pauses)

    async def _rows_are_at_fault(self, block: Block, search: "_Search") -> bool:
        if len(search.refused) > MOST_REFUSED:
            return False
        return search.taken or await self.until_accepted(
            lambda: self._sink.takes_again(block), block.table
        )

    @staticmethod
    def _fault(table: str, search: "_Search") -> StoreUnavailable:
        *_, last = search.refused.values()
        many = f"more than {MOST_REFUSED} rows of a block are"
        which = many if len(search.refused) > MOST_REFUSED else "every row is"
        return StoreUnavailable(f"{which} refused: {_told_of(last, table)}", "table")

    async def _pause(self, away: StoreUnavailable, pauses: "_Pauses") -> None:
        pause_s = pauses.next()
        self._told.pausing(away, pause_s)
        await asyncio.sleep(pause_s)


def _told_of(refused: StoreRefused, table: str) -> str:
    return f"{way_out(refused.code, table)} ({without_values(str(refused))})"


class _Search:
    """Halves what is refused until it is single rows."""

    def __init__(self, insert: Callable[[range], Awaitable[None]]) -> None:
        self._insert = insert
        self.refused: dict[int, StoreRefused] = {}
        self.taken = False

    async def look(self, rows: range) -> None:
        """Insert rows, or what of them is taken; stop above MOST_REFUSED that are not."""
        if not rows or len(self.refused) > MOST_REFUSED:
            return
        try:
            await self._insert(rows)
        except StoreRefused as refused:
            if len(rows) == 1:
                self.refused[rows.start] = refused
                return
            half = len(rows) // 2
            await self.look(rows[:half])
            await self.look(rows[half:])
        else:
            self.taken = True

    async def once_more(self) -> dict[int, StoreRefused]:
        """Insert each row that was refused again; give those that still are."""
        again = {}
        for row in self.refused:
            try:
                await self._insert(range(row, row + 1))
            except StoreRefused as refused:
                again[row] = refused
        return again


class _Pauses:
    """Pauses that double, with full jitter, so that many sinks do not come back at once."""

    def __init__(self, first_s: float) -> None:
        self._longest_s = first_s

    def next(self) -> float:
        longest_s = self._longest_s
        self._longest_s = min(longest_s * 2, _LONGEST_PAUSE_S)
        return random.uniform(0.0, longest_s)  # noqa: S311 - jitter, no secret
