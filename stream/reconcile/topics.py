"""The topics as they stand at one moment, and their records read."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Self

from aiokafka import TopicPartition

from scoring.decision import microseconds
from stream.kafka.connection import KafkaUnavailable, connection_of
from stream.kafka.groups import committed_offsets
from stream.reconcile.accounts import HOUR_MS, Span
from stream.reconcile.columns import origins_of
from stream.reconcile.snapshot import Period, Snapshot, Stretch
from stream.settings import KafkaSettings

_AT_ONCE = 2_000
_WAIT_MS = 100
_STILL_SECONDS = 45.0
"""Without a record for so long, a topic is given up: a transaction is open for 15 s at most."""
_EARLIER_MS = HOUR_MS
"""How far a worker's clock may be behind those that stamped the applications."""


class Topics:
    """Reads committed records without a group, so that nobody's offsets move."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._connection = connection_of(kafka)
        options = {"enable_auto_commit": False, "auto_offset_reset": "earliest"}
        self._reader = self._connection.consumer(isolation_level="read_committed", **options)
        # To see how far topics go, with what is not yet committed.
        self._looker = self._connection.consumer(isolation_level="read_uncommitted", **options)

    async def __aenter__(self) -> Self:
        async with self._connection.errors_named():
            try:
                await self._reader.start()
                await self._looker.start()
            except BaseException:
                await self.__aexit__()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._reader.stop()
        await self._looker.stop()

    async def snapshots(
        self, period: Period, partitions: Collection[int], *, by_time: bool
    ) -> list[Snapshot]:
        """
        See where each partition begins and ends, and what has been done of it.

        Groups are asked first and ends after them, so that all that groups have done is before the
        ends. Without `by_time`, as the broker knows no times, all that is kept is read.
        """
        kafka, prefix = self._kafka, self._kafka.group_prefix
        of = {
            topic: [TopicPartition(topic, number) for number in sorted(partitions)]
            for topic in (kafka.applications, kafka.decisions, kafka.ledger, kafka.parked)
        }
        every = [tp for several in of.values() for tp in several]
        outputs = [tp for tp in every if tp.topic != kafka.applications]
        inserted = await self._committed(f"{prefix}-sink", [*of[kafka.ledger], *of[kafka.parked]])
        decided = await self._committed(f"{prefix}-scoring", of[kafka.applications])
        self._looker.assign(every)
        self._reader.assign(every)
        ends = await self._looker.end_offsets(outputs)
        ends |= await self._reader.end_offsets(of[kafka.applications])
        begins = await self._looker.beginning_offsets(every)
        since, until = (
            None if at is None or not by_time else max(0, microseconds(at) // 1000)
            for at in (period.since, period.until)
        )
        # Of outputs earlier, by what clocks may differ.
        sinces = {tp: since and max(0, since - _EARLIER_MS * (tp in outputs)) for tp in every}
        starts = await self._at_times(sinces, begins, ends)
        untils = dict.fromkeys(of[kafka.applications], until)
        stops = ends | await self._at_times(untils, ends, ends)
        stretches = {}
        for tp, start in starts.items():
            # And a window of decisions earlier, each with the marker of a transaction beside it.
            earlier = max(begins[tp], start - 2 * kafka.resend_window * (tp in outputs))
            lost = start == begins[tp] > 0
            stretches[tp] = Stretch(earlier, max(earlier, stops[tp]), lost)
        return [
            await self._snapshot(number, stretches, ends, decided, inserted)
            for number in sorted(partitions)
        ]

    async def _committed(
        self, group: str, asked: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        found = await committed_offsets(self._connection, group, asked)
        return {tp: at.offset for tp, at in found.items()}

    async def _at_times(
        self,
        times_ms: Mapping[TopicPartition, int | None],
        otherwise: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, int]:
        """Look up where times begin, but not beyond the ends; `otherwise` where it is None."""
        asked = {tp: at_ms for tp, at_ms in times_ms.items() if at_ms is not None}
        found = await self._looker.offsets_for_times(asked) if asked else {}
        offsets = {tp: otherwise[tp] for tp in times_ms}
        for tp, at in found.items():
            offsets[tp] = ends[tp] if at is None else min(at.offset, ends[tp])
        return offsets

    async def _snapshot(
        self,
        number: int,
        stretches: Mapping[TopicPartition, Stretch],
        ends: Mapping[TopicPartition, int],
        decided: Mapping[TopicPartition, int],
        inserted: Mapping[TopicPartition, int],
    ) -> Snapshot:
        kafka = self._kafka
        tps = [
            TopicPartition(topic, number)
            for topic in (kafka.applications, kafka.decisions, kafka.ledger, kafka.parked)
        ]
        at_applications, at_decisions, at_ledger, at_parked = (stretches[tp] for tp in tps)
        applications, *outputs = tps
        first, end = at_applications.start, at_applications.end
        settled = decided[applications]
        notes, notes_of_store = [], []
        if at_applications.lost:
            notes.append(f"{applications.topic} keeps nothing before offset {first}")
        kept_from = dict.fromkeys(outputs, first)
        for tp in outputs:
            if stretches[tp].lost:
                origin = await self._origin_at(tp, stretches[tp].start, ends[tp])
                kept_from[tp] = min(end, max(first, settled if origin is None else origin))
                if kept_from[tp] > first:
                    notes.append(f"{tp.topic} keeps no answers before offset {kept_from[tp]}")
        of_decisions, of_ledger, of_parked = outputs
        limits = []
        for tp in (of_ledger, of_parked):
            waiting = await self._origin_at(tp, max(inserted[tp], stretches[tp].start), ends[tp])
            limit = min(end, settled, end if waiting is None else max(first, waiting))
            limits.append(limit)
            if limit < min(end, settled):
                notes_of_store.append(
                    f"ClickHouse has {tp.topic} up to offset {limit}; its sink is behind"
                )
        span = Span(
            first=first,
            end=end,
            settled=settled,
            judged_from=max(kept_from[of_decisions], kept_from[of_ledger]),
            parked_from=kept_from[of_parked],
            stored=limits[0],
            stored_parked=limits[1],
        )
        return Snapshot(
            topic=applications.topic,
            partition=number,
            span=span,
            log_end=ends[applications],
            applications=at_applications,
            decisions=at_decisions,
            ledger=at_ledger,
            parked=at_parked,
            notes=[f"partition {number}: {note}" for note in notes],
            notes_of_store=[f"partition {number}: {note}" for note in notes_of_store],
        )

    async def _origin_at(self, tp: TopicPartition, offset: int, end: int) -> int | None:
        """Give where the application of the first answer from an offset on stood; None: no more."""
        async for records in self.records(tp, offset, end, at_once=1):
            for record in records:
                origins = origins_of(self._kafka, record)
                if origins:
                    return min(origins)
        return None

    async def records(
        self, tp: TopicPartition, start: int, end: int, *, at_once: int = _AT_ONCE
    ) -> AsyncIterator[list[Any]]:
        """Read from an offset to before another; raises KafkaUnavailable where nothing comes."""
        if start >= end:
            return
        self._reader.assign([tp])
        self._reader.seek(tp, start)
        loop = asyncio.get_running_loop()
        moved_at, position = loop.time(), start
        while position < end:
            polled = await self._reader.getmany(tp, timeout_ms=_WAIT_MS, max_records=at_once)
            if records := [one for one in polled.get(tp, ()) if one.offset < end]:
                yield records
            before, position = position, await self._reader.position(tp)
            if position > before:
                moved_at = loop.time()
            elif loop.time() - moved_at > _STILL_SECONDS:
                msg = f"{tp.topic}/{tp.partition} gives nothing from offset {position} on"
                raise KafkaUnavailable(msg)
