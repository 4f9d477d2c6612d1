"""How fast rows are scored: by the kernel, by LightGBM, and by others where they are installed."""

import json
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from features.schema import Feature, FeatureSchema
from scoring.booster import BoosterScorer, feature_names_of
from stream.bench.machine import Machine, print_json, print_machine, this_machine

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1_024, 4_096, 8_192)
KERNEL, ONE_THREAD, ALL_THREADS = "creditstream", "LightGBM, 1 thread", "LightGBM, all threads"
_ROUNDS = 7
_ROUND_ROWS = 2_048
_POOL = 8_192
_RATIO_BATCH = 1_024

Rows = NDArray[np.float32]
Score = Callable[[Rows], object]


class Shape(msgspec.Struct, frozen=True):
    """A model to measure: so many trees of so many leaves, at most, over so many features."""

    name: str
    trees: int
    leaves: int
    features: int = 189
    missing: float = 0.2
    categorical: int = 0


SHAPES = (
    Shape("100 x 31", 100, 31),
    Shape("500 x 31", 500, 31),
    Shape("1000 x 63", 1_000, 63),
    Shape("500 x 31, categories", 500, 31, categorical=20),
    Shape("50 x 1023", 50, 1_023),
)
_RATIO_SHAPE = "500 x 31"
# Some others took minutes and gibibytes to compile a larger one.
_FOR_OTHERS = ("100 x 31", _RATIO_SHAPE)


class Scored(msgspec.Struct, frozen=True):
    """
    What was found of a shape, microseconds a row by batch size.

    They are of the processor where one thread scores, and by the clock where all do.
    `equal` is whether the kernel's probabilities were LightGBM's, every bit, in all batches;
    `load_seconds` what it took to parse, lay out and check the model, compiled before.
    """

    shape: Shape
    scored_by: str
    equal: bool
    load_seconds: float
    us_a_row: dict[str, dict[int, float]]
    ratio_to_lightgbm_one_thread: dict[int, float]
    others: dict[str, str]


class ScoreBench(msgspec.Struct, frozen=True):
    """What `creditstream bench score` found; the ratio is of 500 x 31 at 1,024 rows."""

    ratio_to_lightgbm_one_thread: float
    machine: Machine
    shapes: list[Scored]


def bench_score(console: Console, cores: int, others: str | None = None) -> ScoreBench:
    """
    Train a model of each shape and score rows by each way, in turn.

    `others` is a command that is given a model's file, a file of rows and batch sizes, and prints
    microseconds a row as JSON, as `bench/peers/score.py` does.
    """
    found = []
    for shape in SHAPES:
        with console.status(f"{shape.name}: training"):
            text, rows = trained(shape)
        with console.status(f"{shape.name}: scoring"):
            scored = _scored(shape, text, rows)
        if others and shape.name in _FOR_OTHERS:
            with console.status(f"{shape.name}: others"):
                us_a_row, told = _by_others(shlex.split(others), text, rows)
            us_a_row = scored.us_a_row | us_a_row
            scored = msgspec.structs.replace(scored, us_a_row=us_a_row, others=told)
        found.append(scored)
    of_shape = next(scored for scored in found if scored.shape.name == _RATIO_SHAPE)
    return ScoreBench(
        ratio_to_lightgbm_one_thread=of_shape.ratio_to_lightgbm_one_thread[_RATIO_BATCH],
        machine=this_machine(cores),
        shapes=found,
    )


def trained(shape: Shape) -> tuple[str, Rows]:
    """Train on made-up rows of which some values are missing; give rows to score too."""
    import lightgbm

    random = np.random.default_rng(shape.trees)
    rows = random.normal(size=(2 * _POOL, shape.features)).astype(np.float32)
    rows[:, : shape.categorical] = random.integers(0, 100, (len(rows), shape.categorical))
    weights = random.normal(size=shape.features) * (random.random(shape.features) < 0.5)
    known = rows.copy()
    known[:, : shape.categorical] = np.sin(7 * known[:, : shape.categorical])
    odds = known @ weights + 3 * np.sin(3 * known[:, 0]) * known[:, 1] + random.normal(0, 5)
    rows[random.random(rows.shape) < shape.missing] = np.nan
    data = lightgbm.Dataset(
        rows[:_POOL],
        (odds[:_POOL] > 0).astype(int),
        categorical_feature=list(range(shape.categorical)),
    )
    parameters = {
        "objective": "binary",
        "num_leaves": shape.leaves,
        "learning_rate": 0.05,
        "feature_fraction": 0.3,
        "min_data_in_leaf": 4 if shape.leaves > 100 else 20,
        "num_threads": 1,
        "verbosity": -1,
    }
    booster = lightgbm.train(parameters, data, shape.trees)
    return str(booster.model_to_string()), rows[_POOL:]


