"""One connection and the one exchange on it: writing, reading, and the deadline of each wait.

Source: RFC 9112 (HTTP/1.1 framing, keep-alive, incomplete messages).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from modelplex.core.origin import Origin
from modelplex.eager_task import Wakeable, new_waiter
from modelplex.http_client.errors import (
    ConnectionCut,
    SendError,
    TimedOut,
    closed_early,
    timed_out,
)
from modelplex.http_client.incoming_response import IncomingResponse, ends_with_connection
from modelplex.http_client.request import EncodedRequest, Timeouts
from modelplex.http_client.response import HttpResponse

if TYPE_CHECKING:
    from modelplex.http_client.pool import ConnectionPool, HttpClient

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


class UpstreamConnection(IncomingResponse):
    """One connection and its exchange. `gone`: the connection is closed."""

    __slots__ = (
        "client", "deadline", "deliver", "gone", "limit", "loop", "nudged", "pool", "timeouts", "transport", "unsent",
        "waiter", "wants_head", "write_paused",
    )  # fmt: skip

    pool: ConnectionPool
    timeouts: Timeouts
    transport: asyncio.Transport

    def __init__(self, origin: Origin, client: HttpClient, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(origin)
        self.client = client
        self.loop = loop
        self.gone = self.write_paused = self.wants_head = self.nudged = False
        self.waiter: Wakeable | None = None
        self.deadline = Deadline(loop, self._expired)
        self.deliver: Callable[[bytes], bool] | None = None
        """Takes body bytes as they arrive, in place of a reader that waits for each."""
        self.limit = 0
        """Bytes of body up to which the reader waits for the whole of it; 0 wakes it for any."""
        self.unsent: deque[memoryview] = deque()

    def __repr__(self) -> str:
        states = ("gone", "idle", "complete", "has_head", "started", "write_paused", "read_paused")
        state = " ".join(s for s in states if getattr(self, s)) or "waiting"
        return f"<{self.origin} {state} buffered={self.buffered}>"

    # Called by HttpClient and HttpResponse.

    def send(self, request: EncodedRequest, waiter: Wakeable) -> None:
        """Write a request. `waiter` is woken for the head of the response, or a fault."""
        self.begin(is_head_request=request.is_head_request)
        self.nudged = False
        if self.gone:  # between the handshake and now
            raise self._cut()
        self.timeouts = timeouts = request.timeouts
        if len(request.head) + len(request.body) <= JOIN_LIMIT:
            self.transport.write(request.head + request.body)
        else:
            self._write(request)
        self.wants_head = True
        self.waiter = waiter
        self.deadline.set(timeouts.idle if self.unsent or self.write_paused else timeouts.first_byte)

    async def exchange(self, request: EncodedRequest) -> HttpResponse:
        """Write a request and wait for the head of the response."""
        waiter = new_waiter(self.loop)
        self.send(request, waiter)
        try:
            await waiter
        except BaseException:
            self.abandon()
            raise
        return self._response()

    async def response(self) -> HttpResponse:
        """Wait for the head of the response to a request that `send` has written, in place of the
        waiter that it was given.
        """
        self.waiter = None
        self.limit = 0
        if not self.has_head and self.fault is None:
            self.wants_head = True
            await self.wait(None)
        return self._response()

    def _response(self) -> HttpResponse:
        if not self.has_head:
            raise self.fault or closed_early(self.origin)
        return HttpResponse(self, status=self.status, headers=self.headers)

    def wait_for_rest(self, waiter: Wakeable, *, limit: int) -> None:
        """Wake for the end of the body, for a fault, or for more than `limit` bytes."""
        self.waiter = waiter
        self.limit = limit
        self.deadline.set(self.timeouts.idle)

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
            self.abandon()
            raise

    def abandon(self) -> None:
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
        self.end()
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
        waiter = self.waiter
        if waiter is None:
            return
        if self.complete and self.deliver is None:
            self.waiter = None
            self.wants_head = False
            waiter.wake()
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
            if clean and self.has_head and ends_with_connection(self.headers):
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

    # What an incoming response asks of its connection.

    def body_buffered(self) -> None:
        if self.waiter is None and self.buffered > self.client.max_buffer and not self.gone:
            self.read_paused = True
            self.transport.pause_reading()

    def unexpected(self) -> None:
        self.abort()
