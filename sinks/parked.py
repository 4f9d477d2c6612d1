"""Parked events: what could not be decided, with its cause, its origin and its original bytes."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol, get_args

import pyarrow as pa

from scoring.envelope import REDRIVEN, REDRIVEN_OF, redriven_of
from scoring.poll import Headers, Poll

Stage = Literal["decode", "enrich", "score", "encode", "sink"]
STAGES: tuple[Stage, ...] = get_args(Stage)

SinkCode = Literal["damaged", "refused"]
"""At the stage `sink`: the record is none of its topic's, or the table takes no such row."""

_HEAD = 65_536
_ORIGIN = re.compile(r"([^/]+)/([0-9]{1,10})/([0-9]{1,19})")
_FIRST_MS, _LAST_MS = -2_208_988_800_000, 10_413_791_999_999  # the years 1900 to 2299
_HEADER = 10
"""Bytes that a header has, at most, beside its name and value."""

PREFIX = "creditstream-"
"""Headers of this prefix are ours: an event's own of that name are not kept."""

PARKED_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("origin_topic", pa.string(), nullable=False),
        pa.field("origin_partition", pa.int32(), nullable=False),
        pa.field("origin_offset", pa.int64(), nullable=False),
        pa.field("produced_at", pa.timestamp("ms", "UTC"), nullable=False),
        pa.field("parked_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("code", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("shown", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("release", pa.string(), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
    ]
)
"""The columns of ClickHouse's table `parked_events`."""


class ParkedDamaged(Exception):
    """A record on the parked topic does not say why or where it was parked."""

    def __init__(self, reason: str) -> None:
        msg = f"not a parked event: {reason}"
        super().__init__(msg)
        self.reason = reason


class Reason(Protocol):
    """Why the record at `position` of a poll is parked; a Rejection, or what a sink found."""

    @property
    def position(self) -> int:
        """Its place in the poll."""

    @property
    def code(self) -> str:
        """What was wrong, in a word."""

    @property
    def path(self) -> str:
        """The field; `$` is the whole document."""

    @property
    def value(self) -> str:
        """What stood there."""

    @property
    def rule(self) -> str:
        """What it broke, in words."""


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """
    An event that can never be decided as it is, or what of its decision can never be stored.

    `key`, `value` and `headers` are the event's own; `shown` shows the value at `path` (at most 120
    characters) that broke `rule`; `topic`, `partition` and `offset` say where it stood;
    `parked_at` is aware and in UTC; `produced_at_ms` is the event's Kafka timestamp. An event above
    the size that the topic takes is parked by its head; `cut` then gives its own and its sha256.
    `redriven` is how often it had been parked and driven again before, the last time from
    `redriven_of`, its topic/partition/offset on the parked topic; 0 and empty: never.
    """

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    stage: Stage
    code: str
    path: str
    shown: str
    rule: str
    topic: str
    partition: int
    offset: int
    parked_at: datetime
    produced_at_ms: int
    release: str
    cut: str = ""
    redriven: int = 0
    redriven_of: str = ""

    @classmethod
    def of(
        cls,
        poll: Poll,
        reason: Reason,
        *,
        stage: Stage,
        parked_at: datetime,
        release: str,
        largest: int,
    ) -> "ParkedEvent":
        """
        Park the record of a poll that a reason names.

        `largest` is how many bytes of key, value and headers are parked whole.
        """
        at = reason.position
        key, value = poll.keys[at], poll.values[at]
        before = redriven_of(poll.headers[at])
        headers = tuple((n, v) for n, v in poll.headers[at] if not n.startswith(PREFIX))
        cut = ""
        size = len(key or b"") + len(value or b"")
        size += sum(len(n) + len(v or b"") + _HEADER for n, v in headers)
        if size > largest:
            # The broker would refuse the record, and the partition would stand still.
            digest = hashlib.sha256(value or b"").hexdigest()
            cut = f"{size} bytes with key and headers; value of sha256 {digest}"
            key, value, headers = (key or b"")[:_HEAD], (value or b"")[:_HEAD], ()
        return cls(
            key=key,
            value=value,
            headers=headers,
            cut=cut,
            stage=stage,
            code=reason.code,
            path=reason.path,
            shown=reason.value,
            rule=reason.rule,
            topic=poll.topic,
            partition=poll.partition,
            offset=int(poll.offsets[at]),
            parked_at=parked_at,
            produced_at_ms=int(poll.produced_at_ms[at]),
            release=release,
            redriven=before.times if before else 0,
            redriven_of=before.place if before else "",
        )

    def record_headers(self) -> list[tuple[str, bytes | None]]:
        """Give the headers of the record on the parked topic; its key and value are the event's."""
        own = {
            "stage": self.stage,
            "code": self.code,
            "path": self.path,
            "value": self.shown,
            "rule": self.rule,
            "origin": f"{self.topic}/{self.partition}/{self.offset}",
            "produced-at": str(self.produced_at_ms),
            "parked-at": self.parked_at.isoformat(),
            "release": self.release,
        }
        if self.cut:
            own["cut"] = self.cut
        kept = [(name, value) for name, value in self.headers if not name.startswith(PREFIX)]
        # A path or value may carry what UTF-8 has no bytes for (a lone surrogate).
        ours = [(PREFIX + name, text.encode(errors="replace")) for name, text in own.items()]
        if self.redriven:
            ours.append((REDRIVEN, str(self.redriven).encode()))
            ours.append((REDRIVEN_OF, self.redriven_of.encode()))
        return [*kept, *ours]


