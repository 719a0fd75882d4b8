"""The driver of a run gives memory back as soon as it is freed; imported before pyarrow, which chooses its allocator then."""

import ctypes
import os
from contextlib import suppress

LARGE = 1 << 19
"""Bytes of an array that goes back to the system at once."""
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of malloc.h
ALLOCATOR = "ARROW_DEFAULT_MEMORY_POOL"


def free_at_once() -> None:
    """From now on this process gives large arrays back to the system as soon as they are freed; tables too, where pyarrow was not
    imported before. Allocators keep them for what comes next, and the peaks of several stages would stand beside one another.

    Processes that this one starts are as they were: who works on pictures and tensors makes the same large arrays over and over.
    """
    with suppress(AttributeError):  # glibc alone has it
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)  # each thread that reads would keep some of its own
    told = os.environ.get(ALLOCATOR)
    os.environ.setdefault(ALLOCATOR, "system")
    import pyarrow as pa

    pa.default_memory_pool()
    if told is None:
        del os.environ[ALLOCATOR]
