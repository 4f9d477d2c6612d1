"""
Which releases have proved themselves on this machine, kept between processes.

A proof is a fact about bytes and about the code that read them: its name is the digest of both, and
its file is empty.
"""

import hashlib
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from features.own_folder import own_folder

_READERS = ("lightgbm", "numba", "numpy", "pyarrow")
_OURS = ("features", "models", "scoring")


def is_proved(digest: str) -> bool:
    """Say whether a release of this manifest's sha256 has proved itself, to the code of today."""
    folder = own_folder("proved")
    return folder is not None and (folder / _name(digest)).is_file()


def keep_proof(digest: str) -> None:
    """Keep that one has; where nothing can be kept, it proves itself again."""
    folder = own_folder("proved")
    if folder is not None:
        with suppress(OSError):
            (folder / _name(digest)).touch()


def _name(digest: str) -> str:
    return hashlib.sha256(f"{digest}\0{_code()}".encode()).hexdigest()


@cache
def _code() -> str:
    """Name all that reads a release."""
    read = hashlib.sha256("\0".join([sys.version, *map(version, _READERS)]).encode())
    root = Path(__file__).parents[1]
    for source in sorted(path for ours in _OURS for path in (root / ours).rglob("*.py")):
        read.update(source.read_bytes())
    return read.hexdigest()
