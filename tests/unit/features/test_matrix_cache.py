import gc
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features import matrix_cache
from features.matrix_cache import open_table
from features.schema import Feature, FeatureSchema
from features.snapshot import SnapshotRefused, load_snapshot, write_snapshot
from features.table import FeatureTable

SCHEMA = FeatureSchema((Feature("a"), Feature("b"), Feature("c")))
AS_OF = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
KEYS = np.array([40, 10, 30, 20])
DATES = np.array(["2026-01-04", "2026-01-01", "2026-01-03", "2026-01-02"], "datetime64[us]")


def write(path: Path, value: float = 0.0, keys: Any = KEYS, as_of: Any = DATES) -> None:
    matrix = np.arange(3 * len(keys), dtype=np.float32).reshape(-1, 3) + np.float32(value)
    write_snapshot(path, "application_id", keys, matrix, SCHEMA, as_of)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "features.parquet"
    write(found)
    return found


@pytest.fixture
def kept(path: Path) -> Path:
    """The file beside it, after somebody has opened the table."""
    assert open_table(path, SCHEMA).unshared == ""
    return path.with_name("features.parquet.matrix")


def same(one: FeatureTable, other: FeatureTable) -> bool:
    return (
        (one.digest, one.as_of, one.schema) == (other.digest, other.as_of, other.schema)
        and np.array_equal(one.keys, other.keys)
        and one.keys.dtype == other.keys.dtype
        and one.matrix.tobytes() == other.matrix.tobytes()
        and np.array_equal(one.as_of_us(rows := np.arange(len(one))), other.as_of_us(rows))
    )


def mappings() -> int:
    gc.collect()  # errors of tests before this one may hold tables, and themselves
    return Path("/proc/self/maps").read_text().count(".parquet.matrix")


@pytest.mark.parametrize("keys", [KEYS, np.array(["delta", "alpha", "señor", "beta"])])
@pytest.mark.parametrize("as_of", [AS_OF, DATES])
def test_a_table_is_the_same_from_both_files(tmp_path: Path, keys: Any, as_of: Any) -> None:
    path = tmp_path / "features.parquet"
    write(path, keys=keys, as_of=as_of)

    parsed = load_snapshot(path, SCHEMA)
    first, second = open_table(path, SCHEMA), open_table(path, SCHEMA)

    assert same(parsed, first.table)
    assert same(parsed, second.table)
    assert (first.unshared, second.unshared) == ("", "")
    assert sorted(tmp_path.iterdir()) == [path, path.with_name("features.parquet.matrix")]


def test_a_table_is_mapped_for_reading_and_in_whole_lines(path: Path, kept: Path) -> None:
    table = open_table(path, SCHEMA).table

    assert mappings() == 1
    assert table.matrix.ctypes.data % 64 == 0
    assert type(table.matrix) is np.ndarray
    assert not table.matrix.flags.writeable
    assert not table.keys.flags.writeable
    del table
    assert mappings() == 0
    assert kept.exists()


def test_a_file_that_is_there_is_used_and_not_written_again(path: Path, kept: Path) -> None:
    before = kept.stat()

    open_table(path, SCHEMA)

    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_flipped_bytes_anywhere_decide_nothing(path: Path, data: st.DataObject) -> None:
    open_table(path, SCHEMA)
    kept = path.with_name("features.parquet.matrix")
    content = bytearray(kept.read_bytes())
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=4, unique=True)):
        content[place] ^= data.draw(st.integers(1, 255))
    kept.write_bytes(content)

    opened = open_table(path, SCHEMA)

    assert same(opened.table, load_snapshot(path, SCHEMA))
    assert kept.read_bytes() != content


def test_one_flipped_bit_in_any_byte_is_mended(path: Path, kept: Path) -> None:
    sound = kept.read_bytes()
    for place in range(len(sound)):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << place % 8
        kept.write_bytes(damaged)

        open_table(path, SCHEMA)

        assert kept.read_bytes() == sound, place


