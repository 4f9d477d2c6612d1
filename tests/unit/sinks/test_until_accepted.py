"""Waiting for ClickHouse: it may be away as long as it likes; what it refuses goes up."""

import threading

import pytest

from sinks.clickhouse import until_accepted
from sinks.store import StoreRefused, StoreUnavailable


class AwayFor:
    """An insert that fails a number of times and then is accepted."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return 5


async def test_an_insert_is_tried_again_until_the_store_is_back() -> None:
    insert = AwayFor(4, StoreUnavailable("connection refused"))
    pauses: list[float] = []

    rows = await until_accepted(
        insert, lambda _, pause_s: pauses.append(pause_s), first_pause_s=0.001
    )

    assert rows == 5
    assert insert.calls == 5
    assert all(0.5 * 0.001 * 2**n <= pause <= 0.001 * 2**n for n, pause in enumerate(pauses))


async def test_what_the_store_refuses_is_not_tried_again() -> None:
    insert = AwayFor(1, StoreRefused(60, "no such table"))

    with pytest.raises(StoreRefused, match="no such table"):
        await until_accepted(insert, lambda *_: None)

    assert insert.calls == 1


async def test_a_store_that_never_answers_is_asked_again_after_the_deadline() -> None:
    answered = threading.Event()
    calls = 0
    causes: list[str] = []

    def insert() -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            answered.wait(30)
        return 1

    rows = await until_accepted(
        insert, lambda away, _: causes.append(str(away)), first_pause_s=0.001, deadline_s=0.05
    )
    answered.set()

    assert rows == 1
    assert causes == ["no answer within 0.05 s"]
