"""
Where compiled code is kept between processes: the core's only files.

Numba's own cache tells versions apart by one source file's date, lets two processes that start
together write each other's code under their own names, and ends the process where no folder can be
written. Here a file's name is the digest of all that its code depends on, its content carries its
own digest, and where nothing can be kept the code is compiled again.
"""

import hashlib
import os
import pickle
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import llvmlite
import numba
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

_DIGEST = hashlib.sha256().digest_size


class CompileCache(_Cache):  # type: ignore[misc] # Numba has no types of its own
    """
    Keeps the machine code of one function that is made of `sources`, by signature and processor.

    A folder that others may write to is never read: what lies there is run.
    """

    def __init__(self, name: str, sources: Iterable[str]) -> None:
        versions = (numba.__version__, llvmlite.__version__, sys.version, sys.platform)
        self._made_of = "\0".join([name, *versions, *sources])
        self._name = name
        self._enabled = True

    @property
    def cache_path(self) -> str | None:
        """Give the folder, or None where code cannot be kept."""
        folder = _folder()
        return None if folder is None else str(folder)

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """Give the code for a signature, or None where it is not there or not whole."""
        path = self._path(sig, target_context.codegen())
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            return None
        # All that loaded code needs; what compiling needs takes 0.3 s to import.
        rtsys.initialize(target_context)
        code = pickle.loads(content[_DIGEST:])  # noqa: S301 - ours, in a folder of ours
        return CompileResult._rebuild(target_context, *code)  # noqa: SLF001 - as Numba's own cache

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        """Keep the code for a signature, or nothing where the folder is full or read-only."""
        path = self._path(sig, data.codegen)
        if path is None:
            return
        code = dumps(data._reduce())  # noqa: SLF001 - as Numba's own cache
        # A process that is reading, or ends here, leaves no half a file under the name.
        with suppress(OSError), TemporaryDirectory(dir=path.parent) as made:
            unfinished = Path(made) / path.name
            unfinished.write_bytes(hashlib.sha256(code).digest() + code)
            unfinished.replace(path)

    def enable(self) -> None:
        """Keep code from now on."""
        self._enabled = True

    def disable(self) -> None:
        """Keep and read no code from now on."""
        self._enabled = False

    def flush(self) -> None:
        """Forget nothing: another version's code has another name."""

    def _path(self, sig: Any, codegen: Any) -> Path | None:
        folder = _folder() if self._enabled else None
        if folder is None:
            return None
        made_of = f"{self._made_of}\0{sig}\0{codegen.magic_tuple()}"
        return folder / f"{self._name}-{hashlib.sha256(made_of.encode()).hexdigest()}"


def _folder() -> Path | None:
    """Give the first folder that is ours alone and can be written."""
    named, home = os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME")
    caches = named, home and f"{home}/.cache"
    places = [Path(cache) / "creditstream" / "compiled" for cache in caches if cache]
    with suppress(FileNotFoundError):  # where no folder for temporary files can be written
        places.append(Path(gettempdir()) / f"creditstream-{os.getuid()}")
    return next((place for place in places if place.is_absolute() and _is_ours(place)), None)


def _is_ours(place: Path) -> bool:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.stat(follow_symlinks=False)
    except OSError:
        return False
    others_write = found.st_mode & 0o022
    return found.st_uid == os.getuid() and not others_write and os.access(place, os.W_OK)
