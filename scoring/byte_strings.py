"""Many byte strings in one buffer: the columns of keys, values, names and texts of a poll."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

Positions = Sequence[int] | NDArray[np.integer[Any]] | NDArray[np.bool_]

_NULL = -1


@dataclass(frozen=True, slots=True, eq=False)
class ByteStrings(Sequence[bytes | None]):
    """
    n byte strings, each a stretch of `data`, which they share and may overlap in; some are null.

    `data` is uint8, C-contiguous; `starts` and `lengths` are int64[n]; a null has the length -1.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, strings: Iterable[bytes | None]) -> "ByteStrings":
        """Lay strings one after the other; columns stay as they are."""
        if isinstance(strings, ByteStrings):
            return strings
        found = list(strings)
        sizes = [_NULL if one is None else len(one) for one in found]
        starts = [0, *accumulate(max(0, size) for size in sizes)][: len(found)]
        data = np.frombuffer(b"".join(filter(None, found)), np.uint8)
        return cls(data, np.array(starts, np.int64), np.array(sizes, np.int64))

    @classmethod
    def of_width(cls, rows: NDArray[np.uint8]) -> "ByteStrings":
        """Take the rows of uint8[n, width], C-contiguous, for strings of one width."""
        count, width = rows.shape
        starts = np.arange(count, dtype=np.int64) * width
        return cls(rows.reshape(-1), starts, np.full(count, width, np.int64))

    @classmethod
    def joined(cls, columns: "Sequence[ByteStrings]") -> "ByteStrings":
        """Lay the strings of several columns one after the other, each buffer but once."""
        buffers: dict[int, NDArray[np.uint8]] = {}
        begins: dict[int, int] = {}
        end = 0
        for column in columns:
            if id(column.data) not in buffers:
                buffers[id(column.data)] = column.data
                begins[id(column.data)] = end
                end += len(column.data)
        return cls(
            np.concatenate(list(buffers.values())),
            np.concatenate([column.starts + begins[id(column.data)] for column in columns]),
            np.concatenate([column.lengths for column in columns]),
        )

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, at: int) -> bytes | None: ...

    @overload
    def __getitem__(self, at: slice) -> "ByteStrings": ...

    def __getitem__(self, at: int | slice) -> "bytes | ByteStrings | None":
        if isinstance(at, slice):
            return ByteStrings(self.data, self.starts[at], self.lengths[at])
        start, length = int(self.starts[at]), int(self.lengths[at])
        return None if length == _NULL else self.data[start : start + length].tobytes()

    def __iter__(self) -> Iterator[bytes | None]:
        data = memoryview(self.data)  # type: ignore[arg-type] # NumPy's stubs hide its buffer
        for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True):
            yield None if length == _NULL else data[start : start + length].tobytes()

    def at(self, rows: Positions) -> "ByteStrings":
        """Give the strings at some positions, or where a mask says so."""
        picked = np.asarray(rows, dtype=None if len(rows) else np.intp)
        return ByteStrings(self.data, self.starts[picked], self.lengths[picked])

    def texts(self) -> list[str | None]:
        """Give the strings as text; raises UnicodeDecodeError where one is not UTF-8."""
        return [None if one is None else one.decode() for one in self]

    def size(self) -> int:
        """Give the bytes of all strings together."""
        return int(np.maximum(self.lengths, 0).sum())

    def with_some(self, rows: Sequence[int], strings: Sequence[bytes | None]) -> "ByteStrings":
        """Give the strings with others at some rows."""
        if not len(rows):
            return self
        others = ByteStrings.of(strings)
        starts, lengths = self.starts.copy(), self.lengths.copy()
        starts[rows] = others.starts + len(self.data)
        lengths[rows] = others.lengths
        return ByteStrings(np.concatenate((self.data, others.data)), starts, lengths)
