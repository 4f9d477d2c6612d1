"""Damage to a record: to its bytes, to its JSON, to its key, headers and timestamp."""

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

from tests.builders import NOW_MS


class Pairs(list[tuple[str, Any]]):
    """A JSON object whose keys may stand twice."""


class Raw(str):
    """What stands in a document as it is: a number, or what is none."""

    __slots__ = ()


_DECODER = json.JSONDecoder(object_pairs_hook=Pairs, parse_int=Raw, parse_float=Raw)

_TEXTS = (
    "",
    "\0",
    "a\0b",
    "\u202e",
    "\ufeff",
    "\ud800",
    "\udc00x",
    "\U0001f600",
    "\r\n",
    "e\u0301",
    "x" * 64,
    "x" * 65,
    "x" * 5_000,
    "../../x",
    "7",
    "null",
    "NaN",
    "2026-09-21T14:13:20Z",
    "2026-09-21T14:13:20",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-02-29T00:00:00Z",
    "-1-01-01T00:00:00Z",
)
_RAW = (
    "0",
    "-0",
    "-0.0",
    "1",
    "-1",
    "7.0",
    "7e0",
    "1e-400",
    "5e-324",
    "3.5e38",
    "1e39",
    "1.7976931348623157e308",
    "1e400",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "9" * 400,
    "9" * 5_000,
    "0." + "1" * 2_000,
    "NaN",
    "Infinity",
    "-Infinity",
    "01",
    "+1",
    "0x10",
    "1.",
    "true",
    "false",
    "null",
    "[]",
    "{}",
    "[[[[]]]]",
    '{"a":1,"a":2}',
    "",
)
_TOKENS = (
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xef\xbb\xbf",
    b"\\u0000",
    b"\\ud800",
    b"\\",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"NaN",
    b"1e999",
    b"-",
    b'"application_id":8,',
    b'"event\\u005fid":"x",',
    b"[" * 20,
    b'{"a":' * 20,
    b"[" * 2_000,
    b'"' * 50,
)
_SOUND, _LARGEST_JSON = 2, 9_000
_KEYS = (None, b"", b"k", b"\xff\xfe", b"k" * 2_000)
_TIMES = (-1, 0, 1, NOW_MS - 1, NOW_MS + 400 * 86_400_000, 2**62, 2**63 - 1)
_NAMES = ("ce_source", "traceparent", "ce_id", "creditstream-code", "", "x", "\\xff", "a\n\u202e")
_VALUES = (
    None,
    b"",
    b"v",
    b"shop",
    b"\xff",
    b"a\nb",
    b"s" * 257,
    b"s" * 3_000,
    b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
    "caf\u00e9 \u202e".encode(),
)


def damaged(random: Random, pool: list[bytes]) -> bytes:
    """Give one of a pool of documents, of which the first are sound, changed in few ways."""
    document = random.choice(pool[:_SOUND] if random.random() < 0.6 else pool)
    for _ in range(random.choice((0, 1, 1, 1, 1, 2, 2, 3))):
        if random.random() < 0.7:
            changed = _in_json(random, document)
            if changed is not None:
                document = changed
                continue
        document = random.choice(_BYTES)(random, document, pool)
    return document


def around(random: Random) -> tuple[bytes | None, list[tuple[str, bytes | None]], int]:
    """Give a record's key, headers and timestamp, mostly ordinary ones."""
    key = b"k" if random.random() < 0.9 else random.choice(_KEYS)
    headers: list[tuple[str, bytes | None]] = []
    if random.random() < 0.2:
        number = random.choice((1, 1, 2, 5, 100))
        headers = [(random.choice(_NAMES), random.choice(_VALUES)) for _ in range(number)]
    return key, headers, NOW_MS if random.random() < 0.95 else random.choice(_TIMES)


