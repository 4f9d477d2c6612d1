"""A feature table's Parquet file: written whole with checksums, read whole or refused by name."""

import hashlib
import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.schema import FeatureSchema
from features.table import FeatureTable, TableInvalid

_DIGEST = b"creditstream.schema_digest"
_AS_OF = b"creditstream.as_of"
_KEY = b"creditstream.key"
_ROWS = b"creditstream.rows"


class SnapshotRefused(Exception):
    """A file is not the feature table that it should be; says which file and why."""

    def __init__(self, path: Path, reason: str) -> None:
        msg = f"{path}: {reason}"
        super().__init__(msg)
        self.path = path
        self.reason = reason


def write_snapshot(
    path: Path,
    key: str,
    keys: NDArray[np.int64] | NDArray[np.str_],
    matrix: NDArray[np.float32],
    schema: FeatureSchema,
    as_of: datetime,
) -> None:
    """Write a feature table: one key column and float32 features; the file appears whole."""
    columns = [pa.array(keys), *(pa.array(np.ascontiguousarray(c)) for c in matrix.T)]
    metadata = {
        _DIGEST: schema.digest.encode(),
        _AS_OF: as_of.isoformat().encode(),
        _KEY: key.encode(),
        _ROWS: str(len(keys)).encode(),
    }
    fields = [pa.field(key, columns[0].type, nullable=False)]
    fields += [pa.field(name, pa.float32()) for name in schema.names]
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=metadata))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, unfinished, compression="zstd", write_page_checksum=True)
    unfinished.replace(path)


def load_snapshot(path: Path, schema: FeatureSchema) -> FeatureTable:
    """
    Read a feature table of this schema.

    Raises SnapshotRefused: the file is missing, empty, truncated or damaged; its columns are
    missing, extra, repeated or of another type; a key is null or stands twice.
    """
    if not path.is_file():
        raise SnapshotRefused(path, "there is no such file")
    content = path.read_bytes()
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise SnapshotRefused(path, f"not a readable Parquet file: {error}") from None
    metadata = table.schema.metadata or {}
    key = metadata.get(_KEY, b"").decode()
    if not key:
        raise SnapshotRefused(path, "its metadata name no key column (creditstream.key)")
    _check_columns(path, table, key, schema)
    if metadata.get(_DIGEST, b"").decode() != schema.digest:
        raise SnapshotRefused(path, "its schema digest is not the release's")
    if table.num_rows == 0 or str(table.num_rows).encode() != metadata.get(_ROWS):
        raise SnapshotRefused(path, f"it holds {table.num_rows} rows, not as many as it says")
    matrix = np.empty((table.num_rows, len(schema.names)), dtype=np.float32)
    for index, name in enumerate(schema.names):
        matrix[:, index] = table[name].to_numpy()
    keys = table[key].to_numpy()
    if table.schema.field(key).type != pa.int64():
        keys = keys.astype(str)
    try:
        return FeatureTable(
            schema,
            keys,
            matrix,
            as_of=datetime.fromisoformat(metadata[_AS_OF].decode()),
            digest=hashlib.sha256(content).hexdigest(),
        )
    except TableInvalid as error:
        raise SnapshotRefused(path, str(error)) from None


def _check_columns(path: Path, table: pa.Table, key: str, schema: FeatureSchema) -> None:
    names = tuple(name for name in table.column_names if name != key)
    if table.column_names.count(key) != 1:
        raise SnapshotRefused(
            path, f"key column {key!r} stands {table.column_names.count(key)} times"
        )
    difference = schema.difference(names)
    if difference:
        raise SnapshotRefused(path, f"its columns are not the schema's: {difference}")
    for name in names:
        found = table.schema.field(name).type
        if found != pa.float32():
            raise SnapshotRefused(path, f"column {name!r} is {found}, not float")
    if table.schema.field(key).type not in (pa.int64(), pa.string(), pa.large_string()):
        found = table.schema.field(key).type
        raise SnapshotRefused(path, f"key column {key!r} is {found}, not int64 or string")
    if table[key].null_count:
        raise SnapshotRefused(path, f"key column {key!r} holds {table[key].null_count} nulls")
