"""The batch drift report: a release's reference against recent decisions of ClickHouse."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.release import Release, load_release
from monitoring.report import ReportFiles, ReportRefused, run_report
from stream.composition import release_folder
from stream.reading import ask
from stream.settings import Settings

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


def _frame(features: NDArray[np.float32], release: Release) -> pd.DataFrame:
    return pd.DataFrame(features, columns=list(release.schema.names))
