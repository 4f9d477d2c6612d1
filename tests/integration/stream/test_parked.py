"""Parked events on a real broker: read, driven again, and limited."""

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from typer.testing import CliRunner, Result

from monitoring.metrics import PREFIX, Metrics
from scoring.decision import decision_id
from scoring.decode import EventLimits
from scoring.parking import ParkingLimit
from scoring.pipeline import Pipeline
from scoring.poll import Poll
from sinks.parked import ParkedEvent, parse
from stream.agents.scoring import TooMuchParked, scoring_agent
from stream.cli import app
from stream.delivery.at_least_once import AtLeastOnce
from stream.delivery.exactly_once import ExactlyOnce
from stream.kafka.connection import connection_of
from stream.kafka.publisher import OutRecord, Publisher
from stream.kafka.records import each_record, offsets_of, records_of
from stream.kafka.topics import create_topics
from stream.settings import KafkaSettings, Settings, environment_of
from stream.transport.in_flight import PollInFlight
from tests.builders import ATTRIBUTES, a_pipeline, an_event
from tests.committed import committed
from tests.integration.stream.test_start import kafka_at

SOURCE = "shop"
NARROW = EventLimits(bytes=300)
"""Below the size of an event with attributes: what is wrong until it is mended."""


class Installation:
    """Topics of its own, applications on them, and a worker that decides what is there."""

    def __init__(self, kafka: KafkaSettings, *, exactly_once: bool = True) -> None:
        self.kafka = kafka
        self.group = uuid.uuid4().hex
        self._exactly_once = exactly_once
        self._finished: dict[int, int] = {}

    def send(self, partition: int, *events: Mapping[str, Any] | bytes) -> None:
        headers = [("ce_source", SOURCE.encode()), ("creditstream-stage", b"of its own")]
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        values = [one if isinstance(one, bytes) else msgspec.json.encode(one) for one in events]
        records = [OutRecord(b"k%d" % partition, value, headers, now_ms) for value in values]

        async def publish() -> None:
            async with Publisher(connection_of(self.kafka), client_id="test") as publisher:
                await publisher.publish(self.kafka.applications, partition, records)

        asyncio.run(publish())

    def work(
        self,
        limits: EventLimits | None = None,
        limit: ParkingLimit | None = None,
        *,
        records: int = 500,
        polls: int | None = None,
    ) -> Metrics:
        """Let a new worker decide what is not yet decided, in polls of so many records."""
        return asyncio.run(self._work(limits or EventLimits(), limit, records, polls))

    async def _work(
        self, limits: EventLimits, limit: ParkingLimit | None, records: int, polls: int | None
    ) -> Metrics:
        kafka, metrics = self.kafka, Metrics.create()
        delivery = (
            ExactlyOnce(kafka, self.group) if self._exactly_once else AtLeastOnce(kafka, self.group)
        )
        await delivery.take_over([0, 1])
        pipeline = with_limits(limits)
        found = [poll async for poll in self._polls(records)]

        def finish(poll: PollInFlight) -> None:
            self._finished[poll.poll.partition] = poll.next_offset

        async def all_polls() -> AsyncIterator[PollInFlight]:
            for poll in found[:polls]:
                yield PollInFlight(poll, finish)

        await scoring_agent(kafka, delivery, lambda: pipeline, metrics, limit=limit)(all_polls())
        return metrics

    async def _polls(self, records: int) -> AsyncIterator[Poll]:
        connection, topic = connection_of(self.kafka), self.kafka.applications
        for number, there in (await offsets_of(connection, topic)).items():
            left = {number: range(self._finished.get(number, 0), there.stop)}
            taken = [record async for record in each_record(connection, topic, left)]
            for start in range(0, len(taken), records):
                poll = taken[start : start + records]
                yield Poll(
                    topic,
                    number,
                    [record.offset for record in poll],
                    [record.timestamp for record in poll],
                    [record.key for record in poll],
                    [record.value for record in poll],
                    [record.headers for record in poll],
                )

    def decisions(self, count: int) -> list[dict[str, Any]]:
        values = asyncio.run(committed(self.kafka, self.kafka.decisions, count))
        return [msgspec.json.decode(value) for value in values]

    def parked(self, count: int) -> list[ParkedEvent]:
        kafka = self.kafka
        asyncio.run(committed(kafka, kafka.parked, count))
        found = asyncio.run(records_of(connection_of(kafka), kafka.parked))
        events = [parse(record.key, record.value, record.headers) for record in found]
        return sorted(events, key=lambda event: (event.partition, event.offset))

    def applications(self) -> list[Any]:
        return asyncio.run(records_of(connection_of(self.kafka), self.kafka.applications))

    def creditstream(self, *arguments: str, answer: str = "") -> Result:
        environment = environment_of(Settings(kafka=self.kafka))
        return CliRunner().invoke(app, ["parked", *arguments], env=environment, input=answer)

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        result = self.creditstream("list", "--json", *arguments)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]


