"""The caller's side of one request: reads the body within its limits, sends the status once, and
counts what was sent. It knows no model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from modelplex.core.errors import ClientClosed, ModelplexError, TooLarge
from modelplex.pipeline.response_output import HeaderList, ResponseHead
from modelplex.server.admission import BodyMemory
from modelplex.server.fair_start import FairStart
from modelplex.server.http_exchange import HttpExchange
from modelplex.server.response_headers import response_headers


class ResponseWriter(msgspec.Struct, eq=False):
    """`sent` counts body bytes; `first` is the clock's reading at the first of them. `kept` has the
    first `keep` bytes of the response body.

    owner       whose share of `memory` the body counts for; without `memory` it is not counted
    fair_start  gives turns to start; None starts at once
    starter     whose turn it has to be
    """

    exchange: HttpExchange
    clock: Callable[[], float]
    keep: int = 0
    owner: str = ""
    memory: BodyMemory | None = None
    fair_start: FairStart | None = None
    starter: str = ""
    kept: list[bytes] = []
    started: bool = False
    ended: bool = False
    stopping: bool = False
    stop_error: ModelplexError | None = None
    sent: int = 0
    first: float | None = None
    status: int = 0
    reserved: int = 0

    def __repr__(self) -> str:
        state = "ended" if self.ended else "started" if self.started else "open"
        return f"<ResponseWriter {state} {self.status or ''} {self.sent} bytes>"

    async def body(self, *, limit: int, declared: int | None) -> bytes:
        """The whole request body, when it is the caller's turn to have it parsed. Raises
        ClientClosed, RequestTimeout, TooLarge, and AgentLimited or Busy if there is no memory for
        it: before reading, where its length was declared.
        """
        if declared is not None:
            if declared > limit:
                raise _too_large(declared, limit)
            if self.memory is not None and declared > self.reserved:
                self.memory.grow(self.owner, declared - self.reserved)
                self.reserved = declared
        exchange = self.exchange
        if declared is not None and exchange.body_complete:
            body = exchange.take_body()
        else:

            def check(size: int) -> None:
                if size > limit:
                    raise _too_large(size, limit)
                self.reserve(size)

            body = await exchange.body(check)
        turns = self.fair_start
        if turns is not None and not turns.may_start(self.starter, len(body)):
            await turns.wait(self.starter, len(body))
        return body

    def reserve(self, size: int) -> None:
        """Hold memory for `size` bytes in all. Raises AgentLimited or Busy."""
        if self.memory is not None and size > self.reserved:
            self.memory.grow(self.owner, size - self.reserved)
            self.reserved = size

    def keep_body(self) -> Callable[[], None]:
        """Keep the body's memory reserved after this request. Returns the function that releases
        it.
        """
        memory, owner, size = self.memory, self.owner, self.reserved
        self.reserved = 0
        if memory is None or not size:
            return _nothing
        return partial(memory.shrink, owner, size)

    def release(self) -> None:
        """Release the body's memory: the request is over. Idempotent."""
        if self.reserved and self.memory is not None:
            self.memory.shrink(self.owner, self.reserved)
            self.reserved = 0

    def cancel_on_disconnect(self) -> None:
        """From now on a disconnect cancels the running task. Raises ClientClosed if the client has
        disconnected already.
        """
        if self.exchange.disconnected:
            raise ClientClosed("The client disconnected.")
        task = self.exchange.task
        assert task is not None
        self.exchange.on_disconnect = task.cancel

    def ignore_disconnect(self) -> None:
        self.exchange.on_disconnect = None

    async def respond(self, status: int, head: ResponseHead | HeaderList, body: bytes) -> None:
        exchange = self.exchange
        if exchange.connection.write_paused:
            await exchange.drain()
        self._count(status, body)
        self.ended = True
        headers = response_headers(head) if isinstance(head, ResponseHead) else head
        exchange.respond(status, headers, body)

    async def start(self, head: ResponseHead | HeaderList) -> None:
        self._count(200, b"")
        self.exchange.start(response_headers(head) if isinstance(head, ResponseHead) else head)

    async def write(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange.connection.write_paused:
            await exchange.drain()
        self._count(200, data)
        exchange.write(data)

    def write_now(self, data: bytes) -> bool:
        exchange = self.exchange
        if exchange.connection.write_paused:
            return False
        self._count(200, data)
        exchange.write(data)
        return True

    async def finish(self) -> None:
        self.ended = True
        await self.exchange.drain()
        self.exchange.write(b"", last=True)

    def abort(self) -> None:
        """Close the connection, so that the client sees an incomplete response."""
        self.ended = True
        self.exchange.connection.close()

    def stop(self, reason: ModelplexError) -> None:
        """Cancel the request, which ends with this error."""
        self.stopping, self.stop_error = True, reason
        if self.exchange.task is not None:
            self.exchange.task.cancel()

    def _count(self, status: int, data: bytes) -> None:
        self.started = True
        self.status = status
        if data:
            if not self.sent:
                self.first = self.clock()
            self.sent += len(data)
            if self.keep > 0:
                self.kept.append(data[: self.keep])
                self.keep -= len(data)


def check_length(declared: int | None, *, limit: int) -> None:
    """Raises TooLarge for a body whose declared length is above the limit."""
    if declared is not None and declared > limit:
        raise _too_large(declared, limit)


def _nothing() -> None:
    pass


def _too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(f"The body has {size} bytes or more, and [server] max_request_size is {limit}.")
