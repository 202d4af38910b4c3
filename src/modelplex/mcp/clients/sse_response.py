"""Writes a message stream as an HTTP response: one JSON value if that is all, else server-sent
events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

import msgspec

from modelplex.mcp.clients.checks import ProtocolRefusal
from modelplex.mcp.clients.message_stream import MessageStream
from modelplex.mcp.constants import INTERNAL_ERROR

SILENCE_SECONDS: Final = 15.0
"""Seconds of silence after which a response becomes an event stream, and after which a comment is
written: less than the timeouts of proxies and clients.
"""
RETRY_MS: Final = 1000
"""The delay before a client resumes a broken stream."""

JSON: Final = (b"content-type", b"application/json")
EVENTS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
COMMENT: Final = b":\n\n"


class HttpOutput(Protocol):
    """The response side of one HTTP request; implemented in `server`."""

    started: bool
    stopping: bool

    async def body(self, *, limit: int, declared: int | None) -> bytes: ...
    def keep_body(self) -> Callable[[], None]: ...
    async def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, /) -> None: ...
    async def start(self, headers: list[tuple[bytes, bytes]], /) -> None: ...
    async def write(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...
    def abort(self) -> None: ...
    def cancel_on_disconnect(self) -> None: ...
    def ignore_disconnect(self) -> None: ...


class ResponseOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a response is written.

    headers   further headers
    numbered  events have ids
    id_first  an event with an id and without data comes first
    events    the response is an event stream from the start
    batch     a response that is no event stream is an array
    """

    headers: tuple[tuple[bytes, bytes], ...] = ()
    numbered: bool = False
    id_first: bool = False
    events: bool = False
    batch: bool = False


class SseResponder:
    """Writes streams. `silence` are the seconds of it after which a comment is sent."""

    def __init__(self, silence: float = SILENCE_SECONDS) -> None:
        self._silence = silence

    async def write_response(
        self,
        stream: MessageStream,
        output: HttpOutput,
        options: ResponseOptions,
        *,
        status: asyncio.Task[int] | None = None,
    ) -> None:
        """Write a whole response. `status` is the task that fills the stream; it gives a single
        response its HTTP status.
        """
        if not options.events:
            try:
                async with asyncio.timeout(None if stream.json_only else self._silence):
                    await _wait_for_form(stream, status)
            except TimeoutError:
                pass
            else:
                if stream.last == stream.responses:
                    await self._write_json(stream, output, options, status=status)
                    return
        await self.write_events(stream, output, options)

    async def _write_json(
        self,
        stream: MessageStream,
        output: HttpOutput,
        options: ResponseOptions,
        *,
        status: asyncio.Task[int] | None,
    ) -> None:
        items = stream.after(0)
        code = await status if status is not None else 200
        if options.batch:
            body = b"[" + b",".join(data for _, data in items) + b"]"
        else:
            body = items[-1][1] if items else b""
        if body:
            await output.respond(code, [JSON, *options.headers], body)
        else:
            await output.respond(202, [*options.headers], b"")

    async def write_events(
        self,
        stream: MessageStream,
        output: HttpOutput,
        options: ResponseOptions,
        *,
        after: int = 0,
        first: bytes = b"",
    ) -> None:
        """Write events after number `after` until the stream ends, another connection takes it
        over, or this client is too slow. `first` is written before them.
        """
        reader = stream.attach()
        try:
            await output.start([*EVENTS, *options.headers])
            stream.ids_sent = options.numbered
            if options.id_first and not stream.finished:
                first += b"id: %b-%d\nretry: %d\ndata: \n\n" % (stream.key.encode(), after, RETRY_MS)
            await output.write(first)
            while True:
                items = stream.after(after)
                if items and items[0][0] != after + 1:
                    output.abort()  # the client can resume; it could not see a gap
                    return
                if items:
                    await output.write(
                        b"".join(
                            _event(stream, number, data, numbered=options.numbered) for number, data in items
                        )
                    )
                    after = items[-1][0]
                    stream.mark_read(after)
                elif stream.finished:
                    await output.finish()
                    return
                elif not await self._more(stream, output, after=after, reader=reader):
                    output.abort()
                    return
        finally:
            stream.detach(reader)

    async def _more(self, stream: MessageStream, output: HttpOutput, *, after: int, reader: int) -> bool:
        """Wait for more messages and send comments meanwhile. False if another connection took
        over.
        """
        try:
            async with asyncio.timeout(self._silence):
                return await stream.wait_for_more(after, reader=reader)
        except TimeoutError:
            await output.write(COMMENT)
            return True


async def _wait_for_form(stream: MessageStream, status: asyncio.Task[int] | None) -> None:
    """Wait until the form of the response is known. Raises the error of a failed task."""
    if status is None:
        await stream.wait_for_form()
        return
    form_known = asyncio.create_task(stream.wait_for_form())
    try:
        await asyncio.wait((form_known, status), return_when=asyncio.FIRST_COMPLETED)
    finally:
        form_known.cancel()
    if status.done() and not stream.finished:
        status.result()


def _event(stream: MessageStream, number: int, data: bytes, *, numbered: bool) -> bytes:
    if numbered:
        return b"event: message\nid: %b-%d\ndata: %b\n\n" % (stream.key.encode(), number, data)
    return b"event: message\ndata: %b\n\n" % data


@asynccontextmanager
async def until_disconnect(output: HttpOutput) -> AsyncGenerator[None]:
    """Ends the block when the client disconnects or the gateway stops. The response then ends with
    an error if the gateway stops. Nothing else cancels the task of a request.
    """
    try:
        output.cancel_on_disconnect()
        yield
    except asyncio.CancelledError:
        output.ignore_disconnect()
        if not output.stopping:
            return
        text = "The gateway is shutting down; this was not finished."
        await refuse(ProtocolRefusal(503, INTERNAL_ERROR, text), output)
    finally:
        output.ignore_disconnect()


async def refuse(fault: ProtocolRefusal, output: HttpOutput, *, allow: str | None = None) -> None:
    """Respond with an error, or cut a response that has begun."""
    if output.started:
        output.abort()
        return
    head: list[tuple[bytes, bytes]] = [JSON]
    if allow is not None:
        head.append((b"allow", allow.encode()))
    if fault.status == 401:
        head.append((b"www-authenticate", b"Bearer"))
    await output.respond(fault.status, head, msgspec.json.encode(fault.body()))
