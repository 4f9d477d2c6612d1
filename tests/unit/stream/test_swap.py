import resource
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import numpy as np
import pytest

from features.catalogue import BY_NAME
from features.schema import FeatureSchema
from features.snapshot import SnapshotRefused, write_snapshot
from features.taiwan_default import DEFINITION
from models.policies import policy_text
from models.release import FORMAT, Manifest, ReleaseRefused, write_release
from monitoring.metrics import PREFIX, Metrics
from scoring.pipeline import Pipeline
from stream import swap
from stream.composition import release_folder, table_file
from stream.settings import Settings, SwapSettings
from stream.swap import CurrentPipeline
from tests.builders import NOW_MS, a_model_text, a_poll, a_release, an_event, raw_columns
from tests.fuzz import damage, releases, tables

INTO_NOTHING = [how for how in damage.PLACE if how is not damage.outside]


def promote(current: Path, release: Path) -> None:
    """As `ln -sfn` does: the name points to the one or to the other, never to nothing."""
    unfinished = current.with_name("next")
    unfinished.symlink_to(release)
    unfinished.replace(current)


def write_table(path: Path, rows: int, *, missing: int = 0, month: int = 9) -> None:
    """Write a table; `limit` is missing in so many rows."""
    matrix = DEFINITION.compute(raw_columns(rows))
    matrix[:missing, DEFINITION.schema.names.index("limit")] = np.nan
    as_of = datetime(2026, month, 1, tzinfo=UTC)
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


