"""Memory for unusually large request heads, bounded for the whole process."""

from __future__ import annotations

USUAL_HEAD = 16_384
"""Bytes of a head that are not counted; neither are USUAL_HEADERS headers. Clients send less."""
USUAL_HEADERS = 256
HEADER_COST = 160
"""Bytes that a header takes beside its own: a short one is mostly that."""
MAX_HEADS = 16 * 1024 * 1024
"""Bytes of all larger heads together, unfinished or of running requests. At the largest size that
is usual, thousands of them would otherwise take hundreds of megabytes.
"""


class HeadMemory:
    """What the larger heads of all connections take."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0

    def __repr__(self) -> str:
        return f"<HeadMemory {self.used} of {MAX_HEADS} bytes>"


class HeadReservation:
    """What the heads of one connection take of it."""

    __slots__ = ("_memory", "_size")

    def __init__(self, memory: HeadMemory) -> None:
        self._memory = memory
        self._size = 0

    def fits(self, size: int, *, headers: int) -> bool:
        """Count a head of so many bytes and headers, where that is unusually large. False where
        there is no memory for it.
        """
        weight = size + HEADER_COST * headers
        if weight > USUAL_HEAD + HEADER_COST * USUAL_HEADERS:
            self._memory.used += weight - self._size
            self._size = weight
        return self._memory.used <= MAX_HEADS

    def release(self) -> None:
        self._memory.used -= self._size
        self._size = 0
