import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.schema import Feature, FeatureSchema
from features.sealed_parquet import write_sealed
from features.snapshot import SnapshotRefused, load_snapshot, write_snapshot
from features.table import FeatureTable, TableInvalid

SCHEMA = FeatureSchema((Feature("a"), Feature("b")))
# One for all tests: its buffers may outlive the test that counts them.
COUNTED = pa.proxy_memory_pool(pa.default_memory_pool())
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


def test_the_same_content_has_the_same_bytes_and_digest(path: Path, tmp_path: Path) -> None:
    matrix = np.arange(20, dtype=np.float32).reshape(10, 2)
    again = tmp_path / "again.parquet"
    write_snapshot(again, "application_id", np.arange(10)[::-1], matrix, SCHEMA, AS_OF)

    assert again.read_bytes() == path.read_bytes()
    assert load_snapshot(again, SCHEMA).digest == load_snapshot(path, SCHEMA).digest


def test_text_keys_are_found(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    keys = np.array(["beta", "alpha", "señor"])
    write_snapshot(path, "applicant_id", keys, np.eye(3, 2, dtype=np.float32), SCHEMA, AS_OF)

    table = load_snapshot(path, SCHEMA)

    assert table.keys_are_text
    assert table.matrix[table.rows(["señor", "beta"])].tolist() == [[0, 0], [1, 0]]
    assert table.rows(["alph", "alphabet", "", "\ud800", "x" * 500]).tolist() == [-1] * 5


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=1), st.data())
def test_each_key_has_its_own_row_and_no_other(keys: list[int], data: st.DataObject) -> None:
    matrix = np.arange(2 * len(keys), dtype=np.float32).reshape(-1, 2)
    table = FeatureTable(SCHEMA, np.array(keys, dtype=np.int64), matrix)
    wanted = data.draw(st.lists(st.sampled_from(keys) | st.integers(-5, 5)))

    rows = table.rows(np.array(wanted, dtype=np.int64))

    for key, row in zip(wanted, rows.tolist(), strict=True):
        if key in keys:
            assert table.matrix[row].tolist() == matrix[keys.index(key)].tolist()
        else:
            assert row == -1


@given(
    st.sampled_from([1, 2, 255, 256, 257, 511, 513, 5_000]),
    st.integers(1, 2**53),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_every_key_of_a_table_of_any_size_is_found_and_its_neighbours_are_not(
    rows: int, spread: int, seed: int, text: bool
) -> None:
    random = np.random.default_rng(seed)
    numbers = np.unique(random.integers(0, spread, rows)) * 2
    keys: Any = np.array([f"{n}é" for n in numbers.tolist()]) if text else numbers
    table = FeatureTable(SCHEMA, keys, np.zeros((len(keys), 2), dtype=np.float32))
    absent: Any = np.array([f"{n}é+" for n in numbers.tolist()]) if text else numbers + 1

    found = table.rows(keys)

    assert table.keys[found].tolist() == ([k.encode() for k in keys] if text else keys.tolist())
    assert sorted(found.tolist()) == list(range(len(keys)))
    assert set(table.rows(absent).tolist()) == {-1}
    assert set(table.rows(absent[:1] if text else numbers[:1] - 1).tolist()) == {-1}


@pytest.mark.parametrize("text", [False, True])
def test_loading_takes_little_more_memory_than_the_matrix(tmp_path: Path, *, text: bool) -> None:
    schema = FeatureSchema(tuple(Feature(f"f{index}") for index in range(189)))
    matrix = np.random.default_rng(0).normal(size=(60_000, 189)).astype(np.float32)
    numbers = np.random.default_rng(1).permutation(len(matrix))
    keys = np.array([f"{number:036d}" for number in numbers]) if text else numbers
    write_snapshot(tmp_path / "t.parquet", "id", keys, matrix, schema, AS_OF)
    default = pa.default_memory_pool()
    pa.set_memory_pool(COUNTED)
    tracemalloc.start()

    table = load_snapshot(tmp_path / "t.parquet", schema)

    peak = tracemalloc.get_traced_memory()[1] + COUNTED.max_memory()
    tracemalloc.stop()
    pa.set_memory_pool(default)
    assert COUNTED.max_memory() > 0
    assert peak <= 1.2 * matrix.nbytes
    assert table.nbytes <= 1.06 * matrix.nbytes
    assert np.array_equal(table.matrix[table.rows(keys)], matrix)


def test_a_new_file_makes_a_new_table_and_leaves_the_old_one_alone(path: Path) -> None:
    old = load_snapshot(path, SCHEMA)
    matrix = np.full((1, 2), 7, dtype=np.float32)
    write_snapshot(path, "application_id", np.array([9]), matrix, SCHEMA, AS_OF)

    new = load_snapshot(path, SCHEMA)

    assert old.matrix[old.rows([9])].tolist() == [[0, 1]]
    assert new.matrix[new.rows([9])].tolist() == [[7, 7]]
    assert old.digest != new.digest


def change(path: Path, how: Callable[[pa.Table], pa.Table], **metadata: bytes) -> None:
    """Write a file anew as another build of creditstream might have: its digest is right."""
    told = pq.ParquetFile(path).metadata.metadata
    told = {name: value for name, value in told.items() if name.startswith(b"creditstream.")}
    told |= {f"creditstream.{name}".encode(): value for name, value in metadata.items()}
    told.pop(b"creditstream.sha256")
    table = how(pq.read_table(path))
    write_sealed(path, table, told)


@pytest.mark.parametrize(
    ("how", "reason", "columns"),
    [
        (lambda t: t.drop_columns(["b"]), "missing b", ("b",)),
        (lambda t: t.append_column("c", t["a"]), "extra c", ("c",)),
        (lambda t: t.append_column("a", t["a"]), "repeated a", ("a",)),
        (lambda t: t.select(["application_id", "b", "a"]), "another order", ("b", "a")),
        (
            lambda t: t.set_column(1, "a", t["a"].cast("double")),
            "column 'a' is double",
            ("a",),
        ),
        (
            lambda t: t.drop_columns(["application_id"]),
            "key column 'application_id' stands 0 times",
            ("application_id",),
        ),
        (
            lambda t: t.append_column("application_id", t["application_id"]),
            "key column 'application_id' stands 2 times",
            ("application_id",),
        ),
        (
            lambda t: t.set_column(0, "application_id", t["application_id"].cast("double")),
            "key column 'application_id' is double",
            ("application_id",),
        ),
        (lambda t: t.slice(0, 0), "0 rows", ()),
        (lambda t: t.slice(0, 5), "5 rows", ()),
        (
            lambda t: t.set_column(0, "application_id", pa.array([1] * 10)),
            "key 1 stands twice",
            (),
        ),
        (
            lambda t: t.set_column(0, "application_id", pa.array(["k"] * 10)),
            "key k stands twice",
            (),
        ),
        (
            lambda t: t.set_column(0, "application_id", pa.array([None, *range(9)], pa.int64())),
            "holds 1 nulls",
            ("application_id",),
        ),
        (
            lambda t: t.set_column(0, "application_id", pa.array(["a", "a\0", *"bcdefghi"])),
            "holds a NUL character",
            ("application_id",),
        ),
        (
            lambda t: t.set_column(0, "application_id", pa.array(["x" * 65, *"abcdefghi"])),
            "more than 64 characters",
            (),
        ),
    ],
)
def test_a_changed_file_is_refused_by_name(
    path: Path, how: Callable[[pa.Table], pa.Table], reason: str, columns: tuple[str, ...]
) -> None:
    change(path, how)

    with pytest.raises(SnapshotRefused, match=reason) as refused:
        load_snapshot(path, SCHEMA)

    assert refused.value.columns == columns


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"schema_digest": b"0" * 64}, "schema digest is not the release's"),
        ({"key": b""}, "lack creditstream.key"),
        ({"as_of": b"yesterday"}, "metadata are damaged"),
        ({"as_of": b"2026-01-02"}, "no time zone"),
        ({"rows": b"ten"}, "metadata are damaged"),
        ({"rows": b"11"}, "holds 10 rows and says 11"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(
    path: Path, metadata: dict[str, bytes], reason: str
) -> None:
    change(path, lambda table: table, **metadata)

    with pytest.raises(SnapshotRefused, match=reason):
        load_snapshot(path, SCHEMA)


def test_one_flipped_bit_in_any_byte_is_refused(path: Path) -> None:
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)

        with pytest.raises(SnapshotRefused):
            load_snapshot(path, SCHEMA)


