"""Parked events on a real broker: read, and driven again."""

import asyncio
import hashlib
from datetime import UTC, datetime

import pytest

from scoring.decode import EventLimits
from scoring.parking import ParkingLimit
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.kafka.topics import create_topics
from tests.builders import ATTRIBUTES
from tests.integration.stream.parked import (
    NARROW,
    Installation,
    decided,
    event,
    ids,
    repeated,
)
from tests.integration.stream.topics import kafka_at


@pytest.mark.real_broker
def test_all_of_a_cause_are_driven_again_after_a_fix_and_once_more_does_no_harm(
    there: Installation,
) -> None:
    there.send(0, event("a"), b"{")
    there.send(1, event("b"), event("c"))
    there.work(NARROW)
    # Either partition may have been decided first.
    assert sorted((one["code"], one["redriven"]) for one in there.listed()) == [
        ("malformed", 0),
        ("too_large", 0),
        ("too_large", 0),
        ("too_large", 0),
    ]

    sent = there.creditstream("send", "--code", "too_large", answer="y\n")
    assert sent.exit_code == 0, sent.output
    assert "3 sent, by partition: 1 to 0, 2 to 1" in sent.stdout
    metrics = there.work()

    decisions = there.decisions(3)
    assert decided(decisions) == ids(["a", "b", "c"])
    assert [one["origin"]["partition"] for one in decisions].count(1) == 2
    assert repeated(metrics) == 0
    last = there.applications()[-1]
    assert [last.key, dict(last.headers)["ce_source"]] == [b"k%d" % last.partition, b"shop"]
    assert "creditstream-stage" not in dict(last.headers)
    assert [one["code"] for one in there.listed("--not-redriven")] == ["malformed"]
    assert {one["code"] for one in there.listed("--redriven")} == {"too_large"}

    assert there.creditstream("send", "--code", "too_large", "--yes").exit_code == 0
    metrics = there.work()
    assert repeated(metrics) == 3
    assert len(there.decisions(3)) == 3
    assert len(there.parked(4)) == 4


@pytest.mark.real_broker
def test_where_nobody_remembers_an_event_driven_twice_is_decided_under_one_id(
    real_broker: str,
) -> None:
    kafka = kafka_at(real_broker).model_copy(update={"resend_window": 0})
    asyncio.run(create_topics(kafka))
    there = Installation(kafka)
    there.send(1, event("a"))
    there.work(NARROW)

    for _ in range(2):
        assert there.creditstream("send", "1/0").exit_code == 0
        there.work()

    assert decided(there.decisions(2)) == ids(["a"]) * 2


@pytest.mark.real_broker
def test_an_event_that_was_decided_meanwhile_is_counted_or_parked_for_its_other_content(
    there: Installation,
) -> None:
    first, second = event("a", AGE=-3), event("b")
    there.send(0, first)
    there.work(NARROW)
    there.send(0, second)
    there.work(NARROW)
    corrected = first | {"attributes": ATTRIBUTES}
    there.send(0, corrected, second)
    there.work()
    assert decided(there.decisions(2)) == ids(["a", "b"])

    assert there.creditstream("send", "0/0-999", "--yes").exit_code == 0
    metrics = there.work(limits=EventLimits())

    assert repeated(metrics) == 1
    *_, again = there.parked(3)
    # Its own fault is found before its id is looked at.
    assert (again.code, again.redriven) == ("invalid", 1)
    assert len(there.decisions(2)) == 2


@pytest.mark.real_broker
def test_a_decided_id_with_other_content_is_parked_as_conflicting_and_not_driven_again(
    there: Installation,
) -> None:
    first = event("a")
    there.send(0, first)
    there.work(NARROW)
    there.send(0, first | {"application_id": 8})
    there.work()

    assert there.creditstream("send", "0/0").exit_code == 0
    there.work()

    _, conflict = there.parked(2)
    assert (conflict.code, conflict.redriven) == ("conflicting_duplicate", 1)
    assert conflict.redriven_of == f"{there.kafka.parked}/0/0"
    refused = there.creditstream("send", "--code", "conflicting_duplicate", "--yes")
    assert refused.exit_code == 1
    assert "1 cannot be sent: its id stands for another event" in refused.stdout
    assert len(there.decisions(1)) == 1


