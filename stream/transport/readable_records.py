"""
What a fetch brought, readable whatever its headers are called.

aiokafka reads the name of a header as UTF-8 and raises where it is none, in the middle of a batch:
one record of a foreign client would end every worker that reads its partition.
"""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any, SupportsIndex

from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_LENGTH = struct.Struct(">qi")  # of a batch, behind its first offset


class ReadableRecords:
    r"""aiokafka's `MemoryRecords`; what in a header's name is no UTF-8 becomes `\xff`."""

    def __init__(self, content: bytes) -> None:
        self._records = MemoryRecords(content)
        self._content = memoryview(content)
        self._at = 0

    @property
    def content(self) -> memoryview:
        """All bytes of the fetch."""
        return self._content

    def size_in_bytes(self) -> int:
        """Give the size of all batches."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """Say whether there is another whole batch."""
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        """Give the next batch; None where there is none."""
        batch = self._records.next_batch()
        if batch is None:
            return None
        begin = self._at
        _, length = _LENGTH.unpack_from(self._content, begin)
        self._at = begin + _LENGTH.size + length
        return _Batch(batch, self._content[begin : self._at])


class _Batch:
    """A batch as aiokafka's fetcher asks for it."""

    __slots__ = ("_batch", "_content")

    def __init__(self, batch: Any, content: memoryview) -> None:
        self._batch = batch
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                read += 1
                yield record
        except UnicodeDecodeError:
            yield from islice(_LenientBatch(self._content), read, None)


class _LenientBytes(bytearray):
    """Bytes whose parts are decoded without fail."""

    def __getitem__(self, at: SupportsIndex | slice) -> Any:
        found = super().__getitem__(at)
        return found if isinstance(found, int) else _LenientBytes(found)

    def decode(self, encoding: str = "utf-8", _: str = "strict") -> str:
        return super().decode(encoding, "backslashreplace")


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc] # untyped library
    """aiokafka's own reader in Python, which is slow, and needed for such a batch alone."""

    _buffer: bytearray

    def __iter__(self) -> "_LenientBatch":
        super().__iter__()
        self._buffer = _LenientBytes(self._buffer)
        return self
