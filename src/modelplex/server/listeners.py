"""All listeners of a process: bound together or not at all, drained, stopped.

Above it the command line, which knows signals and config; below it `connection` and `socket_file`.
The app that it serves is a bare ASGI callable. It does not use uvicorn's own server: that one owns
signals and a main loop, and its Unix sockets are made over whatever stands at the path, and
world-writable.

Of what the app finds in `scope["state"]`:

    listener   "tcp:127.0.0.1:11435" | "unix:/path" | "vsock:PORT"
    kind       "tcp" | "unix" | "vsock"
    met        callers.Met: who is at the other end, found out once a connection
    stopping   asyncio.Event: set when running answers have to end now, each with an error in its
               own protocol
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.utils import get_remote_addr

from modelplex.config import Config as Settings
from modelplex.core.caller import Kind
from modelplex.server.address import Address, ListenError, Tcp, Unix, Vsock, parse_http
from modelplex.server.callers import CallerResolver, ClientConnection, connecting
from modelplex.server.connection import Connection
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.connection_registry import ConnectionRegistry
from modelplex.server.socket_file import BACKLOG, NO_CLEANUP, SocketFile, claim

__all__ = [
    "Address",
    "ConnectionLimits",
    "ListenError",
    "Listening",
    "Tcp",
    "Unix",
    "Vsock",
    "listen",
    "parse_http",
]

LAST_WORDS_SECONDS = 2.0
"""After `stopping`: for answers to write their error, and for clients to take it."""

CANCELLED_SECONDS = 1.0
"""After their connections are gone: for app tasks to see that, and then again to end when
cancelled.
"""

TCP_KEEPALIVE = tuple(
    (getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
    if hasattr(socket, name)  # not every system has every one
)
"""A client whose machine vanished sends no FIN. After two minutes of silence the kernel tells us,
and its upstream request ends.
"""

NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""One of a name's addresses that this machine does not have: no fault where another of them can be
bound.
"""

BIND_FAULTS = {
    errno.EADDRINUSE: "is in use by another process; choose another port or stop that process",
    errno.EADDRNOTAVAIL: "is not an address of this machine",
    errno.EACCES: "needs a privilege that this process does not have; ports from 1024 up do not",
}


class BoundSocket:
    """One bound socket: its file where it has one, and its server once it is served."""

    def __init__(self, address: Address, bound: socket.socket | SocketFile) -> None:
        self.address = address
        self.file = bound if isinstance(bound, SocketFile) else None
        self.socket = bound.socket if isinstance(bound, SocketFile) else bound
        self.server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<Door {self.address.name}>"

    @property
    def url(self) -> str:
        return f"http://{self.address}" if isinstance(self.address, Tcp) else self.address.name

    def publish(self) -> None:
        if self.file is not None:
            self.file.publish()

    def shut(self) -> None:
        """The file first, so that nobody finds a socket that refuses; its lock last."""
        if self.file is not None:
            self.file.remove()
        # A served socket belongs to the loop, which closes it with the server.
        if self.server is not None:
            self.server.close()
        else:
            self.socket.close()
        if self.file is not None:
            self.file.release()


