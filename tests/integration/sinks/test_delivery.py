"""Once in effect: repeats, other block boundaries and second decisions change nothing read."""

import itertools
import socket
from contextlib import closing

import numpy as np
import pytest

from sinks.door import SqlDoor
from sinks.refusals import _MENDED, _PASSING, CAUSES
from sinks.store import Store, StoreRefused, StoreUnavailable, open_store
from tests.integration.sinks.stored import Inserts, everything, ledger, parked, rows
from tests.unit.sinks.decisions import MINUTE_US, START_US, a_batch

DECLINE = 2


def decisions(store: Store) -> int:
    return int(rows(store, "SELECT count() AS n FROM decisions")[0]["n"])


def stored(store: Store) -> int:
    return int(rows(store, "SELECT count() AS n FROM decision_ledger")[0]["n"])


def test_the_same_rows_in_other_blocks_change_nothing_that_is_read(store: Store) -> None:
    sink = Inserts(store)
    batches = ledger(*(a_batch(10, first_offset=at, missing=[3]) for at in range(0, 60, 10)))
    sink.insert_ledger(batches)
    sink.insert_parked([parked(at) for at in range(70, 80)])
    before = everything(store)

    for size in (1, 4, 6):
        for start in range(0, 6, size):
            sink.insert_ledger(batches[start : start + size])
        for start in range(0, 10, size):
            sink.insert_parked([parked(70 + at) for at in range(start, min(start + size, 10))])

    assert stored(store) > 60
    assert everything(store) == before


def test_the_same_block_again_is_not_even_stored(store: Store) -> None:
    batches = ledger(a_batch(5), a_batch(5, first_offset=5))

    Inserts(store).insert_ledger(batches)
    Inserts(store).insert_ledger(batches[::-1])

    assert stored(store) == 10


def test_a_block_that_shares_rows_with_another_loses_none(store: Store) -> None:
    sink = Inserts(store)

    sink.insert_ledger(ledger(a_batch(6)))
    sink.insert_ledger(ledger(a_batch(6, first_offset=3)))

    assert decisions(store) == 9


def test_one_value_changed_is_another_token(store: Store) -> None:
    sink = Inserts(store)
    batch = a_batch(3)
    changed = a_batch(3)
    changed.features[2, 1] = np.nextafter(changed.features[2, 1], np.float32(np.inf))

    sink.insert_ledger(ledger(batch))
    sink.insert_ledger(ledger(changed))

    assert stored(store) == 6
    assert decisions(store) == 3


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_first_decision_wins_in_whatever_order_they_arrive(
    store: Store, order: tuple[int, ...]
) -> None:
    made = [
        a_batch(1),
        a_batch(1, outcomes=[DECLINE], decided_at_us=START_US + 2 * MINUTE_US, release="later"),
        a_batch(1, outcomes=[DECLINE], first_offset=8, event_ids=["e-0"]),  # sent again, same poll
    ]
    made[2].application_ids[:] = made[0].application_ids

    for index in order:
        Inserts(store).insert_ledger(ledger(made[index]))

    assert rows(store, "SELECT outcome, release, origin_offset FROM decisions") == [
        {"outcome": "approve", "release": "release-a", "origin_offset": 0}
    ]
    store.command("OPTIMIZE TABLE decision_ledger FINAL")
    assert rows(store, "SELECT outcome, release, origin_offset FROM decision_ledger") == [
        {"outcome": "approve", "release": "release-a", "origin_offset": 0}
    ]


def test_many_messages_are_one_insert(store: Store) -> None:
    Inserts(store).insert_ledger(ledger(*(a_batch(2, first_offset=2 * n) for n in range(9))))

    parts = "SELECT count() AS n FROM system.parts WHERE database = currentDatabase() AND active"
    assert rows(store, f"{parts} AND table = 'decision_ledger'") == [{"n": 1}]


def test_nothing_to_insert_is_no_insert(store: Store) -> None:
    sink = Inserts(store)

    assert (sink.insert_ledger([]), sink.insert_parked([]), sink.insert_alarms([])) == (0, 0, 0)


def test_a_table_of_other_columns_is_a_refusal_that_stops(store: Store) -> None:
    store.command("ALTER TABLE decision_ledger DROP COLUMN score")

    with pytest.raises(StoreRefused) as refused:
        Inserts(store).insert_ledger(ledger(a_batch(1)))

    assert refused.value.code == 16


def test_every_error_that_is_named_is_one_of_the_engines_and_has_one_cause(store: Store) -> None:
    codes = [code for of_cause in (*_PASSING.values(), *_MENDED.values()) for code in of_cause]

    named = f"SELECT arrayJoin({codes}) AS code, errorCodeToName(code) AS name"
    assert [row["code"] for row in rows(store, named) if not row["name"]] == []
    assert len(set(codes)) == len(codes)
    assert {*_PASSING, *_MENDED} == set(CAUSES)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]

    with pytest.raises(StoreUnavailable):
        open_store(f"http://127.0.0.1:{port}", user="default", password="", database="default")
    with pytest.raises(StoreUnavailable):
        SqlDoor(f"http://127.0.0.1:{port}").query("SELECT 1")
