"""Applications that are parked, and a worker that decides what is there."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from typer.testing import CliRunner, Result

from monitoring.metrics import PREFIX, Metrics
from scoring.decision import decision_id
from scoring.decode import EventLimits
from scoring.parking import ParkingLimit
from scoring.pipeline import Pipeline
from scoring.poll import Poll
from sinks.parked import ParkedEvent, parse
from stream.agents.scoring import scoring_agent
from stream.cli import app
from stream.delivery.at_least_once import AtLeastOnce
from stream.delivery.exactly_once import ExactlyOnce
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.kafka.records import each_record, offsets_of, records_of
from stream.settings import KafkaSettings, Settings, environment_of
from stream.transport.in_flight import PollInFlight
from tests.builders import ATTRIBUTES, a_pipeline, an_event
from tests.committed import committed

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

        finished = asyncio.Event()

        def finish(poll: PollInFlight) -> None:
            self._finished[poll.poll.partition] = poll.next_offset
            finished.set()

        async def all_polls() -> AsyncIterator[PollInFlight]:
            # One after the other: those that wait together would be decided as one.
            for poll in found[:polls]:
                finished.clear()
                yield PollInFlight(poll, finish)
                await finished.wait()

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


def event(name: str, **attributes: float) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return an_event(event_id=name, submitted_at=now, attributes=ATTRIBUTES | attributes)


def ids(names: Sequence[str]) -> list[str]:
    return sorted(str(UUID(bytes=decision_id(SOURCE, name))) for name in names)


def decided(decisions: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted(decision["decision_id"] for decision in decisions)


def repeated(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value(PREFIX + "events_repeated_total")
