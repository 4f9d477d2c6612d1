"""Our brokers: they serve, they come back, and they end with whoever started them."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from stream.brokers import ApacheKafka, BrokerUnavailable, MockBroker
from stream.brokers.guarded import GuardedProcess
from stream.brokers.jars import fetch_jars, find_java, kafka_version
from stream.kafka.connection import Connection
from stream.kafka.topics import ensure_topics

ROOT = Path(__file__).parents[2]
RECORDS = {f"record {number}".encode() for number in range(100)}
GONE_SECONDS = 3.0


async def produce(servers: str, topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        for value in sorted(RECORDS):
            await producer.send(topic, value)


async def consume(servers: str, topic: str) -> set[bytes]:
    """Read until all records are there; the test's own time-out is the deadline."""
    found: set[bytes] = set()
    options = {"auto_offset_reset": "earliest", "fetch_max_wait_ms": 10}
    async with AIOKafkaConsumer(topic, bootstrap_servers=servers, **options) as consumer:
        while len(found) < len(RECORDS):
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found |= {record.value for record in records}
    return found


def a_topic() -> str:
    return f"test.{uuid.uuid4().hex[:8]}"


async def test_the_mock_serves_a_producer_and_a_consumer(mock_broker: str) -> None:
    topic = a_topic()

    await produce(mock_broker, topic)

    assert await consume(mock_broker, topic) == RECORDS


async def test_the_mock_cannot_create_topics_and_that_is_no_error(mock_broker: str) -> None:
    assert await ensure_topics(Connection(mock_broker), {a_topic(): 3}) == []


@pytest.mark.real_broker
async def test_a_real_broker_creates_topics_once_as_asked(real_broker: str) -> None:
    first, second = a_topic(), a_topic()

    assert await ensure_topics(Connection(real_broker), {first: 3}, {"retention.ms": "-1"}) == [
        first
    ]
    assert await ensure_topics(Connection(real_broker), {first: 3, second: 1}) == [second]

    admin = AIOKafkaAdminClient(bootstrap_servers=real_broker)
    await admin.start()
    (described,) = await admin.describe_topics([first])
    await admin.close()
    assert len(described["partitions"]) == 3


@pytest.mark.real_broker
async def test_a_refused_topic_is_named(real_broker: str) -> None:
    with pytest.raises(KafkaError, match=r"cannot create topic not allowed"):
        await ensure_topics(Connection(real_broker), {"not allowed": 1})


@pytest.mark.real_broker
async def test_apache_kafka_keeps_records_and_address_over_a_crash_and_a_restart(
    apache_kafka: ApacheKafka,
) -> None:
    servers, topic = apache_kafka.bootstrap_servers, a_topic()
    await ensure_topics(Connection(servers), {topic: 2})
    await produce(servers, topic)

    apache_kafka.kill()
    await asyncio.to_thread(apache_kafka.restart)
    after_crash = await consume(servers, topic)
    await asyncio.to_thread(apache_kafka.restart)
    after_restart = await consume(servers, topic)

    assert apache_kafka.bootstrap_servers == servers
    assert after_crash == after_restart == RECORDS


@pytest.mark.real_broker
async def test_apache_kafka_shows_committed_transactions_only(apache_kafka: ApacheKafka) -> None:
    servers, topic = apache_kafka.bootstrap_servers, a_topic()
    await ensure_topics(Connection(servers), {topic: 1})
    partition = TopicPartition(topic, 0)

    async with AIOKafkaProducer(bootstrap_servers=servers, transactional_id="t") as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(topic, b"committed", partition=0)

    consumer = AIOKafkaConsumer(bootstrap_servers=servers, isolation_level="read_committed")
    async with consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        assert (await consumer.getone()).value == b"committed"


OWNER = """
import os, sys
from stream.brokers import {broker}
broker = {broker}().start()
forked = os.fork() if {fork} else 0
if {fork} and not forked:
    import time
    time.sleep(60)
print("started", forked, flush=True)
sys.stdin.read()
"""


