"""Clock, limits, files and partitions changed: what became of every application."""

import random
import time

import psutil
import pytest

from tests.faults.conftest import Record
from tests.faults.installation import Installation

pytestmark = [pytest.mark.real_broker, pytest.mark.timeout(3_600)]

_HOUR_S = 3_600.0


def test_the_clock_jumps(installation: Installation, record: Record, *, long: bool) -> None:
    times = 10 if long else 1
    for _ in range(times):
        for shift in (_HOUR_S, -_HOUR_S, 0.0):
            installation.points.shift_clock(shift)
            time.sleep(2.0)
    record("the workers' clock jumps an hour ahead, two back, and right again", "shifted", times)


def test_no_more_files_can_be_opened(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    times = 5 if long else 1
    for _ in range(times):
        worker = psutil.Process(installation.processes.pid(dice.choice(installation.scoring)))
        before = worker.rlimit(psutil.RLIMIT_NOFILE)
        worker.rlimit(psutil.RLIMIT_NOFILE, (worker.num_fds(), before[1]))
        installation.ground.broker_line.reset()
        time.sleep(4.0)
        if worker.is_running():
            worker.rlimit(psutil.RLIMIT_NOFILE, before)
    record(
        "a worker's connections reset, and no descriptor left for others", "RLIMIT_NOFILE", times
    )


def test_release_and_feature_table_replaced_in_mid_stream(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    times = 100 if long else 10
    for _ in range(times):
        installation.take(release=dice.randrange(2), table=dice.randrange(2))
        time.sleep(dice.uniform(0.2, 1.2))
    record("release and feature table replaced under load", "links pointed elsewhere", times)


def test_partitions_added(installation: Installation, record: Record, *, long: bool) -> None:
    times = 3 if long else 1
    waited = []
    for _ in range(times):
        added = time.time()
        installation.widen(installation.partitions + 2)
        waited.append(installation.await_all_partitions_after(added) - added)
    record(
        "partitions added to all topics, to that of applications last",
        "an admin client",
        times,
        f"all at work after {max(waited):.1f} s",
    )
