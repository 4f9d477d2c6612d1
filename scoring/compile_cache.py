"""
Where compiled code is kept between processes: the core's only files.

Numba's own cache tells versions apart by one source file's date, lets two processes that start
together write each other's code under their own names, and ends the process where no folder can be
written. Here a file's name is the digest of all that its code depends on, its content carries its
own digest, and where nothing can be kept the code is compiled again.
"""

import hashlib
import pickle
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import llvmlite
import numba
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from features.own_folder import own_folder

_KIND = "compiled"
_DIGEST = hashlib.sha256().digest_size


class CompileCache(_Cache):  # type: ignore[misc] # Numba has no types of its own
    """Keeps the machine code of one function made of `sources`, by signature and processor."""

    def __init__(self, name: str, sources: Iterable[str]) -> None:
        versions = (numba.__version__, llvmlite.__version__, sys.version, sys.platform)
        self._made_of = "\0".join([name, *versions, *sources])
        self._name = name
        self._enabled = True

    @property
    def cache_path(self) -> str | None:
        """Give the folder, or None where code cannot be kept."""
        folder = own_folder(_KIND)
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
        folder = own_folder(_KIND) if self._enabled else None
        if folder is None:
            return None
        made_of = f"{self._made_of}\0{sig}\0{codegen.magic_tuple()}"
        return folder / f"{self._name}-{hashlib.sha256(made_of.encode()).hexdigest()}"
