"""LightGBM: model text to default probabilities and their exact Shapley values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.schema import FeatureSchema
from scoring.errors import ModelRefused, SchemaMismatch

_GIVES_PROBABILITY = ("binary", "cross_entropy")
_LINEAR_TREES = "\nis_linear=1"


class BoosterScorer:
    """
    Scores with LightGBM's own `Booster.predict`, on one thread.

    LightGBM's parser crashes on damaged text, so the caller checks the text's digest first.
    Raises ModelRefused for an objective that gives no probability and for linear trees, and
    SchemaMismatch where the model's features are not the schema's, in its order.
    """

    def __init__(self, model_text: str, schema: FeatureSchema) -> None:
        import lightgbm

        objective = objective_of(model_text)
        if objective.partition(" ")[0] not in _GIVES_PROBABILITY:
            msg = f"objective {objective!r} gives no default probability; binary does"
            raise ModelRefused(msg)
        if _LINEAR_TREES in model_text:
            msg = "the trees are linear, for which LightGBM gives no contributions"
            raise ModelRefused(msg)
        try:
            booster = lightgbm.Booster(model_str=model_text)
        except lightgbm.basic.LightGBMError as error:
            msg = f"LightGBM does not read the model: {error}"
            raise ModelRefused(msg) from None
        difference = schema.difference(tuple(booster.feature_name()))
        if difference:
            msg = f"the model's features are not the schema's: {difference}"
            raise SchemaMismatch(msg)
        self._booster: Any = booster

    def default_probability(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score float32[n, features]: float64[n]."""
        if not len(matrix):
            return np.empty(0)
        return np.asarray(self._booster.predict(matrix, num_threads=1), dtype=np.float64)

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """
        Explain float32[n, features]: Shapley values of the log-odds, float64[n, features + 1].

        Path-dependent TreeSHAP (Lundberg et al. 2018); the last column is the model's mean.
        """
        if not len(matrix):
            return np.empty((0, matrix.shape[1] + 1))
        found = self._booster.predict(matrix, pred_contrib=True, num_threads=1)
        return np.asarray(found, dtype=np.float64)


def objective_of(model_text: str) -> str:
    """Read the objective of a model's text; empty where it has none."""
    for line in model_text.splitlines():
        if line.startswith("objective="):
            return line.removeprefix("objective=")
        if line.startswith("Tree="):
            break
    return ""


def feature_names_of(model_text: str) -> tuple[str, ...]:
    """Read the ordered feature names of a model's text; empty where it has none."""
    for line in model_text.splitlines():
        if line.startswith("feature_names="):
            return tuple(line.removeprefix("feature_names=").split())
        if line.startswith("Tree="):
            break
    return ()
