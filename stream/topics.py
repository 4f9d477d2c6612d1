"""Topics, created where they are missing."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from stream.app import Role
from stream.settings import KafkaSettings

_ASK_SECONDS = 5.0
_VARIABLE = "CREDITSTREAM_KAFKA__BOOTSTRAP_SERVERS"


class KafkaUnavailable(Exception):
    """No broker answers, or it refuses, or lacks topics; says which, and what to do."""


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
    where a topic appears when it is first used. Raises aiokafka's KafkaError.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
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
    names = [kafka.applications, kafka.decisions, kafka.ledger, kafka.parked, kafka.alarms]
    wanted = dict.fromkeys(names, kafka.partitions)
    servers = kafka.bootstrap_servers
    with naming_the_broker(servers):
        return await ensure_topics(servers, wanted, replication=kafka.replication)
