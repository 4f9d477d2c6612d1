"""
Hostile records with what has to become of each: `values/` holds the bytes, `index.json` the rest.

A case is `decided`, or parked with a code and a path, by the Taiwan example's contract. What is not
said of a record is ordinary; a text or bytes (`hex`) may be repeated (`long`), and a header, too
(`times`). What a fuzzer finds is kept here: a file, and a line.
"""

from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from scoring.poll import Poll
from tests.builders import NOW_MS

_FOLDER = Path(__file__).parent


class Bytes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes as text or in hexadecimal digits, repeated."""

    text: str | None = None
    hex: str | None = None
    long: int = 1

    @property
    def content(self) -> bytes | None:
        """The bytes; None where there are none."""
        if self.hex is not None:
            return bytes.fromhex(self.hex) * self.long
        return None if self.text is None else self.text.encode() * self.long


class Header(Bytes, frozen=True, forbid_unknown_fields=True):
    """A header; its name may be what is no text."""

    name: str = ""
    name_hex: str | None = None
    times: int = 1

    @property
    def raw_name(self) -> bytes:
        """The name as it stands in the record."""
        return self.name.encode() if self.name_hex is None else bytes.fromhex(self.name_hex)


class Parked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By which code, at which path an event is parked."""

    code: str
    path: str


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record, and what has to become of it."""

    name: str
    expect: Literal["decided"] | Parked
    tombstone: bool = False
    key: Bytes | None = Bytes(text="k")
    headers: tuple[Header, ...] = ()
    produced_at_ms: int = NOW_MS

    @property
    def value(self) -> bytes | None:
        """The record's value."""
        return None if self.tombstone else (_FOLDER / "values" / self.name).read_bytes()

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes | None]]:
        """The record's headers as they stand in it."""
        return [(one.raw_name, one.content) for one in self.headers for _ in range(one.times)]


@cache
def cases() -> tuple[Case, ...]:
    """Read the index."""
    return msgspec.json.decode((_FOLDER / "index.json").read_bytes(), type=tuple[Case, ...])


def files() -> set[str]:
    """Name the files that hold values."""
    return {path.name for path in (_FOLDER / "values").iterdir()}


def a_poll_of(found: tuple[Case, ...]) -> Poll:
    """A poll of cases, as the transport hands them over."""
    headers: list[Any] = [
        [(name.decode(errors="backslashreplace"), value) for name, value in one.raw_headers]
        for one in found
    ]
    return Poll(
        topic="applications",
        partition=0,
        offsets=range(len(found)),
        produced_at_ms=[one.produced_at_ms for one in found],
        keys=[None if one.key is None else one.key.content for one in found],
        values=[one.value for one in found],
        headers=headers,
    )
