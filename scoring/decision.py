"""What was decided: one decision as other services read it, and a poll of them as columns."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, get_args
from uuid import UUID

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from scoring.byte_strings import ByteStrings
from scoring.reasons import Reason, Reasons

Outcome = Literal["approve", "refer", "decline"]
Band = Literal["low", "medium", "high"]
FeatureSource = Literal["table", "computed", "missing"]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
BANDS: tuple[Band, ...] = get_args(Band)
FEATURE_SOURCES: tuple[FeatureSource, ...] = get_args(FeatureSource)
MISSING_SOURCE = FEATURE_SOURCES.index("missing")

NO_TIME = -1
"""Stands in a column of microseconds for a time that is not known."""

# UUIDv5 of the URL namespace and the project's name.
DECISION_NAMESPACE = UUID("c1378255-143e-589a-8a24-e9aacd32fdd2").bytes
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where in Kafka the application stood."""

    topic: str
    partition: int
    offset: int


class Decision(msgspec.Struct, frozen=True, gc=False):
    """
    A decision on one application, as it stands on the decisions topic.

    `default_probability`, `score` and `risk_band` are null where the applicant's features are
    missing: such an application is decided by the policy alone.
    """

    decision_id: Annotated[
        str,
        Meta(
            description="UUIDv5 of the event's source and id: the same, however often it comes.",
            extra_json_schema={"format": "uuid"},
        ),
    ]
    event_id: Annotated[str, Meta(description="The event's.")]
    application_id: Annotated[int, Meta(description="The event's.")]
    submitted_at: Annotated[datetime, Meta(tz=True, description="The event's, in UTC.")]
    decided_at: Annotated[datetime, Meta(tz=True, description="One time for a whole poll, in UTC.")]
    outcome: Annotated[Outcome, Meta(description="What was decided.")]
    default_probability: (
        Annotated[
            float, Meta(ge=0, le=1, description="Of default, by the model; null: no features.")
        ]
        | None
    )
    score: Annotated[int, Meta(description="Scorecard points, more is better.")] | None
    risk_band: Annotated[Band, Meta(description="By the policy's limits.")] | None
    reasons: Annotated[
        tuple[Reason, ...],
        Meta(description="Why it was not better, the most important first; none for approve."),
    ]
    feature_source: Annotated[FeatureSource, Meta(description="Where the features came from.")]
    features_as_of: (
        Annotated[datetime, Meta(tz=True, description="Of what time they are; null: not known.")]
        | None
    )
    release: Annotated[str, Meta(description="The release that decided.")]
    origin: Origin
    applicant_id: Annotated[str, Meta(description="The event's.")] | None = None
    features_age_s: (
        Annotated[
            float,
            Meta(description="Seconds from `features_as_of` to `submitted_at`; null: not known."),
        ]
        | None
    ) = None
    features_stale: Annotated[
        bool, Meta(description="Whether they were older than the policy allows, or of unknown age.")
    ] = False


def decision_id(source: str, event_id: str) -> bytes:
    """
    Name a decision by the event it answers: 16 bytes of a UUIDv5 (RFC 9562).

    Neither the release nor a time goes in, so a redelivered or re-sent event has the same id.

    >>> decision_id("shop", "e-1") == decision_id("shop", "e-1")
    True
    >>> UUID(bytes=decision_id("shop", "e-1")).version
    5
    """
    name = f"{len(source)}:{source}{event_id}".encode()
    # SHA-1 is what version 5 is defined on; it protects nothing here.
    digest = bytearray(hashlib.sha1(DECISION_NAMESPACE + name, usedforsecurity=False).digest()[:16])
    digest[6] = (digest[6] & 0x0F) | 0x50
    digest[8] = (digest[8] & 0x3F) | 0x80
    return bytes(digest)


