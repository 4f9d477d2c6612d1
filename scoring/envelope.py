"""What an event's headers say: who sent it, and the trace it belongs to."""

import re
from typing import NamedTuple

from scoring.application import INVISIBLE
from scoring.poll import Headers

LONGEST_SOURCE = 256
"""Bytes; a source is part of an event's identity and stands in every ledger row."""

# W3C Trace Context, version 00.
_TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")


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