@pytest.mark.real_broker
def test_an_event_that_fails_again_is_parked_again_with_how_often_it_was_driven(
    there: Installation,
) -> None:
    there.send(1, b"{")
    there.work()
    for times in (1, 2):
        last = there.listed()[-1]["place"]
        assert there.creditstream("send", last).exit_code == 0
        there.work(limit=ParkingLimit(longest_run=1, counts="all"))
        again = there.parked(times + 1)[-1]
        assert (again.redriven, again.redriven_of) == (times, last)
        assert (again.headers, again.value) == ((("ce_source", b"shop"),), b"{")

    page = there.creditstream("show", there.listed()[-1]["place"])
    assert f"re-driven    2 times before, last from {last}" in page.stdout


@pytest.mark.real_broker
def test_a_range_is_sent_or_only_told_and_never_without_an_answer(there: Installation) -> None:
    there.send(1, *(event(f"e-{number}") for number in range(5)))
    there.work(NARROW)
    before = len(there.applications())

    dry = there.creditstream("send", "1/1-2", "--dry-run")
    unanswered = there.creditstream("send", "1/1-2")
    assert (dry.exit_code, unanswered.exit_code) == (0, 1)
    assert "2 parked events to send" in dry.stdout
    assert len(there.applications()) == before

    assert there.creditstream("send", "1/1-2", "--yes").exit_code == 0
    origin = f"{there.kafka.applications}/1/4"
    assert there.creditstream("send", origin).exit_code == 0
    there.work()
    assert decided(there.decisions(3)) == ids(["e-1", "e-2", "e-4"])


@pytest.mark.real_broker
def test_an_event_too_large_to_park_is_shown_by_head_and_digest_and_not_driven_again(
    real_broker: str,
) -> None:
    kafka = kafka_at(real_broker).model_copy(update={"parked_max_bytes": 100_000})
    asyncio.run(create_topics(kafka))
    there = Installation(kafka)
    value = b"x\x1b" * 100_000
    there.send(0, value)
    there.work()

    (parked,) = there.parked(1)
    assert (parked.code, parked.value) == ("too_large", value[:65_536])
    page = there.creditstream("show", "0/0").stdout
    assert f"value of sha256 {hashlib.sha256(value).hexdigest()}" in page
    assert "\x1b" not in page
    refused = there.creditstream("send", "0/0")
    assert refused.exit_code == 1
    assert "1 cannot be sent: only its head is there" in refused.stdout
    assert len(there.applications()) == 1


@pytest.mark.real_broker
def test_records_that_are_none_of_ours_are_told_and_hold_nothing_up(there: Installation) -> None:
    async def publish() -> None:
        async with Publisher(connection_of(there.kafka), client_id="test") as publisher:
            await publisher.publish(there.kafka.parked, 0, [OutRecord(b"k", b"v", [], 1)])

    asyncio.run(publish())
    there.send(0, b"{")
    there.work()

    shown = there.creditstream("list")
    assert "2 parked events" in shown.stdout
    assert "damaged" in shown.stdout
    sent = there.creditstream("send", "0/0-9", "--yes")
    assert sent.exit_code == 1
    assert "1 cannot be sent: not a parked event: header creditstream-origin" in sent.stdout
    assert "1 sent, by partition: 1 to 0" in sent.stdout


@pytest.mark.real_broker
def test_a_list_names_nobody_and_a_time_chooses(there: Installation) -> None:
    there.send(0, event("a", AGE=-777.25), b'{"name":"Ann')
    there.work()
    middle = datetime.now(UTC)
    there.send(0, b'{"name":"Bea')
    there.work()

    everything = there.creditstream("list").output + str(there.listed())
    assert "777.25" not in everything
    assert "Ann" not in everything
    assert "Ann" in there.creditstream("show", "0/1").stdout
    moment = middle.strftime("%Y-%m-%dT%H:%M:%S")
    assert len(there.listed("--since", "2026-01-01")) == 3
    assert len(there.listed("--until", "2026-01-01")) == 0
    assert len(there.listed("--since", moment)) >= 1
    assert len(there.listed("--since", moment[:-3])) >= 1
    assert [one["code"] for one in there.listed("--limit", "1")] == ["malformed"]
