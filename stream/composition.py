"""Settings to the pure core: the release, the feature table, and the pipeline over both."""

import os
import re
from datetime import timedelta
from pathlib import Path

import structlog

from features.matrix_cache import OpeningTable
from features.regular_file import open_regular
from features.schema import FeatureSchema
from features.snapshot import SnapshotRefused
from features.table import FeatureTable
from models.release import MANIFEST, ReleaseRefused, load_release
from scoring.decode import EventLimits
from scoring.parking import ParkingLimit
from scoring.pipeline import Pipeline
from stream.settings import Settings

logger = structlog.get_logger(__name__)

_PARQUET = b"PAR1"
_RELEASE = re.compile("[0-9a-f]{16}")


def release_folder(path: Path, name: str | None = None) -> Path:
    """
    Find a release: the folder itself, or, in a folder of releases, the named or the only one.

    The path may be a link; a release of another name is looked for beside what it points to.
    Raises ReleaseRefused where there is none, or several and no name, and for a name that is none.
    """
    if name is not None and not _RELEASE.fullmatch(name):
        # It may come from a topic or a store, and climb.
        raise ReleaseRefused(path, MANIFEST, f"{name!r} is no release's name")
    if (path / MANIFEST).is_file():
        return path if name is None else path.resolve().with_name(name)
    if name is not None:
        return path / name
    found = sorted(entry.parent for entry in path.glob(f"[!.]*/{MANIFEST}"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(entry.name for entry in found) or "none"
    reason = f"no release, and a folder of one release neither: it holds {names}"
    raise ReleaseRefused(path, MANIFEST, reason)


def table_file(path: Path) -> Path:
    """
    Find a feature table: the file itself, what a link points to, or, in a folder, the newest.

    The newest is the last by name of the `*.parquet` files that are complete: one that is still
    being copied there does not count. Raises SnapshotRefused for a folder without any.
    """
    if not path.is_dir():
        # Path.resolve raises RuntimeError for links in a circle.
        return Path(os.path.realpath(path)) if path.is_symlink() else path
    for found in sorted(path.glob("[!.]*.parquet"), key=lambda at: at.name, reverse=True):
        if _is_complete(found):
            return found
    raise SnapshotRefused(path, "no complete *.parquet file is in the folder")


def _is_complete(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            begin = file.read(len(_PARQUET))
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(_PARQUET)))
            return size > 2 * len(_PARQUET) and begin == file.read() == _PARQUET
    except OSError:
        return False


def build_pipeline(settings: Settings) -> Pipeline:
    """Load and check the release and the feature table; raises ReleaseRefused, SnapshotRefused."""
    opening = OpeningTable(
        table_file(settings.features),
        most=settings.features_max_mb << 20,
        keep=settings.features_cache,
    )
    release = load_release(release_folder(settings.release), trusted=True)
    logger.info(
        "release.loaded",
        release=release.id,
        scored_by=release.scorer.scored_by,
        explained_by=release.scorer.explained_by,
    )
    events = settings.events
    return Pipeline(
        release=release.id,
        definition=release.definition,
        table=_table(opening, release.schema),
        scorer=release.scorer,
        policy=release.policy,
        limits=EventLimits(
            bytes=events.max_bytes,
            depth=events.max_depth,
            age=timedelta(days=events.max_age_days),
            ahead=timedelta(seconds=events.max_ahead_seconds),
        ),
        explain=settings.reasons == "stream",
    )


def parking_limit(settings: Settings) -> ParkingLimit:
    """Make the limit of what may be parked."""
    return ParkingLimit(**settings.parking.model_dump())


def _table(opening: OpeningTable, schema: FeatureSchema) -> FeatureTable:
    opened = opening.of(schema)
    if opened.unshared:
        logger.warning("table.unshared", cause=opened.unshared)
    return opened.table
