from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.schema import Feature, FeatureSchema
from features.snapshot import SnapshotRefused, load_snapshot, write_snapshot
from features.table import FeatureTable, TableInvalid

SCHEMA = FeatureSchema((Feature("a"), Feature("b")))
AS_OF = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "features.parquet"
    matrix = np.arange(20, dtype=np.float32).reshape(10, 2)
    write_snapshot(found, "application_id", np.arange(10)[::-1], matrix, SCHEMA, AS_OF)
    return found


def test_a_table_comes_back_as_it_was_written(path: Path) -> None:
    table = load_snapshot(path, SCHEMA)

    assert (len(table), table.as_of) == (10, AS_OF)
    assert table.matrix[table.rows([9, 0])].tolist() == [[0, 1], [18, 19]]
    assert table.rows([42, -1]).tolist() == [-1, -1]
    assert not table.matrix.flags.writeable


def test_text_keys_are_found(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    keys = np.array(["beta", "alpha"])
    write_snapshot(path, "applicant_id", keys, np.eye(2, dtype=np.float32), SCHEMA, AS_OF)

    table = load_snapshot(path, SCHEMA)

    assert table.keys_are_text
    assert table.matrix[table.rows(["beta"])].tolist() == [[1, 0]]
    assert table.rows(["alph", "alphabet", ""]).tolist() == [-1, -1, -1]


def rewrite(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, write_page_checksum=True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.drop_columns(["b"]), "missing b"),
        (lambda t: t.append_column("c", t["a"]), "extra c"),
        (lambda t: t.append_column("a", t["a"]), "repeated a"),
        (lambda t: t.select(["application_id", "b", "a"]), "another order"),
        (lambda t: t.set_column(1, "a", t["a"].cast("double")), "column 'a' is double"),
        (lambda t: t.slice(0, 0), "0 rows"),
        (lambda t: t.slice(0, 5), "5 rows"),
        (lambda t: t.set_column(0, "application_id", pa.array([1] * 10)), "key 1 stands twice"),
        (
            lambda t: t.set_column(0, "application_id", pa.array([None, *range(9)], pa.int64())),
            "holds 1 nulls",
        ),
        (lambda t: t.replace_schema_metadata(), "name no key column"),
    ],
)
def test_a_changed_file_is_refused_by_name(path: Path, change: object, reason: str) -> None:
    assert callable(change)
    rewrite(path, change(pq.read_table(path)))

    with pytest.raises(SnapshotRefused, match=reason):
        load_snapshot(path, SCHEMA)


@pytest.mark.parametrize("keep", [0, 3, 100, -20])
def test_a_truncated_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(SnapshotRefused, match="not a readable Parquet file"):
        load_snapshot(path, SCHEMA)


def test_keys_that_stand_twice_are_refused_by_key() -> None:
    with pytest.raises(TableInvalid, match="key 5 stands twice"):
        FeatureTable(SCHEMA, np.array([5, 1, 5]), np.zeros((3, 2), dtype=np.float32))
