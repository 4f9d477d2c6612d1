"""How fast a reconciliation reads: topics at Apache Kafka, and an embedded ClickHouse."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryFile

import msgspec
from aiokafka import TopicPartition
from rich.console import Console
from rich.table import Table

from models.train import train_prepared
from scoring.pipeline import Pipeline
from scoring.poll import Poll
from sinks.blocks import ledger_block
from sinks.clickhouse import ClickHouseSink
from sinks.ledger import encode as encode_ledger
from sinks.migrations import migrate
from stream.bench.machine import Machine, print_json, print_machine, this_machine
from stream.brokers import ApacheKafka
from stream.composition import build_pipeline
from stream.contracts.codec import decision_records
from stream.demo.examples import Example
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Output, Publisher
from stream.kafka.topics import create_topics
from stream.process.supervisor import console_script
from stream.sending.files import applicants_of
from stream.sending.simulator import Simulator
from stream.settings import Settings, environment_of, read_settings
from stream.store import store_of

_POLL = 2_000
_INSERTED_TOGETHER = 10
_LOOK_SECONDS = 0.05


class Reconciled(msgspec.Struct, frozen=True):
    """One run of the command, a process from beginning to end; memory is its most, resident."""

    seconds: float
    applications_per_second: float
    cpu_seconds: float
    peak_bytes: int


class ReconcileBench(msgspec.Struct, frozen=True):
    """What `creditstream bench reconcile` found: with ClickHouse, and of the topics alone."""

    machine: Machine
    applications: int
    with_clickhouse: Reconciled
    topics_alone: Reconciled


class NotReconciled(Exception):
    """The command found a fault in what the bench had made; says what it wrote."""


def bench_reconcile(
    console: Console, example: Example, folder: Path, applications: int
) -> ReconcileBench:
    """Make so many applications with all that became of them; measure the command on them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ApacheKafka() as kafka:
        with console.status("training a release"):
            prepared = example.prepare(example.tables, folder / "data")
            train_prepared(prepared, folder / "releases")
        settings = read_settings(
            {
                **example.settings,
                "release": str(folder / "releases"),
                "features": str(prepared.features),
                "kafka.bootstrap_servers": kafka.bootstrap_servers,
                "store.url": f"chdb://{folder.resolve() / 'chdb'}",
                "store.door": "http://127.0.0.1:9",  # nobody: the command opens the store itself
            }
        )
        simulator = Simulator(applicants_of(prepared), "bench", bad_share=0)
        records = (record for record, _ in simulator.events())
        with console.status(f"making {applications:,} applications and decisions"):
            asyncio.run(_make(settings, islice(records, applications)))
        with console.status("reconciling"):
            whole = _measure(settings, applications, [])
            topics = _measure(settings, applications, ["--no-store"])
    cores = len(os.sched_getaffinity(0))
    return ReconcileBench(this_machine(cores), applications, whole, topics)


async def _make(settings: Settings, records: Iterator[OutRecord]) -> None:
    """Write applications, decisions and ledger, in partitions in turn, and insert the ledger."""
    kafka = settings.kafka
    await create_topics(kafka)
    pipeline = build_pipeline(settings)
    begins = [0] * kafka.partitions
    turn = 0
    async with Publisher(connection_of(kafka), client_id="bench") as publisher:
        with closing(store_of(settings)) as store:
            migrate(store)
            sink = ClickHouseSink(store)
            waiting: list[bytes] = []
            while chunk := list(islice(records, _POLL)):
                number, turn = turn % kafka.partitions, turn + 1
                await publisher.publish(kafka.applications, number, chunk)
                poll = _poll(settings, number, begins[number], chunk)
                begins[number] += len(chunk)
                messages, outputs = _decided(settings, pipeline, poll)
                await publisher.publish_all(number, outputs)
                waiting += messages
                if len(waiting) >= _INSERTED_TOGETHER:
                    _insert(sink, kafka.ledger, waiting)
                    waiting = []
            _insert(sink, kafka.ledger, waiting)
    await _commit(settings)


