"""Events end to end: at the embedded broker or Apache Kafka, with ClickHouse, with two workers."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Self

import msgspec
from aiokafka import TopicPartition

from sinks.door import SqlDoor
from stream.bench.setups import Setup
from stream.bench.stored import await_stored
from stream.bench.workers import (
    RunningWorker,
    Usage,
    settings_at,
    usage_at,
    with_port,
    worker_of,
)
from stream.brokers import ApacheKafka
from stream.demo.installation import Installation, free_ports
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.sending.files import applicants_of
from stream.sending.simulator import Simulator, send_all
from stream.settings import KafkaSettings, Settings

_WARM_UP = 20_000
_CHUNK = 4_000
# The mock broker keeps 5 MB a partition, and an event with its attributes takes 0.7 kB.
_MOST_WAITING = 12_000
_LOOK_SECONDS = 0.02
_PATIENCE_SECONDS = 600.0

Watched = Callable[[int], AbstractContextManager[None]]


class Memory(msgspec.Struct, frozen=True):
    """The workers' resident memory, in bytes, after so many events, those to warm up included."""

    events: int
    resident_bytes: int


class EndToEnd(msgspec.Struct, frozen=True):
    """
    From the producer's send to the decision on its topic and, with a sink, in ClickHouse.

    `events_per_cpu_second` counts all processor time of the processes measured: scoring workers and
    sink. One worker, and the sink, run on one core; of two workers the second has the next, which
    it shares with broker and producer.
    """

    events: int
    seconds: float
    events_per_second: float
    cpu_seconds: float
    events_per_cpu_second: float
    memory: list[Memory]


@dataclass(frozen=True, slots=True)
class _Measured:
    """The processes that are measured, and where their work shows."""

    settings: Settings
    scoring: Sequence[RunningWorker]
    sink: RunningWorker | None

    def usage(self) -> Usage:
        """Give what all have used together."""
        workers = [*self.scoring, *([self.sink] if self.sink else [])]
        used = [usage_at(worker.url) for worker in workers]
        return Usage(sum(one.cpu_seconds for one in used), sum(one.resident_bytes for one in used))


def unwatched(_pid: int) -> AbstractContextManager[None]:
    """Watch nothing."""
    return nullcontext()


def end_to_end(
    running: Installation,
    setup: Setup,
    cores: Sequence[int],
    events: int,
    watched: Watched = unwatched,
) -> EndToEnd:
    """
    Measure so many events, decided at least once; the example's own workers must not run.

    The first scoring worker is `watched` by its process's id while all work at full load. Raises
    BrokerUnavailable where Apache Kafka is asked for and no Java is.
    """
    with ExitStack() as stack:
        servers = running.settings["scoring"].kafka.bootstrap_servers
        if setup.kafka:
            servers = stack.enter_context(ApacheKafka()).bootstrap_servers
        settings = settings_at(running, servers, "at_least_once")
        scoring = [
            stack.enter_context(
                worker_of(running.folder, with_port(settings, port), cores[number % len(cores)])
            )
            for number, port in enumerate(free_ports(setup.workers))
        ]
        sink = None
        if setup.sink:
            (port,) = free_ports(1)
            of_sink = with_port(settings, port)
            sink = stack.enter_context(worker_of(running.folder, of_sink, cores[0], "sink"))
        measured = _Measured(settings, scoring, sink)
        return asyncio.run(_measure(running, measured, events, watched))


async def _measure(
    running: Installation, measured: _Measured, events: int, watched: Watched
) -> EndToEnd:
    kafka = measured.settings.kafka
    # Events of a run of their own: ClickHouse has a decision once, whatever topic it came by.
    applicants = list(applicants_of(running.prepared))
    simulator = Simulator(applicants, kafka.group_prefix, bad_share=0.001)
    records = (record for record, _ in simulator.events())
    memory = []
    async with (
        Publisher(connection_of(kafka), client_id="creditstream-bench") as publisher,
        _Answered(kafka, measured.sink) as answered,
    ):
        await _send_and_await(publisher, kafka, records, answered, _WARM_UP)
        before, started = measured.usage(), time.perf_counter()
        marks = sorted({max(events // 10, 1), events})
        done = 0
        with watched(measured.scoring[0].pid):
            for mark in marks:
                await _send_and_await(publisher, kafka, records, answered, mark - done)
                done = mark
                usage = measured.usage()
                memory.append(Memory(_WARM_UP + mark, usage.resident_bytes))
            seconds = time.perf_counter() - started
    cpu_s = usage.cpu_seconds - before.cpu_seconds
    return EndToEnd(
        events=events,
        seconds=round(seconds, 3),
        events_per_second=round(events / seconds, 1),
        cpu_seconds=round(cpu_s, 3),
        events_per_cpu_second=round(events / cpu_s, 1),
        memory=memory,
    )


class _Answered:
    """
    Counts what became of events: the ends of the topics of decisions and of parked events.

    With a sink, all that are in ClickHouse, too.
    """

    def __init__(self, kafka: KafkaSettings, sink: RunningWorker | None) -> None:
        self._kafka = kafka
        self._consumer = connection_of(kafka).consumer()
        self._store = SqlDoor(sink.url) if sink else None

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def count(self) -> int:
        """Count the events that are answered on the topics."""
        topics = (self._kafka.decisions, self._kafka.parked)
        partitions = [
            TopicPartition(topic, number)
            for topic in topics
            for number in range(self._kafka.partitions)
        ]
        return sum((await self._consumer.end_offsets(partitions)).values())

    async def stored(self, count: int) -> None:
        """Wait until so many are in ClickHouse, too; at once where there is none."""
        if self._store is not None:
            topic = self._kafka.applications
            await await_stored(self._store, topic, count, _PATIENCE_SECONDS)


async def _send_and_await(
    publisher: Publisher,
    kafka: KafkaSettings,
    records: Iterable[OutRecord],
    answered: _Answered,
    events: int,
) -> None:
    """Send so many events, never far ahead of the worker, and wait until all are answered."""
    begin = await answered.count()
    source = iter(records)
    sent = 0
    while (done := await answered.count() - begin) < events:
        number = min(_CHUNK, events - sent)
        if number and sent - done <= _MOST_WAITING - number:
            chunk = [next(source) for _ in range(number)]
            await send_all(publisher, kafka.applications, kafka.partitions, chunk)
            sent += number
        else:
            await asyncio.sleep(_LOOK_SECONDS)
    await answered.stored(begin + events)
