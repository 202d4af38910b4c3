"""One connection and the one exchange on it: writing, reading, and the deadline of each wait.

Source: RFC 9112 (HTTP/1.1 framing, keep-alive, incomplete messages).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import httptools

from modelplex.http_client.errors import (
    BadResponse,
    ConnectionCut,
    SendError,
    TimedOut,
    closed_early,
    parser_reason,
)
from modelplex.http_client.origin import Origin
from modelplex.http_client.request import EncodedRequest, Timeouts
from modelplex.http_client.response import HttpResponse

if TYPE_CHECKING:
    from modelplex.http_client.pool import ConnectionPool, HttpClient

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


class Deadline:
    """Calls `expired` once the deadline is past. Setting a deadline stores a number: the timer is
    moved only where it would ring too late, and looks at the number when it rings.
    """

    __slots__ = ("_expired", "_loop", "_ring_at", "at", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self.timer: asyncio.TimerHandle | None = None
        self._ring_at = 0.0
        self.at = 0.0

    def set(self, seconds: float | None) -> None:
        """Expire in so many seconds. Without `seconds` the last deadline still stands."""
        if seconds is not None:
            self.at = self._loop.time() + seconds
        if self.timer is not None:
            if self._ring_at <= self.at:
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
        self._ring_at = self.at
        self.timer = self._loop.call_at(self.at, self._ring)

    def _ring(self) -> None:
        self.timer = None
        if self._loop.time() < self.at:
            self._start()
        else:
            self._expired()


def _nothing() -> None:
    pass


class UpstreamConnection(asyncio.Protocol):
    """One connection and the one exchange on it.

    `idle`: no exchange, in the pool or just made. `answered`: the head is there. `complete`:
    the response is whole. `fault`: why it never will be. `gone`: nothing can be written or read any
    more.
    """

    __slots__ = (
        "answered", "asks_head", "buffered", "chunks", "client", "complete", "deadline", "fault", "gone", "head_size",
        "headers", "idle", "keep_alive", "loop", "nudged", "origin", "parser", "pool", "quiet", "read_paused", "started",
        "status", "timeouts", "transport", "unsent", "waiter", "write_paused",
    )  # fmt: skip

    parser: httptools.HttpResponseParser
    pool: ConnectionPool
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
        self.deadline = Deadline(loop, self._expired)
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

    # The exchange: called by HttpClient and HttpResponse.

    async def exchange(self, request: EncodedRequest) -> HttpResponse:
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
            raise self.fault or closed_early(self.origin)
        return HttpResponse(self, status=self.status, headers=self.headers)

    async def wait(self, seconds: float | None) -> None:
        """Sleep until there is something to read: a head, body bytes, the end or a fault. Without
        `seconds` the last deadline still stands.
        """
        if self.waiter is not None:
            raise RuntimeError("Two tasks wait for the same response.")
        if self.fault is not None:
            return
        self.waiter = self.loop.create_future()
        self.deadline.set(seconds)
        try:
            await self.waiter
        except BaseException:  # cancelled: the upstream must see it now, not when its answer is done
            self.waiter = None
            self.fail(closed_early(self.origin))
            raise

    def is_ready(self) -> bool:
        return bool(self.chunks) or self.complete or self.fault is not None

    def mark_read(self) -> None:
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
        self.deadline.set(self.client.idle_seconds)
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
        self.deadline.cancel()

    def alive(self) -> bool:
        return not self.gone and not self.transport.is_closing()

    # Writing: what the transport does not take at once waits here, and no task waits with it, so an
    # early answer (413 before the body is through) is simply delivered.

    def _write(self, request: EncodedRequest) -> None:
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
            self.deadline.set(self.timeouts.idle if sending else self.timeouts.first_byte)

    def _expired(self) -> None:
        if self.idle:
            self.abort()
        elif self.waiter is not None:  # where nobody waits, the reader is slow and not the upstream
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
        self.pool = self.client.add_connection(self)

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
                    BadResponse(f"{self.origin} sent something that is not HTTP/1.1: {parser_reason(error)}.")
                )
            return
        if self.quiet > HEAD_LIMIT and not self.complete:
            self._refuse_head()

    def eof_received(self) -> None:
        self._ended(clean=True)
        self.abort()  # a close would wait for a request that nobody reads any more

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(clean=exc is None)
        self.deadline.close()
        with suppress(AttributeError):  # there was no exchange
            del self.parser  # it refers to the connection
        self.client.remove_connection(self, self.pool)

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
        limits = f"{HEAD_LIMIT} bytes or {HEADER_COUNT_LIMIT} lines"
        self.fail(BadResponse(f"{self.origin} sent headers beyond {limits}."))


def _ends_with_connection(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the body has no length of its own and ends where the connection does (RFC 9112 6.3,
    rules 4 and 8).
    """
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings:
        return not codings[-1].rstrip().lower().endswith(b"chunked")
    return all(name != b"content-length" for name, _ in headers)
