"""What a new owner of partitions must know of the output that others wrote."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
)
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Self, TypeVar
from uuid import UUID

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from scoring.decision import Origin
from scoring.parking import ParkingHistory, ParkingLimit
from scoring.recent import DIGEST_BYTES, RecentEvents
from sinks.ledger import LedgerBatch, LedgerDamaged, decode
from sinks.parked import ParkedDamaged, ParkedEvent, parse
from stream.contracts.codec import EVENT_DIGEST
from stream.kafka.connection import Connection
from stream.kafka.records import each_record, offsets_of, reader
from stream.settings import KafkaSettings

_SECONDS = 20.0
_ID = "ce_id"
_FIRST_LOOK, _FURTHER = 16, 8
_TOGETHER = 8

_Asked = TypeVar("_Asked", str, int)
_Read = TypeVar("_Read")

_Place = tuple[str, int]
_PlaceOf = Callable[[ConsumerRecord], _Place | None]


@dataclass(slots=True)
class Begun:
    """
    What is out of applications whose offset was not committed, by their offset.

    `ledger` says in which batch, and which row of it, a decision stands; `decided` which of them
    are on the decisions' topic, too.
    """

    ledger: dict[int, tuple[LedgerBatch, int]] = field(default_factory=dict)
    decided: set[int] = field(default_factory=set)
    parked: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.ledger) + len(self.parked)

    def __contains__(self, offset: int) -> bool:
        return offset in self.ledger or offset in self.parked


async def read_back(
    connection: Connection, kafka: KafkaSettings, partitions: Collection[int]
) -> dict[int, RecentEvents]:
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
    consumer = reader(connection)
    asked = [TopicPartition(kafka.decisions, partition) for partition in partitions]
    async with asyncio.timeout(_SECONDS), consumer:
        consumer.assign(asked)
        begins, ends = await asyncio.gather(
            consumer.beginning_offsets(asked), consumer.end_offsets(asked)
        )
        for tp in asked:
            consumer.seek(tp, max(begins[tp], ends[tp] - 2 * size))
        waiting = {tp for tp in asked if ends[tp] > begins[tp]}
        while waiting:
            for tp, records in (await consumer.getmany(*waiting, timeout_ms=200)).items():
                _take_in(found[tp.partition], records)
            waiting = {tp for tp in waiting if await consumer.position(tp) < ends[tp]}
    return found


async def read_begun(
    connection: Connection, kafka: KafkaSettings, committed: Mapping[int, int]
) -> dict[int, Begun]:
    """
    Read what is out of the applications from each partition's committed offset on.

    Each topic is read from its end backwards, until something older comes. Raises aiokafka's
    KafkaError, TimeoutError, in an ExceptionGroup.
    """
    names = (kafka.ledger, kafka.decisions, kafka.parked)
    topics = await _of_each(names, partial(_Topic.now, connection))
    ledger, decisions, parked = (topics[name] for name in names)

    async def begun_of(partition: int) -> Begun:
        begun = Begun()
        first = (kafka.applications, committed[partition])
        for record in await ledger.since(partition, first, _of_ledger):
            batch = decode(record.value)
            offsets = batch.rows.column("origin_offset").to_pylist()
            begun.ledger |= {at: (batch, row) for row, at in enumerate(offsets)}
        for topic, place_of, places in (
            (decisions, _of_decision, begun.decided),
            (parked, _of_parked, begun.parked),
        ):
            records = await topic.since(partition, first, place_of)
            places |= {place[1] for record in records if (place := place_of(record))}
        return begun

    return await _of_each(committed, begun_of)


async def parked_before(
    connection: Connection,
    kafka: KafkaSettings,
    partitions: Collection[int],
    limit: ParkingLimit,
) -> dict[int, ParkingHistory]:
    """
    Read what became of each partition's events so far, as far back as the limit looks.

    For delivery at least once, where nothing keeps it beside the offset; what was begun behind the
    offset is not done again, and counts. Raises as `read_begun`.
    """
    names = (kafka.decisions, kafka.parked)
    topics = await _of_each(names, partial(_Topic.now, connection))
    decisions, parked = (topics[name] for name in names)

    async def history_of(partition: int) -> ParkingHistory:
        told: dict[int, tuple[str, bool]] = {}
        origin = (kafka.applications, partition)
        async for record in decisions.tail(partition, limit.reach):
            decision = _decided(record)
            if decision is None or (decision.origin.topic, decision.origin.partition) != origin:
                continue
            told[decision.origin.offset] = (decision.release, False)
        async for record in parked.tail(partition, limit.reach):
            event = _parked(record)
            if event is None or (event.topic, event.partition) != origin:
                continue
            if limit.counted(event.code, event.path, redriven=bool(event.redriven)):
                told[event.offset] = (event.release, True)
        before = [of for _, of in sorted(told.items())]
        release = before[-1][0] if before else ""
        of_release = list(takewhile(lambda of: of[0] == release, reversed(before)))
        return limit.history(release, [flag for _, flag in reversed(of_release)])

    return await _of_each(partitions, history_of)


async def _of_each(
    asked: Iterable[_Asked], read: Callable[[_Asked], Awaitable[_Read]]
) -> dict[_Asked, _Read]:
    """Read of several topics or partitions at once: what takes time is to ask and to wait."""
    gate = asyncio.Semaphore(_TOGETHER)

    async def read_one(one: _Asked) -> _Read:
        async with gate:
            return await read(one)

    async with asyncio.TaskGroup() as group:
        reading = {one: group.create_task(read_one(one)) for one in asked}
    return {one: task.result() for one, task in reading.items()}


@dataclass(frozen=True, slots=True)
class _Topic:
    """A topic, and which offsets it had when it was asked."""

    connection: Connection
    name: str
    there: Mapping[int, range]

    @classmethod
    async def now(cls, connection: Connection, name: str) -> Self:
        return cls(connection, name, await offsets_of(connection, name))

    async def tail(self, partition: int, count: int) -> AsyncIterator[ConsumerRecord]:
        """Read a partition's last records: beside each may stand the marker of a transaction."""
        records = self._last(partition, 2 * count)[1]
        async with aclosing(records):
            async for record in records:
                yield record

    async def since(
        self, partition: int, first: _Place, place_of: _PlaceOf
    ) -> list[ConsumerRecord]:
        """Give a partition's last records that came of applications from `first` on."""
        count = _FIRST_LOOK
        while True:
            is_all, last = self._last(partition, count)
            records = [one async for one in last]
            placed = [(place, record) for record in records if (place := place_of(record))]
            ours = [(place[1], record) for place, record in placed if place[0] == first[0]]
            if is_all or any(at < first[1] for at, _ in ours):
                return [record for at, record in ours if at >= first[1]]
            count *= _FURTHER

    def _last(self, partition: int, count: int) -> tuple[bool, AsyncGenerator[ConsumerRecord]]:
        """Give what holds the last `count` offsets, and whether that is all there is."""
        there = self.there.get(partition, range(0))
        last = last_of(there, count)
        return last == there, each_record(self.connection, self.name, {partition: last})


