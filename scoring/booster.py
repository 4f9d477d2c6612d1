"""LightGBM: model text to default probabilities and their exact Shapley values."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.schema import FeatureSchema
from scoring.errors import ModelRefused, SchemaMismatch
from scoring.explainer import NotTabulated, TreeExplainer
from scoring.model_text import checked_model
from scoring.trees import Tree

if TYPE_CHECKING:
    from scoring.kernel import Kernel

_GIVES_PROBABILITY = ("binary", "cross_entropy")
_AVERAGED = "\naverage_output\n"
_LINEAR_TREES = "\nis_linear=1"


class BoosterScorer:
    """
    Scores as LightGBM's `Booster.predict`, bit for bit, and explains it; each fast where it can.

    `scored_by` says whether probabilities come from our kernel, `explained_by` whether Shapley
    values come from our tables; what these do not cover comes from LightGBM, and then they say why.
    The kernel is held against LightGBM on rows that are made to part them, and on `rows`,
    float32[n, features], where the caller has some that matter.
    LightGBM's parser crashes on damaged text: what is not as LightGBM writes it never reaches it,
    and the caller checks the text's digest first.
    Raises ModelRefused for a text that is no whole model, for an objective that gives no
    probability, for linear trees and for trees without training counts; SchemaMismatch where the
    model's features are not the schema's, in its order.
    """

    def __init__(
        self, model_text: str, schema: FeatureSchema, rows: NDArray[np.float32] | None = None
    ) -> None:
        objective = objective_of(model_text)
        if objective.partition(" ")[0] not in _GIVES_PROBABILITY:
            msg = f"objective {objective!r} gives no default probability; binary does"
            raise ModelRefused(msg)
        if _LINEAR_TREES in model_text:
            msg = "the trees are linear, for which LightGBM gives no contributions"
            raise ModelRefused(msg)
        difference = schema.difference(feature_names_of(model_text))
        if difference:
            msg = f"the model's features are not the schema's: {difference}"
            raise SchemaMismatch(msg)
        checked = checked_model(model_text, len(schema.names))
        trees = checked.trees
        if not all(tree.counted for tree in trees):
            msg = "its text lacks training counts, without which LightGBM crashes"
            raise ModelRefused(msg)
        lightgbm = _lightgbm()
        try:
            booster = lightgbm.Booster(model_str=checked.text)
        except lightgbm.basic.LightGBMError as error:
            msg = f"LightGBM does not read the model: {error}"
            raise ModelRefused(msg) from None
        self._booster: Any = booster
        self._log_odds = _log_odds_of_output(objective)
        if _AVERAGED in model_text:
            self._log_odds /= len(trees)
        scaled = [replace(tree, leaf_values=tree.leaf_values * self._log_odds) for tree in trees]
        self._explainer, self.explained_by = _explainer(scaled, len(schema.names))
        rows = np.empty((0, len(schema.names)), dtype=np.float32) if rows is None else rows
        averaged = _AVERAGED in model_text
        self._kernel, self.scored_by = _kernel(booster, trees, objective, rows, averaged=averaged)

    def default_probability(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score float32[n, features]: float64[n]."""
        if not len(matrix):
            return np.empty(0)
        if self._kernel is not None and self._kernel.pays(len(matrix)):
            return self._kernel.predictions(matrix)
        return self.default_probability_of_lightgbm(matrix)

    def default_probability_of_lightgbm(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score by LightGBM's own `predict`, to hold ours against; shapes as above."""
        return np.asarray(self._booster.predict(matrix, num_threads=1), dtype=np.float64)

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """
        Explain float32[n, features]: Shapley values of the log-odds, float64[n, features + 1].

        Path-dependent TreeSHAP (Lundberg et al. 2018); the last column is the model's mean.
        """
        if not len(matrix):
            return np.empty((0, matrix.shape[1] + 1))
        if self._explainer is not None:
            return self._explainer.contributions(matrix)
        return self.contributions_of_lightgbm(matrix)

    def contributions_of_lightgbm(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Explain by LightGBM's own TreeSHAP, to hold ours against; shapes as above."""
        # LightGBM gives the trees' summed output, whatever the objective makes of it.
        found = self._booster.predict(matrix, pred_contrib=True, num_threads=1)
        return np.asarray(found, dtype=np.float64) * self._log_odds


def _lightgbm() -> Any:
    """Import LightGBM without what it would drag in for tables that it is never given: 2 s."""
    hidden = [name for name in ("pandas", "sklearn") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None: not there
    # SciPy takes hold of all that NumPy has, which is, when asked for, a translator of Fortran.
    unasked = "numpy.f2py" not in sys.modules
    if unasked:
        vars(np)["f2py"] = None
    try:
        import lightgbm
    finally:
        for name in hidden:
            del sys.modules[name]
        if unasked:
            del vars(np)["f2py"]
    return lightgbm


def _log_odds_of_output(objective: str) -> float:
    """Give the log-odds for each unit of a model's output: its sigmoid's steepness."""
    name, *parameters = objective.split()
    given = dict(parameter.partition(":")[::2] for parameter in parameters)
    try:
        return float(given.get("sigmoid", "1")) if name == "binary" else 1.0
    except ValueError:
        msg = f"objective {objective!r} has a sigmoid that is no number"
        raise ModelRefused(msg) from None


def _explainer(trees: list[Tree], features: int) -> tuple[TreeExplainer | None, str]:
    try:
        return TreeExplainer(trees, features), "tables"
    except NotTabulated as reason:
        return None, f"LightGBM: {reason}"


def _kernel(
    booster: Any,
    trees: list[Tree],
    objective: str,
    rows: NDArray[np.float32],
    *,
    averaged: bool,
) -> tuple["Kernel | None", str]:
    # Numba takes half a second to import, which a command that scores nothing need not wait for.
    from scoring.forest import NotCovered
    from scoring.kernel import Kernel
    from scoring.kernel_check import check, hard_rows

    try:
        kernel = Kernel(trees, rows.shape[1], objective, averaged=averaged)
        check(kernel, booster, np.concatenate((hard_rows(trees, rows.shape[1]), rows)))
    except NotCovered as reason:
        return None, f"LightGBM: {reason}"
    return kernel, "kernel"


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
