"""Writes a message stream as an HTTP response: one JSON value if that is all, else server-sent
events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from modelplex.mcp.clients.checks import ProtocolRefusal
from modelplex.mcp.clients.session import MessageStream, answers_of
from modelplex.mcp.constants import INTERNAL_ERROR

QUIET_SECONDS: Final = 15.0
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


class ResponseManner(msgspec.Struct, frozen=True, kw_only=True):
    """How a response is written. `names` are further headers. `numbered` gives events ids, and
    `primed` sends an id before the first message. `events` starts an event stream at once; `batch`
    answers with an array.
    """

    names: tuple[tuple[bytes, bytes], ...] = ()
    numbered: bool = False
    primed: bool = False
    events: bool = False
    batch: bool = False


class SseResponder:
    """Writes streams. `quiet` is the silence in seconds after which a comment is sent."""

    def __init__(self, quiet: float = QUIET_SECONDS) -> None:
        self._quiet = quiet

    async def carry(
        self,
        stream: MessageStream,
        output: HttpOutput,
        manner: ResponseManner,
        *,
        status: asyncio.Task[int] | None = None,
    ) -> None:
        """Write a whole response. `status` is the task that fills the stream; it gives a single
        response its HTTP status.
        """
        if not manner.events:
            try:
                async with asyncio.timeout(None if stream.mute else self._quiet):
                    await _settle(stream, status)
            except TimeoutError:
                pass
            else:
                if stream.last == stream.answers:
                    await self._whole(stream, output, manner, status=status)
                    return
        await self.flow(stream, output, manner)

    async def _whole(
        self,
        stream: MessageStream,
        output: HttpOutput,
        manner: ResponseManner,
        *,
        status: asyncio.Task[int] | None,
    ) -> None:
        items = stream.after(0)
        code = await status if status is not None else 200
        body = answers_of(items) if manner.batch else items[-1][1] if items else b""
        if body:
            await output.respond(code, [JSON, *manner.names], body)
        else:
            await output.respond(202, [*manner.names], b"")

    async def flow(
        self,
        stream: MessageStream,
        output: HttpOutput,
        manner: ResponseManner,
        *,
        after: int = 0,
        first: bytes = b"",
    ) -> None:
        """Write events until the stream ends, another connection takes it over, or this client is
        too slow.
        """
        reader = stream.take()
        try:
            await output.start([*EVENTS, *manner.names])
            stream.shown = manner.numbered
            if manner.primed and not stream.finished:
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
                            _event(stream, number, data, numbered=manner.numbered) for number, data in items
                        )
                    )
                    after = items[-1][0]
                    stream.read(after)
                elif stream.finished:
                    await output.finish()
                    return
                elif not await self._more(stream, output, after=after, reader=reader):
                    output.abort()
                    return
        finally:
            stream.leave(reader)

    async def _more(self, stream: MessageStream, output: HttpOutput, *, after: int, reader: int) -> bool:
        """Wait for more messages and send comments meanwhile. False if another connection took
        over.
        """
        try:
            async with asyncio.timeout(self._quiet):
                return await stream.more(after, reader=reader)
        except TimeoutError:
            await output.write(COMMENT)
            return True


async def _settle(stream: MessageStream, status: asyncio.Task[int] | None) -> None:
    """Wait until the form of the response is known. Raises the error of a failed task."""
    if status is None:
        await stream.settled()
        return
    settled = asyncio.create_task(stream.settled())
    try:
        await asyncio.wait((settled, status), return_when=asyncio.FIRST_COMPLETED)
    finally:
        settled.cancel()
    if status.done() and not stream.finished:
        status.result()


def _event(stream: MessageStream, number: int, data: bytes, *, numbered: bool) -> bytes:
    if numbered:
        return b"event: message\nid: %b-%d\ndata: %b\n\n" % (stream.key.encode(), number, data)
    return b"event: message\ndata: %b\n\n" % data


async def cut_short(output: HttpOutput) -> None:
    """End a response: with an error if the gateway stops, silently if the client is gone."""
    if not output.stopping:
        return
    if output.started:
        output.abort()
    else:
        await refuse(
            ProtocolRefusal(503, INTERNAL_ERROR, "The gateway is shutting down; this was not finished."),
            output,
        )


async def refuse(fault: ProtocolRefusal, output: HttpOutput, *, allow: str | None = None) -> None:
    if output.started:
        output.abort()
        return
    head: list[tuple[bytes, bytes]] = [JSON]
    if allow is not None:
        head.append((b"allow", allow.encode()))
    if fault.status == 401:
        head.append((b"www-authenticate", b"Bearer"))
    await output.respond(fault.status, head, msgspec.json.encode(fault.body()))
