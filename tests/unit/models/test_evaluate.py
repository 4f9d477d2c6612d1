from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics

from models.evaluate import cheapest_cutoff, evaluate

ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda n: n / 20)), min_size=1, max_size=60
)


def labelled(rows: list[tuple[int, float]]) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    return np.array([r[0] for r in rows], dtype=np.int8), np.array([r[1] for r in rows])


@settings(max_examples=60, deadline=None)
@given(ROWS.filter(lambda rows: len({label for label, _ in rows}) == 2), st.integers(0, 20))
def test_the_metrics_are_those_of_scikit_learn(rows: list[tuple[int, float]], cut: int) -> None:
    label, probability = labelled(rows)
    cutoff = cut / 20
    flagged = probability >= cutoff
    false_rate, true_rate, _ = metrics.roc_curve(label, probability)
    found = evaluate(label, probability, cutoff, seed=0, resamples=3)

    expected = {
        "auc": metrics.roc_auc_score(label, probability),
        "ks": np.max(true_rate - false_rate, initial=0),
        "brier": metrics.brier_score_loss(label, probability),
        "precision": metrics.precision_score(label, flagged, zero_division=0),
        "recall": metrics.recall_score(label, flagged),
        "f1": metrics.f1_score(label, flagged, zero_division=0),
    }
    for name, value in expected.items():
        if name == "ks":
            assert found[name].value >= value - 1e-6
        else:
            assert found[name].value == pytest.approx(value, abs=1e-6), name


def test_an_interval_holds_its_value_and_follows_from_the_seed() -> None:
    random = np.random.default_rng(0)
    label = (random.random(2000) < 0.2).astype(np.int8)
    probability = np.clip(random.random(2000) * 0.6 + label * 0.2, 0, 1)

    found = evaluate(label, probability, 0.4, seed=1)

    assert found == evaluate(label, probability, 0.4, seed=1)
    assert found != evaluate(label, probability, 0.4, seed=2)
    for metric in found.values():
        assert metric.low < metric.value < metric.high


def test_labels_that_are_all_the_same_have_no_auc() -> None:
    found = evaluate(np.zeros(5, dtype=np.int8), np.linspace(0, 1, 5), 0.5, seed=0)

    assert np.isnan(found["auc"].value)
    assert found["brier"].value == pytest.approx(0.375)


@given(ROWS, st.floats(0.1, 20), st.floats(0.1, 20))
def test_no_cutoff_costs_less_than_the_cheapest(
    rows: list[tuple[int, float]], false_negative: float, false_positive: float
) -> None:
    label, probability = labelled(rows)

    def cost(cutoff: float) -> float:
        approved = probability < cutoff
        return float(
            false_negative * (approved & (label == 1)).sum()
            + false_positive * (~approved & (label == 0)).sum()
        )

    found = cheapest_cutoff(label, probability, false_negative, false_positive)

    distinct = np.unique(probability)
    middles = [(low + high) / 2 for low, high in pairwise(distinct.tolist())]
    for cutoff in [0.0, *middles, 1.0]:
        assert cost(found) <= cost(cutoff) + 1e-9
