"""The batch drift report: a release's reference against recent decisions of ClickHouse."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray

from models.release import Release, ReleaseRefused, load_release
from monitoring.report import ReportFailed, ReportFiles, ReportRefused, run_report
from sinks.store import StoreRefused, StoreUnavailable
from stream.asking.questions import ask
from stream.composition import release_folder
from stream.process.supervisor import told_to_stop
from stream.settings import Settings

logger = structlog.get_logger(__name__)

_ROWS = 20_000
_RECENT = """
SELECT features FROM decision_ledger FINAL
WHERE release = '{release}' AND notEmpty(features) AND decided_at > now64() - INTERVAL {hours} HOUR
ORDER BY decision_id LIMIT {rows}
"""


def report(settings: Settings, hours: int) -> ReportFiles:
    """
    Draw the report of the last `hours`, over at most 20,000 decisions, and keep it by day.

    Raises ReportRefused, ReportFailed, and the store's and the release's errors.
    """
    release = load_release(release_folder(settings.release))
    reference = _frame(release.reference.features, release)
    sql = _RECENT.format(release=release.id, hours=hours, rows=_ROWS)
    column = ask(settings, sql).column("features").combine_chunks()
    if not len(column):
        msg = f"release {release.id} decided nothing with features in the last {hours} hours"
        raise ReportRefused(msg)
    values = column.flatten().to_numpy().reshape(len(column), -1)
    folder: Path = settings.monitor.reports
    return run_report(reference, _frame(values, release), folder, datetime.now(UTC).date())


def report_regularly(settings: Settings, hours: int, every: timedelta) -> None:
    """Draw the report again and again until told to stop; what hinders one is logged."""
    stopping = told_to_stop()
    while True:
        try:
            files = report(settings, hours)
        except (
            ReportRefused,
            ReportFailed,
            ReleaseRefused,
            StoreUnavailable,
            StoreRefused,
        ) as error:
            logger.warning("report.not_drawn", cause=str(error))
        else:
            logger.info("report.drawn", html=str(files.html))
        if stopping.wait(every.total_seconds()):
            return


def _frame(features: NDArray[np.float32], release: Release) -> pd.DataFrame:
    return pd.DataFrame(features, columns=list(release.schema.names))
