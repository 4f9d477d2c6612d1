"""What exactly once costs: both ways of delivering, at Apache Kafka, in one run."""

import asyncio
import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer
from rich.console import Console
from rich.table import Table

from stream.bench.machine import Machine, print_json, print_machine, this_machine
from stream.bench.workers import settings_at, usage_at, worker_of
from stream.brokers import ApacheKafka
from stream.demo.examples import Example
from stream.demo.installation import Installation, installed
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.sending.files import applicants_of
from stream.sending.simulator import Simulator, send_all
from stream.settings import Settings, Way


class _Decided(msgspec.Struct):
    event_id: str


_WARM_UP = 20_000
_CHUNK = 4_000
_LOW_RATE, _LOW_SECONDS = 200, 15.0
_PATIENCE_SECONDS = 120.0
_RUNS = 3


class Delivered(msgspec.Struct, frozen=True):
    """
    One worker on one core: at full load, and the latency at 200 events a second.

    Latency is from the producer's timestamp until a reader of committed records has the decision.
    """

    events_per_second: float
    events_per_cpu_second: float
    p50_ms: float
    p99_ms: float


class DeliveryBench(msgspec.Struct, frozen=True):
    """
    What `creditstream bench delivery` found, by way, a figure for each run in turn.

    The ratio is of the medians of events a processor second: exactly once to at least once.
    """

    machine: Machine
    events: int
    runs: dict[Way, list[Delivered]]
    ratio_events_per_cpu_second: float


def bench_delivery(console: Console, example: Example, folder: Path, events: int) -> DeliveryBench:
    """Measure both ways, in turn, some times. Raises BrokerUnavailable where no Java is."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:] or cores)
    runs: dict[Way, list[Delivered]] = {way: [] for way in get_args(Way)}
    try:
        with ApacheKafka() as kafka, installed(console, example, folder, ["scoring"]) as running:
            running.processes["scoring"].stop()  # of the embedded broker; only its files are used
            running.processes["scoring"].wait()
            # The first round is for the broker, whose Java compiles what it runs often.
            for number in range(1 + _RUNS):
                for way, kept in runs.items():
                    with console.status(f"{way}, run {number} of {_RUNS}"):
                        settings = settings_at(running, kafka.bootstrap_servers, way)
                        found = _run(running, settings, cores[0], events)
                    if number:
                        kept.append(found)
    finally:
        os.sched_setaffinity(0, cores)
    once, least = (
        np.median([one.events_per_cpu_second for one in runs[way]])
        for way in ("exactly_once", "at_least_once")
    )
    return DeliveryBench(this_machine(len(cores)), events, runs, round(float(once / least), 3))


def _run(running: Installation, settings: Settings, core: int, events: int) -> Delivered:
    with worker_of(running.folder, settings, core) as worker:
        return asyncio.run(_measure(running, settings, worker.url, events))


async def _measure(running: Installation, settings: Settings, url: str, events: int) -> Delivered:
    kafka = settings.kafka
    simulator = Simulator(list(applicants_of(running.prepared)), "bench", bad_share=0)
    records = (record for record, _ in simulator.events())
    reader = connection_of(kafka).consumer(
        kafka.decisions,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
    )
    async with Publisher(connection_of(kafka), client_id="bench") as publisher, reader:
        await _at_full_load(publisher, reader, settings, islice(records, _WARM_UP), _WARM_UP)
        latency = await _at_low_load(publisher, reader, settings, records)
        before, started = usage_at(url), time.perf_counter()
        await _at_full_load(publisher, reader, settings, islice(records, events), events)
        seconds = time.perf_counter() - started
        cpu_s = usage_at(url).cpu_seconds - before.cpu_seconds
    p50, p99 = np.percentile(latency, (50, 99)).round(1).tolist()
    return Delivered(round(events / seconds, 1), round(events / cpu_s, 1), p50, p99)


async def _at_full_load(
    publisher: Publisher,
    reader: AIOKafkaConsumer,
    settings: Settings,
    records: Iterator[OutRecord],
    count: int,
) -> None:
    kafka = settings.kafka

    async def send() -> None:
        while chunk := list(islice(records, _CHUNK)):
            await send_all(publisher, kafka.applications, kafka.partitions, chunk)

    async with asyncio.timeout(_PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(send())
        decided = 0
        while decided < count:
            decided += sum(map(len, (await reader.getmany(timeout_ms=200)).values()))


async def _at_low_load(
    publisher: Publisher,
    reader: AIOKafkaConsumer,
    settings: Settings,
    records: Iterator[OutRecord],
) -> list[float]:
    """Send at a steady rate, whatever comes back; give each decision's latency in milliseconds."""
    kafka = settings.kafka
    count = int(_LOW_RATE * _LOW_SECONDS)
    due: dict[str, float] = {}
    latency: list[float] = []

    async def send() -> None:
        started = time.time()
        async with asyncio.TaskGroup() as sending:
            for number, record in enumerate(islice(records, count)):
                at = started + number / _LOW_RATE
                await asyncio.sleep(at - time.time())
                # From when it was to be sent, so that a late sender hides nothing.
                due[(dict(record.headers)["ce_id"] or b"").decode()] = at
                sending.create_task(
                    send_all(publisher, kafka.applications, kafka.partitions, [record])
                )

    async with asyncio.timeout(_PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(send())
        while len(latency) < count:
            for found in (await reader.getmany(timeout_ms=200)).values():
                now = time.time()
                decided = (msgspec.json.decode(record.value, type=_Decided) for record in found)
                latency += [(now - due[one.event_id]) * 1e3 for one in decided]
    return latency


def print_bench(result: DeliveryBench, *, as_json: bool) -> None:
    """Print a measurement: a table for people, one JSON document for machines."""
    if as_json:
        print_json(result)
        return
    console = Console()
    print_machine(console, result.machine)
    shown = Table("delivery", "events/s", "events/processor second", "p50 ms", "p99 ms")
    for way, runs in result.runs.items():
        for run in runs:
            rates = (f"{run.events_per_second:,.0f}", f"{run.events_per_cpu_second:,.0f}")
            shown.add_row(way, *rates, f"{run.p50_ms:.1f}", f"{run.p99_ms:.1f}")
    console.print(shown)
    ratio = result.ratio_events_per_cpu_second
    console.print(
        f"exactly once gives {ratio:.2f} of the events a processor second", highlight=False
    )
