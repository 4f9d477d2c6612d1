"""What one poll brought of one partition, as the core takes it."""

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