class Listening:
    """What `listen` started. `addresses`: "http://127.0.0.1:11435", "unix:/path", with true port
    numbers.
    """

    def __init__(
        self, doors: list[BoundSocket], *, traffic: ConnectionRegistry, stopping: asyncio.Event
    ) -> None:
        self.addresses = [door.url for door in doors]
        self.doors = doors
        self.traffic = traffic
        self.stopping = stopping
        self.hurried = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Listening on {', '.join(self.addresses)}: {self.traffic!r}>"

    async def drain(self) -> None:
        """Accept no more, let running requests end within the drain timeout, then tell them to,
        then cut them. Idempotent.
        """
        traffic = self.traffic
        if traffic.draining:
            return
        traffic.draining = True
        for door in self.doors:
            door.shut()
        for connection in tuple(traffic.open):
            connection.close_when_idle()
        await self.settle_unless_hurried(traffic.limits.drain_timeout)
        self.stopping.set()
        await self.settle(LAST_WORDS_SECONDS)
        for connection in tuple(traffic.open):
            connection.transport.abort()
        await self.settle(CANCELLED_SECONDS)
        for task in self.tasks():
            task.cancel()
        await self.settle(CANCELLED_SECONDS)

    def hurry(self) -> None:
        """Cut the drain timeout short: what still runs is told to end now."""
        self.hurried.set()

    async def settle_unless_hurried(self, seconds: float) -> None:
        settling = asyncio.create_task(self.settle(seconds))
        hurried = asyncio.create_task(self.hurried.wait())
        await asyncio.wait({settling, hurried}, return_when=asyncio.FIRST_COMPLETED)
        for task in (settling, hurried):
            task.cancel()
        await asyncio.wait({settling, hurried})

    def tasks(self) -> set[asyncio.Task[None]]:
        return {each.task for each in self.traffic.running if each.task is not None}

    async def settle(self, seconds: float) -> None:
        """Wait until nothing runs and nobody is connected, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while tasks := self.tasks():
                    await asyncio.wait(tasks)
                if self.traffic.open:
                    await self.traffic.all_closed.wait()


KINDS: Mapping[type[Address], Kind] = {Tcp: "tcp", Unix: "unix", Vsock: "vsock"}


async def listen(
    app: ASGI3Application,
    addresses: Sequence[Address],
    *,
    limits: ConnectionLimits,
    callers: CallerResolver | None = None,
) -> Listening:
    """Bind every address, or none: ListenError says in a sentence which could not be bound, and
    why. Then serve `app` on all.

    Without `callers` they are those of a config that names no agents.
    """
    if not addresses:
        raise ListenError("there is no address to listen on.")
    callers = callers or CallerResolver(Settings())
    loop = asyncio.get_running_loop()
    doors: list[BoundSocket] = []
    try:
        for address in addresses:
            doors += await open_doors(address, loop=loop)
        listening = Listening(
            doors, traffic=ConnectionRegistry(limits=limits, loop=loop), stopping=asyncio.Event()
        )
        for door in doors:
            door.server = await serve_at(door, app, listening=listening, loop=loop, callers=callers)
        for door in doors:
            door.publish()
    except BaseException:
        for door in doors:
            door.shut()
        raise
    return listening


async def open_doors(address: Address, *, loop: asyncio.AbstractEventLoop) -> list[BoundSocket]:
    match address:
        case Unix():
            return [BoundSocket(address, claim(address))]
        case Tcp():
            return await open_tcp(address, loop=loop)
        case Vsock():
            return [BoundSocket(address, bind_vsock(address))]


async def open_tcp(address: Tcp, *, loop: asyncio.AbstractEventLoop) -> list[BoundSocket]:
    """A name such as `localhost` stands for several addresses; those that this machine does not
    have are left out.
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
    doors: list[BoundSocket] = []
    refused: OSError | None = None
    port = address.port
    for family, where in dict.fromkeys((family, where) for family, _, _, _, where in found):
        try:
            bound = bind_tcp(family, (where[0], port, *where[2:]))
        except OSError as fault:
            refused = fault
            if fault.errno in NOT_HERE:
                continue
            break
        # With port 0 the first to be bound chooses for all.
        host, port = bound.getsockname()[:2]
        doors.append(BoundSocket(Tcp(host=host, port=port), bound))
    if refused is None or (doors and refused.errno in NOT_HERE):
        return doors
    for door in doors:
        door.shut()
    reason = BIND_FAULTS.get(refused.errno or 0, f"cannot be listened on: {refused.strerror}")
    raise ListenError(f"{address} {reason}.")


def bind_tcp(family: int, where: tuple[Any, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Not SO_REUSEPORT: a second gateway on the port would take half of the requests, unnoticed.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit these. Without the first a small answer waits 40 ms for an
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
    """A socket that listens to every virtual machine of this host. Raises ListenError, also where
    the system has no AF_VSOCK.
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
        reason = BIND_FAULTS.get(fault.errno or 0, f"cannot be listened on: {fault.strerror}")
        raise ListenError(f"{address} {reason}.") from None
    return bound


def as_pipe(bound: socket.socket) -> socket.socket:
    """The same descriptor, called a Unix socket: event loops know streams of two families, and only
    to those of TCP do they do what AF_VSOCK refuses.
    """
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=bound.detach())


async def serve_at(
    door: BoundSocket,
    app: ASGI3Application,
    *,
    listening: Listening,
    loop: asyncio.AbstractEventLoop,
    callers: CallerResolver,
) -> asyncio.Server:
    address = door.address
    kind = KINDS[type(address)]
    state = {"listener": address.name, "kind": kind, "stopping": listening.stopping}
    server = (address.host, address.port) if isinstance(address, Tcp) else (str(address), None)
    agent = address.agent if isinstance(address, Unix) else ""

    def identify(transport: asyncio.Transport) -> tuple[ClientConnection, str]:
        peer = get_remote_addr(transport) if kind == "tcp" else None
        met = callers.meet(
            transport.get_extra_info("socket"),
            listener=address.name,
            kind=kind,
            client=peer[0] if peer else "",
            agent=agent,
        )
        return met, connecting(met.caller)

    def accept() -> Connection:
        return Connection(app, traffic=listening.traffic, state=state, server=server, identify=identify)

    if isinstance(address, Tcp):
        return await loop.create_server(accept, sock=door.socket, backlog=BACKLOG)
    if isinstance(address, Vsock):
        door.socket = as_pipe(door.socket)
    return await loop.create_unix_server(accept, sock=door.socket, backlog=BACKLOG, **NO_CLEANUP)
