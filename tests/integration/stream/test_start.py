"""A worker's start, without the neighbours that it cannot do without."""

import asyncio
import subprocess

import pytest

from sinks.store import StoreUnavailable
from stream.kafka.connection import Connection, KafkaUnavailable
from stream.kafka.topic_settings import TopicUnfit, check_parking, check_topic_settings
from stream.kafka.topics import (
    PartitionsDiffer,
    check_outputs,
    check_partitions,
    check_topics,
    create_topics,
    ensure_topics,
)
from stream.process.neighbours import await_neighbour
from stream.process.supervisor import console_script
from tests.integration.stream.topics import kafka_at

NOBODY = "127.0.0.1:1"


def test_a_worker_without_a_broker_says_so_and_which_setting_names_it() -> None:
    settings = ["--set", f"kafka.bootstrap_servers={NOBODY}", "--set", "start_seconds=0.5"]

    ended = subprocess.run(
        [console_script(), "worker", "--agents", "monitor", *settings],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 69
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: no broker at {NOBODY}")
    assert "CREDITSTREAM_KAFKA__BOOTSTRAP_SERVERS" in last
    assert "worker.waiting" in ended.stderr


@pytest.mark.real_broker
def test_a_topic_that_is_not_there_is_named_until_init_makes_it(real_broker: str) -> None:
    kafka = kafka_at(real_broker)
    others = [kafka.applications, kafka.ledger]
    asyncio.run(ensure_topics(Connection(real_broker), {kafka.applications: 1}))
    await_neighbour(
        "kafka",
        lambda: asyncio.run(check_topics(kafka, [kafka.applications])),
        KafkaUnavailable,
        seconds=20,
    )

    with pytest.raises(KafkaUnavailable, match=f"{kafka.ledger}; run `creditstream init`") as error:
        asyncio.run(check_topics(kafka, others))
    assert kafka.applications not in str(error.value)

    created = asyncio.run(create_topics(kafka))
    assert sorted(created) == sorted([kafka.decisions, kafka.ledger, kafka.parked, kafka.alarms])

    def attempt() -> None:
        asyncio.run(check_topics(kafka, others))

    # A new topic has a leader a moment later, and is not there until then.
    await_neighbour("kafka", attempt, KafkaUnavailable, seconds=20)


@pytest.mark.real_broker
def test_a_parked_topic_that_takes_too_little_is_refused_by_its_limit(real_broker: str) -> None:
    kafka = kafka_at(real_broker)
    asyncio.run(ensure_topics(Connection(real_broker), {kafka.parked: 1}))

    smaller = kafka.model_copy(update={"parked_max_bytes": 1_000_000})
    await_neighbour(
        "kafka", lambda: asyncio.run(check_parking(smaller)), KafkaUnavailable, seconds=20
    )

    with pytest.raises(KafkaUnavailable, match=r"1048588 bytes \(max.message.bytes\)") as error:
        asyncio.run(check_parking(kafka))
    assert "CREDITSTREAM_KAFKA__PARKED_MAX_BYTES" in str(error.value)

    other = kafka_at(real_broker)
    asyncio.run(create_topics(other))
    await_neighbour(
        "kafka", lambda: asyncio.run(check_parking(other)), KafkaUnavailable, seconds=20
    )


@pytest.mark.real_broker
def test_topics_of_other_widths_are_named(real_broker: str) -> None:
    kafka = kafka_at(real_broker)
    asyncio.run(ensure_topics(Connection(real_broker), {kafka.applications: 3}))
    asyncio.run(create_topics(kafka))

    def attempt() -> None:
        asyncio.run(check_topics(kafka, kafka.topics))

    await_neighbour("kafka", attempt, KafkaUnavailable, seconds=20)

    with pytest.raises(PartitionsDiffer, match=f"PARTITIONS is 2, but {kafka.applications} has 3"):
        asyncio.run(check_partitions(kafka))
    with pytest.raises(KafkaUnavailable, match=f"has 3 partitions, but {kafka.decisions} has 2"):
        asyncio.run(check_outputs(kafka, "scoring"))


@pytest.mark.real_broker
def test_a_topic_that_would_lose_records_or_take_none_is_refused(real_broker: str) -> None:
    kafka = kafka_at(real_broker)
    connection = Connection(real_broker)
    asyncio.run(ensure_topics(connection, {kafka.ledger: 1}, {"cleanup.policy": "compact"}))
    asyncio.run(ensure_topics(connection, {kafka.decisions: 1}, {"min.insync.replicas": "2"}))
    asyncio.run(create_topics(kafka))

    def check(*topics: str) -> list[str]:
        return await_neighbour(
            "kafka",
            lambda: asyncio.run(check_topic_settings(kafka, topics)),
            KafkaUnavailable,
            seconds=20,
        )

    with pytest.raises(TopicUnfit, match=f"{kafka.ledger} has cleanup.policy=compact"):
        check(kafka.alarms, kafka.ledger)
    with pytest.raises(TopicUnfit, match=f"{kafka.decisions} has 1 copies and min.insync.*=2"):
        check(kafka.decisions)
    assert check(kafka.parked, "not-there") == [
        f"topic {kafka.parked} has one copy: a broker that is lost takes its records along"
    ]


def test_the_mock_broker_has_no_settings_to_ask_for(mock_broker: str) -> None:
    kafka = kafka_at(mock_broker)

    asyncio.run(check_parking(kafka))

    assert asyncio.run(check_topic_settings(kafka, kafka.topics)) == []


def test_a_topic_at_the_mock_broker_appears_when_asked_for(mock_broker: str) -> None:
    kafka = kafka_at(mock_broker)

    def attempt() -> None:
        asyncio.run(check_topics(kafka, [kafka.applications]))

    await_neighbour("kafka", attempt, KafkaUnavailable, seconds=10)


def test_a_neighbour_that_comes_back_is_waited_for() -> None:
    tried = 0

    def attempt() -> int:
        nonlocal tried
        tried += 1
        if tried < 3:
            msg = "away"
            raise StoreUnavailable(msg)
        return tried

    assert await_neighbour("clickhouse", attempt, StoreUnavailable, seconds=10) == 3
