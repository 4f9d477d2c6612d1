"""Running cases of damage one by one: counted, bounded, and repeatable by seed."""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from tests.fuzz.apart import Ended

_Sound = TypeVar("_Sound")


@dataclass(frozen=True)
class Verdict:
    """What was done to a case, how it ended, and whether it may end so."""

    damage: str
    end: str
    allowed: bool
    ended: Ended


@dataclass
class Told:
    """What a run found."""

    cases: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    wrong: dict[int, Verdict] = field(default_factory=dict)
    longest_s: float = 0.0
    memory: int = 0
    asked_to_stop: bool = False


def run(
    prepare: Callable[[Path], _Sound],
    case: Callable[[_Sound, Path, int], Verdict],
    seeds: range,
    told: Told,
) -> None:
    """Run a case for each seed, each in a folder of its own, and count them in `told`."""
    with tempfile.TemporaryDirectory(prefix="creditstream-fuzz-") as made:
        sound = prepare(Path(made))
        for seed in seeds:
            if told.asked_to_stop:
                return
            folder = Path(made) / "case"
            folder.mkdir()
            verdict = case(sound, folder, seed)
            shutil.rmtree(folder)
            told.cases += 1
            told.ends[verdict.end if verdict.allowed else "wrong"] += 1
            told.longest_s = max(told.longest_s, verdict.ended.seconds)
            told.memory = max(told.memory, verdict.ended.memory)
            if not verdict.allowed:
                told.wrong[seed] = verdict


def main(
    about: str | None,
    prepare: Callable[[Path], Any],
    case: Callable[[Any, Path, int], Verdict],
) -> NoReturn:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(about or "").strip().splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first; each next has the next")
    given = parser.parse_args()
    told, began = Told(), time.monotonic()
    # Asked to stop, it tells what was done until then.
    signal.signal(signal.SIGTERM, lambda *_: setattr(told, "asked_to_stop", True))
    run(prepare, case, range(given.seed, given.seed + given.count), told)
    seconds = time.monotonic() - began
    for seed, verdict in told.wrong.items():
        said = f"seed {seed}: {verdict.damage}: {verdict.end} {verdict.ended.died}"
        print(said, file=sys.stderr)  # noqa: T201 - its report
    report = {
        "cases": told.cases,
        "seconds": round(seconds, 1),
        "ends": dict(told.ends),
        "wrong": len(told.wrong),
        "longest_s": round(told.longest_s, 2),
        "memory_mb": told.memory >> 20,
    }
    print(json.dumps(report))  # noqa: T201 - its report
    sys.exit(bool(told.wrong))
