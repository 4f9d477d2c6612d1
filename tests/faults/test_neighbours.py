"""Broker, ClickHouse and the lines to them, killed and spoilt: what became of every application."""

import os
import random
import signal
import time
from typing import Literal

import pytest

from tests.chdb_server import Fault
from tests.faults.conftest import Record
from tests.faults.installation import Installation
from tests.faults.proxy import Line

pytestmark = [pytest.mark.real_broker, pytest.mark.timeout(3_600)]

Neighbour = Literal["broker", "ClickHouse"]

_NOT_ENOUGH_SPACE, _TOO_MANY_PARTS, _READONLY, _MEMORY_LIMIT = 243, 252, 164, 241
_TABLES = ("decision_ledger", "parked_events", "drift_alarms", "release_features")


@pytest.mark.parametrize("neighbour", ["broker", "ClickHouse"])
def test_killed_and_started_again(
    installation: Installation,
    record: Record,
    dice: random.Random,
    neighbour: Neighbour,
    *,
    long: bool,
) -> None:
    ground = installation.ground
    kill, start = {
        "broker": (ground.broker.kill, ground.broker.restart),
        "ClickHouse": (ground.store.kill, ground.store.start),
    }[neighbour]
    times = 10 if long else 1
    for _ in range(times):
        time.sleep(dice.uniform(0.5, 2))
        kill()
        time.sleep(dice.uniform(0, 3))
        start()
    # What it had before must be there.
    record(f"{neighbour} killed and started again", "SIGKILL", times, whole=True)


@pytest.mark.parametrize("neighbour", ["broker", "ClickHouse"])
@pytest.mark.parametrize("line", ["silent", "deaf", "refused"])
def test_the_line_to_it_spoilt(
    installation: Installation,
    record: Record,
    dice: random.Random,
    neighbour: Neighbour,
    line: Line,
    *,
    long: bool,
) -> None:
    ground = installation.ground
    spoilt = ground.broker_line if neighbour == "broker" else ground.store_line
    times = 5 if long else 1
    for _ in range(times):
        spoilt.set(line)
        time.sleep(dice.uniform(2, 5))
        spoilt.set("whole", dice.choice([0, 0.05]))
        time.sleep(dice.uniform(1, 2))
    how = {
        "silent": "a proxy passes nothing",
        "deaf": "a proxy passes requests and no answers: what they ask for happens, nobody knows",
        "refused": "a proxy refuses connections",
    }
    record(f"network between workers and {neighbour} cut", how[line], times)


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


def test_connections_to_the_broker_reset_and_slowed(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    times = 50 if long else 6
    for _ in range(times):
        installation.ground.broker_line.set("whole", dice.choice([0, 0.02, 0.1]))
        installation.ground.broker_line.reset()
        time.sleep(dice.uniform(0.2, 1))
    record(
        "connections between workers and broker reset, answers delayed by up to 100 ms",
        "a proxy",
        times,
    )


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


def test_clickhouses_disk_has_no_space_left(
    installation: Installation, record: Record, *, long: bool
) -> None:
    times = 5 if long else 1
    setting = "min_free_disk_bytes_to_perform_insert"
    store = installation.ground.store.server.open(installation.settings.store.database)
    for _ in range(times):
        for table in _TABLES:
            store.command(f"ALTER TABLE {table} MODIFY SETTING {setting} = {1 << 60}")
        time.sleep(4.0)
        for table in _TABLES:
            store.command(f"ALTER TABLE {table} RESET SETTING {setting}")
    record("ClickHouse's disk has too little space left", setting, times)


def test_the_sink_killed_while_clickhouse_is_away(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    times = 5 if long else 1
    for _ in range(times):
        installation.ground.store_line.set(dice.choice(["silent", "deaf", "refused"]))
        time.sleep(dice.uniform(2, 4))
        installation.processes.signal("sink", signal.SIGKILL)
        time.sleep(dice.uniform(0, 3))
        installation.ground.store_line.set("whole")
    record("sink killed while ClickHouse is away", "a proxy; SIGKILL", times)
