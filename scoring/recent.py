"""The events that a partition decided lately: one that is sent again is not decided again."""

import hashlib
import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from scoring.byte_strings import ByteStrings
from scoring.bytewise.strings import packed
from scoring.compiled import SMALLS_OUT, compiles, part

DIGEST_BYTES = 8
_REPEATED, _CONFLICTING = 1, 2
_FIRST, _BEHIND, _COUNT = range(3)
_ROOM = 4
"""Places of the table for each event that is known: it is never as much as half full."""

_WORDS_IN = types.Array(types.uint64, 1, "C", readonly=True)
_PLACES = types.int32[::1]
_STATE = types.int64[::1]
_WORDS = types.uint64[::1]

Strings = Iterable[bytes | None] | NDArray[np.uint64]
"""Strings of whole words, or their words side by side."""


def event_digest(value: bytes) -> bytes:
    """Name an event's content: 8 bytes of BLAKE2b over its value as it came."""
    return hashlib.blake2b(value, digest_size=DIGEST_BYTES).digest()


class SortedOut(NamedTuple):
    """Rows of a poll whose event came before: with the same content, and with another."""

    repeated: NDArray[np.intp]
    conflicting: NDArray[np.intp]


class RecentEvents:
    """
    The last `size` decided events of one partition: decision id to the digest of its content.

    Neither safe for threads nor stored anywhere: it is read back from the decisions' topic.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        places = 1 << (2 * _ROOM * max(size, 1) - 1).bit_length()
        # An event is in a slot of its own, in the order of deciding; the table says in which one.
        self._slots = np.zeros((2 * size, 3), np.uint64)
        self._table = np.zeros(places, np.int32)
        self._live = np.zeros(2 * size, np.uint8)
        self._state = np.zeros(3, np.int64)  # first slot, slot behind the last, events
        # Who sends events chooses their ids, and must not choose where they stand.
        self._salt = secrets.randbits(64) | 1

    def __len__(self) -> int:
        return int(self._state[_COUNT])

    def remember(self, ids: Strings, digests: Strings) -> None:
        """Take in what was decided, in its order; the oldest beyond the size is forgotten."""
        if self._size:
            _remember(
                words_of(ids),
                words_of(digests),
                self._size,
                np.uint64(self._salt),
                self._slots.reshape(-1),
                self._table,
                self._live,
                self._state,
            )

    def sort_out(self, ids: Strings, digests: Strings) -> SortedOut:
        """Find the rows that came before, here or further up among themselves; nothing changes."""
        wanted, contents = words_of(ids), words_of(digests)
        found = np.zeros(len(contents), np.uint8)
        _sort_out(
            wanted,
            contents,
            np.uint64(self._salt),
            self._slots.reshape(-1),
            self._table,
            self._live,
            self._state,
            np.zeros(1 << (_ROOM * len(contents)).bit_length(), np.int32),
            found,
        )
        return SortedOut(np.flatnonzero(found == _REPEATED), np.flatnonzero(found == _CONFLICTING))


def words_of(strings: Strings) -> NDArray[np.uint64]:
    """Lay strings of whole words side by side; words stay as they are."""
    if isinstance(strings, np.ndarray):
        return strings
    return packed(ByteStrings.of(strings)).data.view(np.uint64)


@part
def _place_of(high: Any, low: Any, salt: Any, slots: Any, table: Any) -> Any:
    """Give the place in the table where an id stands or would stand."""
    mask = len(table) - 1
    place = np.int64(((high ^ salt) * salt) >> np.uint64(16)) & mask
    while table[place]:
        slot = 3 * (np.int64(table[place]) - 1)
        if slots[slot] == high and slots[slot + 1] == low:
            break
        place = (place + 1) & mask
    return place


@part
def _close_gaps(salt: Any, slots: Any, table: Any, live: Any, state: Any) -> None:
    """Move what is known to the first slots."""
    table[:] = 0
    into = 0
    for slot in range(state[_FIRST], state[_BEHIND]):
        if live[slot]:
            for word in range(3):
                slots[3 * into + word] = slots[3 * slot + word]
            live[into] = 1
            place = _place_of(slots[3 * into], slots[3 * into + 1], salt, slots, table)
            table[place] = into + 1
            into += 1
    state[_FIRST], state[_BEHIND] = 0, into


@compiles(
    types.void(
        *(_WORDS_IN, _WORDS_IN, types.int64, types.uint64),
        *(_WORDS, _PLACES, SMALLS_OUT, _STATE),
    )
)
def _remember(
    ids: Any,
    digests: Any,
    size: Any,
    salt: Any,
    slots: Any,
    table: Any,
    live: Any,
    state: Any,
) -> None:
    for row in range(len(digests)):
        if state[_BEHIND] == len(live):
            _close_gaps(salt, slots, table, live, state)
        high, low = ids[2 * row], ids[2 * row + 1]
        place = _place_of(high, low, salt, slots, table)
        if table[place]:
            # Anew, so that it is the youngest.
            before = np.int64(table[place]) - 1
            if before >= state[_FIRST] and live[before]:
                live[before] = 0
                state[_COUNT] -= 1
        slot = state[_BEHIND]
        slots[3 * slot], slots[3 * slot + 1], slots[3 * slot + 2] = high, low, digests[row]
        live[slot] = 1
        table[place] = slot + 1
        state[_BEHIND] += 1
        state[_COUNT] += 1
        while state[_COUNT] > size:
            state[_COUNT] -= live[state[_FIRST]]
            state[_FIRST] += 1


@compiles(
    types.void(
        *(_WORDS_IN, _WORDS_IN, types.uint64),
        *(_WORDS, _PLACES, SMALLS_OUT, _STATE),
        *(_PLACES, SMALLS_OUT),
    )
)
def _sort_out(
    ids: Any,
    digests: Any,
    salt: Any,
    slots: Any,
    table: Any,
    live: Any,
    state: Any,
    rows: Any,
    found: Any,
) -> None:
    mask = len(rows) - 1
    for row in range(len(digests)):
        high, low = ids[2 * row], ids[2 * row + 1]
        slot = np.int64(table[_place_of(high, low, salt, slots, table)]) - 1
        if slot >= state[_FIRST] and live[slot]:
            same = slots[3 * slot + 2] == digests[row]
            found[row] = _REPEATED if same else _CONFLICTING
            continue
        place = np.int64(((high ^ salt) * salt) >> np.uint64(16)) & mask
        while rows[place]:
            first = np.int64(rows[place]) - 1
            if ids[2 * first] == high and ids[2 * first + 1] == low:
                found[row] = _REPEATED if digests[first] == digests[row] else _CONFLICTING
                break
            place = (place + 1) & mask
        if not rows[place]:
            rows[place] = row + 1
