"""A Parquet file that names its own sha256, so that every byte of it counts."""

import hashlib
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

_DIGEST = b"creditstream.sha256"
# Stands in the file while its digest is taken, as the digest cannot be of itself.
_NO_DIGEST = b"0" * 64
_ROW_GROUP = 16_384
_CHUNK = 1 << 20
_END = b"PAR1"
_LARGEST_FOOTER = 256 << 20


class SealBroken(Exception):
    """A file is no Parquet file, names no sha256, or has another than it names; says which."""


def write_sealed(path: Path, table: pa.Table, metadata: dict[bytes, bytes]) -> None:
    """Write a table with metadata and the sha256 of all of it."""
    with pq.ParquetWriter(
        path, table.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        writer.write_table(table, row_group_size=_ROW_GROUP)
        writer.add_key_value_metadata(metadata | {_DIGEST: _NO_DIGEST})
    with path.open("r+b") as file:
        place = _place_of_digest(file)
        digest = _digest(file, place)
        file.seek(place)
        file.write(digest)


def check_seal(file: BinaryIO) -> str:
    """
    Hold a file against the sha256 that it names, before anything reads it; give that, in hex.

    Leaves the file at its beginning. Raises SealBroken.
    """
    place = _place_of_digest(file)
    file.seek(place)
    named = file.read(len(_NO_DIGEST))
    if _digest(file, place) != named:
        msg = "is damaged: its sha256 is not the one it names"
        raise SealBroken(msg)
    file.seek(0)
    return named.decode()


def _digest(file: BinaryIO, place: int) -> bytes:
    """Take the sha256, in hex, of a file as if `_NO_DIGEST` stood at `place`."""
    found = hashlib.sha256()
    file.seek(0)
    left = place
    while left and (chunk := file.read(min(left, _CHUNK))):
        found.update(chunk)
        left -= len(chunk)
    found.update(_NO_DIGEST)
    file.seek(place + len(_NO_DIGEST))
    while chunk := file.read(_CHUNK):
        found.update(chunk)
    return found.hexdigest().encode()


def _place_of_digest(file: BinaryIO) -> int:
    """
    Find the digest's offset in a Parquet file.

    The file ends in its metadata, their length, and a mark; Thrift's compact protocol writes a
    key's text, then one byte each of the value's type and length, then its text.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - len(_END) - 4))
    length, mark = file.read(4), file.read(len(_END))
    start = size - len(_END) - 4 - int.from_bytes(length, "little")
    if mark != _END or start < 0:
        msg = f"no Parquet file, or a truncated one: {size} bytes"
        raise SealBroken(msg)
    if size - start > _LARGEST_FOOTER:
        msg = f"no feature table: its metadata have more than {_LARGEST_FOOTER} bytes"
        raise SealBroken(msg)
    file.seek(start)
    footer = file.read(size - start)
    found = footer.rfind(_DIGEST)
    place = found + len(_DIGEST) + 2
    if found < 0 or place + len(_NO_DIGEST) > len(footer):
        msg = f"no feature table: its metadata lack {_DIGEST.decode()}"
        raise SealBroken(msg)
    return start + place
