"""Writing a file so that it appears whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """
    Give a path to write to, beside `path`; what stands there at the end becomes `path`.

    Where writing fails, nothing is left and a file that was there before stays as it was. Of
    several writers at a time the last one's file stays. A process that is killed leaves its
    unfinished file, `.<name>.<pid>.<random>`, which may be removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two containers on one volume may have the same process id.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        yield unfinished
        with unfinished.open("rb") as written:
            # Else a power cut may leave the new name without its content.
            os.fsync(written.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
