"""Workers with a name of their own in the group: one comes back to its partitions, no two share."""

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from models.prepared import Prepared
from stream.asking.questions import status_of
from stream.settings import Settings
from tests.e2e.installation import PATIENCE_S, Running, applications, installed, send
from tests.e2e.test_delivery import assert_each_decided_once

pytestmark = [pytest.mark.real_broker, pytest.mark.slow, pytest.mark.timeout(450)]


def named(settings: Settings, name: str) -> Settings:
    # Longer than a worker takes to come back.
    update = {"group_instance_id": name, "session_timeout": 30.0}
    kafka = settings.kafka.model_copy(update=update)
    return settings.model_copy(update={"kafka": kafka})


def wait_until_ready(one: Running) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (status := status_of(one.url)) is None or status["not_ready"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def partitions(one: Running) -> set[str]:
    return set(httpx.get(f"{one.url}/status").json()["lag"])


def test_a_worker_that_comes_back_has_its_partitions_again_and_the_other_keeps_its_own(
    settings: Settings, prepared: Prepared
) -> None:
    asyncio.run(send(settings.kafka, applications(prepared, 200)))
    with (
        installed(named(settings, "one"), "scoring") as (one,),
        installed(named(settings, "two"), "scoring") as (two,),
    ):
        deadline = time.monotonic() + PATIENCE_S
        for worker in (one, two):
            wait_until_ready(worker)
        while len(partitions(one)) != 2 or len(partitions(two)) != 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        before = partitions(one), partitions(two)
        assert not before[0] & before[1]

        os.kill(one.process.pid, signal.SIGTERM)
        while one.process.starts == 1:
            assert partitions(two) == before[1]
            one.process.look_after()
            time.sleep(0.05)
        wait_until_ready(one)

        assert (partitions(one), partitions(two)) == before
        asyncio.run(send(settings.kafka, applications(prepared, 300)[200:]))
        assert_each_decided_once(settings.kafka, 300)


def test_of_two_workers_with_one_name_the_first_ends_and_says_so(
    settings: Settings, prepared: Prepared, tmp_path: Path
) -> None:
    same = named(settings, "the-same")
    asyncio.run(send(settings.kafka, applications(prepared, 200)))
    with installed(same, "scoring") as (first,):
        wait_until_ready(first)
        log = next(tmp_path.glob("*.scoring.log"))  # of both
        process = psutil.Process(first.process.pid)
        said = "no longer 'the-same' in group"
        assert said not in log.read_text()
        with installed(same, "scoring") as (second,):
            deadline = time.monotonic() + PATIENCE_S
            while process.status() != psutil.STATUS_ZOMBIE:  # ended, and nobody looks after it
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            assert said in log.read_text()
            wait_until_ready(second)
            asyncio.run(send(settings.kafka, applications(prepared, 300)[200:]))
            assert_each_decided_once(settings.kafka, 300)
