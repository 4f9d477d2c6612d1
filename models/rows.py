"""A user's file as rows: features by name, or the attributes they are computed from."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.definition import Attribute, FeatureDefinition
from models.release import Release
from scoring.application import attributes_type
from scoring.columns import columns_of
from scoring.decision import NO_TIME

SUBMITTED_AT, AS_OF = "submitted_at", "as_of"
_AT_ONCE = 200
_LARGEST_BLOCK = 2**31 - 1
# Arrow would also make numbers of texts and truth values, which an event may not hold either.
_NUMBER_KINDS = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_null,
)
_INSTANT = pa.timestamp("us", "UTC")
_FIRST, _LAST = np.array(
    ["0001-01-01", "9999-12-31T23:59:59.999999"], dtype="datetime64[us]"
).astype(np.int64)


class RowsRefused(Exception):
    """A file's rows cannot be scored; says which file and column."""


def _read_parquet(path: Path) -> pa.Table:
    # Not `read_table`, which makes columns of a path such as year=2026/rows.parquet.
    return pq.ParquetFile(path).read()


def _read_json(path: Path) -> pa.Table:
    # As texts: of a text that is a time, the reader makes one without its offset.
    times = pa.schema([(name, pa.string()) for name in (SUBMITTED_AT, AS_OF)])
    parsing = pyarrow.json.ParseOptions(explicit_schema=times)
    # One block, as a fault is told by its row in its block.
    block = min(path.stat().st_size + 1, _LARGEST_BLOCK)
    reading = pyarrow.json.ReadOptions(block_size=block)
    rows = pyarrow.json.read_json(path, read_options=reading, parse_options=parsing)
    absent = [name for name in times.names if rows[name].null_count == rows.num_rows]
    return rows.drop_columns(absent)


_READERS = {
    ".parquet": _read_parquet,
    ".csv": pyarrow.csv.read_csv,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
}


def read_rows(path: Path, key: str) -> pa.Table:
    """Read Parquet, CSV or JSON lines; an `attributes` object is spread into columns."""
    if path.suffix not in _READERS:
        msg = f"{path}: a file of rows ends in {', '.join(_READERS)}"
        raise RowsRefused(msg)
    try:
        rows = _READERS[path.suffix](path)
    except (pa.ArrowException, OSError) as error:
        msg = f"{path}: {error}"
        raise RowsRefused(msg) from None
    if "attributes" in rows.column_names and pa.types.is_struct(rows["attributes"].type):
        at = rows.column_names.index("attributes")
        parts = rows["attributes"].combine_chunks().flatten()
        fields = zip(rows.schema.field(at).type, parts, strict=True)
        rows = rows.remove_column(at)
        for field, part in fields:
            rows = rows.append_column(field, part)
    if rows.column_names.count(key) != 1:
        msg = f"{path}: key column {key!r} stands {rows.column_names.count(key)} times; see --key"
        raise RowsRefused(msg)
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            msg = f"{path}: column {name!r} holds bytes that are no text in UTF-8"
            raise RowsRefused(msg)
    return rows


def features_of(rows: pa.Table, release: Release, path: Path) -> NDArray[np.float32]:
    """
    Give each row's features: float32[n, features].

    Rows hold all features of the release, or else all attributes from which they are computed; an
    attribute is held to the same rule as an event's.
    """
    present = set(rows.column_names)
    names = release.schema.names
    if present.issuperset(names):
        return named_features(rows, names, path)
    nested = any(attribute.fields for attribute in release.definition.attributes)
    attributes = [
        attribute.name
        for attribute in release.definition.attributes
        if attribute.required or not nested
    ]
    missing = [name for name in attributes if name not in present]
    if missing:
        lacking = [name for name in names if name not in present]
        msg = (
            f"{path}: neither all features ({len(lacking)} missing, first {lacking[0]!r}) "
            f"nor all attributes ({len(missing)} missing, first {missing[0]!r})"
        )
        raise RowsRefused(msg)
    if nested:
        return _of_nested(rows, release.definition, path)
    columns = {name: _numbers(rows, name, path) for name in attributes}
    for attribute in release.definition.attributes:
        _check_range(attribute, columns[attribute.name], path)
    return release.definition.compute(columns)


