"""Reconciles: reads a period of the topics, a partition at a time, and asks ClickHouse."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
from aiokafka import TopicPartition

from monitoring.difference import Kind
from scoring.decision import decision_id
from scoring.envelope import SourceInvalid, read_envelope
from scoring.recent import event_digest
from stream.asking.questions import Asked
from stream.kafka.connection import connection_of
from stream.kafka.topic_settings import keeps_transactions
from stream.kafka.topics import (
    check_outputs,
    check_topics,
    describe_topics,
)
from stream.reconcile.accounts import (
    HOUR_MS,
    Counts,
    PartitionAccount,
    RecentIds,
    Stored,
    no_differences,
)
from stream.reconcile.columns import (
    Stranger,
    decision_columns,
    hashes_of,
    ledger_columns,
    made_of,
    parked_columns,
)
from stream.reconcile.report import Difference, HourOfPartition, Report, hour_of
from stream.reconcile.snapshot import Period, Snapshot
from stream.reconcile.store import LEDGER, PARKED, HourOf, Place, Shown, StoreRows, Table
from stream.reconcile.topics import Topics
from stream.settings import KafkaSettings, Settings

MOST_APPLICATIONS = 10_000_000
"""Of one partition at once: what is kept of them takes 48 bytes each."""
_MOST_NAMED = 100_000
_MOST_UNANSWERED = 200_000
_NO_NAMES = ("", None, "")


class PeriodTooLong(Exception):
    """A period holds more applications than are reconciled at once; says what to ask instead."""


class NoSuchPartition(Exception):
    """A partition was asked for that the topic of applications has not."""


class _Event(msgspec.Struct):
    event_id: str
    application_id: int


class _Named(msgspec.Struct, frozen=True):
    """An application without an answer, which may be one that was sent again."""

    difference: Difference
    hour: int
    digest: bytes


@dataclass(slots=True)
class _Findings:
    """What differs, counted, and the first of it by name."""

    counts: dict[Kind, int] = field(default_factory=no_differences)
    named: list[Difference] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        self.counts[difference.kind] += 1
        if len(self.named) < _MOST_NAMED:
            self.named.append(difference)

    def take_back(self, differences: Collection[Difference]) -> None:
        """Forget some that turned out to be none."""
        for difference in differences:
            self.counts[difference.kind] -= 1
        gone = set(differences)
        self.named = [one for one in self.named if one not in gone]


async def reconcile(
    settings: Settings,
    period: Period,
    store: Asked | None = None,
    partitions: Collection[int] | None = None,
) -> Report:
    """
    Say what became of each application of a period, by Kafka's timestamps, and what differs.

    Without a store the topics alone are compared; `partitions` are all by default. Raises
    KafkaUnavailable, NoSuchPartition, PeriodTooLong and the store's errors.
    """
    kafka = settings.kafka
    await check_topics(kafka, [kafka.applications, kafka.decisions, kafka.ledger, kafka.parked])
    await check_outputs(kafka, "scoring")
    able = await keeps_transactions(kafka)
    numbers = await _partitions(kafka, partitions)
    until = datetime.now(UTC) if period.until is None else period.until
    async with connection_of(kafka).errors_named(), Topics(kafka) as topics:
        # librdkafka's mock keeps neither transactions nor times.
        snapshots = await topics.snapshots(period, numbers, by_time=able)
        for snapshot in snapshots:
            _check_size(snapshot)
        once = able and settings.delivery != "at_least_once"
        run = _Run(kafka, topics, store, exactly_once=once)
        if not able and (period.since or period.until):
            run.notes.append("this broker looks up no times: all that it keeps is reconciled")
        await run.ask_store(snapshots)
        for snapshot in snapshots:
            await run.partition(snapshot)
    return Report(
        since=period.since,
        until=until,
        delivery="exactly_once" if once else "at_least_once",
        store=store is not None,
        hours=run.hours(),
        differences=run.findings.counts,
        named=run.findings.named,
        notes=run.notes,
    )


async def _partitions(kafka: KafkaSettings, asked: Collection[int] | None) -> Sequence[int]:
    (described,) = await describe_topics(connection_of(kafka), [kafka.applications])
    there = range(len(described["partitions"]))
    for number in asked or ():
        if number not in there:
            msg = f"{kafka.applications} has the partitions 0 to {there.stop - 1}, not {number}"
            raise NoSuchPartition(msg)
    return there if asked is None else sorted(set(asked))


def _check_size(snapshot: Snapshot) -> None:
    size = len(snapshot.span)
    if size > MOST_APPLICATIONS:
        msg = (
            f"partition {snapshot.partition} has {size:,} offsets in this period, and at most "
            f"{MOST_APPLICATIONS:,} are reconciled at once: ask for fewer hours"
        )
        raise PeriodTooLong(msg)


class _Run:
    """One reconciliation, from snapshots on."""

    def __init__(
        self, kafka: KafkaSettings, topics: Topics, store: Asked | None, *, exactly_once: bool
    ) -> None:
        self.findings = _Findings()
        self.notes: list[str] = []
        self._kafka = kafka
        self._topics = topics
        self._rows = None if store is None else StoreRows(store, kafka.applications)
        self._exactly_once = exactly_once
        self._hours: dict[HourOf, Counts] = {}
        self._sums: dict[str, dict[HourOf, Any]] = {LEDGER.name: {}, PARKED.name: {}}

    def hours(self) -> list[HourOfPartition]:
        """Give what was counted, by hour and partition."""
        ordered = sorted(self._hours.items(), key=lambda item: (item[0].hour, item[0].partition))
        return [HourOfPartition(hour_of(at.hour), at.partition, counts) for at, counts in ordered]

    async def ask_store(self, snapshots: Sequence[Snapshot]) -> None:
        """Ask for all partitions at once what ClickHouse has of each hour."""
        if self._rows is None:
            return
        for table, name in ((LEDGER, "stored"), (PARKED, "stored_parked")):
            places = [_place(snapshot, table) for snapshot in snapshots]
            counts, sums = await asyncio.to_thread(self._rows.by_hour, table, places)
            self._sums[table.name] = sums
            for at, number in counts.items():
                setattr(self._hours.setdefault(at, Counts()), name, number)

    async def partition(self, snapshot: Snapshot) -> None:
        """Reconcile a partition."""
        self.notes += snapshot.notes
        if self._rows is not None:
            self.notes += snapshot.notes_of_store
        account = PartitionAccount(snapshot.span, exactly_once=self._exactly_once)
        await self._read_decisions(snapshot, account)
        await self._read_ledger(snapshot, account)
        await self._read_parked(snapshot, account)
        only = await self._compare_store(snapshot, account)
        unanswered = await self._read_applications(snapshot, account, only)
        await self._settle(snapshot, account, unanswered)
        for offset, kind in account.strangers():
            place = (snapshot.topic, snapshot.partition, offset)
            identity, why = only.get(offset, ""), "no application stands there"
            self.findings.add(Difference(kind, *place, decision_id=identity, detail=why))
        await self._take_back_shown(snapshot, account)
        for hour, counts in account.hours.items():
            self._hours.setdefault(HourOf(snapshot.partition, hour), Counts()).add(counts)

    async def _read_decisions(self, snapshot: Snapshot, account: PartitionAccount) -> None:
        recent = RecentIds(self._kafka.resend_window)
        tp = TopicPartition(self._kafka.decisions, snapshot.partition)
        stretch = snapshot.decisions
        async for records in self._topics.records(tp, stretch.start, stretch.end):
            found = decision_columns(records, snapshot)
            account.add_decisions(found.columns)
            self._add_strangers(found.strangers)
            offsets = found.columns.offsets.tolist()
            if not self._kafka.resend_window:
                continue
            for identity, offset, digest in zip(found.ids, offsets, found.digests, strict=True):
                before = recent.meet(identity, offset, digest)
                if before is not None and before[0] != offset:
                    account.note_same_id(offset, same_event=before[1] == digest)

    async def _read_ledger(self, snapshot: Snapshot, account: PartitionAccount) -> None:
        tp = TopicPartition(self._kafka.ledger, snapshot.partition)
        stretch = snapshot.ledger
        async for records in self._topics.records(tp, stretch.start, stretch.end):
            for record in records:
                rows, strangers = ledger_columns(record, snapshot)
                self._add_strangers(strangers)
                if rows is not None:
                    account.add_ledger(rows)

    async def _read_parked(self, snapshot: Snapshot, account: PartitionAccount) -> None:
        tp = TopicPartition(self._kafka.parked, snapshot.partition)
        stretch = snapshot.parked
        async for records in self._topics.records(tp, stretch.start, stretch.end):
            found = parked_columns(records, snapshot)
            self._add_strangers(found.strangers)
            account.add_parked(found.offsets, found.hashes, found.hours)

    async def _compare_store(self, snapshot: Snapshot, account: PartitionAccount) -> dict[int, str]:
        """Note what differs in ClickHouse; give the ids of those that only it has, by offset."""
        only: dict[int, str] = {}
        if self._rows is None:
            return only
        compared: tuple[tuple[Table, Stored], ...] = (
            (LEDGER, account.ledger_stored),
            (PARKED, account.parked_stored),
        )
        for table, stored in compared:
            sums = self._sums[table.name]
            of_partition = {
                at.hour: total for at, total in sums.items() if at.partition == snapshot.partition
            }
            if stored.differs(of_partition):
                place = _place(snapshot, table)
                only |= await asyncio.to_thread(self._rows.compare, table, place, stored)
        return {offset: str(UUID(identity)) for offset, identity in only.items() if identity}

    async def _read_applications(
        self, snapshot: Snapshot, account: PartitionAccount, only: dict[int, str]
    ) -> list[_Named]:
        """Read the applications; name what differs, and give those without an answer."""
        tp = TopicPartition(self._kafka.applications, snapshot.partition)
        stretch = snapshot.applications
        unanswered: list[_Named] = []
        async for records in self._topics.records(tp, stretch.start, stretch.end):
            offsets = np.array([record.offset for record in records], np.int64)
            hours = np.array([record.timestamp for record in records], np.int64) // HOUR_MS
            digests = [event_digest(record.value or b"") for record in records]
            found, without = account.add_applications(offsets, hours, hashes_of(digests))
            for row, kind in found:
                named = self._named(kind, records[row])
                if not named.decision_id:
                    only_id = only.get(named.offset, "")
                    named = msgspec.structs.replace(named, decision_id=only_id)
                self.findings.add(named)
            for row in without:
                missing = _Named(
                    self._named("missing", records[row]), int(hours[row]), digests[row]
                )
                if missing.difference.decision_id and len(unanswered) < _MOST_UNANSWERED:
                    unanswered.append(missing)
                else:
                    account.settle(missing.hour, repeated=False)
                    self.findings.add(missing.difference)
        if len(unanswered) == _MOST_UNANSWERED:
            self.notes.append(
                f"partition {snapshot.partition}: beyond {_MOST_UNANSWERED:,} applications "
                "without an answer, none was looked at for having been sent again"
            )
        return unanswered

    async def _settle(
        self, snapshot: Snapshot, account: PartitionAccount, unanswered: Sequence[_Named]
    ) -> None:
        """Tell those that are missing from those whose event was decided before."""
        by_id: dict[bytes, list[_Named]] = {}
        for one in unanswered:
            by_id.setdefault(UUID(one.difference.decision_id).bytes, []).append(one)
        repeated: set[int] = set()
        if by_id:
            tp = TopicPartition(self._kafka.decisions, snapshot.partition)
            stretch = snapshot.decisions
            async for records in self._topics.records(tp, stretch.start, stretch.end):
                for made in filter(None, map(made_of, records)):
                    identity, offset, digest = made
                    repeated.update(
                        one.difference.offset
                        for one in by_id.get(identity, ())
                        if one.digest == digest and offset < one.difference.offset
                    )
        for one in unanswered:
            was_decided = one.difference.offset in repeated
            account.settle(one.hour, repeated=was_decided)
            if not was_decided:
                self.findings.add(one.difference)

    async def _take_back_shown(self, snapshot: Snapshot, account: PartitionAccount) -> None:
        """
        Take back those not in ClickHouse because it shows an earlier decision of the same id.

        So it is with an event that came again beyond the window, or in another partition.
        """
        if self._rows is None:
            return
        hidden = [
            ((one.application_id, UUID(one.decision_id).hex), one)
            for one in self.findings.named
            if one.kind == "not_in_clickhouse"
            and one.partition == snapshot.partition
            and one.application_id is not None
            and one.decision_id
        ]
        shown = await asyncio.to_thread(self._rows.shown, {key for key, _ in hidden})

        def is_earlier(row: Shown, than: Difference) -> bool:
            there = row.partition != snapshot.partition or row.offset < snapshot.log_end
            made = (account.made_us(than.offset), than.offset)
            return there and (row.decided_us, row.offset) <= made

        self.findings.take_back(
            [one for key, one in hidden if key in shown and is_earlier(shown[key], one)]
        )

    def _add_strangers(self, strangers: Sequence[Stranger]) -> None:
        for one in strangers:
            self.findings.add(
                Difference(
                    "unknown",
                    one.topic,
                    one.partition,
                    one.offset,
                    decision_id=one.decision_id,
                    detail=one.why,
                )
            )

    def _named(self, kind: Kind, record: Any) -> Difference:
        event_id, application_id, identity = _names(record)
        return Difference(
            kind,
            record.topic,
            record.partition,
            record.offset,
            event_id=event_id,
            application_id=application_id,
            decision_id=identity,
        )


def _place(snapshot: Snapshot, table: Table) -> Place:
    span = snapshot.span
    limit = span.stored if table is LEDGER else span.stored_parked
    return Place(snapshot.partition, span.judged_from, span.end, limit)


def _names(record: Any) -> tuple[str, int | None, str]:
    """Give an application's event id, its own, and that of its decision, where it can be read."""
    try:
        event = msgspec.json.decode(record.value or b"", type=_Event)
        source = read_envelope(record.headers, record.topic).source
        identity = decision_id(source, event.event_id)
    except (ValueError, RecursionError, SourceInvalid):
        return _NO_NAMES
    return event.event_id, event.application_id, str(UUID(bytes=identity))
