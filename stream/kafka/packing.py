"""Records as Kafka holds them: a poll's as columns, packed into whole record batches."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import cramjam
import numpy as np
from aiokafka.record.default_records import DefaultRecordBase
from aiokafka.record.util import calc_crc32c
from numba import types

from scoring.byte_strings import ByteStrings
from scoring.bytewise import words
from scoring.bytewise.strings import packed
from scoring.bytewise.words import copy_bytes, put_byte
from scoring.compiled import BYTES, BYTES_OUT, LONGS, LONGS_OUT, STRINGS, compiles, part
from scoring.poll import Headers

MAX_BATCH_BYTES = 900_000
"""Of what a broker takes by default: 1,048,588 bytes."""

_HEADER = DefaultRecordBase.HEADER_STRUCT
_CHECKED_FROM = DefaultRecordBase.ATTRIBUTES_OFFSET
_CHECKSUM = struct.Struct(">I")
_MAGIC = 2
_NO_KEY = b"\0\0\0\1"
_LONGEST_OFFSET = 5
# Level 1 of 12: the others take longer and save little of what is mostly names and digits.
_LEVEL = 1

_TABLE = types.Array(types.int64, 2, "C", readonly=True)


class OutRecord(NamedTuple):
    """One record to publish; `timestamp_ms` is in milliseconds since 1970."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


class RecordTooLarge(Exception):
    """A record does not fit into a request that the broker takes."""

    def __init__(self, topic: str, size: int, largest: int) -> None:
        msg = f"a record of {size} bytes for {topic} exceeds {largest}"
        super().__init__(msg)
        self.topic = topic
        self.size = size


@dataclass(frozen=True, slots=True, eq=False)
class OutColumns:
    """
    n records of one time to publish, as columns.

    Each has the headers that are `constant`, then one of each of `headers`, unless it is null.
    """

    keys: ByteStrings
    values: ByteStrings
    constant: Sequence[tuple[str, bytes]]
    headers: Sequence[tuple[str, ByteStrings]]
    timestamp_ms: int

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[OutRecord]:
        columns = [column for _, column in self.headers]
        names = [name for name, _ in self.headers]
        for key, value, *own in zip(self.keys, self.values, *columns, strict=True):
            of_record = [one for one in zip(names, own, strict=True) if one[1] is not None]
            headers: list[tuple[str, bytes | None]] = [*self.constant, *of_record]
            yield OutRecord(key, value, headers, self.timestamp_ms)


@dataclass(frozen=True, slots=True)
class PackedRecords:
    """The records of one batch, compressed; all are of one time, ms since 1970."""

    payload: bytes
    count: int
    timestamp_ms: int


class PackedBatch:
    """Packed records in the place of aiokafka's `BatchBuilder`, with no more room."""

    def __init__(self, records: PackedRecords, *, transactional: bool) -> None:
        self._records = records
        self._attributes = DefaultRecordBase.CODEC_LZ4
        if transactional:
            self._attributes |= DefaultRecordBase.TRANSACTIONAL_MASK
        self._producer: tuple[int, ...] = (-1, -1, -1)  # id, epoch, first sequence number
        self._content: bytearray | None = None

    def _set_producer_state(self, *producer: int) -> None:
        self._producer = producer

    def _build(self) -> bytearray:
        if self._content is None:
            payload, count = self._records.payload, self._records.count
            behind_length = _HEADER.size - DefaultRecordBase.AFTER_LEN_OFFSET
            fields = [0, behind_length + len(payload), 0, _MAGIC, 0, self._attributes, count - 1]
            times = [self._records.timestamp_ms] * 2
            content = bytearray(_HEADER.pack(*fields, *times, *self._producer, count) + payload)
            checksum = calc_crc32c(memoryview(content)[_CHECKED_FROM:])
            _CHECKSUM.pack_into(content, DefaultRecordBase.CRC_OFFSET, checksum)
            self._content = content
        return self._content

    def size(self) -> int:
        """Give the batch's size in bytes."""
        return int(_HEADER.size) + len(self._records.payload)

    def record_count(self) -> int:
        """Give how many records it holds."""
        return self._records.count

    def closed(self) -> bool:
        """Say that nothing can be added."""
        return True

    def close(self) -> None:
        """Add nothing any more, as before."""


