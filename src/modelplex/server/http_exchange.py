"""One HTTP request and its response, as an app serves it: the whole body in, a response out.

An app is a coroutine function of the exchange. The connection that owns the exchange
(connection.py) decides when it runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from io import BytesIO
from typing import Any, Protocol

from modelplex.core.errors import ClientClosed, ModelplexError, RequestTimeout
from modelplex.eager_task import EagerTask, Waiter, new_waiter
from modelplex.server.connection_refusals import APP_FAILED
from modelplex.server.request_head import HttpHead

log = logging.getLogger("modelplex.server")

JOIN_LIMIT = 65_536
"""Bytes of body up to which head and body are joined: a copy costs less than a second buffer."""
PENDING_LIMIT = 65_536
"""Bytes of a body that are kept before the app asks for it; then reading pauses."""
DIRECT_SIZE = 65_536
"""Bytes that are left of a body from which it is read into a block of its own length."""

_PHRASES = {int(each): each.phrase.encode() for each in HTTPStatus}
STATUS_LINES = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, _PHRASES.get(status, b"")) for status in range(200, 600)
}
"""With those that have no phrase, such as Anthropic's 529."""

Headers = list[tuple[bytes, bytes]]


def header_lines(headers: Headers) -> bytes:
    """Raises ValueError for a header with a line break."""
    lines = b""
    for header in headers:
        lines += b"%b: %b\r\n" % header
    # Checks all at once: the number of lines is right, and each ends in CR LF.
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
        raise ValueError("a response header holds a line break")
    return lines