def _scored(shape: Shape, text: str, rows: Rows) -> Scored:
    import lightgbm

    schema = FeatureSchema(tuple(Feature(name) for name in feature_names_of(text)))
    BoosterScorer(text, schema)  # compiles, the first time
    started = time.perf_counter()
    scorer = BoosterScorer(text, schema)
    load_seconds = time.perf_counter() - started
    booster = lightgbm.Booster(model_str=text)
    ways: dict[str, Score] = {
        KERNEL: scorer.default_probability,
        ONE_THREAD: lambda some: booster.predict(some, num_threads=1),
    }
    taken = {size: rounds(ways, rows, size) for size in BATCHES}
    # By itself: OpenMP's threads turn for a while after their work, and would slow what comes next.
    on_all: dict[str, Score] = {ALL_THREADS: lambda some: booster.predict(some, num_threads=0)}
    for size in BATCHES:
        taken[size] |= rounds(on_all, rows, size, clock=time.perf_counter)
    return Scored(
        shape=shape,
        scored_by=scorer.scored_by,
        equal=all(_equal(ways, rows, size) for size in BATCHES),
        load_seconds=round(load_seconds, 3),
        us_a_row={
            way: {size: round(min(of_size[way]), 3) for size, of_size in taken.items()}
            for way in (*ways, *on_all)
        },
        ratio_to_lightgbm_one_thread={
            size: round(_ratio(of_size), 2) for size, of_size in taken.items()
        },
        others={},
    )


def rounds(
    ways: Mapping[str, Score],
    rows: Rows,
    size: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """
    Score batches of a size by each way in turn: microseconds a row, of each round.

    Of the processor: by the clock, what runs longer is held up more by other work on the machine.
    """
    found: dict[str, list[float]] = {way: [] for way in ways}
    batches = max(1, min(_ROUND_ROWS // size, 200))
    for number in range(_ROUNDS):
        for way, score in ways.items():
            start = number * batches * size
            # Other rows each time: of a few rows a processor learns every turn in a tree.
            places = [(start + batch * size) % (len(rows) - size + 1) for batch in range(batches)]
            score(rows[:size])
            started = clock()
            for place in places:
                score(rows[place : place + size])
            found[way].append((clock() - started) / (batches * size) * 1e6)
    return found


def _ratio(of_size: Mapping[str, list[float]]) -> float:
    """Give the median of the rounds' ratios, as the machine's speed drifts from one to the next."""
    pairs = zip(of_size[ONE_THREAD], of_size[KERNEL], strict=True)
    return median(lightgbm / kernel for lightgbm, kernel in pairs)


def _equal(ways: Mapping[str, Score], rows: Rows, size: int) -> bool:
    some = rows[: max(size, min(len(rows), 40 * size))]
    expected = np.asarray(ways[ONE_THREAD](some))
    found = [np.asarray(ways[KERNEL](some[at : at + size])) for at in range(0, len(some), size)]
    return np.concatenate(found).tobytes() == expected.tobytes()


def _by_others(
    command: list[str], text: str, rows: Rows
) -> tuple[dict[str, dict[int, float]], dict[str, str]]:
    """Give microseconds a row by way and batch size, and what each way says of itself."""
    with tempfile.TemporaryDirectory(prefix="creditstream-bench-") as made:
        model, matrix = Path(made) / "model.txt", Path(made) / "rows.npy"
        model.write_text(text)
        np.save(matrix, rows)
        sizes = ",".join(map(str, BATCHES))
        ended = subprocess.run(  # noqa: S603 - the caller's command
            [*command, str(model), str(matrix), sizes], capture_output=True, text=True, check=True
        )
    told = json.loads(ended.stdout.splitlines()[-1])  # libraries say things before
    us_a_row = {
        way: {int(size): taken for size, taken in of_way.items()}
        for way, of_way in told["us_a_row"].items()
    }
    return us_a_row, told["told"]


def print_bench(result: ScoreBench, *, as_json: bool) -> None:
    """Print a measurement: tables for people, one JSON document for machines."""
    if as_json:
        print_json(result)
        return
    console = Console()
    print_machine(console, result.machine)
    for scored in result.shapes:
        shape = scored.shape
        same = "every bit as LightGBM's" if scored.equal else "NOT LightGBM's bits"
        console.print(
            f"\n{shape.name}: {shape.features} features, {shape.missing:.0%} missing, "
            f"{shape.categorical} categorical; by {scored.scored_by}, {same}; "
            f"loaded in {scored.load_seconds:.2f} s",
            highlight=False,
            soft_wrap=True,
        )
        table = Table("rows", *scored.us_a_row, "LightGBM, 1 thread / creditstream")
        for size in BATCHES:
            taken = [
                f"{of_way[size]:.2f}" if size in of_way else ""
                for of_way in scored.us_a_row.values()
            ]
            table.add_row(f"{size:,}", *taken, f"{scored.ratio_to_lightgbm_one_thread[size]:.1f}")
        console.print(table)
        for way, told in scored.others.items():
            console.print(f"{way} {told}", highlight=False, soft_wrap=True)
    console.print(
        "microseconds a row, of the processor (all threads: by the clock); "
        f"{_RATIO_SHAPE} at {_RATIO_BATCH:,} rows: "
        f"{result.ratio_to_lightgbm_one_thread:.1f} x LightGBM on one thread",
        highlight=False,
    )
