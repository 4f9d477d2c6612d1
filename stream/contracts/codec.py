"""Decisions to the bytes of their topic: JSON in CloudEvents' Kafka binding (binary mode)."""

from datetime import datetime

import msgspec

from scoring.bytewise.strings import in_hex, or_number
from scoring.decision import Decision, DecisionBatch, instant, microseconds
from stream.contracts.decision_json import decision_documents, id_texts
from stream.kafka.packing import OutColumns, OutRecord

DECISION_TYPE = "credit.decision.made.v1"
APPLICATION_TYPE = "credit.application.submitted.v1"
EVENT_DIGEST = "creditstream-event"
"""The header that names the content of the event that was decided, in hexadecimal digits."""

_SOURCE = b"creditstream"
_ID, _TRACE = "ce_id", "traceparent"
_encode = msgspec.json.Encoder().encode


def decision_records(batch: DecisionBatch) -> OutColumns:
    """Encode each decision, keyed by its applicant, with the event's trace passed on."""
    documents = decision_documents(batch)
    return OutColumns(
        keys=or_number(batch.applicant_ids, batch.application_ids),
        values=documents,
        constant=_constant(instant(batch.decided_at_us)),
        headers=[
            (_ID, id_texts(documents)),
            (EVENT_DIGEST, in_hex(batch.event_digests)),
            (_TRACE, batch.traceparents),
        ],
        timestamp_ms=batch.decided_at_us // 1000,
    )


def decision_record(decision: Decision, digest: bytes, traceparent: bytes | None) -> OutRecord:
    """Encode one decision as `decision_records` does: to the same bytes."""
    headers: list[tuple[str, bytes | None]] = [
        *_constant(decision.decided_at),
        (_ID, decision.decision_id.encode()),
        (EVENT_DIGEST, digest.hex().encode()),
    ]
    if traceparent is not None:
        headers.append((_TRACE, traceparent))
    applicant = decision.applicant_id or str(decision.application_id)
    timestamp_ms = microseconds(decision.decided_at) // 1000
    return OutRecord(applicant.encode(), _encode(decision), headers, timestamp_ms)


def _constant(decided_at: datetime) -> list[tuple[str, bytes]]:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", DECISION_TYPE.encode()),
        ("ce_source", _SOURCE),
        ("content-type", b"application/json"),
        ("ce_time", decided_at.isoformat().encode()),
    ]
