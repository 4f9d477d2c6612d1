"""What analysts read: every view on the real engine, with a known answer."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from scoring.decision import FEATURE_SOURCES, NO_TIME
from scoring.reasons import Reason
from sinks.migrations import migrate
from sinks.store import Store
from tests.integration.sinks.stored import VIEWS, Inserts, an_alarm, ledger, parked, rows
from tests.unit.sinks.decisions import MINUTE_US, START_US, a_batch
from tests.unit.sinks.test_ledger import WITHOUT_AGE

APPROVE, REFER, DECLINE = 0, 1, 2


def test_a_decision_reads_as_it_was_decided(store: Store) -> None:
    reason = Reason("R07", "feature_1", 0.5, "Too little income")
    batch = a_batch(
        2,
        first_offset=41,
        missing=[1],
        outcomes=[DECLINE, REFER],
        probabilities=[0.75, 0],
        latency_ms=[12, 34],
        reasons=[(reason,), ()],
        applicant_ids=["ada", None],
        partition=3,
    )

    assert Inserts(store).insert_ledger(ledger(batch)) == 2

    first, second = rows(store, "SELECT * FROM decisions ORDER BY origin_offset")
    assert first["decision_id"] == UUID(bytes=batch.decision_ids[0])
    assert (first["event_id"], first["source"]) == ("e-41", "shop")
    assert (first["application_id"], first["applicant_id"]) == (1041, "ada")
    assert first["submitted_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert first["decided_at"] == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert first["latency_ms"] == 12
    assert (first["outcome"], first["default_probability"]) == ("decline", 0.75)
    assert (first["score"], first["risk_band"]) == (600, "low")
    assert [tuple(found.values()) for found in first["reasons"]] == [("R07", "feature_1", 0.5)]
    assert first["reason_codes"] == ["R07"]
    assert (first["feature_source"], first["features_as_of"]) == (
        "table",
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert (first["features_age_s"], first["features_stale"]) == (0.0, False)
    assert first["release"] == "release-a"
    assert (first["origin_partition"], first["origin_offset"]) == (3, 41)
    assert second["outcome"] == "refer"
    assert [second[name] for name in ("default_probability", "score", "risk_band")] == [None] * 3
    assert (second["feature_source"], second["features_as_of"]) == ("missing", None)
    assert (second["features_age_s"], second["features_stale"]) == (None, False)


def test_an_id_that_two_applications_share_is_told_and_both_are_kept(store: Store) -> None:
    once = a_batch(2, event_ids=["same", "other"])
    again = a_batch(1, first_offset=7, event_ids=["same"])

    Inserts(store).insert_ledger(ledger(once, again, once))

    assert len(rows(store, "SELECT * FROM decisions")) == 3
    (shared,) = rows(store, "SELECT * FROM shared_ids")
    assert (shared["event_id"], shared["source"]) == ("same", "shop")
    assert list(shared["application_ids"]) == [1000, 1007]
    assert shared["decision_id"] == UUID(bytes=once.decision_ids[0])


def test_the_features_of_a_decision_carry_their_names_by_release(store: Store) -> None:
    one = a_batch(2, missing=[1])
    one.features[0] = [1.5, math.nan]
    other = replace(
        a_batch(1, first_offset=9, release="release-b"), feature_names=("AGE", "LIMIT_BAL")
    )

    Inserts(store).insert_ledger(ledger(one, other))

    found = rows(store, "SELECT * FROM decision_features ORDER BY application_id, feature")
    assert [(row["event_id"], row["release"], row["feature"]) for row in found] == [
        ("e-0", "release-a", "feature_0"),
        ("e-0", "release-a", "feature_1"),
        ("e-9", "release-b", "AGE"),
        ("e-9", "release-b", "LIMIT_BAL"),
    ]
    assert found[0]["value"] == 1.5
    assert math.isnan(found[1]["value"])
    assert [row["value"] for row in found[2:]] == [18.0, 19.0]
    assert found[0]["decision_id"] == UUID(bytes=one.decision_ids[0])


def test_the_mix_of_outcomes_is_counted_by_hour(store: Store) -> None:
    first = a_batch(4, outcomes=[APPROVE, APPROVE, APPROVE, DECLINE])
    later = a_batch(
        2, first_offset=4, outcomes=[REFER, REFER], decided_at_us=START_US + 61 * MINUTE_US
    )

    Inserts(store).insert_ledger(ledger(first, later))

    hours = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (0, 1)]
    assert [
        (row["hour"], row["outcome"], row["decisions"], row["share"])
        for row in rows(store, "SELECT * FROM decision_mix_by_hour")
    ] == [
        (hours[0], "approve", 3, 0.75),
        (hours[0], "decline", 1, 0.25),
        (hours[1], "refer", 2, 1.0),
    ]


def test_risk_bands_say_what_each_was_decided(store: Store) -> None:
    batch = a_batch(
        4,
        missing=[3],
        outcomes=[APPROVE, APPROVE, DECLINE, REFER],
        probabilities=[0.1, 0.2, 0.9, 0],
    )
    batch.bands[:] = [0, 0, 2, 0]

    Inserts(store).insert_ledger(ledger(batch))

    found = {row["band"]: row for row in rows(store, "SELECT * FROM risk_bands")}
    assert set(found) == {"low", "high", "none"}
    assert found["low"]["decisions"] == 2
    assert math.isclose(found["low"]["mean_default_probability"], 0.15)
    assert (found["low"]["approved"], found["high"]["declined"], found["none"]["referred"]) == (
        2,
        1,
        1,
    )
    assert found["none"]["mean_default_probability"] is None


def test_latency_is_measured_from_the_producers_timestamp_by_minute(store: Store) -> None:
    batch = a_batch(100, latency_ms=range(1, 101))
    later = a_batch(1, first_offset=100, latency_ms=[5], decided_at_us=START_US + 2 * MINUTE_US)

    Inserts(store).insert_ledger(ledger(batch, later))

    first, second = rows(store, "SELECT * FROM latency_by_minute")
    assert first == {
        "minute": datetime(2026, 1, 1, 0, 1, tzinfo=UTC),
        "decisions": 100,
        "p50_ms": 51,
        "p95_ms": 96,
        "p99_ms": 100,
        "max_ms": 100,
    }
    assert (second["decisions"], second["max_ms"]) == (1, 5)


def test_the_age_of_the_tables_rows_is_shown_by_hour(store: Store) -> None:
    hours = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (0, 1)]
    ages = [*range(1, 101), 7]
    first = a_batch(101, ages_s=ages, stale=range(90, 100), missing=[100])
    undated = a_batch(
        2, first_offset=200, ages_s=5, stale=[1], decided_at_us=START_US + 61 * MINUTE_US
    )
    undated.features_as_of_us[1] = NO_TIME
    computed = a_batch(3, first_offset=300, ages_s=0)
    computed.feature_sources[:] = FEATURE_SOURCES.index("computed")

    Inserts(store).insert_ledger(ledger(first, undated, computed))

    one, other = rows(store, "SELECT * FROM feature_age")
    assert one == {
        "hour": hours[0],
        "decisions": 100,
        "p50_s": 51,
        "p99_s": 100,
        "unknown_age": 0,
        "stale_share": 0.1,
    }
    assert other == {
        "hour": hours[1],
        "decisions": 2,
        "p50_s": 5,
        "p99_s": 5,
        "unknown_age": 1,
        "stale_share": 0.5,
    }


def test_decisions_stored_before_there_was_an_age_have_one(store: Store) -> None:
    for view in ("feature_age", "decisions"):
        store.command(f"DROP VIEW {view}")
    for column in ("features_age_s", "features_stale"):
        store.command(f"ALTER TABLE decision_ledger DROP COLUMN {column}")
    store.command(
        "INSERT INTO decision_ledger (application_id, event_id, feature_source,"
        " submitted_at, features_as_of)"
        " VALUES (1, 'old', 'table', '2026-01-02 00:00:01', '2026-01-01 00:00:00.5'),"
        " (2, 'without', 'missing', '2026-01-02 00:00:01', NULL)"
    )

    migrate(store)
    Inserts(store).insert_ledger([WITHOUT_AGE.read_bytes(), *ledger(a_batch(1))])

    asked = "SELECT event_id, features_age_s AS age, features_stale AS stale FROM decisions"
    found = {row["event_id"]: (row["age"], row["stale"]) for row in rows(store, asked)}
    assert found == {
        "old": (86_400.5, False),
        "without": (None, False),
        "e-0": (0.0, False),
        "e-1": (None, False),
        "e-2": (0.0, False),
    }


def test_parked_events_are_shown_once_and_counted_by_cause(store: Store) -> None:
    sink = Inserts(store)
    sink.insert_parked([parked(1), parked(2), parked(3, path="$")])
    sink.insert_parked([parked(2, minute=9)])

    shown = rows(store, "SELECT * FROM parked ORDER BY origin_offset")
    causes = rows(store, "SELECT code, path, rule, events FROM parked_by_cause")

    assert [row["origin_offset"] for row in shown] == [1, 2, 3]
    assert shown[1]["parked_at"] == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert (shown[0]["shown"], shown[0]["value"], shown[0]["value_bytes"]) == ("'forty'", "�{}", 3)
    assert [(row["path"], row["events"]) for row in causes] == [("$.attributes.AGE", 2), ("$", 1)]


def test_an_alarm_raised_again_is_one_alarm(store: Store) -> None:
    sink = Inserts(store)
    sink.insert_alarms([an_alarm(), an_alarm("a-2", minute=4)])
    sink.insert_alarms([an_alarm()])

    found = rows(store, "SELECT * FROM alarms")

    assert [row["alarm_id"] for row in found] == ["a-2", "a-1"]
    assert (found[0]["subject"], found[0]["value"], found[0]["decisions"]) == ("AGE", 0.31, 5000)


def test_every_view_is_known_to_this_file_and_reads_an_empty_store(store: Store) -> None:
    views = "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'"

    assert {row["name"] for row in rows(store, views)} == set(VIEWS)
    assert all(rows(store, f"SELECT * FROM {view}") == [] for view in VIEWS)


def test_migrating_again_changes_nothing_and_brings_back_a_view(store: Store) -> None:
    Inserts(store).insert_ledger(ledger(a_batch(3)))
    store.command("DROP VIEW parked_by_cause")

    migrate(store)

    assert rows(store, "SELECT count() AS n FROM decisions") == [{"n": 3}]
    assert rows(store, "SELECT * FROM parked_by_cause") == []
    ran = rows(store, "SELECT file, count() AS times FROM schema_migrations GROUP BY file")
    assert {row["times"] for row in ran} == {1}


def test_delivery_is_counted_by_the_hour_and_partition_of_the_application(store: Store) -> None:
    hour_us = 60 * MINUTE_US
    first = a_batch(3, decided_at_us=START_US + MINUTE_US)
    later = a_batch(2, first_offset=3, decided_at_us=START_US + hour_us + MINUTE_US)
    other = a_batch(1, first_offset=40, partition=1)
    sink = Inserts(store)
    sink.insert_ledger(ledger(first, later, other))
    sink.insert_ledger(ledger(first))

    found = rows(store, "SELECT * FROM delivery_by_hour")

    told = ("hour", "origin_partition", "decided", "parked", "first_offset", "last_offset")
    midnight, one = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert [tuple(row[name] for name in told) for row in found] == [
        (midnight, 0, 3, 0, 0, 2),
        (midnight, 1, 1, 0, 40, 40),
        (one, 0, 2, 0, 3, 4),
    ]
    sink.insert_parked([parked(7), parked(8)])
    (row,) = rows(store, "SELECT * FROM delivery_by_hour WHERE parked")
    assert (row["hour"], row["origin_topic"], row["parked"]) == (midnight, "applications", 2)
