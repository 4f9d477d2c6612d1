"""Applications for demos and tests: real applicants' events at a rate, some of them bad."""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, groupby, repeat
from time import monotonic
from typing import Any

import msgspec
from aiokafka.partitioner import murmur2

from stream.contracts.codec import APPLICATION_TYPE
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher

_CHUNK_SECONDS = 0.05
_SOURCE = "creditstream-simulator"

Attributes = dict[str, Any]
"""Of an event: numbers, texts, None, an object, or lists of rows."""


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who applies: `attributes` as in the event, or None where the bank has the features."""

    application_id: int
    attributes: Attributes | None


@dataclass(slots=True)
class Sent:
    """What the broker has acknowledged so far."""

    good: int = 0
    bad: int = 0

    @property
    def events(self) -> int:
        """All of them."""
        return self.good + self.bad


def _bad_events(event_id: str, at: str) -> list[bytes | None]:
    """Give one of each kind of event that must be parked."""
    head = f'"event_id":"{event_id}","submitted_at":"{at}"'
    return [
        b'{"event_id":',
        f'{{{head},"application_id":"seven"}}'.encode(),
        f"{{{head}}}".encode(),
        f'{{{head},"application_id":7,"application_id":8}}'.encode(),
        f'{{"event_id":"{event_id}","submitted_at":"2026-01-01T00:00:00","application_id":7}}'.encode(),
        f'{{{head},"application_id":7,"attributes":{{"AGE":-3}}}}'.encode(),
        b"\xff\xfe\x00",
        None,
    ]


@dataclass(slots=True)
class Simulator:
    """
    Makes events of applicants in turn, each with an id of its own.

    `bad_share` of them (0 to 1) are of the kinds that must be parked. `change` may rewrite an
    applicant's attributes: another unit, to show what drift looks like.
    """

    applicants: Iterable[Applicant]
    run: str
    bad_share: float = 0.0
    seed: int = 7
    change: Callable[[Attributes], Attributes] | None = None
    _number: int = 0
    _random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self._random.seed(self.seed)

    def events(self) -> Iterator[tuple[OutRecord, bool]]:
        """Give records for ever, each with whether it is good."""
        encode = msgspec.json.encode
        for applicant in chain.from_iterable(repeat(self.applicants)):
            self._number += 1
            event_id = f"{self.run}-{self._number:08d}"
            now = datetime.now(UTC)
            at = now.isoformat()
            key = str(applicant.application_id).encode()
            good = self._random.random() >= self.bad_share
            value: bytes | None
            if good:
                event: dict[str, Any] = {
                    "event_id": event_id,
                    "application_id": applicant.application_id,
                    "submitted_at": at,
                }
                if applicant.attributes is not None:
                    attributes = applicant.attributes
                    event["attributes"] = self.change(attributes) if self.change else attributes
                value = encode(event)
            else:
                value = self._random.choice(_bad_events(event_id, at))
            yield (
                OutRecord(
                    key, value, cloud_event(event_id, at, _SOURCE), int(now.timestamp() * 1e3)
                ),
                good,
            )


def cloud_event(event_id: str, at: str, source: str) -> list[tuple[str, bytes]]:
    """Give the headers of an application event in CloudEvents' binary mode."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", APPLICATION_TYPE.encode()),
        ("ce_time", at.encode()),
        ("content-type", b"application/json"),
    ]


async def send_at_rate(
    publisher: Publisher,
    topic: str,
    partitions: int,
    events: Iterator[tuple[OutRecord, bool]],
    sent: Sent,
    *,
    rate: float,
    count: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """
    Send `rate` events a second until `count` are sent or `stop` says so.

    `sent` counts what the broker has acknowledged.
    """
    started = monotonic()
    offered = 0
    while not stop() and (count is None or offered < count):
        due = int((monotonic() - started) * rate) - offered
        if count is not None:
            due = min(due, count - offered)
        if due > 0:
            chunk = [next(events) for _ in range(due)]
            await send_all(publisher, topic, partitions, (record for record, _ in chunk))
            offered += due
            sent.good += sum(good for _, good in chunk)
            sent.bad += sum(not good for _, good in chunk)
        await asyncio.sleep(_CHUNK_SECONDS)


def partition_of(record: OutRecord, partitions: int) -> int:
    """Give the partition of a record's key, as Kafka's own clients choose it."""
    return int(murmur2(record.key or b"") & 0x7FFFFFFF) % partitions


async def send_all(
    publisher: Publisher, topic: str, partitions: int, records: Iterable[OutRecord]
) -> None:
    """Send records to the partition of their key."""

    def partition(record: OutRecord) -> int:
        return partition_of(record, partitions)

    for number, of_partition in groupby(sorted(records, key=partition), key=partition):
        await publisher.publish(topic, number, of_partition)
