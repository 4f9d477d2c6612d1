"""Reading files that somebody else may have put there: ordinary ones alone, and no more of them."""

import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """
    Open a file for reading; raise OSError where it is none.

    A pipe, a device or a socket would make who reads it wait, or never end.
    """
    # Not to block: a pipe that nobody writes to would, in opening.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        msg = "it is no ordinary file"
        raise OSError(msg)
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, most: int) -> bytes:
    """Read a file of at most so many bytes; raise OSError where it is none, or larger."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        msg = f"it has more than {most} bytes"
        raise OSError(msg)
    return content
