"""How long a worker takes from its start to ready, beside a script that only loads the same."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import get_args

import msgspec
from rich.console import Console
from rich.table import Table

from stream.bench.machine import Machine, print_json, print_machine, this_machine
from stream.bench.made_up import SHAPE, MadeUp, made_up, settings_for
from stream.brokers import ApacheKafka
from stream.demo.installation import await_ready
from stream.kafka.topics import create_topics
from stream.process.supervisor import RoleProcess
from stream.settings import Settings, Way

IMPORTS, SCRIPT = "importing what a worker needs", "a plain script"
_LOOK_SECONDS = 0.01

_IMPORTS = "import stream.worker"
_SCRIPT = """
import sys
import faust, lightgbm, pandas
lightgbm.Booster(model_file=sys.argv[1])
pandas.read_parquet(sys.argv[2]).set_index("application_id")
"""


class StartBench(msgspec.Struct, frozen=True):
    """
    What `creditstream bench start` found: seconds of each run, by what was started.

    A way of delivery stands for a worker: until its status service says that it is ready.
    `of_script` has the median over the rounds of its seconds to the plain script's.
    """

    machine: Machine
    model: str
    applicants: int
    seconds: dict[str, list[float]]
    of_script: dict[str, float]


def bench_start(console: Console, rounds: int, applicants: int) -> StartBench:
    """
    Start each in turn, so many times, after once that is not counted.

    In that one the table's matrix, compiled code and the release's proof are kept for those behind.
    Raises BrokerUnavailable where no Java is.
    """
    with (
        tempfile.TemporaryDirectory(prefix="creditstream-start-") as made,
        ApacheKafka() as broker,
    ):
        with console.status("training"):
            work = made_up(Path(made), applicants)
        starts: dict[str, Callable[[], float]] = {
            SCRIPT: lambda: _run(_SCRIPT, str(work.model), str(work.table)),
            IMPORTS: lambda: _run(_IMPORTS),
        }
        for way in get_args(Way):
            settings = settings_for(work, broker.bootstrap_servers, way)
            asyncio.run(create_topics(settings.kafka))
            starts[way] = partial(_until_ready, settings, work)
        seconds: dict[str, list[float]] = {name: [] for name in starts}
        for number in range(1 + rounds):
            for name, start in starts.items():
                with console.status(f"round {number} of {rounds}: {name}"):
                    taken = start()
                if number:
                    seconds[name].append(round(taken, 3))
    of_script = {
        name: round(median(a / b for a, b in zip(of, seconds[SCRIPT], strict=True)), 2)
        for name, of in seconds.items()
    }
    return StartBench(
        this_machine(len(os.sched_getaffinity(0))), SHAPE, applicants, seconds, of_script
    )


def _until_ready(settings: Settings, work: MadeUp) -> float:
    """Start a scoring worker, and end it when it is ready; give the seconds until then."""
    worker = RoleProcess(settings, "scoring", work.folder / "worker.log")
    url = f"http://127.0.0.1:{settings.status.port}"
    began = time.perf_counter()
    worker.start()
    try:
        await_ready({"scoring": url}, work.folder, _LOOK_SECONDS)
        return time.perf_counter() - began
    finally:
        worker.stop()
        worker.wait()


def _run(code: str, *arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)  # noqa: S603 - our own
    return time.perf_counter() - began


def print_bench(result: StartBench, *, as_json: bool) -> None:
    """Print what was found, for people or as JSON."""
    if as_json:
        print_json(result)
        return
    console = Console()
    print_machine(console, result.machine)
    table = Table(
        title=f"model {result.model}, {result.applicants:,} applicants of 189 features, seconds",
        title_justify="left",
    )
    for heading in ("started", "median", "least", "most", "of a plain script's"):
        table.add_column(heading, justify="left" if heading == "started" else "right")
    for name, of in result.seconds.items():
        figures = (median(of), min(of), max(of), result.of_script[name])
        table.add_row(name, *(f"{figure:.2f}" for figure in figures))
    console.print(table)
