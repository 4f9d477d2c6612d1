"""
What Arrow streams of one kind of record batch have in common, taken from one of pyarrow's.

Of a batch of so many columns the metadata always have the same length; only numbers in it differ.
(Arrow's columnar format, "Encapsulated message format"; the metadata are FlatBuffers.)
"""

import struct
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

END = b"\xff\xff\xff\xff\0\0\0\0"
"""Ends a stream."""

_PREFIX = struct.Struct("<II")  # a mark, and the length of the metadata
_RECORD_BATCH = 3
# Fields of a message and of a record batch, by number.
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_ROWS, _NODES, _BUFFERS = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Frame:
    """
    All of a stream before its record batch's body.

    The others are positions in `head` of what is to be set, int64 each: the number of rows, the
    body's length, of each node its length and nulls, of each buffer its place in the body and its
    length.
    """

    head: NDArray[np.uint8]
    rows: int
    body_length: int
    nodes: int
    buffers: int


def frame_of(example: pa.RecordBatch) -> Frame:
    """Take the frame of batches with the schema and the dictionaries of one that has a row."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, example.schema) as writer:
        writer.write_batch(example)
    stream = sink.getvalue().to_pybytes()
    at = 0
    while True:
        _, length = _PREFIX.unpack_from(stream, at)
        metadata = at + _PREFIX.size
        message = _referred(stream, metadata)
        body_length = _field(stream, message, _BODY_LENGTH)
        body = metadata + length
        if stream[_field(stream, message, _HEADER_TYPE)] == _RECORD_BATCH:
            break
        # A body of no bytes is not written down.
        at = body + (_number(stream, body_length, "<q") if body_length else 0)
    batch = _referred(stream, _field(stream, message, _HEADER))
    nodes, buffers = (_referred(stream, _field(stream, batch, at)) for at in (_NODES, _BUFFERS))
    return Frame(
        np.frombuffer(stream[:body], np.uint8),
        _field(stream, batch, _ROWS),
        body_length,
        nodes + 4,  # behind how many there are
        buffers + 4,
    )


def _field(stream: bytes, table: int, number: int) -> int:
    """Find a field of a table of FlatBuffers; 0 where it is not written down."""
    offsets = table - _number(stream, table, "<i")
    at = 4 + 2 * number
    if at >= _number(stream, offsets, "<H"):
        return 0
    offset = _number(stream, offsets + at, "<H")
    return table + offset if offset else 0


def _referred(stream: bytes, at: int) -> int:
    return at + _number(stream, at, "<I")


def _number(stream: bytes, at: int, kind: str) -> int:
    (found,) = struct.unpack_from(kind, stream, at)
    return int(found)