def with_limits(limits: EventLimits) -> Pipeline:
    plain = a_pipeline()
    return Pipeline(
        release=plain.release,
        definition=plain.definition,
        table=plain.table,
        scorer=plain._scorer,
        policy=plain.policy,
        limits=limits,
    )


def event(name: str, **attributes: int) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return an_event(event_id=name, submitted_at=now, attributes=ATTRIBUTES | attributes)


def ids(names: Sequence[str]) -> list[str]:
    return sorted(str(UUID(bytes=decision_id(SOURCE, name))) for name in names)


def decided(decisions: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted(decision["decision_id"] for decision in decisions)


def repeated(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value(PREFIX + "events_repeated_total")


@pytest.fixture
def there(real_broker: str) -> Installation:
    kafka = kafka_at(real_broker)
    asyncio.run(create_topics(kafka))
    return Installation(kafka)


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
    there.send(0, event("a", AGE=-3), b'{"name":"Ann')
    there.work()
    middle = datetime.now(UTC)
    there.send(0, b'{"name":"Bea')
    there.work()

    everything = there.creditstream("list").output + str(there.listed())
    assert "-3" not in everything
    assert "Ann" not in everything
    assert "Ann" in there.creditstream("show", "0/1").stdout
    moment = middle.strftime("%Y-%m-%dT%H:%M:%S")
    assert len(there.listed("--since", "2026-01-01")) == 3
    assert len(there.listed("--until", "2026-01-01")) == 0
    assert len(there.listed("--since", moment)) >= 1
    assert [one["code"] for one in there.listed("--limit", "1")] == ["malformed"]


LIMIT = ParkingLimit(longest_run=10, largest_share=1)


@pytest.mark.real_broker
def test_a_worker_that_meets_the_limit_parks_nothing_of_the_poll_that_crosses_it(
    there: Installation,
) -> None:
    there.send(0, event("good"), *(event(f"e-{n}", AGE=-3) for n in range(30)), event("last"))

    for _ in range(3):
        with pytest.raises(ExceptionGroup) as ended:
            there.work(limit=LIMIT, records=8)
        (error,) = ended.value.exceptions
        assert isinstance(error, TooMuchParked)
        # The first poll holds 7 of them; the one that comes next would make it 15.
        assert [one.offset for one in there.parked(7)] == list(range(1, 8))
    assert str(error).startswith(
        f"{there.kafka.applications}/0: release r would park 15 events one after the other; "
        "CREDITSTREAM_PARKING__LONGEST_RUN is 10. In the poll from offset 8: "
        "8 x invalid $.attributes.AGE. Nothing of it is parked or committed."
    )
    assert decided(there.decisions(1)) == ids(["good"])

    there.work(limit=ParkingLimit(longest_run=0), records=8)
    assert len(there.parked(30)) == 30
    assert decided(there.decisions(2)) == ids(["good", "last"])


@pytest.mark.real_broker
def test_restarts_in_a_row_park_no_more_than_one_worker_would(there: Installation) -> None:
    there.send(1, *(event(f"e-{n}", AGE=-3) for n in range(30)))

    crossed = 0
    for _ in range(8):
        try:
            there.work(limit=LIMIT, records=4, polls=1)  # and then it ends
        except ExceptionGroup as ended:
            crossed += ended.subgroup(TooMuchParked) is not None

    assert crossed == 6
    assert len(there.parked(8)) == 8


@pytest.mark.parametrize(
    ("limit", "every"),
    [(LIMIT, 100), (ParkingLimit(longest_run=0, largest_share=0.5, window=10), 5)],
)
def test_at_least_once_restarts_in_a_row_park_no_more_either(
    mock_broker: str, limit: ParkingLimit, every: int
) -> None:
    there = Installation(kafka_at(mock_broker), exactly_once=False)
    there.send(0, *(event(f"e-{n}", AGE=-3 if n % every else 41) for n in range(30)))

    def crosses() -> bool:
        try:
            there.work(limit=limit, records=3, polls=1)  # and then it ends
        except ExceptionGroup as ended:
            return ended.subgroup(TooMuchParked) is not None
        return False

    assert [crosses() for _ in range(6)] == [False, False, False, True, True, True]
    assert {one.offset for one in there.parked(1)} == {n for n in range(9) if n % every}


@pytest.mark.real_broker
def test_a_producer_of_10000_events_that_are_no_json_stops_nobody_unless_that_is_set(
    there: Installation,
) -> None:
    there.send(0, *[b"{"] * 10_000, event("behind"))

    with pytest.raises(ExceptionGroup):
        there.work(limit=ParkingLimit(counts="all"))
    assert len(there.parked(500)) == 500

    there.work()
    assert len(there.parked(10_000)) == 10_000
    assert decided(there.decisions(1)) == ids(["behind"])
