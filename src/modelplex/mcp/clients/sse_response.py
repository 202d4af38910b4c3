"""Writes a message stream as an HTTP response: one JSON value if that is all, else server-sent
events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol

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
        self, stream: MessageStream, output: HttpOutput, options: ResponseOptions
    ) -> None:
        """Write a whole response, which others put onto the stream."""
        if not options.events:
            try:
                async with asyncio.timeout(None if stream.json_only else self._silence):
                    await stream.wait_for_form()
            except TimeoutError:
                pass
            else:
                if stream.last == stream.responses:
                    await self._write_json(stream, output, options, status=200)
                    return
        await self.write_events(stream, output, options)

    async def write_response_of(
        self,
        answer: Awaitable[int],
        stream: MessageStream,
        output: HttpOutput,
        options: ResponseOptions,
    ) -> None:
        """Await `answer`, which fills and finishes the stream, and write the response. It gives a
        single response its HTTP status. If the client cannot be written to before, it is cancelled.

        It runs in the task of the request, so that the usual response has no other task.
        """
        beside = _EventsBeside(partial(self.write_events, stream, output, options))
        silence = asyncio.get_running_loop().call_later(self._silence, beside.start)
        stream.on_notification = beside.start
        if options.events:
            beside.start()
        try:
            status = await answer
        except asyncio.CancelledError:
            if not beside.has_cancelled():
                raise
            return
        finally:
            silence.cancel()
            stream.on_notification = None
            await beside.end(finished=stream.finished)
        if not beside.started:
            await self._write_json(stream, output, options, status=status)

    async def _write_json(
        self, stream: MessageStream, output: HttpOutput, options: ResponseOptions, *, status: int
    ) -> None:
        items = stream.after(0)
        if options.batch:
            body = b"[" + b",".join(data for _, data in items) + b"]"
        else:
            body = items[-1][1] if items else b""
        if body:
            await output.respond(status, [JSON, *options.headers], body)
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


class _EventsBeside:
    """A task that writes events while the task that made this waits for the answer. When it ends
    before the answer, it cancels that task.
    """

    def __init__(self, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._write = write
        self._waiting = asyncio.current_task()
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False

    @property
    def started(self) -> bool:
        return self._task is not None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._write())
            self._task.add_done_callback(self._ended)

    def _ended(self, _task: object) -> None:
        if self._waiting is not None:
            self._cancelled = True
            self._waiting.cancel()

    def has_cancelled(self) -> bool:
        """Whether the cancellation that was just caught is this one's alone."""
        return self._cancelled and self._waiting is not None and self._waiting.uncancel() == 0

    async def end(self, *, finished: bool) -> None:
        """Wait until the rest is written; if the stream has no end, cancel the task. Raises what
        the task raised.
        """
        self._waiting = None
        task = self._task
        if task is None:
            return
        try:
            if finished:
                await asyncio.wait((task,))
        finally:
            task.cancel()
            await asyncio.wait((task,))
        if not task.cancelled():
            task.result()


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
