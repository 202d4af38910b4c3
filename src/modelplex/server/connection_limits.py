"""The limits of a client connection that the config sets. Constants that nobody configures stand
beside the code that applies them.
"""

from __future__ import annotations

import msgspec


class ConnectionLimits(msgspec.Struct, frozen=True):
    """Times in seconds, sizes in bytes. A deadline is enforced at most a quarter of itself, or one
    second, too late.
    """

    max_header_size: int = 65536
    """Request line and headers: room for a client's cookies and long paths."""
    header_timeout: float = 10
    """From the accept, or from the first byte of a later request, to the end of the head."""
    body_timeout: float = 30
    """Without a byte of an incomplete body while the gateway is ready to read it."""
    min_body_rate: int = 32_768
    """Bytes per second, averaged from the head on and enforced once `body_timeout` has passed: a
    client that trickles its body holds memory. 0 is no bound.
    """
    keep_alive: float = 75
    """Between requests. Most clients' pools close after a minute; they should close first."""
    max_connections: int = 2048
    max_connections_per_listener: int | None = None
    max_connections_per_caller: int | None = None
    reserved_connections: int | None = None
    """For HTTP. None is a fraction of `max_connections`; connection_shares.py has the fractions."""
    unread_timeout: float = 120
    """Without a byte taken of a response that waits to be sent: longer than a client pauses that
    still wants it.
    """
    unread_grace: float = 5
    """A caller's unread responses are not counted for so long."""
    unread_connections: int = 64
    """Connections of one caller with a response unread for longer than the grace. Each holds what
    was read of its provider in the meantime, about 2 MB.
    """
    unread_bytes: int = 134_217_728
    """Of such responses of one caller together: two of the largest usual size."""
    drain_timeout: float = 30
    """For running requests to end by themselves when the gateway stops."""
