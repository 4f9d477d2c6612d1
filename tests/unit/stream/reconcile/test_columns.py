"""Of which applications a record of an output topic tells."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from scoring.poll import Headers
from sinks.ledger import encode
from stream.contracts.codec import decision_records
from stream.reconcile.columns import origins_of
from stream.settings import KafkaSettings
from tests.integration.sinks.stored import parked
from tests.unit.sinks.decisions import a_batch

KAFKA = KafkaSettings()


@dataclass(frozen=True, slots=True)
class Record:
    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = field(default_factory=list)


def of_parked(**changes: Any) -> Record:
    event = replace(parked(7), topic=KAFKA.applications, **changes)
    return Record(KAFKA.parked, event.value, event.key, event.record_headers())


def of_ledger(**changes: Any) -> Record:
    (message,) = encode(replace(a_batch(2, first_offset=3), **changes))
    return Record(KAFKA.ledger, message)


def of_decision(**changes: Any) -> Record:
    (record,) = decision_records(replace(a_batch(1, first_offset=5), **changes))
    return Record(KAFKA.decisions, record.value)


def test_an_answer_tells_of_the_applications_that_it_answers() -> None:
    records = (of_decision(), of_ledger(), of_parked())

    assert [origins_of(KAFKA, record) for record in records] == [[5], [3, 4], [7]]


@pytest.mark.parametrize(
    "record",
    [
        of_decision(topic="other"),
        of_ledger(topic="other"),
        of_parked(stage="sink"),
        Record(KAFKA.decisions, b"no decision"),
        Record(KAFKA.ledger, None),
        Record(KAFKA.parked, b"no parked event"),
    ],
    ids=["other decision", "other ledger", "a sink's", "no json", "no ledger", "no headers"],
)
def test_what_answers_no_application_tells_of_none(record: Record) -> None:
    assert origins_of(KAFKA, record) == []