def last_of(there: range, count: int) -> range:
    """Give the last `count` of some offsets, or all where they are fewer."""
    return there[max(0, len(there) - count) :]


class _Decided(msgspec.Struct):
    """What is read of a decision."""

    origin: Origin
    release: str


def _decided(record: ConsumerRecord) -> _Decided | None:
    try:
        return msgspec.json.decode(record.value or b"", type=_Decided)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # somebody else wrote it


def _parked(record: ConsumerRecord) -> ParkedEvent | None:
    try:
        return parse(record.key, record.value, record.headers)
    except ParkedDamaged:
        return None


def _of_decision(record: ConsumerRecord) -> _Place | None:
    found = _decided(record)
    return None if found is None else (found.origin.topic, found.origin.offset)


def _of_ledger(record: ConsumerRecord) -> _Place | None:
    try:
        rows = decode(record.value or b"").rows
    except LedgerDamaged:
        return None
    return rows.column("origin_topic")[-1].as_py(), rows.column("origin_offset")[-1].as_py()


def _of_parked(record: ConsumerRecord) -> _Place | None:
    found = _parked(record)
    return None if found is None else (found.topic, found.offset)


def _take_in(recent: RecentEvents, records: Iterable[ConsumerRecord]) -> None:
    ids, digests = [], []
    for record in records:
        headers = dict(record.headers)
        try:
            identity = UUID((headers.get(_ID) or b"").decode()).bytes
            digest = bytes.fromhex((headers.get(EVENT_DIGEST) or b"").decode())
        except ValueError:
            digest = b""
        # A version before this header wrote it, or somebody else: of its event nothing is known.
        if len(digest) == DIGEST_BYTES:
            ids.append(identity)
            digests.append(digest)
    recent.remember(ids, digests)
