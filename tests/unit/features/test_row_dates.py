from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.schema import Feature, FeatureSchema, SchemaInvalid
from features.sealed_parquet import write_sealed
from features.snapshot import SnapshotRefused, load_snapshot, write_snapshot
from features.table import FeatureTable, TableInvalid

SCHEMA = FeatureSchema((Feature("a"),))
DATES = np.array(["2026-01-03", "2026-01-01T00:00:00.000001", "1969-12-31"], "datetime64[us]")


def matrix(rows: int) -> Any:
    return np.zeros((rows, 1), dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "features.parquet"
    write_snapshot(found, "id", np.array([30, 20, 10]), matrix(3), SCHEMA, DATES)
    return found


def test_each_row_has_its_own_date_and_the_table_the_latest(path: Path) -> None:
    table = load_snapshot(path, SCHEMA)

    dates = table.as_of_us(table.rows([10, 20, 30, 20]))
    assert dates.tolist() == DATES.astype(np.int64)[[2, 1, 0, 1]].tolist()
    assert table.as_of == datetime(2026, 1, 3, tzinfo=UTC)
    assert table.nbytes == 3 * (4 + 8 + 8) + 8


@given(
    st.dictionaries(
        st.integers(-(2**63), 2**63 - 1),
        st.datetimes(timezones=st.just(UTC)),
        min_size=1,
    )
)
def test_a_date_stays_with_its_key(dates: dict[int, datetime]) -> None:
    us = np.array([d.replace(tzinfo=None) for d in dates.values()], "datetime64[us]")
    keys = np.array(list(dates), dtype=np.int64)
    table = FeatureTable(
        SCHEMA,
        keys,
        matrix(len(keys)),
        as_of=max(dates.values()),
        row_as_of_us=us.astype(np.int64),
    )

    assert table.as_of_us(table.rows(keys)).tolist() == us.astype(np.int64).tolist()


def test_a_table_of_one_date_gives_it_for_each_row() -> None:
    as_of = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    table = FeatureTable(SCHEMA, np.array([1, 2]), matrix(2), as_of=as_of)

    assert table.as_of_us(np.array([1, 0, 1])).tolist() == [1_000_000] * 3
    assert table.as_of_us(np.array([], dtype=np.int64)).tolist() == []


@pytest.mark.parametrize("row", [-1, 3])
def test_what_is_no_row_has_no_date(path: Path, row: int) -> None:
    with pytest.raises(IndexError, match="are not all of 3"):
        load_snapshot(path, SCHEMA).as_of_us(np.array([0, row]))


def test_a_table_without_a_date_has_none_to_give() -> None:
    with pytest.raises(TableInvalid, match="has no as_of"):
        FeatureTable(SCHEMA, np.array([1]), matrix(1)).as_of_us(np.array([0]))


@pytest.mark.parametrize(
    ("as_of", "reason"),
    [
        (DATES[:2], "3 keys and as_of of .* make no table"),
        (DATES.astype("datetime64[s]"), "make no table"),
        (np.array(["2026-01-01", "NaT", "2026-01-01"], "datetime64[us]"), "NaT of row 1"),
        (np.array(["2026-01-01", "2026-01-01", "10000-01-01"], "datetime64[us]"), "of row 2"),
    ],
)
def test_dates_that_are_none_are_not_written(tmp_path: Path, as_of: Any, reason: str) -> None:
    with pytest.raises(TableInvalid, match=reason):
        write_snapshot(tmp_path / "t", "id", np.arange(3), matrix(3), SCHEMA, as_of)

    assert not list(tmp_path.iterdir())


def test_neither_a_feature_nor_the_key_may_have_the_dates_name(tmp_path: Path) -> None:
    with pytest.raises(SchemaInvalid, match="no feature may be called 'as_of'"):
        FeatureSchema((Feature("a"), Feature("as_of")))
    with pytest.raises(TableInvalid, match="key column may not be called 'as_of'"):
        write_snapshot(tmp_path / "t", "as_of", np.arange(3), matrix(3), SCHEMA, DATES)


@pytest.mark.parametrize(
    ("dates", "reason"),
    [
        (pa.array([1, 2, 3], pa.int64()), "column 'as_of' is int64, not one timestamp"),
        (pa.array([1, 2, 3], pa.timestamp("us")), "not one timestamp"),
        (pa.array([1, None, 3], pa.timestamp("us", "UTC")), "column 'as_of' holds 1 nulls"),
        (pa.array([1, 2, 3], pa.timestamp("us", "UTC")), "does not end at the file's as_of"),
    ],
)
def test_a_column_of_dates_that_is_none_is_refused(
    path: Path, dates: pa.Array, reason: str
) -> None:
    told = pq.ParquetFile(path).metadata.metadata
    told = {k: v for k, v in told.items() if k.startswith(b"creditstream.")}
    told.pop(b"creditstream.sha256")
    write_sealed(path, pq.read_table(path).set_column(2, "as_of", dates), told)

    with pytest.raises(SnapshotRefused, match=reason) as refused:
        load_snapshot(path, SCHEMA)

    assert "as_of" in str(refused.value)
