"""What one poll brought of one partition, as the core takes it."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

# Kafka lets a header be null.
Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Poll:
    """The records that one poll brought of one partition, as columns of n rows, in offset order."""

    topic: str
    partition: int
    offsets: Sequence[int]
    produced_at_ms: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers]

    def __len__(self) -> int:
        return len(self.offsets)

    def size(self) -> int:
        """Give the bytes of keys, values and headers."""
        records = sum(len(one) for column in (self.keys, self.values) for one in column if one)
        headers = (header for of_record in self.headers for header in of_record)
        return records + sum(len(name) + len(text or b"") for name, text in headers)

    def since(self, offset: int) -> "Poll":
        """Give the records from an offset on."""
        at = bisect_left(self.offsets, offset)
        return self.at(range(at, len(self))) if at else self

    def at(self, positions: Sequence[int]) -> "Poll":
        """Give the records at some positions."""
        return Poll(
            self.topic,
            self.partition,
            [self.offsets[at] for at in positions],
            [self.produced_at_ms[at] for at in positions],
            [self.keys[at] for at in positions],
            [self.values[at] for at in positions],
            [self.headers[at] for at in positions],
        )