def parse(key: bytes | None, value: bytes | None, headers: Headers) -> ParkedEvent:
    """Read a record of the parked topic; raise ParkedDamaged where a header is missing or bad."""
    own = {name: text or b"" for name, text in headers if name.startswith(PREFIX)}
    before = redriven_of(headers)
    topic, partition, offset = _origin(_text(own, "origin"))
    stage = _text(own, "stage")
    if stage not in STAGES:
        msg = f"its stage is {stage!r}, not one of {', '.join(STAGES)}"
        raise ParkedDamaged(msg)
    try:
        parked_at = datetime.fromisoformat(_text(own, "parked-at")).astimezone(UTC)
        produced_at_ms = int(_text(own, "produced-at"))
        if not -(2**63) <= produced_at_ms < 2**63:
            raise OverflowError(produced_at_ms)  # noqa: TRY301 - told of below, as the others
    except (ValueError, OverflowError) as error:
        msg = f"a time in its headers is none: {error}"
        raise ParkedDamaged(msg) from None
    return ParkedEvent(
        key=key,
        value=value,
        headers=tuple((name, text) for name, text in headers if not name.startswith(PREFIX)),
        stage=stage,
        code=_text(own, "code"),
        path=_text(own, "path"),
        shown=_text(own, "value"),
        rule=_text(own, "rule"),
        topic=topic,
        partition=partition,
        offset=offset,
        parked_at=parked_at,
        produced_at_ms=produced_at_ms,
        release=_text(own, "release"),
        cut=_text(own, "cut") if PREFIX + "cut" in own else "",
        redriven=before.times if before else 0,
        redriven_of=before.place if before else "",
    )


def parked_table(events: Sequence[ParkedEvent]) -> pa.Table:
    """
    Turn parked events into rows of PARKED_SCHEMA, in their order.

    A Kafka timestamp may be any number; beyond what ClickHouse's dates hold it is the first or last
    of these. The topic keeps it as it was.
    """
    columns = {
        "origin_topic": [event.topic for event in events],
        "origin_partition": [event.partition for event in events],
        "origin_offset": [event.offset for event in events],
        "produced_at": [min(max(event.produced_at_ms, _FIRST_MS), _LAST_MS) for event in events],
        "parked_at": [event.parked_at for event in events],
        "stage": [event.stage for event in events],
        "code": [event.code for event in events],
        "path": [event.path for event in events],
        "shown": [event.shown for event in events],
        "rule": [event.rule for event in events],
        "release": [event.release for event in events],
        "key": [event.key for event in events],
        "value": [event.value for event in events],
    }
    return pa.table(columns, schema=PARKED_SCHEMA)


def _text(own: dict[str, bytes], name: str) -> str:
    if PREFIX + name not in own:
        msg = f"header {PREFIX + name} is missing"
        raise ParkedDamaged(msg)
    try:
        return own[PREFIX + name].decode()
    except UnicodeDecodeError:
        msg = f"header {PREFIX + name} is not UTF-8"
        raise ParkedDamaged(msg) from None


def _origin(text: str) -> tuple[str, int, int]:
    found = _ORIGIN.fullmatch(text)
    if found is None or int(found[2]) >= 2**31 or int(found[3]) >= 2**63:
        msg = f"its origin is {text[:120]!r}, not topic/partition/offset"
        raise ParkedDamaged(msg)
    return found[1], int(found[2]), int(found[3])
