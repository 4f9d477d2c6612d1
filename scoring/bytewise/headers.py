"""What the headers of a poll's events say: who sent each, and the trace it belongs to."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from scoring.byte_strings import ByteStrings
from scoring.bytewise import words
from scoring.bytewise.words import byte_at, copy_bytes
from scoring.compiled import BYTES, BYTES_OUT, FLAGS_OUT, LONGS, LONGS_OUT, STRINGS, compiles, part
from scoring.poll import HeaderColumns

_SOURCE = np.frombuffer(b"ce_source", np.uint8)
_TRACE = np.frombuffer(b"traceparent", np.uint8)
_LONGEST_SOURCE = 256
_TRACE_LENGTH = 55
_DASHES = (2, 35, 52)
_DASH = 45


@dataclass(frozen=True, slots=True)
class Envelopes:
    """
    What `scoring.envelope.read_envelope` reads of n events, as columns.

    Rows that are `odd` name a source that is not plain ASCII: it is to be read there.
    """

    sources: ByteStrings
    traceparents: ByteStrings
    odd: NDArray[np.bool_]


def envelopes_of(headers: HeaderColumns, topic: str) -> Envelopes:
    """Read the headers of n events of a topic."""
    count, names, values = len(headers), headers.names, headers.values
    topic_name = np.frombuffer(topic.encode(), np.uint8)
    sources = np.empty(len(topic_name) * count + values.size(), np.uint8)
    starts, lengths = np.empty((2, count), np.int64), np.empty((2, count), np.int64)
    odd = np.zeros(count, bool)
    _read_envelopes(
        headers.firsts,
        *(names.data, names.starts, names.lengths),
        *(values.data, values.starts, values.lengths),
        _SOURCE,
        _TRACE,
        topic_name,
        sources,
        *(starts[0], lengths[0], starts[1], lengths[1]),
        odd,
    )
    return Envelopes(
        ByteStrings(sources, starts[0], lengths[0]),
        ByteStrings(values.data, starts[1], lengths[1]),
        odd,
    )


@part
def _is(data: Any, start: Any, length: Any, word: Any) -> Any:
    if length != len(word):
        return False
    for at in range(length):
        if byte_at(data, start + at) != byte_at(word, at):
            return False
    return True


@part
def _is_plain(data: Any, start: Any, length: Any) -> Any:
    if not 0 < length <= _LONGEST_SOURCE:
        return False
    for at in range(start, start + length):
        byte = byte_at(data, at)
        if byte < 32 or byte >= 127:
            return False
    return True


@part
def _is_trace(data: Any, start: Any, length: Any) -> Any:
    """Say whether it is of W3C's Trace Context, version 00."""
    if length != _TRACE_LENGTH or byte_at(data, start) != 48 or byte_at(data, start + 1) != 48:
        return False
    for at in range(2, length):
        byte = byte_at(data, start + at)
        if at in _DASHES:
            if byte != _DASH:
                return False
        elif not (48 <= byte <= 57 or 97 <= byte <= 102):
            return False
    return True


@compiles(
    types.void(
        LONGS,
        *STRINGS,
        *STRINGS,
        *(BYTES, BYTES, BYTES),
        BYTES_OUT,
        *(LONGS_OUT, LONGS_OUT, LONGS_OUT, LONGS_OUT),
        FLAGS_OUT,
    ),
    words,
)
def _read_envelopes(
    firsts: Any,
    names: Any,
    name_starts: Any,
    name_lengths: Any,
    values: Any,
    value_starts: Any,
    value_lengths: Any,
    source: Any,
    trace: Any,
    topic: Any,
    sources: Any,
    source_starts: Any,
    source_lengths: Any,
    trace_starts: Any,
    trace_lengths: Any,
    odd: Any,
) -> None:
    end = np.int64(0)
    for row in range(len(firsts) - 1):
        found = -1
        trace_starts[row], trace_lengths[row] = 0, -1
        for at in range(firsts[row], firsts[row + 1]):
            start, length = value_starts[at], value_lengths[at]
            if length < 0:
                continue
            if _is(names, name_starts[at], name_lengths[at], source):
                odd[row] |= not _is_plain(values, start, length)
                found = at
            elif _is(names, name_starts[at], name_lengths[at], trace) and _is_trace(
                values, start, length
            ):
                trace_starts[row], trace_lengths[row] = start, length
        source_starts[row] = end
        if found < 0:
            copy_bytes(sources, end, topic, 0, len(topic))
            end += len(topic)
        else:
            copy_bytes(sources, end, values, value_starts[found], value_lengths[found])
            end += value_lengths[found]
        source_lengths[row] = end - source_starts[row]
