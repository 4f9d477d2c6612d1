import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.schema import Feature, FeatureSchema
from scoring.booster import BoosterScorer
from scoring.explainer import NotTabulated, TreeExplainer
from scoring.model_text import checked_model

FEATURES = 5
RANDOM = np.random.default_rng(4)
# Few values of a feature, so that rows meet bounds exactly; some missing, some zero.
VALUES = [-2, -1, -1e-35, -0.0, 0, 1e-40, 1e-35, 2e-35, 0.5, 1, 3, np.nan]
ROWS = RANDOM.choice(np.array(VALUES, dtype=np.float32), size=(600, FEATURES))


def a_model(rounds: int = 12, categories: tuple[int, ...] = (), **parameters: object) -> str:
    known = np.nan_to_num(ROWS)
    label = (known[:, 0] * known[:, 1] + known[:, 2] + RANDOM.normal(0, 0.5, len(ROWS)) > 0).astype(
        int
    )
    given_parameters = {
        "objective": "binary",
        "verbosity": -1,
        "num_threads": 1,
        "num_leaves": 8,
        "min_data_in_leaf": 3,
    }
    rows = np.rint(np.abs(known)) if categories else ROWS
    data = lightgbm.Dataset(rows, label, categorical_feature=list(categories))
    return str(lightgbm.train(given_parameters | parameters, data, rounds).model_to_string())


def by_lightgbm(text: str, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    booster = lightgbm.Booster(model_str=text)
    return np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1))


MODELS = {
    "missing is NaN": a_model(),
    "missing is zero": a_model(zero_as_missing=True),
    "nothing is missing": a_model(use_missing=False),
    "deep": a_model(num_leaves=31, max_depth=8),
    "stumps": a_model(num_leaves=2),
    "bagged": a_model(bagging_fraction=0.5, bagging_freq=1),
    "dart": a_model(boosting="dart"),
    "monotone": a_model(monotone_constraints=[1, 0, 0, 0, -1]),
    "one leaf": a_model(min_data_in_leaf=10_000),
    "without training's mean": a_model(boost_from_average=False),
}


@pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)
def test_shapley_values_are_lightgbms(text: str) -> None:
    found = TreeExplainer(checked_model(text, FEATURES).trees, FEATURES).contributions(ROWS)

    expected = by_lightgbm(text, ROWS)
    assert np.abs(found - expected).max() < 1e-13


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(list(MODELS)),
    st.lists(
        st.lists(st.floats(width=32) | st.sampled_from(VALUES), min_size=5, max_size=5),
        min_size=1,
        max_size=5,
    ),
)
def test_any_row_is_explained_as_by_lightgbm(name: str, values: list[list[float]]) -> None:
    rows = np.array(values, dtype=np.float32)

    found = TreeExplainer(checked_model(MODELS[name], FEATURES).trees, FEATURES).contributions(rows)

    assert np.abs(found - by_lightgbm(MODELS[name], rows)).max() < 1e-13


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_a_value_at_a_bound_or_one_step_beside_it_is_explained_as_by_lightgbm(offset: int) -> None:
    text = MODELS["deep"]
    trees = checked_model(text, FEATURES).trees
    rows = np.zeros((sum(len(tree.features) for tree in trees), FEATURES), dtype=np.float32)
    bounds = np.concatenate([tree.thresholds for tree in trees]).astype(np.float32)
    towards = np.float32(np.inf * offset) if offset else bounds
    rows[np.arange(len(rows)), np.concatenate([tree.features for tree in trees])] = np.nextafter(
        bounds, towards
    )

    found = TreeExplainer(trees, FEATURES).contributions(rows)

    assert np.abs(found - by_lightgbm(text, rows)).max() < 1e-13


def test_a_row_has_the_same_bits_alone_and_in_any_batch() -> None:
    explainer = TreeExplainer(checked_model(MODELS["deep"], FEATURES).trees, FEATURES)
    together = explainer.contributions(np.tile(ROWS, (20, 1)))

    for row in range(0, len(ROWS), 7):
        alone = explainer.contributions(ROWS[row : row + 1])
        assert alone.tobytes() == together[row : row + 1].tobytes()
        assert alone.tobytes() == together[-len(ROWS) + row][None].tobytes()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (a_model(categories=(0,), min_data_per_group=1), "it asks for categories"),
        (a_model(num_leaves=40, rounds=30, min_data_in_leaf=1), "more than 8 nodes deep"),
    ],
)
def test_what_fits_into_no_table_is_explained_by_lightgbm_and_said(text: str, reason: str) -> None:
    schema = FeatureSchema(tuple(Feature(f"Column_{index}") for index in range(FEATURES)))
    rows = np.abs(ROWS[:20])

    with pytest.raises(NotTabulated, match=reason):
        TreeExplainer(checked_model(text, FEATURES).trees, FEATURES)

    scorer = BoosterScorer(text, schema)
    assert reason in scorer.explained_by
    assert scorer.contributions(rows).tobytes() == by_lightgbm(text, rows).tobytes()
