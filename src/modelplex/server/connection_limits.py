"""The limits of a client connection, and the deadlines of its body and end. Pure: time is an
argument.
"""

from __future__ import annotations

import msgspec

LINGER_SECONDS = 2.0
"""Reading from a connection after its response, for a client that is still sending its body."""
LINGER_BYTES = 48 * 1024 * 1024
"""Bytes that are read and discarded meanwhile: somewhat above the default body limit of 32 MiB."""
FLUSH_SECONDS = 30.0
"""How long the rest of a complete response waits for a client that reads nothing of it."""


class ConnectionLimits(msgspec.Struct, frozen=True):
    """Times in seconds, sizes in bytes. A deadline is enforced late by at most a quarter of itself,
    or one second.
    """

    max_header_size: int = 65536
    """Request line and headers: room for a client's cookies and long paths."""
    header_timeout: float = 10
    """From the accept, or from the first byte of a later request, to the end of the head."""
    body_timeout: float = 30
    """Without a byte of an incomplete body that the gateway is ready to read."""
    min_body_rate: int = 32_768
    """Bytes per second, averaged from the head on, after `body_timeout`: a client that trickles
    its body holds memory. 0 disables it.
    """
    keep_alive: float = 75
    """Between requests. Clients should be the first to close; most do so after a minute."""
    max_connections: int = 2048
    max_connections_per_listener: int | None = None
    max_connections_per_caller: int | None = None
    reserved_connections: int | None = None
    """For HTTP. None is a fraction of `max_connections`: see connection_shares.py."""
    unread_timeout: float = 120
    """Without a byte read of a response that waits to be sent: longer than a client pauses."""
    unread_grace: float = 5
    """For which an unread response is not counted."""
    unread_connections: int = 64
    """Connections of one caller with a response that is unread for longer than the grace. Each
    holds about 2 MB that were read of its provider.
    """
    unread_bytes: int = 134_217_728
    """Of all such responses of one caller: two of the largest default size."""
    drain_timeout: float = 30
    """For running requests to end when the gateway stops."""


class BodyPace:
    """The deadline of an incoming body: no byte for `body_timeout`, or fewer than `min_body_rate`
    per second. `size` counts the bytes since the last restart.
    """

    __slots__ = ("limits", "since", "size")

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.since = 0.0
        self.size = 0

    def restart(self, now: float) -> None:
        """A body starts, or the gateway reads it again after a pause."""
        self.since, self.size = now, 0

    def deadline(self, now: float) -> float:
        limits = self.limits
        silent = now + limits.body_timeout
        if not limits.min_body_rate:
            return silent
        return min(silent, self.since + limits.body_timeout + self.size / limits.min_body_rate)


class Lingering:
    """The end of a connection: it stays open for a while, so that the client can read the response.

    discarded  bytes of input that were read and discarded
    unsent     bytes of output that wait for the client
    """

    __slots__ = ("discarded", "unsent")

    def __init__(self) -> None:
        self.discarded = 0
        self.unsent = 0

    def restart(self, *, unsent: int, now: float) -> float:
        """Start to end, with so many bytes to send. Returns the deadline."""
        self.discarded = 0
        self.unsent = unsent
        return now + (FLUSH_SECONDS if unsent else LINGER_SECONDS)

    def extend(self, *, unsent: int, now: float) -> float | None:
        """The next deadline of a client that has read some of the response; None for one that has
        read nothing.
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