def pack(topic: str, columns: OutColumns, largest: int = MAX_BATCH_BYTES) -> list[PackedRecords]:
    """
    Pack records into batches of at most `largest` bytes before compression.

    Raises RecordTooLarge.
    """
    return pack_parts(topic, columns, [0, len(columns)], largest)[0]


def pack_parts(
    topic: str, columns: OutColumns, cuts: Sequence[int], largest: int = MAX_BATCH_BYTES
) -> list[list[PackedRecords]]:
    """Pack as `pack` does, part by part: the i-th is from `cuts[i]` to before `cuts[i + 1]`."""
    keys, values = columns.keys, columns.values
    own = [packed(column) for _, column in columns.headers]
    before = np.cumsum([0, *(len(column.data) for column in own)])[: len(own)]
    starts = [column.starts + shift for column, shift in zip(own, before, strict=True)]
    names = ByteStrings.of(_name(name) for name, _ in columns.headers)
    constant = b"".join(_name(name) + _varint(len(text)) + text for name, text in columns.constant)
    shape = len(own), len(values)
    given = (
        *(keys.data, keys.starts, keys.lengths),
        *(values.data, values.starts, values.lengths),
        np.frombuffer(constant, np.uint8),
        len(columns.constant),
        *(names.data, names.starts, names.lengths),
        np.concatenate([column.data for column in own] or [names.data]),
        np.array(starts, np.int64).reshape(shape),
        np.array([column.lengths for column in own], np.int64).reshape(shape),
    )
    sizes = np.empty(len(values), np.int64)
    _measure(*given, sizes)
    ends = np.cumsum(sizes + _LONGEST_OFFSET)
    parts = []
    for first, end in pairwise(cuts):
        found: list[PackedRecords] = []
        while first < end:
            before_first = int(ends[first - 1]) if first else 0
            last = int(np.searchsorted(ends, before_first + largest - _HEADER.size, side="right"))
            last = min(last, end)
            if last == first:
                size = int(sizes[first]) + _LONGEST_OFFSET + _HEADER.size
                raise RecordTooLarge(topic, size, largest)
            out = np.empty(int(ends[last - 1]) - before_first, np.uint8)
            written = _pack(*given, sizes, first, last, out)
            payload = _compressed(out[:written].tobytes())
            found.append(PackedRecords(payload, last - first, columns.timestamp_ms))
            first = last  # noqa: PLW2901 - within its part
        parts.append(found)
    return parts


def pack_one(topic: str, value: bytes, timestamp_ms: int) -> PackedRecords:
    """Pack one record that is a value alone; raises RecordTooLarge."""
    # No attributes, no time and no offset from the batch's, no key; behind the value no headers.
    record = _NO_KEY + _varint(len(value)) + value + _varint(0)
    record = _varint(len(record)) + record
    size = len(record) + _HEADER.size
    if size > MAX_BATCH_BYTES:
        raise RecordTooLarge(topic, size, MAX_BATCH_BYTES)
    return PackedRecords(_compressed(record), 1, timestamp_ms)


def _compressed(content: bytes) -> bytes:
    # Brokers take no linked blocks (KIP-57).
    compressor = cramjam.lz4.Compressor(level=_LEVEL, content_checksum=False, block_linked=False)
    compressor.compress(content)
    return bytes(compressor.finish())


@lru_cache(64)
def _name(name: str) -> bytes:
    text = name.encode()
    return _varint(len(text)) + text


def _varint(value: int) -> bytes:
    """Give an int64 as Kafka's zigzag varint."""
    rest = (value << 1) ^ (value >> 63)
    found = bytearray()
    while rest >= 128:
        found.append(rest & 127 | 128)
        rest >>= 7
    found.append(rest)
    return bytes(found)


