"""
A worker with named points at which a test may end it, and a clock to shift.

    python -m tests.faults.probed FOLDER worker --agents scoring

The product knows nothing of it: it is given other parts. Only what is no part, as it is a function
within the core, is wrapped from outside.
"""

import asyncio
import os
import random
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from faust.types import TP

from sinks.store import ArrowRows, ClickHouse
from stream.commands.boundary import errors, roles_of
from stream.kafka.connection import Connection, connection_of
from stream.process.logs import configure_logging
from stream.process.loops import LoopPolicy
from stream.process.stacks import stacks
from stream.process.supervisor import end_with_parent
from stream.settings import KafkaSettings, Settings, read_settings
from stream.store import store_of
from stream.transport.consumer import PollConsumer
from stream.worker import Parts, run_worker
from tests.faults.points import Point, Points

_LOOK_SECONDS = 0.2
_LONGEST_COMMIT_S = 0.008


def shift_clocks(points: Points) -> None:
    """Make what this process reads of the time of day follow the folder's shift."""
    shift = points.clock_shift()
    true, true_ns = time.time, time.time_ns

    def watch() -> None:
        nonlocal shift
        while True:
            shift = points.clock_shift()
            time.sleep(_LOOK_SECONDS)

    threading.Thread(target=watch, name="clock", daemon=True).start()
    time.time = lambda: true() + shift
    time.time_ns = lambda: true_ns() + int(shift * 1e9)


def tell_when_asked() -> None:
    """On SIGQUIT, write to the log where every thread and every task stands."""
    signal.signal(signal.SIGQUIT, lambda *_: os.write(2, stacks().encode()))


