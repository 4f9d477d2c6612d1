"""A feature table's Parquet file: written whole with digests, read whole or refused by name."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.schema import FeatureSchema
from features.table import FeatureTable, TableInvalid, encoded_keys, order_of
from features.whole_file import whole_file

_SCHEMA_DIGEST = b"creditstream.schema_digest"
_AS_OF = b"creditstream.as_of"
_KEY = b"creditstream.key"
_ROWS = b"creditstream.rows"
_DIGEST = b"creditstream.sha256"
# Stands in the file while its digest is taken, as the digest cannot be of itself.
_NO_DIGEST = b"0" * 64
_ROW_GROUP = 16_384
_CHUNK = 1 << 20
_END = b"PAR1"


class SnapshotRefused(Exception):
    """A file is not the feature table that it should be; says which file and why."""

    def __init__(self, path: Path, reason: str, columns: tuple[str, ...] = ()) -> None:
        msg = f"{path}: {reason}"
        super().__init__(msg)
        self.path = path
        self.reason = reason
        self.columns = columns


@dataclass(frozen=True, slots=True)
class _Description:
    """What a file says of itself in its metadata."""

    key: str
    schema_digest: str
    as_of: datetime
    rows: int


def write_snapshot(
    path: Path,
    key: str,
    keys: NDArray[np.int64] | NDArray[np.str_],
    matrix: NDArray[np.float32],
    schema: FeatureSchema,
    as_of: datetime,
) -> None:
    """
    Write a feature table: one key column and float32 features; the file appears whole.

    `as_of` is aware. Raises TableInvalid for keys and a matrix that make no table.
    """
    order_of(encoded_keys(keys))
    if as_of.tzinfo is None:
        msg = f"as_of {as_of} has no time zone"
        raise TableInvalid(msg)
    if matrix.shape != (len(keys), len(schema.names)) or key in schema.names:
        msg = f"{len(keys)} keys {key!r} and {matrix.shape} values make no table of this schema"
        raise TableInvalid(msg)
    numbers = keys.astype(np.int64) if keys.dtype.kind == "i" else keys
    columns = [pa.array(numbers)]
    columns += [pa.array(np.ascontiguousarray(c, dtype=np.float32)) for c in matrix.T]
    fields = [pa.field(key, columns[0].type, nullable=False)]
    fields += [pa.field(name, pa.float32()) for name in schema.names]
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    metadata = {
        _SCHEMA_DIGEST: schema.digest.encode(),
        _AS_OF: as_of.astimezone(UTC).isoformat().encode(),
        _KEY: key.encode(),
        _ROWS: str(len(keys)).encode(),
    }
    with whole_file(path) as unfinished:
        _write(unfinished, table, metadata)


def load_snapshot(path: Path, schema: FeatureSchema) -> FeatureTable:
    """
    Read a feature table of this schema.

    Beyond the table it takes the memory of a few columns. Raises SnapshotRefused: the file is
    missing, empty, truncated, damaged in any byte, or not written by `write_snapshot`; its columns
    are missing, extra, repeated, in another order or of another type; a key is null or stands
    twice.
    """
    with _refusals(path), path.open("rb") as opened:
        digest = _check_digest(path, opened)
        file = pq.ParquetFile(opened, page_checksum_verification=True)
        described = _describe(path, file.metadata.metadata or {})
        _check_columns(path, file.schema_arrow, described.key, schema)
        if described.schema_digest != schema.digest:
            raise SnapshotRefused(path, "its schema digest is not the release's")
        rows = file.metadata.num_rows
        if rows == 0 or rows != described.rows:
            raise SnapshotRefused(path, f"it holds {rows} rows and says {described.rows}")
        keys = _keys(path, file, described.key)
        order = order_of(keys)
        matrix = _matrix(file, schema, order)
        return FeatureTable(
            schema,
            keys if order is None else keys[order],
            matrix,
            as_of=described.as_of,
            digest=digest,
        )


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise SnapshotRefused(path, "there is no such file") from None
    except TableInvalid as error:
        raise SnapshotRefused(path, str(error)) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SnapshotRefused(path, f"not a readable Parquet file: {error}") from None


def _describe(path: Path, metadata: dict[bytes, bytes]) -> _Description:
    missing = [name for name in (_KEY, _SCHEMA_DIGEST, _AS_OF, _ROWS) if not metadata.get(name)]
    if missing:
        names = ", ".join(name.decode() for name in missing)
        raise SnapshotRefused(path, f"no feature table: its metadata lack {names}")
    try:
        as_of = datetime.fromisoformat(metadata[_AS_OF].decode())
        rows = int(metadata[_ROWS])
    except ValueError as error:
        raise SnapshotRefused(path, f"its metadata are damaged: {error}") from None
    if as_of.tzinfo is None:
        raise SnapshotRefused(path, f"its as_of {as_of} has no time zone")
    return _Description(metadata[_KEY].decode(), metadata[_SCHEMA_DIGEST].decode(), as_of, rows)


def _check_columns(path: Path, found: pa.Schema, key: str, schema: FeatureSchema) -> None:
    if found.names.count(key) != 1:
        raise SnapshotRefused(
            path, f"key column {key!r} stands {found.names.count(key)} times", (key,)
        )
    names = tuple(name for name in found.names if name != key)
    difference = schema.difference(names)
    if difference:
        differing = set(names) ^ set(schema.names) | {n for n in names if names.count(n) > 1}
        columns = tuple(sorted(differing)) or names
        raise SnapshotRefused(path, f"its columns are not the schema's: {difference}", columns)
    for name in names:
        kind = found.field(name).type
        if kind != pa.float32():
            raise SnapshotRefused(path, f"column {name!r} is {kind}, not float", (name,))
    kind = found.field(key).type
    if kind not in (pa.int64(), pa.string(), pa.large_string()):
        reason = f"key column {key!r} is {kind}, not int64 or string"
        raise SnapshotRefused(path, reason, (key,))


def _keys(path: Path, file: pq.ParquetFile, key: str) -> NDArray[Any]:
    parts = []
    for number in range(file.num_row_groups):
        column = file.read_row_group(number, columns=[key])[key]
        if column.null_count:
            reason = f"key column {key!r} holds {column.null_count} nulls in row group {number}"
            raise SnapshotRefused(path, reason, (key,))
        if column.type == pa.int64():
            parts.append(column.to_numpy())
            continue
        texts = column.to_pylist()
        # NumPy's texts end at their last character that is not NUL: "a" and "a\0" were one key.
        ended = next((text for text in texts if "\0" in text), None)
        if ended is not None:
            raise SnapshotRefused(path, f"key {ended!r} holds a NUL character", (key,))
        parts.append(encoded_keys(texts))
    return np.concatenate(parts)


def _matrix(
    file: pq.ParquetFile, schema: FeatureSchema, order: NDArray[np.intp] | None
) -> NDArray[np.float32]:
    matrix = np.empty((file.metadata.num_rows, len(schema.names)), dtype=np.float32)
    place: slice | NDArray[np.intp] = slice(None)
    if order is not None:
        # Each value goes at once to the row that its key is sorted to: no second matrix.
        place = np.empty(len(matrix), dtype=np.intp)
        place[order] = np.arange(len(matrix))
    for index, name in enumerate(schema.names):
        matrix[place, index] = file.read(columns=[name])[name].to_numpy()
    return matrix


def _write(path: Path, table: pa.Table, metadata: dict[bytes, bytes]) -> None:
    """Write a Parquet file that names its own sha256: every byte of it counts."""
    with pq.ParquetWriter(
        path, table.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        writer.write_table(table, row_group_size=_ROW_GROUP)
        writer.add_key_value_metadata(metadata | {_DIGEST: _NO_DIGEST})
    with path.open("r+b") as file:
        place = _place_of_digest(path, file)
        digest = _digest(file, place)
        file.seek(place)
        file.write(digest)


def _check_digest(path: Path, file: BinaryIO) -> str:
    """Hold a file against the sha256 that it names, before anything reads it; give that."""
    place = _place_of_digest(path, file)
    file.seek(place)
    named = file.read(len(_NO_DIGEST))
    if _digest(file, place) != named:
        raise SnapshotRefused(path, "is damaged: its sha256 is not the one it names")
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


def _place_of_digest(path: Path, file: BinaryIO) -> int:
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
        raise SnapshotRefused(path, f"no Parquet file, or a truncated one: {size} bytes")
    file.seek(start)
    footer = file.read(size - start)
    found = footer.rfind(_DIGEST)
    place = found + len(_DIGEST) + 2
    if found < 0 or place + len(_NO_DIGEST) > len(footer):
        raise SnapshotRefused(path, f"no feature table: its metadata lack {_DIGEST.decode()}")
    return start + place
