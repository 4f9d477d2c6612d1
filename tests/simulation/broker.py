"""The simulated broker's topics and transactions, as Kafka keeps them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka.errors import (
    ConcurrentTransactions,
    InvalidTxnState,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)

from scoring.poll import Headers
from tests.simulation.world import World

Place = tuple[str, int]
"""A topic and the number of one of its partitions."""

_MARKER_SECONDS = 0.015
_TIMEOUT_SECONDS = 15.0


class Unwritten(NamedTuple):
    """A record as a producer sends it."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int


class Stored(NamedTuple):
    """A record as a consumer gets it."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Committed(NamedTuple):
    """What a group has committed of a partition."""

    offset: int
    metadata: str = ""


@dataclass(slots=True)
class Run:
    """What one transaction wrote to one partition; `committed` is None while it is open."""

    first: int
    committed: bool | None = None


@dataclass(slots=True)
class Log:
    """One partition: records and, as None, the markers that end transactions."""

    entries: list[tuple[Stored, Run | None] | None] = field(default_factory=list)
    open: dict[int, Run] = field(default_factory=dict)
    sequences: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The high watermark."""
        return len(self.entries)

    @property
    def stable_end(self) -> int:
        """The last stable offset: before it no transaction is open."""
        return min((run.first for run in self.open.values()), default=self.end)

    def append(self, records: Sequence[Unwritten], run: Run | None) -> None:
        """Write records."""
        for key, value, headers, timestamp in records:
            stored = Stored(self.end, timestamp, 0, key, value, tuple(headers))
            self.entries.append((stored, run))

    def mark(self, producer: int, *, committed: bool) -> None:
        """End a producer's transaction here."""
        run = self.open.pop(producer, None)
        if run is not None:
            run.committed = committed
        self.entries.append(None)

    def committed_records(self, position: int, at_most: int) -> tuple[list[Stored], int]:
        """Read committed records from a position on; give them and the position after them."""
        found: list[Stored] = []
        end = self.stable_end
        while position < end and len(found) < at_most:
            entry = self.entries[position]
            position += 1
            if entry is not None and (entry[1] is None or entry[1].committed):
                found.append(entry[0])
        return found, position


@dataclass(slots=True)
class Transactional:
    """What the transaction coordinator knows of one transactional id."""

    producer: int
    epoch: int = -1
    state: str = "empty"
    committing: bool = False
    places: list[Place] = field(default_factory=list)
    offsets: dict[tuple[str, Place], Committed] = field(default_factory=dict)
    serial: int = 0
    markers: int = 0


