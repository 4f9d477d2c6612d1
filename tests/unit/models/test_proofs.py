"""Proofs of releases: kept between processes, never of anything else than what was proved."""

from pathlib import Path
from typing import Any

import pytest

from features.own_process import in_a_process_of_its_own
from models import proofs, release
from models.proofs import is_proved, keep_proof
from models.release import load_release
from tests.builders import a_release


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.setattr("tempfile.tempdir", "/proc/none")
    return tmp_path / "caches"


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of each throw-away process, what it was given."""
    started: list[str] = []

    def counted(code: str, *arguments: str, **how: Any) -> str:
        started.extend(arguments)
        return in_a_process_of_its_own(code, *arguments, **how)

    monkeypatch.setattr(release, "in_a_process_of_its_own", counted)
    return started


def test_a_release_that_proved_itself_is_not_asked_again_where_that_is_trusted(
    tmp_path: Path, processes: list[str]
) -> None:
    made = a_release(tmp_path)
    load_release(made, trusted=True)
    assert processes == [str(made)]

    assert load_release(made, trusted=True).id == made.name
    assert processes == [str(made)]
    load_release(made)
    assert processes == [str(made)] * 2


def test_another_release_proves_itself(tmp_path: Path, processes: list[str]) -> None:
    for refer in (0.2, 0.3):
        load_release(a_release(tmp_path / "releases", refer), trusted=True)

    assert len(set(processes)) == 2


def test_what_one_version_proved_another_does_not_believe(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_proof("digest")
    assert is_proved("digest")
    assert not is_proved("another")

    proofs._code.cache_clear()
    monkeypatch.setattr(proofs, "version", lambda _name: "9.9")
    assert not is_proved("digest")
    proofs._code.cache_clear()


def test_a_folder_that_others_may_write_to_is_not_believed(caches: Path) -> None:
    keep_proof("digest")
    (caches / "creditstream" / "proved").chmod(0o777)

    assert not is_proved("digest")


def test_where_nothing_can_be_kept_a_release_proves_itself_each_time(
    tmp_path: Path, processes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = a_release(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")

    load_release(made, trusted=True)
    load_release(made, trusted=True)

    assert processes == [str(made)] * 2
