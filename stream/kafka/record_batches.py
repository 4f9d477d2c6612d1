"""Kafka's record batches read as columns: no object for a record, a key or a header."""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBase
from aiokafka.record.util import calc_crc32c
from numba import types
from numpy.typing import NDArray

from scoring.byte_strings import ByteStrings
from scoring.bytewise import words
from scoring.bytewise.words import byte_at
from scoring.compiled import BYTES, LONGS_OUT, compiles, part
from scoring.poll import HeaderColumns

NO_PRODUCER = -1

_HEADER = DefaultRecordBase.HEADER_STRUCT
_LENGTH = struct.Struct(">qi")  # of a batch, behind its first offset
_MAGIC_AT, _MAGIC = 16, 2
_SHORTEST_RECORD = 7
_SHORTEST_HEADER = 2
_LOG_APPEND_TIME = DefaultRecordBase.TIMESTAMP_TYPE_MASK
_DECOMPRESS: dict[int, Callable[[Any], bytes]] = {
    DefaultRecordBase.CODEC_NONE: bytes,
    DefaultRecordBase.CODEC_GZIP: gzip_decode,
    DefaultRecordBase.CODEC_SNAPPY: snappy_decode,
    DefaultRecordBase.CODEC_LZ4: lz4_decode,
    DefaultRecordBase.CODEC_ZSTD: zstd_decode,
}


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """
    n records of a partition, in offset order; times are in milliseconds since 1970.

    Keys, values and headers are stretches of the same buffer.
    """

    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    keys: ByteStrings
    values: ByteStrings
    headers: HeaderColumns

    def __len__(self) -> int:
        return len(self.offsets)

    def rows(self, first: int, end: int) -> "RecordColumns":
        """Give the records at positions from `first` to before `end`."""
        part = slice(first, end)
        return RecordColumns(
            self.offsets[part],
            self.timestamps_ms[part],
            self.keys[part],
            self.values[part],
            HeaderColumns(
                self.headers.firsts[first : end + 1], self.headers.names, self.headers.values
            ),
        )


def columns_of_records(records: Iterable[Any]) -> RecordColumns:
    """Lay records that are read already side by side: objects with the fields of aiokafka's."""
    found = list(records)
    headers = HeaderColumns.of(one.headers for one in found)
    columns = [
        ByteStrings.of(one.key for one in found),
        ByteStrings.of(one.value for one in found),
        headers.names,
        headers.values,
    ]
    data = np.concatenate([one.data for one in columns])
    before = np.cumsum([0, *(len(one.data) for one in columns)])
    keys, values, names, texts = (
        ByteStrings(data, one.starts + shift, one.lengths)
        for one, shift in zip(columns, before[:-1], strict=True)
    )
    return RecordColumns(
        np.array([one.offset for one in found], np.int64),
        np.array([one.timestamp for one in found], np.int64),
        keys,
        values,
        HeaderColumns(headers.firsts, names, texts),
    )


def joined(parts: Sequence[RecordColumns]) -> RecordColumns:
    """Lay records one after the other."""
    if len(parts) == 1:
        return parts[0]
    # Each part's columns share one buffer, which is copied once.
    data = np.concatenate([one.values.data for one in parts])
    before = np.cumsum([0, *(len(one.values.data) for one in parts)])

    def together(columns: Iterable[ByteStrings]) -> ByteStrings:
        found = list(columns)
        starts = [one.starts + shift for one, shift in zip(found, before[:-1], strict=True)]
        lengths = [one.lengths for one in found]
        return ByteStrings(data, np.concatenate(starts), np.concatenate(lengths))

    firsts, headers = [np.zeros(1, np.int64)], 0
    for one in parts:
        own = one.headers.firsts
        firsts.append(own[1:] - own[0] + headers)
        headers += int(own[-1] - own[0])
    rows = [slice(int(one.headers.firsts[0]), int(one.headers.firsts[-1])) for one in parts]
    return RecordColumns(
        np.concatenate([one.offsets for one in parts]),
        np.concatenate([one.timestamps_ms for one in parts]),
        together(one.keys for one in parts),
        together(one.values for one in parts),
        HeaderColumns(
            np.concatenate(firsts),
            together(one.headers.names[own] for one, own in zip(parts, rows, strict=True)),
            together(one.headers.values[own] for one, own in zip(parts, rows, strict=True)),
        ),
    )


