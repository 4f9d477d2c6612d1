"""Workers killed, stopped, put to sleep and moved about: what became of every application."""

import os
import random
import signal
import time

import pytest

from stream.process.supervisor import RoleProcess, stop_all
from tests.faults.conftest import Record
from tests.faults.installation import SESSION_S, Installation
from tests.faults.kills import kill_at_points, kill_at_random
from tests.faults.points import EXACTLY_ONCE_POINTS, MONITOR_POINTS, SINK_POINTS

pytestmark = [pytest.mark.real_broker, pytest.mark.timeout(3_600)]


def test_nothing_befalls_it(installation: Installation, record: Record, *, long: bool) -> None:
    seconds = 60 if long else 5
    pids = {name: installation.processes.pid(name) for name in installation.processes.names}
    time.sleep(seconds)
    now = {name: installation.processes.pid(name) for name in installation.processes.names}
    assert pids == now, "workers ended by themselves"
    record("none: what the others are held against", f"{seconds} s under load", 1)


def test_killed_at_every_named_point(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    others = [*SINK_POINTS, *MONITOR_POINTS]
    kill_at_points(installation, record, dice, EXACTLY_ONCE_POINTS, others, long=long)


def test_killed_at_random(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    kill_at_random(installation, record, dice, ["sink", "monitor"], long=long)


@pytest.mark.parametrize("only", [True, False])
def test_one_worker_killed_is_stood_in_for(
    installation: Installation, record: Record, dice: random.Random, *, only: bool, long: bool
) -> None:
    if only:
        _, *others = installation.scoring
        installation.processes.end(*others)
        installation.await_all_partitions_after(time.time())
    times = 10 if long else 1
    first, waited = [], []
    for _ in range(times):
        time.sleep(dice.uniform(0, 1))
        installation.await_all_members()  # one that has no partition yet would not be missed
        name = dice.choice(installation.scoring)
        killed = time.time()
        installation.processes.signal(name, signal.SIGKILL)
        if only:
            first.append(installation.await_decision_after(killed) - killed)
        waited.append(installation.await_all_partitions_after(killed) - killed)
    of_first = f"the first decision after {min(first):.1f} to {max(first):.1f} s, " if only else ""
    record(
        "the only scoring worker killed" if only else "one of several workers killed",
        "SIGKILL",
        times,
        f"{of_first}decisions of all partitions after {min(waited):.1f} to {max(waited):.1f} s; "
        f"session {SESSION_S:.0f} s",
    )


@pytest.mark.parametrize(("told", "most_s"), [(1, 10.0), (2, 5.0)], ids=["once", "twice"])
def test_told_to_stop_at_full_load(
    installation: Installation, record: Record, told: int, most_s: float, *, long: bool
) -> None:
    times = 5 if long else 1
    longest = 0.0
    for _ in range(times):
        installation.overload()
        names = installation.scoring
        began = time.monotonic()
        for name in names * (told - 1):
            installation.processes.signal(name, signal.SIGTERM)
        failed = installation.processes.end(*names)
        longest = max(longest, time.monotonic() - began)
        assert told > 1 or not failed
        installation.mend()
    assert longest < most_s
    record(
        f"SIGTERM {'twice ' * (told - 1)}to all scoring workers at full load",
        "SIGTERM",
        times,
        f"ended {'in order ' if told == 1 else ''}within {longest:.1f} s",
    )


def test_a_worker_that_slept_within_a_transaction_is_fenced_off(
    installation: Installation, record: Record, *, long: bool
) -> None:
    times = 5 if long else 1
    for _ in range(times):
        sleeper = installation.strike("sending", signal.SIGSTOP)
        # Woken before the broker gives its transaction up by itself, whoever fences it off or not.
        installation.await_all_partitions_after(time.time() + SESSION_S, committed=False)
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
    moves = 60 if long else 6
    began = time.time()
    came: list[str] = []
    leaving: list[RoleProcess] = []
    for number in range(moves):
        next_move = time.monotonic() + 2.0
        if came and (dice.random() < 0.5 or len(came) == 2):
            leaving.append(installation.processes.leave(came.pop(0)))
        else:
            came.append(f"scoring-guest-{number}")
            installation.processes.start(came[-1], "scoring")
        time.sleep(max(0.0, next_move - time.monotonic()))
    installation.await_all_partitions_after(time.time())
    stop_all(leaving)  # one that was still starting has not ended in order
    pause_s = installation.longest_pause_s(began)
    record(
        "workers come and go every two seconds",
        "start, SIGTERM",
        moves,
        f"longest pause of a partition {pause_s:.1f} s",
    )
