"""Bytes out, bytes back: an HTTP/1.1 client pool, and the only file that knows one.

Above it: gateway (and whoever else calls out over HTTP). Below it: asyncio's transports, asyncio's
TLS and the httptools parser (llhttp). It refuses to know models, providers, dialects and JSON; it
never follows a redirect, never decompresses, and never puts a header into an error. It sends a
request twice in one case only: a kept connection was lost before one byte of the answer (RFC 9112
9.3.1 and 9.5: most likely it had been closed before it was used).

One response is one `HttpResponse`, whose body is pulled with `chunk()`. What the reader leaves
unread stays bounded: reading from the socket stops above `max_buffer` bytes and goes on once the
reader has taken them. Per request there is one Future for the head, per body read at most one, no
task, no lock, and one lazily re-armed timer per connection.

Source: RFC 9110 (semantics) and RFC 9112 (HTTP/1.1 framing, keep-alive, incomplete messages).
"""

import asyncio
import re
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Literal, TypeAlias, cast
from urllib.parse import urlsplit

import httptools
import msgspec

HEAD_LIMIT = 64 * 1024
"""Bytes of a response head, interim (1xx) heads included; real ones have a few KiB. It bounds chunk
extensions and trailers too, which are also bytes that carry no body.
"""
HEADER_COUNT_LIMIT = 256
"""Header lines of a response; a real head has 10 to 40, and each line costs an object."""
JOIN_LIMIT = 16 * 1024
"""Bytes up to which head and body are copied into one write: below it a copy costs less than two
buffers.
"""
WRITE_SLICE = 256 * 1024
"""Bytes handed to the transport at a time, so that at most this much of a body is buffered a second
time.
"""
BUFFER_LIMIT = 64 * 1024
"""Default of `max_buffer`: unread body bytes above which a socket is not read. Far above one event.
"""
IDLE_LIMIT = 64
"""Default of `max_idle_per_origin`: enough for a burst without new handshakes, few enough to hold
open.
"""
IDLE_SECONDS = 60.0
"""Default of `idle_seconds`: below nginx's default keep-alive of 75 s, so that reuse seldom meets a
close.
"""
NO_ANSWER = "none of its addresses answered"
"""What is said of several failures at once, whose own words are a list of IP addresses."""
CLOSE_SECONDS = 1.0
"""How long `aclose` waits for aborted connections to be gone: an abort takes one turn of the loop.
"""


Phase: TypeAlias = Literal["connect", "write", "first_byte", "idle"]
"""The wait that was too long."""

_NEEDS_LENGTH = frozenset({b"POST", b"PUT", b"PATCH"})  # RFC 9110 8.6: a length even when the body is empty
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"[!-~]+")
_VALUE = re.compile(rb"[^\r\n\0]*")
# What frames the message is ours alone to say: a second length or host is how requests are
# smuggled.
_HEADER_LINES = re.compile(
    rb"(?:(?!(?:host|content-length|transfer-encoding):)[!#$%&'*+.^_`|~0-9a-z-]+:[^\r\n\0]*\r\n)*",
    re.IGNORECASE,
)
_OURS = frozenset({b"host", b"content-length", b"transfer-encoding"})
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9.])?|[0-9a-f:.]*:[0-9a-f:.]*")


