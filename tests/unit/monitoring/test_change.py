import numpy as np
import pytest
from river.drift import ADWIN

from monitoring.change import LEAST_VALUES, ChangeDetector, change_point

RANDOM = np.random.default_rng(1)
STEADY = RANDOM.random(3_000).tolist()
LOWER = (RANDOM.random(1_000) / 2).tolist()
DELTA = 0.002 / 61


def test_a_lower_level_is_a_change_downwards() -> None:
    detector = ChangeDetector(DELTA)

    assert detector.update(STEADY) is None
    change = detector.update(LOWER)
    assert change is not None
    assert change.shift == pytest.approx(-0.25, abs=0.05)


def test_the_first_change_is_seen_where_rivers_adwin_sees_it() -> None:
    detector, adwin = ChangeDetector(DELTA), ADWIN(delta=DELTA)  # type: ignore[no-untyped-call]

    def first(alarms: list[bool]) -> int:
        return alarms.index(True)

    ours = [detector.update([value]) is not None for value in STEADY + LOWER]
    rivers = []
    for value in STEADY + LOWER:
        adwin.update(value)  # type: ignore[no-untyped-call]
        rivers.append(bool(adwin.drift_detected))

    assert first(ours) == first(rivers)


def test_batches_of_any_size_see_the_same() -> None:
    at_once, one_by_one = ChangeDetector(DELTA), ChangeDetector(DELTA)

    at_once.update(STEADY + LOWER)
    for value in STEADY + LOWER:
        one_by_one.update([value])

    assert at_once.state() == one_by_one.state()


def test_a_restored_detector_goes_on_as_the_saved_one() -> None:
    saved = ChangeDetector(DELTA)
    saved.update(STEADY)
    restored = ChangeDetector(DELTA, saved.state())

    changes = [(saved.update([value]), restored.update([value])) for value in LOWER]

    assert all(one == other for one, other in changes)
    assert any(one is not None for one, _ in changes)
    assert saved.state() == restored.state()


def test_no_value_changes_nothing() -> None:
    assert ChangeDetector(DELTA).update([]) is None


@pytest.mark.parametrize("at", [LEAST_VALUES // 2, 300, 1_000, 2_000 - LEAST_VALUES // 2])
def test_the_point_of_change_is_found(at: int) -> None:
    values = np.random.default_rng(at).random(2_000) / 10
    values[at:] += 0.5

    assert change_point(values) == at
