"""Batches read as columns against aiokafka's reader; damaged ones refused."""

from random import Random
from typing import Any

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.record_batches import RecordBatch, RecordColumns, batches_of, joined
from tests.batches import RawBatch

CODECS = [
    DefaultRecordBatch.CODEC_NONE,
    DefaultRecordBatch.CODEC_GZIP,
    DefaultRecordBatch.CODEC_SNAPPY,
    DefaultRecordBatch.CODEC_LZ4,
    DefaultRecordBatch.CODEC_ZSTD,
]
BYTES = st.none() | st.binary(max_size=70)
HEADERS = st.lists(st.tuples(st.text(max_size=5), BYTES), max_size=12)
RECORDS = st.lists(st.tuples(BYTES, BYTES, HEADERS, st.integers(0, 2**45)), min_size=1, max_size=9)


def built(records: Any, codec: int = 0, first_offset: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, 0, 10_000_000)
    for number, (key, value, headers, timestamp) in enumerate(records):
        builder.append(number, timestamp, key, value, headers)
    content = bytearray(builder.build())
    content[:8] = first_offset.to_bytes(8, "big")
    return bytes(content)


def read(content: bytes) -> RecordColumns:
    return joined([columns_of(batch) for batch in batches_of(memoryview(content))])


def columns_of(batch: Any) -> RecordColumns:
    assert isinstance(batch, RecordBatch)
    assert batch.is_whole()
    return batch.columns()


def told(columns: RecordColumns) -> list[tuple[Any, ...]]:
    rows = zip(
        columns.offsets.tolist(),
        columns.timestamps_ms.tolist(),
        columns.keys,
        columns.values,
        map(list, columns.headers),
        strict=True,
    )
    return list(rows)


def by_aiokafka(content: bytes) -> list[tuple[Any, ...]]:
    records, found = MemoryRecords(content), []
    while records.has_next():
        batch = records.next_batch()
        assert batch is not None
        found += [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in batch]
    return found


@given(st.lists(st.tuples(RECORDS, st.sampled_from(CODECS)), min_size=1, max_size=3))
def test_records_are_read_as_aiokafka_reads_them(batches: Any) -> None:
    content = b"".join(
        built(records, codec, 100 * number) for number, (records, codec) in enumerate(batches)
    )

    assert told(read(content)) == by_aiokafka(content)


@given(RECORDS, st.data())
def test_rows_of_columns_are_those_records(records: Any, data: st.DataObject) -> None:
    columns = read(built(records))
    first = data.draw(st.integers(0, len(records)))
    end = data.draw(st.integers(first, len(records)))

    part = columns.rows(first, end)

    assert told(part) == told(columns)[first:end]
    assert told(joined([part, columns])) == told(part) + told(columns)


def test_a_batch_that_the_fetch_cut_is_none_yet() -> None:
    content = built([(b"k", b"v", [], 1)])

    assert len(list(batches_of(memoryview(content + content[:-1])))) == 1


def test_what_in_a_headers_name_is_no_text_is_shown() -> None:
    batch = RawBatch()
    batch.add(b"k", b"v", [(b"\xff", b"h")], 1)

    (found,) = told(read(bytes(batch._build())))

    assert found[-1] == [("\\xff", b"h")]


def test_damaged_batches_are_refused_or_read_but_nothing_else_happens() -> None:
    random = Random(5)
    headers = [("name", b"text"), ("n", None)]
    records = [(b"key", b"value" * 9, headers, 1_000 + number) for number in range(4)]
    content = built(records)
    refused = 0
    for _ in range(20_000):
        damaged = bytearray(content)
        for _ in range(random.choice([1, 1, 2, 5])):
            damaged[random.randrange(57, len(damaged))] = random.randrange(256)
        batch = RecordBatch(memoryview(bytes(damaged)))
        assert not batch.is_whole() or bytes(damaged) == content
        try:
            told(batch.columns())
        except CorruptRecordException:
            refused += 1
    assert refused > 5_000


@pytest.mark.parametrize("count", [-1, 5, 2**31 - 1])
def test_a_number_of_records_that_cannot_be_is_refused(count: int) -> None:
    content = bytearray(built([(b"k", b"v", [], 1)]))
    content[57:61] = count.to_bytes(4, "big", signed=True)

    with pytest.raises(CorruptRecordException):
        RecordBatch(memoryview(bytes(content))).columns()


def test_a_batch_shorter_than_its_head_and_an_unknown_compression_are_refused() -> None:
    with pytest.raises(CorruptRecordException):
        list(batches_of(memoryview(bytes(8) + (20).to_bytes(4, "big") + bytes([0] * 4 + [2] * 16))))
    content = bytearray(built([(b"k", b"v", [], 1)]))
    content[22] |= 7
    with pytest.raises(CorruptRecordException, match="way 7"):
        RecordBatch(memoryview(bytes(content))).columns()
