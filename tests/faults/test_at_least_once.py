"""Delivery at least once: workers killed, and nothing is lost, nothing repeated but as it was."""

import random
import signal
import time

import pytest

from tests.faults.conftest import Record
from tests.faults.installation import SESSION_S, Installation
from tests.faults.kills import kill_at_points, kill_at_random
from tests.faults.points import AT_LEAST_ONCE_POINTS

pytestmark = [pytest.mark.real_broker, pytest.mark.timeout(3_600)]


@pytest.fixture
def installation(at_least_once: Installation) -> Installation:
    return at_least_once


def test_killed_at_every_named_point(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    kill_at_points(installation, record, dice, AT_LEAST_ONCE_POINTS, long=long)


def test_killed_at_random(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    kill_at_random(installation, record, dice, ["sink"], long=long)


def test_a_worker_that_takes_longer_than_its_session_to_take_over(
    installation: Installation, record: Record, *, long: bool
) -> None:
    times = 5 if long else 1
    for _ in range(times):
        # Long enough for the other one, which makes room, to be back and want its share.
        installation.strike("reading_back", signal.SIGCONT, hold_s=4 * SESSION_S)
        time.sleep(4 * SESSION_S)
        installation.await_all_partitions_after(time.time())
    record("worker held while it takes partitions over, past its session", "waits there", times)


def test_all_of_it_read_once_more(record: Record) -> None:
    record("all of the above, read once more from the beginning", "the checker", 1, whole=True)
