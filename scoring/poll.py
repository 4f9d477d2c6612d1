"""What one poll brought of one partition, as the core takes it."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from scoring.byte_strings import ByteStrings

# Kafka lets a header be null.
Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True, eq=False)
class HeaderColumns(Sequence[Headers]):
    r"""
    The headers of n records: those of record i are the rows `firsts[i]` to `firsts[i + 1]`.

    `firsts` is int64[n + 1]; what in a name is no UTF-8 becomes `\xff` where it is read as text.
    """

    firsts: NDArray[np.int64]
    names: ByteStrings
    values: ByteStrings

    @classmethod
    def of(cls, records: Iterable[Headers]) -> "HeaderColumns":
        """Lay the headers of records one after the other; columns stay as they are."""
        if isinstance(records, HeaderColumns):
            return records
        found = list(records)
        firsts = np.zeros(len(found) + 1, np.int64)
        np.cumsum([len(headers) for headers in found], out=firsts[1:])
        each = [header for headers in found for header in headers]
        # What was no UTF-8 is none of the names that anybody looks for.
        names = ByteStrings.of(name.encode(errors="replace") for name, _ in each)
        return cls(firsts, names, ByteStrings.of(value for _, value in each))

    @classmethod
    def joined(cls, columns: "Sequence[HeaderColumns]") -> "HeaderColumns":
        """Lay the records of several columns one after the other."""
        counts = np.concatenate([np.diff(one.firsts) for one in columns])
        firsts = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=firsts[1:])
        # What lies before the first header of a column's first record is nobody's.
        own = [slice(int(one.firsts[0]), int(one.firsts[-1])) for one in columns]
        return cls(
            firsts,
            ByteStrings.joined([one.names[rows] for one, rows in zip(columns, own, strict=True)]),
            ByteStrings.joined([one.values[rows] for one, rows in zip(columns, own, strict=True)]),
        )

    def __len__(self) -> int:
        return len(self.firsts) - 1

    @overload
    def __getitem__(self, at: int) -> Headers: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Headers]: ...

    def __getitem__(self, at: int | slice) -> Headers | Sequence[Headers]:
        if isinstance(at, slice):
            return [self[row] for row in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        at %= len(self)
        rows = slice(int(self.firsts[at]), int(self.firsts[at + 1]))
        names = ((name or b"").decode(errors="backslashreplace") for name in self.names[rows])
        return list(zip(names, self.values[rows], strict=True))

    def size(self) -> int:
        """Give the bytes of all names and values together."""
        return self.names.size() + self.values.size()


@dataclass(frozen=True)
class Poll:
    """The records that one poll brought of one partition, as columns of n rows, in offset order."""

    topic: str
    partition: int
    offsets: Sequence[int] | NDArray[np.int64]
    produced_at_ms: Sequence[int] | NDArray[np.int64]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers]

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def nbytes(self) -> int:
        """The bytes of keys, values and headers."""
        columns = ByteStrings.of(self.keys), ByteStrings.of(self.values)
        return sum(map(ByteStrings.size, columns)) + HeaderColumns.of(self.headers).size()

    @classmethod
    def joined(cls, polls: "Sequence[Poll]") -> "Poll":
        """
        Lay polls of one topic one after the other, under the first one's partition.

        It is a poll again where they are of one partition and follow one another.
        """
        first, *more = polls
        if not more:
            return first
        return cls(
            first.topic,
            first.partition,
            np.concatenate([np.asarray(poll.offsets, np.int64) for poll in polls]),
            np.concatenate([np.asarray(poll.produced_at_ms, np.int64) for poll in polls]),
            ByteStrings.joined([ByteStrings.of(poll.keys) for poll in polls]),
            ByteStrings.joined([ByteStrings.of(poll.values) for poll in polls]),
            HeaderColumns.joined([HeaderColumns.of(poll.headers) for poll in polls]),
        )

    def since(self, offset: int) -> "Poll":
        """Give the records from an offset on."""
        at = bisect_left(self.offsets, offset)
        return self.at(range(at, len(self))) if at else self

    def at(self, positions: Sequence[int]) -> "Poll":
        """Give the records at some positions."""
        return Poll(
            self.topic,
            self.partition,
            [int(self.offsets[at]) for at in positions],
            [int(self.produced_at_ms[at]) for at in positions],
            [self.keys[at] for at in positions],
            [self.values[at] for at in positions],
            [self.headers[at] for at in positions],
        )
