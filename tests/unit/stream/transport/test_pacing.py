import asyncio
import time
from typing import Any

import pytest

from stream.transport.gone import StrictFetcher
from stream.transport.in_flight import PollInFlight
from stream.transport.pacing import Pace, PacedFetcher
from tests.builders import a_poll

NOTHING: list[Any] = []
ONE = ["a request"]


class Fetching(PacedFetcher):
    """A fetcher that has just had an answer, and would now ask for more."""

    def __init__(self, pace: Pace) -> None:
        self._key_deserializer = pace
        self._answered = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._wait_consume_future = self._loop.create_future()
        pace.fetched_by(self)

    def requests(self) -> list[Any]:
        requests, *_ = self._get_actions_per_node(None)
        return list(requests)


@pytest.fixture(autouse=True)
def wanting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        StrictFetcher, "_get_actions_per_node", lambda *_: (ONE, {}, 5.0, False, [])
    )


def of(records: int) -> PollInFlight:
    return PollInFlight(a_poll(*[b""] * records), lambda _: None)


async def test_while_little_is_worked_on_nothing_is_fetched_until_all_of_it_is_finished() -> None:
    pace = Pace()
    fetcher = Fetching(pace)
    assert fetcher.requests() == ONE
    first, second = of(1), of(2)
    pace.begin(first)
    pace.begin(second)
    assert fetcher.requests() == NOTHING
    pace.finish(first)
    assert fetcher.requests() == NOTHING

    pace.finish(second)

    await asyncio.wait_for(fetcher._wait_consume_future, 10)  # it is told at once
    assert fetcher.requests() == ONE


async def test_one_that_takes_long_holds_nothing_up_for_longer_than_a_pause() -> None:
    pace = Pace()
    fetcher = Fetching(pace)
    pace.begin(of(1))

    requests, resets, timeout, invalid, resumed = fetcher._get_actions_per_node(None)

    assert (requests, resets, invalid, resumed) == ([], {}, False, [])
    assert 0 < timeout <= 0.1
    fetcher._answered -= 0.2
    assert fetcher.requests() == ONE


async def test_many_records_are_worth_the_next_fetch() -> None:
    pace = Pace()
    pace.begin(of(300))

    assert Fetching(pace).requests() == ONE


async def test_what_was_given_back_holds_nothing_up_and_may_finish_all_the_same() -> None:
    pace = Pace()
    fetcher = Fetching(pace)
    given_back, ours = of(3), of(1)
    pace.begin(given_back)

    pace.forget()

    assert fetcher.requests() == ONE
    pace.begin(ours)
    pace.finish(given_back)
    assert fetcher.requests() == NOTHING
    pace.finish(ours)
    assert fetcher.requests() == ONE


async def test_a_finish_behind_the_end_of_its_fetcher_wakes_nobody() -> None:
    pace = Pace()

    def fetch_and_end() -> None:
        async def begun() -> None:
            Fetching(pace)

        asyncio.run(begun())

    await asyncio.to_thread(fetch_and_end)
    poll = of(1)
    pace.begin(poll)
    pace.finish(poll)
