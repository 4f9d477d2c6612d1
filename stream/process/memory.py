"""Memory of a worker whose work comes in polls: collected seldom, and kept between two polls."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_ALLOCATIONS = 10_000
# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_KEPT_BYTES = 64 << 20


@contextmanager
def stays_for_good() -> Iterator[None]:
    """
    Keep the garbage collector from what is made inside, which lives as long as the process.

    To go through modules again and again while more are imported takes a tenth of that time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def calm_memory() -> None:
    """
    Keep the garbage collector and the allocator from working against polls; for the process's life.

    What a poll makes goes when its output is out: Python would look for more every 700 allocations
    and find nothing. It must not look too seldom either, as what it finds may hold arrays of some
    megabytes. These would be given back to the system and faulted in again, which took 4 % of a
    worker's time.
    """
    gc.collect()
    gc.freeze()  # what a worker starts with lives as long as it
    gc.set_threshold(_ALLOCATIONS, 20, 20)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc has it
        for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD):
            mallopt(option, _KEPT_BYTES)
