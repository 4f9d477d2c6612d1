"""How fast the scoring worker is: end to end through a broker, and stage by stage in process."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import msgspec
import numpy as np
from aiokafka import TopicPartition
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from features.snapshot import load_snapshot
from models.release import Release, load_release
from scoring.byte_strings import ByteStrings
from scoring.decision import MISSING_SOURCE
from scoring.decode import ApplicationDecoder, EventLimits
from scoring.enrich import enrich
from scoring.judge import judge
from scoring.pipeline import Pipeline
from scoring.poll import HeaderColumns, Poll
from sinks.ledger import encode as encode_ledger
from stream.bench.machine import Machine, print_json, print_machine, this_machine
from stream.composition import release_folder, table_file
from stream.contracts.codec import decision_records
from stream.demo.examples import Example
from stream.demo.installation import Installation, installed
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord, pack
from stream.kafka.publisher import Publisher
from stream.sending.files import applicants_of
from stream.sending.simulator import Simulator, send_all
from stream.settings import KafkaSettings

POLL = 2_000
_WARM_UP = 20_000
_REPEATS = 7
_CHUNK = 4_000
# The mock broker keeps 5 MB a partition, and an event with its attributes takes 0.7 kB.
_MOST_WAITING = 12_000
_LOOK_SECONDS = 0.02

Watched = Callable[[int], AbstractContextManager[None]]


def _unwatched(_pid: int) -> AbstractContextManager[None]:
    return nullcontext()


class Memory(msgspec.Struct, frozen=True):
    """The worker's resident memory, in bytes, after so many events."""

    events: int
    resident_bytes: int


class EndToEnd(msgspec.Struct, frozen=True):
    """
    One worker on one core, from the producer's send to the decision on its topic.

    `events_per_cpu_second` counts all of the worker process's processor time.
    """

    events: int
    seconds: float
    events_per_second: float
    cpu_seconds: float
    events_per_cpu_second: float
    memory: list[Memory]


class PipelineBench(msgspec.Struct, frozen=True):
    """What `creditstream bench pipeline` found; stages in microseconds an event."""

    machine: Machine
    release: str
    reasons: str
    explained_by: str
    share_explained: float
    end_to_end: EndToEnd
    stages_us: dict[str, float]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used."""

    cpu_seconds: float
    resident_bytes: int


def bench_pipeline(
    console: Console, example: Example, folder: Path, events: int, watched: Watched = _unwatched
) -> PipelineBench:
    """
    Measure an embedded installation with one scoring worker, pinned to a core.

    The worker, by its process's id, is `watched` while it works at full load.
    """
    cores = sorted(os.sched_getaffinity(0))
    # The worker has the first core to itself; broker and producer share the others.
    os.sched_setaffinity(0, cores[1:] or cores)
    try:
        with installed(console, example, folder, ["scoring"]) as running:
            pin(running.processes["scoring"].pid, {cores[0]})
            with console.status(f"{events:,} events end to end"):
                end_to_end = asyncio.run(_end_to_end(running, events, watched))
        settings = running.settings["scoring"]
        release = load_release(release_folder(settings.release))
        os.sched_setaffinity(0, {cores[0]})
        with console.status("stage by stage"):
            stages, explained = _stages(running, release)
    finally:
        os.sched_setaffinity(0, cores)
    return PipelineBench(
        machine=this_machine(len(cores)),
        release=release.id,
        reasons=settings.reasons,
        explained_by=release.scorer.explained_by,
        share_explained=round(explained, 4),
        end_to_end=end_to_end,
        stages_us=stages,
    )


async def _end_to_end(running: Installation, events: int, watched: Watched) -> EndToEnd:
    kafka = running.settings["scoring"].kafka
    simulator = Simulator(list(applicants_of(running.prepared)), "bench", bad_share=0.001)
    records = (record for record, _ in simulator.events())
    memory = []
    async with (
        Publisher(connection_of(kafka), client_id="creditstream-bench") as publisher,
        _Answered(kafka) as answered,
    ):
        await _send_and_await(publisher, kafka, records, answered, _WARM_UP)
        before, started = usage_at(running.url("scoring")), time.perf_counter()
        marks = sorted({max(events // 10, 1), events})
        done = 0
        with watched(running.processes["scoring"].pid):
            for mark in marks:
                await _send_and_await(publisher, kafka, records, answered, mark - done)
                done = mark
                usage = usage_at(running.url("scoring"))
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
    """Counts what became of events: the ends of the topics of decisions and of parked events."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._consumer = connection_of(kafka).consumer()

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def count(self) -> int:
        topics = (self._kafka.decisions, self._kafka.parked)
        partitions = [
            TopicPartition(topic, number)
            for topic in topics
            for number in range(self._kafka.partitions)
        ]
        return sum((await self._consumer.end_offsets(partitions)).values())


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