class Broker:
    """Topics, producers, transactions, the offsets of groups; each call is one request's work."""

    def __init__(self, world: World, topics: Sequence[str], partitions: int) -> None:
        self._world = world
        self.partitions = partitions
        self.logs: dict[Place, Log] = {
            (topic, number): Log() for topic in topics for number in range(partitions)
        }
        self.committed: dict[tuple[str, Place], Committed] = {}
        self._transactional: dict[str, Transactional] = {}
        self._producers = 0
        self._waiting: list[asyncio.Future[None]] = []

    def more(self) -> asyncio.Future[None]:
        """Give what is done once there is more to read anywhere."""
        waiter: asyncio.Future[None] = self._world.loop.create_future()
        self._waiting.append(waiter)
        return waiter

    def append(self, place: Place, record: Unwritten) -> int:
        """Write one record of a producer that is no part of the simulation; give its offset."""
        log = self.logs[place]
        log.append([record], None)
        self._tell()
        return log.end - 1

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def committed_offset(self, group: str, place: Place) -> int | None:
        """Say what a group has committed of a partition; None: nothing."""
        known = self.committed.get((group, place))
        return None if known is None else known.offset

    def new_producer(self) -> tuple[int, int]:
        """Give an idempotent producer its id and epoch."""
        self._producers += 1
        return self._producers, 0

    def enter(self, name: str) -> tuple[int, int]:
        """Give a transactional producer its id and epoch, once nothing of the former is open."""
        known = self._transactional.get(name)
        if known is None:
            known = self._transactional[name] = Transactional(self.new_producer()[0])
        if known.state == "ending":
            raise ConcurrentTransactions
        if known.state == "open":
            known.epoch += 1
            self._end(name, known, committing=False)
            raise ConcurrentTransactions
        known.epoch += 1
        self._world.note(f"{name} enters as {known.producer}/{known.epoch}")
        return known.producer, known.epoch

    def add_place(self, name: str, epoch: int, place: Place) -> None:
        """Make a partition a part of a transaction, and begin it with the first."""
        known = self._open(name, epoch)
        if place not in known.places:
            known.places.append(place)

    def add_offsets(
        self, name: str, epoch: int, group: str, offsets: dict[Place, Committed]
    ) -> None:
        """Keep offsets that count once the transaction is committed."""
        known = self._open(name, epoch)
        known.offsets |= {(group, place): offset for place, offset in offsets.items()}

    def end(self, name: str, epoch: int, *, committing: bool) -> None:
        """Commit or abort; the same again is no error."""
        known = self._transactional[name]
        _check_epoch(known, epoch)
        if known.state == "open":
            self._end(name, known, committing=committing)
        elif known.committing != committing:
            raise InvalidTxnState
        elif known.state == "ending":
            raise ConcurrentTransactions

    def produce(
        self,
        place: Place,
        records: Sequence[Unwritten],
        producer: tuple[int, int],
        sequence: int,
        name: str | None,
    ) -> None:
        """Write a batch of an idempotent producer once, whatever the number of times it comes."""
        log = self.logs[place]
        number, epoch = producer
        run = None
        if name is not None:
            known = self._transactional[name]
            _check_epoch(known, epoch)
            if known.state != "open" or place not in known.places:
                raise InvalidTxnState
            run = log.open.get(number)
        known_epoch, expected = log.sequences.get(number, (epoch, sequence))
        if epoch != known_epoch:
            expected = 0
        if sequence < expected:
            return
        if sequence > expected:
            raise OutOfOrderSequenceNumber
        if name is not None and run is None:
            run = log.open[number] = Run(log.end)
        log.sequences[number] = epoch, sequence + len(records)
        log.append(records, run)
        self._tell()
        self._world.note(f"{place[0]}/{place[1]} has {len(records)} more, to {log.end}")

    def _open(self, name: str, epoch: int) -> Transactional:
        known = self._transactional[name]
        _check_epoch(known, epoch)
        if known.state == "ending":
            raise ConcurrentTransactions
        if known.state == "empty":
            known.state = "open"
            known.serial += 1
            self._world.loop.later(_TIMEOUT_SECONDS, self._time_out, name, known.serial)
        return known

    def _time_out(self, name: str, serial: int) -> None:
        known = self._transactional[name]
        if known.state == "open" and known.serial == serial:
            known.epoch += 1
            self._world.note(f"{name} is timed out")
            self._end(name, known, committing=False)

    def _end(self, name: str, known: Transactional, *, committing: bool) -> None:
        known.state, known.committing = "ending", committing
        places: list[Place | None] = [*known.places, *([None] if known.offsets else [])]
        known.markers = len(places)
        self._world.note(f"{name} {'commits' if committing else 'aborts'}")
        if not places:
            known.state = "empty"
        for place in places:
            self._mark_later(name, known, place)

    def _mark_later(self, name: str, known: Transactional, place: Place | None) -> None:
        random = self._world.random
        delay = random.expovariate(1 / _MARKER_SECONDS)
        if random.random() < self._world.weather.late_markers:
            delay = random.uniform(0.1, 3.0)
        self._world.loop.later(delay, self._mark, name, known, place)

    def _mark(self, name: str, known: Transactional, place: Place | None) -> None:
        if self._world.weather.away:
            self._mark_later(name, known, place)
            return
        if place is not None:
            self.logs[place].mark(known.producer, committed=known.committing)
            self._tell()
        elif known.committing:
            self.committed |= known.offsets
        known.markers -= 1
        if not known.markers:
            known.state = "empty"
            known.places, known.offsets = [], {}


def _check_epoch(known: Transactional, epoch: int) -> None:
    if epoch != known.epoch:
        raise ProducerFenced
