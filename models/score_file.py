"""Files to decisions without Kafka: the same features, scores and policy as in the stream."""

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
from features.whole_file import whole_file
from models.release import Release
from scoring.application import attributes_type
from scoring.columns import columns_of
from scoring.decision import BANDS, FEATURE_SOURCES, NO_TIME, OUTCOMES, age_s
from scoring.judge import judge

_AT_ONCE = 200
_DECIDED = (
    "default_probability",
    "score",
    "outcome",
    "risk_band",
    "release",
    "features_age_s",
    "features_stale",
)
_SUBMITTED_AT, _AS_OF = "submitted_at", "as_of"
_INSTANT = pa.timestamp("us", "UTC")


class RowsRefused(Exception):
    """A file's rows cannot be scored; says which file and column."""


def _read_parquet(path: Path) -> pa.Table:
    # Not `read_table`, which makes columns of a path such as year=2026/rows.parquet.
    return pq.ParquetFile(path).read()


def _read_json(path: Path) -> pa.Table:
    # As texts: of a text that is a time, the reader makes one without its offset.
    times = pa.schema([(name, pa.string()) for name in (_SUBMITTED_AT, _AS_OF)])
    options = pyarrow.json.ParseOptions(explicit_schema=times)
    rows = pyarrow.json.read_json(path, parse_options=options)
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
        features = np.empty((rows.num_rows, len(names)), dtype=np.float32)
        for index, name in enumerate(names):
            features[:, index] = _numbers(rows, name, path)
        return features
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


def score_file(path: Path, release: Release, out: Path, key: str) -> int:
    """
    Decide each row of a file, in its order; give their number.

    `out` is Parquet, one row for each: key, default_probability, score, outcome, risk_band,
    release, features_age_s, features_stale. It appears whole or not at all. Raises RowsRefused.

    Rows of features with a column `submitted_at` are judged by age as those of a feature table are,
    from the column `as_of`; without it, age and staleness are null, and no row is taken for stale.
    Rows of attributes are computed, so their age is 0.
    """
    if key in _DECIDED:
        msg = f"key column {key!r} has the name of a column of the answer"
        raise RowsRefused(msg)
    if out.suffix != ".parquet" or out.resolve() == path.resolve():
        msg = f"{out}: the answer is a Parquet file, so its name ends in .parquet, and another file"
        raise RowsRefused(msg)
    rows = read_rows(path, key)
    features = features_of(rows, release, path)
    age, stale = _freshness(rows, release, path)
    known = np.zeros(len(features), dtype=bool)
    verdicts = judge(release.scorer, release.policy, features, known, stale, explain=False)
    decided = pa.table(
        {
            key: rows[key],
            "default_probability": verdicts.default_probability,
            "score": verdicts.scores,
            "outcome": np.array(OUTCOMES)[verdicts.outcomes],
            "risk_band": np.array(BANDS)[verdicts.bands],
            "release": pa.repeat(release.id, len(features)),
            "features_age_s": pa.array(age, pa.float64(), mask=np.isnan(age)),
            "features_stale": pa.repeat(None, len(features)).cast(pa.bool_())
            if stale is None
            else pa.array(stale),
        }
    )
    try:
        with whole_file(out) as unfinished:
            pq.write_table(decided, unfinished)
    except OSError as error:
        msg = f"{out} cannot be written: {error.strerror or error}"
        raise RowsRefused(msg) from None
    return len(features)


def _freshness(
    rows: pa.Table, release: Release, path: Path
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """Give each row's age in seconds, NaN where not known, and which are stale; None: not known."""
    count = rows.num_rows
    if not set(rows.column_names).issuperset(release.schema.names):
        return np.zeros(count), np.zeros(count, dtype=bool)
    if _SUBMITTED_AT not in rows.column_names:
        return np.full(count, np.nan), None
    submitted = microseconds(rows, _SUBMITTED_AT, path)
    if (submitted == NO_TIME).any():
        msg = f"{path}: column {_SUBMITTED_AT!r} holds nulls"
        raise RowsRefused(msg)
    as_of = np.full(count, NO_TIME, dtype=np.int64)
    if _AS_OF in rows.column_names:
        as_of = microseconds(rows, _AS_OF, path)
    stale = np.zeros(count, dtype=bool)
    if release.policy.freshness is not None:
        sources = np.full(count, FEATURE_SOURCES.index("table"), dtype=np.uint8)
        stale = release.policy.freshness.is_stale(sources, submitted, as_of)
    return age_s(submitted, as_of), stale


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
    return found


def _once(rows: pa.Table, name: str, path: Path) -> Any:
    if (times := rows.column_names.count(name)) != 1:
        msg = f"{path}: column {name!r} stands {times} times"
        raise RowsRefused(msg)
    return rows[name]


def _numbers(rows: pa.Table, name: str, path: Path) -> NDArray[np.float64]:
    column = _once(rows, name, path)
    try:
        numbers = column.cast(pa.float64())
    except pa.ArrowException as error:
        msg = f"{path}: column {name!r} holds {column.type}, not numbers: {error}"
        raise RowsRefused(msg) from None
    found: NDArray[np.float64] = numbers.to_numpy()
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
