"""Decisions to the bytes of their topic: JSON in CloudEvents' Kafka binding (binary mode)."""

from collections.abc import Iterator

import msgspec

from scoring.decision import DecisionBatch, instant
from stream.publisher import OutRecord

DECISION_TYPE = "credit.decision.made.v1"
APPLICATION_TYPE = "credit.application.submitted.v1"
EVENT_DIGEST = "creditstream-event"
"""The header that names the content of the event that was decided, in hexadecimal digits."""

_SOURCE = b"creditstream"


def decision_records(batch: DecisionBatch) -> Iterator[OutRecord]:
    """Encode each decision, keyed by its applicant, with the event's trace passed on."""
    encode = msgspec.json.Encoder().encode
    timestamp_ms = batch.decided_at_us // 1000
    constant = [
        ("ce_specversion", b"1.0"),
        ("ce_type", DECISION_TYPE.encode()),
        ("ce_source", _SOURCE),
        ("content-type", b"application/json"),
        ("ce_time", instant(batch.decided_at_us).isoformat().encode()),
    ]
    rows = zip(batch.decisions(), batch.traceparents, batch.event_digests, strict=True)
    for decision, traceparent, digest in rows:
        headers = [
            *constant,
            ("ce_id", decision.decision_id.encode()),
            (EVENT_DIGEST, digest.hex().encode()),
        ]
        if traceparent is not None:
            headers.append(("traceparent", traceparent))
        applicant = decision.applicant_id or str(decision.application_id)
        yield OutRecord(applicant.encode(), encode(decision), headers, timestamp_ms)
