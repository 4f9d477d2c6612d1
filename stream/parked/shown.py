"""Parked events as text and as JSON: who they are about only where that is asked for."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from sinks.parked import ParkedEvent
from stream.asking.shown import visible
from stream.parked.events import Parked, Tally

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def told(parked: Parked) -> dict[str, Any]:
    """Tell of an event what names nobody: neither its key nor anything of its content."""
    event = parked.event
    if event is None:
        return {"place": parked.place, "damage": parked.damage}
    return {
        "place": parked.place,
        "parked_at": event.parked_at.isoformat(),
        "stage": event.stage,
        "code": event.code,
        "path": parked.cause[2] or "$",
        "origin": _origin(event),
        "release": event.release,
        "redriven": event.redriven,
        "redriven_of": event.redriven_of,
        "cut": event.cut,
        "driven_to": list(parked.driven_to),
    }


def told_in_full(parked: Parked) -> dict[str, Any]:
    """Tell all of an event; bytes that are no UTF-8 stand in base64, under another name."""
    event = parked.event
    if event is None:
        return told(parked)
    headers = [{"name": name, **_bytes("value", value)} for name, value in event.headers]
    return {
        **told(parked),
        "path": event.path,
        "shown": event.shown,
        "rule": event.rule,
        "produced_at": _produced_at(event),
        "headers": headers,
        **_bytes("key", event.key),
        **_bytes("value", event.value),
    }


def tally_table(tally: Tally) -> pa.Table:
    """Lay the counts by cause out, the most frequent first."""
    rows = tally.causes.most_common()
    return pa.table(
        {
            "events": pa.array([number for _, number in rows], pa.int64()),
            "stage": pa.array([stage for (stage, _, _), _ in rows], pa.string()),
            "code": pa.array([code for (_, code, _), _ in rows], pa.string()),
            "path": pa.array([path for (_, _, path), _ in rows], pa.string()),
            "latest": pa.array([_seconds(tally.latest.get(cause)) for cause, _ in rows]),
        }
    )


def events_table(events: Sequence[Parked], *, driven: bool) -> pa.Table:
    """Lay events out; `driven`: whether it was asked to where they were driven again."""
    rows = [told(parked) for parked in events]
    names = ["parked_at", "code", "path", "origin", "release", "redriven"]
    columns = {
        "place": pa.array([f"{one.partition}/{one.offset}" for one in events], pa.string()),
        **{name: pa.array([str(row.get(name, "")) for row in rows]) for name in names},
    }
    columns["code"] = pa.array([one.cause[1] for one in events], pa.string())
    if driven:
        columns["driven to"] = pa.array([" ".join(one.driven_to) for one in events], pa.string())
    return pa.table(columns)


def page(parked: Parked) -> str:
    """Tell all of an event to a person, safely for a terminal."""
    event = parked.event
    if event is None:
        return f"{parked.place}\nnot a parked event: {_line(parked.damage)}"
    said = {
        "cause": f"{event.code}, at {event.stage}",
        "path": event.path,
        "shown": event.shown,
        "rule": event.rule,
        "origin": _origin(event),
        "release": event.release,
        "produced at": _produced_at(event),
        "parked at": event.parked_at.isoformat(),
        "cut": event.cut,
        "re-driven": f"{event.redriven} times before, last from {event.redriven_of}"
        if event.redriven
        else "",
        "key": _text(event.key),
    }
    lines = [f"{name:12s} {_line(text)}" for name, text in said.items() if text]
    lines += [f"{'header':12s} {_line(name)}: {_line(_text(v))}" for name, v in event.headers]
    size = "" if event.value is None else f" ({len(event.value):,} bytes)"
    return "\n".join([parked.place, *lines, f"value{size}", visible(_text(event.value))])


def _text(value: bytes | None) -> str:
    return "(null)" if value is None else value.decode(errors="backslashreplace")


def _line(text: str) -> str:
    return visible(text).replace("\n", "\\n")


def _bytes(name: str, value: bytes | None) -> dict[str, str | None]:
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _origin(event: ParkedEvent) -> str:
    return f"{event.topic}/{event.partition}/{event.offset}"


def _produced_at(event: ParkedEvent) -> str:
    try:
        return (_EPOCH + timedelta(milliseconds=event.produced_at_ms)).isoformat()
    except OverflowError:  # a producer may say what it likes
        return f"{event.produced_at_ms} ms since 1970"


def _seconds(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
