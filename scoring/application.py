"""The application event: someone asked for credit."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from features.definition import Attribute, FeatureDefinition

# `(?!\n)`: Python's `$` would also let a last newline through.
_PRINTABLE = "^[!-~]{1,64}$(?!\n)"

EventId = Annotated[
    str,
    Meta(
        pattern=_PRINTABLE,
        description="1 to 64 printable ASCII characters, unique for its source.",
    ),
]
ApplicationId = Annotated[
    int,
    Meta(ge=1, le=2**63 - 1, description="The feature table's key, unless that is text."),
]
SubmittedAt = Annotated[
    datetime,
    Meta(tz=True, description="RFC 3339 with an offset, near the record's own Kafka timestamp."),
]
ApplicantId = Annotated[
    str,
    Meta(
        # Control, invisible and direction characters make two keys look alike.
        pattern=(
            "^[^\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]{1,64}$(?!\n)"
        ),
        description="1 to 64 characters, none of control or direction; the feature table's key, "
        "where that is text.",
    ),
]


class Application(msgspec.Struct, frozen=True, gc=False):
    """
    An application as it came in.

    `attributes` is a struct with one field for each attribute of a feature definition, in the
    definition's order (see `application_type`), or None where the event carries none.
    """

    event_id: EventId
    application_id: ApplicationId
    submitted_at: SubmittedAt
    applicant_id: ApplicantId | None = None
    attributes: Any = None


def application_type(definition: FeatureDefinition) -> type[Application]:
    """
    Make the event's type for one feature definition: its attributes with their allowed ranges.

    The type decodes and checks a JSON document in one go, and gives the JSON Schema.
    """
    attributes = msgspec.defstruct(
        "Attributes",
        [_field(index, attribute) for index, attribute in enumerate(definition.attributes)],
        rename={f"a{i}": attribute.name for i, attribute in enumerate(definition.attributes)},
        namespace={"__doc__": f"What the definition {definition.name!r} computes features from."},
        frozen=True,
        kw_only=True,
        gc=False,
    )
    event: Any = msgspec.defstruct(
        "ApplicationEvent",
        [("attributes", attributes | None, None)],
        bases=(Application,),
        namespace={"__doc__": "Someone asked for credit."},
        frozen=True,
        gc=False,
    )
    made: type[Application] = event
    return made


def _field(index: int, attribute: Attribute) -> tuple[str, Any] | tuple[str, Any, None]:
    limits: dict[str, Any] = {
        side: int(bound) if attribute.kind == "integer" else float(bound)
        for side, bound in (("ge", attribute.minimum), ("le", attribute.maximum))
        if bound is not None
    }
    number: Any = int if attribute.kind == "integer" else float
    meta = Meta(description=attribute.meaning or None, **limits)
    annotated: Any = Annotated[number, meta]
    if attribute.required:
        return (f"a{index}", annotated)
    return (f"a{index}", annotated | None, None)
