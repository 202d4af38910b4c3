"""The client and its pools of connections, by origin."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from modelplex.core.origin import Origin
from modelplex.eager_task import Wakeable, in_asyncio_task
from modelplex.http_client.connection import READ_SIZE, UpstreamConnection
from modelplex.http_client.errors import (
    ConnectFailed,
    ConnectionCut,
    closed_early,
    map_connect_error,
    timed_out,
)
from modelplex.http_client.request import EncodedRequest, Timeouts, encode_head, post_start
from modelplex.http_client.response import HttpResponse

BUFFER_LIMIT = 16 * 1024
"""Default of `max_buffer`: unread body bytes above which a socket is not read."""
IDLE_LIMIT = 64
"""Default of `max_idle_per_origin`: enough for a burst without new handshakes."""
IDLE_SECONDS = 60.0
"""Default of `idle_seconds`: below nginx's default keep-alive of 75 s, so that a reused connection
is seldom closed.
"""
CLOSE_SECONDS = 1.0
"""How long `aclose` waits for aborted connections, which takes one iteration of the loop."""


class HttpClient:
    """A pool of connections by origin, for one event loop.

    `max_idle_per_origin` connections are kept for `idle_seconds`; the one used last is reused
    first, so that an idle pool shrinks. Above `max_buffer` unread body bytes, a socket is not read.
    """

    def __init__(
        self,
        *,
        max_idle_per_origin: int = IDLE_LIMIT,
        idle_seconds: float = IDLE_SECONDS,
        max_buffer: int = BUFFER_LIMIT,
    ) -> None:
        self.max_idle_per_origin = max_idle_per_origin
        self.idle_seconds = idle_seconds
        self.max_buffer = max_buffer
        self.read_buffer = memoryview(bytearray(READ_SIZE))
        """Shared by all connections: what is read is parsed before the next read."""
        self._pools: dict[Origin, ConnectionPool] = {}
        self._contexts: dict[tuple[bool, str | None], ssl.SSLContext] = {}
        self._closed = False
        self.connect_unix: Callable[[str], socket.socket] | None = None
        """Connects to a Unix socket where this process may not; it blocks."""
        self._all_gone: asyncio.Future[None] | None = None

    async def send(
        self,
        origin: Origin,
        *,
        method: bytes = b"POST",
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]] | bytes,
        body: bytes = b"",
        timeouts: Timeouts,
    ) -> HttpResponse:
        r"""Send a request and return when the head of the response was received.

        `headers` as bytes are encoded lines, each ending in `\r\n`. Host and Content-Length are
        added, and refused among the given headers. A kept connection that is lost before the first
        byte of the response is replaced by a new one, once. Cancelling aborts the connection.

        Raises:
            ValueError: HTTP does not allow the method, the target or a header.
            ConnectFailed, TlsFailed: nothing was sent.
            TimedOut: while connecting, writing or waiting for the head.
            ConnectionCut: the connection ended before the head did.
            BadResponse: the head is not HTTP, or exceeds the limits.
        """
        pool = self._pools.get(origin) or self._open_pool(origin)
        head = encode_head(pool.host_line, method, target, headers, len(body))
        request = EncodedRequest(head, body, method == b"HEAD", timeouts)
        return await self._send(pool, request)

    def post_start(self, origin: Origin, *, target: bytes, headers: bytes) -> bytes:
        """What `post` takes for a POST with these header lines. Raises ValueError as `send`."""
        pool = self._pools.get(origin) or self._open_pool(origin)
        return post_start(pool.host_line, target, headers)

    def post(
        self,
        origin: Origin,
        start: bytes,
        body: bytes,
        *,
        timeouts: Timeouts,
        begun: UpstreamConnection | None = None,
    ) -> Coroutine[Any, Any, HttpResponse]:
        """`send` for a POST whose head was prepared by `post_start`. `begun` is the connection on
        which `post_at_once` has written it.
        """
        pool = self._pools.get(origin) or self._open_pool(origin)
        head = b"%b%d\r\n\r\n" % (start, len(body))
        return self._send(pool, EncodedRequest(head, body, False, timeouts), begun)

    def post_at_once(
        self, origin: Origin, start: bytes, body: bytes, *, timeouts: Timeouts, waiter: Wakeable
    ) -> UpstreamConnection | None:
        """Write such a POST on a kept connection, which wakes `waiter` when the head of the
        response was received, or will not be. Returns None, and writes nothing, where no connection
        is kept.
        """
        pool = self._pools.get(origin)
        kept = None if pool is None else pool.take()
        if kept is not None:
            kept.send(EncodedRequest(b"%b%d\r\n\r\n" % (start, len(body)), body, False, timeouts), waiter)
        return kept

    async def _send(
        self, pool: ConnectionPool, request: EncodedRequest, begun: UpstreamConnection | None = None
    ) -> HttpResponse:
        if (kept := begun or pool.take()) is not None:
            try:
                return await (kept.exchange(request) if begun is None else kept.response())
            except ConnectionCut as cut:
                if cut.started:
                    raise
        fresh = await self._connect(pool.origin, request.timeouts.connect)
        return await fresh.exchange(request)

    async def aclose(self) -> None:
        """Abort every connection and refuse new ones. Unfinished responses end in ConnectionCut."""
        self._closed = True
        connections = [connection for pool in self._pools.values() for connection in pool.open]
        for connection in connections:
            connection.fail(closed_early(connection.origin))
        if connections:
            self._all_gone = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_gone], timeout=CLOSE_SECONDS)

    def __repr__(self) -> str:
        pools = ", ".join(
            f"{p.origin}: open={len(p.open)} idle={len(p.idle)}" for p in self._pools.values() if p.open
        )
        return f"<HttpClient {'closed' if self._closed else pools or 'empty'}>"

    def _open_pool(self, origin: Origin) -> ConnectionPool:
        pool = self._pools[origin] = ConnectionPool(origin, self)
        return pool

    def add_connection(self, connection: UpstreamConnection) -> ConnectionPool:
        """Count a new connection."""
        pool = self._pools.get(connection.origin) or self._open_pool(connection.origin)
        pool.open.add(connection)
        return pool

    def remove_connection(self, connection: UpstreamConnection, pool: ConnectionPool) -> None:
        """Forget a closed connection, and the pool of the last one: a reload changes origins."""
        pool.open.discard(connection)
        if not pool.open and self._pools.get(pool.origin) is pool:
            del self._pools[pool.origin]
        waiting = self._all_gone
        if waiting and not waiting.done() and not any(p.open for p in self._pools.values()):
            waiting.set_result(None)

    async def _connect(self, origin: Origin, seconds: float) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        make = partial(UpstreamConnection, origin, self, loop)
        await in_asyncio_task()
        try:
            async with asyncio.timeout(seconds):
                context = await self._context(origin) if origin.tls else None
                name = origin.host if origin.tls else None
                if origin.unix is not None:
                    connection = await self._connect_unix(make, origin.unix, context, name)
                else:
                    _, connection = await loop.create_connection(
                        make, origin.host, origin.port, ssl=context, server_hostname=name
                    )
        except TimeoutError:
            raise timed_out(origin, "connect", seconds) from None
        except (OSError, ValueError) as error:  # a malformed name is a ValueError
            raise map_connect_error(origin, error) from error
        if self._closed:
            connection.fail(closed_early(origin))
            raise ConnectFailed(f"The connection to {origin} was closed: the client is closed.")
        return connection

    async def _connect_unix(
        self,
        make: Callable[[], UpstreamConnection],
        path: str,
        context: ssl.SSLContext | None,
        name: str | None,
    ) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        if self.connect_unix is None:
            _, connection = await loop.create_unix_connection(make, path, ssl=context, server_hostname=name)
        else:
            sock = await asyncio.to_thread(self.connect_unix, path)
            _, connection = await loop.create_unix_connection(
                make, sock=sock, ssl=context, server_hostname=name
            )
        return connection

    async def _context(self, origin: Origin) -> ssl.SSLContext:
        key = (origin.verify, origin.ca_file)
        context = self._contexts.get(key)
        if context is None:  # in a thread: loading the authorities takes 20 ms
            context = await asyncio.to_thread(_tls_context, verify=origin.verify, ca_file=origin.ca_file)
            context = self._contexts.setdefault(key, context)
        return context


class ConnectionPool:
    """The connections of one origin; the last of `idle` was used last."""

    __slots__ = ("client", "host_line", "idle", "open", "origin")

    def __init__(self, origin: Origin, client: HttpClient) -> None:
        self.origin = origin
        self.client = client
        self.host_line = b" HTTP/1.1\r\nhost: %s\r\n" % origin.authority.encode("ascii")
        self.open: set[UpstreamConnection] = set()
        self.idle: list[UpstreamConnection] = []

    def take(self) -> UpstreamConnection | None:
        while self.idle:
            connection = self.idle.pop()
            if not connection.gone and not connection.transport.is_closing():
                return connection
        return None

    def keep(self, connection: UpstreamConnection) -> None:
        self.idle.append(connection)
        if len(self.idle) > self.client.max_idle_per_origin:
            self.idle.pop(0).abort()


def _tls_context(*, verify: bool, ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
