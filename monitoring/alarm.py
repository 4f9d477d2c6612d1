"""A drift alarm: what moved, since when, how far."""

import uuid
from datetime import datetime
from typing import Literal

import msgspec

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "creditstream:alarm")


class Alarm(msgspec.Struct, frozen=True):
    """
    An alarm as it stands on the alarms topic.

    `since` is when the first decision was made of the window that alarms, `decisions` how many it
    holds. The id follows from where the monitor stood, so the same alarm raised again is the same.
    """

    alarm_id: str
    raised_at: datetime
    kind: Literal["drift"]
    detector: Literal["adwin", "psi"]
    subject: str
    value: float
    threshold: float
    since: datetime
    release: str
    decisions: int
    text: str


def alarm_id(release: str, detector: str, subject: str, partition: int, offset: int) -> str:
    """Name an alarm by what it says and the ledger's offset at which it was raised."""
    return str(uuid.uuid5(_NAMESPACE, f"{release}/{detector}/{subject}/{partition}/{offset}"))
