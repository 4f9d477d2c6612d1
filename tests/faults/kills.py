"""Workers killed at named points and at random, whichever way they deliver."""

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
    points: Sequence[Point],
    who: str,
    *,
    long: bool,
) -> None:
    """
    Kill whoever comes to each of the points, in any order, there or after being held there.

    A batch that is withheld is so for as long as it takes to commit what ought not to be.
    """
    shuffled = list(points) * (5 if long else 1)
    dice.shuffle(shuffled)
    for point in shuffled:
        hold_s = HOLD_S if point == "withheld" else dice.choice([0.0, HOLD_S])
        installation.strike(point, hold_s=hold_s)
        time.sleep(dice.uniform(0, 0.5))
    record(
        f"{who} killed at each point: " + ", ".join(points).replace("_", " "),
        f"SIGKILL by its own hand there, or after {HOLD_S:.1f} s of waiting there",
        len(shuffled),
    )


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
