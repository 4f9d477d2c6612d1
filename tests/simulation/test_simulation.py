"""Seeded histories of scoring, Kafka and ClickHouse, all faults mixed; see docs/simulation.md."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.installation import Installation
from tests.simulation.run import Outcome, run
from tests.simulation.story import Story
from tests.simulation.world import World

SEEDS = "SIMULATION_SEEDS"
_CHUNK = 25
_SHOWN = 3


def seeds_asked_for() -> range:
    """Give the seeds to run: so many from 0 on, or `first:end`."""
    first, _, end = os.environ.get(SEEDS, "100").rpartition(":")
    return range(int(first or 0), int(end))


def broken_among(seeds: range) -> list[Outcome]:
    return [outcome for outcome in map(run, seeds) if outcome.problems]


@pytest.mark.timeout(24 * 3600)
def test_all_seeds_keep_every_promise(
    pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    only = pytestconfig.getoption("seed")
    if only is not None:
        outcome = run(only)
        with capsys.disabled():
            sys.stdout.write(f"\n{outcome.report()}\n")
        assert not outcome.problems
        return

    asked = seeds_asked_for()
    chunks = [asked[at : at + _CHUNK] for at in range(0, len(asked), _CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=context) as pool:
        broken = [outcome for found in pool.map(broken_among, chunks) for outcome in found]

    if broken:
        told = [outcome.report() for outcome in broken[:_SHOWN]]
        seeds = [outcome.seed for outcome in broken]
        pytest.fail("\n\n".join([*told, f"of {len(asked)} seeds: {seeds}"]), pytrace=False)


def test_a_seed_is_one_history_in_every_process() -> None:
    seeds = [1, 2, 3, 7]
    here = [run(seed).digest for seed in seeds]
    # Elsewhere the product has already logged, in its own way, what a history has, too.
    code = f"""
from stream.process.logs import configure_logging
from tests.simulation.run import run
configure_logging(as_json=True)
run(2)
print(*[run(seed).digest for seed in {seeds}])
"""

    elsewhere = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hashing},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split()
        for hashing in ("1", "2")
    ]

    assert elsewhere == [here, here]
    assert len(set(here)) == len(seeds)


def test_no_fault_begins_after_the_last_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(300):
        world = World(seed)
        installation = Installation(world, partitions=1, exactly_once=True, resend_window=10)
        story = Story(world, installation)
        struck: list[float] = []
        monkeypatch.setattr(
            story, "_happen", lambda _, at=struck, loop=world.loop: at.append(loop.now)
        )
        story.begin()
        world.loop.run_until_complete(asyncio.sleep(story.seconds + 5.0))
        world.loop.end()

        assert max(struck, default=0.0) < story.seconds, seed
