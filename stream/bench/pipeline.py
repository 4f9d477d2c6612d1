"""How fast the scoring worker is: end to end through a broker, and stage by stage in process."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
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
from stream.bench.end_to_end import EndToEnd, Watched, end_to_end, unwatched
from stream.bench.machine import Machine, print_json, print_machine, this_machine
from stream.bench.setups import SetupName
from stream.composition import release_folder, table_file
from stream.contracts.codec import decision_records
from stream.demo.examples import Example
from stream.demo.installation import Installation, installed
from stream.kafka.packing import pack
from stream.process.supervisor import stop_all
from stream.sending.files import applicants_of
from stream.sending.simulator import Simulator

POLL = 2_000
_REPEATS = 7


class PipelineBench(msgspec.Struct, frozen=True):
    """
    What `creditstream bench pipeline` found; stages in microseconds an event.

    `end_to_end` has each setup that was asked for.
    """

    machine: Machine
    release: str
    reasons: str
    explained_by: str
    share_explained: float
    end_to_end: dict[str, EndToEnd]
    stages_us: dict[str, float]


def bench_pipeline(
    console: Console,
    example: Example,
    folder: Path,
    events: int,
    setups: Sequence[SetupName] = (SetupName.EMBEDDED,),
    watched: Watched = unwatched,
) -> PipelineBench:
    """
    Measure each setup, and then stage by stage; its scoring worker is `watched`.

    Raises BrokerUnavailable where one needs Apache Kafka and no Java is.
    """
    cores = sorted(os.sched_getaffinity(0))
    # The workers have the first core to themselves; broker and producer share the others.
    os.sched_setaffinity(0, cores[1:] or cores)
    found = {}
    try:
        with installed(console, example, folder, ["scoring", "sink"]) as running:
            stop_all(list(running.processes.values()))  # only their files and broker are used
            for name in setups:
                with console.status(f"{name}: {events:,} events end to end"):
                    found[str(name)] = end_to_end(running, name.setup, cores, events, watched)
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
        end_to_end=found,
        stages_us=stages,
    )


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
        "all of deciding, with ids and columns": lambda: pipeline.decide(poll, 0),
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


def print_bench(result: PipelineBench, *, as_json: bool) -> None:
    """Print a measurement: tables for people, one JSON document for machines."""
    if as_json:
        print_json(result)
        return
    console = Console()
    print_machine(console, result.machine)
    explained = f"reasons: {result.reasons}, by {result.explained_by}"
    console.print(
        f"release {result.release}; {explained}, for {result.share_explained:.0%} of decisions",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(
        "end to end", "events", "a second", "a processor second", "resident MiB", "of it grown"
    )
    for name, run in result.end_to_end.items():
        first, last = run.memory[0].resident_bytes, run.memory[-1].resident_bytes
        table.add_row(
            name,
            f"{run.events:,}",
            f"{run.events_per_second:,.0f}",
            f"{run.events_per_cpu_second:,.0f}",
            f"{last / 2**20:.0f}",
            f"{last / first - 1:+.1%}",
        )
    console.print(table)
    table = Table("stage", "microseconds an event")
    for name, taken in result.stages_us.items():
        table.add_row(name, f"{taken:.2f}")
    console.print(table)
