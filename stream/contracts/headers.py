"""The headers of the records on each topic, as types."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from scoring.decode import Code
from scoring.envelope import LONGEST_SOURCE, REDRIVEN, REDRIVEN_OF
from sinks.parked import PREFIX, SinkCode, Stage
from stream.contracts.codec import APPLICATION_TYPE, DECISION_TYPE, EVENT_DIGEST

_JSON = "application/json"

_ContentType = Annotated[str, Meta(extra_json_schema={"const": _JSON})]


_Times = Annotated[
    str, Meta(pattern="^[1-9][0-9]{0,8}$", description="How often it was parked and driven again.")
]
_ParkedAt = Annotated[
    str,
    Meta(
        pattern="^[^/]+/[0-9]+/[0-9]+$",
        description="Where it was driven from: topic/partition/offset on the topic of parked "
        "events.",
    ),
]


class ApplicationHeaders(
    msgspec.Struct,
    rename={"content_type": "content-type", "redriven": REDRIVEN, "redriven_of": REDRIVEN_OF},
):
    """
    CloudEvents in binary mode; only `ce_source` and `traceparent` are read.

    Headers that begin `creditstream-` are ours: `creditstream parked send` writes those below.
    """

    ce_source: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=LONGEST_SOURCE,
                description=f"The event's source, 1 to {LONGEST_SOURCE} bytes of UTF-8; where it "
                "is not given, the topic. Source and `event_id` name an event.",
            ),
        ]
        | UnsetType
    ) = UNSET
    traceparent: (
        Annotated[str, Meta(description="W3C Trace Context: passed on to the decision.")]
        | UnsetType
    ) = UNSET
    ce_specversion: Annotated[str, Meta(examples=["1.0"])] | UnsetType = UNSET
    ce_id: Annotated[str, Meta(description="As `event_id`, which counts.")] | UnsetType = UNSET
    ce_type: Annotated[str, Meta(examples=[APPLICATION_TYPE])] | UnsetType = UNSET
    ce_time: Annotated[str, Meta(description="As `submitted_at`.")] | UnsetType = UNSET
    content_type: Annotated[str, Meta(examples=[_JSON])] | UnsetType = UNSET
    redriven: _Times | UnsetType = UNSET
    redriven_of: _ParkedAt | UnsetType = UNSET


class DecisionHeaders(
    msgspec.Struct, rename={"content_type": "content-type", "event_digest": EVENT_DIGEST}
):
    """CloudEvents in binary mode."""

    ce_specversion: Literal["1.0"]
    ce_id: Annotated[str, Meta(description="The `decision_id`.")]
    ce_source: Literal["creditstream"]
    ce_type: Annotated[str, Meta(extra_json_schema={"const": DECISION_TYPE})]
    ce_time: Annotated[datetime, Meta(tz=True, description="`decided_at`.")]
    content_type: _ContentType
    event_digest: Annotated[
        str,
        Meta(
            pattern="^[0-9a-f]{16}$",
            description="Of the application's value as it came: 8 bytes of BLAKE2b.",
        ),
    ]
    traceparent: (
        Annotated[
            str, Meta(min_length=55, max_length=55, description="The application's, if it had one.")
        ]
        | UnsetType
    ) = UNSET


class ParkedHeaders(msgspec.Struct, rename=lambda name: PREFIX + name.replace("_", "-")):
    """
    What the headers of a parked event say of it, as text in UTF-8.

    Its key, its value and its own headers stand beside them as they came, but for headers of its
    own that begin as these do. An event may stand here more than once: its stage and origin name
    it. At the stage `sink` it is a record that is none of its topic's, or a decision that a table
    of ClickHouse does not take: its ledger row as a ledger message, with the application's origin.
    """

    stage: Annotated[Stage, Meta(description="Where it failed.")]
    code: Annotated[
        Code | SinkCode,
        Meta(description="What was wrong; `damaged` and `refused` are of the stage `sink`."),
    ]
    path: Annotated[str, Meta(max_length=120, description="The field; `$` is the whole document.")]
    value: Annotated[str, Meta(max_length=120, description="What stood there, cut.")]
    rule: Annotated[str, Meta(description="What it broke, in words.")]
    origin: Annotated[
        str, Meta(pattern="^[^/]+/[0-9]+/[0-9]+$", description="Its topic/partition/offset.")
    ]
    produced_at: Annotated[
        str, Meta(pattern="^-?[0-9]+$", description="Its Kafka timestamp, ms since 1970.")
    ]
    parked_at: Annotated[datetime, Meta(tz=True, description="In UTC.")]
    release: Annotated[str, Meta(description="The release that would have decided.")]
    cut: (
        Annotated[str, Meta(description="The size and sha256 of an event too large to park whole.")]
        | UnsetType
    ) = UNSET
    redriven: _Times | UnsetType = UNSET
    redriven_of: _ParkedAt | UnsetType = UNSET


class AlarmHeaders(msgspec.Struct, rename={"content_type": "content-type"}):
    """An alarm says by itself what it is."""

    content_type: _ContentType
