"""Parked events driven again: back to the topic of applications, each to where it came from."""

import time
from collections import Counter, defaultdict
from contextlib import aclosing
from dataclasses import dataclass, field

from aiokafka.errors import MessageSizeTooLargeError

from scoring.envelope import REDRIVEN, REDRIVEN_OF
from stream.kafka.connection import connection_of
from stream.kafka.packing import MAX_BATCH_BYTES, OutRecord, RecordTooLarge
from stream.kafka.publisher import Publisher
from stream.kafka.topics import describe_topics, parked_record_bytes
from stream.parked.events import Parked, ParkedTopic, Tally
from stream.settings import KafkaSettings

_CHUNK_RECORDS, _CHUNK_BYTES = 500, 4_000_000
_LARGE = MAX_BATCH_BYTES // 2
_TOO_LARGE = "its topic takes no record of its size"


@dataclass(slots=True)
class Redrive:
    """What driving again did so far: by partition what is acknowledged; by reason what is not."""

    sent: Counter[int] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class RedrivePlan:
    """What driving again would do: `tally` counts the events that can be sent."""

    tally: Tally
    refused: Counter[str]
    partitions: int


@dataclass(slots=True)
class _Chunk:
    """What waits to be sent to one partition."""

    records: list[OutRecord] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        return len(self.records) >= _CHUNK_RECORDS or self.size >= _CHUNK_BYTES

    def add(self, record: OutRecord) -> None:
        self.records.append(record)
        self.size += _size(record)


async def plan(topic: ParkedTopic) -> RedrivePlan:
    """Count what would be sent and what is refused; raises KafkaUnavailable."""
    kafka = topic.kafka
    (described,) = await describe_topics(connection_of(kafka), [kafka.applications])
    found = RedrivePlan(Tally(), Counter(), len(described["partitions"]))
    async with aclosing(topic.events()) as events:
        async for parked in events:
            if reason := refusal(parked, kafka, found.partitions):
                found.refused[reason] += 1
            else:
                found.tally.add(parked)
    return found


def refusal(parked: Parked, kafka: KafkaSettings, partitions: int) -> str:
    """Say why a parked event cannot be driven again; empty where it can."""
    event = parked.event
    if event is None:
        return f"not a parked event: {parked.damage}"
    reasons = {
        "it was decided, or is no application: its value belongs on the ledger's topic": (
            event.stage == "sink"
        ),
        "only its head is there, as it was too large to park: its producer must send it": (
            bool(event.cut)
        ),
        "its id stands for another event: its producer must send it under one of its own": (
            event.code == "conflicting_duplicate"
        ),
        f"it came from {event.topic}, and CREDITSTREAM_KAFKA__APPLICATIONS is another": (
            event.topic != kafka.applications
        ),
        f"{event.topic} has no partition {event.partition} any more": (
            event.partition >= partitions
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def redriven_record(parked: Parked, now_ms: int) -> OutRecord:
    """
    Make the application of a parked event: its key, its value, its own headers, and two of ours.

    They say how often it has been driven again, and where it is parked.
    """
    event = parked.event
    assert event is not None
    headers = [
        *event.headers,
        (REDRIVEN, str(event.redriven + 1).encode()),
        (REDRIVEN_OF, parked.place.encode()),
    ]
    return OutRecord(event.key, event.value, headers, now_ms)


async def redrive(topic: ParkedTopic, partitions: int, done: Redrive) -> None:
    """
    Send what is wanted of the parked topic, each partition's events in their order.

    `done` counts on, also where this ends in an error: KafkaUnavailable.
    """
    kafka = topic.kafka
    waiting: defaultdict[int, _Chunk] = defaultdict(_Chunk)
    async with (
        connection_of(kafka).errors_named(),
        _publisher(kafka) as publisher,
        aclosing(topic.events()) as events,
    ):

        async def flush(number: int) -> None:
            records = waiting.pop(number, _Chunk()).records
            await publisher.publish(kafka.applications, number, records)
            done.sent[number] += len(records)

        async for parked in events:
            if reason := refusal(parked, kafka, partitions):
                done.refused[reason] += 1
                continue
            assert parked.event is not None
            number = parked.event.partition
            record = redriven_record(parked, time.time_ns() // 1_000_000)
            if _size(record) > _LARGE:
                await flush(number)
                await _send_large(kafka, number, record, done)
                continue
            waiting[number].add(record)
            if waiting[number].full:
                await flush(number)
        for number in list(waiting):
            await flush(number)


def _publisher(kafka: KafkaSettings) -> Publisher:
    largest = parked_record_bytes(kafka)
    return Publisher(connection_of(kafka), client_id="creditstream-redrive", largest=largest)


async def _send_large(kafka: KafkaSettings, number: int, record: OutRecord, done: Redrive) -> None:
    """Send one that its topic may not take: alone, so that no other is refused with it."""
    try:
        async with _publisher(kafka) as publisher:
            largest = parked_record_bytes(kafka)
            await publisher.publish(kafka.applications, number, [record], largest)
    except (MessageSizeTooLargeError, RecordTooLarge):
        done.refused[_TOO_LARGE] += 1
    else:
        done.sent[number] += 1


def _size(record: OutRecord) -> int:
    return (
        len(record.key or b"")
        + len(record.value or b"")
        + sum(len(name) + len(value or b"") for name, value in record.headers)
    )
