"""Builders of what the sinks are given."""

from collections.abc import Sequence

import numpy as np

from scoring.byte_strings import ByteStrings
from scoring.decision import MISSING_SOURCE, NO_TIME, DecisionBatch, decision_id
from scoring.reasons import Reason, Reasons
from scoring.recent import event_digest

MINUTE_US = 60_000_000
START_US = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC


def a_batch(
    rows: int = 3,
    *,
    first_offset: int = 0,
    features: int = 2,
    missing: Sequence[int] = (),
    decided_at_us: int = START_US + MINUTE_US,
    outcomes: Sequence[int] | None = None,
    probabilities: Sequence[float] | None = None,
    latency_ms: Sequence[int] | None = None,
    reasons: Sequence[tuple[Reason, ...]] | None = None,
    event_ids: Sequence[str] | None = None,
    applicant_ids: Sequence[str | None] | None = None,
    ages_s: Sequence[int] | int = 0,
    stale: Sequence[int] = (),
    release: str = "release-a",
    partition: int = 0,
) -> DecisionBatch:
    """Build decisions of events e-{offset}; `missing` rows had no features, `stale` old ones."""
    offsets = np.arange(first_offset, first_offset + rows)
    ids = list(event_ids) if event_ids is not None else [f"e-{offset}" for offset in offsets]
    applicants = applicant_ids if applicant_ids is not None else [None] * rows
    sources = np.zeros(rows, dtype=np.uint8)
    sources[list(missing)] = MISSING_SOURCE
    probability = np.array(probabilities if probabilities is not None else [0.25] * rows)
    probability[list(missing)] = np.nan
    matrix = (np.arange(rows * features, dtype=np.float32) + first_offset * features).reshape(
        rows, features
    )
    matrix[list(missing)] = np.nan
    delays = np.array(latency_ms if latency_ms is not None else [7] * rows, dtype=np.int64)
    return DecisionBatch(
        decision_ids=ByteStrings.of(decision_id("shop", event_id) for event_id in ids),
        event_digests=ByteStrings.of(event_digest(event_id.encode()) for event_id in ids),
        event_ids=ByteStrings.of(event_id.encode() for event_id in ids),
        sources=ByteStrings.of([b"shop"] * rows),
        application_ids=1000 + offsets,
        applicant_ids=ByteStrings.of(None if one is None else one.encode() for one in applicants),
        submitted_at_us=np.full(rows, START_US),
        produced_at_ms=decided_at_us // 1000 - delays,
        decided_at_us=decided_at_us,
        outcomes=np.array(outcomes if outcomes is not None else [0] * rows, dtype=np.uint8),
        default_probability=probability,
        scores=np.where(np.isnan(probability), 0, 600).astype(np.int32),
        bands=np.zeros(rows, dtype=np.uint8),
        reasons=Reasons.of(reasons if reasons is not None else [()] * rows),
        feature_sources=sources,
        features_as_of_us=np.where(
            sources == MISSING_SOURCE, NO_TIME, START_US - np.array(ages_s) * 1_000_000
        ),
        features_stale=np.isin(np.arange(rows), stale),
        release=release,
        topic="credit.applications.v1",
        partitions=np.full(rows, partition, dtype=np.int32),
        offsets=offsets,
        features=matrix,
        feature_names=tuple(f"feature_{index}" for index in range(features)),
        traceparents=ByteStrings.of([None] * rows),
    )
