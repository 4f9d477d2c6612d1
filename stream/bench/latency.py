"""How long a decision takes: open loop at steady rates, from when an event was to be sent."""

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

from stream.bench.delivery import Way, settings_at, worker_of
from stream.bench.machine import Machine, print_json, print_machine, this_machine
from stream.brokers import ApacheKafka
from stream.demo.examples import Example
from stream.demo.installation import Installation, installed
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.sending.files import applicants_of
from stream.sending.simulator import Simulator, send_all
from stream.settings import Settings

RATES = (500, 2_000, 10_000)
_TICK_SECONDS = 0.002
_WARM_UP_SECONDS = 5.0
_PATIENCE_SECONDS = 60.0
_QUANTILES = (50, 99, 99.9)


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from when an event was to be sent until a reader has its decision."""

    events: int
    p50_ms: float
    p99_ms: float
    p99_9_ms: float


class LatencyBench(msgspec.Struct, frozen=True):
    """What `creditstream bench latency` found, by way of delivery and events a second."""

    machine: Machine
    seconds: float
    latency: dict[Way, dict[int, Latency]]


class _Decided(msgspec.Struct):
    event_id: str


def bench_latency(console: Console, example: Example, folder: Path, seconds: float) -> LatencyBench:
    """
    Send at each rate for so many seconds, whatever comes back, both ways of delivery in turn.

    Raises BrokerUnavailable where no Java is.
    """
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:] or cores)
    found: dict[Way, dict[int, Latency]] = {}
    try:
        with ApacheKafka() as kafka, installed(console, example, folder, ["scoring"]) as running:
            running.processes["scoring"].stop()  # of the embedded broker; only its files are used
            running.processes["scoring"].wait()
            for way in get_args(Way):
                settings = settings_at(running, kafka.bootstrap_servers, way)
                with console.status(f"{way}"), worker_of(running, settings, cores[0]):
                    found[way] = asyncio.run(_at_each_rate(running, settings, seconds))
    finally:
        os.sched_setaffinity(0, cores)
    return LatencyBench(this_machine(len(cores)), seconds, found)


async def _at_each_rate(
    running: Installation, settings: Settings, seconds: float
) -> dict[int, Latency]:
    kafka = settings.kafka
    simulator = Simulator(list(applicants_of(running.prepared)), "bench", bad_share=0)
    records = (record for record, _ in simulator.events())
    reader = connection_of(kafka).consumer(
        kafka.decisions,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=5,
    )
    found = {}
    async with Publisher(connection_of(kafka), client_id="bench") as publisher, reader:
        for rate in RATES:
            await _sent(publisher, reader, settings, records, rate, _WARM_UP_SECONDS)
            taken = await _sent(publisher, reader, settings, records, rate, seconds)
            p50, p99, p99_9 = np.percentile(taken, _QUANTILES).round(1).tolist()
            found[rate] = Latency(len(taken), p50, p99, p99_9)
    return found


async def _sent(
    publisher: Publisher,
    reader: AIOKafkaConsumer,
    settings: Settings,
    records: Iterator[OutRecord],
    rate: int,
    seconds: float,
) -> list[float]:
    """Send at a steady rate; give each decision's latency in milliseconds."""
    kafka = settings.kafka
    count = int(rate * seconds)
    chosen = list(islice(records, count))
    place = {(dict(one.headers)["ce_id"] or b"").decode(): at for at, one in enumerate(chosen)}
    started = time.time() + _TICK_SECONDS
    taken: list[float] = []

    async def send() -> None:
        done = 0
        async with asyncio.TaskGroup() as sending:
            while done < count:
                due = min(int((time.time() - started) * rate) + 1, count)
                if due > done:
                    sending.create_task(
                        send_all(publisher, kafka.applications, kafka.partitions, chosen[done:due])
                    )
                    done = due
                await asyncio.sleep(_TICK_SECONDS)

    async with asyncio.timeout(seconds + _PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(send())
        while len(taken) < count:
            for of_partition in (await reader.getmany(timeout_ms=200)).values():
                now = time.time()
                for record in of_partition:
                    event_id = msgspec.json.decode(record.value, type=_Decided).event_id
                    # From when it was to be sent, so that a late sender hides nothing.
                    taken.append((now - started - place[event_id] / rate) * 1e3)
    return taken


def print_bench(result: LatencyBench, *, as_json: bool) -> None:
    """Print a measurement: a table for people, one JSON document for machines."""
    if as_json:
        print_json(result)
        return
    console = Console()
    print_machine(console, result.machine)
    shown = Table("delivery", "events/s", "p50 ms", "p99 ms", "p99.9 ms")
    for way, rates in result.latency.items():
        for rate, found in rates.items():
            figures = (found.p50_ms, found.p99_ms, found.p99_9_ms)
            shown.add_row(way, f"{rate:,}", *(f"{figure:.1f}" for figure in figures))
    console.print(shown)
