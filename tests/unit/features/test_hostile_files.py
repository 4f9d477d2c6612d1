"""Files that somebody else put in a table's place: refused in bounded time and memory."""

import hashlib
import os
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from features.matrix_cache import SUFFIX, open_table
from features.one_line import one_line
from features.regular_file import read_regular
from features.snapshot import SnapshotRefused, load_snapshot
from tests.fuzz import damage, tables
from tests.fuzz.tables import MOST, SCHEMA, Sound, seal, values_of


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return Sound(tmp_path_factory.mktemp("sound"))


def a_copy(sound: Sound, folder: Path, change: Callable[[Random, bytes], bytes]) -> Path:
    """The sound table, changed and sealed again."""
    path = folder / "table.parquet"
    path.write_bytes(change(Random(1), sound.path.read_bytes()))
    assert seal(path)
    return path


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (damage.pipe, "no ordinary file"),
        (damage.folder, "no ordinary file"),
        (damage.door, "No such device or address"),
        (damage.endless, "no ordinary file"),
        (damage.circle, "Too many levels of symbolic links"),
        (damage.nowhere, "there is no such file"),
        (damage.holes, "1099511627776 bytes; .* are allowed"),
    ],
)
def test_what_is_no_ordinary_file_is_refused_at_once(
    sound: Sound, tmp_path: Path, place: Callable[[Random, Path], None], reason: str
) -> None:
    path = a_copy(sound, tmp_path, lambda _, content: content)
    place(Random(1), path)

    with pytest.raises(SnapshotRefused, match=reason):
        open_table(path, SCHEMA, most=MOST)


@pytest.mark.parametrize("place", damage.PLACE)
def test_a_matrix_beside_that_is_no_ordinary_file_is_not_used(
    sound: Sound, tmp_path: Path, place: Callable[[Random, Path], None]
) -> None:
    path = a_copy(sound, tmp_path, lambda _, content: content)
    beside = path.with_name(path.name + SUFFIX)
    beside.write_bytes(sound.matrix.read_bytes())
    place(Random(1), beside)

    assert values_of(open_table(path, SCHEMA, most=MOST).table) == sound.values


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[" * 50_000,
        b'{"snapshot":"","schema":"","as_of":"2026-01-01","rows":1,"keys":"O","dated":false}',
    ],
)
@pytest.mark.parametrize("length", [None, 2**40, 2**63])
def test_a_matrix_beside_with_an_odd_header_and_its_digest_is_not_used(
    sound: Sound, tmp_path: Path, header: bytes, length: int | None
) -> None:
    path = a_copy(sound, tmp_path, lambda _, content: content)
    body = (len(header) if length is None else length).to_bytes(8, "little") + header
    beside = path.with_name(path.name + SUFFIX)
    mark = sound.matrix.read_bytes()[:32]
    beside.write_bytes(mark + hashlib.sha256(body).digest() + body)

    assert values_of(open_table(path, SCHEMA, most=MOST).table) == sound.values


@pytest.mark.parametrize(
    ("keys", "rows"), [("O", 17_000), ("<f8", 17_000), ("S0", 17_000), ("<i8", 2**60), ("x", 1)]
)
def test_a_matrix_beside_of_odd_arrays_is_not_used(
    sound: Sound, tmp_path: Path, keys: str, rows: int
) -> None:
    path = a_copy(sound, tmp_path, lambda _, content: content)
    content = sound.matrix.read_bytes()
    length = int.from_bytes(content[64:72], "little")
    header = content[72 : 72 + length].replace(b'"rows":17000', b'"rows":%d' % rows)
    header = header.replace(b'"<i8"', b'"%b"' % keys.encode())
    body = len(header).to_bytes(8, "little") + header + content[72 + length :]
    beside = path.with_name(path.name + SUFFIX)
    beside.write_bytes(content[:32] + hashlib.sha256(body).digest() + body)

    assert values_of(open_table(path, SCHEMA, most=MOST).table) == sound.values


def test_a_page_that_inflates_ends_a_throw_away_process_at_most(
    sound: Sound, tmp_path: Path
) -> None:
    path = a_copy(sound, tmp_path, tables._page_bomb)
    assert path.stat().st_size < 2_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(SnapshotRefused, match=r"of size 1500000000 failed|cannot be loaded"):
        open_table(path, SCHEMA, most=MOST)

    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert grown < 100_000_000


@pytest.mark.parametrize("keep", [True, False])
def test_a_table_larger_than_allowed_is_refused_by_what_it_says(
    sound: Sound, tmp_path: Path, *, keep: bool
) -> None:
    path = a_copy(sound, tmp_path, tables._many_rows)

    with pytest.raises(SnapshotRefused, match=r"its table takes \d+ bytes; 67108864 are allowed"):
        open_table(path, SCHEMA, most=MOST, keep=keep)


@pytest.mark.parametrize("seed", range(12))
def test_pages_of_too_few_rows_are_refused_where_nothing_runs_apart_too(
    sound: Sound, tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(tables._page_numbers(Random(seed), sound.path.read_bytes()))
    seal(path)

    found: list[str] = []
    with suppress(SnapshotRefused):
        found.append(values_of(load_snapshot(path, SCHEMA)))

    # Where nothing was refused, what was changed is what nothing reads.
    assert found in ([], [sound.values])


def test_a_table_is_not_kept_where_it_is_not_to_be(sound: Sound, tmp_path: Path) -> None:
    path = a_copy(sound, tmp_path, lambda _, content: content)

    opened = open_table(path, SCHEMA, most=MOST, keep=False)

    assert values_of(opened.table) == sound.values
    assert [one.name for one in tmp_path.iterdir()] == ["table.parquet"]


def test_a_file_is_read_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")

    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(path, 4)


def test_a_reason_is_one_line_whatever_a_file_is_called(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\n\xff\xe2\x80\xae.parquet")

    with pytest.raises(SnapshotRefused) as refused:
        load_snapshot(tmp_path / name, SCHEMA)

    assert str(refused.value).isprintable()
    assert r"a\n\udcff\u202e.parquet: there is no such file" in str(refused.value)
    assert len(one_line("x" * 10_000)) == 400
