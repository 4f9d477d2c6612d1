"""Topics deleted under running workers: what became of every application."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Mapping

import msgspec
import pytest
from aiokafka import TopicPartition

from scoring.decision import Decision
from sinks import ledger
from stream.kafka.connection import connection_of
from stream.kafka.roles import Role
from stream.kafka.topics import create_topics
from stream.settings import KafkaSettings
from tests.e2e.installation import count
from tests.faults.checker import read
from tests.faults.conftest import Installations, Keep
from tests.faults.installation import Installation
from tests.faults.verdicts import Verdict

pytestmark = [pytest.mark.real_broker, pytest.mark.timeout(3_600)]

# Which role says what while a topic is away: the one waits, others end and then wait to start.
_SAID: dict[str, tuple[Role, str]] = {
    "applications": ("scoring", "Topic {} not found"),
    "decisions": ("scoring", "{}; run `creditstream init`"),
    "ledger": ("scoring", "{}; run `creditstream init`"),
    "parked": ("sink", "Topic {} not found"),
}


def test_topics_deleted_and_made_again(
    installations: Installations, keep: Keep, *, long: bool
) -> None:
    installation = installations.named("deleted", partitions=4, workers=1, rate=200, mixed=False)
    kafka = installation.outside
    gone: dict[str, set[str]] = {}
    for name in _SAID if long else ("applications", "decisions"):
        gone[name] = finish(installation)
        topic: str = getattr(kafka, name)
        role, words = _SAID[name]
        before = installation.said(role).count(words.format(topic))
        asyncio.run(delete(kafka, topic))
        installation.load.flow()
        installation.await_said(role, words.format(topic), before + 1)
        asyncio.run(create_topics(kafka))
        made = time.time()
        back_s = installation.await_all_partitions_after(made) - made
        acknowledged = finish(installation)
        keep(
            installation,
            f"topic of {name} deleted, and made again once {role} has told of it",
            "an admin client",
            1,
            verdict_of(installation, acknowledged, gone),
            f"at work after {back_s:.1f} s",
        )


def finish(installation: Installation) -> set[str]:
    """Send no more, and wait until all is decided and in ClickHouse; give the events' ids."""
    installation.load.pause()
    acknowledged = {event[1] for event in installation.load.acknowledged if event is not None}
    installation.wait_until(lambda: installation.lag() == 0, "the scoring group has read all")
    sql = "SELECT uniqExact(event_id) AS n FROM decision_ledger"
    store = installation.store()
    installation.wait_until(
        lambda: count(store, sql) >= len(acknowledged), "ClickHouse has all decisions"
    )
    return acknowledged


async def delete(kafka: KafkaSettings, topic: str) -> None:
    async with connection_of(kafka).admin() as admin:
        await admin.delete_topics([topic])


def verdict_of(
    installation: Installation, acknowledged: set[str], gone: Mapping[str, set[str]]
) -> Verdict:
    """
    Say whether each event, of which all are good, is decided once, in ClickHouse and on topics.

    Of a topic that was deleted, those before are `gone`.
    """
    rows = installation.store().query("SELECT event_id FROM decisions").to_pylist()
    found = {
        "ClickHouse": Counter(row["event_id"] for row in rows),
        **asyncio.run(events_on_topics(installation.outside)),
    }
    verdict = Verdict(applications=len(acknowledged), decided=len(found["ClickHouse"]))
    for place, times in found.items():
        wanted = acknowledged - gone.get(place, set())
        for event in wanted | times.keys():
            if times[event] != (event in wanted):
                verdict.fault(f"{times[event]} times in {place}", event)
    return verdict


async def events_on_topics(kafka: KafkaSettings) -> dict[str, Counter[str]]:
    """Count the events by id on the topics of decisions and of the ledger."""
    asked = {
        name: [TopicPartition(topic, number) for number in range(kafka.partitions)]
        for name, topic in (("decisions", kafka.decisions), ("ledger", kafka.ledger))
    }
    records = await read(
        kafka.bootstrap_servers, [*itertools.chain(*asked.values())], {}, Verdict()
    )
    values = {name: [one.value for tp in tps for one in records[tp]] for name, tps in asked.items()}
    decisions = (msgspec.json.decode(value, type=Decision) for value in values["decisions"])
    rows = (ledger.decode(value).rows.column("event_id") for value in values["ledger"])
    return {
        "decisions": Counter(decision.event_id for decision in decisions),
        "ledger": Counter(event for column in rows for event in column.to_pylist()),
    }
