"""How good a model is: the field's metrics, each with a bootstrap interval."""

import msgspec
import numpy as np
from numpy.typing import NDArray

RESAMPLES = 300


class Metric(msgspec.Struct, frozen=True):
    """A metric with its 95 % percentile-bootstrap interval (Efron 1979)."""

    value: float
    low: float
    high: float


def evaluate(
    label: NDArray[np.int8], probability: NDArray[np.float64], cutoff: float, seed: int
) -> dict[str, Metric]:
    """
    Measure default probabilities float64[n] against labels int8[n] (1: defaulted).

    AUC, KS and Brier score of the probabilities; precision, recall and F1 of "at or above the
    cut-off" as a prediction of default.
    """
    random = np.random.default_rng(seed)
    point = _metrics(label, probability, cutoff)
    drawn = []
    for _ in range(RESAMPLES):
        rows = random.integers(0, len(label), len(label))
        drawn.append(list(_metrics(label[rows], probability[rows], cutoff).values()))
    low, high = np.nanpercentile(np.array(drawn), [2.5, 97.5], axis=0)
    return {
        name: Metric(round(value, 6), round(float(low[i]), 6), round(float(high[i]), 6))
        for i, (name, value) in enumerate(point.items())
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
    """
    order = np.argsort(probability, kind="stable")
    ordered = probability[order]
    bad = label[order] == 1
    approved_bad = np.concatenate(([0], np.cumsum(bad)))
    refused_good = np.concatenate(([0], np.cumsum(~bad)))
    cost = false_negative * approved_bad + false_positive * (refused_good[-1] - refused_good)
    possible = np.concatenate(([True], ordered[1:] > ordered[:-1], [True]))
    at = int(np.flatnonzero(possible)[np.argmin(cost[possible])])
    if at == 0:
        return 0.0
    if at == len(ordered):
        return 1.0
    return float((ordered[at - 1] + ordered[at]) / 2)


def _metrics(
    label: NDArray[np.int8], probability: NDArray[np.float64], cutoff: float
) -> dict[str, float]:
    bad = label == 1
    positives, negatives = int(bad.sum()), int((~bad).sum())
    order = np.argsort(probability, kind="stable")
    ordered, sorted_bad = probability[order], bad[order]
    last_of_tie = np.concatenate((ordered[1:] > ordered[:-1], [True]))
    below_bad = np.concatenate(([0], np.cumsum(sorted_bad)[last_of_tie])) / max(positives, 1)
    below_good = np.concatenate(([0], np.cumsum(~sorted_bad)[last_of_tie])) / max(negatives, 1)
    flagged = probability >= cutoff
    hits = int((flagged & bad).sum())
    precision = hits / max(int(flagged.sum()), 1)
    recall = hits / max(positives, 1)
    return {
        "auc": float(np.trapezoid(below_good, below_bad)),
        "ks": float(np.max(np.abs(below_good - below_bad))),
        "brier": float(np.mean((probability - bad) ** 2)),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(precision + recall, 1e-12),
    }
