"""The bytes of responses: heads, chunks, and the state after them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from modelplex.server.http_exchange import JOIN_LIMIT, HttpExchange


class Transport:
    """Keeps what is written; `writes` counts the calls."""

    def __init__(self) -> None:
        self.data = b""
        self.writes = 0
        self.closed = False

    def write(self, data: bytes) -> None:
        self.data += data
        self.writes += 1

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.write(b"".join(pieces))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class Flow:
    """No flow control; `waits` counts the waits for the client."""

    write_paused = False
    waits = 0

    async def drain(self) -> None:
        self.waits += 1

    def resume_reading(self) -> None: ...


class Made:
    """An exchange with its transport, and how often its response was complete."""

    def __init__(self, *, method: str = "GET", version: str = "1.1", keep_alive: bool = True) -> None:
        self.transport = Transport()
        self.flow = Flow()
        self.responses = 0
        self.exchange = HttpExchange(
            cast("Any", {"method": method, "http_version": version, "path": "/p"}),
            transport=cast("Any", self.transport),
            flow=cast("Any", self.flow),
            expects_100=False,
            keep_alive=keep_alive,
            on_response=self._complete,
        )

    def _complete(self) -> None:
        self.responses += 1


async def test_a_whole_response_is_one_write() -> None:
    made = Made()
    made.exchange.respond(200, [(b"x-one", b"1")], b"body")
    assert made.transport.data == b"HTTP/1.1 200 OK\r\nx-one: 1\r\ncontent-length: 4\r\n\r\nbody"
    assert (made.transport.writes, made.transport.closed, made.responses) == (1, False, 1)
    assert made.exchange.response_complete


async def test_a_large_body_is_not_copied_but_follows_the_head() -> None:
    made = Made()
    body = b"x" * (JOIN_LIMIT + 1)
    made.exchange.respond(200, [], body)
    assert made.transport.data.endswith(b"\r\n\r\n" + body)


async def test_the_response_to_head_has_the_length_and_no_body() -> None:
    made = Made(method="HEAD")
    made.exchange.respond(200, [], b"body")
    assert made.transport.data == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


async def test_without_keep_alive_the_connection_closes_and_says_so() -> None:
    made = Made(keep_alive=False)
    made.exchange.respond(200, [], b"")
    assert b"\r\nconnection: close\r\n" in made.transport.data
    assert made.transport.closed


async def test_a_stream_is_chunked_and_its_head_goes_with_the_first_piece() -> None:
    made = Made()
    made.exchange.start([(b"x-one", b"1")])
    assert (made.transport.data, made.exchange.response_started) == (b"", True)
    made.exchange.write(b"abc")
    assert made.transport.writes == 1
    made.exchange.write(b"defg", last=True)
    assert made.transport.data == (
        b"HTTP/1.1 200 OK\r\nx-one: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    )
    assert made.responses == 1


async def test_an_empty_piece_writes_only_a_waiting_head() -> None:
    made = Made()
    made.exchange.start([])
    made.exchange.write(b"")
    assert made.transport.data.endswith(b"\r\n\r\n")
    made.exchange.write(b"")
    assert made.transport.writes == 1
    made.exchange.write(b"", last=True)
    assert made.transport.data.endswith(b"\r\n\r\n0\r\n\r\n")


async def test_a_stream_for_http_1_0_ends_with_the_connection() -> None:
    made = Made(version="1.0", keep_alive=False)
    made.exchange.start([])
    made.exchange.write(b"abc")
    made.exchange.write(b"", last=True)
    assert made.transport.data == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"
    assert made.transport.closed


async def test_a_stream_in_response_to_head_has_a_head_alone() -> None:
    made = Made(method="HEAD")
    made.exchange.start([])
    made.exchange.write(b"abc", last=True)
    assert made.transport.data == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert made.responses == 1


async def test_nothing_is_written_to_a_client_that_is_gone() -> None:
    made = Made()
    made.exchange.disconnected = True
    made.exchange.respond(200, [], b"body")
    made.exchange.write(b"more")
    made.flow.write_paused = True
    await made.exchange.drain()
    assert (made.transport.data, made.flow.waits) == (b"", 0)


async def test_draining_waits_for_a_slow_client() -> None:
    made = Made()
    await made.exchange.drain()
    assert made.flow.waits == 0
    made.flow.write_paused = True
    await made.exchange.drain()
    assert made.flow.waits == 1


@pytest.mark.parametrize("value", [b"a\r\nx-forged: 1", b"a\nb", b"a\rb"])
async def test_a_header_with_a_line_break_is_refused(value: bytes) -> None:
    made = Made()
    with pytest.raises(ValueError, match="line break"):
        made.exchange.respond(200, [(b"x", value)], b"")
    with pytest.raises(ValueError, match="line break"):
        made.exchange.start([(b"x", value)])
    assert made.transport.data == b""


@pytest.mark.parametrize(
    ("started", "closed", "data"), [(False, True, b'"code":"gateway_error"'), (True, True, b"abc")]
)
async def test_an_app_that_fails_gives_a_500_or_an_incomplete_response(
    started: bool, closed: bool, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    made = Made()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if started:
            made.exchange.start([])
            made.exchange.write(b"abc")
        raise LookupError

    running = {made.exchange}
    with caplog.at_level(logging.CRITICAL, logger="modelplex.server"):
        await made.exchange.run(app, running)
    assert not running
    assert data in made.transport.data
    assert not made.transport.data.endswith(b"0\r\n\r\n")
    assert made.transport.closed is closed
    assert not made.exchange.scope, "an idle connection does not keep the head of its last request"


async def test_a_cancelled_app_closes_the_connection() -> None:
    made = Made()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(made.exchange.run(app, set()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made.transport.closed
