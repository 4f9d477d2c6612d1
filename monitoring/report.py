"""The batch drift report: recent decisions against a release's reference, drawn by Evidently."""

import json
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from features.whole_file import whole_file
from monitoring.psi import ReferenceBins

_ROWS = 5_000
_FEATURES = 40  # 40 features of 5,000 rows take 3 s and 6.5 MB, 189 take 12 s and 17 MB
_PSI_ALARM = 0.25
_SEED = 20_251
_NICER = 15


class ReportRefused(Exception):
    """There is nothing to compare; says why."""


class ReportFailed(Exception):
    """The process that draws the report ended without one."""


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where a day's report is."""

    html: Path
    json: Path


class FeatureDrift(msgspec.Struct, frozen=True):
    """How far a feature is from the reference; Evidently does not count missing values, we do."""

    feature: str
    psi: float
    missing_share: float
    reference_missing_share: float


class ReportSummary(msgspec.Struct, frozen=True):
    """
    What a report says, for machines; it stands in the JSON file under `summary`.

    `features` has every feature, the farthest first; `drawn` those that Evidently compared;
    `empty` those without any value on one side, which it cannot compare.
    """

    day: date
    rows: int
    reference_rows: int
    drifted: list[str]
    drawn: list[str]
    empty: list[str]
    features: list[FeatureDrift]
    evidently: str


def run_report(
    reference: pd.DataFrame, current: pd.DataFrame, folder: Path, day: date
) -> ReportFiles:
    """
    Write the day's report in a process of its own: Evidently takes 6 s to import and up to 1 GB.

    Frames have a column a feature (NaN: missing). Raises ReportRefused, ReportFailed.
    """
    context = multiprocessing.get_context("spawn")
    # It takes a core for half a minute, which nobody waits for.
    pool = ProcessPoolExecutor(1, context, _begin)
    try:
        return pool.submit(write_report, reference, current, folder, day).result()
    except BrokenProcessPool as error:
        msg = "the process that draws the report was killed; it may have lacked memory"
        raise ReportFailed(msg) from error
    except BaseException:
        # Told to end: leaving the pool would wait for the report.
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        # It may be told so while its thread is starting, which cannot be joined yet.
        with suppress(RuntimeError):
            pool.shutdown()


def _begin() -> None:
    os.nice(_NICER)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def write_report(
    reference: pd.DataFrame, current: pd.DataFrame, folder: Path, day: date
) -> ReportFiles:
    """
    Write `folder`/`day`/drift.html and drift.json, in this process.

    A report of the same day is replaced, each file at once. Raises ReportRefused.
    """
    reference, current = _comparable(reference, current)
    summary = _summary(reference, current, day)
    html, document = _draw(reference, current, summary)
    target = folder / day.isoformat()
    files = ReportFiles(target / "drift.html", target / "drift.json")
    for path, content in ((files.html, html.encode()), (files.json, document)):
        with whole_file(path) as unfinished:
            unfinished.write_bytes(content)
    return files


def _comparable(
    reference: pd.DataFrame, current: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    absent = [name for name in reference.columns if name not in current.columns]
    if absent:
        msg = f"the recent decisions lack features of the reference: {', '.join(absent)}"
        raise ReportRefused(msg)
    for frame, name in ((reference, "reference rows"), (current, "recent decisions")):
        if frame.empty:
            msg = f"there are no {name} to compare"
            raise ReportRefused(msg)
    return _finite(reference), _finite(current[reference.columns])


def _finite(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype(np.float64).replace([np.inf, -np.inf], np.nan)


def _summary(reference: pd.DataFrame, current: pd.DataFrame, day: date) -> ReportSummary:
    bins = ReferenceBins.of(reference.to_numpy())
    psi = bins.psi(bins.counts(bins.places(current.to_numpy())))
    missing, expected = current.isna().mean(), reference.isna().mean()
    features = [
        FeatureDrift(name, float(psi[at]), float(missing[name]), float(expected[name]))
        for at, name in enumerate(reference.columns)
    ]
    features.sort(key=lambda feature: -feature.psi)
    empty = [
        feature.feature
        for feature in features
        if feature.missing_share == 1 or feature.reference_missing_share == 1
    ]
    drawn = [feature.feature for feature in features if feature.feature not in empty]
    if not drawn:
        msg = "no feature has values both in the reference and in the recent decisions"
        raise ReportRefused(msg)
    return ReportSummary(
        day=day,
        rows=len(current),
        reference_rows=len(reference),
        drifted=[feature.feature for feature in features if feature.psi >= _PSI_ALARM],
        drawn=drawn[:_FEATURES],
        empty=empty,
        features=features,
        evidently=version("evidently"),
    )


def _draw(
    reference: pd.DataFrame, current: pd.DataFrame, summary: ReportSummary
) -> tuple[str, bytes]:
    os.environ["DO_NOT_TRACK"] = "1"  # read by Evidently when it is imported
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=summary.drawn)
    # With Evidently's own share, a half, a report is fine while all but half have drifted.
    preset = DataDriftPreset(method="psi", threshold=_PSI_ALARM, drift_share=1 / len(summary.drawn))
    drawn = Report([preset], include_tests=True).run(
        Dataset.from_pandas(_sample(current, summary.drawn), definition),
        Dataset.from_pandas(_sample(reference, summary.drawn), definition),
    )
    # Evidently writes NaN, which is no JSON; msgspec makes it null.
    document = {"summary": summary, "evidently": json.loads(drawn.json())}
    return drawn.get_html_str(as_iframe=False), msgspec.json.encode(document)


def _sample(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    chosen = frame[names]
    # A fixed seed: the same decisions give the same report.
    return chosen.sample(_ROWS, random_state=_SEED) if len(chosen) > _ROWS else chosen
