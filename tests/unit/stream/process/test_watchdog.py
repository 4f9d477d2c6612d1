import pytest

from stream.process.watchdog import EXIT_STALLED, STOP_SECONDS, Watchdog


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def a_watchdog(clock: Clock, ended: list[int], lag: int) -> Watchdog:
    return Watchdog(lambda: lag, lambda: 0.0, 60.0, end=ended.append, now=clock)


@pytest.mark.parametrize(
    ("lag", "seconds", "ended"), [(5, 61, [EXIT_STALLED]), (5, 59, []), (0, 1_000, [])]
)
def test_no_progress_with_lag_ends_the_process(lag: int, seconds: float, ended: list[int]) -> None:
    clock, found = Clock(), list[int]()
    watchdog = a_watchdog(clock, found, lag)

    clock.now = seconds
    watchdog.check()

    assert found == ended


def test_a_stop_that_does_not_end_is_ended() -> None:
    clock, ended = Clock(), list[int]()
    watchdog = a_watchdog(clock, ended, lag=0)
    watchdog.stopping()

    clock.now = STOP_SECONDS + 1
    watchdog.check()

    assert ended == [EXIT_STALLED]


def test_work_that_comes_after_an_idle_time_is_given_its_time() -> None:
    clock, ended = Clock(), list[int]()
    lag = 0
    watchdog = Watchdog(lambda: lag, lambda: 0.0, 60.0, end=ended.append, now=clock)
    clock.now = 1_000
    watchdog.check()

    lag, clock.now = 5, 1_001
    watchdog.check()
    assert ended == []
    assert watchdog.still_seconds() == 1

    clock.now = 1_061
    watchdog.check()
    assert ended == [EXIT_STALLED]


def test_it_is_ended_though_nobody_can_say_where_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def changed_meanwhile() -> str:
        raise RuntimeError

    monkeypatch.setattr("stream.process.watchdog.stacks", changed_meanwhile)
    clock, ended = Clock(), list[int]()
    watchdog = a_watchdog(clock, ended, lag=5)
    clock.now = 61

    with pytest.raises(RuntimeError):
        watchdog.check()

    assert ended == [EXIT_STALLED]
