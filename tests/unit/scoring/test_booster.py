import re

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.schema import Feature, FeatureSchema
from scoring.booster import BoosterScorer, feature_names_of, objective_of
from scoring.errors import ModelRefused, SchemaMismatch
from scoring.kernel import Kernel, _compiled_walk
from tests.fuzz.releases import resized

SCHEMA = FeatureSchema((Feature("a"), Feature("b"), Feature("c")))
ROWS = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)


def a_model(**parameters: object) -> str:
    label = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(int)
    if parameters.get("objective") == "multiclass":
        label = label + (ROWS[:, 2] > 0)
    data = lightgbm.Dataset(ROWS, label, feature_name=list(SCHEMA.names))
    given_parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7}
    return str(lightgbm.train(given_parameters | parameters, data, 10).model_to_string())


MODEL = a_model()
NUMBERS = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1e-38, 1e38])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=20))
def test_a_probability_is_lightgbms_to_the_last_bit(rows: list[tuple[float, ...]]) -> None:
    matrix = np.array(rows, dtype=np.float32)
    booster = lightgbm.Booster(model_str=MODEL)

    found = BoosterScorer(MODEL, SCHEMA).default_probability(matrix)

    for same in (matrix, matrix.astype(np.float64)):
        expected = np.asarray(booster.predict(same, num_threads=1))
        assert found.tobytes() == expected.tobytes()


def test_a_row_alone_has_the_same_bits_as_in_a_batch() -> None:
    scorer = BoosterScorer(MODEL, SCHEMA)
    together = scorer.default_probability(ROWS)
    explained = scorer.contributions(ROWS)

    for row in range(20):
        alone = ROWS[row : row + 1]
        assert scorer.default_probability(alone).tobytes() == together[row : row + 1].tobytes()
        assert scorer.contributions(alone).tobytes() == explained[row : row + 1].tobytes()


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"sigmoid": 0.5},
        {"sigmoid": 2.0},
        {"boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1},
        {"boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1, "sigmoid": 0.5},
        {"boosting": "dart"},
        {"objective": "cross_entropy"},
        {"objective": "cross_entropy", "sigmoid": 0.5},
    ],
    ids=str,
)
def test_contributions_add_up_to_the_log_odds(parameters: dict[str, object]) -> None:
    scorer = BoosterScorer(a_model(**parameters), SCHEMA)
    probability = scorer.default_probability(ROWS)

    for contributions in (scorer.contributions(ROWS), scorer.contributions_of_lightgbm(ROWS)):
        log_odds: NDArray[np.float64] = contributions.sum(axis=1)
        assert np.allclose(1 / (1 + np.exp(-log_odds)), probability, rtol=1e-9)
    assert scorer.explained_by == "tables"
    assert scorer.scored_by == "kernel"


