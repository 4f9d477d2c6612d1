from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring import checkpoint
from monitoring.alarm import Alarm
from monitoring.drift import ENOUGH, CheckpointDamaged, DriftMonitor
from monitoring.psi import ReferenceBins
from monitoring.window import WINDOW

NAMES = ("limit", "age", "bill")
LIMIT, AGE, BILL = 1, 2, 3
START = datetime(2026, 11, 24, tzinfo=UTC)
Rows = NDArray[np.float64]


def rows(size: int, seed: int) -> Rows:
    random = np.random.default_rng(seed)
    limit = random.lognormal(11, 1, size)
    age = random.normal(40, 9, size)
    age[random.random(size) < 0.1] = np.nan
    return np.column_stack((random.beta(1, 4, size), limit, age, limit / 2))


def a_monitor(release: str = "r") -> DriftMonitor:
    return DriftMonitor(release, NAMES, ReferenceBins.of(rows(2_000, 1)))


def feed(monitor: DriftMonitor, data: Rows, offsets: Iterator[int], size: int = 50) -> list[Alarm]:
    """Feed messages of `size` decisions, one a second."""
    alarms: list[Alarm] = []
    for start in range(0, len(data), size):
        part = data[start : start + size]
        offset = next(offsets)
        at = START + timedelta(seconds=offset)
        alarms += monitor.update(part[:, 1:].astype(np.float32), part[:, 0], at, 0, offset)
    return alarms


def sixty_features(size: int, seed: int) -> Rows:
    """The kinds that credit data have: heavy tails, few values, many zeros, some missing."""
    random = np.random.default_rng(seed)
    columns = [random.beta(1, 4, size)]
    for feature in range(60):
        column = [
            random.lognormal(11, 1, size),
            random.normal(40, 9, size),
            random.integers(-2, 9, size).astype(float),
            np.where(random.random(size) < 0.05, random.lognormal(3, 1, size), 0),
            random.integers(0, 2, size).astype(float),
            random.standard_cauchy(size),
        ][feature % 6]
        if feature % 10 == 0:
            column[random.random(size) < 0.2] = np.nan
        columns.append(column)
    return np.column_stack(columns)


@pytest.mark.parametrize("seed", [10, 20, 30])
def test_twenty_thousand_stationary_decisions_of_sixty_features_raise_no_alarm(seed: int) -> None:
    names = [f"f{feature}" for feature in range(60)]
    monitor = DriftMonitor("r", names, ReferenceBins.of(sixty_features(2_000, seed)))

    assert feed(monitor, sixty_features(20_000, seed + 1), count(), size=200) == []


@pytest.mark.parametrize("seed", range(5))
def test_another_unit_for_four_in_ten_decisions_is_named_within_four_hundred(seed: int) -> None:
    monitor, offsets = a_monitor(), count()
    assert feed(monitor, rows(5_000, 100 + seed), offsets) == []
    changed = rows(400, 200 + seed)
    changed[np.random.default_rng(seed).random(400) < 0.4, LIMIT] /= 32

    alarms = feed(monitor, changed, offsets)

    assert [alarm.subject for alarm in alarms] == ["limit"]
    assert abs(alarms[0].since - (START + timedelta(seconds=100))) <= timedelta(seconds=2)


def test_an_alarm_says_what_was_seen() -> None:
    steady = np.tile([166_000.0, 168_000.0], 1_000)
    bins = ReferenceBins.of(np.column_stack((np.zeros(2_000), steady)))
    monitor, offsets = DriftMonitor("r", ("limit",), bins), count()
    known = np.column_stack((np.zeros(2_000), steady))
    changed = np.column_stack((np.zeros(100), np.full(100, 5_300)))

    alarms = feed(monitor, np.concatenate((known, changed)), offsets)

    (alarm,) = alarms
    assert alarm.text == (
        "limit has moved: mean 5,300 in the last 50 decisions against 167,000 before, "
        "since 00:00:40 UTC."
    )
    assert (alarm.subject, alarm.detector, alarm.release) == ("limit", "adwin", "r")
    assert (alarm.since, alarm.decisions) == (START + timedelta(seconds=40), 50)
    assert alarm.value > alarm.threshold


def test_a_level_whose_past_has_left_the_window_is_compared_with_the_reference() -> None:
    steps = np.tile([10.0, 20.0, 30.0, 40.0], 1_000)
    bins = ReferenceBins.of(np.column_stack((np.zeros(4_000), steps)))
    monitor, offsets = DriftMonitor("r", ("limit",), bins), count()
    higher = steps.copy()
    higher[::11] = 40  # so little that ADWIN is sure only after thousands

    stream = np.concatenate((*[steps] * 3, *[higher] * 5))
    alarms = feed(monitor, np.column_stack((np.zeros(len(stream)), stream)), offsets, size=400)

    (alarm,) = alarms
    assert alarm.detector == "adwin"
    assert alarm.decisions == WINDOW
    assert " in the last 2,000 decisions against 25 in the release's reference," in alarm.text


def test_a_subject_raises_one_alarm_an_episode() -> None:
    monitor, offsets = a_monitor(), count()
    feed(monitor, rows(5_000, 5), offsets)
    changed = rows(10_000, 6)
    changed[:, LIMIT] /= 32

    alarms = feed(monitor, changed, offsets)

    assert [alarm.subject for alarm in alarms] == ["limit"]
    assert alarms[0].detector in {"adwin", "psi"}


