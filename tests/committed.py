"""What a reader of committed records sees of a topic."""

import asyncio

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
