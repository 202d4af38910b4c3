"""Fair shares of a process's connections: which caller may have one more, and which idle connection
is closed for it. Pure: no clock and no socket.

There are four bounds: for the process, for one caller, for one listener, and for all sockets
together, which reserves the rest for HTTP with the admin API. A caller is an agent, or else a
process or an address. At a bound, the longest idle connection of the caller with the most
connections is closed. No caller loses one to a caller that has as many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

import msgspec

from modelplex.server.request_head import KnownHeads

PER_LISTENER = 2
"""A listener may have one connection in this many."""
PER_CALLER = 4
"""A caller may have one in this many."""
RESERVE = 8
"""One in this many is reserved for HTTP."""


class IdleConnection(Protocol):
    def make_room(self) -> bool:
        """Close now. False if the client still reads a response."""
        ...


class ConnectionBounds(msgspec.Struct, frozen=True):
    """Open connections; `reserved` of `total` are for HTTP only."""

    total: int
    per_listener: int
    per_caller: int
    reserved: int


def bounds(
    total: int,
    *,
    per_listener: int | None = None,
    per_caller: int | None = None,
    reserved: int | None = None,
) -> ConnectionBounds:
    """None stands for the default share of `total`. A share is between 1 and `total`."""

    def share(given: int | None, part: int) -> int:
        return max(1, min(total, total // part if given is None else given))

    return ConnectionBounds(
        total,
        share(per_listener, PER_LISTENER),
        share(per_caller, PER_CALLER),
        min(total - 1, total // RESERVE if reserved is None else reserved),
    )


class ShareHolder:
    """A caller with `count` connections; `idle` has the idle ones, the longest idle first."""

    __slots__ = ("caller", "count", "idle", "known_heads", "listener", "over_http")

    def __init__(self, caller: str, *, listener: str, over_http: bool) -> None:
        self.caller = caller
        self.listener = listener
        self.over_http = over_http
        self.count = 0
        self.idle: dict[IdleConnection, None] = {}
        self.known_heads = KnownHeads()

    def __repr__(self) -> str:
        return f"<ShareHolder {self.caller}: {self.count} connections, {len(self.idle)} idle>"


class ShareRefused(msgspec.Struct, frozen=True):
    """Why there is no room. 429 if the caller has too many connections itself, else 503."""

    status: int
    message: str


class ConnectionShares:
    """The connections of a process."""

    def __init__(self, bounds: ConnectionBounds) -> None:
        self.bounds = bounds
        self.count = 0
        self._sockets = 0
        self._listeners: Counter[str] = Counter()
        self._holders: dict[str, ShareHolder] = {}

    def __repr__(self) -> str:
        return f"<ConnectionShares {self.count} of {self.bounds.total}, {len(self._holders)} callers>"

    def enter(self, caller: str, *, listener: str, over_http: bool) -> ShareHolder | ShareRefused:
        """Count one more connection of this caller, for which an idle one may be closed. `leave`
        undoes it.
        """
        holder = self._holders.get(caller)
        if holder is None:
            holder = ShareHolder(caller, listener=listener, over_http=over_http)
        limits = self.bounds
        if holder.count >= limits.per_caller and not self._make_room(holder, (holder,)):
            return ShareRefused(
                429,
                f"You have {holder.count} connections with a request in progress, and may have {limits.per_caller} connections "
                "([server] max_connections_per_caller). Try again when one of them has ended.",
            )
        if self._listeners[listener] >= limits.per_listener and not self._make_room(
            holder, [each for each in self._holders.values() if each.listener == listener]
        ):
            return _full(limits.per_listener, "this listener", setting="max_connections_per_listener")
        for_sockets = limits.total - limits.reserved
        if (
            not over_http
            and self._sockets >= for_sockets
            and not self._make_room(holder, [each for each in self._holders.values() if not each.over_http])
        ):
            return _full(for_sockets, "sockets")
        if self.count >= limits.total and not self._make_room(holder, self._holders.values()):
            return _full(limits.total, "this gateway")
        self._holders[caller] = holder
        self._add(holder, 1)
        return holder

    def leave(self, holder: ShareHolder, connection: IdleConnection | None = None) -> None:
        """Count one less. `connection` is needed if it may be idle."""
        if connection is not None:
            holder.idle.pop(connection, None)
        self._add(holder, -1)
        if not holder.count:
            self._holders.pop(holder.caller, None)

    def _make_room(self, newcomer: ShareHolder, scope: Iterable[ShareHolder]) -> bool:
        """Close an idle connection of these callers. False if none can be closed."""
        fitting = [each for each in scope if each.idle and (each is newcomer or each.count > newcomer.count)]
        fitting.sort(key=lambda each: each.count, reverse=True)
        return any(connection.make_room() for holder in fitting for connection in tuple(holder.idle))

    def _add(self, holder: ShareHolder, one: int) -> None:
        holder.count += one
        self.count += one
        self._listeners[holder.listener] += one
        if not holder.over_http:
            self._sockets += one


class ConnectionPlace:
    """The place of one connection in its caller's share. `holder` is None before `take`, after a
    refusal, and after `release`. It does not refer to its connection: only the garbage collector
    would free such a cycle.
    """

    __slots__ = ("_shares", "holder")

    def __init__(self, shares: ConnectionShares) -> None:
        self._shares = shares
        self.holder: ShareHolder | None = None

    def take(
        self, connection: IdleConnection, *, caller: str, listener: str, over_http: bool
    ) -> ShareRefused | None:
        """Returns why there is no room, or None. A connection is idle at first."""
        entered = self._shares.enter(caller, listener=listener, over_http=over_http)
        if isinstance(entered, ShareRefused):
            return entered
        self.holder = entered
        self.mark_idle(connection)
        return None

    def mark_idle(self, connection: IdleConnection) -> None:
        """No request is in progress: the connection may be closed for another one."""
        if self.holder is not None:
            self.holder.idle[connection] = None

    def mark_busy(self, connection: IdleConnection) -> None:
        if self.holder is not None:
            self.holder.idle.pop(connection, None)

    def release(self, connection: IdleConnection) -> None:
        """Free the place for another connection. Idempotent."""
        holder, self.holder = self.holder, None
        if holder is not None:
            self._shares.leave(holder, connection)


def _full(limit: int, what: str, *, setting: str = "max_connections") -> ShareRefused:
    return ShareRefused(
        503,
        f"The {limit} connections that {what} may have all have a request in progress ([server] {setting}). "
        "Try again in a moment.",
    )
