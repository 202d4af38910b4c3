"""One connection and the one exchange on it: writing, reading, and the deadline of each wait.

Source: RFC 9112 (HTTP/1.1 framing, keep-alive, incomplete messages).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import httptools

from modelplex.eager_task import Waiter, new_waiter
from modelplex.http_client.errors import (
    BadResponse,
    ConnectionCut,
    SendError,
    TimedOut,
    closed_early,
    parser_reason,
    timed_out,
)
from modelplex.http_client.origin import Origin
from modelplex.http_client.request import EncodedRequest, Timeouts
from modelplex.http_client.response import HttpResponse

if TYPE_CHECKING:
    from modelplex.http_client.pool import ConnectionPool, HttpClient

HEAD_LIMIT = 64 * 1024
"""Bytes of a response head with its interim (1xx) heads; real ones have a few KiB. Also bounds
chunk extensions and trailers, which carry no body either.
"""
HEADER_COUNT_LIMIT = 256
"""Header lines of a response; a real head has 10 to 40, and each line costs an object."""
READ_SIZE = 16 * 1024
"""Bytes that are read from a socket at a time. The event loop's own size is 256 KB, which each
stream would hold that arrives faster than its client reads.
"""
JOIN_LIMIT = 16 * 1024
"""Bytes up to which head and body are copied into one write: a small copy costs less than two
buffers.
"""
WRITE_SLICE = 256 * 1024
"""Bytes given to the transport at a time: at most this much of a body is buffered twice."""


class Deadline:
    """Calls `expired` after the deadline. Setting a later deadline only stores a number, which the
    timer reads when it fires; a new timer is started only for an earlier deadline.
    """

    __slots__ = ("_expired", "_fires_at", "_loop", "at", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self.timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0
        self.at = 0.0

    def set(self, seconds: float | None) -> None:
        """Expire in `seconds`; None keeps the last deadline."""
        if seconds is not None:
            self.at = self._loop.time() + seconds
        if self.timer is not None:
            if self._fires_at <= self.at:
                return
            self.timer.cancel()
        self._start()

    def cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def close(self) -> None:
        """Cancel for good. The callback refers to its owner and the owner to this: without it they
        need no garbage collector.
        """
        self.cancel()
        self._expired = _nothing

    def _start(self) -> None:
        self._fires_at = self.at
        self.timer = self._loop.call_at(self.at, self._fire)

    def _fire(self) -> None:
        self.timer = None
        if self._loop.time() < self.at:
            self._start()
        else:
            self._expired()


def _nothing() -> None:
    pass


class UpstreamConnection(asyncio.BufferedProtocol):
    """One connection and its exchange.

    `idle`: no exchange; in the pool, or new. `started`: a byte of the response was received.
    `has_head`: the head was received. `complete`: the response was received whole. `fault`: why it
    will not be. `gone`: the connection is closed.
    """

    __slots__ = (
        "bodiless",
        "buffered",
        "chunks",
        "client",
        "complete",
        "deadline",
        "deliver",
        "fault",
        "gone",
        "has_head",

        "headers",
        "idle",
        "is_head_request",
        "keep_alive",
        "limit",
        "loop",
        "nudged",
        "origin",
        "parser",
        "parsing",
        "pool",
        "read_paused",
        "started",
        "status",
        "timeouts",
        "transport",
        "unsent",
        "waiter",
        "wants_head",
        "write_paused",
    )  # fmt: skip

    parser: httptools.HttpResponseParser | None
    pool: ConnectionPool
    timeouts: Timeouts
    transport: asyncio.Transport

    def __init__(self, origin: Origin, client: HttpClient, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self.client = client
        self.loop = loop
        self.idle = True
        self.gone = self.read_paused = self.write_paused = False
        self.parsing = self.wants_head = False
        self.waiter: Waiter | None = None
        self.deadline = Deadline(loop, self._expired)
        self.chunks: list[bytes] = []
        self.buffered = 0
        self.deliver: Callable[[bytes], bool] | None = None
        """Takes body bytes as they arrive, in place of a reader that waits for each."""
        self.limit = 0
        """Bytes of body up to which the reader waits for the whole of it; 0 wakes it for any."""
        self.unsent: deque[memoryview] = deque()
        self.parser = None
        self._reset(is_head_request=False)

    def _reset(self, *, is_head_request: bool) -> None:
        self.is_head_request = is_head_request
        self.headers: list[tuple[bytes, bytes]] = []
        self.status = self.bodiless = 0
        self.started = self.has_head = self.complete = False
        self.keep_alive = self.nudged = False
        self.fault: SendError | None = None

    def __repr__(self) -> str:
        states = ("gone", "idle", "complete", "has_head", "started", "write_paused", "read_paused")
        state = " ".join(s for s in states if getattr(self, s)) or "waiting"
        return f"<{self.origin} {state} buffered={self.buffered}>"

    # Called by HttpClient and HttpResponse.

    async def exchange(self, request: EncodedRequest) -> HttpResponse:
        """Write a request and wait for the head of the response."""
        self._reset(is_head_request=request.is_head_request)
        self.idle = False
        if self.gone:  # between the handshake and now
            raise self._cut()
        if self.parser is None:
            self.parser = httptools.HttpResponseParser(self)
        self.timeouts = timeouts = request.timeouts
        if len(request.head) + len(request.body) <= JOIN_LIMIT:
            self.transport.write(request.head + request.body)
        else:
            self._write(request)
        self.wants_head = True
        self.waiter = waiter = new_waiter(self.loop)
        self.deadline.set(timeouts.idle if self.unsent or self.write_paused else timeouts.first_byte)
        try:
            await waiter
        except BaseException:
            self._abandon()
            raise
        if not self.has_head:
            raise self.fault or closed_early(self.origin)
        return HttpResponse(self, status=self.status, headers=self.headers)

    async def wait(self, seconds: float | None) -> None:
        """Wait for a head, body bytes, the end or a fault. None keeps the last deadline."""
        if self.waiter is not None:
            raise RuntimeError("Two tasks wait for the same response.")
        if self.fault is not None:
            return
        self.waiter = waiter = new_waiter(self.loop)
        self.deadline.set(seconds)
        try:
            await waiter
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """The reader was cancelled, which the server must see now."""
        self.waiter = None
        self.fail(closed_early(self.origin))

    def is_ready(self) -> bool:
        return bool(self.chunks) or self.complete or self.fault is not None

    def mark_read(self) -> None:
        """Forget the buffered bytes, and read from the socket again."""
        self.chunks.clear()
        self.buffered = 0
        if self.read_paused:
            self.resume_reading()

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            if not self.gone:
                self.transport.resume_reading()

    def release(self) -> None:
        """End a complete exchange. Return the connection to the pool if it can be reused, else
        abort it.
        """
        if (
            not self.keep_alive
            or self.gone
            or self.unsent
            or self.client.max_idle_per_origin < 1
            or self.transport.get_write_buffer_size()  # the request was not sent whole
        ):
            self.abort()
            return
        self.idle = True
        if self.is_head_request:
            self.parser = None  # which waits for the body that a header announced
        self.deadline.set(self.client.idle_seconds)
        self.pool.keep(self)

    def fail(self, fault: SendError) -> None:
        """End the exchange with a fault, unless the response is complete."""
        if not self.complete and self.fault is None:
            self.fault = fault
        self.abort()
        self.wake()

    def abort(self) -> None:
        """Close the socket without flushing. Idempotent."""
        self._forget()
        self.transport.abort()

    def _forget(self) -> None:
        self.gone = True
        self.unsent.clear()
        if self.idle and self in self.pool.idle:
            self.pool.idle.remove(self)
        self.deadline.cancel()

    # What the transport does not accept at once is kept in `unsent`. No task waits for it, so an
    # early response (413 before the body was sent) is delivered.

    def _write(self, request: EncodedRequest) -> None:
        head, body = request.head, request.body
        if len(body) <= WRITE_SLICE:
            self.transport.writelines([head, body])
        else:
            view = memoryview(body)
            self.unsent.append(memoryview(head))
            self.unsent.extend(view[at : at + WRITE_SLICE] for at in range(0, len(body), WRITE_SLICE))
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
        if self.waiter is not None and not self.has_head:
            sending = self.unsent or self.write_paused
            self.deadline.set(self.timeouts.idle if sending else self.timeouts.first_byte)

    def _expired(self) -> None:
        if self.idle:
            self.abort()
        elif self.waiter is not None:  # without a waiter, the reader is slow, not the server
            self.fail(self._timed_out())

    def _timed_out(self) -> TimedOut:
        if self.has_head:
            return timed_out(self.origin, "idle", self.timeouts.idle)
        if self.unsent or self.transport.get_write_buffer_size():
            return timed_out(self.origin, "write", self.timeouts.idle)
        return timed_out(self.origin, "first_byte", self.timeouts.first_byte)

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio and uvloop set TCP_NODELAY; a test checks it.
        self.transport = cast("asyncio.Transport", transport)
        self.pool = self.client.add_connection(self)

    # Data is read into one buffer of the client and parsed at once.

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.client.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.parse(self.client.read_buffer[:nbytes])
        if self.waiter is None:
            return
        if self.deliver is not None and self.chunks:
            data = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
            self.chunks.clear()
            self.buffered = 0
            self.deadline.at = self.loop.time() + self.timeouts.idle
            if not self.deliver(data):
                self.wake()
                return
        self._wake_if_ready(nbytes)

    def parse(self, data: memoryview) -> None:
        if self.idle or self.complete or self.fault is not None:
            # Unexpected bytes: more of them could be taken for the next response.
            self.keep_alive = False
            if self.idle:
                self.abort()
            return
        parser = self.parser
        assert parser is not None
        self.started = self.parsing = True
        self.bodiless += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.keep_alive = False
            self._fail_as_bad(f"sent a response that is not HTTP/1.1: {parser_reason(error)}.")
        else:
            if self.bodiless > HEAD_LIMIT and not self.complete:
                self._refuse_head()
        self.parsing = False

    def _wake_if_ready(self, size: int) -> None:
        """Wake the reader, if it has what it waits for. It runs here, and not within the parser."""
        if self.complete or self.fault is not None or self.nudged:
            self.wake()
        elif self.wants_head:
            if self.has_head:
                self.wake()
        elif self.buffered > self.limit:
            self.wake()
        elif size and self.limit:
            self.deadline.set(self.timeouts.idle)

    def eof_received(self) -> None:
        self._ended(clean=True)
        self.abort()  # close() would wait until the rest of the request is written

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(clean=exc is None)
        self.deadline.close()
        self.parser = None  # it refers to the connection
        self.client.remove_connection(self, self.pool)

    def _ended(self, *, clean: bool) -> None:
        """The server closed the connection: the end of a body without a length, a cut of any other
        (RFC 9112 8).
        """
        self._forget()
        if not self.idle and not self.complete and self.fault is None:
            if clean and self.has_head and _ends_with_connection(self.headers):
                self.complete = True
            else:
                self.fault = self._cut()
        self.wake()

    def _cut(self) -> ConnectionCut:
        when = "during its response" if self.started else "before it responded"
        return ConnectionCut(f"{self.origin} closed the connection {when}.", started=self.started)

    def wake(self) -> None:
        if self.parsing:
            return  # it is woken at the end
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            self.wants_head = False
            waiter.wake()

    # Called by the parser.

    def on_message_begin(self) -> None:
        if self.complete:
            self.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head or self.fault is not None:
            return  # a trailer, or above the limit
        self.headers.append((name.lower(), value))
        if len(self.headers) > HEADER_COUNT_LIMIT:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        if self.complete or self.fault is not None:
            return
        parser = self.parser
        assert parser is not None
        self.status = status = parser.get_status_code()
        if status < 200:
            self.headers.clear()
            if status == 101:
                self._fail_as_bad("switched to another protocol without a request for it.")
            return
        if self.bodiless > HEAD_LIMIT and _size(self.headers) > HEAD_LIMIT:  # body may follow at once
            self._refuse_head()
            return
        self.has_head = True
        self.bodiless = 0
        self.keep_alive = parser.should_keep_alive()
        if self.is_head_request or status in {204, 304}:
            self.complete = True  # RFC 9112 6.3: no body, even if a header gives a length

    def on_body(self, data: bytes) -> None:
        if self.complete or self.fault is not None:
            self.keep_alive = False
            return
        self.bodiless = 0
        self.chunks.append(data)
        self.buffered += len(data)
        if (
            self.waiter is None
            and self.buffered > self.client.max_buffer
            and not self.read_paused
            and not self.gone
        ):
            self.read_paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.has_head and self.fault is None:
            self.complete = True

    def _refuse_head(self) -> None:
        self._fail_as_bad(f"sent more headers than {HEAD_LIMIT} bytes or {HEADER_COUNT_LIMIT} lines.")

    def _fail_as_bad(self, reason: str) -> None:
        if not self.complete:
            self.fail(BadResponse(f"{self.origin} {reason}"))


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _ends_with_connection(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the body ends when the connection does (RFC 9112 6.3, rules 4 and 8)."""
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings:
        return not codings[-1].rstrip().lower().endswith(b"chunked")
    return all(name != b"content-length" for name, _ in headers)
