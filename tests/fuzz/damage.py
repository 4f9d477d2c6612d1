"""Damage to the content of a file, and to the file itself."""

import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random

_HUGE = (
    *(b"0", b"-1", b"1", b"7", b"2147483647", b"2147483648", b"-2147483648", b"4294967296"),
    *(b"99999999999", b"9223372036854775808", b"1e308", b"-1e308", b"1e999", b"nan", b"-inf"),
)
_NUMBER = re.compile(rb"(?<=[= :,\[-])[0-9][0-9.]*(?:e[+-]?[0-9]+)?")


def flip(random: Random, content: bytes) -> bytes:
    """Flip bits."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 8, 64))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut(random: Random, content: bytes) -> bytes:
    """Truncate."""
    return content[: random.randrange(len(content))]


def reorder(random: Random, content: bytes) -> bytes:
    """Change places of two neighbouring blocks."""
    a, b, c = sorted(random.randrange(len(content) + 1) for _ in range(3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def repeat(random: Random, content: bytes) -> bytes:
    """Write a block more than once."""
    a, b = sorted(random.randrange(len(content) + 1) for _ in range(2))
    return content[:b] + content[a:b] * random.choice((1, 1, 5)) + content[b:]


def number(random: Random, content: bytes) -> bytes:
    """Write other numbers, huge ones too, in the place of some."""
    found = list(_NUMBER.finditer(content))
    for one in random.sample(found, min(len(found), random.choice((1, 1, 1, 3)))):
        # From behind: what stands before keeps its place.
        other = random.choice(_HUGE).ljust(1)
        content = content[: one.start()] + other + content[one.end() :]
        found = list(_NUMBER.finditer(content))
        if random.random() < 0.5:
            break
    return content


def line(random: Random, content: bytes) -> bytes:
    """Take a line out, write one twice, or change the places of two."""
    lines = content.split(b"\n")
    a, b = random.randrange(len(lines)), random.randrange(len(lines))
    how = random.randrange(3)
    if how == 0:
        del lines[a]
    elif how == 1:
        lines.insert(b, lines[a])
    else:
        lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


CONTENT: tuple[Callable[[Random, bytes], bytes], ...] = (
    *(flip, flip, cut, reorder, repeat, number, number, line),
)


def pipe(_: Random, path: Path) -> None:
    """Put a pipe in a file's place, to which nobody writes."""
    path.unlink()
    os.mkfifo(path)


def folder(_: Random, path: Path) -> None:
    """Put a folder in a file's place."""
    path.unlink()
    path.mkdir()


def door(_: Random, path: Path) -> None:
    """Put a socket in a file's place."""
    path.unlink()
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(path.parent)  # a socket's path is short
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def endless(_: Random, path: Path) -> None:
    """Let a file lead to a device that never ends."""
    path.unlink()
    path.symlink_to("/dev/zero")


def circle(_: Random, path: Path) -> None:
    """Let a file lead to itself."""
    path.unlink()
    path.symlink_to(path.name)


def nowhere(_: Random, path: Path) -> None:
    """Let a file lead out, to nothing."""
    path.unlink()
    path.symlink_to("../../../nowhere")


def outside(_: Random, path: Path) -> None:
    """Let a file lead out, to a copy of its own content."""
    copy = path.parent.parent / f"copy-of-{path.name}"
    shutil.move(path, copy)
    path.symlink_to(f"../{copy.name}")


def holes(_: Random, path: Path) -> None:
    """Make a file of 1 TB that takes no space."""
    with path.open("r+b") as file:
        file.truncate(1 << 40)


def gone(_: Random, path: Path) -> None:
    """Take a file away."""
    path.unlink()


PLACE: tuple[Callable[[Random, Path], None], ...] = (
    *(pipe, folder, door, endless, circle, nowhere, outside, holes, gone),
)
NAMES = (b"\xff\xfe", b"a\nb", b"a\tb", b"\xe2\x80\xaex", b" ", b"model.txt ", b"x" * 255, b".x")