def test_a_later_change_is_another_episode() -> None:
    monitor, offsets = a_monitor(), count()
    feed(monitor, rows(5_000, 7), offsets)
    changed = rows(4_000, 8)
    changed[:, LIMIT] *= 9

    first = feed(monitor, changed, offsets)
    calm = feed(monitor, rows(4 * WINDOW, 9), offsets)
    second = feed(monitor, changed, offsets)

    assert [alarm.subject for alarm in first] == ["limit"]
    assert {alarm.subject for alarm in calm} == {"limit"}  # it came back, which is a change too
    assert [alarm.subject for alarm in second] == ["limit"]
    assert len({alarm.alarm_id for alarm in first + calm + second}) == len(first + calm + second)


def test_a_missing_share_that_grows_is_named() -> None:
    monitor, offsets = a_monitor(), count()
    feed(monitor, rows(3_000, 10), offsets)
    changed = rows(2_000, 11)
    changed[np.random.default_rng(1).random(2_000) < 0.2, BILL] = np.nan

    (alarm,) = feed(monitor, changed, offsets)

    assert (alarm.detector, alarm.subject) == ("missing_share", "bill")
    assert 0.03 <= alarm.value < 0.05
    assert alarm.text.startswith("bill is missing in 3% of the last 2,000 decisions against 0% in")


def test_a_slow_change_of_shape_is_seen_against_the_reference() -> None:
    monitor, offsets = a_monitor(), count()
    slow = rows(60_000, 12)
    # The spread halves over sixty thousand decisions; the mean stays.
    slow[:, AGE] = 40 + (slow[:, AGE] - 40) * np.linspace(1, 0.4, len(slow))

    alarms = feed(monitor, slow, offsets, size=500)

    assert {(alarm.detector, alarm.subject) for alarm in alarms} == {("psi", "age")}
    assert alarms[0].value >= alarms[0].threshold == 0.25
    assert alarms[0].decisions == WINDOW


def test_nothing_alarms_before_there_is_enough() -> None:
    far = rows(ENOUGH + 50, 13)
    far[:, LIMIT] *= 1_000
    monitor, offsets = a_monitor(), count()

    assert feed(monitor, far[: ENOUGH - 50], offsets) == []
    assert [alarm.subject for alarm in feed(monitor, far[ENOUGH - 50 :], offsets)] == ["limit"]


def test_a_redelivered_message_is_not_counted_again() -> None:
    monitor = a_monitor()
    feed(monitor, rows(1_000, 14), count())
    before = monitor.to_bytes()

    feed(monitor, rows(1_000, 14), count())

    assert monitor.to_bytes() == before


def test_each_partition_has_offsets_of_its_own() -> None:
    monitor = a_monitor()
    part = rows(50, 15)
    for partition in (0, 1):
        monitor.update(part[:, 1:].astype(np.float32), part[:, 0], START, partition, 7)

    assert monitor.statistics()[0].decisions == 100
    assert monitor.next_offsets == {0: 8, 1: 8}


def test_a_restored_monitor_goes_on_as_the_saved_one_and_raises_the_same_alarms() -> None:
    monitor, offsets = a_monitor(), count()
    feed(monitor, rows(3_000, 16), offsets)
    restored = DriftMonitor.from_bytes(monitor.to_bytes())
    later = rows(2_000, 17)
    later[:, LIMIT] *= 9

    alarms = feed(restored, later, count(60))

    assert alarms
    assert alarms == feed(monitor, later, count(60))
    assert restored.to_bytes() == monitor.to_bytes()
    assert restored.statistics() == monitor.statistics()


@pytest.mark.parametrize("at", [0, 30, 200, -1])
def test_a_damaged_checkpoint_is_refused(at: int) -> None:
    saved = bytearray(a_monitor().to_bytes())
    saved[at] ^= 1

    with pytest.raises(CheckpointDamaged):
        DriftMonitor.from_bytes(bytes(saved))


@pytest.mark.parametrize("size", [0, 10, 40, 1_000])
def test_a_checkpoint_cut_short_is_refused(size: int) -> None:
    with pytest.raises(CheckpointDamaged):
        DriftMonitor.from_bytes(a_monitor().to_bytes()[:size])


def test_a_checkpoint_of_another_river_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = a_monitor().to_bytes()
    monkeypatch.setattr(checkpoint, "_RIVER", "99")

    with pytest.raises(CheckpointDamaged, match="this is 99"):
        DriftMonitor.from_bytes(saved)


def test_only_a_newer_message_of_another_release_calls_for_another_monitor() -> None:
    monitor = a_monitor("old")
    feed(monitor, rows(100, 18), count(5))
    later, earlier = START + timedelta(seconds=60), START

    assert monitor.succeeded_by("new", later, 0, 7)
    assert not monitor.succeeded_by("old", later, 0, 7)
    assert not monitor.succeeded_by("new", later, 0, 6)  # counted already
    assert not monitor.succeeded_by("new", earlier, 1, 0)  # of a partition that lags


def test_of_another_release_only_the_offset_is_taken() -> None:
    monitor = a_monitor("new")
    part = rows(50, 19)

    monitor.update(part[:, 1:].astype(np.float32), part[:, 0], START, 1, 3, release="old")

    assert monitor.next_offsets == {1: 4}
    assert monitor.statistics()[0].decisions == 0


def test_values_that_are_not_finite_harm_nothing() -> None:
    monitor, offsets = a_monitor(), count()
    odd = rows(1_000, 20)
    odd[::3, LIMIT] = np.inf

    (alarm,) = feed(monitor, odd, offsets)
    statistics = monitor.statistics()[LIMIT]

    assert (alarm.detector, alarm.subject) == ("missing_share", "limit")
    assert np.isfinite([statistics.mean, statistics.variance, statistics.psi]).all()
    assert statistics.missing_share == pytest.approx(1 / 3, abs=0.01)
    assert statistics.last_alarm == alarm.raised_at