@pytest.mark.parametrize("keep", [0, 3, 8, 100, -20, -1])
def test_a_truncated_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(SnapshotRefused, match="no Parquet file, or a truncated one"):
        load_snapshot(path, SCHEMA)


def test_a_parquet_file_of_another_program_is_refused(path: Path) -> None:
    pq.write_table(pq.read_table(path), path)

    with pytest.raises(SnapshotRefused, match=r"its metadata lack creditstream\.sha256"):
        load_snapshot(path, SCHEMA)


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SnapshotRefused, match="there is no such file"):
        load_snapshot(tmp_path / "none.parquet", SCHEMA)
    with pytest.raises(SnapshotRefused, match="not a readable Parquet file"):
        load_snapshot(tmp_path, SCHEMA)


@pytest.mark.parametrize(
    ("keys", "as_of", "reason"),
    [
        (np.array([1, 1]), AS_OF, "key 1 stands twice"),
        (np.array(["a" * 65, "b"]), AS_OF, "more than 64 characters"),
        (np.array([1.0, 2.0]), AS_OF, "keys are int64 or text, not float64"),
        (np.array([1, 2, 3]), AS_OF, "make no table"),
        (np.array([1, 2]), AS_OF.replace(tzinfo=None), "no time zone"),
    ],
)
def test_a_table_that_is_none_is_not_written(
    path: Path, keys: Any, as_of: datetime, reason: str
) -> None:
    before = path.read_bytes()

    with pytest.raises(TableInvalid, match=reason):
        write_snapshot(path, "id", keys, np.zeros((2, 2), dtype=np.float32), SCHEMA, as_of)

    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_small_integers_as_keys_are_written_as_int64(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    keys: Any = np.array([3, 1], dtype=np.int32)
    write_snapshot(path, "id", keys, np.zeros((2, 2), dtype=np.float32), SCHEMA, AS_OF)

    assert load_snapshot(path, SCHEMA).rows([1, 3]).tolist() == [0, 1]


def test_keys_that_stand_twice_are_refused_by_key() -> None:
    with pytest.raises(TableInvalid, match="key 5 stands twice"):
        FeatureTable(SCHEMA, np.array([5, 1, 5]), np.zeros((3, 2), dtype=np.float32))