def named_features(rows: pa.Table, names: tuple[str, ...], path: Path) -> NDArray[np.float32]:
    """Give the columns of these names as float32[n, names], NaN for nulls; raise RowsRefused."""
    features = np.empty((rows.num_rows, len(names)), dtype=np.float32)
    for index, name in enumerate(names):
        column = _numbers(rows, name, path)
        with np.errstate(over="ignore"):
            features[:, index] = column
        beyond = np.isinf(features[:, index]) & np.isfinite(column)
        if beyond.any():
            row = int(np.argmax(beyond))
            msg = f"{path}: column {name!r}, row {row}: {column[row]:g} is beyond float32"
            raise RowsRefused(msg)
    return features


def _of_nested(rows: pa.Table, definition: FeatureDefinition, path: Path) -> NDArray[np.float32]:
    """Compute features from objects and rows, a few applicants at once, as from their events."""
    kind = attributes_type(definition)
    known = [a.name for a in definition.attributes if a.name in rows.column_names]
    parts = [np.empty((0, len(definition.schema.names)), dtype=np.float32)]
    number = 0
    for batch in rows.select(known).to_batches(max_chunksize=_AT_ONCE):
        decoded = []
        for row in batch.to_pylist():
            try:
                decoded.append(msgspec.convert(row, kind))
            except msgspec.ValidationError as error:
                msg = f"{path}: row {number}: {error}"
                raise RowsRefused(msg) from None
            number += 1
        parts.append(definition.compute(columns_of(decoded, definition)))
    return np.concatenate(parts)


def microseconds(rows: pa.Table, name: str, path: Path) -> NDArray[np.int64]:
    """Read a column of times: microseconds since 1970, NO_TIME where there is none."""
    column = _once(rows, name, path)
    kind = column.type
    try:
        if not (pa.types.is_string(kind) or pa.types.is_null(kind)) and not getattr(kind, "tz", ""):
            msg = "no offset"
            raise pa.ArrowInvalid(msg)
        times = column.cast(_INSTANT, safe=False).cast(pa.int64()).fill_null(NO_TIME)
    except pa.ArrowException as error:
        msg = f"{path}: column {name!r} holds {kind}, not times with an offset: {error}"
        raise RowsRefused(msg) from None
    found: NDArray[np.int64] = times.to_numpy()
    wrong = np.flatnonzero((found < _FIRST) | (found > _LAST))
    if len(wrong):
        msg = f"{path}: column {name!r}, row {wrong[0]}: no date of the years 1 to 9999"
        raise RowsRefused(msg)
    return found


def _once(rows: pa.Table, name: str, path: Path) -> Any:
    if (times := rows.column_names.count(name)) != 1:
        msg = f"{path}: column {name!r} stands {times} times"
        raise RowsRefused(msg)
    return rows[name]


def _numbers(rows: pa.Table, name: str, path: Path) -> NDArray[np.float64]:
    column = _once(rows, name, path)
    kind = column.type
    if not any(is_kind(kind) for is_kind in _NUMBER_KINDS):
        msg = f"{path}: column {name!r} holds {kind}, not numbers"
        raise RowsRefused(msg)
    try:
        found: NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    except pa.ArrowException as error:
        msg = f"{path}: column {name!r} holds {kind}, not numbers: {error}"
        raise RowsRefused(msg) from None
    return found


def _check_range(attribute: Attribute, column: NDArray[np.float64], path: Path) -> None:
    missing = np.isnan(column)
    bad = missing if attribute.required else np.zeros(len(column), dtype=bool)
    rule = "a number"
    if attribute.kind == "integer":
        bad = bad | (~missing & (column != np.rint(column)))
        rule = "a whole number"
    if attribute.minimum is not None:
        bad = bad | (column < attribute.minimum)
        rule += f", at least {attribute.minimum:.15g}"
    if attribute.maximum is not None:
        bad = bad | (column > attribute.maximum)
        rule += f", at most {attribute.maximum:.15g}"
    if bad.any():
        row = int(np.argmax(bad))
        msg = (
            f"{path}: {int(bad.sum())} rows break a rule of {attribute.name!r}, which is {rule}; "
            f"first row {row}: {'nothing' if missing[row] else column[row]}"
        )
        raise RowsRefused(msg)
