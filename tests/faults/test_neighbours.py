"""Broker, ClickHouse and the lines to them, killed and spoilt: what became of every application."""

import os
import random
import signal
import time

import psutil
import pytest

from tests.chdb_server import Fault
from tests.faults.conftest import Record
from tests.faults.installation import Installation
from tests.faults.proxy import Line

pytestmark = [pytest.mark.real_broker, pytest.mark.timeout(3_600)]

_NOT_ENOUGH_SPACE, _TOO_MANY_PARTS, _READONLY, _MEMORY_LIMIT = 243, 252, 164, 241


def test_the_broker_killed_and_started_again(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    times = 10 if long else 1
    for _ in range(times):
        time.sleep(dice.uniform(0.5, 2))
        installation.ground.broker.kill()
        time.sleep(dice.uniform(0, 3))
        installation.ground.broker.restart()
    record("broker killed and started again", "SIGKILL", times)


def test_the_broker_paused(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    times = 10 if long else 1
    for _ in range(times):
        os.kill(installation.ground.broker.pid, signal.SIGSTOP)
        time.sleep(dice.uniform(4, 8))
        os.kill(installation.ground.broker.pid, signal.SIGCONT)
        time.sleep(dice.uniform(1, 3))
    record("broker paused past the workers' sessions", "SIGSTOP, SIGCONT", times)


@pytest.mark.parametrize("line", ["silent", "deaf", "refused"])
def test_the_line_to_the_broker_spoilt(
    installation: Installation, record: Record, dice: random.Random, line: Line, *, long: bool
) -> None:
    times = 5 if long else 1
    for _ in range(times):
        installation.ground.broker_line.set(line)
        time.sleep(dice.uniform(2, 6))
        installation.ground.broker_line.set("whole")
        time.sleep(dice.uniform(1, 3))
    how = {
        "silent": "a proxy passes nothing",
        "deaf": "a proxy passes requests and no answers",
        "refused": "a proxy refuses connections",
    }
    record("network between workers and broker cut", how[line], times)


def test_connections_to_the_broker_reset_and_slowed(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    times = 50 if long else 6
    for _ in range(times):
        installation.ground.broker_line.set("whole", dice.choice([0, 0.02, 0.1]))
        installation.ground.broker_line.reset()
        time.sleep(dice.uniform(0.2, 1.5))
    record(
        "connections between workers and broker reset, answers delayed by up to 100 ms",
        "a proxy",
        times,
    )


@pytest.mark.parametrize("line", ["silent", "deaf", "refused"])
def test_the_line_to_clickhouse_spoilt(
    installation: Installation, record: Record, dice: random.Random, line: Line, *, long: bool
) -> None:
    times = 5 if long else 1
    for _ in range(times):
        installation.ground.store_line.set(line)
        time.sleep(dice.uniform(2, 4))
        installation.ground.store_line.set("whole", dice.choice([0, 0.05]))
        time.sleep(dice.uniform(1, 2))
    how = {
        "silent": "a proxy passes nothing",
        "deaf": "a proxy passes requests and no answers: inserts happen, nobody knows",
        "refused": "a proxy refuses connections",
    }
    record("network between sink and ClickHouse cut", how[line], times)


def test_clickhouse_killed_and_started_again(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    times = 10 if long else 2
    for _ in range(times):
        time.sleep(dice.uniform(0.5, 2))
        installation.ground.store.kill()
        time.sleep(dice.uniform(0, 3))
        installation.ground.store.start()
    record("ClickHouse killed and started again", "SIGKILL", times)


def test_clickhouse_refuses_for_a_while(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    codes = [_NOT_ENOUGH_SPACE, _TOO_MANY_PARTS, _READONLY, _MEMORY_LIMIT] * (5 if long else 1)
    for code in codes:
        installation.ground.store.order(
            Fault("INSERT INTO", dice.randrange(1, 4), code=code),
            Fault("INSERT INTO", 1, lose_reply=True),
        )
        time.sleep(dice.uniform(1, 2))
    record(
        "ClickHouse full, with too many parts, read-only, out of memory; replies lost",
        "its errors 243, 252, 164, 241 before an insert; connections closed after one",
        len(codes),
    )


def test_clickhouses_disk_takes_nothing_more(
    installation: Installation, record: Record, *, long: bool
) -> None:
    times = 5 if long else 1
    for _ in range(times):
        server = psutil.Process(installation.ground.store.pid)
        before = server.rlimit(psutil.RLIMIT_FSIZE)
        server.rlimit(psutil.RLIMIT_FSIZE, (0, before[1]))
        time.sleep(4.0)
        server.rlimit(psutil.RLIMIT_FSIZE, before)
    record("no byte can be written to ClickHouse's disk", "RLIMIT_FSIZE of its process", times)
