"""What consumer groups have committed."""

import asyncio
from collections.abc import Collection

import stamina
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, NotCoordinatorError
from aiokafka.structs import OffsetAndMetadata

from stream.kafka.connection import Connection

_ASK_SECONDS = 10.0


async def committed_offsets(
    connection: Connection, group: str, asked: Collection[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """
    Ask for a group's committed offsets, with a request of its own; 0 where it has none.

    Raises aiokafka's KafkaError, TimeoutError.
    """
    found: dict[TopicPartition, OffsetAndMetadata] = {}
    async with asyncio.timeout(_ASK_SECONDS), connection.admin() as admin:
        # Until the group has a coordinator that may tell; `timeout` above ends it.
        async for attempt in stamina.retry_context(
            on=_passes, attempts=None, timeout=None, wait_max=1.0, wait_jitter=0.1
        ):
            with attempt:
                found = await admin.list_consumer_group_offsets(group, partitions=list(asked))
                if not found:  # so a coordinator answers that is none any more
                    raise NotCoordinatorError
    return {tp: found[tp]._replace(offset=max(0, found[tp].offset)) for tp in asked}


def _passes(error: Exception) -> bool:
    return isinstance(error, KafkaError) and error.retriable