def _flip(random: Random, document: bytes, _: list[bytes]) -> bytes:
    if not document:
        return document
    changed = bytearray(document)
    for _bit in range(random.choice((1, 1, 2, 8))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(random: Random, document: bytes, _: list[bytes]) -> bytes:
    return document[: random.randint(0, len(document))]


def _remove(random: Random, document: bytes, _: list[bytes]) -> bytes:
    at = random.randint(0, len(document))
    return document[:at] + document[at + random.choice((1, 2, 8, 64)) :]


def _repeat(random: Random, document: bytes, _: list[bytes]) -> bytes:
    at, size = random.randint(0, len(document)), random.choice((1, 4, 16, 64))
    part = document[at : at + size] * random.choice((1, 2, 10, 100))
    return document[:at] + part + document[at:]


def _insert(random: Random, document: bytes, _: list[bytes]) -> bytes:
    at = random.randint(0, len(document))
    return document[:at] + random.choice(_TOKENS) + document[at:]


def _overwrite(random: Random, document: bytes, _: list[bytes]) -> bytes:
    at, token = random.randint(0, len(document)), random.choice(_TOKENS)
    return document[:at] + token + document[at + len(token) :]


def _splice(random: Random, document: bytes, pool: list[bytes]) -> bytes:
    other = random.choice(pool)
    return document[: random.randint(0, len(document))] + other[random.randint(0, len(other)) :]


def _in_other_words(random: Random, document: bytes, _: list[bytes]) -> bytes:
    text = document.decode(errors="replace")
    return text.encode(random.choice(("utf-16", "utf-16-be", "utf-8-sig", "utf-32", "utf-7")))


_Change = Callable[[Random, bytes, list[bytes]], bytes]
_BYTES: tuple[_Change, ...] = (
    *(_flip, _flip, _cut, _remove, _repeat, _insert, _insert, _overwrite, _splice),
    _in_other_words,
)


def _in_json(random: Random, document: bytes) -> bytes | None:
    """Change a document's JSON; None where it is none."""
    if len(document) > _LARGEST_JSON:
        return None
    try:
        root = [_DECODER.decode(document.decode())]
    except (ValueError, RecursionError):
        return None
    places: list[tuple[Any, int]] = []
    _places(root, places)
    _change(random, *random.choice(places))
    space = random.choice(("", "", "", " ", "\n\t"))
    return _written(root[0], space).encode(errors="surrogatepass")


def _places(node: Any, found: list[tuple[Any, int]]) -> None:
    for at, entry in enumerate(node):
        found.append((node, at))
        inner = entry[1] if isinstance(node, Pairs) else entry
        if isinstance(inner, list):
            _places(inner, found)


def _change(random: Random, node: Any, at: int) -> None:
    how = random.randrange(8)
    if isinstance(node, Pairs):
        name, value = node[at]
        if how == 0:
            del node[at]
        elif how == 1:
            node.insert(random.randint(0, len(node)), (name, _other(random, value)))
        elif how == 2:
            node[at] = (random.choice(("", name.upper(), name + "x", *_TEXTS)), value)
        elif how == 3:
            node.insert(at, (random.choice(_TEXTS), Raw(random.choice(_RAW))))
        else:
            node[at] = (name, _other(random, value))
    elif how == 0:
        node[at : at + 1] = [node[at]] * random.choice((0, 2, 300))
        if not node:
            node.append(None)
    else:
        node[at] = _other(random, node[at])


def _other(random: Random, value: Any) -> Any:
    how = random.randrange(6)
    if how == 0:
        return random.choice(_TEXTS)
    if how == 1:
        wrapped = value
        for _ in range(random.choice((1, 14, 17, 40))):
            wrapped = [wrapped] if random.random() < 0.5 else Pairs([("a", wrapped)])
        return wrapped
    if how == 2 and isinstance(value, Raw):
        return Raw(value + random.choice(("0", ".0", ".5", "e1", "e99", "e-99")))
    if how == 3:
        return Raw(repr(random.uniform(-1, 1) * 10.0 ** random.randint(-320, 308)))
    return Raw(random.choice(_RAW))


def _written(node: Any, space: str) -> str:
    if isinstance(node, Raw):
        return node
    if isinstance(node, Pairs):
        inner = ("," + space).join(
            f"{json.dumps(name)}{space}:{_written(value, space)}" for name, value in node
        )
        return "{" + space + inner + "}"
    if isinstance(node, list):
        return "[" + ("," + space).join(_written(value, space) for value in node) + "]"
    if isinstance(node, str) and not re.search("[\ud800-\udfff]", node) and len(node) % 2:
        return json.dumps(node, ensure_ascii=False)
    return json.dumps(node)
