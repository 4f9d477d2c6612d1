"""Rows of features that somebody else computed, as the feature table of a release."""

import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.snapshot import check_name, write_snapshot
from models.release import Release
from models.rows import AS_OF, RowsRefused, features_of, microseconds, read_rows
from scoring.application import INVISIBLE
from scoring.decision import NO_TIME

_INVISIBLE = re.compile(f"[{INVISIBLE}]")


def write_feature_table(
    path: Path, release: Release, out: Path, key: str, as_of: datetime | None
) -> int:
    """
    Write a file's rows as a release's feature table; give their number.

    Rows hold the key (whole numbers, or texts) and all features of the release by name, or all
    attributes from which they are computed. Their date is `as_of`, where none is given the column
    of that name. The table appears whole or not at all. Raises RowsRefused, TableInvalid.
    """
    check_name(out)
    if out.resolve() == path.resolve():
        msg = f"{out}: the table is another file than its rows"
        raise RowsRefused(msg)
    rows = read_rows(path, key)
    if not rows.num_rows:
        msg = f"{path}: holds no rows; a feature table has one at least"
        raise RowsRefused(msg)
    dates: datetime | NDArray[np.datetime64]
    if as_of is not None:
        dates = as_of
    elif AS_OF in rows.column_names:
        times = microseconds(rows, AS_OF, path)
        if (times == NO_TIME).any():
            msg = f"{path}: column {AS_OF!r} holds nulls"
            raise RowsRefused(msg)
        dates = times.view("datetime64[us]")
    else:
        msg = f"{path}: has no column {AS_OF!r}: give the data's date by --as-of"
        raise RowsRefused(msg)
    keys = _keys(rows, key, path)
    features = features_of(rows, release, path)
    write_snapshot(out, key, keys, features, release.schema, dates)
    return len(keys)


def _keys(rows: pa.Table, key: str, path: Path) -> NDArray[np.int64] | NDArray[np.str_]:
    column = rows[key]
    kind = column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if column.null_count or not (text or pa.types.is_integer(kind)):
        what = f"{column.null_count} nulls" if column.null_count else str(kind)
        msg = f"{path}: key column {key!r} holds {what}; keys are whole numbers or texts"
        raise RowsRefused(msg)
    if text:
        names = column.to_pylist()
        for at, name in enumerate(names):
            # A key that is too long the table refuses itself.
            if not name or _INVISIBLE.search(name):
                msg = (
                    f"{path}: key column {key!r}, row {at}: {name!a} can be no applicant_id, "
                    "which has a character at least, and none of control or direction"
                )
                raise RowsRefused(msg)
        return np.array(names, dtype=str)
    try:
        keys: NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
    except pa.ArrowException as error:
        msg = f"{path}: key column {key!r} holds what is no application_id: {error}"
        raise RowsRefused(msg) from None
    if keys.min() < 1:
        at = int(keys.argmin())
        msg = f"{path}: key column {key!r}, row {at}: {keys[at]}; an application_id is from 1 on"
        raise RowsRefused(msg)
    return keys
