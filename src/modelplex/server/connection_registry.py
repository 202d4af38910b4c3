"""The open connections and running exchanges of a process. One timer checks the deadlines of all
connections, so that a request needs no timer of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelplex.server.admission import HeadMemory
from modelplex.server.connection_limits import LINGER_SECONDS, ConnectionLimits
from modelplex.server.connection_refusals import ConnectionRefusal
from modelplex.server.connection_shares import ConnectionShares, bounds
from modelplex.server.http_exchange import HttpExchange
from modelplex.server.unread_responses import UnreadResponses

READ_SIZE = 64 * 1024
"""Bytes that are read from a connection at a time."""
MAX_OVER_LIMIT = 256
"""Connections above the limit that get a refusal. Further ones are aborted."""

if TYPE_CHECKING:
    from modelplex.server.connection import Connection


class ConnectionRegistry:
    def __init__(self, *, limits: ConnectionLimits, loop: asyncio.AbstractEventLoop) -> None:
        self.limits = limits
        self.loop = loop
        self.open: set[Connection] = set()
        self.shares = ConnectionShares(
            bounds(
                limits.max_connections,
                per_listener=limits.max_connections_per_listener,
                per_caller=limits.max_connections_per_caller,
                reserved=limits.reserved_connections,
            )
        )
        self.heads = HeadMemory()
        self.unread = UnreadResponses(limits)
        self.refused: set[Connection] = set()
        """Open connections above the limit, which get a refusal."""
        self.report_refusal: Callable[[object, ConnectionRefusal], None] = _ignore
        """Called with the `client` of a connection, for a request that did not reach the app."""
        self.read_buffer = memoryview(bytearray(READ_SIZE))
        """Shared by all connections: what is read is used before the next read."""
        self.running: set[HttpExchange] = set()
        self.draining = False
        self.all_closed = asyncio.Event()
        """Set when the last connection closes while draining."""
        self.all_ended = asyncio.Event()
        """Set when the last request ends while draining."""
        shortest = min(
            limits.header_timeout, limits.body_timeout, limits.keep_alive, limits.unread_grace, LINGER_SECONDS
        )
        self.sweep_seconds = min(1.0, shortest / 4)
        self.sweeper: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        draining = ", draining" if self.draining else ""
        return f"<ConnectionRegistry {len(self.open)} open, {len(self.running)} running{draining}>"

    def add(self, connection: Connection) -> None:
        self.open.add(connection)
        # The timer runs only while there are connections: an idle process sleeps.
        if self.sweeper is None:
            self.sweeper = self.loop.call_later(self.sweep_seconds, self.sweep)

    def refuse(self, connection: Connection, refusal: ConnectionRefusal) -> None:
        """Of a connection above the limit."""
        if len(self.refused) < MAX_OVER_LIMIT:
            self.refused.add(connection)
            connection.refuse(refusal)
        else:
            self.report_refusal(connection.state["client"], refusal)
            connection.transport.abort()

    def remove(self, connection: Connection) -> None:
        self.open.discard(connection)
        self.refused.discard(connection)
        if self.draining and not self.open:
            self.all_closed.set()

    def ended(self, exchange: HttpExchange) -> None:
        """The app of a running exchange has ended."""
        self.running.discard(exchange)
        if self.draining and not self.running:
            self.all_ended.set()

    def sweep(self) -> None:
        now = self.loop.time()
        for late in [each for each in self.open if each.deadline <= now]:
            late.expire(now)
        if self.unread:
            self.unread.abort_expired(now)
        self.sweeper = self.loop.call_later(self.sweep_seconds, self.sweep) if self.open else None


def _ignore(client: object, refusal: ConnectionRefusal) -> None:
    del client, refusal
