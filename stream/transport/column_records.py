"""What a fetch brought of a partition, given out as columns: aiokafka's records but for objects."""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords

from stream.kafka.record_batches import (
    NO_PRODUCER,
    RecordBatch,
    RecordColumns,
    batches_of,
    columns_of_records,
    joined,
)


class ByColumns:
    """In the place of a consumer's deserializer of keys: it wants no records, but columns."""


class ColumnRecords(PartitionRecords):  # type: ignore[misc] # untyped library
    """
    A partition's part of a fetch, batch by batch; what was aborted is left out.

    Raises CorruptRecordException where a batch is damaged.
    """

    def __init__(self, tp: Any, records: Any, aborted: Any, fetch_offset: int, *given: Any) -> None:
        super().__init__(tp, records, aborted, fetch_offset, *given)
        # The base's own iterator, which holds what was fetched in a circle, is for records.
        self._records_iterator = None
        self._parts: Iterator[tuple[RecordColumns | None, int]] = self._read(
            batches_of(records.content)
        )
        self._part: RecordColumns | None = None
        self._behind = fetch_offset
        self._begun = False

    def has_more(self) -> bool:
        """Say whether there are records that were not taken."""
        return self._part is not None or not self._begun

    def take(self, most: int | None) -> RecordColumns | None:
        """Give so many records at most; None where there are none any more."""
        if not self._begun:  # not before: who makes this could not tell of damage
            self._begun = True
            self._advance()
        taken: list[RecordColumns] = []
        room = most
        while self._part is not None and room != 0:
            part = self._part
            if room is not None and len(part) > room:
                self._part = part.rows(room, len(part))
                part = part.rows(0, room)
                self.next_fetch_offset = int(part.offsets[-1]) + 1
            else:
                self.next_fetch_offset = self._behind
                self._advance()
            taken.append(part)
            room = None if room is None else room - len(part)
        return joined(taken) if taken else None

    def _advance(self) -> None:
        """Read the next batch that has records, and be behind all that have none."""
        self._part = None
        for part, behind in self._parts:
            self._behind = behind
            if part is not None and len(part):
                self._part = part
                return
            self.next_fetch_offset = behind
        self._parts = iter(())  # another circle

    def _read(
        self, batches: Iterator[RecordBatch | memoryview]
    ) -> Iterator[tuple[RecordColumns | None, int]]:
        """Read batches: their records, if they are any of ours, and the offset behind each."""
        for batch in batches:
            if not isinstance(batch, RecordBatch):
                part = self._of_older_format(batch)
                yield self._from_position(part), int(part.offsets[-1]) + 1
                continue
            if self._check_crcs and not batch.is_whole():
                self._refuse()
            left_out = self._is_left_out(batch)
            yield None if left_out else self._from_position(batch.columns()), batch.next_offset

    def _is_left_out(self, batch: RecordBatch) -> bool:
        if self._isolation_level == READ_COMMITTED and batch.producer_id != NO_PRODUCER:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control and _is_abort(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return batch.is_control

    def _from_position(self, part: RecordColumns) -> RecordColumns:
        """Leave out what lies before the position: a batch may begin before it."""
        first = int(part.offsets.searchsorted(self.next_fetch_offset))
        return part.rows(first, len(part)) if first else part

    def _of_older_format(self, batch: memoryview) -> RecordColumns:
        read = MemoryRecords(bytes(batch)).next_batch()
        if read is None or (self._check_crcs and not read.validate_crc()):
            self._refuse()
        found = columns_of_records(list(read))
        if not len(found):
            self._refuse()
        return found

    def _refuse(self) -> None:
        msg = f"a batch of {self._tp} from {self.next_fetch_offset} on is damaged"
        raise CorruptRecordException(msg)


class ColumnResult(FetchResult):  # type: ignore[misc] # untyped library
    """A fetch's result that gives columns out at once, where those are wanted."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Any]:
        """Give the records there are, or a list of their columns."""
        records = self._partition_records
        if not isinstance(records, ColumnRecords):
            found: list[Any] = super().getall(max_records)
            return found
        if not self.check_assignment(self._topic_partition):
            return []
        columns = records.take(max_records)
        self._update_position()
        if not records.has_more():
            self._partition_records = None
        return [] if columns is None else [columns]


def records_of_fetch(
    tp: Any, records: Any, aborted: Any, offset: int, key_deserializer: Any, *given: Any
) -> PartitionRecords:
    """Make what gives out the records of a fetch, in the way that its consumer wants them."""
    kind = ColumnRecords if isinstance(key_deserializer, ByColumns) else PartitionRecords
    return kind(tp, records, aborted, offset, key_deserializer, *given)


def _is_abort(batch: RecordBatch) -> bool:
    keys = batch.columns().keys
    return bool(len(keys) and ControlRecord.parse(keys[0]) == ABORT_MARKER)
