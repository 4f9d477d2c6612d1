"""One seed, one history: run it, check it, say what was wrong."""

import asyncio
import gc
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from tests.simulation.checker import AT_LEAST_ONCE, EXACTLY_ONCE, problems_of
from tests.simulation.installation import Installation
from tests.simulation.loop import NothingLeft
from tests.simulation.story import Story
from tests.simulation.world import World

DRAIN_SECONDS = 240.0
"""So long after the last fault everything must be through; the slowest deadline is 45 s."""


_NO_SLEEPERS = frozenset(
    {
        *("kill", "stop", "more or fewer", "swap", "clock"),
        *("store away", "store refuses", "store loses", "store's answers", "store late"),
    }
)
"""With faults of these kinds alone no worker writes on after another has taken over."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a seed; no problems: all promises were kept."""

    seed: int
    way: str
    kinds: tuple[str, ...]
    problems: tuple[str, ...]
    trace: tuple[str, ...]
    digest: str
    events: int
    steps: int

    def report(self) -> str:
        """Tell a failure: what, how it came about, and how to see it again."""
        return "\n".join(
            [
                f"seed {self.seed}, {self.way}, faults: {', '.join(self.kinds) or 'none'}",
                *self.trace,
                *(f"BROKEN: {problem}" for problem in self.problems),
                f"again: pytest tests/simulation --seed {self.seed}",
            ]
        )


def run(seed: int) -> Outcome:
    """Run a seed: the same seed, the same history."""
    world = World(seed)
    with _nothing_from_outside(world):
        drawn = world.random
        exactly_once = drawn.random() < 0.7
        problems: list[str] = []
        installation = Installation(
            world,
            partitions=drawn.choice([1, 1, 2, 2, 3, 4, 6]),
            exactly_once=exactly_once,
            resend_window=10_000,
        )
        story = Story(world, installation)
        try:
            world.loop.run_until_complete(_tell(world, installation, story, problems))
        except NothingLeft:
            problems.append("everything stands still for ever")
        steps, digest, trace = world.loop.steps, world.digest(), tuple(world.trace)
        kept_apart = exactly_once or _NO_SLEEPERS.issuperset(story.kinds)
        promises = EXACTLY_ONCE if kept_apart else AT_LEAST_ONCE
        problems += problems_of(installation, promises)
        world.loop.end()
    events = sum(
        installation.broker.logs[installation.kafka.applications, number].end
        for number in range(installation.broker.partitions)
    )
    return Outcome(
        seed=seed,
        way="exactly once" if exactly_once else "at least once",
        kinds=tuple(story.kinds),
        problems=tuple(problems),
        trace=trace,
        digest=digest,
        events=events,
        steps=steps,
    )


async def _tell(
    world: World, installation: Installation, story: Story, problems: list[str]
) -> None:
    for _ in range(world.random.randint(1, 3)):
        installation.add("scoring")
    for _ in range(world.random.randint(1, 2)):
        installation.add("sink")
    story.begin()
    await asyncio.sleep(story.seconds)
    story.heal()
    until = world.loop.now + DRAIN_SECONDS
    quiet = 0
    while quiet < 3:
        await asyncio.sleep(2.0)
        # A worker that was thrown out of its group still shows lag until it is in again.
        left = list(_left(installation))
        quiet = 0 if left else quiet + 1
        if world.loop.now > until:
            late = left or ["all is through only now,"]
            problems += [f"{what} {DRAIN_SECONDS} s after the last fault" for what in late]
            return


def _left(installation: Installation) -> Iterator[str]:
    if not installation.drained():
        yield "not all is through"
    for worker in installation.workers:
        if worker.alive and worker.app is not None:
            lag = sum(worker.app.consumer.lag().values())
            if lag:
                yield f"{worker.name} shows a lag of {lag}"


@contextmanager
def _nothing_from_outside(world: World) -> Iterator[None]:
    """Keep the process's chance, logs and garbage collector out of a run."""

    def to_trace(_logger: Any, _method: str, said: Any) -> Any:
        world.note("says " + " ".join(f"{name}={value}" for name, value in said.items()))
        raise structlog.DropEvent

    state, configured, collects = random.getstate(), structlog.get_config(), gc.isenabled()
    random.seed(world.random.random())
    structlog.configure(processors=[to_trace])
    logging.disable(logging.CRITICAL)
    # A collection would close generators of dead processes at a time of its own.
    gc.disable()
    try:
        yield
    finally:
        random.setstate(state)
        structlog.configure(**configured)
        logging.disable(logging.NOTSET)
        if collects:
            gc.enable()
