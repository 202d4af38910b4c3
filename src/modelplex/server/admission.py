"""Admission control of memory: bodies of each caller, and unusually large heads. Pure.

A body counts from its head on, with the declared length, or with what has arrived if none is
declared, until its request is over. A caller has at most its share, and must leave as much free as
it takes: however many callers use up their shares, the next caller's body still fits.
"""

from __future__ import annotations

from collections.abc import Callable

from modelplex.core.errors import AgentLimited, Busy

RETRY_AFTER = 1.0
"""Seconds that a refusal suggests: the time of a short request. When one ends is not known."""

LARGE_BODIES = 4 * 1024 * 1024
"""Bytes of all bodies that are held at a time. What was made of them may be much larger; what was
made of less takes at most some megabytes, which the next ones use again.
"""
USUAL_HEAD = 16_384
"""Bytes of a head that are not counted; neither are USUAL_HEADERS headers. Clients send less."""
USUAL_HEADERS = 256
HEADER_COST = 160
"""Bytes of memory for a header beside its text: most of what a short one takes."""
MAX_HEADS = 16 * 1024 * 1024
"""Bytes of all larger heads, incomplete or of running requests. Thousands of the largest size that
is allowed would take hundreds of megabytes.
"""


class BodyMemory:
    """The body bytes of a process. `share` is the most for one caller, `total` for all.
    `on_large_release` is called when one of LARGE_BODIES is released.
    """

    __slots__ = ("_held", "_on_large_release", "share", "total", "used")

    def __init__(
        self, *, total: int, share: int, on_large_release: Callable[[], None] = lambda: None
    ) -> None:
        self.total = total
        self.share = share
        self._on_large_release = on_large_release
        self.used = 0
        self._held: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<BodyMemory {self.used} of {self.total} bytes, {len(self._held)} callers>"

    def configure(self, *, total: int, share: int) -> None:
        """Use these limits from now on. What is held stays."""
        self.total, self.share = total, share

    def grow(self, owner: str, size: int) -> None:
        """Count `size` more bytes for this caller. Raises AgentLimited above the caller's share,
        and Busy if they would leave too little for other callers.
        """
        held = self._held.get(owner, 0) + size
        if held > self.share:
            raise AgentLimited(
                f"Your requests that are running have {held} bytes of bodies together, and may have {self.share} "
                "([server] max_body_memory_per_caller). Try again when one of them has ended.",
                code="too_many_body_bytes",
                retry_after=RETRY_AFTER,
            )
        used = self.used + size
        if held > self.total - used:
            raise Busy(
                f"The bodies of running requests have {self.used} bytes together, of {self.total} ([server] max_body_memory), "
                f"and {size} more would leave too little room for other callers. Try again in a moment.",
                code="body_memory_full",
                retry_after=RETRY_AFTER,
            )
        self._held[owner] = held
        self.used = used

    def shrink(self, owner: str, size: int) -> None:
        left = self._held[owner] - size
        if self.used >= LARGE_BODIES:
            self._on_large_release()
        self.used -= size
        if left:
            self._held[owner] = left
        else:
            del self._held[owner]


class Reservation:
    """The body bytes of one request."""

    __slots__ = ("_memory", "_owner", "size")

    def __init__(self, memory: BodyMemory, owner: str) -> None:
        self._memory = memory
        self._owner = owner
        self.size = 0

    def __repr__(self) -> str:
        return f"<Reservation of {self.size} bytes for {self._owner}>"

    def reach(self, size: int) -> None:
        """Hold `size` bytes in all. Raises AgentLimited or Busy, as `BodyMemory.grow`."""
        if size > self.size:
            self._memory.grow(self._owner, size - self.size)
            self.size = size

    def release(self) -> None:
        """Hold nothing. Idempotent."""
        if self.size:
            self._memory.shrink(self._owner, self.size)
            self.size = 0


class HeadMemory:
    """The bytes of the large heads of all connections."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0

    def __repr__(self) -> str:
        return f"<HeadMemory {self.used} of {MAX_HEADS} bytes>"


class HeadReservation:
    """The bytes of the large heads of one connection."""

    __slots__ = ("_memory", "size")

    def __init__(self, memory: HeadMemory) -> None:
        self._memory = memory
        self.size = 0

    def fits(self, size: int, *, headers: int) -> bool:
        """Count a head of so many bytes and headers, if it is large. False if there is no memory
        for it.
        """
        weight = size + HEADER_COST * headers
        if weight > USUAL_HEAD + HEADER_COST * USUAL_HEADERS:
            self._memory.used += weight - self.size
            self.size = weight
        return self._memory.used <= MAX_HEADS

    def release(self) -> None:
        self._memory.used -= self.size
        self.size = 0
