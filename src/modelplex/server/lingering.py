"""How long a connection stays open after its end, so that the client gets to read the response.
Pure: the time is an argument.
"""

from __future__ import annotations

LINGER_SECONDS = 2.0
"""How long an ended connection is still read from, for a client in the middle of its body."""

LINGER_BYTES = 48 * 1024 * 1024
"""How much is read and discarded meanwhile: a body somewhat above the usual request limit of 32
MiB.
"""

FLUSH_SECONDS = 30.0
"""How long the rest of a finished response waits for a client that takes no byte of it."""


class Lingering:
    """The input that one connection discards, and the output that it still has to send."""

    __slots__ = ("discarded", "unsent")

    def __init__(self) -> None:
        self.discarded = 0
        self.unsent = 0

    def restart(self, *, unsent: int, now: float) -> float:
        """The connection ends with so many bytes to send. Returns the deadline."""
        self.discarded = 0
        self.unsent = unsent
        return now + (FLUSH_SECONDS if unsent else LINGER_SECONDS)

    def extend(self, *, unsent: int, now: float) -> float | None:
        """The next deadline for a slow client, which has read some of the response; None for one
        that has not.
        """
        if unsent >= self.unsent:
            return None
        self.unsent = unsent
        return now + (FLUSH_SECONDS if unsent else LINGER_SECONDS)

    def discard(self, size: int) -> None:
        self.discarded += size

    @property
    def is_too_much(self) -> bool:
        return self.discarded > LINGER_BYTES
