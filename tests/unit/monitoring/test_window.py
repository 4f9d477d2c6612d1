import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.psi import ReferenceBins
from monitoring.window import WINDOW, RecentWindow

REFERENCE = np.random.default_rng(1).normal(size=(500, 3))
BINS_OF_THREE = ReferenceBins.of(REFERENCE)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2 * WINDOW), max_size=6), st.integers(0, 2**32 - 1))
def test_it_holds_the_last_decisions_whatever_the_batches(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    window = RecentWindow(BINS_OF_THREE)
    taken, times = [np.zeros((0, 3))], [np.zeros(0, dtype=np.int64)]

    for at, size in enumerate(sizes):
        rows = random.normal(size=(size, 3)).astype(np.float32).astype(np.float64)
        rows[random.random((size, 3)) < 0.1] = np.nan
        window.add(rows, BINS_OF_THREE.places(rows), at)
        taken.append(rows)
        times.append(np.full(size, at))
        assert window.seen == sum(sizes[: at + 1])

    last = np.concatenate(taken)[-WINDOW:]
    last_times = np.concatenate(times)[-WINDOW:]
    places = BINS_OF_THREE.places(last)
    assert len(window) == len(last)
    assert np.array_equal(window.counts, BINS_OF_THREE.counts(places))
    for subject in range(3):
        assert np.array_equal(window.values(subject), last[:, subject], equal_nan=True)
        assert np.array_equal(window.places(subject), places[:, subject])
    if len(last):
        assert window.decided_at_us(0) == last_times[0]
        assert window.decided_at_us(len(last) - 1) == last_times[-1]


def test_a_restored_window_is_the_saved_one() -> None:
    window = RecentWindow(BINS_OF_THREE)
    window.add(REFERENCE, BINS_OF_THREE.places(REFERENCE), 7)

    restored = RecentWindow(BINS_OF_THREE, window.saved())

    assert restored.saved() == window.saved()
    assert np.array_equal(restored.counts, window.counts)
    assert restored.summary(1) == window.summary(1)


def test_the_summary_is_that_of_the_values_that_are_there() -> None:
    window = RecentWindow(BINS_OF_THREE)
    rows = np.column_stack(
        (np.arange(101.0), np.full(101, np.nan), np.append([np.inf, np.nan], np.arange(99.0)))
    )
    window.add(rows, BINS_OF_THREE.places(rows), 7)

    first = window.summary(0)
    assert (first.mean, first.p05, first.p50, first.p95) == (50, 5, 50, 95)
    assert first.variance == pytest.approx(rows[:, 0].var(ddof=1))
    assert np.isnan(window.summary(1).mean)
    assert window.summary(2).mean == 49
    assert window.missing_shares().tolist() == [0, 1, 2 / 101]
