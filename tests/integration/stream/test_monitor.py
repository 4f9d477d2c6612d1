"""The monitor's agent: how much it holds of what it has counted but not yet saved."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from monitoring.metrics import Metrics
from scoring.poll import Poll
from sinks.ledger import encode
from stream.agents.monitor import monitor_agent
from stream.transport.in_flight import PollInFlight
from tests.integration.stream.topics import kafka_at
from tests.unit.sinks.decisions import a_batch
from tests.unit.stream.agents.test_monitor import new_monitor

MOST_BYTES = 17 << 20


async def test_polls_that_are_counted_are_held_up_to_a_size_however_fast_they_come(
    mock_broker: str, tmp_path: Path
) -> None:
    (message,) = encode(a_batch(500, features=250))
    held, most = 0, 0
    all_taken = asyncio.Event()

    def finish(poll: PollInFlight) -> None:
        nonlocal held
        held -= poll.poll.nbytes

    async def polls() -> AsyncIterator[PollInFlight]:
        nonlocal held, most
        for offset in range(60):
            poll = Poll("ledger", 0, [offset], [0], [None], [message], [[]])
            held += poll.nbytes
            most = max(most, held)
            yield PollInFlight(poll, finish)
        all_taken.set()
        await asyncio.Event().wait()

    agent = monitor_agent(
        kafka_at(mock_broker), tmp_path / "checkpoint", new_monitor, Metrics.create()
    )
    watching = asyncio.ensure_future(agent(polls()))
    async with asyncio.timeout(100):
        await all_taken.wait()
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching

    assert len(message) * 60 > 25 << 20
    assert most < MOST_BYTES


async def test_polls_of_nothing_but_strangers_are_finished_too(
    mock_broker: str, tmp_path: Path
) -> None:
    finished = asyncio.Event()

    async def polls() -> AsyncIterator[PollInFlight]:
        poll = Poll("ledger", 0, [0], [0], [None], [b"junk"], [[]])
        yield PollInFlight(poll, lambda _: finished.set())
        await asyncio.Event().wait()

    agent = monitor_agent(
        kafka_at(mock_broker), tmp_path / "checkpoint", new_monitor, Metrics.create()
    )
    watching = asyncio.ensure_future(agent(polls()))
    async with asyncio.timeout(30):
        await finished.wait()
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
