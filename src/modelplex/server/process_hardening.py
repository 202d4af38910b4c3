"""Closes this process to the others of its user: its memory and its environment hold the keys.
Above it stands `serve`; below it the kernel.

A process that is not dumpable can be traced by nobody without privilege, what it has below /proc
belongs to root, and it leaves no core. Source: PR_SET_DUMPABLE in prctl(2), and ptrace(2). A
program that it starts is dumpable again.
"""

from __future__ import annotations

import ctypes
import sys

PR_SET_DUMPABLE = 4


def become_undumpable() -> bool:
    """False where the system has no such thing, or refuses."""
    if sys.platform != "linux":
        return False
    try:
        refused: int = ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (OSError, AttributeError):  # a libc without prctl, or none that can be loaded
        return False
    return refused == 0
