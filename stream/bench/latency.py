"""How long a decision takes: open loop at steady rates, from when an event was to be sent."""

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from stream.bench.machine import Machine, print_json, print_machine, this_machine
from stream.bench.workers import settings_at, worker_of
from stream.brokers import ApacheKafka
from stream.demo.examples import Example
from stream.demo.installation import Installation, installed
from stream.kafka.packing import OutRecord
from stream.kafka.topics import create_topics
from stream.sending.files import applicants_of
from stream.sending.simulator import Simulator, partition_of
from stream.settings import Settings, Way

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Producer

RATES = (500, 2_000, 10_000)
_TICK_SECONDS = 0.002
_WARM_UP_SECONDS = 5.0
# Its Java spends half a core on compiling what it runs often, which no broker in service does.
_BROKER_WARM_UP_SECONDS = 30.0
_PATIENCE_SECONDS = 60.0
_AT_ONCE = 2_000
_QUANTILES = (50, 99, 99.9)


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from when an event was to be sent until a reader has what was asked for."""

    events: int
    p50_ms: float
    p99_ms: float
    p99_9_ms: float


class LatencyBench(msgspec.Struct, frozen=True):
    """
    What `creditstream bench latency` found, by way of delivery and events a second.

    `broker` is the way of the applications themselves, once through the broker, with no worker
    there: a decision takes that way twice.
    """

    machine: Machine
    seconds: float
    broker: dict[int, Latency]
    latency: dict[Way, dict[int, Latency]]


class _Read(msgspec.Struct):
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
            alone = settings_at(running, kafka.bootstrap_servers, "at_least_once")
            asyncio.run(create_topics(alone.kafka))
            with console.status("the broker alone"):
                broker = _at_each_rate(running, alone, alone.kafka.applications, seconds)
            for way in get_args(Way):
                settings = settings_at(running, kafka.bootstrap_servers, way)
                with console.status(f"{way}"), worker_of(running.folder, settings, cores[0]):
                    decisions = settings.kafka.decisions
                    found[way] = _at_each_rate(running, settings, decisions, seconds)
    finally:
        os.sched_setaffinity(0, cores)
    return LatencyBench(this_machine(len(cores)), seconds, broker, found)


def _at_each_rate(
    running: Installation, settings: Settings, topic: str, seconds: float
) -> dict[int, Latency]:
    """Send applications; give how long each took to be read from a topic, or what came of it."""
    from confluent_kafka import Consumer, Producer
    from confluent_kafka import TopicPartition as Partition

    kafka = settings.kafka
    simulator = Simulator(list(applicants_of(running.prepared)), "bench", bad_share=0)
    records = (record for record, _ in simulator.events())
    # Both in C, so that they leave their core to the broker.
    servers = {"bootstrap.servers": kafka.bootstrap_servers}
    producer = Producer(servers | {"linger.ms": 5, "compression.type": "lz4", "acks": "all"})
    reading = {"group.id": "bench", "isolation.level": "read_committed", "fetch.wait.max.ms": 20}
    reader = Consumer(servers | reading)
    reader.assign([Partition(topic, number, 0) for number in range(kafka.partitions)])
    found = {}
    try:
        _sent(producer, reader, settings, records, RATES[1], _BROKER_WARM_UP_SECONDS)
        for rate in RATES:
            _sent(producer, reader, settings, records, rate, _WARM_UP_SECONDS)
            taken = _sent(producer, reader, settings, records, rate, seconds)
            p50, p99, p99_9 = np.percentile(taken, _QUANTILES).round(1).tolist()
            found[rate] = Latency(len(taken), p50, p99, p99_9)
    finally:
        reader.close()
    return found


def _sent(
    producer: "Producer",
    reader: "Consumer",
    settings: Settings,
    records: Iterator[OutRecord],
    rate: int,
    seconds: float,
) -> list[float]:
    """Send at a steady rate; give the latency of each event in milliseconds."""
    kafka = settings.kafka
    count = int(rate * seconds)
    chosen = list(islice(records, count))
    place = {(dict(one.headers)["ce_id"] or b"").decode(): at for at, one in enumerate(chosen)}
    partitions = [partition_of(record, kafka.partitions) for record in chosen]
    started = time.time() + _TICK_SECONDS

    def send() -> None:
        done = 0
        while done < count:
            due = min(int((time.time() - started) * rate) + 1, count)
            for at in range(done, due):
                record = chosen[at]
                producer.produce(
                    kafka.applications,
                    record.value,
                    record.key,
                    partitions[at],
                    timestamp=record.timestamp_ms,
                    headers=list(record.headers),
                )
            done = max(done, due)
            producer.poll(0)
            time.sleep(_TICK_SECONDS)
        producer.flush(_PATIENCE_SECONDS)

    taken: list[float] = []
    give_up = started + seconds + _PATIENCE_SECONDS
    with ThreadPoolExecutor(1, thread_name_prefix="send") as sender:
        sending = sender.submit(send)
        while len(taken) < count:
            if time.time() > give_up:
                msg = f"{count - len(taken):,} of {count:,} events were not read"
                raise TimeoutError(msg)
            read = reader.consume(_AT_ONCE, timeout=_TICK_SECONDS)
            now = time.time()
            for record in read:
                event_id = msgspec.json.decode(record.value() or b"", type=_Read).event_id
                # From when it was to be sent, so that a late sender hides nothing.
                taken.append((now - started - place[event_id] / rate) * 1e3)
        sending.result()
    return taken


def print_bench(result: LatencyBench, *, as_json: bool) -> None:
    """Print a measurement: a table for people, one JSON document for machines."""
    if as_json:
        print_json(result)
        return
    console = Console()
    print_machine(console, result.machine)
    shown = Table("delivery", "events/s", "p50 ms", "p99 ms", "p99.9 ms")
    for way, rates in [("once through the broker", result.broker), *result.latency.items()]:
        for rate, found in rates.items():
            figures = (found.p50_ms, found.p99_ms, found.p99_9_ms)
            shown.add_row(way, f"{rate:,}", *(f"{figure:.1f}" for figure in figures))
    console.print(shown)
