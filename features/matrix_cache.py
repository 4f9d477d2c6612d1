"""A feature table laid out as it is used, in a file beside its Parquet file: mapped, not parsed."""

import hashlib
import mmap
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.schema import FeatureSchema
from features.snapshot import load_snapshot, snapshot_digest
from features.table import FeatureTable
from features.whole_file import whole_file

SUFFIX = ".matrix"
_VERSION = 1
_ALIGNED = 64
# Another version's, or another byte order's, is another mark.
_MARK = f"creditstream matrix {_VERSION} {sys.byteorder}".encode().ljust(32, b"\0")
_BODY = len(_MARK) + hashlib.sha256().digest_size
_LENGTH = 8


@dataclass(frozen=True, slots=True)
class OpenedTable:
    """A table, and why other workers cannot share its memory; empty where they can."""

    table: FeatureTable
    unshared: str = ""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What the arrays are that follow: keys, the rows' dates where `dated`, matrix.

    `snapshot` is the sha256 that the Parquet file names, `schema` the schema's digest, which is of
    all names in their order; `keys` is the keys' NumPy type.
    """

    snapshot: str
    schema: str
    as_of: datetime
    rows: int
    keys: str
    dated: bool


def open_table(path: Path, schema: FeatureSchema) -> OpenedTable:
    """
    Open a Parquet file's feature table, from the file `<name>.matrix` beside it where that is its.

    Else the Parquet file is loaded and the other written for the next to open, whole or not at
    all; where it cannot be written (a folder for reading only, a full disk), the table stays in
    this process's own memory. Raises SnapshotRefused, as `load_snapshot` does and for the same
    files.

    It is its where it names the sha256 that this moment's bytes of the Parquet file have, and its
    own bytes have the sha256 that it begins with. Both are taken each time, since neither size,
    inode nor time of change shows a damaged byte: 0.2 s each for 270 MB, of which no byte has to
    be parsed. What was opened is not looked at again, and must never be written into: replace it,
    as this does, and who has the old one keeps it.
    """
    kept = path.with_name(path.name + SUFFIX)
    table = _mapped(kept, schema)
    if table is not None and table.digest == snapshot_digest(path):
        return OpenedTable(table)
    table = load_snapshot(path, schema)
    digest = table.digest
    try:
        _write(kept, table)
    except OSError as error:
        return OpenedTable(table, f"{kept} cannot be written: {error}")
    # Its memory goes before the same again is mapped.
    del table
    table = _mapped(kept, schema)
    if table is not None and table.digest == digest:
        return OpenedTable(table)
    return OpenedTable(load_snapshot(path, schema), f"{kept} is not what was written there")


def _write(path: Path, table: FeatureTable) -> None:
    assert table.as_of is not None  # every file has one
    dates = table.row_as_of_us
    header = msgspec.json.encode(
        _Header(
            snapshot=table.digest,
            schema=table.schema.digest,
            as_of=table.as_of,
            rows=len(table),
            keys=table.keys.dtype.str,
            dated=dates is not None,
        )
    )
    arrays = [table.keys, *([] if dates is None else [dates]), table.matrix]
    parts: list[bytes | memoryview] = [
        len(header).to_bytes(_LENGTH, "little") + header,
        *(array.reshape(-1).view(np.uint8).data for array in arrays),
    ]
    digest = hashlib.sha256()
    for part in _padded(parts):
        digest.update(part)
    with whole_file(path) as unfinished, unfinished.open("xb") as file:
        file.write(_MARK + digest.digest())
        for part in _padded(parts):
            file.write(part)


def _mapped(path: Path, schema: FeatureSchema) -> FeatureTable | None:
    """Map a table of this schema; None where the file is missing, damaged or another's."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size <= _BODY + _LENGTH:
                return None
            # Shared with every process that maps it; unmapped when the last array of it goes.
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError:
        return None
    mark, named, body = content[: len(_MARK)], content[len(_MARK) : _BODY], content[_BODY:]
    if mark != _MARK or hashlib.sha256(body).digest() != named:
        return None
    length = int.from_bytes(body[:_LENGTH], "little")
    header = msgspec.json.decode(body[_LENGTH : _LENGTH + length], type=_Header)
    if header.schema != schema.digest:
        return None
    at = _end_of(_LENGTH + length)

    def following(kind: str, *shape: int) -> NDArray[Any]:
        nonlocal at
        found: NDArray[Any] = np.ndarray(shape, kind, body, at)
        at = _end_of(at + found.nbytes)
        return found

    keys = following(header.keys, header.rows)
    dates = following("=i8", header.rows) if header.dated else None
    return FeatureTable(
        schema,
        keys,
        following("=f4", header.rows, len(schema.names)),
        as_of=header.as_of,
        row_as_of_us=dates,
        digest=header.snapshot,
    )


def _end_of(offset: int) -> int:
    return -(-offset // _ALIGNED) * _ALIGNED


def _padded(parts: list[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    for part in parts:
        yield part
        yield bytes(_end_of(len(part)) - len(part))
