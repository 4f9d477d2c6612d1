"""
Score rows of models made by chance, by the kernel and by LightGBM: every bit must agree.

    python -m tests.fuzz.scores --count 10000 --seed 1 --rows 1000

A seed makes a model of any shape (1 to 2,000 trees of 1 to 300 leaves, each kind of what is
missing, categories) and rows that meet its bounds, as float32 and float64, in batches of all sizes.
Exit code 1: one differed. Its seed is printed, and `--seed N --count 1` makes it again.
"""

import argparse
import json
import signal
import sys
import time
from collections import Counter
from random import Random

import lightgbm
import numpy as np

from scoring.kernel import Kernel
from scoring.model_text import checked_model
from tests.fuzz.forests import Rows, Shape, a_shape, a_text, some_rows


def differs(random: Random, shape: Shape, text: str, rows: Rows) -> str:
    """Say how the kernel's scores differ from LightGBM's; empty where they do not."""
    model = checked_model(text, shape.features)
    booster = lightgbm.Booster(model_str=model.text)
    kernel = Kernel(model.trees, shape.features, shape.objective, averaged=shape.averaged)
    with np.errstate(over="ignore"):
        single = rows.astype(np.float32)
    for values in (rows, single):
        raw = np.asarray(booster.predict(values, raw_score=True, num_threads=1))
        given = np.asarray(booster.predict(values, num_threads=1))
        if kernel.raw_scores(values).tobytes() != raw.tobytes():
            return f"raw scores of {values.dtype}"
        if kernel.predictions(values).tobytes() != given.tobytes():
            return f"predictions of {values.dtype}"
        start = 0
        while start < len(values):
            size = random.choice((1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 200))
            part = slice(start, start + size)
            if kernel.raw_scores(values[part]).tobytes() != raw[part].tobytes():
                return f"raw scores of {size} rows from {start} on, of {values.dtype}"
            start += size
    return ""


def case(seed: int, count: int) -> tuple[Shape, str]:
    """Make one model with rows, and say how its scores differ."""
    random = Random(seed)
    shape = a_shape(random)
    text = a_text(random, shape)
    return shape, differs(random, shape, text, some_rows(random, text, shape.features, count))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000, help="of models")
    parser.add_argument("--rows", type=int, default=1_000, help="of each model")
    parser.add_argument("--seed", type=int, default=1, help="of the first; each next has the next")
    given = parser.parse_args()
    lightgbm.register_logger(_Silent())
    stop: list[int] = []
    # Asked to stop, it tells what was done until then.
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    ends: Counter[str] = Counter()
    began, trees = time.monotonic(), 0
    for seed in range(given.seed, given.seed + given.count):
        if stop:
            break
        shape, difference = case(seed, given.rows)
        trees += shape.trees
        ends["differs" if difference else "equal"] += 1
        if difference:
            print(f"seed {seed}: {shape}: {difference}", file=sys.stderr)  # noqa: T201 - its report
    models = sum(ends.values())
    report = {
        "models": models,
        "trees": trees,
        "rows": models * given.rows,
        "seconds": round(time.monotonic() - began, 1),
        "ends": dict(ends),
    }
    print(json.dumps(report))  # noqa: T201 - its report
    sys.exit(bool(ends["differs"]))


class _Silent:
    """LightGBM warns of each number that is smaller than the least normal one."""

    def info(self, _: str) -> None:
        """Say nothing."""

    def warning(self, _: str) -> None:
        """Say nothing."""


if __name__ == "__main__":
    main()
