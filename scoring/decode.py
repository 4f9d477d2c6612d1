"""Bytes of a poll to applications, or to the reason why one can never be decided."""

import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NoReturn, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.definition import FeatureDefinition
from scoring.application import Application, application_type
from scoring.byte_strings import ByteStrings
from scoring.bytewise.documents import PlainEvents, PlainReader
from scoring.bytewise.headers import Envelopes, envelopes_of
from scoring.columns import Attributes, NumberAttributes, StructAttributes, columns_of
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
from scoring.poll import HeaderColumns, Headers, Poll

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

    All but the last two are columns of the n events at `positions`, intp[n]. Times are microseconds
    since 1970, int64[n]; texts are UTF-8, and an `applicant_id` or `traceparent` that is not there
    is null. `unknown_at` counts the fields that no contract knows, by position where there are any.
    """

    positions: NDArray[np.intp]
    event_ids: ByteStrings
    application_ids: NDArray[np.int64]
    applicant_ids: ByteStrings
    submitted_at_us: NDArray[np.int64]
    attributes: Attributes
    sources: ByteStrings
    traceparents: ByteStrings
    rejections: list[Rejection]
    unknown_at: dict[int, int]

    @property
    def unknown_fields(self) -> int:
        """How many fields of all events no contract knows."""
        return sum(self.unknown_at.values())

    def at(self, rows: NDArray[np.intp]) -> "Decoded":
        """Give some rows, with all rejections."""
        return replace(
            self,
            positions=self.positions[rows],
            event_ids=self.event_ids.at(rows),
            application_ids=self.application_ids[rows],
            applicant_ids=self.applicant_ids.at(rows),
            submitted_at_us=self.submitted_at_us[rows],
            attributes=self.attributes.at(rows),
            sources=self.sources.at(rows),
            traceparents=self.traceparents.at(rows),
        )

    def without(self, rows: NDArray[np.intp]) -> "Decoded":
        """Leave rows out."""
        return self.at(np.delete(np.arange(len(self.positions)), rows))


class _Refused(Exception):
    def __init__(self, code: Code, path: str, value: str, rule: str) -> None:
        super().__init__(rule)
        self.code = code
        self.path = path
        self.value = value
        self.rule = rule


@dataclass(slots=True)
class _Others:
    """What was read otherwise than as plain documents and headers, by position."""

    applications: dict[int, tuple[Application, int, int]] = field(default_factory=dict)
    envelopes: dict[int, Envelope] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)


class ApplicationDecoder:
    """
    Decodes and checks application events for one feature definition.

    Plain documents are read by compiled code; what is not plain, or wrong, by msgspec.
    """

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
        self._definition = definition
        self._names = tuple(one.name for one in definition.attributes if one.read)
        self._reader = PlainReader.of(
            definition.attributes,
            longest=limits.bytes,
            deepest=limits.depth,
            age_us=self._age_us,
            ahead_us=self._ahead_us,
        )

    def decode(self, poll: Poll) -> Decoded:
        """
        Decode the events of a poll.

        An event's `submitted_at` is held against its own record's Kafka timestamp, never against
        a clock, so that a redelivery is judged alike.
        """
        values = ByteStrings.of(poll.values)
        produced_at_ms = np.asarray(poll.produced_at_ms, dtype=np.int64)
        envelopes = envelopes_of(HeaderColumns.of(poll.headers), poll.topic)
        read = self._read_plain(values, produced_at_ms)
        others = _Others()
        for position in np.flatnonzero(~read.plain | envelopes.odd).tolist():
            try:
                found = None
                if not read.plain[position]:
                    found = self._one(values[position], int(produced_at_ms[position]))
                if envelopes.odd[position]:
                    others.envelopes[position] = _envelope(poll.headers[position], poll.topic)
            except _Refused as refused:
                path = shortened(refused.path)  # it may hold a key of the document's own length
                others.rejections.append(
                    Rejection(position, refused.code, path, refused.value, refused.rule)
                )
                continue
            if found is not None:
                others.applications[position] = found
        return self._together(read, envelopes, others)

    def _read_plain(self, values: ByteStrings, produced_at_ms: NDArray[np.int64]) -> PlainEvents:
        reader = self._reader
        if reader is not None:
            return reader.read(values, produced_at_ms)
        count = len(values)
        none = ByteStrings(values.data, np.zeros(count, np.int64), np.full(count, -1))
        zeros, no = np.zeros(count, np.int64), np.zeros(count, bool)
        return PlainEvents(no, none, zeros, zeros.copy(), none, np.empty((count, 0)), no.copy())

    def _together(self, read: PlainEvents, envelopes: Envelopes, others: "_Others") -> Decoded:
        """Lay what was read in the two ways into the same columns."""
        rows, found = list(others.applications), list(others.applications.values())
        applications = [application for application, _, _ in found]
        read.application_ids[rows] = [one.application_id for one in applications]
        read.submitted_at_us[rows] = [submitted_us for _, submitted_us, _ in found]
        structs = [one.attributes for one in applications]
        odd, named = list(others.envelopes), list(others.envelopes.values())
        decoded = Decoded(
            np.arange(len(read.plain)),
            read.event_ids.with_some(rows, [one.event_id.encode() for one in applications]),
            read.application_ids,
            read.applicant_ids.with_some(
                rows, [_encoded(one.applicant_id) for one in applications]
            ),
            read.submitted_at_us,
            self._attributes(read, rows, structs),
            envelopes.sources.with_some(odd, [one.source.encode() for one in named]),
            envelopes.traceparents,
            others.rejections,
            {row: unknown for row, (_, _, unknown) in others.applications.items() if unknown},
        )
        if not others.rejections:
            return decoded
        rejected = [rejection.position for rejection in others.rejections]
        return decoded.at(np.delete(decoded.positions, rejected))

    def _attributes(self, read: PlainEvents, rows: list[int], structs: list[Any]) -> Attributes:
        if self._reader is None:
            of_rows = dict(zip(rows, structs, strict=True))
            return StructAttributes(
                self._definition, [of_rows.get(row) for row in range(len(read.plain))]
            )
        read.carried[rows] = [struct is not None for struct in structs]
        carrying = [struct for struct in structs if struct is not None]
        if carrying:
            carried = [row for row, struct in zip(rows, structs, strict=True) if struct is not None]
            columns = columns_of(carrying, self._definition)
            read.cells[carried] = np.column_stack([columns[name] for name in self._names])
        return NumberAttributes(self._names, read.cells, read.carried)

    def _one(self, value: bytes | None, produced_ms: int) -> tuple[Application, int, int]:
        """Decode whatever JSON it is: an application, its submission, and its unknown fields."""
        application, unknown = self._application(value)
        return application, self._submitted(application, produced_ms), unknown

    def _application(self, value: bytes | None) -> tuple[Application, int]:
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
            f"submitted_at lies at most {self._limits.age / timedelta(days=1):g} days before and "
            f"{self._limits.ahead.total_seconds():g} seconds after the record's own time"
        )
        if near:  # a producer may choose both
            rule = "submitted_at lies in the years 1970 to 2199"
        raise _Refused("timestamp", "$.submitted_at", application.submitted_at.isoformat(), rule)


def _texts(attributes: msgspec.Struct) -> int:
    """Count the keys and texts that attributes were decoded from."""
    count = 0
    for value in msgspec.structs.astuple(attributes):
        rows = value if isinstance(value, list) else [value]
        count += value is not msgspec.UNSET
        for cells in map(msgspec.structs.astuple, filter(None, rows)):
            kinds = list(map(type, cells))
            count += len(kinds) - kinds.count(msgspec.UnsetType) + kinds.count(str)
    return count


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _envelope(headers: Headers, topic: str) -> Envelope:
    try:
        return read_envelope(headers, topic)
    except SourceInvalid as invalid:
        found = shown(invalid.shown)
        raise _Refused("invalid", "header ce_source", found, invalid.rule) from None


def _malformed(value: bytes, error: Exception) -> _Refused:
    return _Refused("malformed", "$", shown(value), f"not JSON in UTF-8: {error}")
