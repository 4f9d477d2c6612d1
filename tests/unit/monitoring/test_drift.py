from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from monitoring.alarm import Alarm
from monitoring.drift import CheckpointDamaged, DriftMonitor
from monitoring.psi import BINS, ReferenceBins

NAMES = ("limit", "age", "bill")
START = datetime(2026, 11, 24, tzinfo=UTC)


def rows(count: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    random = np.random.default_rng(seed)
    limit = random.lognormal(11, 1, count)
    return np.column_stack(
        (random.beta(1, 4, count), limit, random.normal(40, 9, count), limit / 2)
    )


def a_monitor() -> DriftMonitor:
    return DriftMonitor("r", NAMES, ReferenceBins.of(rows(2_000, 1)))


def feed(
    monitor: DriftMonitor, data: np.ndarray[tuple[int, int], np.dtype[np.float64]], first: int = 0
) -> list[Alarm]:
    alarms: list[Alarm] = []
    for offset in range(len(data) // 50):
        part = data[offset * 50 : offset * 50 + 50]
        at = START + timedelta(seconds=first + offset)
        alarms += monitor.update(part[:, 1:].astype(np.float32), part[:, 0], at, 0, first + offset)
    return alarms


def test_a_stationary_stream_raises_no_alarm() -> None:
    assert feed(a_monitor(), rows(20_000, 2)) == []


def test_a_change_of_unit_is_named_by_feature_soon() -> None:
    monitor = a_monitor()
    feed(monitor, rows(3_000, 3))
    changed = rows(1_000, 4)
    changed[::2, 1] /= 32

    alarms = feed(monitor, changed, first=60)

    assert {alarm.subject for alarm in alarms} == {"limit"}
    assert alarms[0].raised_at - START < timedelta(seconds=60 + 10)


def test_a_redelivered_message_is_not_counted_again() -> None:
    monitor = a_monitor()
    feed(monitor, rows(1_000, 5))
    before = monitor.statistics()

    feed(monitor, rows(1_000, 5))

    assert monitor.statistics() == before


def test_a_restored_monitor_goes_on_as_the_saved_one() -> None:
    monitor = a_monitor()
    feed(monitor, rows(1_000, 6))
    restored = DriftMonitor.from_bytes(monitor.to_bytes())
    later = rows(2_000, 7)
    later[:, 1] *= 9

    assert feed(restored, later, first=20) == feed(monitor, later, first=20)


@pytest.mark.parametrize("at", [0, 30, 200, -1])
def test_a_damaged_checkpoint_is_refused(at: int) -> None:
    saved = bytearray(a_monitor().to_bytes())
    saved[at] ^= 1

    with pytest.raises(CheckpointDamaged):
        DriftMonitor.from_bytes(bytes(saved))


def test_psi_of_the_reference_itself_is_nothing_and_of_missing_values_is_much() -> None:
    reference = rows(2_000, 8)
    bins = ReferenceBins.of(reference)
    missing = reference.copy()
    missing[:, 2] = np.nan

    same = bins.psi(bins.counts(bins.places(reference)))
    gone = bins.psi(bins.counts(bins.places(missing)))

    assert np.abs(same).max() < 1e-9
    assert gone[2] > 5
    assert bins.places(missing)[:, 2].tolist() == [BINS] * 2_000