def _uuid_text(identity: bytes) -> str:
    """Write a UUID as `str(UUID(bytes=identity))` does, at a fifth of its time."""
    text = identity.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def instant(microseconds: int) -> datetime:
    """Turn microseconds since 1970 into an aware time in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def microseconds(moment: datetime) -> int:
    """
    Turn an aware time into microseconds since 1970, exactly.

    >>> microseconds(instant(1_767_225_600_000_001))
    1767225600000001
    """
    return (moment - _EPOCH) // timedelta(microseconds=1)


def age_s(submitted_at_us: NDArray[np.int64], as_of_us: NDArray[np.int64]) -> NDArray[np.float64]:
    """
    Give the age of features at submission in seconds: float64[n], NaN where `as_of_us` is NO_TIME.

    Negative where they are from after the submission.

    >>> age_s(np.array([5_000_000, 0]), np.array([2_500_000, NO_TIME])).tolist()
    [2.5, nan]
    """
    return np.where(as_of_us == NO_TIME, np.nan, (submitted_at_us - as_of_us) / 1e6)


@dataclass(frozen=True, slots=True)
class DecisionBatch:
    """
    The decisions of polls of one topic by one release, as columns of n rows.

    Times are microseconds (`_us`) or milliseconds (`_ms`) since 1970 in UTC; `outcomes`, `bands`
    and `feature_sources` are indices into OUTCOMES, BANDS and FEATURE_SOURCES;
    `default_probability` is NaN, and `scores` and `bands` mean nothing, where the source is
    missing; `features` is float32 of shape (n, len(feature_names)). Texts are UTF-8.
    """

    decision_ids: ByteStrings
    event_digests: ByteStrings
    event_ids: ByteStrings
    sources: ByteStrings
    application_ids: NDArray[np.int64]
    applicant_ids: ByteStrings
    submitted_at_us: NDArray[np.int64]
    produced_at_ms: NDArray[np.int64]
    decided_at_us: int
    outcomes: NDArray[np.uint8]
    default_probability: NDArray[np.float64]
    scores: NDArray[np.int32]
    bands: NDArray[np.uint8]
    reasons: Reasons
    feature_sources: NDArray[np.uint8]
    features_as_of_us: NDArray[np.int64]
    features_stale: NDArray[np.bool_]
    release: str
    topic: str
    partitions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    features: NDArray[np.float32]
    feature_names: tuple[str, ...]
    traceparents: ByteStrings

    def __len__(self) -> int:
        return len(self.event_ids)

    def rows(self, first: int, last: int) -> "DecisionBatch":
        """Give the rows from `first` to before `last`; they share what they can."""
        if (first, last) == (0, len(self)):
            return self
        columns = {name: getattr(self, name)[first:last] for name in _COLUMNS}
        return replace(self, reasons=self.reasons.rows(first, last), **columns)

    @property
    def features_age_s(self) -> NDArray[np.float64]:
        """How old the features were at submission, as `age_s` gives it."""
        return age_s(self.submitted_at_us, self.features_as_of_us)

    def decisions(self) -> Iterator[Decision]:
        """Give the rows as decisions, in order."""
        decided_at = instant(self.decided_at_us)
        # Few different ones: the table's, and none.
        as_of = {at: instant(at) for at in set(self.features_as_of_us.tolist()) - {NO_TIME}}
        missing = self.feature_sources == MISSING_SOURCE
        ages = (None if math.isnan(age) else age for age in self.features_age_s.tolist())
        rows = zip(
            self.decision_ids,
            self.event_ids.texts(),
            self.application_ids.tolist(),
            self.submitted_at_us.tolist(),
            self.outcomes.tolist(),
            self.default_probability.tolist(),
            self.scores.tolist(),
            self.bands.tolist(),
            self.reasons,
            self.feature_sources.tolist(),
            self.features_as_of_us.tolist(),
            ages,
            self.features_stale.tolist(),
            self.partitions.tolist(),
            self.offsets.tolist(),
            self.applicant_ids.texts(),
            missing.tolist(),
            strict=True,
        )
        for (
            identity,
            event_id,
            application_id,
            submitted_us,
            outcome,
            probability,
            score,
            band,
            reasons,
            source,
            as_of_us,
            age,
            stale,
            partition,
            offset,
            applicant_id,
            undecidable,
        ) in rows:
            assert identity is not None
            assert event_id is not None
            yield Decision(
                decision_id=_uuid_text(identity),
                event_id=event_id,
                application_id=application_id,
                submitted_at=instant(submitted_us),
                decided_at=decided_at,
                outcome=OUTCOMES[outcome],
                default_probability=None if undecidable else probability,
                score=None if undecidable else score,
                risk_band=None if undecidable else BANDS[band],
                reasons=reasons,
                feature_source=FEATURE_SOURCES[source],
                features_as_of=as_of.get(as_of_us),
                release=self.release,
                origin=Origin(self.topic, partition, offset),
                applicant_id=applicant_id,
                features_age_s=age,
                features_stale=stale,
            )


_OF_ALL = ("decided_at_us", "release", "topic", "feature_names")
_COLUMNS = tuple(one.name for one in fields(DecisionBatch) if one.name not in (*_OF_ALL, "reasons"))
