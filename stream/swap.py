"""A running worker's release and feature table, replaced whole or not at all."""

import math
from contextlib import suppress
from pathlib import Path

import structlog

from features.change import Bounds, ChangeRefused, check_change
from features.one_line import one_line
from features.snapshot import SnapshotRefused
from models.release import ReleaseRefused
from monitoring.metrics import Metrics
from scoring.errors import SchemaMismatch
from scoring.pipeline import Pipeline
from stream.composition import build_pipeline, release_folder, table_file
from stream.settings import Settings

logger = structlog.get_logger(__name__)

_Seen = tuple[Path, Path, tuple[int, int, int]]


class CurrentPipeline:
    """
    The pipeline that decides now; another takes its place between two polls.

    Raises what `build_pipeline` does where there is none to begin with; the first table has none
    before it and is not compared. `refused` says why what lies there now was not taken, and is
    empty while it was.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._bounds = Bounds(**settings.swap.model_dump())
        self.refused = ""
        self._seen: _Seen | None = None
        # Where nothing is found, loading says better what is wrong.
        with suppress(ReleaseRefused, SnapshotRefused, OSError):
            self._seen = self._look()
        self._pipeline = build_pipeline(settings)
        self._tell()

    def __call__(self) -> Pipeline:
        """Give the pipeline for the next poll."""
        return self._pipeline

    def look(self) -> None:
        """
        Take over a release or table that is another than when last looked. Blocks; use a thread.

        What is refused changes nothing, is said aloud, and is not tried again until it changes.
        """
        try:
            seen = self._look()
        except (ReleaseRefused, SnapshotRefused, OSError) as error:
            self._seen = None
            if self.refused != str(error):  # each look finds the same
                self._refuse(str(error))
            return
        if seen == self._seen:
            return
        self._seen = seen
        try:
            pipeline = build_pipeline(self._settings)
            check_change(self._pipeline.table, pipeline.table, self._bounds)
        except (ReleaseRefused, SnapshotRefused, SchemaMismatch, OSError) as error:
            self._refuse(str(error))
            return
        except ChangeRefused as error:
            self._refuse(f"{seen[1]}: {error}")
            return
        except Exception as error:
            logger.exception("swap.failed")
            self._refuse(one_line(f"{type(error).__name__}: {error}"))
            return
        before, self._pipeline, self.refused = self._pipeline, pipeline, ""
        self._metrics.swaps.labels(result="done").inc()
        self._tell()
        logger.info(
            "swap.done",
            release=pipeline.release,
            table=pipeline.table.digest,
            rows=len(pipeline.table),
            as_of=str(pipeline.table.as_of),
            release_before=before.release,
            table_before=before.table.digest,
            rows_before=len(before.table),
            as_of_before=str(before.table.as_of),
        )

    def _look(self) -> _Seen:
        path = table_file(self._settings.features)
        table = path.stat()
        where = release_folder(self._settings.release).resolve()
        return where, path, (table.st_ino, table.st_mtime_ns, table.st_size)

    def _refuse(self, why: str) -> None:
        self.refused = why
        self._metrics.swaps.labels(result="refused").inc()
        self._metrics.swap_refused.set(1)
        logger.error(
            "swap.refused",
            cause=why,
            deciding=self._pipeline.release,
            table=self._pipeline.table.digest,
        )

    def _tell(self) -> None:
        metrics, pipeline = self._metrics, self._pipeline
        metrics.release_info.clear()
        metrics.release_info.labels(release=pipeline.release).set(1)
        metrics.scored_by_kernel.set(pipeline.scored_by == "kernel")
        metrics.swap_refused.set(0)
        as_of = pipeline.table.as_of
        metrics.features_as_of.set(as_of.timestamp() if as_of else math.nan)
