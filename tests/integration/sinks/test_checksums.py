"""Checksums on the real engine: equal to those of the topics, and what they find."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from scoring.reasons import Reason
from sinks.checksum import DECISION_HASH_SQL, PARKED_HASH_SQL, LedgerHashes, checksum, parked_hash
from sinks.ledger import decode
from sinks.migrations import migrate
from sinks.store import ClickHouse
from stream.reconcile.accounts import HOUR_MS, PartitionAccount, Span, Sum
from stream.reconcile.store import LEDGER, PARKED, HourOf, Place, Shown, StoreRows
from tests.integration.sinks.conftest import Open
from tests.integration.sinks.stored import Inserts, ledger, parked, rows
from tests.unit.sinks.decisions import MINUTE_US, START_US, a_batch
from tests.unit.sinks.test_ledger import WITHOUT_AGE

TOPIC = "credit.applications.v1"
HOUR = START_US // 1_000 // HOUR_MS


def read_back(store: ClickHouse) -> list[int]:
    found = rows(
        store, f"SELECT {DECISION_HASH_SQL} AS h FROM decision_ledger ORDER BY origin_offset"
    )
    return [row["h"] for row in found]


@pytest.mark.parametrize("which", ["store", "served_store"])
def test_clickhouse_makes_the_hash_that_the_ledger_has(
    which: str, request: pytest.FixtureRequest
) -> None:
    store = request.getfixturevalue(which)
    random = np.random.default_rng(5)
    batch = a_batch(
        300,
        features=40,
        missing=[0, 7, 299],
        outcomes=random.integers(0, 3, 300).tolist(),
        probabilities=random.random(300).tolist(),
        applicant_ids=[("ünï" * 60) if n % 3 else None for n in range(300)],
        event_ids=["e" * n or "é" for n in range(300)],
        reasons=[
            tuple(Reason(f"R{n}", "größe", (-1) ** n / (n + 1), "text") for n in range(row % 5))
            for row in range(300)
        ],
        ages_s=[-n for n in range(300)],
        stale=range(0, 300, 4),
    )
    batch.features[5] = [math.nan, math.inf, -0.0, *batch.features[5, 3:]]

    Inserts(store).insert_ledger(ledger(batch))

    (found,) = map(decode, ledger(batch))
    hashes = LedgerHashes(found).rows
    assert read_back(store) == hashes.tolist()
    (total,) = rows(store, f"SELECT sum({DECISION_HASH_SQL}) AS h FROM decision_ledger")
    assert total["h"] == checksum(hashes)


def test_rows_of_a_version_without_ages_have_their_hash_too(store: ClickHouse) -> None:
    message = WITHOUT_AGE.read_bytes()

    Inserts(store).insert_ledger([message])

    assert sorted(read_back(store)) == sorted(LedgerHashes(decode(message)).rows.tolist())


def test_clickhouse_makes_the_hash_that_a_parked_event_has(store: ClickHouse) -> None:
    events = [parked(offset, path="$.é" * offset) for offset in range(4)]

    Inserts(store).insert_parked(events)

    sql = f"SELECT {PARKED_HASH_SQL} AS h FROM parked_events ORDER BY origin_offset"
    assert [row["h"] for row in rows(store, sql)] == [parked_hash(event) for event in events]


def account_of(messages: Sequence[bytes], end: int) -> PartitionAccount:
    """An account that was told of ledger rows alone."""
    span = Span(0, end, end, 0, 0, stored=end, stored_parked=end)
    account = PartitionAccount(span, exactly_once=True)
    for batch in map(decode, messages):
        hashes = LedgerHashes(batch).rows
        offsets = batch.rows.column("origin_offset").to_numpy()
        hours = batch.rows.column("produced_at").cast("int64").to_numpy() // HOUR_MS
        account.ledger_stored.add(offsets, hashes, hours, np.zeros(len(offsets), bool))
    return account


def test_sums_by_hour_and_rows_of_differing_blocks_are_asked_within_readers_limits(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.reconcile.store._OFFSETS", 1_700)  # so that blocks lie across
    store = opened()
    migrate(store)
    hour_us = 60 * MINUTE_US
    messages = ledger(
        a_batch(2_500),
        a_batch(1_500, first_offset=2_500, decided_at_us=START_US + hour_us + MINUTE_US),
    )
    Inserts(store).insert_ledger(messages)
    Inserts(store).insert_ledger(messages[:1])
    account = account_of(messages, 4_000)
    asked = StoreRows(opened(read_only=True), TOPIC)
    place = Place(0, 0, 4_000, 3_900)
    account.ledger_stored.limit = 3_900

    counts, sums = asked.by_hour(LEDGER, [place, Place(1, 0, 9_000, 9_000)])

    assert counts == {HourOf(0, HOUR): 2_500, HourOf(0, HOUR + 1): 1_500}
    assert sums[HourOf(0, HOUR)] == account.ledger_stored.by_hour[HOUR]
    assert sums[HourOf(0, HOUR + 1)].rows == 1_400
    assert asked.compare(LEDGER, place, account.ledger_stored) == {}
    assert not account.ledger_stored.flags.any()
    assert asked.by_hour(PARKED, [place]) == ({}, {})

    store.command("DELETE FROM decision_ledger WHERE origin_offset IN (5, 1699, 1700, 3950)")
    store.command("DELETE FROM decision_ledger WHERE origin_offset BETWEEN 2000 AND 2999")
    assert asked.compare(LEDGER, place, account.ledger_stored) == {}
    lost = np.flatnonzero(account.ledger_stored.flags).tolist()
    assert lost == [5, 1_699, 1_700, *range(2_000, 3_000)]


def test_a_row_that_only_clickhouse_has_is_given_with_its_id(opened: Open) -> None:
    store = opened()
    migrate(store)
    messages = ledger(a_batch(3), a_batch(1, first_offset=9))
    Inserts(store).insert_ledger(messages)
    account = account_of(messages[:1], 20)

    asked = StoreRows(opened(read_only=True), TOPIC)
    only = asked.compare(LEDGER, Place(0, 0, 20, 20), account.ledger_stored)

    (identity,) = decode(messages[1]).rows.column("decision_id").to_pylist()
    assert only == {9: identity.hex()}
    key = (1009, identity.hex())
    assert asked.shown([key, (7, identity.hex())]) == {key: Shown(START_US + MINUTE_US, 0, 9)}
    assert account.ledger_stored.by_hour == {
        HOUR: Sum(3, checksum(LedgerHashes(decode(messages[0])).rows))
    }


def test_a_second_row_that_says_it_is_of_the_same_place_makes_that_differ(opened: Open) -> None:
    store = opened()
    migrate(store)
    messages = ledger(a_batch(3))
    Inserts(store).insert_ledger(messages)
    account = account_of(messages, 20)
    forged = a_batch(
        1, first_offset=1, event_ids=["made up"], decided_at_us=START_US + 9 * MINUTE_US
    )
    Inserts(store).insert_ledger(ledger(forged))
    asked, place = StoreRows(opened(read_only=True), TOPIC), Place(0, 0, 20, 20)

    counts, sums = asked.by_hour(LEDGER, [place])

    assert counts == {HourOf(0, HOUR): 4}
    assert account.ledger_stored.differs({at.hour: total for at, total in sums.items()})
    assert asked.compare(LEDGER, place, account.ledger_stored) == {}
    assert np.flatnonzero(account.ledger_stored.flags).tolist() == [1]
