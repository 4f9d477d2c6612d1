"""Records as they stand on a topic, without a group, so that nobody's offsets move."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from stream.kafka.connection import Connection

_READ_SECONDS = 60.0
# The default, half a second, is how long whatever is asked meanwhile would wait behind a fetch.
_FETCH_WAIT_MS = 20


async def offsets_of(
    connection: Connection, topic: str, since: datetime | None = None
) -> dict[int, range]:
    """
    Give the offsets that a topic has at present, by partition.

    With `since`, from the first record of that time on, where the broker finds one. Raises
    aiokafka's KafkaError, TimeoutError.
    """
    async with asyncio.timeout(_READ_SECONDS), reader(connection, topic) as consumer:
        partitions = consumer.assignment()
        begins, ends = await asyncio.gather(
            consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        )
        if since is not None:
            asked = dict.fromkeys(partitions, int(since.timestamp() * 1000))
            for tp, found in (await consumer.offsets_for_times(asked)).items():
                begins[tp] = found.offset if found else begins[tp]
    return {tp.partition: range(begins[tp], ends[tp]) for tp in sorted(partitions)}


async def each_record(
    connection: Connection, topic: str, within: Mapping[int, range]
) -> AsyncGenerator[ConsumerRecord]:
    """
    Read stretches of a topic's partitions, committed records only, each partition's in order.

    Nothing but a fetch is held in memory. Raises aiokafka's KafkaError; TimeoutError after a minute
    without a record.
    """
    stretches = {TopicPartition(topic, number): at for number, at in within.items() if at}
    if not stretches:
        return
    async with reader(connection) as consumer:
        consumer.assign(list(stretches))
        for tp, offsets in stretches.items():
            consumer.seek(tp, offsets.start)
        waiting = set(stretches)
        while waiting:
            async with asyncio.timeout(_READ_SECONDS):
                polled: dict[TopicPartition, list[ConsumerRecord]] = {}
                while waiting and not polled:
                    polled = await consumer.getmany(*waiting, timeout_ms=200)
                    at = {tp: await consumer.position(tp) for tp in waiting}
                    waiting = {tp for tp in waiting if at[tp] < stretches[tp].stop}
            for tp, records in polled.items():
                for record in records:
                    if record.offset in stretches[tp]:
                        yield record


async def records_of(connection: Connection, topic: str) -> list[ConsumerRecord]:
    """
    Read a topic from its beginning to its present end, committed records only.

    Without a group, so that nobody's offsets move. Raises aiokafka's KafkaError, TimeoutError.
    """
    async with asyncio.timeout(_READ_SECONDS):
        there = await offsets_of(connection, topic)
        return [record async for record in each_record(connection, topic, there)]


def reader(connection: Connection, *topics: str) -> AIOKafkaConsumer:
    """Make a consumer, not yet started, of committed records, without a group."""
    return connection.consumer(
        *topics,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