@contextmanager
def owner(broker: str, folder: Path, *, fork: bool = False) -> Iterator[tuple[psutil.Process, int]]:
    """Run a process that owns a broker; give it, and the process id of a fork of it or 0."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(broker=broker, fork=fork)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(folder)},
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    forked = 0
    try:
        forked = int(process.stdout.readline().removeprefix("started "))
        yield psutil.Process(process.pid), forked
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        if forked:
            os.kill(forked, signal.SIGKILL)


@pytest.mark.parametrize(
    "broker", ["MockBroker", pytest.param("ApacheKafka", marks=pytest.mark.real_broker)]
)
def test_nothing_is_left_of_a_broker_whose_owner_was_killed(
    broker: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if broker == "ApacheKafka":
        request.getfixturevalue("kafka_jars")

    with owner(broker, tmp_path) as (process, _):
        children = process.children(recursive=True)
        process.kill()
        _, left = psutil.wait_procs(children, timeout=GONE_SECONDS)

    assert len(children) == 2
    assert left == []
    assert list(tmp_path.iterdir()) == []


def test_a_broker_ends_with_its_owner_though_a_fork_of_the_owner_lives_on(tmp_path: Path) -> None:
    with owner("MockBroker", tmp_path, fork=True) as (process, forked):
        children = [child for child in process.children(recursive=True) if child.pid != forked]
        process.kill()
        _, left = psutil.wait_procs(children, timeout=GONE_SECONDS)

        assert psutil.pid_exists(forked)
    assert len(children) == 2
    assert left == []


def test_a_broker_ends_with_its_guard(tmp_path: Path) -> None:
    with owner("MockBroker", tmp_path) as (process, _):
        guard, broker = process.children(recursive=True)
        guard.kill()
        _, left = psutil.wait_procs([broker], timeout=GONE_SECONDS)

    assert left == []


def test_a_broker_outlives_the_thread_that_started_it() -> None:
    broker = MockBroker()
    thread = threading.Thread(target=broker.start)
    thread.start()
    thread.join()

    try:
        assert asyncio.run(ensure_topics(Connection(broker.bootstrap_servers), {"t": 1})) == []
    finally:
        broker.stop()


def test_a_terminals_interrupt_does_not_reach_the_broker(tmp_path: Path) -> None:
    with owner("MockBroker", tmp_path) as (process, _):
        groups = {os.getpgid(child.pid) for child in process.children(recursive=True)}

        assert os.getpgid(process.pid) not in groups


def test_a_stopped_broker_is_gone_with_its_folder_and_may_be_stopped_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    with MockBroker() as broker:
        assert len(list(tmp_path.iterdir())) == 1
    broker.stop()

    assert list(tmp_path.iterdir()) == []


def test_a_broker_that_does_not_start_says_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-c", "import sys; print(1, flush=True); sys.exit('no room')"]
    process = GuardedProcess("the broker", command, tmp_path, tmp_path / "log")

    with pytest.raises(BrokerUnavailable, match=r"the broker ended: .*no room"):
        process.await_line("never", 10.0)
    process.kill()


def test_a_missing_java_is_named_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)

    with pytest.raises(BrokerUnavailable, match=r"needs Java 17 .* install it"):
        find_java()


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.22"])
def test_an_old_java_is_refused_with_what_it_says(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))

    with pytest.raises(BrokerUnavailable, match=rf"Java 17 or newer.*{version}"):
        find_java()


def test_a_missing_maven_is_named_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    with pytest.raises(BrokerUnavailable, match=r"no mvn to fetch them: install it"):
        fetch_jars()


def test_a_failed_fetch_leaves_no_half_filled_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho 'no route to host'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    with pytest.raises(BrokerUnavailable, match="no route to host"):
        fetch_jars()

    assert list((tmp_path / "cache" / "creditstream").iterdir()) == []


def test_compose_runs_the_same_kafka_as_the_tests() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

    assert services["kafka"]["image"] == f"apache/kafka:{kafka_version()}"


def test_kafka_is_none_of_those_that_lose_the_markers_of_transactions() -> None:
    major, minor, patch = map(int, kafka_version().split("."))

    # KAFKA-20734, docs/decisions/0021; 4.4.0 has it still.
    assert not (4, 3, 0) <= (major, minor, patch) <= (4, 4, 0)