def of(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(PREFIX + name, labels)


def counted(metrics: Metrics) -> tuple[float | None, float | None, float | None]:
    """Swaps done, swaps refused, and whether one is refused now."""
    found = [of(metrics, "swaps_total", result=result) for result in ("done", "refused")]
    return found[0], found[1], of(metrics, "swap_refused")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics.create()


def test_a_promoted_release_decides_from_the_next_poll_on(
    settings: Settings, metrics: Metrics
) -> None:
    current = CurrentPipeline(settings, metrics)
    first = current().release
    second = a_release(settings.release.parent / "releases", 0.2)

    current.look()
    assert current().release == first
    promote(settings.release, second)
    current.look()

    assert current().release == second.name
    assert of(metrics, "release_info", release=second.name) == 1
    assert of(metrics, "release_info", release=first) is None
    assert of(metrics, "scored_by_kernel") == 1
    assert counted(metrics) == (1, 0, 0)
    assert current.refused == ""


@pytest.mark.parametrize(
    "file", ["model.txt", "features.json", "policy.toml", "reference.parquet", "manifest.json"]
)
def test_a_damaged_release_is_refused_by_name_and_the_old_one_goes_on(
    settings: Settings, metrics: Metrics, file: str
) -> None:
    current = CurrentPipeline(settings, metrics)
    first = current().release
    damaged = a_release(settings.release.parent / "releases", 0.2)
    flip_last_byte(damaged / file)

    promote(settings.release, damaged)
    current.look()

    assert current().release == first
    assert file in current.refused
    assert counted(metrics) == (0, 1, 1)

    good = a_release(settings.release.parent / "releases", 0.3)
    promote(settings.release, good)
    current.look()
    assert current().release == good.name
    assert current.refused == ""


def test_a_new_table_is_taken_over_and_a_damaged_one_refused_until_it_is_mended(
    settings: Settings, metrics: Metrics
) -> None:
    current = CurrentPipeline(settings, metrics)
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


def test_a_table_that_lost_values_is_refused_with_the_columns_and_the_old_one_goes_on(
    settings: Settings, metrics: Metrics
) -> None:
    current = CurrentPipeline(settings, metrics)
    before = current().table.digest

    write_table(settings.features, 5, missing=1)
    current.look()
    current.look()

    assert current().table.digest == before
    assert f"{settings.features}: it differs too much" in current.refused
    assert "missing share of limit 0.2000 after 0.0000" in current.refused
    assert counted(metrics) == (0, 1, 1)

    write_table(settings.features, 5, missing=2)
    current.look()
    assert counted(metrics) == (0, 2, 1)

    write_table(settings.features, 5, month=10)
    current.look()
    assert current().table.digest != before
    assert current.refused == ""
    assert counted(metrics) == (1, 2, 0)
    october = datetime(2026, 10, 1, tzinfo=UTC).timestamp()
    assert of(metrics, "features_as_of_timestamp_seconds") == october


def test_bounds_are_the_settings(settings: Settings, metrics: Metrics) -> None:
    wide = SwapSettings(rows_lost=0.9, rows_gained=9, missing_change=0.5, as_of_may_go_back=True)
    current = CurrentPipeline(settings.model_copy(update={"swap": wide}), metrics)

    write_table(settings.features, 1, month=8)
    current.look()
    assert len(current().table) == 1
    write_table(settings.features, 10, missing=5, month=7)
    current.look()
    assert len(current().table) == 10

    assert counted(metrics) == (2, 0, 0)


def test_a_table_that_was_away_and_is_back_is_no_longer_refused(
    settings: Settings, metrics: Metrics
) -> None:
    current = CurrentPipeline(settings, metrics)
    away = settings.features.with_name("away")

    settings.features.rename(away)
    current.look()
    current.look()
    assert counted(metrics) == (0, 1, 1)

    away.rename(settings.features)
    current.look()
    assert current.refused == ""
    assert of(metrics, "swap_refused") == 0


def test_a_link_is_followed_to_another_table_and_an_older_one_needs_a_word(
    settings: Settings, metrics: Metrics, tmp_path: Path
) -> None:
    september, october = tmp_path / "september.parquet", tmp_path / "october.parquet"
    write_table(september, 5)
    write_table(october, 6, month=10)
    link = tmp_path / "latest"
    promote(link, september)
    current = CurrentPipeline(settings.model_copy(update={"features": link}), metrics)

    promote(link, october)
    current.look()
    assert len(current().table) == 6

    promote(link, september)
    current.look()
    assert len(current().table) == 6
    assert f"{september}: " in current.refused
    assert "goes back" in current.refused


def test_a_folder_gives_its_newest_complete_table(
    settings: Settings, metrics: Metrics, tmp_path: Path
) -> None:
    folder = tmp_path / "tables"
    write_table(folder / "2026-09-01.parquet", 5)
    current = CurrentPipeline(settings.model_copy(update={"features": folder}), metrics)
    assert len(current().table) == 5

    write_table(folder / "2026-10-01.parquet", 6, month=10)
    whole = (folder / "2026-10-01.parquet").read_bytes()
    (folder / "2026-10-01.parquet").write_bytes(whole[:-1])
    (folder / ".2026-11-01.parquet").write_bytes(whole)
    (folder / "2026-12-01.parquet.part").write_bytes(whole)
    current.look()
    assert len(current().table) == 5
    assert counted(metrics) == (0, 0, 0)

    (folder / "2026-10-01.parquet").write_bytes(whole)
    current.look()
    assert len(current().table) == 6


def test_a_folder_without_a_complete_table_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.parquet").touch()

    with pytest.raises(SnapshotRefused, match=rf"{tmp_path}: no complete \*\.parquet"):
        table_file(tmp_path)


@pytest.mark.parametrize(("missing", "taken"), [(0, True), (1, False)])
def test_a_release_of_other_features_is_taken_over_with_its_table_where_what_they_share_is_alike(
    settings: Settings, metrics: Metrics, missing: int, *, taken: bool
) -> None:
    current = CurrentPipeline(settings, metrics)
    first = current().release
    schema = FeatureSchema(DEFINITION.schema.features[:20])
    matrix = DEFINITION.compute(raw_columns(5))[:, :20]
    manifest = Manifest(format=FORMAT, definition=BY_NAME, files={})
    others = settings.release.parent / "others"
    policy = policy_text(BY_NAME, 0.3, 0.5)
    second = write_release(others, a_model_text(schema), schema, policy, matrix, manifest)

    matrix[:missing, schema.names.index("limit")] = np.nan
    september = datetime(2026, 9, 1, tzinfo=UTC)
    write_snapshot(settings.features, "key", np.arange(1, 6), matrix, schema, september)
    current.look()
    assert current().release == first
    assert "features.parquet" in current.refused

    promote(settings.release, second)
    current.look()
    assert current().release == (second.name if taken else first)
    assert (current.refused == "") is taken


def test_a_worker_without_anything_to_begin_with_does_not_start(
    settings: Settings, tmp_path: Path
) -> None:
    gone = settings.model_copy(update={"features": tmp_path / "nowhere.parquet"})
    with pytest.raises(SnapshotRefused, match=r"nowhere\.parquet"):
        CurrentPipeline(gone, Metrics.create())

    gone = settings.model_copy(update={"release": tmp_path / "nowhere"})
    with pytest.raises(ReleaseRefused, match="nowhere"):
        CurrentPipeline(gone, Metrics.create())


def test_what_stands_in_a_tables_place_is_refused_at_once_and_the_old_one_goes_on(
    settings: Settings, metrics: Metrics
) -> None:
    current = CurrentPipeline(settings, metrics)
    before = current().table.digest

    for how in INTO_NOTHING:
        settings.features.unlink(missing_ok=True)
        write_table(settings.features, 6)
        how(Random(1), settings.features)
        current.look()

        assert current().table.digest == before, how
        assert current.refused, how
        assert current.refused.isprintable()
        if settings.features.is_dir():
            settings.features.rmdir()


def test_what_stands_in_the_place_of_a_releases_file_is_refused_at_once(
    settings: Settings, metrics: Metrics
) -> None:
    current = CurrentPipeline(settings, metrics)
    first = current().release
    folder = settings.release.parent / "hostile"

    for file in ("model.txt", "manifest.json"):
        for number, how in enumerate(INTO_NOTHING):
            hostile = a_release(folder / f"{file}-{number}", 0.2)
            how(Random(1), hostile / file)
            promote(settings.release, hostile)
            current.look()

            assert current().release == first, how
            assert file in current.refused, how
            assert current.refused.isprintable()


def test_a_hostile_release_is_checked_beside_the_polls_and_refused(
    settings: Settings, metrics: Metrics
) -> None:
    current = CurrentPipeline(settings, metrics)
    first = current().release
    sound = a_release(settings.release.parent / "releases", 0.2)
    # TOML whose reading takes a second: a key of very many parts.
    policy = b".".join([b"a"] * 4_000) + b" = 1\n" + (sound / "policy.toml").read_bytes()
    (sound / "policy.toml").write_bytes(policy)
    promote(settings.release, releases._signed(sound))
    events = [an_event(event_id=f"e-{number}") for number in range(20)]
    took: list[float] = []

    looking = threading.Thread(target=current.look)
    looking.start()
    while looking.is_alive():
        began = time.monotonic()
        decided = current().decide(a_poll(*events), NOW_MS * 1000)
        took.append(time.monotonic() - began)
        assert len(decided.batch) == 20
        assert decided.batch.release == first
    looking.join()

    assert "policy.toml" in current.refused
    assert current().release == first
    assert len(took) > 20
    assert float(np.median(took)) < 0.2
    assert max(took) < 1.0


def test_a_hostile_table_is_checked_beside_the_polls_and_refused(
    settings: Settings, metrics: Metrics
) -> None:
    current = CurrentPipeline(settings, metrics)
    before = current().table.digest
    write_table(settings.features, 6)
    settings.features.write_bytes(tables._page_bomb(Random(1), settings.features.read_bytes()))
    assert tables.seal(settings.features)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took: list[float] = []

    looking = threading.Thread(target=current.look)
    looking.start()
    while looking.is_alive():
        began = time.monotonic()
        current().decide(a_poll(an_event()), NOW_MS * 1000)
        took.append(time.monotonic() - began)
    looking.join()

    assert current().table.digest == before
    assert "features.parquet" in current.refused
    assert len(took) > 20
    assert max(took) < 1.0
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) >> 10 < 200


def test_whatever_a_check_raises_the_old_one_goes_on(
    settings: Settings, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = CurrentPipeline(settings, metrics)
    first = current().release

    def fails(_: Settings) -> Pipeline:
        msg = "out of\nmemory"
        raise MemoryError(msg)

    monkeypatch.setattr(swap, "build_pipeline", fails)
    write_table(settings.features, 6)
    current.look()

    assert current().release == first
    assert current.refused == r"MemoryError: out of\nmemory"
    assert counted(metrics) == (0, 1, 1)


def test_a_release_is_found_by_its_name_through_a_link_to_it_or_to_another(tmp_path: Path) -> None:
    first = a_release(tmp_path / "releases")
    second = a_release(tmp_path / "releases", refer=0.2)
    promote(tmp_path / "current", second)

    for path in (first, second, tmp_path / "current", tmp_path / "releases"):
        assert release_folder(path, first.name).resolve() == first
        assert release_folder(path, second.name).resolve() == second


@pytest.mark.parametrize("name", ["../elsewhere", "/etc", "", ".", "0123456789ABCDEF", "a\nb"])
def test_a_release_is_named_by_its_id_and_by_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReleaseRefused, match="is no release's name"):
        release_folder(tmp_path, name)
