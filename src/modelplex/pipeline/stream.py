"""Moving one answer from a provider to the caller.

Above it stands the gateway, which chose the provider; below it the passage, which says what the
bytes mean, the upstream's Answer and the caller's Door. It keeps one promise: a broken answer never
looks like a whole one. Until the first output nothing is sent, so that another provider may still
be tried; from then on what goes wrong is written in the caller's protocol, or, where that has no
words for it, the connection is cut.

Nothing is buffered on the way: the next bytes are asked for when the last ones were taken, so a
slow caller slows its provider down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Protocol

import msgspec

from modelplex.core.errors import ModelplexError, Stopping, UpstreamBroken
from modelplex.dialects.core.foreign_errors import error_without_addresses, error_without_page
from modelplex.dialects.exchange import Exchange
from modelplex.http_client import SendError
from modelplex.pipeline.upstream import UpstreamResponse, told_by

HOLD_BYTES = 262_144
"""Bytes without output that are held back while failover is still possible
(docs/reference/translation.md#commit-point); more than any preamble has.
"""
PIECE = 2_048
"""Bytes that are read at a time. They may hold hundreds of events, and what arrives at once may be
256 KB: together they would keep everybody else waiting.
"""
TURN_S = 0.0003
"""Seconds that pieces of one answer may take before others have their turn. What a model writes
takes less; 30 KB that pass unchanged do as well.
"""
REST_S = 0.001
"""Seconds of their turn: a stream of many events without end takes a quarter of the loop at most.
"""
BEGINNINGS = ((b"\n\n", 2), (b"\n\r\n", 3), (b"\n{", 1))
"""What stands before an event, or a line of JSON, and how far behind its place that begins."""
_NONE = msgspec.Raw()


class _Failed(msgspec.Struct):
    response: msgspec.Raw = _NONE


class _Response(msgspec.Struct):
    error: msgspec.Raw = _NONE


_decode_failed = msgspec.json.Decoder(_Failed).decode
_decode_response = msgspec.json.Decoder(_Response).decode
PAGES = frozenset({b"text/html", b"application/xhtml+xml"})
Headers = list[tuple[bytes, bytes]]


class ResponseOutput(Protocol):
    """The caller's side of one request. A status is sent once, by `whole` or `begin`; `begun` tells
    that it was. `stopping` is true once the gateway shuts down and this request's time is over.
    """

    begun: bool
    stopping: bool

    async def whole(self, status: int, headers: Headers, body: bytes) -> None: ...
    async def begin(self, headers: Headers) -> None: ...
    async def write(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...
    def cut(self) -> None:
        """End the answer so that its reader sees that it is not whole."""
        ...


def stopped() -> Stopping:
    """What a caller is told whose answer outlasted the shutdown's patience."""
    return Stopping("The gateway is shutting down; this answer was not finished.")


class ResponseStream:
    """One streamed answer on its way. `quiet` is the seconds for which a start is held at most, and
    after which a caller to whom nothing went gets a keep-alive, whatever the provider says
    meanwhile that is of no use to it; `on_output` is called once, at the first output; `hide` takes
    secrets out of what the provider says of an error.
    """

    def __init__(
        self,
        answer: UpstreamResponse,
        passage: Exchange,
        door: ResponseOutput,
        *,
        provider: str,
        request_id: str,
        head: Callable[[], Headers],
        on_output: Callable[[], None],
        quiet: float,
        hide: Callable[[bytes], bytes],
        keep: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        self._answer = answer
        self._passage = passage
        self._door = door
        self._provider = provider
        self._request_id = request_id
        self._head = head
        self._on_output: Callable[[], None] | None = on_output
        self._quiet = quiet
        self._hide = hide
        self._keep = keep
        self._held: list[bytes] = []
        self._held_size = 0
        self._loop = asyncio.get_running_loop()
        self._quiet_since = self._loop.time()
        self._timer = self._loop.call_later(quiet, self._ring)

    async def run(self) -> ModelplexError | None:
        """Returns None for a whole answer, or what broke it after its first output. Raises what
        went wrong before that.
        """
        passage = self._passage
        try:
            while True:
                data = await self._next()
                if data is None:
                    await self._bridge_silence()
                    continue
                if len(data) <= PIECE:
                    await self._take(data)
                else:
                    await self._take_pieces(data)
                if passage.failed is not None:
                    return await self._break(passage.failed, told=passage.error_was_forwarded)
                if not data:
                    await self._door.finish()
                    return None
        except ModelplexError as error:
            if not self._door.begun:
                raise
            return await self._break(error)
        except RecursionError:
            if not self._door.begun:
                raise
            return await self._break(
                UpstreamBroken(f"{self._provider} answered with JSON that is nested deeper than is read.")
            )
        except asyncio.CancelledError:
            if not (self._door.begun and self._door.stopping):
                raise
            return await self._break(stopped())
        finally:
            self._timer.cancel()

    async def _take(self, data: bytes) -> None:
        """Carry over what these bytes mean; empty for the end of the answer."""
        passage = self._passage
        out = passage.feed(data) if data else passage.end()
        if passage.failed is not None:
            out = _told_last(self._hide(out))
        await self._move(out, last=not data)

    async def _take_pieces(self, data: bytes) -> None:
        """Carry over what arrived at once, with a rest wherever it took long."""
        began = perf_counter()
        for start in range(0, len(data), PIECE):
            await self._take(data[start : start + PIECE])
            if self._passage.failed is not None:
                return
            if perf_counter() - began > TURN_S:
                await asyncio.sleep(REST_S)
                began = perf_counter()

    async def _next(self) -> bytes | None:
        try:
            return await self._answer.chunk()
        except SendError as error:
            if self._passage.complete:  # nothing was missing but the farewell
                return b""
            raise told_by(self._provider, error) from None

    async def _move(self, out: bytes, *, last: bool) -> None:
        if self._on_output is not None and self._passage.has_output:
            self._on_output()
            self._on_output = None
        if self._keep is not None:  # before the client knows of it, and asks for more
            await self._keep(out)
        if self._door.begun:
            if out:
                self._quiet_since = self._loop.time()
                await self._door.write(out)
            return
        passage = self._passage
        if passage.failed is not None and not passage.has_output:
            raise passage.failed
        if not self._held:
            self._quiet_since = self._loop.time()
        self._held.append(out)
        self._held_size += len(out)
        if passage.has_output or last or self._held_size > HOLD_BYTES:
            await self._commit()

    async def _commit(self) -> None:
        """The point of no return."""
        self._quiet_since = self._loop.time()
        await self._door.begin(self._head())
        if held := b"".join(self._held):
            await self._door.write(held)
        self._held.clear()

    async def _break(self, error: ModelplexError, *, told: bool = False) -> ModelplexError:
        farewell = b"" if told else self._passage.in_stream_error(error, self._request_id)
        if farewell:
            await self._door.write(_told_last(self._hide(farewell)))
        if told or farewell:
            await self._door.finish()
        else:
            self._door.cut()
        return error

    def _ring(self) -> None:
        """Wake the reader where nothing went for a while. One timer a stream, set anew only when it
        rings.
        """
        silent = self._loop.time() - self._quiet_since
        if silent >= self._quiet:
            self._quiet_since += silent
            self._answer.nudge()
            silent = 0.0
        self._timer = self._loop.call_later(self._quiet - silent, self._ring)

    async def _bridge_silence(self) -> None:
        if self._door.begun:
            if ping := self._passage.ping():
                await self._door.write(ping)
        elif self._held:  # before the provider's first byte nothing is sent: the status is still open
            await self._commit()


def _told_last(out: bytes) -> bytes:
    """The last event or line, which is the error, as it may be told; what stands before it is the
    answer, whose words are its own.
    """
    end = len(out.rstrip(b"\r\n"))
    places = [(out.rfind(mark, 0, end), further) for mark, further in BEGINNINGS]
    start = max((at + further for at, further in places if at >= 0), default=0)
    return out[:start] + _told(out[start:])


def _told(event: bytes) -> bytes:
    """An event that is an error. That of the Responses form holds the whole answer, of some MB, and
    what was asked; of the response in it only the error is looked at.
    """
    response, error = _parts_of(event)
    if not response:
        return error_without_addresses(error_without_page(event))
    before, _, after = event.partition(response)
    if error:
        response = response.replace(error, error_without_addresses(error_without_page(error)))
    return b"".join((_told(before), response, _told(after)))


def _parts_of(event: bytes) -> tuple[bytes, bytes]:
    """The JSON of the response that an event holds, and that of the error in it; empty where there
    is none.
    """
    try:
        response = bytes(_decode_failed(event[event.find(b"{") :]).response)
        return response, bytes(_decode_response(response).error) if response else b""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return b"", b""


def refuse_page(answer: UpstreamResponse, *, provider: str) -> None:
    """An answer of a kind that nobody here reads (an image, a sound, JSON) is passed on as it is; a
    page of HTML is no such answer, whatever its status says.
    """
    label = (answer.header(b"content-type") or b"").partition(b";")[0].strip().lower()
    if label in PAGES:
        raise UpstreamBroken(f"{provider} answered with a page for a browser in the place of an answer.")


async def refuse_mislabelled(
    answer: UpstreamResponse, *, provider: str, read_error: Callable[[bytes], ModelplexError], limit: int
) -> None:
    """A stream that is labelled as JSON or HTML is none: raises the error that it holds, or one
    that says what came instead.
    """
    label = (answer.header(b"content-type") or b"").partition(b";")[0].strip().lower()
    if label != b"application/json" and label not in PAGES:
        return
    try:
        body = await answer.body(limit=limit)
    except SendError as error:
        raise told_by(provider, error) from None
    if label == b"application/json" and b'"error"' in body:
        raise read_error(body)
    raise UpstreamBroken(
        f"{provider} answered a streamed request with {label.decode('latin-1')}, which is no stream."
    )
