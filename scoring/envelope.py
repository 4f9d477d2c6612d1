"""What an event's headers say: who sent it, and the trace it belongs to."""

import re
from typing import NamedTuple

from scoring.application import INVISIBLE
from scoring.poll import Headers

LONGEST_SOURCE = 256
"""Bytes; a source is part of an event's identity and stands in every ledger row."""

REDRIVEN, REDRIVEN_OF = "creditstream-redriven", "creditstream-redriven-of"
"""Headers of an event that was parked and is driven again: how often, and where it is parked."""

# W3C Trace Context, version 00.
_TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_TIMES = re.compile(rb"[1-9][0-9]{0,8}")
_PLACE = re.compile(rb"[a-zA-Z0-9._-]{1,249}/[0-9]{1,10}/[0-9]{1,19}")


class SourceInvalid(Exception):
    """An event's `ce_source` is none; `shown` shows it."""

    def __init__(self, rule: str, shown: bytes) -> None:
        super().__init__(rule)
        self.rule = rule
        self.shown = shown


class Envelope(NamedTuple):
    """CloudEvents' source in binary mode, or the topic, and W3C's `traceparent`, if there."""

    source: str
    traceparent: bytes | None


class Redriven(NamedTuple):
    """How often an event was driven again, and where on which topic it had been parked."""

    times: int
    place: str


def redriven_of(headers: Headers) -> Redriven | None:
    """
    Say whether an event was driven again; headers that say it in no form of ours say nothing.

    Whoever may write applications may write these: nothing but parking looks at them.
    """
    found = {name: value or b"" for name, value in headers if name in (REDRIVEN, REDRIVEN_OF)}
    times, place = found.get(REDRIVEN, b""), found.get(REDRIVEN_OF, b"")
    if not (_TIMES.fullmatch(times) and _PLACE.fullmatch(place)):
        return None
    return Redriven(int(times), place.decode())


def read_envelope(headers: Headers, topic: str) -> Envelope:
    """
    Read an event's headers; raise SourceInvalid.

    A trace that is none of W3C's is left out; it decides nothing.
    """
    source, traceparent = topic, None
    for name, value in headers:
        if value is None:
            continue
        if name == "ce_source":
            source = _source(value)
        elif name == "traceparent" and _TRACEPARENT.fullmatch(value):
            traceparent = value
    return Envelope(source, traceparent)


def _source(value: bytes) -> str:
    if not 0 < len(value) <= LONGEST_SOURCE:
        rule = f"ce_source has 1 to {LONGEST_SOURCE} bytes; this has {len(value)}"
        raise SourceInvalid(rule, value)
    try:
        source = value.decode()
    except UnicodeDecodeError:
        rule = "ce_source is UTF-8"
        raise SourceInvalid(rule, value) from None
    if _INVISIBLE.search(source):
        rule = "ce_source has no characters of control or direction"
        raise SourceInvalid(rule, value)
    return source
