"""Relays one streamed response from a provider to the client.

A broken response never looks complete. Until the first output nothing is sent, so that
another provider can still be tried. After it an error is written in the client's protocol; where
that has no form for it, the connection is cut.

Nothing is buffered: the next bytes are read once the last ones are written, so a slow client slows
its provider down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter

import msgspec

from modelplex.core.errors import InternalFault, ModelplexError, Stopping, UpstreamBroken
from modelplex.dialects.core.sse import BOM
from modelplex.dialects.exchange import Exchange
from modelplex.http_client import SendError
from modelplex.pipeline.error_redaction import redact_last_event
from modelplex.pipeline.response_output import ResponseHead, ResponseOutput
from modelplex.pipeline.upstream import Upstream, UpstreamResponse, map_send_error

log = logging.getLogger("modelplex.pipeline")

HOLD_BYTES = 262_144
"""Bytes without output that are held back while failover is still possible
(docs/reference/translation.md#commit-point); more than any preamble has.
"""
PIECE = 2_048
"""Bytes that are read at a time, which may hold hundreds of events. A chunk of 256 KB read at once
would keep other requests waiting.
"""
TURN_S = 0.0003
"""Seconds that pieces of one response may take before other tasks run. What a model writes takes
less; 30 KB that pass unchanged do as well.
"""
REST_S = 0.001
"""Seconds for other tasks: an endless stream of events takes a quarter of the loop at most."""
PAGES = frozenset({b"text/html", b"application/xhtml+xml"})


def stopped() -> Stopping:
    """The error for a client whose response outlasted the drain timeout."""
    return Stopping("The gateway is shutting down; this answer was not finished.")


def nested_too_deep(provider: str) -> UpstreamBroken:
    """The error for JSON that the parser does not descend into."""
    return UpstreamBroken(f"{provider} answered with JSON that is nested deeper than is read.")


class StreamCallbacks(msgspec.Struct, frozen=True):
    """`head` is called when the response begins, `on_output` once, at the first output, and `keep`
    with the bytes of each step before the client gets them.
    """

    head: Callable[[], ResponseHead]
    on_output: Callable[[], None]
    keep: Callable[[bytes], Awaitable[None]] | None = None


class ResponseStream:
    """One streamed response. `ping_interval` is the seconds for which a start is held at most, and
    after which a client that received nothing gets a keep-alive, even where the provider sends
    bytes that carry no output.
    """

    def __init__(
        self,
        response: UpstreamResponse,
        exchange: Exchange,
        output: ResponseOutput,
        *,
        upstream: Upstream,
        request_id: str,
        ping_interval: float,
        callbacks: StreamCallbacks,
    ) -> None:
        self._response = response
        self._exchange = exchange
        self._output = output
        self._upstream = upstream
        self._request_id = request_id
        self._ping_interval = ping_interval
        self._head = callbacks.head
        self._on_output: Callable[[], None] | None = callbacks.on_output
        self._keep = callbacks.keep
        self._is_plain = False
        """What the exchange returns is sent, and nothing else happens."""
        self._worked = 0.0
        """Seconds of relaying large chunks since the last rest."""
        self._left: tuple[bytes, bytes] | ModelplexError | None = None
        """What `_take` left to the coroutine: bytes that were not fed yet, and bytes to be sent; or
        what it raised.
        """
        self._held: list[bytes] = []
        self._held_size = 0
        self._loop = asyncio.get_running_loop()
        self._quiet_since = self._loop.time()
        self._timer = self._loop.call_later(ping_interval, self._check_silence)

    async def run(self) -> ModelplexError | None:
        """Return None for a complete response, or what broke it after its first output. Raises what
        went wrong before that.
        """
        try:
            return await self._relay()
        except ModelplexError as error:
            failure = error
        except RecursionError:
            failure = nested_too_deep(self._upstream.name)
        except asyncio.CancelledError:
            if not self._output.started or self._output.stop_error is None:
                raise
            failure = self._output.stop_error
        except Exception:
            log.exception("the stream of %s failed", self._request_id)
            failure = InternalFault()
        finally:
            self._timer.cancel()
        if not self._output.started:
            raise failure
        return await self._break(failure)

    async def _relay(self) -> ModelplexError | None:
        exchange, output = self._exchange, self._output
        while True:
            try:
                if self._is_plain:
                    if await self._response.deliver(self._take):
                        await self._bridge_silence()
                        continue
                    if (left := self._left) is not None:
                        self._left = None
                        if isinstance(left, ModelplexError):
                            raise left
                        if left[1]:
                            await self._send(left[1])
                        elif left[0]:
                            await self._relay_pieces(left[0])
                        if exchange.failed is not None:
                            return await self._break(
                                exchange.failed, was_forwarded=exchange.error_was_forwarded
                            )
                        continue
                data = await self._response.chunk()
            except SendError as error:
                if not exchange.complete:
                    raise map_send_error(self._upstream.name, error) from None
                data = b""  # only the end of the HTTP message is missing
            if data is None:
                await self._bridge_silence()
                continue
            if data and len(data) <= PIECE:
                await self._send(exchange.feed(data))
            elif data:
                await self._relay_pieces(data)
            else:
                await self._send(exchange.end(), last=True)
            if exchange.failed is not None:
                return await self._break(exchange.failed, was_forwarded=exchange.error_was_forwarded)
            if not data:
                await output.finish()
                return None

    def _take(self, data: bytes) -> bool:
        """Relay a usual chunk within the callback in which it arrived: nothing waits. Returns False
        for any other, which is left to the coroutine.
        """
        if len(data) > PIECE:
            self._left = (data, b"")
            return False
        try:
            out = self._exchange.feed(data)
        except RecursionError:
            self._left = nested_too_deep(self._upstream.name)
            return False
        except Exception:
            log.exception("the stream of %s failed", self._request_id)
            self._left = InternalFault()  # raised in the coroutine, and not to the transport
            return False
        if self._exchange.failed is not None:
            self._left = (b"", out)
            return False
        if out:
            self._quiet_since = self._loop.time()
            if not self._output.write_now(out):
                self._left = (b"", out)
                return False
        return True

    async def _relay_pieces(self, data: bytes) -> None:
        """Relay a large chunk in pieces, and let other tasks run wherever it took long: this chunk
        and those before it, since a stream without end comes in chunks.
        """
        began = perf_counter() - self._worked
        for start in range(0, len(data), PIECE):
            await self._send(self._exchange.feed(data[start : start + PIECE]))
            if self._exchange.failed is not None:
                return
            if perf_counter() - began > TURN_S:
                await asyncio.sleep(REST_S)
                began = perf_counter()
        self._worked = perf_counter() - began

    async def _send(self, out: bytes, *, last: bool = False) -> None:
        """Send what the exchange returned, or hold it until the first output."""
        exchange = self._exchange
        if exchange.failed is not None:
            out = redact_last_event(self._upstream.hide(out))
        if self._on_output is not None and exchange.has_output:
            self._on_output()
            self._on_output = None
        if self._keep is not None:  # before the client knows of it, and asks for more
            await self._keep(out)
        if self._output.started:
            self._is_plain = self._on_output is None and self._keep is None
            if out:
                self._quiet_since = self._loop.time()
                await self._output.write(out)
            return
        if exchange.failed is not None and not exchange.has_output:
            raise exchange.failed
        if not self._held:
            self._quiet_since = self._loop.time()
        self._held.append(out)
        self._held_size += len(out)
        if exchange.has_output or last or self._held_size > HOLD_BYTES:
            await self._commit()

    async def _commit(self) -> None:
        """Send the head and what was held. From here on no other provider is tried."""
        self._quiet_since = self._loop.time()
        await self._output.start(self._head())
        held = b"".join(self._held)
        if self._exchange.media_type:  # clients' parsers of events and JSON lines do not expect it
            held = held.removeprefix(BOM)
        if held:
            await self._output.write(held)
        self._held.clear()

    async def _break(self, error: ModelplexError, *, was_forwarded: bool = False) -> ModelplexError:
        event = b"" if was_forwarded else self._exchange.in_stream_error(error, self._request_id)
        if event:
            await self._output.write(redact_last_event(self._upstream.hide(event)))
        if was_forwarded or event:
            await self._output.finish()
        else:
            self._output.abort()
        return error

    def _check_silence(self) -> None:
        """Wake the reader where nothing was sent for a while. One timer a stream, set anew only
        when it rings.
        """
        silent = self._loop.time() - self._quiet_since
        if silent >= self._ping_interval:
            self._quiet_since += silent
            self._response.nudge()
            silent = 0.0
        self._timer = self._loop.call_later(self._ping_interval - silent, self._check_silence)

    async def _bridge_silence(self) -> None:
        if self._output.started:
            if ping := self._exchange.ping():
                await self._output.write(ping)
        elif self._held:  # before the provider's first byte nothing is sent: the status is still open
            await self._commit()


def refuse_page(response: UpstreamResponse, *, provider: str) -> None:
    """Raise for a page of HTML. Other content that is not parsed here (an image, audio, JSON)
    passes.
    """
    if _label(response) in PAGES:
        raise UpstreamBroken(f"{provider} answered with a page for a browser in the place of an answer.")


def is_one_piece(response: UpstreamResponse) -> bool:
    """Whether a response has the content type of JSON, which is no stream."""
    return _label(response) == b"application/json"


def _label(response: UpstreamResponse) -> bytes:
    return (response.header(b"content-type") or b"").partition(b";")[0].strip().lower()
