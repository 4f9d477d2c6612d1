import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.scorecard import Scorecard


def test_twenty_points_more_double_the_odds() -> None:
    odds = np.array([10.0, 20.0, 40.0, 80.0])

    assert Scorecard().points(1 / (1 + odds)).tolist() == [580, 600, 620, 640]


def test_certain_and_missing_probabilities_have_points_too() -> None:
    points = Scorecard().points(np.array([0.0, 1.0, np.nan]))

    assert points.dtype == np.int32
    assert points[0] > 600 > points[1]
    assert points[2] == 0


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50))
def test_more_probable_default_never_has_more_points(probabilities: list[float]) -> None:
    points = Scorecard().points(np.sort(probabilities))

    assert (np.diff(points) <= 0).all()


@given(st.floats(0, 1), st.integers(1, 40))
def test_points_are_the_same_alone_and_in_any_batch(probability: float, rows: int) -> None:
    card = Scorecard(base_score=500, base_odds=2, points_to_double=50)

    assert set(card.points(np.full(rows, probability))) == set(card.points(np.array([probability])))


@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_have_no_points(rows: int) -> None:
    assert Scorecard().points(np.full(rows, 0.5)).shape == (rows,)
