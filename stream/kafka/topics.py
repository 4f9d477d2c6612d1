"""Topics: described, held against the settings, and created where they are missing."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.admin import NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from stream.kafka.connection import Connection, KafkaUnavailable, connection_of
from stream.kafka.rights import Right, RightsMissing
from stream.kafka.roles import Role, inputs_of, outputs_of
from stream.settings import KafkaSettings

_ASK_SECONDS = 5.0
_CREATE_SECONDS = 30.0
_SAID_OF_IT = 20_000
_MAY_NOT = (TopicAuthorizationFailedError.errno, ClusterAuthorizationFailedError.errno)


class PartitionsDiffer(Exception):
    """Topics have other numbers of partitions than the settings say; says which."""


async def describe_topics(
    connection: Connection, topics: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Ask for topics' metadata, by default of all; raises KafkaUnavailable, KafkaRefused."""
    async with (
        connection.errors_named(),
        asyncio.timeout(_ASK_SECONDS),
        connection.admin() as admin,
    ):
        found: list[dict[str, Any]] = await admin.describe_topics(topics and list(topics))
        return found


async def check_topics(kafka: KafkaSettings, topics: Sequence[str]) -> None:
    """See that topics are there, or are made by being asked for; raises KafkaUnavailable."""
    described = await describe_topics(connection_of(kafka), topics)
    missing = [topic["topic"] for topic in described if topic["error_code"] != 0]
    if missing:
        msg = f"not at {kafka.bootstrap_servers}: {', '.join(missing)}; run `creditstream init`"
        raise KafkaUnavailable(msg)


async def check_partitions(kafka: KafkaSettings) -> None:
    """
    See that every topic has the partitions that the settings say; raises PartitionsDiffer.

    A poll's output goes to the partition that it came from. A topic that is not there is passed
    over, as `check_topics` tells of it.
    """
    counts = await _partitions(kafka)
    other = [f"{name} has {count}" for name, count in counts.items() if count != kafka.partitions]
    if other:
        msg = (
            f"CREDITSTREAM_KAFKA__PARTITIONS is {kafka.partitions}, but {', '.join(other)}: set it "
            "to what the topics have, or give all of them as many with Kafka's own tools"
        )
        raise PartitionsDiffer(msg)


async def check_outputs(kafka: KafkaSettings, role: Role) -> None:
    """See that what a role writes has a partition for each that it reads; KafkaUnavailable."""
    counts = await _partitions(kafka)
    topic = max(inputs_of(kafka, role), key=lambda name: counts.get(name, 0))
    read = counts.get(topic, 0)
    few = [name for name in outputs_of(kafka, role) if counts.get(name, read) < read]
    if few:
        found = ", ".join(f"{name} has {counts[name]}" for name in few)
        msg = f"topic {topic} has {read} partitions, but {found}: give them as many"
        raise KafkaUnavailable(msg)


async def _partitions(kafka: KafkaSettings) -> dict[str, int]:
    """Give the number of partitions of each of our topics that is there."""
    described = await describe_topics(connection_of(kafka), kafka.topics)
    return {t["topic"]: len(t["partitions"]) for t in described if not t["error_code"]}


def parked_record_bytes(kafka: KafkaSettings) -> int:
    """Give the size of the largest parked event, with what is said of it."""
    return kafka.parked_max_bytes + _SAID_OF_IT


async def ensure_topics(
    connection: Connection,
    partitions: Mapping[str, int],
    config: Mapping[str, str] | None = None,
    *,
    replication: int = 1,
) -> list[str]:
    """
    Create the topics that are missing, each with its number of partitions; give their names.

    Does nothing for a topic that is there, nor at a broker that cannot create any: the mock,
    where a topic appears when it is first used. Raises RightsMissing, aiokafka's KafkaError,
    TimeoutError.
    """
    async with asyncio.timeout(_CREATE_SECONDS), connection.admin() as admin:
        cluster = await admin.describe_cluster()
        # aiokafka fails without a word where no broker is the controller: the mock names a 0.
        if cluster["controller_id"] not in {broker["node_id"] for broker in cluster["brokers"]}:
            return []
        response = await admin.create_topics(
            [
                NewTopic(name, number, replication, topic_configs=dict(config or {}))
                for name, number in partitions.items()
            ]
        )
    codes = {name: code for name, code, *_ in response.topic_errors}
    if may_not := [name for name, code in codes.items() if code in _MAY_NOT]:
        raise RightsMissing(connection, [Right("Create", "topic", name) for name in may_not])
    created = []
    for name, code in codes.items():
        if code == 0:
            created.append(name)
        elif code != TopicAlreadyExistsError.errno:
            refused: type[KafkaError] = for_code(code)
            msg = f"cannot create topic {name}"
            raise refused(msg)
    return created


async def create_topics(kafka: KafkaSettings) -> list[str]:
    """Create creditstream's topics with alike partitions: `ensure_topics` or KafkaUnavailable."""
    wanted = {name: kafka.partitions for name in kafka.topics if name != kafka.parked}
    parked = {kafka.parked: kafka.partitions}
    large = {"max.message.bytes": str(parked_record_bytes(kafka))}
    connection, replication = connection_of(kafka), kafka.replication
    async with connection.errors_named():
        created = await ensure_topics(connection, wanted, replication=replication)
        return created + await ensure_topics(connection, parked, large, replication=replication)
