"""Rows of one's own features become a table that a worker takes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.snapshot import load_snapshot
from features.table import TableInvalid
from models.bring import create_release
from models.feature_table import write_feature_table
from models.release import Release, load_release
from models.rows import RowsRefused

FEATURES = np.random.default_rng(3).normal(size=(200, 2)).astype(np.float32)
AS_OF = datetime(2026, 1, 2, tzinfo=UTC)
LATER = datetime(2026, 2, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    folder = tmp_path_factory.mktemp("own")
    data = lightgbm.Dataset(FEATURES, (FEATURES[:, 0] > 0).astype(int), feature_name=["x", "y"])
    booster = lightgbm.train({"objective": "binary", "verbosity": -1}, data, 5)
    (folder / "model.txt").write_text(booster.model_to_string())
    pq.write_table(rows(), folder / "rows.parquet")
    made = create_release(folder / "model.txt", folder / "rows.parquet", None, folder / "releases")
    return load_release(made)


def rows(**changes: Any) -> pa.Table:
    # In another order than the model's, and not sorted by key.
    columns = {"y": FEATURES[:, 1], "x": FEATURES[:, 0], "customer": np.arange(200, 0, -1)}
    return pa.table(columns | changes)


def written(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path)
    return path


def test_rows_become_the_table_by_name(release: Release, tmp_path: Path) -> None:
    file, out = written(tmp_path / "rows.parquet", rows()), tmp_path / "table.parquet"

    assert write_feature_table(file, release, out, "customer", AS_OF) == 200

    table = load_snapshot(out, release.schema)
    assert table.as_of == AS_OF
    assert np.array_equal(table.matrix[table.rows([200, 1])], FEATURES[[0, 199]])


def test_keys_may_be_texts_and_dates_a_column(release: Release, tmp_path: Path) -> None:
    names = [f"c-{number}" for number in range(200)]
    dates = pa.array([AS_OF] * 199 + [LATER], pa.timestamp("us", "UTC"))
    file = written(tmp_path / "rows.parquet", rows(customer=names, as_of=dates))

    write_feature_table(file, release, tmp_path / "table.parquet", "customer", None)

    table = load_snapshot(tmp_path / "table.parquet", release.schema)
    assert table.as_of == LATER
    (first,) = table.as_of_us(table.rows(["c-0"])).tolist()
    assert first == AS_OF.timestamp() * 1e6


@pytest.mark.parametrize(
    ("table", "key", "reason"),
    [
        (rows(), "customer", "no column 'as_of'"),
        (rows(as_of=[None] * 200), "customer", "'as_of' holds nulls"),
        (rows(as_of=["2026-01-01T00:00:00Z"] * 200).drop_columns("x"), "customer", "missing"),
        (rows(as_of=["2026-01-01T00:00:00Z"] * 200), "nobody", "'nobody' stands 0 times"),
        (rows(as_of=["2026-01-01T00:00:00Z"] * 200, customer=[1.5] * 200), "customer", "double"),
        (rows(as_of=["2026-01-01T00:00:00Z"] * 200, customer=[7] * 200), "customer", "7 stands"),
        (
            rows(as_of=["2026-01-01T00:00:00Z"] * 200, customer=range(200)),
            "customer",
            "row 0: 0; an application_id is from 1 on",
        ),
        (
            rows(
                as_of=["2026-01-01T00:00:00Z"] * 200,
                customer=pa.array([2**64 - 1] * 200, pa.uint64()),
            ),
            "customer",
            "'customer' holds what is no application_id: Integer value 18446744073709551615",
        ),
        (
            rows(as_of=["2026-01-01T00:00:00Z"] * 200, customer=["c", "", *["d"] * 198]),
            "customer",
            "row 1: '' can be no applicant_id",
        ),
        (
            rows(as_of=["2026-01-01T00:00:00Z"] * 200, customer=["a\u202e", *["d"] * 199]),
            "customer",
            r"row 0: 'a\\u202e' can be no applicant_id",
        ),
        (
            rows(as_of=pa.array([2**62] * 200, pa.timestamp("us", "UTC"))),
            "customer",
            "'as_of', row 0: no date of the years 1 to 9999",
        ),
        (rows(as_of=["2026-01-01T00:00:00Z"] * 200).slice(0, 0), "customer", "holds no rows"),
    ],
)
def test_what_makes_no_table_is_refused_and_nothing_written(
    release: Release, tmp_path: Path, table: pa.Table, key: str, reason: str
) -> None:
    out = tmp_path / "table.parquet"

    with pytest.raises((RowsRefused, TableInvalid), match=reason):
        write_feature_table(written(tmp_path / "r.parquet", table), release, out, key, None)

    assert not out.exists()


def test_a_table_never_takes_the_place_of_its_rows(release: Release, tmp_path: Path) -> None:
    file = written(tmp_path / "rows.parquet", rows())
    before = file.read_bytes()

    with pytest.raises(RowsRefused, match="the table is another file than its rows"):
        write_feature_table(file, release, tmp_path / "." / "rows.parquet", "customer", AS_OF)

    assert file.read_bytes() == before