@pytest.mark.parametrize("rows", [None, ROWS], ids=["hard rows", "the caller's"])
def test_a_kernel_that_differs_in_a_bit_does_not_score_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, rows: NDArray[np.float32] | None
) -> None:
    scores = Kernel.raw_scores

    def raw_scores(self: Kernel, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        found = scores(self, matrix)
        wrong = len(matrix) if rows is None else 1
        found[-wrong:] = np.nextafter(found[-wrong:], np.inf)
        return found

    monkeypatch.setattr(Kernel, "raw_scores", raw_scores)

    scorer = BoosterScorer(MODEL, SCHEMA, rows)

    assert scorer.scored_by.startswith("LightGBM: the kernel's raw scores differ from its own")
    expected = np.asarray(lightgbm.Booster(model_str=MODEL).predict(ROWS, num_threads=1))
    assert scorer.default_probability(ROWS).tobytes() == expected.tobytes()


def test_a_probability_that_differs_in_a_bit_is_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoring.kernel._steepness", lambda _: 1.0000000000000002)

    scorer = BoosterScorer(MODEL, SCHEMA)

    assert scorer.scored_by.startswith("LightGBM: the kernel's probabilities differ from its own")


def test_without_a_compiler_lightgbm_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoring.compiled.config.DISABLE_JIT", True)
    _compiled_walk.cache_clear()

    assert BoosterScorer(MODEL, SCHEMA).scored_by == (
        "LightGBM: NUMBA_DISABLE_JIT is set, so Numba compiles nothing"
    )


def test_few_rows_of_large_trees_are_scored_by_lightgbm_to_the_same_bit() -> None:
    text = a_model(num_leaves=300, min_data_in_leaf=1, min_sum_hessian_in_leaf=0)
    scorer = BoosterScorer(text, SCHEMA)
    together = scorer.default_probability(ROWS)

    assert scorer.scored_by == "kernel"
    for rows in (1, 2, 3, 16, 17):
        assert scorer.default_probability(ROWS[:rows]).tobytes() == together[:rows].tobytes()


def test_no_rows_have_no_probabilities() -> None:
    scorer = BoosterScorer(MODEL, SCHEMA)

    assert scorer.default_probability(ROWS[:0]).shape == (0,)
    assert scorer.contributions(ROWS[:0]).shape == (0, 4)


def test_cross_entropy_gives_a_probability_too() -> None:
    scorer = BoosterScorer(a_model(objective="cross_entropy"), SCHEMA)

    probability = scorer.default_probability(ROWS)

    assert ((probability > 0) & (probability < 1)).all()


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"objective": "regression"}, "objective 'regression' gives no default probability"),
        ({"objective": "cross_entropy_lambda"}, "'cross_entropy_lambda' gives no"),
        ({"objective": "multiclass", "num_class": 3}, "'multiclass num_class:3' gives no"),
        ({"linear_tree": True}, "trees are linear"),
    ],
)
def test_a_model_that_gives_no_explained_probability_is_refused(
    parameters: dict[str, object], reason: str
) -> None:
    text = a_model(**parameters)

    with pytest.raises(ModelRefused, match=reason):
        BoosterScorer(text, SCHEMA)


@pytest.mark.parametrize("text", ["", "tree\n", re.sub(r"objective=.*\n", "", MODEL)])
def test_a_text_without_an_objective_is_refused(text: str) -> None:
    assert objective_of(text) == ""

    with pytest.raises(ModelRefused, match="objective '' gives no"):
        BoosterScorer(text, SCHEMA)


def test_a_text_that_lightgbm_does_not_read_is_refused() -> None:
    with pytest.raises(ModelRefused, match="LightGBM does not read the model"):
        BoosterScorer(MODEL.replace("sigmoid:1", "sigmoid:-1", 1), SCHEMA)


@pytest.mark.parametrize("field", ["internal_count", "leaf_count"])
def test_a_model_without_training_counts_is_refused_before_it_crashes(field: str) -> None:
    with pytest.raises(ModelRefused, match="lacks training counts"):
        BoosterScorer(resized(MODEL.replace(f"{field}=", "forgotten=")), SCHEMA)


@pytest.mark.parametrize(
    ("names", "difference"),
    [
        (("a", "b", "d"), "missing d; extra c"),
        (("a", "c", "b"), "another order, first at position 1: b instead of c"),
        (("a", "b"), "extra c"),
        (("a", "b", "c", "d"), "missing d"),
    ],
)
def test_a_model_of_other_features_is_refused_naming_them(
    names: tuple[str, ...], difference: str
) -> None:
    schema = FeatureSchema(tuple(Feature(name) for name in names))

    with pytest.raises(SchemaMismatch, match=difference):
        BoosterScorer(MODEL, schema)


def test_names_and_objective_are_read_from_the_text() -> None:
    assert feature_names_of(MODEL) == ("a", "b", "c")
    assert objective_of(MODEL) == "binary sigmoid:1"
    assert feature_names_of("tree\nTree=0\nfeature_names=a") == ()