class ExchangeConnection(Protocol):
    """The connection of an exchange. `close` lingers, and `exchange_complete` is called once a
    response is complete. `drain` returns once the client has read most of what was written.
    """

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    state: dict[str, Any]
    write_paused: bool
    exchange_ended: Callable[[HttpExchange], None]

    def close(self) -> None: ...
    def exchange_complete(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    async def drain(self) -> None: ...


class HttpExchange:
    """`head` and `length` (the content-length, if it was given) are the request's.

    on_disconnect  called when the client disconnects; the app may set it
    refused        the connection has sent a refusal, since the body was late or invalid
    """

    # Of an exchange whose request comes in one piece, most of these stay as they are here.
    task: EagerTask | None = None
    on_disconnect: Callable[[], object] | None = None
    disconnected = refused = False
    response_started = response_complete = False
    chunked = False
    waiting_for_100_continue = False
    unwritten = b""
    """A head that waits for the first piece of body."""
    asked = False
    """The app wants the body."""
    body_complete = False
    size = 0
    """Bytes of the body that were received."""
    _block: BytesIO | None = None
    """The body, in pieces after the first of a body that comes in several."""
    _view: memoryview | None = None
    """The rest of a large body is read into this view of `_block`."""
    _check: Callable[[int], None] | None = None
    _fault: ModelplexError | None = None
    _waiter: Waiter | None = None

    def __init__(
        self,
        head: HttpHead,
        connection: ExchangeConnection,
        *,
        length: int | None = None,
        whole_body: bytes | None = None,
    ) -> None:
        self.head = head
        self.connection = connection
        self.length = length
        self.keep_alive = head.keep_alive
        if head.expects_100:
            self.waiting_for_100_continue = True
        self._pieces: list[bytes] = []
        if whole_body is not None:
            self._pieces.append(whole_body)
            self.body_complete = True
            self.size = len(whole_body)

    def __repr__(self) -> str:
        state = (
            "complete" if self.response_complete else "responding" if self.response_started else "requested"
        )
        disconnected = ", disconnected" if self.disconnected else ""
        return f"<HttpExchange {self.head.method} {self.head.path} {state}{disconnected}>"

    async def run(self, app: App) -> None:
        try:
            await app(self)
            if not self.response_complete and not self.disconnected:
                log.error("the app returned before its response was complete: %r", self)
                self.fail()
        except Exception:
            # The outermost loop of a request: unexpected errors of the app end here.
            log.exception("the app failed: %r", self)
            self.fail()
        except asyncio.CancelledError:
            self.connection.close()
            raise

    def ended(self) -> None:
        """The app has ended. An idle connection keeps its last exchange, but no body."""
        self.task = self.on_disconnect = self._check = None
        if self._pieces or self._block is not None:
            self._drop_body()
        self.connection.exchange_ended(self)

    # The body.

    async def body(self, check: Callable[[int], None]) -> bytes:
        """The whole body, once. `check` gets the number of bytes that have come so far, and may
        raise. Raises ClientClosed, RequestTimeout and what `check` raises.
        """
        if self.size:
            check(self.size)
        self.asked = True
        if not (self.body_complete or self.disconnected):
            self._check = check
            self._make_room()
            if self.waiting_for_100_continue:
                self.waiting_for_100_continue = False
                self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.connection.resume_reading()
            self._waiter = new_waiter(self.connection.loop)
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._fault is not None:
            self._drop_body()
            raise self._fault
        if not self.body_complete:
            self._drop_body()
            if self.refused:
                raise RequestTimeout(
                    "The body of the request stopped arriving before it was complete, or was invalid."
                )
            raise ClientClosed("The client disconnected before its request was complete.")
        return self.take_body()

    def _make_room(self) -> None:
        """Read the rest of a large body of known length directly into one block of its size, which
        BytesIO gives back as bytes without a copy. The system commits its pages as they are
        written.
        """
        if self.length is None or self.length - self.size < DIRECT_SIZE:
            return
        self._block = BytesIO(bytes(self.length))
        self._view = self._block.getbuffer()
        at = 0
        for piece in self._pieces:
            self._view[at : at + len(piece)] = piece
            at += len(piece)
        self._pieces.clear()

    @property
    def unfilled(self) -> memoryview | None:
        """Where the next bytes of the body are to be read; None if it has no block."""
        return None if self._view is None else self._view[self.size :]

    def body_filled(self, size: int) -> None:
        """So many bytes were read into `unfilled`."""
        self.size += size

    def body_received(self, data: bytes) -> None:
        size = self.size + len(data)
        if self._view is not None:
            self._view[self.size : size] = data
            self.size = size
            return
        self.size = size
        if self._fault is not None:
            return
        if self._check is not None:
            try:
                self._check(size)
            except ModelplexError as error:
                self._fault = error
                return
        if not self.asked:
            if size > PENDING_LIMIT:
                self.connection.pause_reading()
        elif self._pieces:
            # One growing block: pieces of two bytes kept as objects would take twenty times their
            # size and fragment the heap.
            self._block = self._block or BytesIO()
            for piece in self._pieces:
                self._block.write(piece)
            self._pieces.clear()
        if self._block is not None:
            self._block.write(data)
        else:
            self._pieces.append(data)

    def input_read(self) -> None:
        """Input was read: wake the app if its body is complete, or refused."""
        if self.body_complete or self._fault is not None:
            if self._view is None:
                self._wake()
            else:
                # The event loop holds the block until this callback returns, and BytesIO would copy
                # what somebody else holds.
                self.connection.loop.call_soon(self._wake)

    def take_body(self) -> bytes:
        """The body, which is complete."""
        self._check = None
        pieces = self._pieces
        if self._block is None:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            return body
        if self._view is not None:
            self._view.release()
        body = self._block.getvalue()
        self._drop_body()
        return body

    def _drop_body(self) -> None:
        self._pieces.clear()
        self._block = self._view = None

    def disconnect(self) -> None:
        """The client is gone, or its request cannot be read completely."""
        self.disconnected = True
        self._wake()
        if self.on_disconnect is not None:
            self.on_disconnect()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.wake()

    # The response.

    async def drain(self) -> None:
        """Wait until the client has read what was written before."""
        if self.connection.write_paused and not self.disconnected:
            await self.connection.drain()

    def respond(self, status: int, headers: Headers | bytes, body: bytes) -> None:
        """Write a whole response. Raises ValueError for a header with a line break; lines that are
        encoded already have been checked.
        """
        if self.disconnected:
            return
        if isinstance(headers, bytes) and self.keep_alive:
            self.waiting_for_100_continue = False
            head = b"%b%bcontent-length: %d\r\n\r\n" % (STATUS_LINES[status], headers, len(body))
        else:
            head = self._head(status, headers, framing=b"content-length: %d\r\n" % len(body))
        self.response_started = True
        if self.head.method == "HEAD":
            body = b""
        if len(body) > JOIN_LIMIT:
            self.connection.transport.writelines((head, body))
        else:
            self.connection.transport.write(head + body)
        self.response_complete = True
        if not self.keep_alive:
            self.connection.close()
        self.connection.exchange_complete()

    def start(self, headers: Headers | bytes) -> None:
        """Start a response of status 200 and unknown length. The head is written with the first
        piece.
        """
        if self.disconnected:
            return
        # HTTP/1.0 (nginx as a proxy, by default) has no chunks: the response ends with the
        # connection.
        self.chunked = self.head.version != "1.0"
        framing = b"transfer-encoding: chunked\r\n" if self.chunked else b""
        self.unwritten = self._head(200, headers, framing=framing)
        self.response_started = True

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Write a piece of a response that was started. An empty piece writes the waiting head."""
        if self.disconnected:
            return
        if self.head.method == "HEAD":
            data = b""
        elif self.chunked:
            end = b"0\r\n\r\n" if last else b""
            data = b"%x\r\n%b\r\n%b" % (len(data), data, end) if data else end
        if self.unwritten:
            data = self.unwritten + data
            self.unwritten = b""
        if data:
            self.connection.transport.write(data)
        if last:
            self._complete()

    def _head(self, status: int, headers: Headers | bytes, *, framing: bytes) -> bytes:
        self.waiting_for_100_continue = False
        if not isinstance(headers, bytes):
            headers = header_lines(headers)
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        return b"".join((STATUS_LINES[status], headers, framing, end))

    def _complete(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self.connection.close()
        self.connection.exchange_complete()

    def fail(self) -> None:
        """End the response: with an error, or incomplete if it was started."""
        if self.response_complete or self.disconnected:
            return
        if self.response_started:
            # Without the end of the body, so that the client sees an incomplete response.
            self.connection.close()
            return
        self.keep_alive = False
        self.respond(500, [(b"content-type", b"application/json")], APP_FAILED)


App = Callable[[HttpExchange], Coroutine[Any, Any, None]]
