"""What a new owner of partitions must know of the decisions that others wrote."""

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import UUID

from aiokafka import TopicPartition

from scoring.recent import RecentEvents
from stream.codec import EVENT_DIGEST
from stream.connection import connection_of
from stream.settings import KafkaSettings

_SECONDS = 20.0
_ID = "ce_id"


async def read_back(kafka: KafkaSettings, partitions: Collection[int]) -> dict[int, RecentEvents]:
    """
    Read which events were decided last, from the end of each partition of the decisions' topic.

    Committed records only: what is open when this begins must have been aborted or committed. At
    least `kafka.resend_window` decisions of each are read, where there are so many: beside each may
    stand the marker of a transaction. Raises aiokafka's KafkaError, TimeoutError.
    """
    size = kafka.resend_window
    found = {partition: RecentEvents(size) for partition in partitions}
    if not size:
        return found
    consumer = connection_of(kafka).consumer(
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    asked = [TopicPartition(kafka.decisions, partition) for partition in partitions]
    async with asyncio.timeout(_SECONDS), consumer:
        consumer.assign(asked)
        begins, ends = await consumer.beginning_offsets(asked), await consumer.end_offsets(asked)
        for tp in asked:
            consumer.seek(tp, max(begins[tp], ends[tp] - 2 * size))
        waiting = {tp for tp in asked if ends[tp] > begins[tp]}
        while waiting:
            for tp, records in (await consumer.getmany(*waiting, timeout_ms=200)).items():
                _take_in(found[tp.partition], records)
            waiting = {tp for tp in waiting if await consumer.position(tp) < ends[tp]}
    return found


def _take_in(recent: RecentEvents, records: list[Any]) -> None:
    ids, digests = [], []
    for record in records:
        headers = dict(record.headers)
        try:
            identity = UUID((headers.get(_ID) or b"").decode()).bytes
            digest = bytes.fromhex((headers.get(EVENT_DIGEST) or b"").decode())
        except ValueError:
            digest = b""
        # A version before this header wrote it, or somebody else: of its event nothing is known.
        if digest:
            ids.append(identity)
            digests.append(digest)
    recent.remember(ids, digests)
