"""Workers killed, stopped, put to sleep and moved about: what became of every application."""

import os
import random
import signal
import time

import pytest

from tests.faults.conftest import Record
from tests.faults.installation import SESSION_S, Installation
from tests.faults.points import (
    AT_REBALANCE,
    MONITOR_POINTS,
    SCORING_POINTS,
    SINK_POINTS,
    Point,
    Points,
)

pytestmark = [pytest.mark.real_broker, pytest.mark.timeout(3_600)]

_PATIENCE_S = 40.0
_FULL_LOAD = 4_000
"""Applications a second: more than the workers of a machine of two processors decide."""


def await_passed(points: Points, point: Point) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while points.is_armed(point):
        assert time.monotonic() < deadline, f"no worker came to {point!r}"
        time.sleep(0.02)


def test_killed_at_every_named_point_of_the_scoring_cycle(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    times = 5 if long else 1
    points = list(SCORING_POINTS) * times
    dice.shuffle(points)
    for point in points:
        installation.points.arm(point)
        if point in AT_REBALANCE:
            name = dice.choice(installation.scoring)
            installation.processes.signal(name, signal.SIGTERM)
        await_passed(installation.points, point)
        time.sleep(dice.uniform(0, 1.5))
    record(
        "worker killed at each point: " + ", ".join(SCORING_POINTS).replace("_", " "),
        "SIGKILL by its own hand there",
        len(points),
    )


def test_sink_and_monitor_killed_at_every_named_point(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    times = 5 if long else 1
    points: list[Point] = [*SINK_POINTS, *MONITOR_POINTS] * times
    dice.shuffle(points)
    for point in points:
        installation.points.arm(point)
        await_passed(installation.points, point)
    record(
        "sink or monitor killed at each point: "
        + ", ".join([*SINK_POINTS, *MONITOR_POINTS]).replace("_", " "),
        "SIGKILL by its own hand there",
        len(points),
    )


def test_killed_at_random(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    kills, events = (200, 1_000_000) if long else (8, 5_000)
    wanted = installation.load.events + events
    done = 0
    while done < kills or installation.load.events < wanted:
        time.sleep(dice.expovariate(1 / 2.5))
        if done < kills:
            name = dice.choice([*installation.scoring * 2, "sink", "monitor"])
            installation.processes.signal(name, signal.SIGKILL)
            done += 1
            if dice.random() < 0.2:
                installation.take(release=dice.randrange(2), table=dice.randrange(2))
    record("workers killed at random, releases and tables changed between", "SIGKILL", kills)


def test_the_only_worker_killed(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    *others, last = installation.scoring
    installation.processes.end(*others)
    times = 10 if long else 2
    waited = []
    for _ in range(times):
        installation.await_decision_after(time.time())
        time.sleep(dice.uniform(0, 1))
        killed = time.time()
        installation.processes.signal(last, signal.SIGKILL)
        waited.append(installation.await_decision_after(killed) - killed)
    record(
        "the only scoring worker killed",
        "SIGKILL",
        times,
        f"decisions after {min(waited):.1f} to {max(waited):.1f} s; session {SESSION_S:.0f} s",
    )


def test_one_of_two_workers_killed_is_stood_in_for(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    times = 10 if long else 1
    waited = []
    for _ in range(times):
        time.sleep(dice.uniform(1, 2))
        name = dice.choice(installation.scoring)
        killed = time.time()
        installation.processes.signal(name, signal.SIGKILL)
        waited.append(installation.await_all_partitions_after(killed) - killed)
    record(
        "one of several workers killed",
        "SIGKILL",
        times,
        f"decisions of all partitions after {min(waited):.1f} to {max(waited):.1f} s; "
        f"session {SESSION_S:.0f} s",
    )


def test_told_to_stop_at_full_load(
    installation: Installation, record: Record, *, long: bool
) -> None:
    times = 5 if long else 1
    longest = 0.0
    for _ in range(times):
        installation.load.rate, before = _FULL_LOAD, installation.load.rate
        time.sleep(2.0)
        names = installation.scoring
        began = time.monotonic()
        assert installation.processes.end(*names) == 0
        longest = max(longest, time.monotonic() - began)
        installation.load.rate = before
        installation.mend()
    assert longest < 10.0
    record(
        "SIGTERM to all scoring workers at full load",
        "SIGTERM",
        times,
        f"ended in order within {longest:.1f} s",
    )


def test_told_to_stop_twice_at_full_load(
    installation: Installation, record: Record, *, long: bool
) -> None:
    times = 5 if long else 1
    longest = 0.0
    for _ in range(times):
        installation.load.rate, before = _FULL_LOAD, installation.load.rate
        time.sleep(2.0)
        pids = [
            installation.processes.signal(name, signal.SIGTERM) for name in installation.scoring
        ]
        for name in installation.scoring:
            installation.processes.signal(name, signal.SIGTERM)
        began = time.monotonic()
        for pid in pids:
            installation.processes.await_end(pid)
        longest = max(longest, time.monotonic() - began)
        installation.load.rate = before
    assert longest < 5.0
    record(
        "SIGTERM twice to all scoring workers at full load",
        "SIGTERM",
        times,
        f"ended, in order or not, within {longest:.1f} s",
    )


def test_a_worker_that_slept_within_a_transaction_is_fenced_off(
    installation: Installation, record: Record, *, long: bool
) -> None:
    times = 5 if long else 1
    for _ in range(times):
        installation.points.arm("sending", signal.SIGSTOP)
        await_passed(installation.points, "sending")
        sleeper = installation.points.taken_by("sending")
        installation.await_all_partitions_after(time.time() + SESSION_S)
        os.kill(sleeper, signal.SIGCONT)
        installation.processes.await_end(sleeper)
    record(
        "worker put to sleep in the middle of a transaction, past its session, and woken",
        "SIGSTOP, SIGCONT",
        times,
        "fenced off; it ends",
    )


def test_workers_come_and_go_under_load(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    moves = 60 if long else 5
    came: list[str] = []
    for number in range(moves):
        if came and (dice.random() < 0.5 or len(came) == 2):
            installation.processes.end(came.pop(dice.randrange(len(came))))
        else:
            name = f"scoring-guest-{number}"
            installation.processes.start(name, "scoring")
            came.append(name)
        time.sleep(2.0)
    record("workers come and go every two seconds", "start, SIGTERM", moves)
