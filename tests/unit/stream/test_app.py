"""A role's Faust app: who may make its consumer."""

import signal
import threading

import pytest
from faust.exceptions import ConsumerNotStarted

from stream.app import consumer_of, new_app
from stream.process.watchdog import Watchdog
from stream.settings import read_settings
from stream.worker import Worker


def test_a_thread_that_asks_for_the_consumer_too_early_does_not_make_it() -> None:
    # Faust makes it on the loop of the thread that asks: that worker would never start.
    app = new_app(read_settings(), "sink")
    refused = list[BaseException]()

    def ask() -> None:
        with pytest.raises(ConsumerNotStarted) as raised:
            consumer_of(app)
        refused.append(raised.value)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()

    assert len(refused) == 1
    assert app._consumer is None


def test_a_worker_that_stops_of_an_error_is_given_as_long_as_one_that_is_told_to() -> None:
    ended = list[int]()
    now = 0.0
    worker = Worker(new_app(read_settings(), "sink"), override_logging=False)
    worker.watchdog = Watchdog(lambda: 0, lambda: 0.0, 60.0, end=ended.append, now=lambda: now)

    worker.on_worker_shutdown()
    now = 31.0
    worker.watchdog.check()

    assert ended == [70]


def test_a_worker_that_is_told_twice_in_the_same_way_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = list[int]()
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr("faust.Worker._schedule_shutdown", lambda *_: None)
    worker = Worker(new_app(read_settings(), "sink"), override_logging=False)
    worker.watchdog = Watchdog(lambda: 0, lambda: 0.0, 60.0)

    worker._schedule_shutdown(signal.SIGINT)
    worker._schedule_shutdown(signal.SIGTERM)
    assert ended == []
    worker._schedule_shutdown(signal.SIGTERM)

    assert ended == [143]
