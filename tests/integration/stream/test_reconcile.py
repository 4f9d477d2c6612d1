"""Reconciling on a real broker and the real engine: a clean run, and each fault by its name."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from monitoring.difference import Kind
from sinks.migrations import migrate
from sinks.store import ClickHouse, open_store
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Output
from stream.kafka.topics import create_topics
from stream.reconcile.report import Report
from stream.reconcile.snapshot import Period
from stream.settings import read_settings
from tests.integration.stream.reconciled import Installed, bad, event
from tests.integration.stream.topics import kafka_at
from tests.packed import records_in

pytestmark = pytest.mark.real_broker

WINDOW = 50


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path: Path = tmp_path_factory.mktemp("chdb")
    url = f"chdb://{path}"
    kept = open_store(url, user="", password="", database="default")
    yield url
    kept.close()


@pytest.fixture
def stores(engine: str) -> Iterator[list[ClickHouse]]:
    """A store, and the same for readers, with their guard and limits."""
    database = f"test_{uuid.uuid4().hex}"
    store = open_store(engine, user="", password="", database=database)
    migrate(store)
    reader = open_store(engine, user="", password="", database=database, read_only=True)
    yield [store, reader]
    reader.close()
    store.close()


@pytest.fixture
async def installed(real_broker: str, stores: list[ClickHouse]) -> Installed:
    store, reader = stores
    kafka = kafka_at(real_broker).model_copy(
        update={"group_prefix": uuid.uuid4().hex[:8], "resend_window": WINDOW}
    )
    await create_topics(kafka)
    return Installed(read_settings().model_copy(update={"kafka": kafka}), store, reader)


def wrong(report: Report) -> dict[Kind, int]:
    return {kind: count for kind, count in report.differences.items() if count}


def places(report: Report, kind: Kind) -> list[tuple[int, int]]:
    return [(one.partition, one.offset) for one in report.named if one.kind == kind]


def without(topic: str) -> Callable[[list[Output]], list[Output]]:
    return lambda outputs: [one for one in outputs if one.topic != topic]


async def test_a_clean_run_accounts_for_every_application(installed: Installed) -> None:
    hour_ago = int((datetime.now(UTC) - timedelta(hours=1)).timestamp() * 1e3)
    await installed.send(*map(event, range(5)), bad(5), at_ms=hour_ago)
    await installed.send(*map(event, range(10, 17)), b"\xff", partition=1)
    await installed.decide()
    await installed.send(*map(event, range(20, 24)))
    await installed.decide()
    await installed.insert()

    report = await installed.report()

    total = report.total
    assert wrong(report) == {}
    assert (total.consumed, total.decided, total.parked, total.repeated) == (18, 16, 2, 0)
    assert (total.pending, total.unjudged, total.again) == (0, 0, 0)
    assert (total.stored, total.stored_parked) == (16, 2)
    assert [(one.partition, one.counts.consumed) for one in report.hours] == [
        (0, 6),
        (0, 4),
        (1, 8),
    ]
    assert report.hours[0].hour + timedelta(hours=1) == report.hours[1].hour
    assert report.notes == []


async def test_what_is_not_consumed_or_not_inserted_yet_is_pending(installed: Installed) -> None:
    await installed.send(*map(event, range(6)))
    await installed.decide()
    await installed.insert()
    await installed.send(*map(event, range(6, 8)))
    await installed.decide()
    await installed.send(*map(event, range(8, 11)))

    report = await installed.report()

    assert wrong(report) == {}
    assert (report.total.consumed, report.total.pending, report.total.stored) == (8, 3, 6)
    assert any("its sink is behind" in note for note in report.notes)


async def test_an_application_passed_over_is_missing_by_its_id(installed: Installed) -> None:
    await installed.send(*map(event, range(4)))
    await installed.decide(change=lambda _: [])

    report = await installed.report()

    assert wrong(report) == {"missing": 4}
    assert report.total.missing == 4
    assert [one.event_id for one in report.named] == ["e-0", "e-1", "e-2", "e-3"]
    assert len({one.decision_id for one in report.named}) == 4


async def test_a_decision_written_again_stands_twice(installed: Installed) -> None:
    kept: list[OutRecord] = []

    def keep(outputs: list[Output]) -> list[Output]:
        (decisions,) = (one for one in outputs if one.topic == installed.settings.kafka.decisions)
        kept.extend(records_in(decisions))
        return [
            one if one is not decisions else decisions._replace(records=kept) for one in outputs
        ]

    await installed.send(*map(event, range(4)))
    await installed.decide(change=keep)
    await installed.insert()
    await installed.publish(installed.settings.kafka.decisions, [kept[2]])

    report = await installed.report()
    assert wrong(report) == {"twice": 1}
    assert places(report, "twice") == [(0, 2)]

    legal = await installed.report(delivery="at_least_once")
    assert wrong(legal) == {}
    assert legal.total.again == 1

    other = msgspec.json.decode(kept[2].value or b"") | {"outcome": "decline", "score": 1}
    changed = kept[2]._replace(value=msgspec.json.encode(other))
    await installed.publish(installed.settings.kafka.decisions, [changed])
    for delivery in ("exactly_once", "at_least_once"):
        conflicting = await installed.report(delivery=delivery)
        assert wrong(conflicting) == {"conflict": 1}
        assert places(conflicting, "conflict") == [(0, 2)]


@pytest.mark.parametrize("field", ["outcome", "decided_at", "release", "submitted_at"])
async def test_a_decision_that_says_other_things_than_the_ledger_is_named(
    installed: Installed, field: str
) -> None:
    others = {
        "outcome": "decline",
        "decided_at": "2026-01-01T00:00:00Z",
        "submitted_at": "2026-01-01T00:00:00Z",
        "release": "other",
    }

    def falsify(outputs: list[Output]) -> list[Output]:
        first, *rest = outputs
        one, *records = records_in(first)
        said = msgspec.json.decode(one.value or b"") | {field: others[field]}
        forged = one._replace(value=msgspec.json.encode(said))
        return [first._replace(records=[forged, *records]), *rest]

    await installed.send(*map(event, range(3)))
    await installed.decide(change=falsify)
    await installed.insert()

    report = await installed.report()

    assert wrong(report) == {"differs_in_ledger": 1}
    assert places(report, "differs_in_ledger") == [(0, 0)]


async def test_a_message_dropped_from_a_topic_is_named(installed: Installed) -> None:
    kafka = installed.settings.kafka
    await installed.send(*map(event, range(3)))
    await installed.decide(change=without(kafka.ledger))
    await installed.send(*map(event, range(10, 14)), partition=1)
    await installed.decide(change=without(kafka.decisions))
    await installed.send(bad(20), event(21))
    await installed.decide(change=without(kafka.parked))
    await installed.insert()

    report = await installed.report()

    assert wrong(report) == {"not_in_ledger": 3, "not_on_decisions": 4, "missing": 1}
    (missing,) = (one for one in report.named if one.kind == "missing")
    assert (missing.partition, missing.event_id) == (0, "")


async def test_what_answers_no_application_is_unknown(installed: Installed) -> None:
    kept: list[OutRecord] = []

    def keep(outputs: list[Output]) -> list[Output]:
        kept.extend(records_in(outputs[0]))
        return [outputs[0]._replace(records=kept), *outputs[1:]]

    def moved(**origin: Any) -> OutRecord:
        decision = msgspec.json.decode(kept[0].value or b"")
        changed = decision | {"origin": decision["origin"] | origin}
        return kept[0]._replace(value=msgspec.json.encode(changed))

    await installed.send(*map(event, range(3)))
    await installed.decide(change=keep)
    await installed.insert()
    strangers = [
        moved(offset=900),
        moved(partition=1),
        OutRecord(b"k", b"no decision", [], 1),
        OutRecord(b"k", None, [], 1),
    ]
    await installed.publish(installed.settings.kafka.decisions, strangers)
    await installed.publish(installed.settings.kafka.ledger, [OutRecord(None, b"x", [], 1)])
    await installed.publish(installed.settings.kafka.parked, [OutRecord(None, b"x", [], 1)])

    report = await installed.report()

    assert wrong(report) == {"unknown": 6}
    kafka = installed.settings.kafka
    told = {one.detail for one in report.named if one.topic == kafka.decisions}
    assert f"answers {kafka.applications}/1/0" in told
    ends = f"{kafka.applications}/0 ends at 3"
    assert f"answers {kafka.applications}/0/900, and {ends}" in told


async def test_a_decision_on_another_events_bytes_is_unknown(installed: Installed) -> None:
    await installed.send(*map(event, range(2)))
    await installed.decide()
    await installed.send(*map(event, range(2, 4)))

    def other_digest(outputs: list[Output]) -> list[Output]:
        one, *records = records_in(outputs[0])
        headers = [
            (name, b"0123456789abcdef" if name == "creditstream-event" else value)
            for name, value in one.headers
        ]
        return [
            outputs[0]._replace(records=[one._replace(headers=headers), *records]),
            *outputs[1:],
        ]

    await installed.decide(change=other_digest)
    await installed.insert()

    report = await installed.report()

    assert wrong(report) == {"unknown": 1}
    assert report.named[0].event_id == "e-2"


async def test_an_event_sent_again_is_told_from_one_that_is_missing(installed: Installed) -> None:
    await installed.send(*map(event, range(5)))
    first = event(0)
    await installed.decide()
    await installed.insert()
    again = event(100)
    await installed.send(again)
    await installed.decide()
    await installed.send(again, again, event(6))
    await installed.decide()
    await installed.send(again | {"application_id": 5}, first | {"submitted_at": "2026-01-01"})
    await installed.decide()
    await installed.insert()

    report = await installed.report()

    total = report.total
    assert wrong(report) == {}
    assert (total.consumed, total.decided, total.parked, total.repeated) == (11, 7, 2, 2)


async def test_an_event_that_came_again_beyond_the_window_is_decided_again_and_shown_once(
    installed: Installed,
) -> None:
    again = event(100)
    await installed.send(again)
    await installed.decide()
    for start in (200, 300):
        await installed.send(*map(event, range(start, start + WINDOW)))
        await installed.decide()
    await installed.send(again)
    await installed.decide()
    await installed.insert()
    installed.store.command("OPTIMIZE TABLE decision_ledger FINAL")

    report = await installed.report()

    total = report.total
    assert wrong(report) == {}
    assert (total.consumed, total.decided, total.stored) == (102, 102, 101)


async def test_the_same_event_decided_twice_within_the_window_is_twice(
    installed: Installed,
) -> None:
    again = event(100)
    await installed.send(again)
    await installed.decide()
    await installed.send(again)
    unaware = installed.settings.kafka.model_copy(update={"resend_window": 0})
    settings = installed.settings.model_copy(update={"kafka": unaware})
    forgetful = replace(installed, settings=settings)
    await forgetful.decide()
    await installed.insert()

    report = await installed.report()

    assert wrong(report) == {"twice": 1}
    assert places(report, "twice")[0][0] == 0


async def test_rows_deleted_altered_and_made_up_in_clickhouse_are_named(
    installed: Installed,
) -> None:
    await installed.send(*map(event, range(6)), bad(6), bad(7))
    await installed.send(event(50), partition=1)
    await installed.decide()
    await installed.insert()
    store = installed.store
    columns = "decision_id, event_id, source, application_id, submitted_at, produced_at, decided_at"
    others = "feature_source, release, origin_topic, origin_partition, origin_offset, features"
    store.command(
        f"INSERT INTO decision_ledger ({columns}, outcome, {others}) "
        f"SELECT {columns}, 'approve', feature_source, release, origin_topic, origin_partition, "
        "99, features FROM decision_ledger WHERE origin_offset = 5"
    )
    for table, offset in (("decision_ledger", 1), ("parked_events", 6)):
        store.command(f"DELETE FROM {table} WHERE origin_offset = {offset}")
    for table, change, offset in (
        ("decision_ledger", "features = arrayMap(x -> x + 1, features)", 2),
        ("decision_ledger", "release = 'other'", 3),
        ("parked_events", "value = 'x'", 7),
    ):
        store.command(
            f"ALTER TABLE {table} UPDATE {change} WHERE origin_offset = {offset} "
            "SETTINGS mutations_sync = 1"
        )

    report = await installed.report()

    assert places(report, "not_in_clickhouse") == [(0, 1), (0, 6)]
    assert places(report, "differs_in_clickhouse") == [(0, 2), (0, 3), (0, 7)]
    assert wrong(report) == {"not_in_clickhouse": 2, "differs_in_clickhouse": 3}
    assert [one.event_id for one in report.named if one.offset < 4] == ["e-1", "e-2", "e-3"]


async def test_a_row_of_no_ledger_message_is_only_in_clickhouse(installed: Installed) -> None:
    await installed.send(*map(event, range(3)))
    await installed.decide(change=without(installed.settings.kafka.ledger))
    await installed.send(*map(event, range(3, 5)))
    await installed.decide()
    await installed.insert()
    columns = "decision_id, event_id, source, application_id, submitted_at, produced_at, decided_at"
    installed.store.command(
        f"INSERT INTO decision_ledger ({columns}, outcome, origin_topic, origin_partition, "
        f"origin_offset) SELECT {columns}, 'approve', origin_topic, 0, 1 "
        "FROM decision_ledger LIMIT 1"
    )

    report = await installed.report()

    assert wrong(report) == {"not_in_ledger": 3, "only_in_clickhouse": 1}
    assert places(report, "only_in_clickhouse") == [(0, 1)]


async def test_a_period_holds_what_was_stamped_in_it_and_no_other(installed: Installed) -> None:
    now = datetime.now(UTC)
    for hours in (3, 2, 1):
        at_ms = int((now - timedelta(hours=hours)).timestamp() * 1e3)
        await installed.send(*(event(10 * hours + n) for n in range(hours)), at_ms=at_ms)
        await installed.decide()
    await installed.insert()

    half = timedelta(minutes=30)
    of_two = Period(now - timedelta(hours=2) - half, now - timedelta(hours=2) + half)
    report = await installed.report(of_two)

    assert wrong(report) == {}
    assert (report.total.consumed, report.total.stored) == (2, 2)
    since = await installed.report(Period(now - timedelta(hours=2) - half, None))
    assert (since.total.consumed, since.total.stored) == (3, 3)
    nothing = await installed.report(Period(now - half, None))
    assert nothing.total.consumed == 0


async def test_what_a_topic_no_longer_keeps_is_said_and_the_rest_is_reconciled(
    installed: Installed,
) -> None:
    kafka = installed.settings.kafka
    for start in (0, 10, 20):
        await installed.send(*map(event, range(start, start + 9)), bad(start + 9))
        await installed.decide(0)
    await installed.insert()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records(
            {
                TopicPartition(kafka.applications, 0): RecordsToDelete(before_offset=3),
                TopicPartition(kafka.decisions, 0): RecordsToDelete(before_offset=12),
                TopicPartition(kafka.parked, 0): RecordsToDelete(before_offset=4),
            }
        )
    finally:
        await admin.close()

    report = await installed.report()

    total = report.total
    assert wrong(report) == {}
    assert total.unjudged > 0
    assert total.consumed + total.unjudged == 27
    assert total.stored == total.decided
    assert any("keeps nothing before offset 3" in note for note in report.notes)
    assert any(f"{kafka.decisions} keeps no answers before" in note for note in report.notes)
