"""The listeners of a process: all bound or none, drained, stopped.

It knows no signals and no config. The app finds in `exchange.connection.state`:

    listener   "tcp:127.0.0.1:11435" | "unix:/path" | "vsock:PORT"
    kind       "tcp" | "unix" | "vsock" | "admin"
    client     callers.ClientConnection: who is at the other end, identified once per connection
    stopping   asyncio.Event: set when running responses must end now, each with an error in its own
               protocol
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from modelplex.config import Config as Settings
from modelplex.core.caller import Kind
from modelplex.server.address import Address, ListenError, Tcp, Unix, Vsock
from modelplex.server.callers import CallerResolver, ClientConnection, share_owner
from modelplex.server.connection import Connection
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.connection_registry import ConnectionRegistry
from modelplex.server.http_exchange import App
from modelplex.server.socket_file import BACKLOG, NO_CLEANUP, SocketFile, claim

STOPPING_SECONDS = 2.0
"""After `stopping`: for responses to write their error, and for clients to read it."""

CANCELLED_SECONDS = 1.0
"""After their connections are closed: for app tasks to notice, and again to end when cancelled."""

TCP_KEEPALIVE = tuple(
    (getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
    if hasattr(socket, name)  # not every system has every one
)
"""A client whose machine is gone sends no FIN. After two minutes of silence the kernel closes the
connection, and its upstream request ends.
"""

NOT_LOCAL = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""Errors for an address that this machine does not have. They are ignored for a host name if
another of its addresses can be bound.
"""

BIND_FAULTS = {
    errno.EADDRINUSE: "is in use by another process; choose another port or stop that process",
    errno.EADDRNOTAVAIL: "is not an address of this machine",
    errno.EACCES: "needs a privilege that this process does not have; ports from 1024 up do not",
}


class BoundSocket:
    """One bound socket, with its file if it has one, and its server once it is served."""

    def __init__(self, address: Address, bound: socket.socket | SocketFile) -> None:
        self.address = address
        self.file = bound if isinstance(bound, SocketFile) else None
        self.socket = bound.socket if isinstance(bound, SocketFile) else bound
        self.server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<BoundSocket {self.address.name}>"

    @property
    def url(self) -> str:
        return f"http://{self.address}" if isinstance(self.address, Tcp) else self.address.name

    def publish(self) -> None:
        if self.file is not None:
            self.file.publish()

    def close(self) -> None:
        """Remove the file first, so that no client finds a dead socket; release its lock last."""
        if self.file is not None:
            self.file.remove()
        # The loop owns a served socket and closes it with the server.
        if self.server is not None:
            self.server.close()
        else:
            self.socket.close()
        if self.file is not None:
            self.file.release()