@pytest.mark.parametrize(
    "how",
    [
        lambda content: content[:0],
        lambda content: content[:10],
        lambda content: content[:64],
        lambda content: content[:72],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"\0" * len(content),
        lambda content: content[64:],
    ],
)
def test_a_truncated_or_foreign_file_is_written_anew(
    path: Path, kept: Path, how: Callable[[bytes], bytes]
) -> None:
    sound = kept.read_bytes()
    kept.write_bytes(how(sound))

    assert same(open_table(path, SCHEMA).table, load_snapshot(path, SCHEMA))
    assert kept.read_bytes() == sound


def test_the_file_of_a_table_that_was_replaced_is_written_anew(path: Path, kept: Path) -> None:
    old, stale = open_table(path, SCHEMA).table, kept.read_bytes()
    write(path, 100.0)

    new = open_table(path, SCHEMA).table

    assert new.matrix[new.rows([40])].tolist() == [[100, 101, 102]]
    assert old.matrix[old.rows([40])].tolist() == [[0, 1, 2]]
    assert kept.read_bytes() != stale
    assert new.digest == load_snapshot(path, SCHEMA).digest


def test_a_replaced_table_of_the_same_size_and_time_is_not_taken_for_the_old(
    path: Path, kept: Path
) -> None:
    before = path.stat()
    stale = kept.read_bytes()
    write(path, 100.0)
    new = path.read_bytes()
    write(path)
    with path.open("r+b") as file:
        file.write(new)
        file.truncate()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    kept.write_bytes(stale)

    assert same(open_table(path, SCHEMA).table, load_snapshot(path, SCHEMA))


def test_a_damaged_parquet_file_is_refused_although_the_other_is_sound(
    path: Path, kept: Path
) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(SnapshotRefused, match="is damaged"):
        open_table(path, SCHEMA)
    path.unlink()
    with pytest.raises(SnapshotRefused, match="there is no such file"):
        open_table(path, SCHEMA)
    assert kept.exists()


def test_another_schema_is_refused_although_the_file_is_sound(path: Path, kept: Path) -> None:
    before = kept.read_bytes()

    with pytest.raises(SnapshotRefused, match="another order"):
        open_table(path, FeatureSchema((Feature("b"), Feature("a"), Feature("c"))))

    assert kept.read_bytes() == before


def test_the_file_of_another_format_version_is_written_anew(
    path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = kept.read_bytes()
    monkeypatch.setattr(matrix_cache, "_MARK", matrix_cache._MARK.replace(b" 1 ", b" 2 "))

    assert same(open_table(path, SCHEMA).table, load_snapshot(path, SCHEMA))
    assert kept.read_bytes()[:32] != ours[:32]
    assert kept.read_bytes()[32:] == ours[32:]


def test_a_running_workers_table_outlives_what_becomes_of_its_file(path: Path, kept: Path) -> None:
    table = open_table(path, SCHEMA).table
    before = table.matrix.tobytes()

    write(path, 100.0)
    open_table(path, SCHEMA)
    kept.unlink()
    path.unlink()

    assert table.matrix.tobytes() == before


def test_many_that_open_at_once_have_the_same_table_and_leave_one_file(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(lambda _: open_table(path, SCHEMA), range(32)))

    expected = load_snapshot(path, SCHEMA)
    assert all(same(one.table, expected) for one in opened)
    assert len(list(path.parent.iterdir())) == 2


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """As on a full disk, writing more fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_the_disk_is_full_the_table_is_the_process_own_and_says_why(path: Path) -> None:
    with no_file_beyond(100):
        opened = open_table(path, SCHEMA)

    assert "features.parquet.matrix cannot be written: [Errno 27]" in opened.unshared
    assert same(opened.table, load_snapshot(path, SCHEMA))
    assert list(path.parent.iterdir()) == [path]


def test_where_the_name_is_taken_the_table_is_the_process_own_and_says_why(path: Path) -> None:
    (path.with_name("features.parquet.matrix") / "taken").mkdir(parents=True)

    opened = open_table(path, SCHEMA)

    assert "cannot be written" in opened.unshared
    assert same(opened.table, load_snapshot(path, SCHEMA))
    assert mappings() == 0


def test_a_copied_pair_is_used_as_it_is(path: Path, kept: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for file in (path, kept):
        shutil.copy(file, there)
    before = (there / kept.name).stat()

    assert open_table(there / path.name, SCHEMA).unshared == ""
    assert (there / kept.name).stat().st_ino == before.st_ino
