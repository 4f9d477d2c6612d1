"""Files to decisions without Kafka: the same features, scores and policy as in the stream."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.whole_file import whole_file
from models.release import Release
from models.rows import AS_OF, SUBMITTED_AT, RowsRefused, features_of, microseconds, read_rows
from scoring.decision import BANDS, FEATURE_SOURCES, NO_TIME, OUTCOMES, age_s
from scoring.judge import judge

_DECIDED = (
    "default_probability",
    "score",
    "outcome",
    "risk_band",
    "release",
    "features_age_s",
    "features_stale",
)


def score_file(path: Path, release: Release, out: Path, key: str) -> int:
    """
    Decide each row of a file, in its order; give their number.

    `out` is Parquet, one row for each: key, default_probability, score, outcome, risk_band,
    release, features_age_s, features_stale. It appears whole or not at all. Raises RowsRefused.

    Rows of features with a column `submitted_at` are judged by age as those of a feature table are,
    from the column `as_of`; without it, age and staleness are null, and no row is taken for stale.
    Rows of attributes are computed, so their age is 0.
    """
    if key in _DECIDED:
        msg = f"key column {key!r} has the name of a column of the answer"
        raise RowsRefused(msg)
    if out.suffix != ".parquet" or out.resolve() == path.resolve():
        msg = f"{out}: the answer is a Parquet file, so its name ends in .parquet, and another file"
        raise RowsRefused(msg)
    rows = read_rows(path, key)
    features = features_of(rows, release, path)
    age, stale = _freshness(rows, release, path)
    known = np.zeros(len(features), dtype=bool)
    verdicts = judge(release.scorer, release.policy, features, known, stale, explain=False)
    decided = pa.table(
        {
            key: rows[key],
            "default_probability": verdicts.default_probability,
            "score": verdicts.scores,
            "outcome": np.array(OUTCOMES)[verdicts.outcomes],
            "risk_band": np.array(BANDS)[verdicts.bands],
            "release": pa.repeat(release.id, len(features)),
            "features_age_s": pa.array(age, pa.float64(), mask=np.isnan(age)),
            "features_stale": pa.repeat(None, len(features)).cast(pa.bool_())
            if stale is None
            else pa.array(stale),
        }
    )
    try:
        with whole_file(out) as unfinished:
            pq.write_table(decided, unfinished)
    except OSError as error:
        msg = f"{out} cannot be written: {error.strerror or error}"
        raise RowsRefused(msg) from None
    return len(features)


def _freshness(
    rows: pa.Table, release: Release, path: Path
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """Give each row's age in seconds, NaN where not known, and which are stale; None: not known."""
    count = rows.num_rows
    if not set(rows.column_names).issuperset(release.schema.names):
        return np.zeros(count), np.zeros(count, dtype=bool)
    if SUBMITTED_AT not in rows.column_names:
        return np.full(count, np.nan), None
    submitted = microseconds(rows, SUBMITTED_AT, path)
    if (submitted == NO_TIME).any():
        msg = f"{path}: column {SUBMITTED_AT!r} holds nulls"
        raise RowsRefused(msg)
    as_of = np.full(count, NO_TIME, dtype=np.int64)
    if AS_OF in rows.column_names:
        as_of = microseconds(rows, AS_OF, path)
    stale = np.zeros(count, dtype=bool)
    if release.policy.freshness is not None:
        sources = np.full(count, FEATURE_SOURCES.index("table"), dtype=np.uint8)
        stale = release.policy.freshness.is_stale(sources, submitted, as_of)
    return age_s(submitted, as_of), stale
