"""Waiting for ClickHouse, and finding the rows that it never takes, against tables made up here."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.blocks import Block
from sinks.clickhouse import ClickHouseSink
from sinks.isolation import MOST_REFUSED, Inserter
from sinks.store import ArrowRows, StoreRefused, StoreUnavailable
from tests.integration.sinks.stored import Heard

VIOLATED_CONSTRAINT, UNKNOWN_TABLE = 469, 60
OLD = 1_000_000


class Table:
    """A table of numbers that refuses some; `known` is the row that it took before."""

    def __init__(self, bad: Iterable[int] = (), known: int | None = OLD) -> None:
        self.bad = set(bad)
        self.known = known
        self.rows: set[int] = set()
        self.inserts = 0

    def query(self, _sql: str) -> pa.Table:
        return numbers([] if self.known is None else [self.known])

    def command(self, sql: str) -> None:
        raise AssertionError(sql)

    def close(self) -> None: ...

    def insert(self, _table: str, rows: ArrowRows) -> None:
        self.inserts += 1
        values = rows.table()["number"].to_pylist()
        if wrong := self.bad.intersection(values):
            raise StoreRefused(VIOLATED_CONSTRAINT, f"constraint is violated by {min(wrong)}")
        self.rows.update(values)


def numbers(values: Iterable[int]) -> pa.Table:
    return pa.table({"number": pa.array(values, pa.int64())})


def a_block(count: int) -> Block:
    return Block("numbers", numbers(range(count)), (), lambda *_: None)


def inserter(table: Any, heard: Heard) -> Inserter:
    return Inserter(ClickHouseSink(table), heard, first_pause_s=0.001, deadline_s=30)


@settings(deadline=None)
@given(st.integers(2, 400), st.sets(st.integers(0, 399), max_size=MOST_REFUSED))
async def test_all_but_the_bad_rows_are_in_and_those_are_named(count: int, bad: set[int]) -> None:
    table, heard = Table(bad), Heard()

    refused = await inserter(table, heard).insert(a_block(count))

    assert set(refused) == bad & set(range(count))
    assert table.rows - {OLD} == set(range(count)) - bad
    assert heard.causes == []


async def test_one_bad_row_of_many_costs_a_few_inserts() -> None:
    table = Table({7_777})

    assert list(await inserter(table, Heard()).insert(a_block(16_384))) == [7_777]
    assert table.inserts <= 2 * 14 + 2


async def test_a_bad_row_that_is_alone_is_told_from_a_bad_table_by_a_row_that_was_taken() -> None:
    table = Table({0})

    assert list(await inserter(table, Heard()).insert(a_block(1))) == [0]
    assert table.rows == {OLD}


async def waited(table: Table, mend: Callable[[], None], count: int) -> Heard:
    """Insert a block into a table that is mended when it was waited for; nothing is parked."""

    class Mending(Heard):
        def pausing(self, away: StoreUnavailable, pause_s: float) -> None:
            super().pausing(away, pause_s)
            mend()

    heard = Mending()
    assert await inserter(table, heard).insert(a_block(count)) == {}
    assert table.rows >= set(range(count))
    return heard


async def test_a_table_that_takes_no_row_is_waited_for_and_no_row_is_at_fault() -> None:
    table = Table(range(OLD + 1))

    heard = await waited(table, table.bad.clear, 10_000)

    assert [away.cause for away in heard.causes] == ["table"]
    assert "more than 16 rows" in str(heard.causes[0])
    assert "violated by" in str(heard.causes[0])


async def test_a_few_rows_of_a_table_that_took_none_yet_are_not_judged() -> None:
    table = Table(range(10), known=None)

    heard = await waited(table, table.bad.clear, 10)

    assert "every row is refused" in str(heard.causes[0])


async def test_more_bad_rows_than_some_are_the_tables_fault() -> None:
    table = Table(range(0, 400, 20))

    heard = await waited(table, table.bad.clear, 400)

    assert "more than 16 rows" in str(heard.causes[0])


async def test_a_row_that_was_refused_by_chance_is_not_parked() -> None:
    class Moody(Table):
        def insert(self, table: str, rows: ArrowRows) -> None:
            try:
                super().insert(table, rows)
            finally:
                if self.inserts == 12:  # what was refused so far was no row's fault
                    self.bad.clear()

    table = Moody({3})

    assert await inserter(table, Heard()).insert(a_block(100)) == {}
    assert table.rows == set(range(100))


class Answers:
    """An insert that answers with errors, one after the other, and then is accepted."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return 5


async def test_an_insert_is_tried_again_until_the_store_is_back_with_growing_random_pauses() -> (
    None
):
    insert, heard = Answers(*[StoreUnavailable("connection refused")] * 6), Heard()

    assert await inserter(Table(), heard).until_accepted(insert, "numbers") == 5

    assert insert.calls == 7
    assert all(0 <= pause <= 0.001 * 2**n for n, pause in enumerate(heard.pauses_s))
    assert len(set(heard.pauses_s)) == 6


async def test_a_refusal_that_may_be_a_rows_goes_up() -> None:
    insert, heard = Answers(StoreRefused(VIOLATED_CONSTRAINT, "no")), Heard()

    with pytest.raises(StoreRefused):
        await inserter(Table(), heard).until_accepted(insert, "numbers")

    assert (insert.calls, heard.causes) == (1, [])


async def test_a_table_that_is_gone_is_waited_for() -> None:
    insert, heard = Answers(StoreRefused(UNKNOWN_TABLE, "Table numbers does not exist")), Heard()

    assert await inserter(Table(), heard).until_accepted(insert, "numbers") == 5

    assert [away.cause for away in heard.causes] == ["table"]
    assert "give numbers back its name" in str(heard.causes[0])


async def test_an_answer_that_takes_long_is_told_of_and_not_asked_for_twice() -> None:
    answer = threading.Event()
    calls = 0

    class Releasing(Heard):
        def overdue(self, away: StoreUnavailable) -> None:
            super().overdue(away)
            if len(self.overdue_for) == 3:
                answer.set()

    def insert() -> int:
        nonlocal calls
        calls += 1
        answer.wait(30)
        return 1

    heard = Releasing()
    patient = Inserter(ClickHouseSink(Table()), heard, deadline_s=0.02)

    assert await patient.until_accepted(insert, "numbers") == 1
    assert calls == 1
    assert [str(away) for away in heard.overdue_for] == ["no answer within 0.02 s"] * 3
