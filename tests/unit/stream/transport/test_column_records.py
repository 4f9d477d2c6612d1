"""A fetch's records as columns against aiokafka's: positions, transactions, old formats."""

from random import Random
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from faust.types import TP

from stream.transport.column_records import ByColumns, ColumnRecords, records_of_fetch
from stream.transport.readable_records import ReadableRecords
from tests.unit.stream.kafka.test_record_batches import told

PLACE = TP("t", 0)
_ATTRIBUTES, _CONTROL = 22, 0x20


def batch(
    first: int, count: int, producer: int = -1, *, transactional: bool = False, marker: bytes = b""
) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, int(transactional), producer, 0, 0, 1_000_000)
    for number in range(count):
        key = marker or b"k%d" % (first + number)
        builder.append(number, 1_000 + number, key, b"v%d" % (first + number), [("h", b"x")])
    content = bytearray(builder.build())
    content[:8] = first.to_bytes(8, "big")
    if marker:
        content[_ATTRIBUTES] |= _CONTROL
    return checked(content)


def checked(content: bytearray) -> bytes:
    content[17:21] = calc_crc32c(bytes(content[21:])).to_bytes(4, "big")
    return bytes(content)


ABORT = bytes(4)
COMMIT = b"\x00\x00\x00\x01"


def old(first: int, count: int) -> bytes:
    found = b""
    for number in range(first, first + count):
        builder = LegacyRecordBatchBuilder(1, 0, 1_000_000)
        builder.append(number, 1_000 + number, b"k%d" % number, b"v%d" % number)
        found += bytes(builder.build())
    return found


def columns_of(content: bytes, offset: int, aborted: Any, level: int, most: int | None) -> Any:
    records = records_of_fetch(
        PLACE, ReadableRecords(content), aborted, offset, ByColumns(), None, True, level
    )
    assert isinstance(records, ColumnRecords)
    found = []
    while records.has_more():
        part = records.take(most)
        if part is not None:
            assert most is None or len(part) <= most
            found += told(part)
            assert records.next_fetch_offset > part.offsets[-1]
    return found, records.next_fetch_offset


def by_aiokafka(content: bytes, offset: int, aborted: Any, level: int) -> Any:
    records = records_of_fetch(
        PLACE, ReadableRecords(content), aborted, offset, None, None, True, level
    )
    assert type(records) is PartitionRecords
    found = [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in records]
    return found, records.next_fetch_offset


def test_any_mixture_is_given_out_as_by_aiokafka() -> None:
    random = Random(3)
    for _ in range(400):
        content, at, aborted = b"", random.randrange(50), []
        # aiokafka reads no fetch that holds batches of both formats.
        kinds = random.choice([["old"], ["plain", "sent", "aborted", "marker"]])
        for _ in range(random.randrange(1, 7)):
            kind, count = random.choice(kinds), 1
            if kind == "marker":
                marker = random.choice([ABORT, COMMIT])
                content += batch(at, 1, 9, transactional=True, marker=marker)
            else:
                count = random.randrange(1, 5)
                if kind == "old":
                    content += old(at, count)
                else:
                    producer = -1 if kind == "plain" else 9
                    content += batch(at, count, producer, transactional=producer == 9)
                if kind == "aborted":
                    aborted.append((9, at))
            at += count + random.choice([0, 0, 3])
        offset = random.randrange(at)
        level = random.choice([READ_COMMITTED, READ_UNCOMMITTED])
        wanted = by_aiokafka(content, offset, aborted, level)
        for most in (None, 1, 3):
            assert columns_of(content, offset, aborted, level, most) == wanted


def test_damage_is_told_when_records_are_taken_and_not_before() -> None:
    content = bytearray(batch(0, 2))
    content[-1] ^= 1
    records = ColumnRecords(
        PLACE, ReadableRecords(bytes(content)), [], 0, ByColumns(), None, True, READ_COMMITTED
    )

    with pytest.raises(CorruptRecordException, match="is damaged"):
        records.take(None)
    assert records.next_fetch_offset == 0
    assert not records.has_more()
