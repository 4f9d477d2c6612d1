"""What a new owner of partitions must know of what others wrote."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing, suppress
from itertools import takewhile
from typing import Any
from uuid import UUID

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from scoring.decision import Origin
from scoring.parking import ParkingHistory, ParkingLimit
from scoring.poll import Poll
from scoring.recent import RecentEvents
from sinks.parked import ParkedDamaged, parse
from stream.codec import EVENT_DIGEST
from stream.connection import connection_of
from stream.records import each_record, offsets_of
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


async def parked_before(kafka: KafkaSettings, poll: Poll, limit: ParkingLimit) -> ParkingHistory:
    """
    Read what became of the events that stood before a poll, as far back as the limit looks.

    For delivery at least once, where nothing keeps it beside the offset. Raises aiokafka's
    KafkaError, TimeoutError.
    """
    parked: dict[int, tuple[str, bool]] = {}
    async for record in _tail(kafka, kafka.decisions, poll.partition, limit.reach):
        with suppress(msgspec.DecodeError):
            decision = msgspec.json.decode(record.value or b"", type=_Decided)
            origin = decision.origin
            if (origin.topic, origin.partition) == (poll.topic, poll.partition):
                parked[origin.offset] = (decision.release, False)
    async for record in _tail(kafka, kafka.parked, poll.partition, limit.reach):
        with suppress(ParkedDamaged):
            event = parse(record.key, record.value, record.headers)
            counts = limit.counted(event.code, event.path, redriven=bool(event.redriven))
            if counts and (event.topic, event.partition) == (poll.topic, poll.partition):
                parked[event.offset] = (event.release, True)
    before = [told for offset, told in sorted(parked.items()) if offset < poll.offsets[0]]
    release = before[-1][0] if before else ""
    of_release = list(takewhile(lambda told: told[0] == release, reversed(before)))
    return limit.history(release, [flag for _, flag in reversed(of_release)])


async def _tail(
    kafka: KafkaSettings, topic: str, partition: int, count: int
) -> AsyncIterator[ConsumerRecord]:
    """Read the last records of a partition: beside each may stand the marker of a transaction."""
    connection = connection_of(kafka)
    there = (await offsets_of(connection, topic)).get(partition, range(0))
    last = range(max(there.start, there.stop - 2 * count), there.stop)
    records = each_record(connection, topic, {partition: last})
    async with aclosing(records):
        async for record in records:
            yield record


class _Decided(msgspec.Struct):
    """What is read of a decision."""

    origin: Origin
    release: str


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