def _stages(running: Installation, release: Release) -> tuple[dict[str, float], float]:
    """Time each stage on one poll: microseconds an event, the least of some repeats."""
    settings = running.settings["scoring"]
    table = load_snapshot(table_file(settings.features), release.schema)
    poll = _poll(running)
    decoder = ApplicationDecoder(release.definition, EventLimits())
    decoded = decoder.decode(poll)
    enriched = enrich(decoded, table, release.definition)
    missing = enriched.sources == MISSING_SOURCE
    features, scorer, policy = enriched.features, release.scorer, release.policy
    verdicts = judge(scorer, policy, features, missing)
    adverse = features[verdicts.reasons.counts > 0]
    contributions = scorer.contributions(adverse)
    pipeline = Pipeline(
        release=release.id,
        definition=release.definition,
        table=table,
        scorer=scorer,
        policy=policy,
        explain=settings.reasons == "stream",
    )
    batch = pipeline.decide(poll, 0).batch
    records = decision_records(batch)
    stages: dict[str, Callable[[], object]] = {
        "decode": lambda: decoder.decode(poll),
        "enrich": lambda: enrich(decoded, table, release.definition),
        "score": lambda: scorer.default_probability(features),
        "explain": lambda: scorer.contributions(adverse),
        "explain (LightGBM's own)": lambda: scorer.contributions_of_lightgbm(adverse),
        "reasons": lambda: policy.reasons(adverse, contributions),
        "all of deciding": lambda: pipeline.decide(poll, 0),
        "decisions to JSON": lambda: decision_records(batch),
        "decisions to a batch": lambda: pack("decisions", records),
        "ledger to Arrow": lambda: encode_ledger(batch),
    }
    found = {name: round(_least(stage) / len(poll) * 1e6, 3) for name, stage in stages.items()}
    return found, len(adverse) / len(batch)


def _poll(running: Installation) -> Poll:
    simulator = Simulator(list(applicants_of(running.prepared)), "stages")
    records = [record for (record, _), _ in zip(simulator.events(), range(POLL), strict=False)]
    return Poll(
        topic="applications",
        partition=0,
        offsets=np.arange(POLL),
        produced_at_ms=np.array([record.timestamp_ms for record in records], np.int64),
        keys=ByteStrings.of(record.key for record in records),
        values=ByteStrings.of(record.value for record in records),
        headers=HeaderColumns.of(record.headers for record in records),
    )


def _least(stage: Callable[[], object]) -> float:
    taken = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        stage()
        taken.append(time.perf_counter() - started)
    return min(taken)


def usage_at(url: str) -> Usage:
    """Ask a worker's status service for its processor time and memory."""
    text = httpx.get(f"{url}/metrics", timeout=10.0).text
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return Usage(found["process_cpu_seconds_total"], int(found["process_resident_memory_bytes"]))


def pin(pid: int, cores: set[int]) -> None:
    """Let a process, all its threads, run on these cores alone."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def print_bench(result: PipelineBench, *, as_json: bool) -> None:
    """Print a measurement: tables for people, one JSON document for machines."""
    if as_json:
        print_json(result)
        return
    console = Console()
    run = result.end_to_end
    print_machine(console, result.machine)
    explained = f"reasons: {result.reasons}, by {result.explained_by}"
    rate = f"{run.events_per_second:,.0f} events a second ({run.events:,} in {run.seconds:.1f} s)"
    memory = [f"{at.resident_bytes / 2**20:.0f} MiB after {at.events:,}" for at in run.memory]
    growth = run.memory[-1].resident_bytes / run.memory[0].resident_bytes - 1
    for line in (
        f"release {result.release}; {explained}, for {result.share_explained:.0%} of decisions",
        f"one worker on one core, end to end: {rate}",
        f"events a processor second of the worker: {run.events_per_cpu_second:,.0f}",
        f"resident memory: {', '.join(memory)} events ({growth:+.1%})",
    ):
        console.print(line, highlight=False, soft_wrap=True)
    table = Table("stage", "microseconds an event")
    for name, taken in result.stages_us.items():
        table.add_row(name, f"{taken:.2f}")
    console.print(table)
