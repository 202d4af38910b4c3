"""Settings of this process in the kernel, the C library and the interpreter, made at the start.

- Not dumpable: no unprivileged process can trace it, its files in /proc belong to root, and it
  leaves no core, since its memory and environment hold the API keys (PR_SET_DUMPABLE in prctl(2),
  ptrace(2)). A program that it starts is dumpable again.
- Freed memory of large bodies goes back to the system (mallopt(3)). By default glibc maps blocks
  above the size of the largest block that was ever freed: after one body of 30 MB, smaller ones
  come from a heap that shrinks only at its end, and each thread has its own heap. Fixed sizes and
  one heap cost a page fault for every 4 KiB of a large block.
- Open files: as many as the connections need.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import sys

import msgspec

from modelplex.records.log import EventLog
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.connection_registry import MAX_OVER_LIMIT

PR_SET_DUMPABLE = 4
LARGE_BLOCK = 1024 * 1024
"""Bytes from which a block is mapped, and the most free memory that the end of the heap keeps."""
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
YOUNG_OBJECTS = 5_000
"""Allocations between two garbage collections. The default of 700 means one every few requests, and
requests leave no cycles; with many more objects a collection takes milliseconds.
"""
YOUNG_COLLECTIONS = 8
"""Of them until one of the middle generation: 40,000 objects, in 2 ms. A large body that is being
read keeps so many alive.
"""
SWITCH_SECONDS = 0.0001
"""How long a thread that parses a large body runs while the event loop waits for the interpreter.
Python's default of 5 ms would delay each step of every other request.
"""
DESCRIPTORS_PER_CONNECTION = 2
"""A client's connection, and the one to the provider that serves it."""
SPARE_DESCRIPTORS = 256
"""For files, the log, idle connections to providers, and Python itself."""
DESCRIPTORS_PER_LISTENER = 2
"""A socket and its lock."""
SPARE_LISTENERS = 16
"""That SPARE_DESCRIPTORS have room for."""


def set_up() -> None:
    become_undumpable()
    return_large_blocks()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_COLLECTIONS, 100)
    sys.setswitchinterval(SWITCH_SECONDS)


def become_undumpable() -> bool:
    """False if the system cannot do it, or refuses."""
    if sys.platform != "linux":
        return False
    try:
        result: int = ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (OSError, AttributeError):  # a libc without prctl, or none that can be loaded
        return False
    return result == 0


def return_large_blocks() -> bool:
    """False if the C library has no such settings."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none, and needs none
        return False
    settings = ((M_MMAP_THRESHOLD, LARGE_BLOCK), (M_TRIM_THRESHOLD, LARGE_BLOCK), (M_ARENA_MAX, 1))
    done: list[bool] = [mallopt(name, value) == 1 for name, value in settings]
    return all(done)


def needed_descriptors(connections: int, *, listeners: int = 0) -> int:
    return DESCRIPTORS_PER_CONNECTION * connections + _fixed(listeners)


def _fixed(listeners: int) -> int:
    more = DESCRIPTORS_PER_LISTENER * max(0, listeners - SPARE_LISTENERS)
    return MAX_OVER_LIMIT + SPARE_DESCRIPTORS + more


def connections_within(descriptors: int, *, listeners: int = 0) -> int:
    """How many connections this many descriptors allow; at least 1."""
    return max(1, (descriptors - _fixed(listeners)) // DESCRIPTORS_PER_CONNECTION)


def within_descriptors(limits: ConnectionLimits, log: EventLog, *, listeners: int = 0) -> ConnectionLimits:
    """Allow fewer connections if the process may not open as many files, which is logged: without a
    free descriptor it could accept no connection.
    """
    needed = needed_descriptors(limits.max_connections, listeners=listeners)
    allowed = raise_descriptors(needed)
    if allowed >= needed:
        return limits
    fitting = connections_within(allowed, listeners=listeners)
    log.warning(
        "too few file descriptors for [server] max_connections",
        needed=needed,
        allowed=allowed,
        connections=fitting,
    )
    return msgspec.structs.replace(limits, max_connections=fitting)


def allow_listeners(listeners: int, *, connections: int = 0) -> None:
    """Raise the limit of open files for so many, beside the connections of this process."""
    raise_descriptors(needed_descriptors(connections, listeners=listeners))


def raise_descriptors(needed: int) -> int:
    """Raise this process's limit of open files to `needed`, as far as allowed. Returns the limit;
    it is never lowered.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    allowed = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(soft, allowed)
