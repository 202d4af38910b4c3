"""Admission control for request bodies: how many bytes are in memory, for whom, and whether more
may come in. Pure: no clock and no socket.

A body counts from its head, with the length that is declared there, or by what has arrived where
none is declared, until its request is over. One caller has at most its share, and leaves as much
free as it takes: however many callers use up their shares, another one's body still finds room.
"""

from __future__ import annotations

from modelplex.core.errors import AgentLimited, Busy

RETRY_AFTER = 1.0
"""Seconds. Memory is free again when a request ends, which nobody can tell ahead; a second is what
a short one takes.
"""


class BodyMemory:
    """The body bytes of a process. `share` is the most for one caller, `total` for all."""

    __slots__ = ("_held", "share", "total", "used")

    def __init__(self, *, total: int, share: int) -> None:
        self.total = total
        self.share = share
        self.used = 0
        self._held: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<BodyMemory {self.used} of {self.total} bytes, {len(self._held)} callers>"

    def configure(self, *, total: int, share: int) -> None:
        """From here on these limits hold; what is held stays."""
        self.total, self.share = total, share

    def grow(self, owner: str, size: int) -> None:
        """Count `size` bytes more for this caller.

        Raises:
            AgentLimited: the caller has more in flight than its share.
            Busy: the process has no room for it.
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
        """Hold `size` bytes in all. Raises what `BodyMemory.grow` raises."""
        if size > self.size:
            self._memory.grow(self._owner, size - self.size)
            self.size = size

    def release(self) -> None:
        """The body is no longer in memory. The second time it does nothing."""
        if self.size:
            self._memory.shrink(self._owner, self.size)
            self.size = 0