class Origin(msgspec.Struct, frozen=True, cache_hash=True):
    """Where requests go: the key of the pool. With `unix`, that socket is dialled and `host` is for
    the Host header.

    `ca_file` (PEM) replaces the system's certificate authorities; `verify=False` accepts any
    certificate.
    """

    host: str
    port: int
    tls: bool
    unix: str | None = None
    verify: bool = True
    ca_file: str | None = None

    def __str__(self) -> str:
        """The name a person knows it by: `api.x.com`, `127.0.0.1:8080`, `the socket
        /run/x.sock`.
        """
        return f"the socket {self.unix}" if self.unix is not None else self.authority

    @property
    def authority(self) -> str:
        """The Host header's value (RFC 9110 7.2): the port is left out where the scheme
        implies it.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse_origin(base_url: str) -> tuple[Origin, str]:
    """Split a base URL into the origin and the path prefix, which has no trailing slash.

    `https://api.x.com/v1` and `unix:/run/x.sock:/v1` -> (Origin, "/v1"); `unix:/run/x.sock` ->
    (Origin, "").

    Raises:
        ValueError: with a sentence that does not repeat the URL, which may hold a secret.
    """
    scheme, colon, rest = base_url.partition(":")
    if not base_url.isprintable() or not base_url.isascii() or " " in base_url:
        raise ValueError("The base URL holds a space, a control character or a letter outside ASCII.")
    if "?" in rest or "#" in rest:
        raise ValueError("The base URL must end with its path: no query (?) and no fragment (#).")
    if colon and scheme.lower() == "unix":
        path, _, prefix = rest.removeprefix("//").partition(":/")
        if not path.startswith("/") or path.endswith("/"):
            raise ValueError(
                "A unix: address needs the absolute path of a socket, as in unix:/run/model.sock."
            )
        return Origin(host="localhost", port=80, tls=False, unix=path), f"/{prefix}".rstrip("/")
    if scheme.lower() not in ("http", "https") or not rest.startswith("//"):
        raise ValueError("The base URL must begin with https://, http:// or unix:/.")
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("The base URL's host or port is not valid.") from None
    if "@" in parts.netloc:
        raise ValueError("The base URL must not hold a user or a password: use api_key.")
    if not _HOST.fullmatch(host) or port == 0:
        raise ValueError("The base URL's host or port is not valid.")
    tls = parts.scheme == "https"
    return Origin(host=host, port=port or (443 if tls else 80), tls=tls), parts.path.rstrip("/")


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. Each bounds one wait, never the whole exchange: a stream may last for hours."""

    connect: float = 10.0
    """Name resolution, TCP and TLS together."""
    first_byte: float = 300.0
    """From the written request to the end of the response's head."""
    idle: float = 300.0
    """Between two reads of the body while the reader waits; also between two steps of a slow
    upload.
    """


