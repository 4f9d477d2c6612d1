"""Commands that measure, each with the machine and its versions."""

from pathlib import Path
from typing import Annotated

import typer

from stream.bench.setups import SetupName
from stream.commands.boundary import WORK, Json, errors


def bench_pipeline(
    events: Annotated[int, typer.Option(min=1_000, help="How many end to end.")] = 200_000,
    setup: Annotated[
        list[SetupName] | None,
        typer.Option(help="What to measure, several in turn [default: embedded]"),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Measure workers, one on one core, end to end and stage by stage."""
    from rich.console import Console

    from stream.bench.pipeline import bench_pipeline as measure
    from stream.bench.pipeline import print_bench
    from stream.demo.examples import EXAMPLES

    with errors():
        example = EXAMPLES["taiwan-default"]
        result = measure(
            Console(stderr=True), example, WORK / "bench", events, setup or [SetupName.EMBEDDED]
        )
        print_bench(result, as_json=as_json)


def profile(
    output: Annotated[Path, typer.Option("--output", "-o", help="The flame graph, an SVG.")] = Path(
        "creditstream-profile.svg"
    ),
    events: Annotated[
        int, typer.Option(min=1_000, help="How many the measured worker decides.")
    ] = 300_000,
    pid: Annotated[
        int | None, typer.Option(min=1, help="A worker of yours that runs, in place of ours.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long yours is sampled.")] = 10.0,
    *,
    as_json: Json = False,
) -> None:
    """Draw where a worker's time goes under load, with the stages of ours (py-spy)."""
    import time
    from functools import partial

    from rich.console import Console

    from stream.bench.pipeline import bench_pipeline as measure
    from stream.bench.pipeline import print_bench
    from stream.bench.profile import flame_graph
    from stream.demo.examples import EXAMPLES

    with errors():
        progress = Console(stderr=True)
        if pid is None:
            example = EXAMPLES["taiwan-default"]
            watched = partial(flame_graph, output=output)
            result = measure(progress, example, WORK / "bench", events, watched=watched)
            print_bench(result, as_json=as_json)
        else:
            with progress.status(f"process {pid}"), flame_graph(pid, output):
                time.sleep(seconds)
        progress.print(f"flame graph: {output}", highlight=False, soft_wrap=True)


def bench_score(
    others: Annotated[
        str | None, typer.Option(help="A command that times others: see bench/peers.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Measure scoring: the kernel against LightGBM, by model shapes and batch sizes."""
    import os

    from rich.console import Console

    from stream.bench.score import bench_score as measure
    from stream.bench.score import print_bench

    with errors():
        cores = len(os.sched_getaffinity(0))
        result = measure(Console(stderr=True), cores, others)
        print_bench(result, as_json=as_json)
        if not all(scored.equal for scored in result.shapes):
            raise typer.Exit(1)


def bench_peers(
    peers: Annotated[
        str | None, typer.Option(help="The command that runs a peer: see bench/peers.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each runs.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="How long a run takes, about.")] = 8.0,
    only: Annotated[
        list[str] | None, typer.Option(help="A contender to measure; repeatable.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Measure the same work done by others, at Apache Kafka (Java, Maven)."""
    from rich.console import Console

    from stream.bench.peers import bench_peers as measure
    from stream.bench.peers import print_bench

    with errors():
        result = measure(Console(stderr=True), peers, rounds, seconds, only or ())
        print_bench(result, as_json=as_json)


def bench_latency(
    seconds: Annotated[float, typer.Option(min=1, help="How long each rate is sent.")] = 15.0,
    *,
    as_json: Json = False,
) -> None:
    """Measure how long decisions take at steady rates, at Apache Kafka (Java, Maven)."""
    from rich.console import Console

    from stream.bench.latency import bench_latency as measure
    from stream.bench.latency import print_bench
    from stream.demo.examples import EXAMPLES

    with errors():
        example = EXAMPLES["taiwan-default"]
        result = measure(Console(stderr=True), example, WORK / "bench", seconds)
        print_bench(result, as_json=as_json)


def bench_start(
    rounds: Annotated[int, typer.Option(min=1, help="How often each is started.")] = 5,
    applicants: Annotated[
        int, typer.Option(min=1_000, help="Applicants of the feature table.")
    ] = 356_255,
    *,
    as_json: Json = False,
) -> None:
    """Measure a worker's start, from nothing to ready, at Apache Kafka (Java, Maven)."""
    from rich.console import Console

    from stream.bench.start import bench_start as measure
    from stream.bench.start import print_bench

    with errors():
        result = measure(Console(stderr=True), rounds, applicants)
        print_bench(result, as_json=as_json)


def bench_delivery(
    events: Annotated[int, typer.Option(min=1_000, help="How many at full load.")] = 100_000,
    *,
    as_json: Json = False,
) -> None:
    """Measure what exactly once costs against at least once, at Apache Kafka (Java, Maven)."""
    from rich.console import Console

    from stream.bench.delivery import bench_delivery as measure
    from stream.bench.delivery import print_bench
    from stream.demo.examples import EXAMPLES

    with errors():
        example = EXAMPLES["taiwan-default"]
        result = measure(Console(stderr=True), example, WORK / "bench", events)
        print_bench(result, as_json=as_json)


def bench_reconcile(
    applications: Annotated[
        int, typer.Option(min=1_000, help="How many to reconcile.")
    ] = 1_000_000,
    *,
    as_json: Json = False,
) -> None:
    """Measure `creditstream reconcile`, at Apache Kafka (Java, Maven) and embedded ClickHouse."""
    from rich.console import Console

    from stream.bench.reconcile import bench_reconcile as measure
    from stream.bench.reconcile import print_bench
    from stream.demo.examples import EXAMPLES

    with errors():
        example = EXAMPLES["taiwan-default"]
        result = measure(Console(stderr=True), example, WORK / "bench-reconcile", applications)
        print_bench(result, as_json=as_json)


def bench_table(
    rows: Annotated[int, typer.Option(min=1_000, help="Applicants of the table.")] = 356_255,
    columns: Annotated[int, typer.Option(min=1, max=10_000, help="Features of each.")] = 189,
    *,
    as_json: Json = False,
) -> None:
    """Measure a feature table: opened from both files, its memory, a key's look-up."""
    from rich.console import Console

    from stream.bench.table import bench_table as measure
    from stream.bench.table import print_bench

    with errors():
        result = measure(Console(stderr=True), WORK / "bench", rows, columns)
        print_bench(result, as_json=as_json)
