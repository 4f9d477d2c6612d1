import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitoring.psi import BINS, ReferenceBins


def psi_of(reference: NDArray[np.float64], current: NDArray[np.float64]) -> float:
    bins = ReferenceBins.of(reference[:, None])
    return float(bins.psi(bins.counts(bins.places(current[:, None])))[0])


def test_the_index_is_the_sum_that_the_book_gives() -> None:
    reference = np.repeat([0.0, 1.0], [700, 300])
    current = np.repeat([0.0, 1.0], [400, 600])
    # Two bins of values, two open ends, one for missing: five, each count half a decision more.
    before = (np.array([0, 700, 300, 0, 0]) + 0.5) / 1_002.5
    after = (np.array([0, 400, 600, 0, 0]) + 0.5) / 1_002.5

    expected = ((after - before) * np.log(after / before)).sum()

    assert psi_of(reference, current) == pytest.approx(expected)


def test_a_feature_of_few_values_is_binned_by_value() -> None:
    bins = ReferenceBins.of(np.repeat([0.0, 1.0, 2.0], [9_000, 900, 100])[:, None])

    places = bins.places(np.array([[-1.0], [0.0], [1.0], [2.0], [3.0], [np.nan]]))

    assert places[:, 0].tolist() == [0, 1, 2, 3, 4, BINS]


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_a_constant_feature_that_takes_another_value_is_seen(value: float) -> None:
    reference = np.zeros(1_000)

    assert psi_of(reference, np.zeros(500)) == pytest.approx(0, abs=0.01)
    assert psi_of(reference, np.repeat([0.0, value], [450, 50])) > 0.25


def test_equal_quantiles_make_one_edge() -> None:
    reference = np.concatenate((np.zeros(5_000), np.arange(1.0, 5_001)))

    bins = ReferenceBins.of(reference[:, None])

    assert len(bins.edges[0]) == len(np.unique(bins.edges[0])) < BINS - 1


def test_a_subject_without_any_value_has_only_its_missing_bin() -> None:
    bins = ReferenceBins.of(np.full((1_000, 1), np.nan))

    assert psi_of(np.full(1_000, np.nan), np.full(500, np.nan)) == pytest.approx(0, abs=0.01)
    assert psi_of(np.full(1_000, np.nan), np.zeros(500)) > 5
    assert bins.shares[0, BINS] > 0.99


def test_what_is_not_finite_counts_as_missing() -> None:
    bins = ReferenceBins.of(np.arange(100.0)[:, None])

    assert bins.places(np.array([[np.inf], [-np.inf], [np.nan]]))[:, 0].tolist() == [BINS] * 3


values = st.lists(
    st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=200
)


@given(values, values)
def test_the_index_is_never_below_nothing_nor_lost(
    reference: list[float], current: list[float]
) -> None:
    found = psi_of(np.array(reference), np.array(current))

    # Where both sides have one bin each, its two smoothed shares are equal but for rounding.
    assert np.isfinite(found)
    assert found >= -1e-12


@given(values)
def test_each_row_is_in_one_bin_that_is_in_use(reference: list[float]) -> None:
    rows = np.array(reference)[:, None]
    bins = ReferenceBins.of(rows)

    counts = bins.counts(bins.places(rows))

    assert counts.sum() == len(rows)
    assert (bins.shares[counts > 0] > 0).all()
    assert bins.shares.sum() == pytest.approx(1)


def test_the_mean_ridit_of_the_reference_is_a_half_whatever_the_unit() -> None:
    limit = np.random.default_rng(1).lognormal(11, 1, 5_000)
    above = (limit > 60_000).astype(np.float64)
    rows = np.column_stack((limit, limit * 1_000, above))
    bins = ReferenceBins.of(rows)

    ridits = bins.ridits()[np.arange(3), bins.places(rows)]

    assert ridits.mean(axis=0) == pytest.approx(0.5, abs=1e-3)
