"""Fetched records whose headers have names that are no text."""

from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from stream.transport.readable_records import ReadableRecords
from tests.batches import RawBatch

ODD = b"\xff\xfename"


def built(*names: bytes) -> bytes:
    """A batch of records 0, 1, …, each with a header of that name."""
    batch = RawBatch()
    for number, name in enumerate(names):
        batch.add(b"k%d" % number, b"v%d" % number, [(name, b"h"), (b"n", None)], 1_000 + number)
    batch.close()
    return bytes(batch._build())


def fetched(records: Any) -> list[Any]:
    partition = TP("t", 0)
    return list(PartitionRecords(partition, records, [], 0, None, None, True, READ_COMMITTED))


def test_a_record_with_such_a_name_ends_a_fetch_where_nothing_is_done_about_it() -> None:
    with pytest.raises(UnicodeDecodeError):
        fetched(MemoryRecords(built(b"n", ODD, b"n")))


@pytest.mark.parametrize("names", [(ODD,), (b"n", ODD, b"n"), (ODD, b"caf\xc3\xa9", ODD, b"")])
def test_all_records_are_read_and_what_is_no_text_is_shown(names: tuple[bytes, ...]) -> None:
    records = fetched(ReadableRecords(built(*names)))

    assert [one.offset for one in records] == list(range(len(names)))
    assert [one.key for one in records] == [b"k%d" % number for number in range(len(names))]
    assert [one.value for one in records] == [b"v%d" % number for number in range(len(names))]
    assert [one.timestamp for one in records] == [1_000 + number for number in range(len(names))]
    assert [list(one.headers) for one in records] == [
        [(name.decode(errors="backslashreplace"), b"h"), ("n", None)] for name in names
    ]


def test_batches_follow_one_another_as_they_were_fetched() -> None:
    content = built(b"n", ODD) + built(b"n") + built(ODD)
    records, plain = ReadableRecords(content), MemoryRecords(content)

    assert records.size_in_bytes() == plain.size_in_bytes()
    sizes = []
    while records.has_next():
        batch, as_it_was = records.next_batch(), plain.next_batch()
        assert batch.validate_crc()
        assert as_it_was is not None
        assert (batch.base_offset, batch.crc) == (as_it_was.base_offset, as_it_was.crc)
        sizes.append(len(list(batch)))
    assert sizes == [2, 1, 1]
    assert records.next_batch() is None


def test_half_a_batch_is_none() -> None:
    whole = built(b"n")

    assert not ReadableRecords(whole[:-1]).has_next()
    assert len(fetched(ReadableRecords(whole + whole[:40]))) == 1
