"""A running worker's release and feature table, replaced whole or not at all."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from features.snapshot import SnapshotRefused
from models.release import ReleaseRefused
from scoring.errors import SchemaMismatch
from scoring.pipeline import Pipeline
from stream.composition import build_pipeline, release_folder
from stream.settings import Settings

logger = structlog.get_logger(__name__)

_Seen = tuple[Path, tuple[int, int, int]]


class CurrentPipeline:
    """
    The pipeline that decides now; another takes its place between two polls.

    Raises what `build_pipeline` does where there is none to begin with. `refused` says why what
    lies there now was not taken, and is empty while it was.
    """

    def __init__(self, settings: Settings, on_swap: Callable[[Pipeline], None]) -> None:
        self._settings = settings
        self._on_swap = on_swap
        self.refused = ""
        self._seen: _Seen | None = None
        with suppress(ReleaseRefused, OSError):  # loading says better what is wrong
            self._seen = self._look()
        self._pipeline = build_pipeline(settings)
        on_swap(self._pipeline)

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
            if seen == self._seen:
                return
            self._seen = seen
            pipeline = build_pipeline(self._settings)
        except (ReleaseRefused, SnapshotRefused, SchemaMismatch, OSError) as error:
            if self.refused != str(error):
                self.refused = str(error)
                logger.error("swap.refused", cause=self.refused, deciding=self._pipeline.release)  # noqa: TRY400
            return
        self.refused = ""
        self._pipeline = pipeline
        self._on_swap(pipeline)
        logger.info("swap.done", release=pipeline.release, table=pipeline.table.digest)

    def _look(self) -> _Seen:
        table = self._settings.features.stat()
        where = release_folder(self._settings.release).resolve()
        return where, (table.st_ino, table.st_mtime_ns, table.st_size)
