"""The application event: someone asked for credit."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from features.definition import Attribute, FeatureDefinition

LONGEST_TEXT = 64
"""Characters of a text attribute, at most."""

INVISIBLE = "\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
"""Characters of control, of direction or without a shape, which make two names look alike."""

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
    Meta(
        tz=True,
        description="RFC 3339, the offset also without colon; near the record's Kafka timestamp.",
    ),
]
ApplicantId = Annotated[
    str,
    Meta(
        pattern=f"^[^{INVISIBLE}]{{1,64}}$(?!\n)",
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
    event: Any = msgspec.defstruct(
        "ApplicationEvent",
        [("attributes", attributes_type(definition) | None, None)],
        bases=(Application,),
        namespace={"__doc__": "Someone asked for credit."},
        frozen=True,
        gc=False,
    )
    made: type[Application] = event
    return made


def attributes_type(definition: FeatureDefinition) -> Any:
    """Make the type of an event's attributes."""
    about = f"What the definition {definition.name!r} computes features from."
    return _struct("Attributes", definition.attributes, about)


def _struct(name: str, attributes: tuple[Attribute, ...], about: str) -> Any:
    return msgspec.defstruct(
        name,
        [_field(index, attribute) for index, attribute in enumerate(attributes)],
        rename={f"a{index}": attribute.name for index, attribute in enumerate(attributes)},
        namespace={"__doc__": about},
        frozen=True,
        kw_only=True,
        gc=False,
    )


def _field(index: int, attribute: Attribute) -> tuple[str, Any] | tuple[str, Any, Any]:
    annotated: Any = _annotated(attribute)
    if not attribute.required and not attribute.read:
        # So that it can be told whether it was there: see ApplicationDecoder.
        return (f"a{index}", annotated | None | msgspec.UnsetType, msgspec.UNSET)
    if not attribute.required:
        return (f"a{index}", annotated | None, None)
    return (f"a{index}", annotated | None if attribute.nullable else annotated)


def _annotated(attribute: Attribute) -> Any:
    kind, about = attribute.kind, attribute.meaning or None
    if kind == "text":
        return Annotated[str, Meta(description=about, max_length=LONGEST_TEXT)]
    if kind in {"object", "rows"}:
        struct = _struct(f"Row of {attribute.name}", attribute.fields, attribute.meaning)
        if kind == "object":
            return struct
        rows: Any = list.__class_getitem__(struct)
        return Annotated[rows, Meta(description=about, max_length=attribute.most)]
    number = int if kind == "integer" else float
    limits: dict[str, Any] = {
        side: number(bound)
        for side, bound in (("ge", attribute.minimum), ("le", attribute.maximum))
        if bound is not None
    }
    if kind == "whole":
        limits["multiple_of"] = 1.0
    return Annotated[number, Meta(description=about, **limits)]