class SendError(Exception):
    """An exchange failed. `sentence` is plain text for a person and never holds a header, a key or
    a body.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence

    def told(self, origin: Origin, *, name: str) -> str:
        """The sentence for those who may not learn where the other side is: `name` stands in place
        of its address.
        """
        sentence = self.sentence.replace(f"The name {origin.host} ", f"The name of {name} ")
        sentence = sentence.replace(str(origin), name)
        return sentence[:1].upper() + sentence[1:]


class ConnectFailed(SendError):
    """No connection came about (name, refusal, route), so nothing was sent."""


class TlsFailed(ConnectFailed):
    """The TLS handshake failed, so nothing was sent."""


class TimedOut(SendError):
    """The wait named by `phase` was too long; the connection is gone."""

    def __init__(self, sentence: str, *, phase: Phase) -> None:
        super().__init__(sentence)
        self.phase: Phase = phase


class ConnectionCut(SendError):
    """The connection ended before the response did. `started`: a byte of the response had
    arrived.
    """

    def __init__(self, sentence: str, *, started: bool) -> None:
        super().__init__(sentence)
        self.started = started


class BadResponse(SendError):
    """What came back is not HTTP/1.1, or its head is beyond the limits."""


class ResponseTooLarge(SendError):
    """The body is longer than the `limit` (bytes) that the reader set."""

    def __init__(self, sentence: str, *, limit: int) -> None:
        super().__init__(sentence)
        self.limit = limit


class HttpResponse:
    """One response. Read it to its end or `close()` it: one of the two gives the connection up."""

    __slots__ = ("_connection", "_fault", "headers", "status")

    def __init__(self, connection: "_Connection", *, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = headers
        self._connection: _Connection | None = connection
        self._fault: SendError | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, whose name is given in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def chunk(self) -> bytes | None:
        """Return the body bytes that have arrived, or wait for some; b"" at a clean end, and ever
        after; None after a `nudge`.

        Raises:
            Cut: the connection ended before the body did. Everything that had arrived was returned
                before.
            TimedOut: nothing arrived for `Timeouts.idle` seconds.
            BadResponse: the body's chunked framing is broken.
        """
        connection = self._connection
        if connection is None:
            if self._fault is not None:
                raise self._fault
            return b""
        chunks = connection.chunks
        if not connection.has_news():
            nudged, connection.nudged = connection.nudged, False
            await connection.wait(None if nudged else connection.timeouts.idle)
            if not connection.has_news():
                return None
        if chunks:
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            connection.took_all()
            if connection.complete:
                self._connection = None
                connection.release()
            return data
        self._connection = None
        if connection.complete:
            connection.release()
            return b""
        self._fault = connection.fault or _closed_early(connection.origin)
        raise self._fault

    async def body(self, *, limit: int) -> bytes:
        """Return the rest of the body.

        Raises:
            TooLarge: it is longer than `limit` bytes; the connection is aborted.
            Cut, TimedOut, BadResponse: as `chunk` does.
        """
        parts: list[bytes] = []
        size = 0
        while (data := await self.chunk()) != b"":
            if data is None:
                continue
            size += len(data)
            if size > limit:
                self.close()
                raise ResponseTooLarge(f"The answer is larger than the limit of {limit} bytes.", limit=limit)
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def nudge(self) -> None:
        """Wake the task that waits in `chunk`, if one does: it gets None. The time that the
        upstream has left is not lengthened by it.
        """
        connection = self._connection
        if connection is not None and connection.waiter is not None:
            connection.nudged = True
            connection.wake()

    def close(self) -> None:
        """Give the connection up: to the pool if the response has arrived whole, else abort it.
        Idempotent.
        """
        connection = self._connection
        if connection is None:
            return
        self._connection = None
        self._fault = _closed_early(connection.origin)
        if connection.complete:
            connection.took_all()
            connection.release()
        else:
            connection.fail(self._fault)

    def __repr__(self) -> str:
        return f"<Reply {self.status} {self._connection or 'ended'}>"


class HttpClient:
    """A pool of connections, by origin. It belongs to the event loop that first sends on it.

    `max_idle_per_origin` connections are kept for `idle_seconds`; the one used last is used next,
    so that a quiet pool shrinks. `max_buffer` is the number of unread body bytes above which a
    socket is not read.
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
        self._pools: dict[Origin, _Pool] = {}
        self._contexts: dict[tuple[bool, str | None], ssl.SSLContext] = {}
        self._closed = False
        self._all_gone: asyncio.Future[None] | None = None

    async def send(
        self,
        origin: Origin,
        *,
        method: bytes = b"POST",
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]] | bytes,
        body: bytes | Sequence[bytes] = b"",
        timeouts: Timeouts,
    ) -> HttpResponse:
        r"""Write one request and return when the response's head is there.

        `headers` as bytes are encoded lines, each ending in `\r\n`. Host and Content-Length are
        added here, and refused there. A kept connection that dies before any byte of the response
        is replaced by a new one, once. Cancelling aborts the connection at once, so that the
        upstream sees the hang-up.

        Raises:
            ValueError: a method, target or header that HTTP does not allow.
            ConnectFailed, TlsFailed: nothing was sent.
            TimedOut: while connecting, writing or waiting for the head.
            Cut: the connection ended before the head did.
            BadResponse: the head is not HTTP or beyond the limits.
        """
        pool = self._pools.get(origin) or self._open_pool(origin)
        parts = (body,) if isinstance(body, bytes) else tuple(body)
        request = _Request(
            _head(pool.host_line, method, target, headers, parts), parts, method == b"HEAD", timeouts
        )
        if (kept := pool.take()) is not None:
            try:
                return await kept.exchange(request)
            except ConnectionCut as cut:
                if cut.started:
                    raise
        fresh = await self._connect(origin, timeouts.connect)
        return await fresh.exchange(request)

    async def aclose(self) -> None:
        """Abort every connection and refuse new ones. Replies still being read end in
        `ConnectionCut`.
        """
        self._closed = True
        connections = [connection for pool in self._pools.values() for connection in pool.open]
        for connection in connections:
            connection.fail(_closed_early(connection.origin))
        if connections:
            self._all_gone = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_gone], timeout=CLOSE_SECONDS)

    def __repr__(self) -> str:
        pools = ", ".join(
            f"{p.origin}: open={len(p.open)} idle={len(p.idle)}" for p in self._pools.values() if p.open
        )
        return f"<Client {'closed' if self._closed else pools or 'empty'}>"

    def _open_pool(self, origin: Origin) -> "_Pool":
        pool = self._pools[origin] = _Pool(origin, self)
        return pool

    def joined(self, connection: "_Connection") -> "_Pool":
        """Count a connection that was just made."""
        pool = self._pools.get(connection.origin) or self._open_pool(connection.origin)
        pool.open.add(connection)
        return pool

    def left(self, connection: "_Connection", pool: "_Pool") -> None:
        """Forget a connection that is gone, and with the last its pool: configs change, origins
        come and go.
        """
        pool.open.discard(connection)
        if not pool.open and self._pools.get(pool.origin) is pool:
            del self._pools[pool.origin]
        waited_for = self._all_gone is not None and not self._all_gone.done()
        if self._all_gone and waited_for and not any(p.open for p in self._pools.values()):
            self._all_gone.set_result(None)

    async def _connect(self, origin: Origin, seconds: float) -> "_Connection":
        loop = asyncio.get_running_loop()
        make = partial(_Connection, origin, self, loop)
        try:
            async with asyncio.timeout(seconds):
                context = await self._context(origin) if origin.tls else None
                name = origin.host if origin.tls else None
                if origin.unix is not None:
                    _, connection = await loop.create_unix_connection(
                        make, origin.unix, ssl=context, server_hostname=name
                    )
                else:
                    _, connection = await loop.create_connection(
                        make, origin.host, origin.port, ssl=context, server_hostname=name
                    )
        except TimeoutError:
            sentence = f"No connection to {origin} within {seconds:g} seconds."
            raise TimedOut(sentence, phase="connect") from None
        except (OSError, ValueError) as error:  # ssl's and socket's are OSErrors, a bad name is a ValueError
            raise _connect_error(origin, error) from error
        if self._closed:
            connection.fail(_closed_early(origin))
            raise ConnectFailed(f"The connection to {origin} was given up: the client is closed.")
        return connection

    async def _context(self, origin: Origin) -> ssl.SSLContext:
        key = (origin.verify, origin.ca_file)
        context = self._contexts.get(key)
        if context is None:  # loading the authorities takes some 20 ms, in which the loop serves others
            context = await asyncio.to_thread(_tls_context, verify=origin.verify, ca_file=origin.ca_file)
            context = self._contexts.setdefault(key, context)
        return context


