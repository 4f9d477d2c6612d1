"""The events that a partition decided lately: one that is sent again is not decided again."""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

_DIGEST_BYTES = 8


def event_digest(value: bytes) -> bytes:
    """Name an event's content: 8 bytes of BLAKE2b over its value as it came."""
    return hashlib.blake2b(value, digest_size=_DIGEST_BYTES).digest()


class SortedOut(NamedTuple):
    """Rows of a poll whose event came before: with the same content, and with another."""

    repeated: frozenset[int]
    conflicting: frozenset[int]


class RecentEvents:
    """
    The last `size` decided events of one partition: decision id to the digest of its content.

    Neither safe for threads nor stored anywhere: it is read back from the decisions' topic.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._digests: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._digests)

    def remember(self, ids: Iterable[bytes], digests: Iterable[bytes]) -> None:
        """Take in what was decided, in its order; the oldest beyond the size is forgotten."""
        for identity, digest in zip(ids, digests, strict=True):
            # Anew, so that it is the youngest.
            self._digests.pop(identity, None)
            self._digests[identity] = digest
        for oldest in list(islice(self._digests, max(0, len(self._digests) - self._size))):
            del self._digests[oldest]

    def sort_out(self, ids: Sequence[bytes], digests: Sequence[bytes]) -> SortedOut:
        """Find the rows that came before, here or further up among themselves; nothing changes."""
        repeated: set[int] = set()
        conflicting: set[int] = set()
        first_rows: dict[bytes, int] = {}
        for row, (identity, digest) in enumerate(zip(ids, digests, strict=True)):
            known = self._digests.get(identity)
            if known is None:
                first = first_rows.setdefault(identity, row)
                if first == row:
                    continue
                known = digests[first]
            (repeated if known == digest else conflicting).add(row)
        return SortedOut(frozenset(repeated), frozenset(conflicting))
