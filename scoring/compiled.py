"""Functions that Numba compiles once, for one signature, and keeps on disk."""

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from inspect import getsource
from types import ModuleType
from typing import Any, TypeVar, cast

from numba import config, njit, types
from numba.core.errors import NumbaError

from scoring.compile_cache import CompileCache

BYTES = types.Array(types.uint8, 1, "C", readonly=True)
LONGS = types.Array(types.int64, 1, "C", readonly=True)
DOUBLES = types.Array(types.float64, 1, "C", readonly=True)
FLAGS = types.Array(types.boolean, 1, "C", readonly=True)
SMALLS = types.Array(types.uint8, 1, "C", readonly=True)
"""Columns that are read: uint8, int64, float64, bool and, for indices, uint8 again."""

BYTES_OUT = types.uint8[::1]
LONGS_OUT = types.int64[::1]
DOUBLES_OUT = types.float64[::1]
FLAGS_OUT = types.boolean[::1]
SMALLS_OUT = types.uint8[::1]
"""Columns that are written."""

STRINGS = (BYTES, LONGS, LONGS)
"""The three columns of ByteStrings."""


_Function = TypeVar("_Function", bound=Callable[..., Any])


class NotCompiled(Exception):
    """Numba does not compile here: says why."""


def part(function: _Function) -> _Function:
    """Have a function compiled as a part of each that calls it."""
    return cast("_Function", njit(function))


def compiled(function: Any, name: str, signature: Any, modules: Iterable[ModuleType]) -> Any:
    """
    Compile a function for one signature, without the GIL; its code is kept under `name`.

    `modules` are all whose code or constants go into it. Raises NotCompiled.
    """
    if config.DISABLE_JIT:
        msg = "NUMBA_DISABLE_JIT is set, so Numba compiles nothing"
        raise NotCompiled(msg)
    made = njit(nogil=True)(function)
    with suppress(OSError):  # without its sources nothing says whose code it is
        made._cache = CompileCache(name, tuple(map(_source, modules)))  # noqa: SLF001 - no other door
    try:
        made.compile(signature)
        made.disable_compile()
    except (NumbaError, RuntimeError) as error:
        msg = f"Numba does not compile here: {error}"
        raise NotCompiled(msg) from None
    return made


@cache
def _source(module: ModuleType) -> str:
    return getsource(module)


_ALL: list["Compiled"] = []


def make_ready() -> None:
    """Compile, or load from disk, every function of the modules that are imported so far."""
    for function in _ALL:
        function.ready()


class Compiled:
    """A function that is compiled when it is first called, or when it is told to be ready."""

    def __init__(
        self, function: Callable[..., Any], signature: Any, modules: Iterable[ModuleType]
    ) -> None:
        self._function = function
        self._signature = signature
        self._modules = (sys.modules[function.__module__], *modules)
        self._made: Any = None
        _ALL.append(self)

    def ready(self) -> Any:
        """Give the machine code's function; raises NotCompiled."""
        if self._made is None:
            name = self._function.__name__.strip("_").replace("_", "-")
            self._made = compiled(self._function, name, self._signature, self._modules)
        return self._made

    def __call__(self, *given: Any) -> Any:
        """Run it; raises NotCompiled where that is the first time and nothing compiles."""
        return (self._made or self.ready())(*given)


def compiles(signature: Any, *modules: ModuleType) -> Callable[[Callable[..., Any]], Compiled]:
    """
    Have a function compiled for one signature when it is first needed.

    `modules` are those beside its own whose code or constants go into it.
    """

    def made(function: Callable[..., Any]) -> Compiled:
        return Compiled(function, signature, modules)

    return made
