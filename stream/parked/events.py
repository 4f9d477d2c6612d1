"""The parked topic as an operator asks for it: some of its events, read as they stand there."""

import re
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import NamedTuple

from aiokafka import ConsumerRecord

from scoring.envelope import redriven_of
from sinks.parked import ParkedDamaged, ParkedEvent, parse
from stream.kafka.connection import connection_of
from stream.kafka.records import each_record, offsets_of
from stream.kafka.topics import check_topics
from stream.settings import KafkaSettings

_PLACES = re.compile(
    r"(?:(?P<topic>[a-zA-Z0-9._-]{1,249})/)?(?P<partition>\d{1,10})/(?P<first>\d{1,19})"
    r"(?:-(?P<last>\d{1,19}))?"
)

# The path of another code says nothing, or may hold names that the event made up.
_NAMED_BY_CONTRACT = frozenset({"invalid", "timestamp", "conflicting_duplicate"})

Cause = tuple[str, str, str]
"""Stage, code, and the path where the code alone says too little."""


class PlaceInvalid(Exception):
    """A text names no place of a topic; says which form does."""


class ParkedNotFound(Exception):
    """No parked event stands at a place, or came from there."""


@dataclass(frozen=True, slots=True)
class Places:
    """Some offsets of one partition; `topic` is empty for the topic of parked events."""

    topic: str
    partition: int
    offsets: range

    @classmethod
    def parse(cls, text: str) -> "Places":
        """Read PARTITION/OFFSET or PARTITION/FIRST-LAST, with TOPIC/ before; PlaceInvalid."""
        if found := _PLACES.fullmatch(text):
            first, last = int(found["first"]), int(found["last"] or found["first"])
            if offsets := range(first, last + 1):
                return cls(found["topic"] or "", int(found["partition"]), offsets)
        msg = (
            f"{text!r} is no place: PARTITION/OFFSET or PARTITION/FIRST-LAST on the topic of "
            "parked events, or TOPIC/PARTITION/OFFSET where an event came from"
        )
        raise PlaceInvalid(msg)

    def __str__(self) -> str:
        first, last = self.offsets.start, self.offsets.stop - 1
        upto = f"-{last}" if last > first else ""
        return f"{self.topic}{'/' if self.topic else ''}{self.partition}/{first}{upto}"


class Parked(NamedTuple):
    """
    A record of the parked topic; `event` is None where it is none, and `damage` says why.

    `driven_to` are the places on the topic of applications to which it was driven again, where
    that was asked for.
    """

    topic: str
    partition: int
    offset: int
    event: ParkedEvent | None
    damage: str = ""
    driven_to: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where it stands: topic/partition/offset."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def cause(self) -> Cause:
        """What it is counted under: few, however many events there are."""
        if self.event is None:
            return "", "damaged", ""
        path = self.event.path if self.event.code in _NAMED_BY_CONTRACT else ""
        return self.event.stage, self.event.code, path


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    Which parked events are asked for: those that all of it says; by default all.

    `since` and `until` are times of parking, aware, the first included and the last not;
    `redriven`: whether they have been driven again.
    """

    places: tuple[Places, ...] = ()
    code: str | None = None
    stage: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    redriven: bool | None = None

    def takes(self, parked: Parked) -> bool:
        """Say whether one is asked for, as far as it tells by itself."""
        event = parked.event
        if self.places and not any(_stands(parked, places) for places in self.places):
            return False
        if event is None:
            return not any((self.code, self.stage, self.since, self.until))
        return (
            (self.code is None or event.code == self.code)
            and (self.stage is None or event.stage == self.stage)
            and (self.since is None or event.parked_at >= self.since)
            and (self.until is None or event.parked_at < self.until)
        )


@dataclass(slots=True)
class Tally:
    """How many events, by cause; `latest` is when the last of each was parked."""

    causes: Counter[Cause] = field(default_factory=Counter)
    latest: dict[Cause, datetime] = field(default_factory=dict)

    def add(self, parked: Parked) -> None:
        """Count one more."""
        cause, event = parked.cause, parked.event
        self.causes[cause] += 1
        if event is not None:
            self.latest[cause] = max(event.parked_at, self.latest.get(cause, event.parked_at))

    @property
    def events(self) -> int:
        """All of them."""
        return self.causes.total()


class Newest:
    """The last parked of those that it is given, at most so many; in the order of parking."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._found: list[tuple[datetime, int, int, Parked]] = []

    def add(self, parked: Parked) -> None:
        """Take one in, in the place of the oldest where there are too many."""
        at = parked.event.parked_at if parked.event else datetime.min.replace(tzinfo=UTC)
        heappush(self._found, (at, parked.partition, parked.offset, parked))
        if len(self._found) > self._count:
            heappop(self._found)

    def __iter__(self) -> Iterator[Parked]:
        return (parked for *_, parked in sorted(self._found))


