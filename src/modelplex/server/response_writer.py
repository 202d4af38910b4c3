"""The caller's side of one request, over ASGI.

Above it stands the gateway, which answers through it; below it the exchange. It knows that a status
goes out once, how a body is collected within its limits, and what became of the bytes. It knows
nothing of models.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

from uvicorn._types import ASGIReceiveCallable

from modelplex.core.errors import ClientClosed, RequestTimeout, TooLarge
from modelplex.pipeline.response_output import ResponseHead
from modelplex.server.admission import Reservation
from modelplex.server.http_exchange import HttpExchange
from modelplex.server.response_headers import response_headers

Headers = list[tuple[bytes, bytes]]


class ResponseWriter:
    """`sent` counts body bytes, `first` is the clock's reading at the first of them. With `keep`
    bytes to keep, `kept` has the beginning of the answer.
    """

    __slots__ = ("_clock", "_exchange", "_keep", "_receive", "begun", "ended", "first", "kept", "reservation", "sent", "status", "stopping", "task", "turn")  # fmt: skip

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
        self.begun = False
        self.ended = False
        self.stopping = False
        self.sent = 0
        self.first: float | None = None
        self.status = 0
        self.task: asyncio.Task[Any] | None = None
        self.reservation: Reservation | None = None
        """What the body takes of the process's memory; None where nobody counts."""
        self.turn: Callable[[int], Awaitable[None]] | None = None
        """Waits until a request of so many bytes may begin beside those of others."""

    def __repr__(self) -> str:
        state = "ended" if self.ended else "begun" if self.begun else "open"
        return f"<Door {state} {self.status or ''} {self.sent} bytes>"

    async def body(self, *, limit: int, declared: int | None) -> bytes:
        """The whole request body. Raises ClientClosed, TooLarge, and AgentLimited or Busy where
        there is no room for it in memory: before reading where its length was declared. It returns
        when it is the caller's turn to have it read.
        """
        body = await self._collected(limit=limit, declared=declared)
        if self.turn is not None:
            await self.turn(len(body))
        return body

    async def _collected(self, *, limit: int, declared: int | None) -> bytes:
        check_length(declared, limit=limit)
        reservation = self.reservation
        if reservation is not None and declared:
            reservation.reach(declared)
        # One block that grows: pieces kept as objects would take twenty times their size where they
        # have two bytes each, and leave holes when they are freed. It gives its bytes without a
        # copy, as a bytearray does not.
        block = BytesIO()
        size = 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                if self._exchange.refused:
                    raise RequestTimeout(
                        "The body of the request stopped arriving before it was complete, or was broken."
                    )
                raise ClientClosed("The caller hung up before its request was complete.")
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
        """The body outlives this request: what this returns is called when it is no longer in
        memory.
        """
        reservation, self.reservation = self.reservation, None
        return reservation.release if reservation is not None else _nothing

    def release(self) -> None:
        """The request is over, and its body with it."""
        if self.reservation is not None:
            self.reservation.release()

    def mind_hang_up(self) -> None:
        """From here on a caller that hangs up cancels the running task. Raises ClientClosed where
        it did so already: while its body was read, nobody looked.
        """
        if self._exchange.disconnected:
            raise ClientClosed("The caller hung up.")
        self.task = task = self._exchange.task
        assert task is not None
        self._exchange.on_disconnect = task.cancel

    def no_longer(self) -> None:
        self._exchange.on_disconnect = None

    async def whole(self, status: int, head: ResponseHead | Headers, body: bytes) -> None:
        await self._exchange.drain()
        self._note(status, body)
        self.ended = True
        headers = response_headers(head) if isinstance(head, ResponseHead) else head
        self._exchange.respond(status, headers, body)

    async def begin(self, head: ResponseHead | Headers) -> None:
        self._note(200, b"")
        self._exchange.start(response_headers(head) if isinstance(head, ResponseHead) else head)

    async def write(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange.flow.write_paused:
            await exchange.drain()
        self._note(200, data)
        exchange.write(data)

    async def finish(self) -> None:
        self.ended = True
        await self._exchange.drain()
        self._exchange.write(b"", last=True)

    def cut(self) -> None:
        self.ended = True
        self._exchange.transport.close()

    def stop(self) -> None:
        """The shutdown's patience with this request is over."""
        self.stopping = True
        if self.task is not None:
            self.task.cancel()

    def _note(self, status: int, data: bytes) -> None:
        self.begun = True
        self.status = status
        if data:
            if not self.sent:
                self.first = self._clock()
            self.sent += len(data)
            if self._keep > 0:
                self.kept.append(data[: self._keep])
                self._keep -= len(data)


def check_length(declared: int | None, *, limit: int) -> None:
    """Raises TooLarge for a body that its head says is too large."""
    if declared is not None and declared > limit:
        raise _too_large(declared, limit)


def _nothing() -> None:
    pass


def _too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(f"The body has {size} bytes or more, and [server] max_request_size is {limit}.")