class Listening:
    """What `listen` started. `addresses` has "http://127.0.0.1:11435" or "unix:/path", with the
    real port numbers.
    """

    def __init__(
        self, sockets: list[BoundSocket], *, traffic: ConnectionRegistry, stopping: asyncio.Event
    ) -> None:
        self.sockets = sockets
        self.traffic = traffic
        self.stopping = stopping
        self._drain_skipped = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Listening on {', '.join(self.addresses)}: {self.traffic!r}>"

    @property
    def addresses(self) -> list[str]:
        """Without those of runs, which come and go."""
        return [
            each.url
            for each in self.sockets
            if not isinstance(each.address, Unix) or each.address.run is None
        ]

    async def drain(self) -> None:
        """Accept no more, let running requests end within the drain timeout, then set `stopping`,
        then abort the rest. Idempotent.
        """
        traffic = self.traffic
        if traffic.draining:
            return
        traffic.draining = True
        for each in self.sockets:
            each.close()
        for connection in tuple(traffic.open):
            connection.close_when_idle()
        await self._drained_or_skipped(traffic.limits.drain_timeout)
        self.stopping.set()
        await self._drained(STOPPING_SECONDS)
        for connection in tuple(traffic.open):
            connection.transport.abort()
        await self._drained(CANCELLED_SECONDS)
        for exchange in tuple(self.traffic.running):
            if exchange.task is not None:
                exchange.task.cancel()
        await self._drained(CANCELLED_SECONDS)

    async def wait_unless_skipped(self, seconds: float) -> None:
        """The time before the drain, in which requests are still accepted."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._drain_skipped.wait()

    def skip_drain(self) -> None:
        """End the drain timeout: running requests must end now."""
        self._drain_skipped.set()

    async def _drained_or_skipped(self, seconds: float) -> None:
        waits = {
            asyncio.create_task(self._drained(seconds)),
            asyncio.create_task(self._drain_skipped.wait()),
        }
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        await asyncio.wait(waits)

    async def _drained(self, seconds: float) -> None:
        """Wait until no request runs and no connection is open, at most `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if self.traffic.running:
                    await self.traffic.all_ended.wait()
                if self.traffic.open:
                    await self.traffic.all_closed.wait()


KINDS: Mapping[type[Address], Kind] = {Tcp: "tcp", Unix: "unix", Vsock: "vsock"}


async def bind_all(addresses: Sequence[Address], *, may_be_none: bool = False) -> list[BoundSocket]:
    """Bind every address. Raises ListenError if one cannot be bound; then none is."""
    if not addresses and not may_be_none:
        raise ListenError("there is no address to listen on.")
    loop = asyncio.get_running_loop()
    sockets: list[BoundSocket] = []
    try:
        for address in addresses:
            sockets += await bind(address, loop=loop)
    except BaseException:
        close_all(sockets)
        raise
    return sockets


async def listen(
    app: App,
    addresses: Sequence[Address],
    *,
    limits: ConnectionLimits,
    callers: CallerResolver | None = None,
    may_be_none: bool = False,
) -> Listening:
    """Bind every address and serve `app` on all of them. Raises ListenError if one cannot be bound;
    then none is. The default `callers` know no agents. `may_be_none`: addresses may come later.
    """
    callers = callers or CallerResolver(Settings())
    return await serve_all(
        app, await bind_all(addresses, may_be_none=may_be_none), limits=limits, callers=callers
    )


async def serve_all(
    app: App, sockets: list[BoundSocket], *, limits: ConnectionLimits, callers: CallerResolver
) -> Listening:
    """Serve `app` on bound sockets, and publish their files: before ports are served, so that
    whoever gets an answer of /health finds the sockets. If that fails they are closed.
    """
    loop = asyncio.get_running_loop()
    try:
        listening = Listening(
            sockets, traffic=ConnectionRegistry(limits=limits, loop=loop), stopping=asyncio.Event()
        )
        for each in sorted(sockets, key=lambda each: each.file is None):
            each.server = await serve(each, app, listening=listening, loop=loop, callers=callers)
            each.publish()
    except BaseException:
        close_all(sockets)
        raise
    return listening


def close_all(sockets: Sequence[BoundSocket]) -> None:
    for each in sockets:
        each.close()


async def bind(address: Address, *, loop: asyncio.AbstractEventLoop) -> list[BoundSocket]:
    """Raises ListenError."""
    match address:
        case Unix():
            return [BoundSocket(address, claim(address))]
        case Tcp():
            return await bind_host(address, loop=loop)
        case Vsock():
            return [BoundSocket(address, bind_vsock(address))]


async def bind_host(address: Tcp, *, loop: asyncio.AbstractEventLoop) -> list[BoundSocket]:
    """Bind each address of a host name, such as `localhost`, that this machine has. Raises
    ListenError.
    """
    try:
        found = await loop.getaddrinfo(
            address.host,
            address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV,
        )
    except (socket.gaierror, UnicodeError) as fault:
        raise ListenError(f"cannot listen on {address}: the host name is not known ({fault}).") from None
    sockets: list[BoundSocket] = []
    refused: OSError | None = None
    port = address.port
    for family, where in dict.fromkeys((family, where) for family, _, _, _, where in found):
        try:
            bound = bind_tcp(family, (where[0], port, *where[2:]))
        except OSError as fault:
            refused = fault
            if fault.errno in NOT_LOCAL:
                continue
            break
        # For port 0 the system chooses once, and the other addresses get the same port.
        host, port = bound.getsockname()[:2]
        sockets.append(BoundSocket(Tcp(host=host, port=port), bound))
    if refused is None or (sockets and refused.errno in NOT_LOCAL):
        return sockets
    for each in sockets:
        each.close()
    raise _bind_error(address, refused)


def _bind_error(address: Tcp | Vsock, fault: OSError) -> ListenError:
    reason = BIND_FAULTS.get(fault.errno or 0, f"cannot be listened on: {fault.strerror}")
    return ListenError(f"{address} {reason}.")


def share_port(bound: BoundSocket) -> BoundSocket:
    """Another socket on the same port: the kernel gives each a part of the connections. The port
    was bound without SO_REUSEPORT, so that no other process had it.
    """
    first = bound.socket
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return BoundSocket(bound.address, bind_tcp(first.family, first.getsockname(), shared=True))


def bind_tcp(family: int, where: tuple[Any, ...], *, shared: bool = False) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Only among workers SO_REUSEPORT: a second gateway on the port would silently get half of
        # the requests.
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit these. Without TCP_NODELAY a small body waits 40 ms for the
        # acknowledgement of its head.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in TCP_KEEPALIVE:
            bound.setsockopt(socket.IPPROTO_TCP, option, value)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(where)
        bound.listen(BACKLOG)
    except BaseException:
        bound.close()
        raise
    return bound


def bind_vsock(address: Vsock) -> socket.socket:
    """A socket that every virtual machine of this host can reach. Raises ListenError, also if the
    system has no AF_VSOCK.
    """
    family = getattr(socket, "AF_VSOCK", None)
    if family is None:
        raise ListenError(f"cannot listen on {address}: this system has no AF_VSOCK.")
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError as fault:
        raise ListenError(
            f"cannot listen on {address}: the kernel has no AF_VSOCK ({fault.strerror}); its module is vhost_vsock."
        ) from None
    try:
        bound.bind((socket.VMADDR_CID_ANY, address.port))
        bound.listen(BACKLOG)
    except OSError as fault:
        bound.close()
        raise _bind_error(address, fault) from None
    return bound


def as_unix_socket(bound: socket.socket) -> socket.socket:
    """The same descriptor as a Unix socket. Event loops know streams of TCP and of Unix sockets
    only, and set options of TCP that AF_VSOCK refuses.
    """
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=bound.detach())


async def serve(
    bound: BoundSocket,
    app: App,
    *,
    listening: Listening,
    loop: asyncio.AbstractEventLoop,
    callers: CallerResolver,
) -> asyncio.Server:
    address = bound.address
    kind: Kind = "admin" if isinstance(address, Unix) and address.admin else KINDS[type(address)]
    state = {"listener": address.name, "kind": kind, "stopping": listening.stopping}
    agent, run = (address.agent, address.run) if isinstance(address, Unix) else ("", None)

    def identify(transport: asyncio.Transport) -> tuple[ClientConnection, str]:
        peer = transport.get_extra_info("peername") if kind == "tcp" else None
        client = callers.identify(
            transport.get_extra_info("socket"),
            listener=address.name,
            kind=kind,
            client=str(peer[0]) if peer else "",
            agent=agent,
            run=run,
        )
        return client, share_owner(client.caller)

    def accept() -> Connection:
        return Connection(app, traffic=listening.traffic, state=state, identify=identify)

    if isinstance(address, Tcp):
        return await loop.create_server(accept, sock=bound.socket, backlog=BACKLOG)
    if isinstance(address, Vsock):
        bound.socket = as_unix_socket(bound.socket)
    return await loop.create_unix_server(accept, sock=bound.socket, backlog=BACKLOG, **NO_CLEANUP)
