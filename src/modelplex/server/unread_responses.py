"""Responses that clients do not read: how long they wait, and which connections are aborted.

An unread response holds memory. A client that reads no byte for `unread_timeout` is disconnected,
and so are the oldest connections of a caller that leaves too much unread.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.connection_shares import ConnectionPlace


class WritingConnection(Protocol):
    transport: asyncio.Transport
    place: ConnectionPlace

    def abort(self, reason: str) -> None: ...


class UnreadResponse(msgspec.Struct):
    """`size` bytes have waited since `since`; the client last read some at `moved`, on the loop's
    clock.
    """

    size: int
    since: float
    moved: float


class UnreadResponses:
    """The connections of a process whose clients have not read what was written, oldest first."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._waiting: dict[WritingConnection, UnreadResponse] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, connection: WritingConnection, *, now: float) -> None:
        size = connection.transport.get_write_buffer_size()
        self._waiting[connection] = UnreadResponse(size, now, now)

    def remove(self, connection: WritingConnection) -> None:
        self._waiting.pop(connection, None)

    def abort_expired(self, now: float) -> None:
        """Abort connections whose clients read nothing, and the oldest ones of a caller above its
        limits.
        """
        limits = self.limits
        late: dict[str, list[WritingConnection]] = {}
        for connection, unread in tuple(self._waiting.items()):
            size = connection.transport.get_write_buffer_size()
            if size < unread.size:
                unread.moved = now
            unread.size = size
            if now - unread.moved >= limits.unread_timeout:
                connection.abort(f"the client read nothing of a response for {limits.unread_timeout:g} s")
            elif now - unread.since >= limits.unread_grace and connection.place.holder is not None:
                late.setdefault(connection.place.holder.caller, []).append(connection)
        for connections in late.values():
            self._abort_oldest(connections)

    def _abort_oldest(self, connections: list[WritingConnection]) -> None:
        held = sum(self._waiting[each].size for each in connections)
        for left, each in zip(range(len(connections), 0, -1), connections, strict=True):
            if left <= self.limits.unread_connections and held <= self.limits.unread_bytes:
                break
            held -= self._waiting[each].size
            each.abort("the caller leaves too many responses unread")