class RecordBatch:
    """A batch of message format 2, as it lies in what a fetch brought."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        (
            self.base_offset,
            _,
            _,
            _,
            self._checksum,
            self._attributes,
            self._last_offset_delta,
            self._first_timestamp,
            self._last_timestamp,
            self.producer_id,
            _,
            _,
            self.count,
        ) = _HEADER.unpack_from(content)

    @property
    def next_offset(self) -> int:
        """The offset behind the batch's last, also where that record is gone."""
        return int(self.base_offset + self._last_offset_delta + 1)

    @property
    def is_control(self) -> bool:
        """Whether it is a marker at a transaction's end."""
        return bool(self._attributes & DefaultRecordBase.CONTROL_MASK)

    @property
    def is_transactional(self) -> bool:
        """Whether it is of a transaction."""
        return bool(self._attributes & DefaultRecordBase.TRANSACTIONAL_MASK)

    def is_whole(self) -> bool:
        """Say whether its checksum is right."""
        checked = self._content[DefaultRecordBase.ATTRIBUTES_OFFSET :]
        return bool(calc_crc32c(checked) == self._checksum)

    def columns(self) -> RecordColumns:
        """Read its records; raises CorruptRecordException where they are none."""
        codec = self._attributes & DefaultRecordBase.CODEC_MASK
        if codec not in _DECOMPRESS:
            msg = f"a batch is compressed in way {codec}, which Kafka does not have"
            raise CorruptRecordException(msg)
        payload = _DECOMPRESS[codec](self._content[_HEADER.size :])
        return _columns_of(np.frombuffer(payload, np.uint8), self)

    def times(self, deltas: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the times of records from what they say themselves."""
        if self._attributes & _LOG_APPEND_TIME:
            return np.full(len(deltas), self._last_timestamp, np.int64)
        return deltas + np.int64(self._first_timestamp)


def batches_of(content: memoryview) -> Iterator[RecordBatch | memoryview]:
    """
    Give the batches of a fetch, which may end within one; one of an older format as its bytes.

    Raises CorruptRecordException for a length that no batch has.
    """
    at = 0
    while len(content) - at >= _LENGTH.size:
        _, length = _LENGTH.unpack_from(content, at)
        end = at + _LENGTH.size + length
        if end > len(content):
            return
        batch = content[at:end]
        if len(batch) > _MAGIC_AT and batch[_MAGIC_AT] != _MAGIC:
            yield batch
        elif len(batch) < _HEADER.size:
            msg = f"a batch of {len(batch)} bytes"
            raise CorruptRecordException(msg)
        else:
            yield RecordBatch(batch)
        at = end


def _columns_of(data: NDArray[np.uint8], batch: RecordBatch) -> RecordColumns:
    count = batch.count
    if not 0 <= count <= len(data) // _SHORTEST_RECORD:
        msg = f"a batch of {len(data)} bytes says that it holds {count} records"
        raise CorruptRecordException(msg)
    longs = np.empty((6, count), np.int64)
    deltas, times, key_starts, key_lengths, value_starts, value_lengths = longs
    firsts = np.zeros(count + 1, np.int64)
    room = 8 * count + 1
    while True:
        headers = np.empty((4, room), np.int64)
        name_starts, name_lengths, text_starts, text_lengths = headers
        found = _read_records(data, *longs, firsts, *headers)
        if found < 0:
            msg = "a batch's records are not what their lengths say"
            raise CorruptRecordException(msg)
        if found <= room:
            break
        room = int(found)
    return RecordColumns(
        deltas + batch.base_offset,
        batch.times(times),
        ByteStrings(data, key_starts, key_lengths),
        ByteStrings(data, value_starts, value_lengths),
        HeaderColumns(
            firsts,
            ByteStrings(data, name_starts[:found], name_lengths[:found]),
            ByteStrings(data, text_starts[:found], text_lengths[:found]),
        ),
    )


@part
def _varint(data: Any, at: Any, end: Any) -> Any:
    """Read a zigzag varint of at most ten bytes: its value and its end, -1 where there is none."""
    value, shift = np.uint64(0), np.uint64(0)
    while at < end and shift < np.uint64(64):
        byte = byte_at(data, at)
        at += 1
        value |= np.uint64(byte & 127) << shift
        if byte < 128:
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), at
        shift += np.uint64(7)
    return np.int64(0), np.int64(-1)


@part
def _string(data: Any, at: Any, end: Any) -> Any:
    """Read the length of a string that is whole, -1 for a null: its start, length and end."""
    length, at = _varint(data, at, end)
    if at < 0 or length < -1 or length > end - at:
        return np.int64(0), np.int64(0), np.int64(-1)
    return at, length, at + max(length, 0)


@compiles(
    types.int64(
        BYTES,
        *(LONGS_OUT, LONGS_OUT, LONGS_OUT, LONGS_OUT, LONGS_OUT, LONGS_OUT),
        LONGS_OUT,
        *(LONGS_OUT, LONGS_OUT, LONGS_OUT, LONGS_OUT),
    ),
    words,
)
def _read_records(
    data: Any,
    deltas: Any,
    times: Any,
    key_starts: Any,
    key_lengths: Any,
    value_starts: Any,
    value_lengths: Any,
    firsts: Any,
    name_starts: Any,
    name_lengths: Any,
    text_starts: Any,
    text_lengths: Any,
) -> Any:
    """Read all records; give how many headers they have, or -1 where they are damaged."""
    at, headers = np.int64(0), np.int64(0)
    for row in range(len(deltas)):
        length, at = _varint(data, at, len(data))
        if at < 0 or length < 1 or length > len(data) - at:
            return np.int64(-1)
        end = at + length
        times[row], at = _varint(data, at + 1, end)  # behind attributes that say nothing
        if at < 0:
            return np.int64(-1)
        deltas[row], at = _varint(data, at, end)
        if at < 0:
            return np.int64(-1)
        key_starts[row], key_lengths[row], at = _string(data, at, end)
        if at < 0:
            return np.int64(-1)
        value_starts[row], value_lengths[row], at = _string(data, at, end)
        if at < 0:
            return np.int64(-1)
        count, at = _varint(data, at, end)
        if at < 0 or count < 0 or count > (end - at) // _SHORTEST_HEADER:
            return np.int64(-1)
        for _ in range(count):
            name_start, name_length, at = _string(data, at, end)
            if at < 0 or name_length < 0:
                return np.int64(-1)
            text_start, text_length, at = _string(data, at, end)
            if at < 0:
                return np.int64(-1)
            if headers < len(name_starts):
                name_starts[headers], name_lengths[headers] = name_start, name_length
                text_starts[headers], text_lengths[headers] = text_start, text_length
            headers += 1
        firsts[row + 1] = headers
        at = end
    return headers