def _insert(sink: ClickHouseSink, topic: str, messages: Sequence[bytes]) -> None:
    count = len(messages)
    nothing = [None] * count
    poll = Poll(topic, 0, range(count), [0] * count, nothing, messages, [[]] * count)
    block = ledger_block([poll])
    sink.name_features(block)
    if block.rows.num_rows:
        sink.insert(block, range(block.rows.num_rows))


def _poll(settings: Settings, number: int, begin: int, chunk: Sequence[OutRecord]) -> Poll:
    return Poll(
        settings.kafka.applications,
        number,
        range(begin, begin + len(chunk)),
        [record.timestamp_ms for record in chunk],
        [record.key for record in chunk],
        [record.value for record in chunk],
        [record.headers for record in chunk],
    )


def _decided(
    settings: Settings, pipeline: Pipeline, poll: Poll
) -> tuple[list[bytes], list[Output]]:
    now_us = time.time_ns() // 1_000
    batch = pipeline.decide(poll, now_us).batch
    messages = encode_ledger(batch)
    ledger = [OutRecord(None, message, [], now_us // 1_000) for message in messages]
    kafka = settings.kafka
    decisions = Output(kafka.decisions, decision_records(batch))
    return messages, [decisions, Output(kafka.ledger, ledger)]


async def _commit(settings: Settings) -> None:
    """Commit all, for both groups."""
    kafka = settings.kafka
    for role, topic in (("scoring", kafka.applications), ("sink", kafka.ledger)):
        partitions = [TopicPartition(topic, number) for number in range(kafka.partitions)]
        group = f"{kafka.group_prefix}-{role}"
        async with connection_of(kafka).consumer(group_id=group) as consumer:
            consumer.assign(partitions)
            await consumer.commit(await consumer.end_offsets(partitions))


def _measure(settings: Settings, applications: int, options: Sequence[str]) -> Reconciled:
    command = [console_script(), "reconcile", "--json", *options]
    used, started, peak_kib = getrusage(RUSAGE_CHILDREN), time.perf_counter(), 0
    with TemporaryFile() as out:
        with subprocess.Popen(  # noqa: S603 - our own command
            command, env=os.environ | environment_of(settings), stdout=out
        ) as process:
            # Not the most that the kernel tells of a child: this process's own is in that.
            while process.poll() is None:
                peak_kib = max(peak_kib, _most_kib(process.pid))
                time.sleep(_LOOK_SECONDS)
        seconds = time.perf_counter() - started
        out.seek(0)
        written = out.read()
    after = getrusage(RUSAGE_CHILDREN)
    consumed = sum(
        hour["counts"]["consumed"] for hour in json.loads(written or "{}").get("hours", ())
    )
    if process.returncode != 0 or consumed != applications:
        raise NotReconciled(written.decode()[:2_000])
    return Reconciled(
        round(seconds, 2),
        round(applications / seconds, 1),
        round(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime, 2),
        peak_kib * 1_024,
    )


def _most_kib(pid: int) -> int:
    """Give the most memory that a process has had resident; 0 where it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(n.split()[1]) for n in status.splitlines() if n.startswith("VmHWM")), 0)


def print_bench(result: ReconcileBench, *, as_json: bool) -> None:
    """Print a measurement: a table for people, one JSON document for machines."""
    if as_json:
        print_json(result)
        return
    console = Console()
    print_machine(console, result.machine)
    columns = ("seconds", "a second", "processor seconds", "most memory, MiB")
    table = Table(f"{result.applications:,} applications", *columns)
    for name, run in (
        ("with ClickHouse", result.with_clickhouse),
        ("topics alone", result.topics_alone),
    ):
        numbers = (run.seconds, run.applications_per_second, run.cpu_seconds)
        memory = f"{run.peak_bytes / 2**20:,.0f}"
        table.add_row(name, *(f"{number:,.1f}" for number in numbers), memory)
    console.print(table)
