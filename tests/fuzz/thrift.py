"""Thrift's compact protocol, to read a Parquet file's metadata, change them and write them back."""

from dataclasses import dataclass
from typing import Any

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)


@dataclass
class Field:
    """A field of a struct; a list's value is the kind of its items, and they."""

    id: int
    kind: int
    value: Any


Struct = list[Field]


def read_struct(content: bytes, at: int = 0) -> tuple[Struct, int]:
    """Read a struct; give it and where it ends."""
    fields: Struct = []
    last = 0
    while content[at]:
        delta, kind = content[at] >> 4, content[at] & 15
        at += 1
        if delta:
            last += delta
        else:
            last, at = _integer(content, at)
        value, at = _value(content, at, kind)
        fields.append(Field(last, kind, value))
    return fields, at + 1


def write_struct(fields: Struct) -> bytes:
    """Write a struct."""
    out, last = bytearray(), 0
    for field in fields:
        delta = field.id - last
        if 0 < delta <= 15:
            out.append(delta << 4 | field.kind)
        else:
            out.append(field.kind)
            out += _zigzag(field.id)
        out += _written(field.kind, field.value)
        last = field.id
    return bytes(out) + b"\0"


def integers(fields: Struct) -> list[Field]:
    """Give all fields that are whole numbers, within and within lists too."""
    found: list[Field] = []
    for field in fields:
        if field.kind in _INTEGERS:
            found.append(field)
        elif field.kind == _STRUCT:
            found += integers(field.value)
        elif field.kind == _LIST and field.value[0] == _STRUCT:
            for one in field.value[1]:
                found += integers(one)
    return found


def of(fields: Struct, *path: int) -> Any:
    """Give the value at a path of ids; in a list, of an item."""
    value: Any = fields
    for step in path:
        if isinstance(value, tuple):
            value = value[1][step]
        else:
            value = next(field.value for field in value if field.id == step)
    return value


def put(fields: Struct, value: Any, *path: int) -> None:
    """Put a value at a path of ids."""
    *before, last = path
    next(field for field in of(fields, *before) if field.id == last).value = value


def _value(content: bytes, at: int, kind: int) -> tuple[Any, int]:  # noqa: PLR0911 - a kind each
    if kind in {_TRUE, _FALSE}:
        return None, at
    if kind == _BYTE:
        return content[at], at + 1
    if kind in _INTEGERS:
        return _integer(content, at)
    if kind == _DOUBLE:
        return content[at : at + 8], at + 8
    if kind == _BINARY:
        size, at = _varint(content, at)
        return content[at : at + size], at + size
    if kind == _STRUCT:
        return read_struct(content, at)
    assert kind in {_LIST, _SET}, kind
    size, inner = content[at] >> 4, content[at] & 15
    at += 1
    if size == 15:
        size, at = _varint(content, at)
    items = []
    for _ in range(size):
        # In a list a truth is a byte.
        item, at = _value(content, at, _BYTE if inner in {_TRUE, _FALSE} else inner)
        items.append(item)
    return (inner, items), at


def _written(kind: int, value: Any) -> bytes:  # noqa: PLR0911 - a kind each
    if kind in {_TRUE, _FALSE}:
        return b""
    if kind == _BYTE:
        return bytes([value])
    if kind in _INTEGERS:
        return _zigzag(value)
    if kind == _DOUBLE:
        return bytes(value)
    if kind == _BINARY:
        return _unsigned(len(value)) + bytes(value)
    if kind == _STRUCT:
        return write_struct(value)
    inner, items = value
    size = len(items)
    head = bytes([size << 4 | inner]) if size < 15 else bytes([0xF0 | inner]) + _unsigned(size)
    of_item = _BYTE if inner in {_TRUE, _FALSE} else inner
    return head + b"".join(_written(of_item, item) for item in items)


def _varint(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[at]
        at += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number, at


def _integer(content: bytes, at: int) -> tuple[int, int]:
    number, at = _varint(content, at)
    return (number >> 1) ^ -(number & 1), at


def _unsigned(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _zigzag(number: int) -> bytes:
    return _unsigned(number << 1 if number >= 0 else (-number << 1) - 1)
