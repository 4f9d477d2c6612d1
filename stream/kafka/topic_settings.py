"""What topics are set to at the broker, held against what we need of them."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    UnknownTopicOrPartitionError,
    for_code,
)

from stream.kafka.connection import KafkaUnavailable, connection_of
from stream.kafka.topics import describe_topics, parked_record_bytes
from stream.settings import KafkaSettings

LIMIT = "max.message.bytes"
_CLEANUP, _IN_SYNC = "cleanup.policy", "min.insync.replicas"
_ASK_SECONDS = 5.0


class TopicUnfit(Exception):
    """A topic is set to what would lose records, or take none; says which, and what to set."""


class _Told(NamedTuple):
    """What a topic is set to, or why the broker does not tell."""

    settings: dict[str, str]
    refused: str


async def check_topic_settings(kafka: KafkaSettings, topics: Sequence[str]) -> list[str]:
    """
    See that topics keep every record and can be written to; give what is doubtful, a line each.

    A topic that is not there is passed over, as `check_topics` tells of it. Raises TopicUnfit,
    KafkaUnavailable.
    """
    connection = connection_of(kafka)
    told = await _settings_of(kafka, topics)
    if told is None:  # the mock, which has no settings
        return []
    copies = {
        topic["topic"]: min((len(one["replicas"]) for one in topic["partitions"]), default=0)
        for topic in await describe_topics(connection, topics)
    }
    doubts = []
    for topic, (settings, refused) in told.items():
        if refused:
            doubts.append(f"topic {topic}: its settings are not told ({refused})")
        elif settings:
            doubts += doubts_about(topic, copies.get(topic, 0), settings)
    return doubts


def doubts_about(topic: str, copies: int, settings: dict[str, str]) -> list[str]:
    """Say what is doubtful of a topic with so many copies; raises TopicUnfit."""
    if "compact" in settings[_CLEANUP]:
        msg = (
            f"topic {topic} has {_CLEANUP}={settings[_CLEANUP]}: it is a log, and compaction would "
            "take older records of a key away; set it to delete"
        )
        raise TopicUnfit(msg)
    in_sync = int(settings[_IN_SYNC])
    if not copies:
        return []
    if in_sync > copies:
        msg = (
            f"topic {topic} has {copies} copies and {_IN_SYNC}={in_sync}: no record could ever be "
            "acknowledged; lower the one or add copies"
        )
        raise TopicUnfit(msg)
    if copies == 1:
        return [f"topic {topic} has one copy: a broker that is lost takes its records along"]
    if in_sync == 1 and copies >= 3:
        doubt = (
            f"topic {topic} has {copies} copies and {_IN_SYNC}=1: one that is lost may have had "
        )
        return [doubt + "records that no other has; set it to 2"]
    return []


async def keeps_transactions(kafka: KafkaSettings) -> bool:
    """
    Say whether the broker keeps what it promises of transactions; raises KafkaUnavailable.

    librdkafka's mock answers every request of one and keeps nothing; it describes no topic either.
    """
    return await _settings_of(kafka, [kafka.parked]) is not None


async def check_parking(kafka: KafkaSettings) -> None:
    """See that the parked topic takes the largest parked event; raises KafkaUnavailable."""
    told = await _settings_of(kafka, [kafka.parked])
    if told is None:  # the mock, which has no limits
        return
    settings, refused = told[kafka.parked]
    if refused:
        return  # `check_topic_settings` says so
    if not settings:
        msg = f"not at {kafka.bootstrap_servers}: {kafka.parked}; run `creditstream init`"
        raise KafkaUnavailable(msg)
    limit, needed = int(settings[LIMIT]), parked_record_bytes(kafka)
    if limit < needed:
        msg = (
            f"topic {kafka.parked} takes records of {limit} bytes ({LIMIT}), and a parked event "
            f"may have {needed}: raise the one or lower CREDITSTREAM_KAFKA__PARKED_MAX_BYTES"
        )
        raise KafkaUnavailable(msg)


async def _settings_of(kafka: KafkaSettings, topics: Sequence[str]) -> dict[str, _Told] | None:
    """Ask what topics are set to; none for one that is not there, None where no broker says."""
    connection = connection_of(kafka)
    names = dict.fromkeys((LIMIT, _CLEANUP, _IN_SYNC))
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic, names) for topic in topics]
    async with (
        connection.errors_named(),
        asyncio.timeout(_ASK_SECONDS),
        connection.admin() as admin,
    ):
        try:
            (answer,) = await admin.describe_configs(asked)
        except IncompatibleBrokerVersion:
            return None
    told = {}
    for code, _, _, topic, entries in answer.resources:
        away = code in (0, UnknownTopicOrPartitionError.errno)
        refused = "" if away else for_code(code).__name__
        told[topic] = _Told({name: value for name, value, *_ in entries}, refused)
    return told
