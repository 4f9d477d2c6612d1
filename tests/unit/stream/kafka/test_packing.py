"""Packed batches against aiokafka's own, and read by it."""

from itertools import pairwise
from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from scoring.byte_strings import ByteStrings
from stream.kafka.packing import (
    OutColumns,
    OutRecord,
    PackedBatch,
    RecordTooLarge,
    pack,
    pack_one,
    pack_parts,
)
from tests.packed import unpacked

BYTES = st.binary(max_size=300)
NAMES = st.text(st.characters(codec="utf-8"), max_size=5)


@st.composite
def columns(draw: st.DrawFn) -> OutColumns:
    count = draw(st.integers(1, 6))

    def column(strings: st.SearchStrategy[Any]) -> ByteStrings:
        return ByteStrings.of(draw(st.lists(strings, min_size=count, max_size=count)))

    return OutColumns(
        keys=column(st.none() | BYTES),
        values=column(st.none() | BYTES),
        constant=draw(st.lists(st.tuples(NAMES, BYTES), max_size=3)),
        headers=[(draw(NAMES), column(st.none() | BYTES)) for _ in range(draw(st.integers(0, 3)))],
        timestamp_ms=draw(st.integers(0, 2**48)),
    )


def told(record: OutRecord) -> tuple[Any, ...]:
    return record.key, record.value, list(record.headers), record.timestamp_ms


@given(columns())
def test_records_are_read_as_they_were_packed(records: OutColumns) -> None:
    (one,) = pack("t", records)

    assert one.count == len(records)
    assert list(map(told, unpacked(one))) == list(map(told, records))


@given(columns(), st.data())
def test_parts_are_packed_as_they_would_be_alone(records: OutColumns, data: st.DataObject) -> None:
    inner = data.draw(st.lists(st.integers(0, len(records)), max_size=3).map(sorted))
    cuts = [0, *inner, len(records)]

    parts = pack_parts("t", records, cuts)

    every = list(map(told, records))
    read = [[told(record) for one in part for record in unpacked(one)] for part in parts]
    assert read == [every[first:end] for first, end in pairwise(cuts)]
    assert all(one.count for part in parts for one in part)


@given(BYTES, st.integers(0, 2**48))
def test_a_value_alone_is_packed_as_among_others(value: bytes, timestamp_ms: int) -> None:
    none = ByteStrings.of([None])
    columns = OutColumns(none, ByteStrings.of([value]), [], [], timestamp_ms)

    assert [pack_one("t", value, timestamp_ms)] == pack("t", columns)


@given(columns(), st.integers(400, 1_500))
def test_batches_are_no_larger_than_asked(records: OutColumns, largest: int) -> None:
    alone = [record_size(record) for record in records]
    if max(alone) > largest - 61:  # the head of a batch
        with pytest.raises(RecordTooLarge) as refused:
            pack("t", records, largest)
        assert (refused.value.topic, refused.value.size > largest) == ("t", True)
        return

    largest = max(largest, max(alone) + 200)
    found = pack("t", records, largest)

    sizes = []
    for one in found:
        content = MemoryRecords(bytes(PackedBatch(one, transactional=False)._build()))
        batch = content.next_batch()
        assert batch is not None
        sizes.append(sum(record_size(record) for record in batch))
    assert max(sizes) <= largest
    together = [told(record) for one in found for record in unpacked(one)]
    assert together == list(map(told, records))


def record_size(record: Any) -> int:
    """At least so many bytes a record takes."""
    headers = sum(len(name.encode()) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def test_many_records_have_offsets_one_after_the_other() -> None:
    count = 20_000
    values = ByteStrings.of(b"%d" % number for number in range(count))
    records = OutColumns(ByteStrings.of([None] * count), values, [("name", b"text")], [], 7)

    found = pack("t", records, 100_000)

    assert len(found) > 1
    read = [record.value for one in found for record in unpacked(one)]
    assert read == list(values)


def test_a_batch_tells_who_made_it_and_of_which_transaction() -> None:
    one = pack_one("t", b"value", 5)
    batch = PackedBatch(one, transactional=True)
    assert batch.record_count() == 1
    assert batch.closed()

    batch._set_producer_state(17, 3, 40)
    content = bytes(batch._build())

    assert len(content) == batch.size()
    found = MemoryRecords(content).next_batch()
    assert found is not None
    assert found.validate_crc()
    assert found.is_transactional
    assert (found.producer_id, found.producer_epoch, found.base_sequence) == (17, 3, 40)
    assert (found.first_timestamp, found.max_timestamp) == (5, 5)
    assert batch._build() is batch._build()


def test_a_value_alone_that_is_too_large_is_refused() -> None:
    with pytest.raises(RecordTooLarge, match=r"a record of \d+ bytes for t exceeds 900000"):
        pack_one("t", b"x" * 1_000_000, 0)
