"""What a sink can never insert, on the parked topic: whole, with its cause, or an error."""

import hashlib
import socket

import pytest

from monitoring.metrics import PREFIX, Metrics
from scoring.poll import Poll
from sinks.blocks import ARROW_STREAM, Unfit, ledger_block
from sinks.ledger import decode, encode
from sinks.parked import parse
from stream.agents.parking import parking
from stream.kafka.connection import connection_of
from stream.kafka.records import records_of
from stream.settings import KafkaSettings
from tests.integration.sinks.stored import records
from tests.integration.stream.topics import kafka_at
from tests.unit.sinks.decisions import a_batch


def counted(metrics: Metrics, code: str) -> float | None:
    labels = {"stage": "sink", "code": code}
    return metrics.registry.get_sample_value(PREFIX + "events_parked_total", labels)


def a_refused_row() -> Unfit:
    unfit = ledger_block([records("ledger", encode(a_batch(3, partition=1)))]).unfit(
        2, "Code: 469."
    )
    assert unfit is not None
    return unfit


async def test_what_is_parked_says_where_it_stood_and_can_be_sent_again(mock_broker: str) -> None:
    kafka, metrics = kafka_at(mock_broker), Metrics.create()
    damaged = Poll(
        kafka.ledger, 0, [7, 8], [1, 2], [None, b"k"], [b"", b"junk"], [[], [("h", b"1")]]
    )

    park = parking(kafka, metrics)
    await park([a_refused_row(), Unfit(damaged, 1, "damaged", "not a ledger message")])

    found = await records_of(connection_of(kafka), kafka.parked)
    events = {record.partition: parse(record.key, record.value, record.headers) for record in found}
    refused, junk = events[1], events[0]
    assert (refused.stage, refused.code, refused.rule) == ("sink", "refused", "Code: 469.")
    assert (refused.topic, refused.partition, refused.offset) == ("credit.applications.v1", 1, 2)
    assert refused.headers == (("content-type", ARROW_STREAM),)
    assert refused.release == "release-a"
    assert refused.value is not None
    assert decode(refused.value).rows.to_pylist()[0]["event_id"] == "e-2"
    assert (junk.stage, junk.code, junk.release) == ("sink", "damaged", "")
    assert (junk.topic, junk.partition, junk.offset) == (kafka.ledger, 0, 8)
    assert (junk.key, junk.value, junk.headers) == (b"k", b"junk", (("h", b"1"),))
    assert [counted(metrics, code) for code in ("refused", "damaged")] == [1, 1]


async def test_a_record_above_the_limit_is_parked_by_digest_and_head(mock_broker: str) -> None:
    kafka = kafka_at(mock_broker).model_copy(update={"parked_max_bytes": 100_000})
    value = bytes(200_000)
    large = Poll(kafka.alarms, 1, [3], [1], [None], [value], [[]])

    await parking(kafka, Metrics.create())([Unfit(large, 0, "damaged", "no alarm")])

    (record,) = await records_of(connection_of(kafka), kafka.parked)
    event = parse(record.key, record.value, record.headers)
    assert event.value == value[:65_536]
    assert hashlib.sha256(value).hexdigest() in event.cut


async def test_what_no_broker_takes_is_an_error_and_not_counted() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{taken.getsockname()[1]}")
        metrics = Metrics.create()

        with pytest.raises(Exception, match="Unable to bootstrap"):
            await parking(kafka, metrics)([a_refused_row()])

    assert counted(metrics, "refused") is None
