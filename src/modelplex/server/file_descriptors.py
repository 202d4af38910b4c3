"""The process's limit of open files, raised to what its connections need."""

from __future__ import annotations

import resource

from modelplex.server.connection import MAX_OVER_LIMIT

DESCRIPTORS_PER_CONNECTION = 2
"""A client's connection, and the one to the provider that serves it."""
SPARE_DESCRIPTORS = 256
"""For files, listeners, the log, kept connections to providers, and what Python opens for itself.
"""


def needed_descriptors(connections: int) -> int:
    return DESCRIPTORS_PER_CONNECTION * connections + MAX_OVER_LIMIT + SPARE_DESCRIPTORS


def connections_within(descriptors: int) -> int:
    """How many connections so many descriptors allow; at least 1."""
    return max(1, (descriptors - MAX_OVER_LIMIT - SPARE_DESCRIPTORS) // DESCRIPTORS_PER_CONNECTION)


def raise_descriptors(needed: int) -> int:
    """Raise this process's own limit of open files to `needed`, as far as it may. Returns the new
    limit; it is never lowered.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    allowed = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(soft, allowed)