@dataclass(frozen=True, slots=True)
class ParkedTopic:
    """
    The parked topic up to where it ended when this was opened, so that each reading is alike.

    What is parked later, of events driven again in between, too, is not of it.
    """

    kafka: KafkaSettings
    wanted: Wanted
    within: Mapping[int, range]
    driven: Mapping[str, tuple[str, ...]]

    @classmethod
    async def open(cls, kafka: KafkaSettings, wanted: Wanted) -> "ParkedTopic":
        """
        Find what there is; raises KafkaUnavailable.

        Whether events were driven again stands on the topic of applications, which is read for it
        from where the first of them had come from.
        """
        connection = connection_of(kafka)
        await check_topics(kafka, [kafka.parked])
        async with connection.errors_named():
            there = await offsets_of(connection, kafka.parked, wanted.since)
        within = _narrowed(there, wanted.places, kafka.parked)
        opened = cls(kafka, wanted, within, {})
        if wanted.redriven is None:
            return opened
        return cls(kafka, wanted, within, await opened._driven())

    async def events(self) -> AsyncGenerator[Parked]:
        """Read what is wanted, each partition's in order; raises KafkaUnavailable."""
        async with aclosing(self._events()) as events:
            async for parked in events:
                found = parked._replace(driven_to=self.driven.get(parked.place, ()))
                if self.wanted.redriven in (None, bool(found.driven_to)):
                    yield found

    async def one(self) -> Parked:
        """Read the first that is wanted; raises ParkedNotFound, KafkaUnavailable."""
        async with aclosing(self.events()) as events:
            async for parked in events:
                return parked
        named = ", ".join(map(str, self.wanted.places))
        fits = "" if self.wanted == Wanted(self.wanted.places) else " that fits"
        msg = f"no parked event{fits} is at {named}: `creditstream parked list` tells what there is"
        raise ParkedNotFound(msg)

    async def tally(self) -> Tally:
        """Count what is wanted; raises KafkaUnavailable."""
        found = Tally()
        async with aclosing(self.events()) as events:
            async for parked in events:
                found.add(parked)
        return found

    async def _events(self) -> AsyncGenerator[Parked]:
        connection = connection_of(self.kafka)
        records = each_record(connection, self.kafka.parked, self.within)
        async with connection.errors_named(), aclosing(records):
            async for record in records:
                parked = _parked(record)
                if self.wanted.takes(parked):
                    yield parked

    async def _driven(self) -> dict[str, tuple[str, ...]]:
        """Find where events were driven to: behind where they came from, in the same partition."""
        connection, topic = connection_of(self.kafka), self.kafka.applications
        first: dict[int, int] = {}
        async with aclosing(self._events()) as events:
            async for parked in events:
                event = parked.event
                if event is not None and event.topic == topic:
                    first[event.partition] = min(
                        event.offset, first.get(event.partition, event.offset)
                    )
        driven: dict[str, tuple[str, ...]] = {}
        async with connection.errors_named():
            there = await offsets_of(connection, topic)
            within = {
                number: range(max(at.start, first[number]), at.stop)
                for number, at in there.items()
                if number in first
            }
            records = each_record(connection, topic, within)
            async with aclosing(records):
                async for record in records:
                    if (drive := redriven_of(record.headers)) is not None:
                        place = f"{record.topic}/{record.partition}/{record.offset}"
                        driven[drive.place] = (*driven.get(drive.place, ()), place)
        return driven


def _parked(record: ConsumerRecord) -> Parked:
    found = Parked(record.topic, record.partition, record.offset, None)
    try:
        return found._replace(event=parse(record.key, record.value, record.headers))
    except ParkedDamaged as damaged:
        return found._replace(damage=damaged.reason)


def _stands(parked: Parked, places: Places) -> bool:
    event = parked.event
    if places.topic in ("", parked.topic):
        return parked.partition == places.partition and parked.offset in places.offsets
    return (
        event is not None
        and (event.topic, event.partition) == (places.topic, places.partition)
        and event.offset in places.offsets
    )


def _narrowed(
    there: Mapping[int, range], places: tuple[Places, ...], topic: str
) -> dict[int, range]:
    """Leave out what no place needs; an event is parked in the partition that it came from."""
    if not places:
        return dict(there)
    within: dict[int, range] = {}
    for one in places:
        at = there.get(one.partition, range(0))
        if one.topic in ("", topic):
            at = range(max(at.start, one.offsets.start), min(at.stop, one.offsets.stop))
        if at:
            known = within.get(one.partition, at)
            within[one.partition] = range(min(known.start, at.start), max(known.stop, at.stop))
    return within
