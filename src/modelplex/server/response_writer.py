"""The caller's side of one request: reads the body within its limits, sends the status once, and
counts what was sent. It knows no model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

from uvicorn._types import ASGIReceiveCallable

from modelplex.core.errors import ClientClosed, ModelplexError, RequestTimeout, TooLarge
from modelplex.pipeline.response_output import HeaderList, ResponseHead
from modelplex.server.admission import Reservation
from modelplex.server.http_exchange import HttpExchange
from modelplex.server.response_headers import response_headers


class ResponseWriter:
    """`sent` counts body bytes; `first` is the clock's reading at the first of them. `kept` has the
    first `keep` bytes of the response body.

    reservation  the body's share of the process's memory; None is not counted
    turn         waits until a request of so many bytes may start
    """

    __slots__ = ("_clock", "_exchange", "_keep", "_receive", "ended", "first", "kept", "reservation", "sent", "started", "status", "stop_error", "stopping", "task", "turn")  # fmt: skip

    def __init__(
        self,
        exchange: HttpExchange,
        receive: ASGIReceiveCallable,
        *,
        clock: Callable[[], float],
        keep: int = 0,
    ) -> None:
        self._exchange = exchange
        self._receive = receive
        self._clock = clock
        self._keep = keep
        self.kept: list[bytes] = []
        self.started = False
        self.ended = False
        self.stopping = False
        self.stop_error: ModelplexError | None = None
        self.sent = 0
        self.first: float | None = None
        self.status = 0
        self.task: asyncio.Task[Any] | None = None
        self.reservation: Reservation | None = None
        self.turn: Callable[[int], Awaitable[None]] | None = None

    def __repr__(self) -> str:
        state = "ended" if self.ended else "started" if self.started else "open"
        return f"<ResponseWriter {state} {self.status or ''} {self.sent} bytes>"

    async def body(self, *, limit: int, declared: int | None) -> bytes:
        """The whole request body, when it is the caller's turn to have it parsed. Raises
        ClientClosed, RequestTimeout, TooLarge, and AgentLimited or Busy if there is no memory for
        it: before reading, where its length was declared.
        """
        body = await self._read_body(limit=limit, declared=declared)
        if self.turn is not None:
            await self.turn(len(body))
        return body

    async def _read_body(self, *, limit: int, declared: int | None) -> bytes:
        check_length(declared, limit=limit)
        reservation = self.reservation
        if reservation is not None and declared:
            reservation.reach(declared)
        # One growing block: pieces of two bytes kept as objects would take twenty times their size
        # and fragment the heap. BytesIO returns its bytes without a copy; a bytearray does not.
        block = BytesIO()
        size = 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                if self._exchange.refused:
                    raise RequestTimeout(
                        "The body of the request stopped arriving before it was complete, or was invalid."
                    )
                raise ClientClosed("The client disconnected before its request was complete.")
            piece = message["body"]
            size += len(piece)
            if size > limit:
                raise _too_large(size, limit)
            if reservation is not None:
                reservation.reach(size)
            if size == len(piece) and not message["more_body"]:
                return piece
            block.write(piece)
            if not message["more_body"]:
                return block.getvalue()

    def keep_body(self) -> Callable[[], None]:
        """Keep the body's memory reserved after this request. Returns the function that releases
        it.
        """
        reservation, self.reservation = self.reservation, None
        return reservation.release if reservation is not None else _nothing

    def release(self) -> None:
        """Release the body's memory: the request is over."""
        if self.reservation is not None:
            self.reservation.release()

    def cancel_on_disconnect(self) -> None:
        """From now on a disconnect cancels the running task. Raises ClientClosed if the client has
        disconnected already.
        """
        if self._exchange.disconnected:
            raise ClientClosed("The client disconnected.")
        self.task = task = self._exchange.task
        assert task is not None
        self._exchange.on_disconnect = task.cancel

    def ignore_disconnect(self) -> None:
        self._exchange.on_disconnect = None

    async def respond(self, status: int, head: ResponseHead | HeaderList, body: bytes) -> None:
        await self._exchange.drain()
        self._count(status, body)
        self.ended = True
        headers = response_headers(head) if isinstance(head, ResponseHead) else head
        self._exchange.respond(status, headers, body)

    async def start(self, head: ResponseHead | HeaderList) -> None:
        self._count(200, b"")
        self._exchange.start(response_headers(head) if isinstance(head, ResponseHead) else head)

    async def write(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange.flow.write_paused:
            await exchange.drain()
        self._count(200, data)
        exchange.write(data)

    async def finish(self) -> None:
        self.ended = True
        await self._exchange.drain()
        self._exchange.write(b"", last=True)

    def abort(self) -> None:
        """Close the connection, so that the client sees an incomplete response."""
        self.ended = True
        self._exchange.transport.close()

    def stop(self, reason: ModelplexError) -> None:
        """Cancel the request, which ends with this error."""
        self.stopping, self.stop_error = True, reason
        if self.task is not None:
            self.task.cancel()

    def _count(self, status: int, data: bytes) -> None:
        self.started = True
        self.status = status
        if data:
            if not self.sent:
                self.first = self._clock()
            self.sent += len(data)
            if self._keep > 0:
                self.kept.append(data[: self._keep])
                self._keep -= len(data)


def check_length(declared: int | None, *, limit: int) -> None:
    """Raises TooLarge for a body whose declared length is above the limit."""
    if declared is not None and declared > limit:
        raise _too_large(declared, limit)


def _nothing() -> None:
    pass


def _too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(f"The body has {size} bytes or more, and [server] max_request_size is {limit}.")
