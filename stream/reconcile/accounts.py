"""
The account of one partition: what became of each application of a range of offsets.

Pure: it is told what stands on the topics and in ClickHouse, and says what differs. It holds 48
bytes an offset of the range, whatever the size of the records.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitoring.difference import KINDS, Kind
from sinks.checksum import Hashes, checksum

HOUR_MS = 3_600_000
BLOCK = 1_000
"""Offsets that are compared with ClickHouse at once, where an hour differs."""

Integers = NDArray[np.int64]
Truths = NDArray[np.bool_]

_SEEN, _CONFLICT, _TWICE, _OTHER_IN_LEDGER = 1, 2, 4, 8
_NOT_STORED, _ONLY_STORED, _STORED_OTHERWISE = 1, 2, 4
_MOST = 255


class Sum(NamedTuple):
    """Rows, and the sum of their hashes modulo 2^64."""

    rows: int
    checksum: int


class Counts(msgspec.Struct):
    """
    What became of the applications of an hour of a partition.

    Of the applications `consumed`, each is one of `decided`, `parked`, `repeated`, `missing`.
    `pending` are not consumed yet; `unjudged` are those whose answers may have stood in what a
    topic no longer keeps; `again` counts decisions that a crash repeated. `stored` and
    `stored_parked` are rows in ClickHouse.
    """

    consumed: int = 0
    decided: int = 0
    parked: int = 0
    repeated: int = 0
    missing: int = 0
    pending: int = 0
    unjudged: int = 0
    again: int = 0
    stored: int = 0
    stored_parked: int = 0

    def add(self, other: "Counts") -> None:
        """Add another's numbers to these."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class Span:
    """
    The offsets of one partition of the applications that are reconciled.

    Those from `first` to before `end`. Before `judged_from` a topic keeps no answers any more, and
    before `parked_from` no parked events; from `settled` on nobody has said that all is done.
    Before `stored` ClickHouse must have all decisions, and before `stored_parked` all parked
    events.
    """

    first: int
    end: int
    settled: int
    judged_from: int
    parked_from: int
    stored: int
    stored_parked: int

    def __len__(self) -> int:
        return max(0, self.end - self.first)


class Decisions(NamedTuple):
    """Columns of decisions: where the application stood, the answer's hash, when, of which event.

    `made_us` are microseconds since 1970; a digest of 0 is not known.
    """

    offsets: Integers
    answers: Hashes
    made_us: Integers
    digests: Hashes


class LedgerRows(NamedTuple):
    """Columns of ledger rows, as of decisions; with the row's hash, and the application's hour."""

    offsets: Integers
    answers: Hashes
    made_us: Integers
    rows: Hashes
    hours: Integers


class Found(NamedTuple):
    """A row of a batch of applications, and what is wrong with it."""

    row: int
    kind: Kind


