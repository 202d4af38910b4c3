"""Makes the C library give back the memory of large bodies. Above it stands `serve`; below it
glibc's mallopt(3).

By itself glibc raises the size from which a block is mapped, and so returned when it is freed, to
that of the largest block that was ever freed. After one body of 30 MB, smaller ones are cut from a
heap that shrinks only at its end, and each thread gets a heap of its own: memory that is free stays
with the process. Fixed sizes and one heap cost a page fault for every 4 KiB of a large block.
"""

from __future__ import annotations

import ctypes
import sys

LARGE = 1024 * 1024
"""Bytes. From here on a block is mapped; and so much free memory at most stays at the end of the
heap.
"""
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8


def return_large_blocks() -> bool:
    """False where the system's C library has no such settings."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none, and needs none
        return False
    wanted = ((M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, LARGE), (M_ARENA_MAX, 1))
    done: list[bool] = [mallopt(name, value) == 1 for name, value in wanted]
    return all(done)
