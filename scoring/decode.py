"""Bytes of a poll to applications, or to the reason why one can never be decided."""

import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NoReturn, get_args

import msgspec

from features.definition import FeatureDefinition
from scoring.application import Application, application_type
from scoring.document import (
    count_unknown,
    depth_of,
    pairs_of,
    repeated_key,
    shortened,
    shown,
    tree_of,
    value_at,
)
from scoring.envelope import Envelope, SourceInvalid, read_envelope
from scoring.poll import Headers, Poll

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_END_US = (datetime(2200, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_MESSAGE = re.compile(r"^(?P<rule>.*?)(?: - at `(?P<path>\$.*)`)?$", re.DOTALL)
_MISSING_FIELD = re.compile(r"^Object missing required field `(?P<field>.*)`$")

Code = Literal[
    "malformed",
    "invalid",
    "duplicate_key",
    "too_large",
    "too_deep",
    "timestamp",
    "tombstone",
    "conflicting_duplicate",
]
CODES: tuple[Code, ...] = get_args(Code)


@dataclass(frozen=True, slots=True)
class EventLimits:
    """How large, deep, old and early an event may be."""

    bytes: int = 65_536
    depth: int = 16
    age: timedelta = timedelta(days=400)
    ahead: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Rejection:
    """
    Why the event at `position` of a poll can never be decided.

    `path` names the field ("$.attributes.AGE"; "$" for the whole document), `value` shows it (cut
    to 120 characters), and `rule` says in words what was broken.
    """

    position: int
    code: Code
    path: str
    value: str
    rule: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """
    A poll after decoding: each position is in exactly one of `positions` and `rejections`.

    `envelopes` and `submitted_at_us`, in microseconds since 1970, are one for each application.
    """

    applications: list[Application]
    positions: list[int]
    envelopes: list[Envelope]
    submitted_at_us: list[int]
    rejections: list[Rejection]
    unknown_fields: int

    def without(self, rows: Collection[int]) -> "Decoded":
        """Leave rows out."""
        kept = [row for row in range(len(self.positions)) if row not in rows]
        return Decoded(
            [self.applications[row] for row in kept],
            [self.positions[row] for row in kept],
            [self.envelopes[row] for row in kept],
            [self.submitted_at_us[row] for row in kept],
            self.rejections,
            self.unknown_fields,
        )


class _Refused(Exception):
    def __init__(self, code: Code, path: str, value: str, rule: str) -> None:
        super().__init__(rule)
        self.code = code
        self.path = path
        self.value = value
        self.rule = rule


class ApplicationDecoder:
    """Decodes and checks application events for one feature definition."""

    def __init__(self, definition: FeatureDefinition, limits: EventLimits) -> None:
        self._decode = msgspec.json.Decoder(application_type(definition)).decode
        self._limits = limits
        self._known = {
            **{name: {} for name in Application.__struct_fields__},
            "attributes": tree_of(definition.attributes),
        }
        self._flat = not any(attribute.fields for attribute in definition.attributes)
        self._required = sum(attribute.required for attribute in definition.attributes)
        self._optional = [
            f"a{index}"
            for index, attribute in enumerate(definition.attributes)
            if not attribute.required
        ]
        self._age_us = limits.age // _MICROSECOND
        self._ahead_us = limits.ahead // _MICROSECOND

    def decode(self, poll: Poll) -> Decoded:
        """
        Decode the events of a poll.

        An event's `submitted_at` is held against its own record's Kafka timestamp, never against
        a clock, so that a redelivery is judged alike.
        """
        decoded = Decoded([], [], [], [], [], 0)
        unknown_fields = 0
        records = zip(poll.values, poll.produced_at_ms, poll.headers, strict=True)
        for position, (value, produced_ms, headers) in enumerate(records):
            try:
                application, unknown = self._one(value)
                submitted_us = self._submitted(application, produced_ms)
                envelope = _envelope(headers, poll.topic)
            except _Refused as refused:
                path = shortened(refused.path)  # it may hold a key of the document's own length
                decoded.rejections.append(
                    Rejection(position, refused.code, path, refused.value, refused.rule)
                )
                continue
            unknown_fields += unknown
            decoded.applications.append(application)
            decoded.positions.append(position)
            decoded.envelopes.append(envelope)
            decoded.submitted_at_us.append(submitted_us)
        return Decoded(
            decoded.applications,
            decoded.positions,
            decoded.envelopes,
            decoded.submitted_at_us,
            decoded.rejections,
            unknown_fields,
        )

    def _one(self, value: bytes | None) -> tuple[Application, int]:
        if value is None:
            rule = "a null value (tombstone) is no application"
            raise _Refused("tombstone", "$", "null", rule)
        if len(value) > self._limits.bytes:
            rule = f"a document has at most {self._limits.bytes} bytes; this has {len(value)}"
            raise _Refused("too_large", "$", shown(value), rule)
        # Without escapes, quotes stand around keys and texts alone. As many of them as the fields
        # that were found need: no key stands twice and none is unknown.
        quotes = -1 if b"\\" in value else value.count(b'"')
        if not self._flat:
            # Rows have many brackets, and what a contract knows is not deep; what it does not know
            # may be.
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                application = self._decode(value)
                if quotes == self._quotes(application):
                    return application, 0
        if value.count(b"{") + value.count(b"[") > self._limits.depth:
            self._check_depth(value)
        try:
            application = self._decode(value)
        except msgspec.ValidationError as error:
            self._refuse_invalid(value, str(error))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _malformed(value, error) from None
        if self._flat and quotes == self._quotes(application):
            return application, 0
        return application, self._unknown_fields(value)

    def _quotes(self, application: Application) -> int:
        keys, texts = 3, 2
        if application.applicant_id is not None:
            keys, texts = keys + 1, texts + 1
        attributes = application.attributes
        if attributes is not None and self._flat:
            keys += 1 + self._required
            for name in self._optional:
                keys += getattr(attributes, name) is not None
        elif attributes is not None:
            keys += 1 + _texts(attributes)
        return 2 * (keys + texts)

    def _check_depth(self, value: bytes) -> None:
        deepest = depth_of(value)
        if deepest > self._limits.depth:
            rule = f"a document is at most {self._limits.depth} levels deep; this is {deepest}"
            raise _Refused("too_deep", "$", shown(value), rule)

    def _refuse_invalid(self, value: bytes, message: str) -> NoReturn:
        # The decoder stops at the first fault of meaning; what follows may be no JSON at all.
        try:
            document = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _malformed(value, error) from None
        found = _MESSAGE.match(message)
        assert found is not None
        rule, path = found["rule"], found["path"] or "$"
        missing = _MISSING_FIELD.match(rule)
        if missing is not None:
            path = f"{path}.{missing['field']}"
            raise _Refused("invalid", path, "", "a required field is missing") from None
        raise _Refused("invalid", path, value_at(document, path), rule) from None

    def _unknown_fields(self, value: bytes) -> int:
        """Count fields that no contract knows; refuse a key that stands twice."""
        try:
            document = pairs_of(value)
        except ValueError as error:  # in a field that nobody knows: skipped until now
            raise _malformed(value, error) from None
        repeated = repeated_key(document)
        if repeated is not None:
            path, found = repeated
            raise _Refused("duplicate_key", path, found, "a key stands once in an object")
        return count_unknown(document, self._known)

    def _submitted(self, application: Application, produced_ms: int) -> int:
        submitted_us = (application.submitted_at - _EPOCH) // _MICROSECOND
        late_us = produced_ms * 1000 - submitted_us
        near = -self._ahead_us <= late_us <= self._age_us
        if near and 0 <= submitted_us < _END_US:
            return submitted_us
        rule = (
            f"submitted_at lies at most {self._limits.age} before and {self._limits.ahead} after "
            f"the record's own time"
        )
        if near:  # a producer may choose both
            rule = "submitted_at lies in the years 1970 to 2199"
        raise _Refused("timestamp", "$.submitted_at", application.submitted_at.isoformat(), rule)


def _texts(attributes: msgspec.Struct) -> int:
    """Count the keys and texts that attributes were decoded from."""
    count = 0
    for field in msgspec.structs.astuple(attributes):
        rows = field if isinstance(field, list) else [field]
        count += field is not msgspec.UNSET
        for cells in map(msgspec.structs.astuple, filter(None, rows)):
            kinds = list(map(type, cells))
            count += len(kinds) - kinds.count(msgspec.UnsetType) + kinds.count(str)
    return count


def _envelope(headers: Headers, topic: str) -> Envelope:
    try:
        return read_envelope(headers, topic)
    except SourceInvalid as invalid:
        found = shown(invalid.shown)
        raise _Refused("invalid", "header ce_source", found, invalid.rule) from None


def _malformed(value: bytes, error: Exception) -> _Refused:
    return _Refused("malformed", "$", shown(value), f"not JSON in UTF-8: {error}")