@dataclass(slots=True)
class Stored:
    """
    What ClickHouse must have of a partition: a hash an offset, and sums by hour.

    `others` are hashes of what was written again of an offset: ClickHouse may show that.
    """

    first: int
    begin: int
    limit: int
    there: NDArray[np.uint8]
    hashes: Hashes
    flags: NDArray[np.uint8]
    others: dict[int, set[int]] = field(default_factory=dict)
    by_hour: dict[int, Sum] = field(default_factory=dict)

    def add(self, places: Integers, hashes: Hashes, hours: Integers, again: Truths) -> None:
        """Take in rows; of those that came `again` ClickHouse shows one or the other."""
        for place, hashed in zip(places[again].tolist(), hashes[again].tolist(), strict=True):
            self.others.setdefault(place, set()).add(hashed)
        places, hashes, hours = places[~again], hashes[~again], hours[~again]
        self.there[places] = 1
        self.hashes[places] = hashes
        must = (places + self.first < self.limit) & (places + self.first >= self.begin)
        for hour in np.unique(hours[must]).tolist():
            of_hour = hashes[must & (hours == hour)]
            rows, total = self.by_hour.get(hour, Sum(0, 0))
            self.by_hour[hour] = Sum(rows + len(of_hour), (total + checksum(of_hour)) % 2**64)

    def differs(self, found: Mapping[int, Sum]) -> bool:
        """Whether ClickHouse's sums by hour are others."""
        return dict(found) != self.by_hour

    def differing_blocks(self, found: Mapping[int, Sum]) -> list[int]:
        """Give the blocks of offsets whose sums in ClickHouse are others."""
        begin, end = (max(0, at - self.first) for at in (self.begin, self.limit))
        places = begin + np.flatnonzero(self.there[begin:end])
        own: dict[int, Sum] = {}
        for run in np.split(places, np.flatnonzero(np.diff((places + self.first) // BLOCK)) + 1):
            if len(run):
                block = (int(run[0]) + self.first) // BLOCK
                own[block] = Sum(len(run), checksum(self.hashes[run]))
        blocks = own.keys() | found.keys()
        return sorted(block for block in blocks if own.get(block) != found.get(block))

    def compare(self, block: int, found: Mapping[int, int]) -> list[int]:
        """
        Note what differs between the rows of a block: hashes in ClickHouse by offset.

        Give the offsets that only ClickHouse has.
        """
        begin = max(block * BLOCK, self.begin) - self.first
        end = min((block + 1) * BLOCK, self.limit) - self.first
        for place in (begin + np.flatnonzero(self.there[begin:end])).tolist():
            there = found.get(place + self.first)
            if there is None:
                self.flags[place] |= _NOT_STORED
            elif there != int(self.hashes[place]) and there not in self.others.get(place, ()):
                self.flags[place] |= _STORED_OTHERWISE
        only = [offset for offset in found if not self.there[offset - self.first]]
        self.flags[np.array(only, np.int64) - self.first] |= _ONLY_STORED
        return only


class RecentIds:
    """The last `size` decided events of a partition by id, with where they stood."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._last: dict[bytes, tuple[int, bytes]] = {}

    def meet(self, identity: bytes, offset: int, digest: bytes) -> tuple[int, bytes] | None:
        """Take in a decision; give the place and the event's digest of one of the same id."""
        before = self._last.pop(identity, None)
        self._last[identity] = (offset, digest)
        if len(self._last) > self._size:
            del self._last[next(iter(self._last))]
        return before


class PartitionAccount:
    """
    Takes in decisions, ledger rows and parked events of a partition, then its applications.

    What is outside of the span is passed over. `exactly_once` says whether a second answer to an
    application is a fault.
    """

    def __init__(self, span: Span, *, exactly_once: bool) -> None:
        size = len(span)
        self.span = span
        self.hours: dict[int, Counts] = {}
        self._exactly_once = exactly_once
        self._decided, self._ledger, self._parked = (np.zeros(size, np.uint8) for _ in range(3))
        self._flags = np.zeros(size, np.uint8)
        self._answers, self._digests = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
        self._made_us = np.zeros(size, np.int64)
        self.ledger_stored, self.parked_stored = (
            Stored(
                span.first,
                span.judged_from,
                limit,
                np.zeros(size, np.uint8),
                np.zeros(size, np.uint64),
                np.zeros(size, np.uint8),
            )
            for limit in (span.stored, span.stored_parked)
        )

    def add_decisions(self, decisions: Decisions) -> None:
        """Take in decisions, in the order of their topic."""
        for one in self._runs(decisions.offsets):
            places = decisions.offsets[one] - self.span.first
            answers = decisions.answers[one]
            again = self._decided[places] > 0
            other = again & (self._answers[places] != answers)
            self._flags[places[other]] |= _CONFLICT
            new = places[~again]
            self._answers[new] = answers[~again]
            self._made_us[new] = decisions.made_us[one][~again]
            self._digests[new] = decisions.digests[one][~again]
            _count_up(self._decided, places)

    def add_ledger(self, rows: LedgerRows) -> None:
        """Take in ledger rows, in the order of their topic, after all decisions."""
        for one in self._runs(rows.offsets):
            places = rows.offsets[one] - self.span.first
            again = self._ledger[places] > 0
            other = (self._answers[places] != rows.answers[one]) | (
                self._made_us[places] != rows.made_us[one]
            )
            self._flags[places[other & ~again & (self._decided[places] == 1)]] |= _OTHER_IN_LEDGER
            self.ledger_stored.add(places, rows.rows[one], rows.hours[one], again)
            _count_up(self._ledger, places)

    def add_parked(self, offsets: Integers, hashes: Hashes, hours: Integers) -> None:
        """Take in parked events, in the order of their topic."""
        for one in self._runs(offsets):
            places = offsets[one] - self.span.first
            again = self._parked[places] > 0
            self.parked_stored.add(places, hashes[one], hours[one], again)
            _count_up(self._parked, places)

    def note_same_id(self, offset: int, *, same_event: bool) -> None:
        """Note that the id of a decision was that of another application's shortly before."""
        if self._exactly_once and self.span.first <= offset < self.span.end:
            self._flags[offset - self.span.first] |= _TWICE if same_event else _CONFLICT

    def add_applications(
        self, offsets: Integers, hours: Integers, digests: Hashes
    ) -> tuple[list[Found], list[int]]:
        """
        Take in applications, in order; give what is wrong with some, and which have no answer.

        Whether one without an answer is `repeated` or `missing` is to be said with `settle`.
        """
        span, places = self.span, offsets - self.span.first
        self._flags[places] |= _SEEN
        decided, ledger, parked = (
            counts[places] for counts in (self._decided, self._ledger, self._parked)
        )
        flags = self._flags[places]
        on_topic, in_ledger, is_parked = decided > 0, ledger > 0, parked > 0
        is_decided = on_topic | in_ledger
        complete = np.where(is_parked, ~is_decided, on_topic & in_ledger)
        pending = (offsets >= span.settled) & ~complete
        unanswered = ~is_decided & ~is_parked & ~pending
        unjudged = (offsets < span.judged_from) | (unanswered & (offsets < span.parked_from))
        judged, pending = ~pending & ~unjudged, pending & ~unjudged
        unanswered &= judged
        conflict = (flags & _CONFLICT) > 0
        several = (np.maximum(np.maximum(decided, ledger), parked) > 1) & self._exactly_once
        known = self._digests[places] != 0
        once = (decided == 1) & (ledger == 1)
        stored = self.ledger_stored.flags[places] | self.parked_stored.flags[places]
        wrong: dict[Kind, Truths] = {
            "twice": (several | ((flags & _TWICE) > 0)) & ~conflict,
            "conflict": conflict,
            "both": is_decided & is_parked,
            "unknown": on_topic & known & (self._digests[places] != digests),
            "not_in_ledger": on_topic & ~in_ledger,
            "not_on_decisions": in_ledger & ~on_topic,
            "differs_in_ledger": once & ((flags & _OTHER_IN_LEDGER) > 0),
            "not_in_clickhouse": (stored & _NOT_STORED) > 0,
            "only_in_clickhouse": (stored & _ONLY_STORED) > 0,
            "differs_in_clickhouse": (stored & _STORED_OTHERWISE) > 0,
        }
        found = [
            Found(row, kind)
            for kind, rows in wrong.items()
            for row in np.flatnonzero(rows & judged).tolist()
        ]
        again = np.where(judged & on_topic, decided.astype(np.int64) - 1, 0)
        for hour in np.unique(hours).tolist():
            of_hour = hours == hour
            counts = self.hours.setdefault(hour, Counts())
            counts.consumed += int((judged & of_hour).sum())
            counts.decided += int((judged & is_decided & of_hour).sum())
            counts.parked += int((judged & is_parked & ~is_decided & of_hour).sum())
            counts.pending += int((pending & of_hour).sum())
            counts.unjudged += int((unjudged & of_hour).sum())
            counts.again += int(again[of_hour].sum())
        return found, np.flatnonzero(unanswered).tolist()

    def settle(self, hour: int, *, repeated: bool) -> None:
        """Say of an application without an answer what it is."""
        counts = self.hours[hour]
        if repeated:
            counts.repeated += 1
        else:
            counts.missing += 1

    def strangers(self) -> Iterator[tuple[int, Kind]]:
        """Give the offsets of answers to no application, after all applications."""
        begin = self.span.judged_from - self.span.first
        unseen = (self._flags & _SEEN) == 0
        on_topics = (self._decided | self._ledger | self._parked) > 0
        stored = (self.ledger_stored.flags | self.parked_stored.flags) & _ONLY_STORED
        only_stored = ~on_topics & (stored > 0)
        strangers: dict[Kind, Truths] = {"unknown": on_topics, "only_in_clickhouse": only_stored}
        for kind, there in strangers.items():
            for place in np.flatnonzero(unseen[begin:] & there[begin:]).tolist():
                yield begin + place + self.span.first, kind

    def made_us(self, offset: int) -> int:
        """Give when an application was decided, in microseconds since 1970."""
        return int(self._made_us[offset - self.span.first])

    def _runs(self, offsets: Integers) -> Iterator[Integers]:
        """Part rows into runs in which no offset of the span stands twice; give their indices."""
        within = np.flatnonzero((offsets >= self.span.first) & (offsets < self.span.end))
        if not len(within):
            return
        ends = np.flatnonzero(np.diff(offsets[within]) <= 0) + 1
        yield from np.split(within, ends)


def no_differences() -> dict[Kind, int]:
    """Give a count of nothing for each kind."""
    return dict.fromkeys(KINDS, 0)


def hours_of(timestamps_ms: Iterable[int]) -> Integers:
    """Give the hours since 1970 of times in milliseconds."""
    return np.fromiter(timestamps_ms, np.int64) // HOUR_MS


def _count_up(counts: NDArray[np.uint8], places: Integers) -> None:
    counts[places] = np.minimum(counts[places].astype(np.int16) + 1, _MOST)
