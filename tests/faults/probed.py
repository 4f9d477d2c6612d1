"""
The `creditstream` command with named points at which a test may end it, and a clock to shift.

    python -m tests.faults.probed FOLDER worker --agents scoring

The product knows nothing of it: what is wrapped here is wrapped from outside.
"""

import asyncio
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def before(owner: Any, name: str, points: Points, point: Point) -> None:
    """Let a function of a module or class pass a point before it does anything."""
    inner: Callable[..., Any] = getattr(owner, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        points.passed(point)
        return inner(*args, **kwargs)

    setattr(owner, name, outer)


def around(owner: Any, name: str, points: Points, first: Point, last: Point) -> None:
    """Let a function of a module or class pass a point before and one after what it does."""
    inner: Callable[..., Any] = getattr(owner, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        points.passed(first)
        result = inner(*args, **kwargs)
        points.passed(last)
        return result

    setattr(owner, name, outer)


def after(owner: Any, name: str, points: Points, point: Point) -> None:
    """Let a coroutine function of a module or class pass a point when it is done."""
    inner: Callable[..., Any] = getattr(owner, name)

    async def outer(*args: Any, **kwargs: Any) -> Any:
        result = await inner(*args, **kwargs)
        points.passed(point)
        return result

    setattr(owner, name, outer)


def probe_scoring(points: Points) -> None:
    """Set the points of the scoring worker's cycle."""
    from aiokafka import AIOKafkaProducer

    import stream.delivery.exactly_once
    import stream.transport.consumer
    from scoring import pipeline
    from stream.kafka import connection, publisher

    class Producer(AIOKafkaProducer):  # type: ignore[misc] # untyped library
        async def begin_transaction(self) -> None:
            points.passed("decided")
            await super().begin_transaction()

        async def send_batch(self, *args: Any, **kwargs: Any) -> Any:
            sent = await super().send_batch(*args, **kwargs)
            if points.is_armed("sending"):
                # One batch is acknowledged, those of the other topics may not be.
                await asyncio.wait([sent])
                points.passed("sending")
            return sent

        async def send_offsets_to_transaction(self, *args: Any) -> None:
            points.passed("sent")
            await super().send_offsets_to_transaction(*args)

        async def commit_transaction(self) -> None:
            points.passed("offset_sent")
            if points.is_armed("committing"):
                # Anywhere between the request and its answer.
                pause = random.uniform(0, _LONGEST_COMMIT_S)
                asyncio.get_running_loop().call_later(pause, points.passed, "committing")
            await super().commit_transaction()
            points.passed("committed")

    setattr(connection, "AIOKafkaProducer", Producer)  # noqa: B010 - it only imports the name
    before(stream.transport.consumer.PollConsumer, "_hand_over", points, "polled")
    before(pipeline, "enrich", points, "decoded")
    before(pipeline, "judge", points, "enriched")
    before(stream.transport.consumer.PollConsumer, "on_partitions_revoked", points, "revoked")
    after(publisher.TransactionalPublisher, "__aenter__", points, "entered")
    before(stream.delivery.exactly_once.ExactlyOnce, "_committed", points, "fenced")
    before(stream.delivery.exactly_once, "read_back", points, "reading_back")
    after(stream.delivery.exactly_once.ExactlyOnce, "take_over", points, "assigned")


def probe_sink(points: Points) -> None:
    """Set the points of the sink's cycle."""
    import sinks.clickhouse
    import stream.transport.consumer

    around(sinks.clickhouse.ClickHouseSink, "insert", points, "inserting", "inserted")
    before(stream.transport.consumer.PollConsumer, "_hand_over", points, "sink_polled")
    after(stream.transport.consumer.PollConsumer, "_commit_offsets", points, "offsets_committed")


def probe_monitor(points: Points) -> None:
    """Set the points of the monitor's cycle."""
    import stream.agents.monitor

    around(stream.agents.monitor, "_save", points, "checkpoint_writing", "checkpoint_written")


def main() -> None:
    """Run the command whose arguments follow the folder."""
    points = Points(Path(sys.argv.pop(1)))
    shift_clocks(points)
    probes = {"scoring": probe_scoring, "sink": probe_sink, "monitor": probe_monitor}
    probes[sys.argv[sys.argv.index("--agents") + 1]](points)

    from stream.cli import main as command

    command()


if __name__ == "__main__":
    main()
