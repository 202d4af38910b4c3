"""One HTTP request and its response: the ASGI scope, `receive` and `send`, and direct writes for
the gateway's own app.

uvicorn provides `send` and `receive`, flow control and 100-continue. The connection that owns the
exchange (connection.py) decides when it runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from uvicorn._types import ASGI3Application, HTTPScope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from modelplex.server.connection_refusals import APP_FAILED

log = logging.getLogger("modelplex.server")

JOIN_LIMIT = 65_536
"""Bytes of body up to which head and body are joined: a copy costs less than a second buffer."""


class ClosableConnection(Protocol):
    transport: asyncio.Transport

    def close(self) -> None: ...


class ExchangeTransport:
    """The transport of an exchange. `close` is the connection's, which lingers."""

    __slots__ = ("close", "is_closing", "write", "writelines")

    def __init__(self, connection: ClosableConnection) -> None:
        self.write = connection.transport.write
        self.writelines = connection.transport.writelines
        self.is_closing = connection.transport.is_closing
        self.close = connection.close


class HttpExchange(RequestResponseCycle):
    """One request and its response. An app that fails gives an error or an incomplete response."""

    task: asyncio.Task[None] | None = None
    refused = False
    """The connection has sent a refusal, since the body was late or invalid."""
    unwritten = b""
    """A head that waits for the first piece of body."""
    on_disconnect: Callable[[], object] | None = None
    """Called when the client disconnects while the app runs. The app may set it on
    `scope["exchange"]`.
    """

    def __init__(
        self,
        scope: HTTPScope,
        *,
        transport: asyncio.Transport,
        flow: FlowControl,
        expects_100: bool,
        keep_alive: bool,
        on_response: Callable[[], None],
    ) -> None:
        super().__init__(
            scope=scope,
            transport=transport,
            flow=flow,
            logger=log,
            access_logger=log,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=expects_100,
            keep_alive=keep_alive,
            on_response=on_response,
        )

    def __repr__(self) -> str:
        state = (
            "complete" if self.response_complete else "responding" if self.response_started else "requested"
        )
        disconnected = ", disconnected" if self.disconnected else ""
        return f"<HttpExchange {self.scope.get('method', '')} {self.scope.get('path', '')} {state}{disconnected}>"

    async def run(self, app: ASGI3Application, running: set[HttpExchange]) -> None:
        try:
            await app(self.scope, self.receive, self.send)
            if not self.response_complete and not self.disconnected:
                log.error("the app returned before its response was complete: %r", self)
                await self.fail()
        except Exception:
            # The outermost loop of a request: unexpected errors of the app end here.
            log.exception("the app failed: %r", self)
            await self.fail()
        except asyncio.CancelledError:
            self.transport.close()
            raise
        finally:
            running.discard(self)
            self.task = self.on_disconnect = None
            # The scope and the exchange refer to each other. An idle connection keeps its last
            # exchange, but not the head.
            self.scope.clear()  # type: ignore[attr-defined]
            self.body = bytearray()

    # Direct writes for the gateway's own app. ASGI's `send` takes a dictionary for each piece,
    # checks every header twice and writes the head alone. These leave the exchange in the same
    # state as `send`.

    async def drain(self) -> None:
        """Wait until the client has read what was written before."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()

    def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Write a whole response. Raises ValueError for a header with a line break."""
        if self.disconnected:
            return
        head = self.head(status, headers, framing=b"content-length: %d\r\n" % len(body))
        self.response_started = True
        if self.scope["method"] == "HEAD":
            body = b""
        if len(body) > JOIN_LIMIT:
            self.transport.writelines((head, body))
        else:
            self.transport.write(head + body)
        self.complete()

    def start(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Start a response of status 200 and unknown length. The head is written with the first
        piece.
        """
        # HTTP/1.0 (nginx as a proxy, by default) has no chunks: the response ends with the
        # connection.
        self.chunked_encoding = self.scope["http_version"] != "1.0"
        framing = b"transfer-encoding: chunked\r\n" if self.chunked_encoding else b""
        self.unwritten = self.head(200, headers, framing=framing)
        self.response_started = True

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Write a piece of a response that was started. An empty piece writes the waiting head."""
        if self.disconnected:
            return
        if self.scope["method"] == "HEAD":
            data = b""
        elif self.chunked_encoding:
            end = b"0\r\n\r\n" if last else b""
            data = b"%x\r\n%b\r\n%b" % (len(data), data, end) if data else end
        if self.unwritten:
            data = self.unwritten + data
            self.unwritten = b""
        if data:
            self.transport.write(data)
        if last:
            self.complete()

    def head(self, status: int, headers: list[tuple[bytes, bytes]], *, framing: bytes) -> bytes:
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        lines.extend(b"%b: %b\r\n" % header for header in headers)
        lines.append(framing)
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        head = b"".join(lines)
        # Checks all headers at once: the number of lines is right, and each ends in CR LF.
        if head.count(b"\n") != len(headers) + 2 + bool(framing) + (not self.keep_alive) or head.count(
            b"\r"
        ) != head.count(b"\n"):
            raise ValueError("a response header holds a line break")
        return head

    def complete(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    async def fail(self) -> None:
        if self.response_complete or self.disconnected:
            return
        if self.response_started:
            # Without the end of the body, so that the client sees an incomplete response.
            self.transport.close()
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(APP_FAILED)),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": APP_FAILED, "more_body": False})