@part
def _varint_size(value: Any) -> Any:
    rest = np.uint64((value << 1) ^ (value >> 63))
    size = 1
    while rest >= np.uint64(128):
        rest >>= np.uint64(7)
        size += 1
    return size


@part
def _put_varint(out: Any, at: Any, value: Any) -> Any:
    """Write an int64 as Kafka's zigzag varint; give where it ends."""
    rest = np.uint64((value << 1) ^ (value >> 63))
    while rest >= np.uint64(128):
        put_byte(out, at, np.int64(rest & np.uint64(127)) | 128)
        rest >>= np.uint64(7)
        at += 1
    put_byte(out, at, np.int64(rest))
    return at + 1


@part
def _put_string(out: Any, at: Any, data: Any, start: Any, length: Any) -> Any:
    """Write a length, -1 for a null, and so many bytes; give where they end."""
    at = _put_varint(out, at, length)
    length = max(length, 0)
    copy_bytes(out, at, data, start, length)
    return at + length


@part
def _string_size(length: Any) -> Any:
    return _varint_size(length) + max(length, 0)


_COLUMNS = (*STRINGS, *STRINGS, BYTES, types.int64, *STRINGS, BYTES, _TABLE, _TABLE)


@compiles(types.void(*_COLUMNS, LONGS_OUT), words)
def _measure(
    keys: Any,
    key_starts: Any,
    key_lengths: Any,
    values: Any,
    value_starts: Any,
    value_lengths: Any,
    constant: Any,
    constants: Any,
    names: Any,
    name_starts: Any,
    name_lengths: Any,
    headers: Any,
    header_starts: Any,
    header_lengths: Any,
    sizes: Any,
) -> None:
    """Give each record's size, but for the offset within its batch."""
    for row in range(len(sizes)):
        size = 2 + _string_size(key_lengths[row]) + _string_size(value_lengths[row])
        count = constants
        for column in range(len(name_starts)):
            length = header_lengths[column, row]
            if length >= 0:
                size += name_lengths[column] + _string_size(length)
                count += 1
        size += len(constant) + _varint_size(count)
        sizes[row] = size + _varint_size(size + _LONGEST_OFFSET)


@compiles(types.int64(*_COLUMNS, LONGS, types.int64, types.int64, BYTES_OUT), words)
def _pack(
    keys: Any,
    key_starts: Any,
    key_lengths: Any,
    values: Any,
    value_starts: Any,
    value_lengths: Any,
    constant: Any,
    constants: Any,
    names: Any,
    name_starts: Any,
    name_lengths: Any,
    headers: Any,
    header_starts: Any,
    header_lengths: Any,
    sizes: Any,
    first: Any,
    last: Any,
    out: Any,
) -> Any:
    at = np.int64(0)
    for row in range(first, last):
        # The length stands before all else, and depends on what comes behind it.
        count, of_headers = constants, np.int64(len(constant))
        for column in range(len(name_starts)):
            length = header_lengths[column, row]
            if length >= 0:
                of_headers += name_lengths[column] + _string_size(length)
                count += 1
        size = 2 + _varint_size(row - first) + _varint_size(count) + of_headers
        size += _string_size(key_lengths[row]) + _string_size(value_lengths[row])
        at = _put_varint(out, at, np.int64(size))
        put_byte(out, at, 0)  # attributes
        put_byte(out, at + 1, 0)  # time since the batch's
        at = _put_varint(out, at + 2, row - first)
        at = _put_string(out, at, keys, key_starts[row], key_lengths[row])
        at = _put_string(out, at, values, value_starts[row], value_lengths[row])
        at = _put_varint(out, at, count)
        copy_bytes(out, at, constant, 0, len(constant))
        at += len(constant)
        for column in range(len(name_starts)):
            length = header_lengths[column, row]
            if length >= 0:
                copy_bytes(out, at, names, name_starts[column], name_lengths[column])
                at += name_lengths[column]
                at = _put_string(out, at, headers, header_starts[column, row], length)
    return at
