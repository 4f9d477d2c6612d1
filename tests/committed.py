"""What a reader of committed records sees of a topic."""

import asyncio

from aiokafka import TopicPartition

from stream.kafka.connection import connection_of
from stream.kafka.records import records_of
from stream.settings import KafkaSettings

_TIMES, _PAUSE_S = 100, 0.05


async def committed(kafka: KafkaSettings, topic: str, count: int) -> list[bytes]:
    """Read a topic's values once there are so many, or after some seconds as they are."""
    found: list[bytes] = []
    for _ in range(_TIMES):
        found = [record.value for record in await records_of(connection_of(kafka), topic)]
        if len(found) >= count:
            break
        # A commit is acknowledged before its markers are written, which readers wait for.
        await asyncio.sleep(_PAUSE_S)
    return found


async def no_transaction_open(kafka: KafkaSettings, *topics: str) -> None:
    """Wait until the markers of all transactions stand on topics, so that readers see them all."""
    async with asyncio.timeout(_TIMES * _PAUSE_S):
        while True:
            if not await transaction_open(kafka, *topics):
                return
            await asyncio.sleep(_PAUSE_S)


async def transaction_open(kafka: KafkaSettings, *topics: str) -> bool:
    """Say whether the marker of a transaction is missing on topics: readers do not see it yet."""
    tps = [TopicPartition(topic, n) for topic in topics for n in range(kafka.partitions)]
    connection = connection_of(kafka)
    async with (
        connection.consumer(isolation_level="read_committed") as committed,
        connection.consumer() as written,
    ):
        seen, there = await committed.end_offsets(tps), await written.end_offsets(tps)
    return bool(seen != there)
