"""A feature table's Parquet file: written whole with digests, read whole or refused by name."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.numbers import numbers_of
from features.one_line import one_line
from features.regular_file import open_regular
from features.schema import AS_OF, FeatureSchema
from features.sealed_parquet import SealBroken, check_seal, write_sealed
from features.table import FeatureTable, TableInvalid, encoded_keys, order_of
from features.whole_file import whole_file

_SCHEMA_DIGEST = b"creditstream.schema_digest"
_AS_OF = b"creditstream.as_of"
_KEY = b"creditstream.key"
_ROWS = b"creditstream.rows"
_AS_OF_TYPE = pa.timestamp("us", tz="UTC")
_EPOCH = np.datetime64("1970-01-01T00:00:00", "us")
# What a datetime can say.
_FIRST, _LAST = np.datetime64("0001-01-01", "us"), np.datetime64("9999-12-31T23:59:59.999999", "us")
# Parts in which the matrix is filled: its lines stay in the processor's cache, and little is
# read ahead of it.
_COLUMNS, _ROWS_AT_ONCE = 12, 4_096
# With a row's key, twice as it is sorted, its place and its date.
_BYTES_OF_VALUE, _BYTES_OF_NUMBER, _BYTES_OF_TEXT = 4, 48, 560


class SnapshotRefused(Exception):
    """A file is not the feature table that it should be; says which file and why."""

    def __init__(self, path: Path, reason: str, columns: tuple[str, ...] = ()) -> None:
        self.path = path
        self.reason = one_line(reason)
        super().__init__(f"{one_line(path)}: {self.reason}")
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
    as_of: datetime | NDArray[np.datetime64],
) -> None:
    """
    Write a feature table: one key column and float32 features; the file appears whole.

    `as_of` is the data's date: an aware datetime, or datetime64[us] in UTC, one a row, which
    becomes the column `as_of`; the file's own is then the latest. Raises TableInvalid for keys,
    dates and a matrix that make no table.
    """
    order_of(encoded_keys(keys))
    latest = _latest(as_of, len(keys))
    if key == AS_OF:
        msg = f"the key column may not be called {AS_OF!r}: the rows' dates stand there"
        raise TableInvalid(msg)
    if matrix.shape != (len(keys), len(schema.names)) or key in schema.names:
        msg = f"{len(keys)} keys {key!r} and {matrix.shape} values make no table of this schema"
        raise TableInvalid(msg)
    numbers = keys.astype(np.int64) if keys.dtype.kind == "i" else keys
    columns = [pa.array(numbers)]
    columns += [pa.array(np.ascontiguousarray(c, dtype=np.float32)) for c in matrix.T]
    fields = [pa.field(key, columns[0].type, nullable=False)]
    fields += [pa.field(name, pa.float32()) for name in schema.names]
    if not isinstance(as_of, datetime):
        columns.append(pa.array(as_of, _AS_OF_TYPE))
        fields.append(pa.field(AS_OF, _AS_OF_TYPE, nullable=False))
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    metadata = {
        _SCHEMA_DIGEST: schema.digest.encode(),
        _AS_OF: latest.isoformat().encode(),
        _KEY: key.encode(),
        _ROWS: str(len(keys)).encode(),
    }
    with whole_file(path) as unfinished:
        write_sealed(unfinished, table, metadata)


def check_name(path: Path) -> None:
    """See that a file may become a feature table, before work goes into it; raises TableInvalid."""
    if path.suffix != ".parquet":
        msg = f"{path}: a feature table is a Parquet file, so its name ends in .parquet"
        raise TableInvalid(msg)


def _latest(as_of: datetime | NDArray[np.datetime64], rows: int) -> datetime:
    if isinstance(as_of, datetime):
        if as_of.tzinfo is None:
            msg = f"as_of {as_of} has no time zone"
            raise TableInvalid(msg)
        return as_of.astimezone(UTC)
    if as_of.shape != (rows,) or as_of.dtype != np.dtype("datetime64[us]"):
        msg = f"{rows} keys and as_of of {as_of.dtype} and shape {as_of.shape} make no table"
        raise TableInvalid(msg)
    # False for NaT, too.
    wrong = np.flatnonzero(~((as_of >= _FIRST) & (as_of <= _LAST)))
    if wrong.size:
        msg = f"as_of {as_of[wrong[0]]} of row {wrong[0]} is no date"
        raise TableInvalid(msg)
    found: datetime = as_of.max().item()
    return found.replace(tzinfo=UTC)


def load_snapshot(path: Path, schema: FeatureSchema, digest: str | None = None) -> FeatureTable:
    """
    Read a feature table of this schema; with `digest`, the one of this sha256 and no other.

    Beyond the table it takes the memory of a few columns. Raises SnapshotRefused: the file is
    missing, empty, truncated, damaged in any byte, or not written by `write_snapshot`; its columns
    are missing, extra, repeated, in another order or of another type; a key is null or stands
    twice; a row's date is null or later than the file's.
    """
    with _refusals(path), open_regular(path) as opened:
        found = check_seal(opened)
        if digest not in {None, found}:
            raise SnapshotRefused(path, f"it has changed: its sha256 was {digest}")
        file = pq.ParquetFile(opened, page_checksum_verification=True)
        described = _describe(path, file.metadata.metadata or {})
        _check_columns(path, file.schema_arrow, described.key, schema)
        if described.schema_digest != schema.digest:
            raise SnapshotRefused(path, "its schema digest is not the release's")
        rows = file.metadata.num_rows
        if rows == 0 or rows != described.rows:
            raise SnapshotRefused(path, f"it holds {rows} rows and says {described.rows}")
        keys = _keys(path, file, described.key)
        if len(keys) != rows:
            raise SnapshotRefused(path, f"it holds {len(keys)} keys and says {rows} rows")
        dates = _dates(path, file, described.as_of)
        order = order_of(keys)
        matrix = _matrix(path, file, schema, order)
        if order is not None:
            keys, dates = keys[order], None if dates is None else dates[order]
        return FeatureTable(
            schema,
            keys,
            matrix,
            as_of=described.as_of,
            row_as_of_us=dates,
            digest=found,
        )


def nbytes_of(path: Path, schema: FeatureSchema, most: int) -> int:
    """
    Give how many bytes a file's table takes while it is loaded, at most, by what it says.

    Only the file's metadata are read. Raises SnapshotRefused, too where they are more than `most`.
    """
    with _refusals(path), open_regular(path) as opened:
        check_seal(opened)
        file = pq.ParquetFile(opened)
        of_row = _BYTES_OF_NUMBER if pa.int64() in file.schema_arrow.types else _BYTES_OF_TEXT
        found = int(file.metadata.num_rows) * (_BYTES_OF_VALUE * len(schema.names) + of_row)
        if found > most:
            raise SnapshotRefused(path, f"its table takes {found} bytes; {most} are allowed")
        return found


def snapshot_digest(path: Path, most: int | None = None) -> str:
    """
    Give the sha256 that a feature table's file names and has.

    Raises SnapshotRefused, too where the file has more than `most` bytes.
    """
    with _refusals(path), open_regular(path) as opened:
        size = opened.seek(0, os.SEEK_END)
        if most is not None and size > most:
            raise SnapshotRefused(path, f"it has {size} bytes; {most} are allowed")
        return check_seal(opened)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise SnapshotRefused(path, "there is no such file") from None
    except (TableInvalid, SealBroken) as error:
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
    names = tuple(name for name in found.names if name not in (key, AS_OF))
    difference = schema.difference(names)
    if difference:
        differing = set(names) ^ set(schema.names)
        differing |= {name for name, times in Counter(names).items() if times > 1}
        columns = tuple(sorted(differing)) or names
        raise SnapshotRefused(path, f"its columns are not the schema's: {difference}", columns)
    for name in names:
        kind = found.field(name).type
        if kind != pa.float32():
            raise SnapshotRefused(path, f"column {name!r} is {kind}, not float", (name,))
    if AS_OF in found.names and (
        found.names.count(AS_OF) > 1 or found.field(AS_OF).type != _AS_OF_TYPE
    ):
        kinds = ", ".join(str(field.type) for field in found if field.name == AS_OF)
        raise SnapshotRefused(path, f"column {AS_OF!r} is {kinds}, not one {_AS_OF_TYPE}", (AS_OF,))
    kind = found.field(key).type
    if kind not in (pa.int64(), pa.string(), pa.large_string()):
        reason = f"key column {key!r} is {kind}, not int64 or string"
        raise SnapshotRefused(path, reason, (key,))


def _keys(path: Path, file: pq.ParquetFile, key: str) -> NDArray[Any]:
    parts = []
    for number in range(file.num_row_groups):
        column = file.read_row_group(number, columns=[key], use_threads=False)[key]
        if column.null_count:
            reason = f"key column {key!r} holds {column.null_count} nulls in row group {number}"
            raise SnapshotRefused(path, reason, (key,))
        if column.type == pa.int64():
            parts.append(numbers_of(column))
            continue
        texts = column.to_pylist()
        # NumPy's texts end at their last character that is not NUL: "a" and "a\0" were one key.
        ended = next((text for text in texts if "\0" in text), None)
        if ended is not None:
            raise SnapshotRefused(path, f"key {ended!r} holds a NUL character", (key,))
        parts.append(encoded_keys(texts))
    return np.concatenate(parts)


def _dates(path: Path, file: pq.ParquetFile, latest: datetime) -> NDArray[np.int64] | None:
    if AS_OF not in file.schema_arrow.names:
        return None
    column = file.read(columns=[AS_OF], use_threads=False)[AS_OF]
    if len(column) != file.metadata.num_rows:
        raise SnapshotRefused(path, f"column {AS_OF!r} holds {len(column)} rows", (AS_OF,))
    if column.null_count:
        reason = f"column {AS_OF!r} holds {column.null_count} nulls"
        raise SnapshotRefused(path, reason, (AS_OF,))
    dates: NDArray[np.int64] = numbers_of(column.cast(pa.int64()))
    if np.datetime64(latest.astimezone(UTC).replace(tzinfo=None), "us") != _EPOCH + dates.max():
        reason = f"column {AS_OF!r} does not end at the file's as_of {latest}"
        raise SnapshotRefused(path, reason, (AS_OF,))
    return dates


def _matrix(
    path: Path, file: pq.ParquetFile, schema: FeatureSchema, order: NDArray[np.intp] | None
) -> NDArray[np.float32]:
    matrix = np.empty((file.metadata.num_rows, len(schema.names)), dtype=np.float32)
    place = np.arange(len(matrix))
    if order is not None:
        # Each value goes at once to the row that its key is sorted to: no second matrix.
        place[order] = np.arange(len(matrix))
    begin = 0
    for group in range(file.num_row_groups):
        rows = place[begin : begin + file.metadata.row_group(group).num_rows]
        begin += len(rows)
        for first in range(0, len(schema.names), _COLUMNS):
            names = list(schema.names[first : first + _COLUMNS])
            # One thread: Arrow's own were seen to end the process as it ended.
            read = file.read_row_group(group, columns=names, use_threads=False)
            columns = [numbers_of(read[name]) for name in names]
            if {len(column) for column in columns} != {len(rows)}:
                raise SnapshotRefused(path, f"row group {group} is not of {len(rows)} rows")
            for at in range(0, len(rows), _ROWS_AT_ONCE):
                part = slice(at, at + _ROWS_AT_ONCE)
                block = np.stack([column[part] for column in columns], axis=1)
                matrix[rows[part], first : first + len(names)] = block
    return matrix