def wrap(owner: Any, name: str, points: Points, first: Point, last: Point | None = None) -> None:
    """Let a function of a module pass a point before, and one after, what it does."""
    inner: Callable[..., Any] = getattr(owner, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        points.passed(first)
        result = inner(*args, **kwargs)
        if last is not None:
            points.passed(last)
        return result

    setattr(owner, name, outer)


class _Producer(AIOKafkaProducer):  # type: ignore[misc] # untyped library
    """One that may withhold a batch: it is never sent, so never acknowledged."""

    def __init__(self, points: Points, **options: Any) -> None:
        super().__init__(**options)
        self._points = points

    async def send_batch(self, *args: Any, **kwargs: Any) -> Any:
        if taken := self._points.take("withheld"):
            loop = asyncio.get_running_loop()
            loop.call_later(taken.hold_s, taken.send)
            return loop.create_future()
        return await super().send_batch(*args, **kwargs)

    async def _acknowledged(self, point: Point, sent: Any) -> None:
        """Be at a point when a batch is acknowledged; those of other topics may not be."""
        if self._points.is_armed(point):
            await asyncio.wait([sent])
            await self._points.reached(point)


class _Transactional(_Producer):
    """What delivers exactly once."""

    async def start(self) -> None:
        await super().start()
        await self._points.reached("entered")

    async def begin_transaction(self) -> None:
        await self._points.reached("decided")
        await super().begin_transaction()

    async def send_batch(self, *args: Any, **kwargs: Any) -> Any:
        sent = await super().send_batch(*args, **kwargs)
        await self._acknowledged("sending", sent)
        return sent

    async def send_offsets_to_transaction(self, *args: Any) -> None:
        await self._points.reached("sent")
        await super().send_offsets_to_transaction(*args)

    async def commit_transaction(self) -> None:
        await self._points.reached("offset_sent")
        if taken := self._points.take("committing"):
            # Anywhere between the request and its answer.
            pause = random.uniform(0, _LONGEST_COMMIT_S)
            asyncio.get_running_loop().call_later(pause, taken.send)
        await super().commit_transaction()
        await self._points.reached("committed")


class _Plain(_Producer):
    """What delivers at least once: `ledger` is the topic that it writes first."""

    def __init__(self, points: Points, ledger: str, **options: Any) -> None:
        super().__init__(points, **options)
        self._ledger = ledger

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        first = topic == self._ledger
        if first:
            await self._points.reached("decided")
        sent = await super().send_batch(batch, topic, partition=partition)
        await self._acknowledged("ledger_sent" if first else "sending", sent)
        return sent


class _Reader(AIOKafkaConsumer):  # type: ignore[misc] # untyped library
    """What reads back."""

    def __init__(self, points: Points, *topics: str, **options: Any) -> None:
        super().__init__(*topics, **options)
        self._points = points

    async def start(self) -> None:
        await self._points.reached("reading_back")
        await super().start()


@dataclass(frozen=True, kw_only=True)
class ProbedConnection(Connection):
    """Makes the clients by which a scoring worker delivers and takes over."""

    points: Points
    ledger: str

    @classmethod
    def of(cls, points: Points, kafka: KafkaSettings) -> "ProbedConnection":
        """Give the connection of the settings, probed."""
        real = connection_of(kafka)
        return cls(real.servers, real.login, real.tls, points=points, ledger=kafka.ledger)

    def producer(self, **options: Any) -> AIOKafkaProducer:
        if "transactional_id" in options:
            return _Transactional(self.points, **self._options(), **options)
        return _Plain(self.points, self.ledger, **self._options(), **options)

    def consumer(self, *topics: str, **options: Any) -> AIOKafkaConsumer:
        return _Reader(self.points, *topics, **self._options(), **options)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        async with super().admin() as admin:
            ask = admin.list_consumer_group_offsets

            async def asked(*args: Any, **kwargs: Any) -> Any:
                await self.points.reached("asking_offset")
                return await ask(*args, **kwargs)

            admin.list_consumer_group_offsets = asked
            yield admin


class _Consumer(PollConsumer):
    """A role's consumer, which has a point where it hands over and one where it has committed."""

    polled: Point
    committed: Point

    def __init__(self, points: Points, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._points = points

    async def _hand_over(self, tp: TP, records: list[Any]) -> None:
        await self._points.reached(self.polled)
        await super()._hand_over(tp, records)

    async def _commit_offsets(self, *args: Any, **kwargs: Any) -> bool:
        done = await super()._commit_offsets(*args, **kwargs)
        await self._points.reached(self.committed)
        return done


class _ScoringConsumer(_Consumer):
    polled, committed = "polled", "committed"

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self._points.reached("revoked")
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await super().on_partitions_assigned(assigned, generation_id)
        await self._points.reached("assigned")

    def _on_finish(self, poll: Any) -> None:
        if not (self._owner and self._owner.commits_offsets):
            self._points.passed("sent")
        super()._on_finish(poll)
        self._points.passed("finished")


class _SinkConsumer(_Consumer):
    polled, committed = "sink_polled", "offsets_committed"


@dataclass(frozen=True, kw_only=True)
class ProbedStore(ClickHouse):
    """A store with a point before and one after an insert of what came from a topic."""

    points: Points

    def insert(self, table: str, rows: ArrowRows) -> None:
        if table == "release_features":
            super().insert(table, rows)
            return
        self.points.passed("inserting")
        super().insert(table, rows)
        self.points.passed("inserted")


def scoring_parts(points: Points) -> Parts:
    """Give the parts of a scoring worker, and probe the core."""
    from scoring import pipeline

    wrap(pipeline, "enrich", points, "decoded")
    wrap(pipeline, "judge", points, "enriched")
    return Parts(partial(ProbedConnection.of, points), partial(_ScoringConsumer, points))


def sink_parts(points: Points) -> Parts:
    """Give the parts of a sink."""

    def store(settings: Settings) -> ClickHouse:
        real = store_of(settings)
        return ProbedStore(real.handle, real.guard, points=points)

    return Parts(consumer=partial(_SinkConsumer, points), store=store)


def monitor_parts(points: Points) -> Parts:
    """Give the parts of a monitor, and probe how it saves."""
    import stream.agents.monitor

    wrap(stream.agents.monitor, "_save", points, "checkpoint_writing", "checkpoint_written")
    return Parts()


def main() -> None:
    """Run one role's worker, by the environment's settings, like the command of that name."""
    points = Points(Path(sys.argv[1]))
    asyncio.set_event_loop_policy(LoopPolicy())
    shift_clocks(points)
    tell_when_asked()
    (role,) = roles_of(sys.argv[sys.argv.index("--agents") + 1])
    parts_of = {"scoring": scoring_parts, "sink": sink_parts, "monitor": monitor_parts}
    with errors():
        settings = read_settings({})
        configure_logging(as_json=settings.log_json)
        end_with_parent()
        run_worker(settings, role, parts_of[role](points))


if __name__ == "__main__":
    main()
