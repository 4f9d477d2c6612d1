"""A drift alarm: what moved, since when, how far."""

import uuid
from datetime import datetime
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "creditstream:alarm")

Detector = Literal["adwin", "psi", "missing_share"]
DETECTORS: tuple[Detector, ...] = get_args(Detector)


class Alarm(msgspec.Struct, frozen=True):
    """
    An alarm as it stands on the alarms topic.

    `since` is when the first decision was made of the window that alarms, `decisions` how many it
    holds. `value` is what the detector measures and `threshold` where it alarms: the population
    stability index, the shift of the mean ridit, or the missing share. The id follows from where
    the monitor stood, so the same alarm raised again is the same.
    """

    alarm_id: Annotated[
        str,
        Meta(
            description="UUIDv5; the same for the same alarm raised again.",
            extra_json_schema={"format": "uuid"},
        ),
    ]
    raised_at: Annotated[datetime, Meta(tz=True, description="The newest decision's time.")]
    kind: Annotated[Literal["drift"], Meta(description="What is alarming.")]
    detector: Annotated[Detector, Meta(description="What found it.")]
    subject: Annotated[str, Meta(description="A feature, or `default_probability`.")]
    value: Annotated[float, Meta(description="What the detector measures.")]
    threshold: Annotated[float, Meta(description="Where it alarms.")]
    since: Annotated[datetime, Meta(tz=True, description="The first decision of the window.")]
    release: Annotated[str, Meta(description="The release whose reference it is held against.")]
    decisions: Annotated[int, Meta(ge=0, description="How many the window holds.")]
    text: Annotated[str, Meta(description="The alarm in one sentence.")]


def alarm_id(release: str, detector: str, subject: str, partition: int, offset: int) -> str:
    """Name an alarm by what it says and the ledger's offset at which it was raised."""
    return str(uuid.uuid5(_NAMESPACE, f"{release}/{detector}/{subject}/{partition}/{offset}"))


def moved_text(
    subject: str, now: float, before: float, earlier: str, decisions: int, since: datetime
) -> str:
    """
    Say that a level changed, against what it was `earlier`.

    >>> at = datetime(2026, 11, 24, 14, 3, 11)
    >>> moved_text("AGE", 5_300.0, 0.21, "before", 800, at)
    'AGE has moved: mean 5,300 in the last 800 decisions against 0.21 before, since 14:03:11 UTC.'
    """
    return (
        f"{subject} has moved: mean {_number(now)} in the last {decisions:,} decisions "
        f"against {_number(before)} {earlier}, since {since:%H:%M:%S} UTC."
    )


def unlike_text(subject: str, psi: float, threshold: float, decisions: int, since: datetime) -> str:
    """Say that a distribution is not the reference's any more."""
    return (
        f"{subject} no longer looks like the release's reference: PSI {psi:.2f} over the last "
        f"{decisions:,} decisions (alarm at {threshold:.2f}), since {since:%H:%M:%S} UTC."
    )


def missing_text(
    subject: str, now: float, reference: float, decisions: int, since: datetime
) -> str:
    """Say that a share of missing values changed."""
    return (
        f"{subject} is missing in {now:.0%} of the last {decisions:,} decisions against "
        f"{reference:.0%} in the release's reference, since {since:%H:%M:%S} UTC."
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
