"""Decisions to the bytes of their topic: JSON in CloudEvents' Kafka binding (binary mode)."""

from collections.abc import Iterator
from datetime import datetime

import msgspec

from scoring.decision import Decision, DecisionBatch, instant, microseconds
from stream.kafka.publisher import OutRecord

DECISION_TYPE = "credit.decision.made.v1"
APPLICATION_TYPE = "credit.application.submitted.v1"
EVENT_DIGEST = "creditstream-event"
"""The header that names the content of the event that was decided, in hexadecimal digits."""

_SOURCE = b"creditstream"
_encode = msgspec.json.Encoder().encode


def decision_records(batch: DecisionBatch) -> Iterator[OutRecord]:
    """Encode each decision, keyed by its applicant, with the event's trace passed on."""
    constant = _constant(instant(batch.decided_at_us))
    timestamp_ms = batch.decided_at_us // 1000
    rows = zip(batch.decisions(), batch.traceparents, batch.event_digests, strict=True)
    for decision, traceparent, digest in rows:
        yield _record(decision, digest, traceparent, constant, timestamp_ms)


def decision_record(decision: Decision, digest: bytes, traceparent: bytes | None) -> OutRecord:
    """Encode one decision as `decision_records` does: to the same bytes."""
    decided_at_us = microseconds(decision.decided_at)
    constant = _constant(instant(decided_at_us))
    return _record(decision, digest, traceparent, constant, decided_at_us // 1000)


def _constant(decided_at: datetime) -> list[tuple[str, bytes | None]]:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", DECISION_TYPE.encode()),
        ("ce_source", _SOURCE),
        ("content-type", b"application/json"),
        ("ce_time", decided_at.isoformat().encode()),
    ]


def _record(
    decision: Decision,
    digest: bytes,
    traceparent: bytes | None,
    constant: list[tuple[str, bytes | None]],
    timestamp_ms: int,
) -> OutRecord:
    headers = [
        *constant,
        ("ce_id", decision.decision_id.encode()),
        (EVENT_DIGEST, digest.hex().encode()),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent))
    applicant = decision.applicant_id or str(decision.application_id)
    return OutRecord(applicant.encode(), _encode(decision), headers, timestamp_ms)
