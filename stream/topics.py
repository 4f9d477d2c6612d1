"""Topics, created where they are missing."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from stream.app import Role
from stream.settings import KafkaSettings

_ASK_SECONDS = 5.0
_CREATE_SECONDS = 30.0
_VARIABLE = "CREDITSTREAM_KAFKA__BOOTSTRAP_SERVERS"
_LIMIT = "max.message.bytes"
_SAID_OF_IT = 20_000

logger = structlog.get_logger(__name__)


class KafkaUnavailable(Exception):
    """No broker answers, or it refuses, or lacks topics; says which, and what to do."""


class PartitionsDiffer(Exception):
    """Topics have other numbers of partitions than the settings say; says which."""


@contextmanager
def naming_the_broker(bootstrap_servers: str) -> Iterator[None]:
    """Turn Kafka's errors into KafkaUnavailable, which names the broker and its setting."""
    try:
        yield
    except (KafkaError, TimeoutError, OSError) as error:
        cause = str(error) or type(error).__name__
        away = isinstance(error, (KafkaConnectionError, TimeoutError, OSError))
        said = "no broker at" if away else "trouble with the broker at"
        msg = f"{said} {bootstrap_servers} ({cause}); set {_VARIABLE}"
        raise KafkaUnavailable(msg) from None


def inputs_of(kafka: KafkaSettings, role: Role) -> list[str]:
    """Give the topics that a role reads."""
    topics = {
        "scoring": [kafka.applications],
        "sink": [kafka.ledger, kafka.parked, kafka.alarms],
        "monitor": [kafka.ledger],
    }
    return topics[role]


def outputs_of(kafka: KafkaSettings, role: Role) -> list[str]:
    """Give the topics that a role writes."""
    topics = {
        "scoring": [kafka.decisions, kafka.ledger, kafka.parked],
        "sink": [kafka.parked],
        "monitor": [kafka.alarms],
    }
    return topics[role]


async def describe_topics(
    bootstrap_servers: str, topics: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Ask for topics' metadata, by default of all; raises KafkaUnavailable."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        with naming_the_broker(bootstrap_servers):
            async with asyncio.timeout(_ASK_SECONDS):
                await admin.start()
                found: list[dict[str, Any]] = await admin.describe_topics(topics and list(topics))
                return found
    finally:
        await admin.close()


async def check_topics(kafka: KafkaSettings, topics: Sequence[str]) -> None:
    """See that topics are there, or are made by being asked for; raises KafkaUnavailable."""
    described = await describe_topics(kafka.bootstrap_servers, topics)
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
    described = await describe_topics(kafka.bootstrap_servers, kafka.topics)
    return {t["topic"]: len(t["partitions"]) for t in described if not t["error_code"]}


def parked_record_bytes(kafka: KafkaSettings) -> int:
    """Give the size of the largest parked event, with what is said of it."""
    return kafka.parked_max_bytes + _SAID_OF_IT


async def keeps_transactions(kafka: KafkaSettings) -> bool:
    """
    Say whether the broker keeps what it promises of transactions; raises KafkaUnavailable.

    librdkafka's mock answers every request of one and keeps nothing; it describes no topic either.
    """
    return await _limit_of_parked(kafka) is not None


async def check_parking(kafka: KafkaSettings) -> None:
    """See that the parked topic takes the largest parked event; raises KafkaUnavailable."""
    answer = await _limit_of_parked(kafka)
    if answer is None:  # the mock, which has no limits
        return
    ((code, _, _, _, entries),) = answer.resources
    if code == UnknownTopicOrPartitionError.errno:
        msg = f"not at {kafka.bootstrap_servers}: {kafka.parked}; run `creditstream init`"
        raise KafkaUnavailable(msg)
    if code != 0:
        reason = for_code(code).__name__
        logger.warning("topics.limit_not_told", topic=kafka.parked, cause=reason)
        return
    limit, needed = int(entries[0][1]), parked_record_bytes(kafka)
    if limit < needed:
        msg = (
            f"topic {kafka.parked} takes records of {limit} bytes ({_LIMIT}), and a parked event "
            f"may have {needed}: raise the one or lower CREDITSTREAM_KAFKA__PARKED_MAX_BYTES"
        )
        raise KafkaUnavailable(msg)


async def _limit_of_parked(kafka: KafkaSettings) -> Any:
    """Ask for the size that the parked topic takes; None where the broker describes no topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    asked = ConfigResource(ConfigResourceType.TOPIC, kafka.parked, {_LIMIT: None})
    try:
        with naming_the_broker(kafka.bootstrap_servers):
            async with asyncio.timeout(_ASK_SECONDS):
                await admin.start()
                try:
                    (answer,) = await admin.describe_configs([asked])
                except IncompatibleBrokerVersion:
                    return None
                return answer
    finally:
        await admin.close()


async def ensure_topics(
    bootstrap_servers: str,
    partitions: Mapping[str, int],
    config: Mapping[str, str] | None = None,
    *,
    replication: int = 1,
) -> list[str]:
    """
    Create the topics that are missing, each with its number of partitions; give their names.

    Does nothing for a topic that is there, nor at a broker that cannot create any: the mock,
    where a topic appears when it is first used. Raises aiokafka's KafkaError, TimeoutError.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        async with asyncio.timeout(_CREATE_SECONDS):
            await admin.start()
            cluster = await admin.describe_cluster()
            # aiokafka fails without a word where no broker is the controller: the mock names a 0.
            brokers = {broker["node_id"] for broker in cluster["brokers"]}
            if cluster["controller_id"] not in brokers:
                return []
            response = await admin.create_topics(
                [
                    NewTopic(name, number, replication, topic_configs=dict(config or {}))
                    for name, number in partitions.items()
                ]
            )
    finally:
        await admin.close()
    created = []
    for name, code, *_ in response.topic_errors:
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
    large = {_LIMIT: str(parked_record_bytes(kafka))}
    servers, replication = kafka.bootstrap_servers, kafka.replication
    with naming_the_broker(servers):
        created = await ensure_topics(servers, wanted, replication=replication)
        return created + await ensure_topics(servers, parked, large, replication=replication)
