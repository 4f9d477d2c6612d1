"""Features to verdicts: score, decide, explain; the same for an event, a file and a stored row."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scoring.decision import OUTCOMES
from scoring.policy import Policy
from scoring.reasons import Reasons


class Scorer(Protocol):
    """What turns model input into default probabilities and their explanation."""

    @property
    def scored_by(self) -> str:
        """Say what computes the probabilities: "kernel", or another and why."""
        ...

    def default_probability(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score float32[n, features]: float64[n]."""
        ...

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Explain float32[n, features]: Shapley values float64[n, features + 1]."""
        ...


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What was decided on n rows of features; the columns are those of DecisionBatch."""

    outcomes: NDArray[np.uint8]
    default_probability: NDArray[np.float64]
    scores: NDArray[np.int32]
    bands: NDArray[np.uint8]
    reasons: Reasons


def judge(
    scorer: Scorer,
    policy: Policy,
    features: NDArray[np.float32],
    missing: NDArray[np.bool_],
    stale: NDArray[np.bool_] | None = None,
    *,
    explain: bool = True,
) -> Verdicts:
    """
    Score and decide rows of features: float32[n, features], and bool[n] for those that have none.

    `stale`, bool[n], are those that are too old for the policy; None: none is.
    A row's verdict does not depend on the rows beside it.
    """
    probability = np.full(len(features), np.nan)
    if not missing.all():
        probability[~missing] = scorer.default_probability(features[~missing])
    if stale is None:
        stale = np.zeros(len(features), dtype=bool)
    outcomes = policy.outcomes(probability, missing, features, stale)
    return Verdicts(
        outcomes=outcomes,
        default_probability=probability,
        scores=policy.scorecard.points(probability),
        bands=policy.bands(probability),
        reasons=_reasons(scorer, policy, features, outcomes, missing, stale, explain=explain),
    )


def _reasons(
    scorer: Scorer,
    policy: Policy,
    features: NDArray[np.float32],
    outcomes: NDArray[np.uint8],
    missing: NDArray[np.bool_],
    stale: NDArray[np.bool_],
    *,
    explain: bool,
) -> Reasons:
    adverse = np.flatnonzero(outcomes != OUTCOMES.index("approve"))
    matrix, empty = features[adverse], missing[adverse]
    contributions = np.zeros((len(adverse), features.shape[1] + 1))
    if explain and not empty.all():
        contributions[~empty] = scorer.contributions(matrix[~empty])
    found = policy.reasons(matrix, contributions, stale[adverse], empty)
    return found.spread(adverse, len(features))
