from datetime import UTC, datetime, timedelta

import numpy as np

from monitoring.drift import DriftMonitor
from monitoring.psi import ReferenceBins
from scoring.decision import DecisionBatch
from scoring.poll import Poll
from sinks.ledger import LedgerBatch, encode
from stream.agents.monitor import _State, _watch_poll
from tests.unit.sinks.decisions import a_batch
from tests.unit.sinks.test_ledger import WITHOUT_AGE

START = datetime(2026, 11, 24, tzinfo=UTC)


def new_monitor(batch: LedgerBatch) -> DriftMonitor:
    rows = np.random.default_rng(1).random((500, 1 + len(batch.feature_names)))
    return DriftMonitor(batch.release, batch.feature_names, ReferenceBins.of(rows))


def a_message(release: str, seconds: int) -> DecisionBatch:
    at_us = int((START + timedelta(seconds=seconds)).timestamp() * 1_000_000)
    return a_batch(release=release, decided_at_us=at_us)


def test_a_message_of_the_version_before_is_watched() -> None:
    state = _State(None)
    poll = Poll("ledger", 0, [0], [0], [None], [WITHOUT_AGE.read_bytes()], [[]])

    _watch_poll(state, poll, new_monitor)

    assert state.monitor is not None
    assert (state.monitor.release, state.monitor.next_offsets) == ("release-a", {0: 1})


def test_a_record_that_is_no_ledger_message_is_left_out_and_counted() -> None:
    state = _State(None)
    values = [b"junk", encode(a_message("release-a", 0))[0], None, b""]
    poll = Poll("ledger", 0, range(4), [0] * 4, [None] * 4, values, [[]] * 4)

    _watch_poll(state, poll, new_monitor)

    assert state.monitor is not None
    assert (state.unread, state.monitor.next_offsets) == (2, {0: 2})


def watch(state: _State, partition: int, offset: int, batch: DecisionBatch) -> None:
    value = encode(batch)[0]
    poll = Poll("ledger", partition, [offset], [0], [None], [value], [[]])
    assert _watch_poll(state, poll, new_monitor) == []


def test_a_partition_that_lags_behind_a_promotion_does_not_bring_the_old_release_back() -> None:
    state = _State(None)
    watch(state, 0, 0, a_message("old", 0))
    watch(state, 0, 1, a_message("new", 20))
    monitor = state.monitor

    watch(state, 1, 0, a_message("old", 10))
    watch(state, 0, 2, a_message("new", 21))

    assert state.monitor is monitor
    assert monitor is not None
    assert monitor.release == "new"
    assert monitor.next_offsets == {0: 3, 1: 1}
