"""How good a model is: the field's metrics, each with a bootstrap interval."""

import msgspec
import numpy as np
from numpy.typing import NDArray

RESAMPLES = 500
_NAMES = ("auc", "ks", "brier", "precision", "recall", "f1")


class Metric(msgspec.Struct, frozen=True):
    """A metric with its 95 % percentile-bootstrap interval (Efron 1979)."""

    value: float
    low: float
    high: float


def evaluate(
    label: NDArray[np.int8],
    probability: NDArray[np.float64],
    cutoff: float,
    seed: int,
    *,
    resamples: int = RESAMPLES,
) -> dict[str, Metric]:
    """
    Measure default probabilities float64[n] against labels int8[n] (1: defaulted).

    AUC, KS and Brier score of the probabilities; precision, recall and F1 of "at or above the
    cut-off" as a prediction of default. AUC and KS are NaN where all labels are the same.
    """
    random = np.random.default_rng(seed)
    # A resample is a count for each row, so that the rows are sorted once for all of them.
    order = np.argsort(probability, kind="stable")
    ordered, bad = probability[order], label[order] == 1
    rows = len(ordered)
    point = _metrics(ordered, bad, np.ones(rows, dtype=np.int64), cutoff)
    drawn = np.array(
        [
            _metrics(
                ordered, bad, np.bincount(random.integers(0, rows, rows), minlength=rows), cutoff
            )
            for _ in range(resamples)
        ]
    )
    known = drawn[~np.isnan(drawn).any(axis=1)]
    low, high = (
        np.percentile(known, [2.5, 97.5], axis=0)
        if len(known)
        else np.full((2, len(_NAMES)), np.nan)
    )
    return {
        name: Metric(round(value, 6), round(float(low[i]), 6), round(float(high[i]), 6))
        for i, (name, value) in enumerate(zip(_NAMES, point, strict=True))
    }


def cheapest_cutoff(
    label: NDArray[np.int8],
    probability: NDArray[np.float64],
    false_negative: float,
    false_positive: float,
) -> float:
    """
    Find the cut-off with the least cost: approving below it, not approving at or above it.

    An approved default costs `false_negative`, a repaying applicant not approved costs
    `false_positive`. The cut-off lies half-way between two neighbouring probabilities.

    >>> label, probability = np.int8([0, 0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4, 0.9])
    >>> cheapest_cutoff(label, probability, false_negative=10, false_positive=1)
    0.25
    """
    order = np.argsort(probability, kind="stable")
    ordered = probability[order]
    bad = label[order] == 1
    approved_bad = np.concatenate(([0], np.cumsum(bad)))
    refused_good = np.concatenate(([0], np.cumsum(~bad)))
    cost = false_negative * approved_bad + false_positive * (refused_good[-1] - refused_good)
    # No cut-off is above 1, so that a probability of 1 is never approved.
    possible = np.concatenate(([True], ordered[1:] > ordered[:-1], ordered[-1:] < 1))
    at = int(np.flatnonzero(possible)[np.argmin(cost[possible])])
    if at == 0:
        return 0.0
    if at == len(ordered):
        return 1.0
    middle = float((ordered[at - 1] + ordered[at]) / 2)
    return middle if middle > ordered[at - 1] else float(ordered[at])


def _metrics(
    ordered: NDArray[np.float64], bad: NDArray[np.bool_], count: NDArray[np.int64], cutoff: float
) -> tuple[float, ...]:
    """Measure rows that are sorted by probability and each stand `count` times; as in _NAMES."""
    bads, goods = count * bad, count * ~bad
    positives, negatives = int(bads.sum()), int(goods.sum())
    flagged = int(np.searchsorted(ordered, cutoff))
    hits, hit_or_not = int(bads[flagged:].sum()), int(count[flagged:].sum())
    precision = hits / max(hit_or_not, 1)
    recall = hits / max(positives, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    brier = float((count * (ordered - bad) ** 2).sum() / max(positives + negatives, 1))
    if not positives or not negatives:
        return np.nan, np.nan, brier, precision, recall, f1
    last_of_tie = np.concatenate((ordered[1:] > ordered[:-1], [True]))
    below_bad = np.concatenate(([0], np.cumsum(bads)[last_of_tie])) / positives
    below_good = np.concatenate(([0], np.cumsum(goods)[last_of_tie])) / negatives
    auc = float(np.trapezoid(below_good, below_bad))
    return auc, float(np.max(np.abs(below_good - below_bad))), brier, precision, recall, f1
