"""JSON documents as they came: how deep, which keys stand twice, which fields nobody knows."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from features.definition import Attribute

Tree = Mapping[str, Any]
"""The names that a contract knows, each with the tree of those within it."""

_SHOWN = 120
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
# The last text may not end.
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?$)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_STEPS = bytes.maketrans(b"{[}]", np.array([1, 1, -1, -1], np.int8).tobytes())


class Object(list[tuple[str, Any]]):
    """A JSON object as its pairs in order, repeated keys and all."""


# Numbers stay text: only keys matter here, and Python refuses integers of many digits.
_PAIRS = json.JSONDecoder(object_pairs_hook=Object, parse_int=str, parse_float=str)


def pairs_of(document: bytes) -> Any:
    """Read a document whose objects keep all their pairs; raises ValueError."""
    return _PAIRS.decode(document.decode())


def depth_of(document: bytes) -> int:
    """Give how deep a document's brackets go, be it JSON or not."""
    brackets = _TEXT.sub(b"", document).translate(_STEPS, _NO_BRACKETS)
    # Not byte by byte: a poll may be full of documents that are all brackets.
    depths = np.cumsum(np.frombuffer(brackets, np.int8), dtype=np.int64)
    return int(depths.max(initial=0))


def tree_of(attributes: Sequence[Attribute]) -> Tree:
    """Give the names of attributes and of what is within them."""
    return {attribute.name: tree_of(attribute.fields) for attribute in attributes}


def count_unknown(node: object, known: Tree) -> int:
    """Count fields of an object, or of each object in a list, that no contract knows."""
    if isinstance(node, Object):
        inner = [(value, known[name]) for name, value in node if known.get(name)]
        unknown = sum(name not in known for name, _ in node)
        return unknown + sum(count_unknown(one, within) for one, within in inner)
    return sum(count_unknown(one, known) for one in node) if isinstance(node, list) else 0


def repeated_key(node: object, path: str = "$") -> tuple[str, str] | None:
    """Find the first key that stands twice in an object: its path and last value, shown."""
    children: list[tuple[str, Any]] = []
    if isinstance(node, Object):
        seen: set[str] = set()
        for key, value in node:
            if key in seen:
                return f"{path}.{key}", shown(value)
            seen.add(key)
        children = [(f"{path}.{key}", value) for key, value in node]
    elif isinstance(node, list):
        children = [(f"{path}[{index}]", value) for index, value in enumerate(node)]
    for inner_path, value in children:
        found = repeated_key(value, inner_path)
        if found is not None:
            return found
    return None


def value_at(node: object, path: str) -> str:
    """Show what stands at a path of a plain document; empty where nothing does."""
    for name, index in _STEP.findall(path):
        # Where a key stands twice, the fault may lie in the list that is not the last.
        if isinstance(node, list) and index and int(index) < len(node):
            node = node[int(index)]
        elif isinstance(node, dict) and name in node:
            node = node[name]
        else:
            return ""
    return shown(node)


def shown(value: object) -> str:
    """Show a value, or undecoded bytes, in at most 120 characters."""
    if isinstance(value, bytes):
        return shortened(value[:_SHOWN].decode(errors="backslashreplace"))
    return shortened(repr(value))


def shortened(text: str) -> str:
    """Cut a text to 120 characters."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
