from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from features.snapshot import SnapshotRefused, write_snapshot
from features.taiwan_default import DEFINITION
from models.release import ReleaseRefused
from scoring.pipeline import Pipeline
from stream.settings import Settings
from stream.swap import CurrentPipeline
from tests.builders import a_release, raw_columns


def promote(current: Path, release: Path) -> None:
    """As `ln -sfn` does: the name points to the one or to the other, never to nothing."""
    unfinished = current.with_name("next")
    unfinished.symlink_to(release)
    unfinished.replace(current)


def write_table(path: Path, rows: int) -> None:
    matrix = DEFINITION.compute(raw_columns(rows))
    as_of = datetime(2026, 9, 1, tzinfo=UTC)
    write_snapshot(path, "application_id", np.arange(1, rows + 1), matrix, DEFINITION.schema, as_of)


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    first = a_release(tmp_path / "releases", 0.1)
    promote(tmp_path / "current", first)
    write_table(tmp_path / "features.parquet", 5)
    return Settings(release=tmp_path / "current", features=tmp_path / "features.parquet")


@pytest.fixture
def swapped() -> list[Pipeline]:
    return []


def test_a_promoted_release_decides_from_the_next_poll_on(
    settings: Settings, swapped: list[Pipeline]
) -> None:
    current = CurrentPipeline(settings, swapped.append)
    first = current().release
    second = a_release(settings.release.parent / "releases", 0.2)

    current.look()
    assert current().release == first
    promote(settings.release, second)
    current.look()

    assert current().release == second.name
    assert [pipeline.release for pipeline in swapped] == [first, second.name]
    assert current.refused == ""


@pytest.mark.parametrize(
    "file", ["model.txt", "features.json", "policy.toml", "reference.parquet", "manifest.json"]
)
def test_a_damaged_release_is_refused_by_name_and_the_old_one_goes_on(
    settings: Settings, swapped: list[Pipeline], file: str
) -> None:
    current = CurrentPipeline(settings, swapped.append)
    first = current().release
    damaged = a_release(settings.release.parent / "releases", 0.2)
    flip_last_byte(damaged / file)

    promote(settings.release, damaged)
    current.look()

    assert current().release == first
    assert file in current.refused
    assert len(swapped) == 1

    good = a_release(settings.release.parent / "releases", 0.3)
    promote(settings.release, good)
    current.look()
    assert current().release == good.name
    assert current.refused == ""


def test_a_new_table_is_taken_over_and_a_damaged_one_refused_until_it_is_mended(
    settings: Settings, swapped: list[Pipeline]
) -> None:
    current = CurrentPipeline(settings, swapped.append)
    assert len(current().table) == 5

    write_table(settings.features, 7)
    current.look()
    assert len(current().table) == 7

    flip_last_byte(settings.features)
    current.look()
    assert len(current().table) == 7
    assert "features.parquet" in current.refused

    settings.features.unlink()
    current.look()
    assert len(current().table) == 7

    write_table(settings.features, 9)
    current.look()
    assert len(current().table) == 9
    assert current.refused == ""


def test_a_worker_without_anything_to_begin_with_does_not_start(
    settings: Settings, tmp_path: Path
) -> None:
    gone = settings.model_copy(update={"features": tmp_path / "nowhere.parquet"})
    with pytest.raises(SnapshotRefused, match=r"nowhere\.parquet"):
        CurrentPipeline(gone, lambda _: None)

    gone = settings.model_copy(update={"release": tmp_path / "nowhere"})
    with pytest.raises(ReleaseRefused, match="nowhere"):
        CurrentPipeline(gone, lambda _: None)