class _Pool:
    """The connections of one origin, the one used last at the end of `idle`."""

    __slots__ = ("client", "host_line", "idle", "open", "origin")

    def __init__(self, origin: Origin, client: HttpClient) -> None:
        self.origin = origin
        self.client = client
        self.host_line = b" HTTP/1.1\r\nhost: %s\r\n" % origin.authority.encode("ascii")
        self.open: set[_Connection] = set()
        self.idle: list[_Connection] = []

    def take(self) -> "_Connection | None":
        while self.idle:
            connection = self.idle.pop()
            if connection.alive():
                return connection
        return None

    def keep(self, connection: "_Connection") -> None:
        self.idle.append(connection)
        if len(self.idle) > self.client.max_idle_per_origin:
            self.idle.pop(0).abort()


class _Request(msgspec.Struct, frozen=True, gc=False):
    head: bytes
    parts: tuple[bytes, ...]
    asks_head: bool
    timeouts: Timeouts


class _Connection(asyncio.Protocol):
    """One connection and the one exchange on it.

    `idle`: nothing is asked, in the pool or just made. `answered`: the head is there. `complete`:
    the response is whole. `fault`: why it never will be. `gone`: nothing can be written or read any
    more.
    """

    __slots__ = (
        "answered",
        "asks_head",
        "buffered",
        "chunks",
        "client",
        "complete",
        "deadline",
        "fault",
        "gone",
        "head_size",
        "headers",
        "idle",
        "keep_alive",
        "loop",
        "nudged",
        "origin",
        "parser",
        "pool",
        "quiet",
        "read_paused",
        "started",
        "status",
        "timeouts",
        "timer",
        "timer_at",
        "transport",
        "unsent",
        "waiter",
        "write_paused",
    )

    parser: httptools.HttpResponseParser
    pool: _Pool
    timeouts: Timeouts
    transport: asyncio.Transport

    def __init__(self, origin: Origin, client: HttpClient, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self.client = client
        self.loop = loop
        self.idle = True
        self.gone = False
        self.read_paused = False
        self.write_paused = False
        self.waiter: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.timer_at = 0.0
        self.deadline = 0.0
        self.chunks: list[bytes] = []
        self.buffered = 0
        self.unsent: deque[memoryview] = deque()
        self._expect(asks_head=False)

    def _expect(self, *, asks_head: bool) -> None:
        self.asks_head = asks_head
        self.headers: list[tuple[bytes, bytes]] = []
        self.status = 0
        self.head_size = 0
        self.quiet = 0
        self.started = False
        self.answered = False
        self.complete = False
        self.keep_alive = False
        self.nudged = False
        self.fault: SendError | None = None

    def __repr__(self) -> str:
        states = ("gone", "idle", "complete", "answered", "started", "write_paused", "read_paused")
        state = " ".join(s for s in states if getattr(self, s)) or "waiting"
        return f"<{self.origin} {state} buffered={self.buffered}>"

    # The exchange: called by Client and Reply.

    async def exchange(self, request: _Request) -> HttpResponse:
        """Write a request and wait for the head of its response."""
        self._expect(asks_head=request.asks_head)
        self.idle = False
        if self.gone:  # between the handshake and now
            raise self._cut()
        self.parser = httptools.HttpResponseParser(self)
        self.timeouts = timeouts = request.timeouts
        self._write(request)
        sending = self.unsent or self.write_paused
        await self.wait(timeouts.idle if sending else timeouts.first_byte)
        if not self.answered:
            raise self.fault or _closed_early(self.origin)
        return HttpResponse(self, status=self.status, headers=self.headers)

    async def wait(self, seconds: float | None) -> None:
        """Sleep until there is something to tell: a head, body bytes, the end or a fault. Without
        `seconds` the last deadline still stands.
        """
        if self.waiter is not None:
            raise RuntimeError("Two tasks wait for the same reply.")
        if self.fault is not None:
            return
        self.waiter = self.loop.create_future()
        self._arm(self.deadline - self.loop.time() if seconds is None else seconds)
        try:
            await self.waiter
        except BaseException:  # cancelled: the upstream must see it now, not when its answer is done
            self.waiter = None
            self.fail(_closed_early(self.origin))
            raise

    def has_news(self) -> bool:
        return bool(self.chunks) or self.complete or self.fault is not None

    def took_all(self) -> None:
        """The reader took the buffered bytes: go on reading."""
        self.chunks.clear()
        self.buffered = 0
        if self.read_paused:
            self.read_paused = False
            if not self.gone:
                self.transport.resume_reading()

    def release(self) -> None:
        """End a complete exchange: to the pool if another may follow on this connection, else abort
        it.
        """
        if (
            not self.keep_alive
            or self.gone
            or self.unsent
            or self.client.max_idle_per_origin < 1
            or self.transport.get_write_buffer_size()  # answered before it took the request
        ):
            self.abort()
            return
        self.idle = True
        self._arm(self.client.idle_seconds)
        self.pool.keep(self)

    def fail(self, fault: SendError) -> None:
        """End the exchange with a fault, unless the response is already whole."""
        if not self.complete and self.fault is None:
            self.fault = fault
        self.abort()
        self.wake()

    def abort(self) -> None:
        """Close the socket now, without flushing. Idempotent."""
        self._forget()
        self.transport.abort()

    def _forget(self) -> None:
        self.gone = True
        self.unsent.clear()
        if self.idle and self in self.pool.idle:
            self.pool.idle.remove(self)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def alive(self) -> bool:
        return not self.gone and not self.transport.is_closing()

    # Writing: what the transport does not take at once waits here, and no task waits with it, so an
    # early answer (413 before the body is through) is simply delivered.

    def _write(self, request: _Request) -> None:
        head, parts = request.head, request.parts
        size = len(head) + sum(map(len, parts))
        if size <= JOIN_LIMIT:
            self.transport.write(b"".join((head, *parts)))
        elif size <= WRITE_SLICE:
            self.transport.writelines([head, *parts])
        else:
            self.unsent.append(memoryview(head))
            for part in parts:
                view = memoryview(part)
                self.unsent.extend(view[at : at + WRITE_SLICE] for at in range(0, len(part), WRITE_SLICE))
            self._pump()

    def _pump(self) -> None:
        while self.unsent and not self.write_paused:
            self.transport.write(self.unsent.popleft())

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.gone:
            return
        self._pump()
        if self.waiter is not None and not self.answered:
            sending = self.unsent or self.write_paused
            self._arm(self.timeouts.idle if sending else self.timeouts.first_byte)

    # Time: a deadline is a number. The timer looks at it when it rings, and is moved only to ring
    # earlier.

    def _arm(self, seconds: float) -> None:
        self.deadline = deadline = self.loop.time() + seconds
        if self.timer is not None:
            if self.timer_at <= deadline:
                return
            self.timer.cancel()
        self.timer_at = deadline
        self.timer = self.loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        self.timer = None
        if not self.idle and self.waiter is None:
            return  # nobody waits: a slow reader is not the upstream's fault
        if self.loop.time() < self.deadline:
            self.timer_at = self.deadline
            self.timer = self.loop.call_at(self.deadline, self._ring)
        elif self.idle:
            self.abort()
        else:
            self.fail(self._timed_out())

    def _timed_out(self) -> TimedOut:
        who, limits = self.origin, self.timeouts
        if self.answered:
            return TimedOut(f"{who} sent nothing for {limits.idle:g} seconds amid its answer.", phase="idle")
        if self.unsent or self.transport.get_write_buffer_size():
            return TimedOut(f"{who} stopped taking the request for {limits.idle:g} seconds.", phase="write")
        return TimedOut(
            f"{who} did not begin to answer within {limits.first_byte:g} seconds.", phase="first_byte"
        )

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Both asyncio and uvloop set TCP_NODELAY themselves; a test holds them to it.
        self.transport = cast("asyncio.Transport", transport)
        self.pool = self.client.joined(self)

    def data_received(self, data: bytes) -> None:
        if self.idle or self.complete or self.fault is not None:
            # Bytes that nobody asked for: what follows could be taken for the next answer.
            self.keep_alive = False
            if self.idle:
                self.abort()
            return
        self.started = True
        self.quiet += len(data)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.keep_alive = False
            if not self.complete:
                self.fail(
                    BadResponse(f"{self.origin} sent something that is not HTTP/1.1: {_reason(error)}.")
                )
            return
        if self.quiet > HEAD_LIMIT and not self.complete:
            self._refuse_head()

    def eof_received(self) -> None:
        self._ended(clean=True)
        self.abort()  # a close would wait for a request that nobody reads any more

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(clean=exc is None)
        self.client.left(self, self.pool)

    def _ended(self, *, clean: bool) -> None:
        """The upstream hung up: the end of a body that has no other end, a cut of any other (RFC
        9112 8).
        """
        self._forget()
        if not self.idle and not self.complete and self.fault is None:
            if clean and self.answered and _ends_with_connection(self.headers):
                self.complete = True
            else:
                self.fault = self._cut()
        self.wake()

    def _cut(self) -> ConnectionCut:
        when = "amid its answer" if self.started else "before it answered"
        return ConnectionCut(f"{self.origin} closed the connection {when}.", started=self.started)

    def wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.complete:
            self.keep_alive = False

    def on_status(self, status: bytes) -> None:
        self.head_size += len(status)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.answered or self.fault is not None:
            return  # a trailer, or beyond the limit
        self.headers.append((name.lower(), value))
        self.head_size += len(name) + len(value) + 4
        if self.head_size > HEAD_LIMIT or len(self.headers) > HEADER_COUNT_LIMIT:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        if self.complete or self.fault is not None:
            return
        self.status = status = self.parser.get_status_code()
        if status < 200:
            self.headers.clear()
            if status == 101:
                self.fail(BadResponse(f"{self.origin} changed to another protocol, which was not asked for."))
            return
        self.answered = True
        self.quiet = 0
        self.keep_alive = self.parser.should_keep_alive()
        if self.asks_head or status in {204, 304}:
            self.complete = True  # RFC 9112 6.3: no body, whatever the headers say
        self.wake()

    def on_body(self, data: bytes) -> None:
        if self.complete or self.fault is not None:
            self.keep_alive = False
            return
        self.quiet = 0
        self.chunks.append(data)
        self.buffered += len(data)
        if self.waiter is not None:
            self.wake()
        elif self.buffered > self.client.max_buffer and not self.read_paused and not self.gone:
            self.read_paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.answered and self.fault is None:
            self.complete = True
            if self.waiter is not None:
                self.wake()

    def _refuse_head(self) -> None:
        self.fail(
            BadResponse(
                f"{self.origin} sent headers beyond {HEAD_LIMIT} bytes or {HEADER_COUNT_LIMIT} lines."
            )
        )


def _head(
    host_line: bytes,
    method: bytes,
    target: bytes,
    headers: Sequence[tuple[bytes, bytes]] | bytes,
    parts: tuple[bytes, ...],
) -> bytes:
    """Encode a request's head, ending in the empty line. Errors name no value: it may be a key."""
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise ValueError("A method or target holds a character that HTTP does not allow.")
    if not isinstance(headers, bytes):
        headers = _header_lines(headers)
    elif not _HEADER_LINES.fullmatch(headers):
        raise ValueError(
            r"Encoded headers must be lines that end in \r\n, without Host, Content-Length or an empty line."
        )
    size = sum(map(len, parts))
    if size or method in _NEEDS_LENGTH:
        return b"%b %b%b%bcontent-length: %d\r\n\r\n" % (method, target, host_line, headers, size)
    return b"%b %b%b%b\r\n" % (method, target, host_line, headers)


def _header_lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
            raise ValueError(
                "A header's name is not a token, or is Host, Content-Length or Transfer-Encoding."
            )
        if not _VALUE.fullmatch(value):
            raise ValueError(f"The value of the header {name.decode()} holds a line break or a NUL.")
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def _ends_with_connection(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the body has no length of its own and ends where the connection does (RFC 9112 6.3,
    rules 4 and 8).
    """
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings:
        return not codings[-1].rstrip().lower().endswith(b"chunked")
    return all(name != b"content-length" for name, _ in headers)


def _closed_early(origin: Origin) -> ConnectionCut:
    return ConnectionCut(f"The exchange with {origin} was closed on this side before its end.", started=True)


def _reason(error: Exception) -> str:
    """The parser's own fixed words ("Expected HTTP/"), which quote nothing of what was received."""
    if isinstance(error, httptools.HttpParserUpgrade):
        return "a change of protocol"
    return str(error) or "it cannot be parsed"


def _connect_error(origin: Origin, error: OSError | ValueError) -> ConnectFailed:
    """Foreign errors are mapped here, and nowhere else."""
    match error:
        case ssl.SSLCertVerificationError():
            return TlsFailed(f"The certificate of {origin} is not trusted: {error.verify_message}.")
        case ssl.SSLError():
            return TlsFailed(f"TLS with {origin} failed: {error.reason or 'the handshake broke off'}.")
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError() if origin.tls:
            return TlsFailed(f"{origin} hung up during the TLS handshake.")
        case ConnectionRefusedError():
            return ConnectFailed(f"{origin} refused the connection.")
        case FileNotFoundError() if origin.ca_file is not None and origin.unix is None:
            return TlsFailed(f"The file of certificate authorities for {origin} does not exist.")
        case FileNotFoundError():
            return ConnectFailed(f"There is no file at {origin}.")
        case socket.gaierror() | ValueError():
            return ConnectFailed(f"The name {origin.host} could not be resolved.")
        case _:
            return ConnectFailed(f"{origin} could not be reached: {error.strerror or NO_ANSWER}.")


def _tls_context(*, verify: bool, ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
