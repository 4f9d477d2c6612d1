"""Workers killed at named points and at random, whichever way they deliver."""

import itertools
import random
import signal
import time
from collections.abc import Sequence

from tests.faults.conftest import Record
from tests.faults.installation import HOLD_S, Installation
from tests.faults.points import Point


def kill_at_points(
    installation: Installation,
    record: Record,
    dice: random.Random,
    scoring: Sequence[Point],
    others: Sequence[Point] = (),
    *,
    long: bool,
) -> None:
    """
    Kill whoever comes to each of the points, in any order, there or after being held there.

    At the same time so may be as many scoring workers as there are, and one of the others; but what
    withholds a batch is to commit what ought not to be, and no rebalance may keep it from that.
    """
    times = 5 if long else 1
    workers, beside = list(scoring) * times, list(others) * times
    dice.shuffle(workers)
    dice.shuffle(beside)
    together = len(installation.scoring)
    mixed: list[Point] = [point for point in workers if point != "withheld"]
    in_groups = [mixed[at : at + together] for at in range(0, len(mixed), together)]
    in_groups += [[point] for point in workers if point not in mixed]
    dice.shuffle(in_groups)
    one_by_one = [[point] for point in beside]
    none: list[Point] = []
    for group, other in itertools.zip_longest(in_groups, one_by_one, fillvalue=none):
        installation.strike_each({point: _hold_s(point, dice) for point in group + other})
        time.sleep(dice.uniform(0, 0.5))
    told = ", ".join([*scoring, *others]).replace("_", " ")
    record(
        f"killed at each point, up to {together + bool(others)} at a time: {told}",
        f"SIGKILL by its own hand there, or after {HOLD_S:.1f} s of waiting there",
        len(workers) + len(beside),
    )


def _hold_s(point: Point, dice: random.Random) -> float:
    """Give how long to hold what comes to a point: long enough, where it ought not to commit."""
    return HOLD_S if point in ("withheld", "inserting") else dice.choice([0.0, HOLD_S])


def kill_at_random(
    installation: Installation,
    record: Record,
    dice: random.Random,
    others: Sequence[str],
    *,
    long: bool,
) -> None:
    """Kill scoring workers, and others half as often, and change releases and tables between."""
    kills, events = (200, 1_000_000) if long else (8, 5_000)
    wanted = installation.load.events + events
    done = 0
    while done < kills or installation.load.events < wanted:
        time.sleep(dice.expovariate(1 / 1.5))
        if done < kills:
            name = dice.choice([*installation.scoring * 2, *others])
            installation.processes.signal(name, signal.SIGKILL)
            done += 1
            if dice.random() < 0.2:
                installation.take(release=dice.randrange(2), table=dice.randrange(2))
    record("workers killed at random, releases and tables changed between", "SIGKILL", kills)
