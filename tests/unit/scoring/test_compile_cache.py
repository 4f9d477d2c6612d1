"""Compiled code is kept for the next process, and never another's is run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from numba import njit, types

from scoring.compile_cache import CompileCache

DOUBLE = types.int64(types.int64)
FROM_ANOTHER_PROCESS = """
import json
from numba import njit, types
from scoring.compile_cache import CompileCache
double = njit(lambda number: 2 * number)
double._cache = CompileCache("double", ["first"])
double.compile(types.int64(types.int64))
print(json.dumps([double(21), sum(double.stats.cache_hits.values())]))
"""


def hits(*sources: str, function: object = lambda number: 2 * number) -> int:
    """Compile or load a function that doubles, and say how often it was loaded."""
    double = njit(function)
    double._cache = CompileCache("double", sources or ["first"])
    double.compile(DOUBLE)
    assert double(21) == 42
    return sum(double.stats.cache_hits.values())


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def kept(home: Path) -> list[Path]:
    return list((home / "cache/creditstream/compiled").iterdir())


def test_what_one_process_compiled_the_next_loads() -> None:
    assert hits() == 0

    ended = subprocess.run(
        [sys.executable, "-c", FROM_ANOTHER_PROCESS], capture_output=True, text=True, check=True
    )

    assert json.loads(ended.stdout) == [42, 1]


def test_another_source_or_version_has_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [hits("first"), hits("second"), hits("first")] == [0, 0, 1]

    monkeypatch.setattr(numba, "__version__", "0.0")

    assert hits("first") == 0


@pytest.mark.parametrize("content", [b"", b"damaged", b"\0" * 40])
def test_a_damaged_file_is_compiled_again(home: Path, content: bytes) -> None:
    hits()
    (file,) = kept(home)
    file.write_bytes(content)

    assert [hits(), hits()] == [0, 1]


def test_a_folder_that_others_may_write_to_is_not_read(home: Path) -> None:
    hits()
    (home / "cache/creditstream/compiled").chmod(0o777)

    assert hits() == 0  # and kept in the next place
    assert len(kept(home)) == 1
    assert hits() == 1


def test_without_any_folder_it_is_compiled_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.setattr("tempfile.tempdir", "/proc/none")

    assert [hits(), hits()] == [0, 0]


def test_without_a_home_the_folder_of_temporary_files_is_used(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")

    assert [hits(), hits()] == [0, 1]
    assert (home / f"creditstream-compiled-{os.getuid()}").is_dir()


def test_a_full_disk_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scoring.compile_cache.TemporaryDirectory", full)

    assert hits() == 0
