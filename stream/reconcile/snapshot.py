"""A partition at one moment: what of it is read, and what of it can be judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from stream.reconcile.accounts import Span


@dataclass(frozen=True, slots=True)
class Period:
    """From a time to before another, both aware; None is the beginning, or now."""

    since: datetime | None
    until: datetime | None


class Stretch(NamedTuple):
    """
    What is read of a partition, from `start` to before `end`.

    `lost` says whether what stood before it may be of the period, and is not kept.
    """

    start: int
    end: int
    lost: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    One partition: the span of its applications, and what is to be read of each topic.

    `log_end` is where the applications end, after all that is answered; `notes` say what cannot be
    judged, and why, on the topics and in ClickHouse.
    """

    topic: str
    partition: int
    span: Span
    log_end: int
    applications: Stretch
    decisions: Stretch
    ledger: Stretch
    parked: Stretch
    notes: Sequence[str]
    notes_of_store: Sequence[str]
