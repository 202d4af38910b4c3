"""Bodies of requests, the bytes of responses, and the state after them."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, cast

import pytest

from modelplex.core.errors import ClientClosed, RequestTimeout, TooLarge
from modelplex.eager_task import EagerTask
from modelplex.server.http_exchange import DIRECT_SIZE, JOIN_LIMIT, PENDING_LIMIT, App, HttpExchange
from modelplex.server.request_head import HttpHead
from tests.server.harness import BOUND, unlimited


class Transport:
    """Keeps what is written; `writes` counts the calls."""

    def __init__(self) -> None:
        self.data = b""
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.data += data
        self.writes += 1

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.write(b"".join(pieces))


class Connection:
    """A connection whose client reads at once. It keeps what an exchange asks of it; `waits` counts
    the waits for the client.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport = Transport()
        self.state: dict[str, Any] = {}
        self.write_paused = False
        self.waits = 0
        self.closed = False
        self.responses = 0
        self.reading: list[str] = []
        self.ended: list[HttpExchange] = []

    def close(self) -> None:
        self.closed = True

    def exchange_complete(self) -> None:
        self.responses += 1

    def pause_reading(self) -> None:
        self.reading.append("pause")

    def resume_reading(self) -> None:
        self.reading.append("resume")

    def exchange_ended(self, exchange: HttpExchange) -> None:
        self.ended.append(exchange)

    async def drain(self) -> None:
        self.waits += 1


class Made:
    """An exchange and its connection."""

    def __init__(
        self,
        *,
        method: str = "GET",
        version: str = "1.1",
        keep_alive: bool = True,
        length: int | None = None,
        expects_100: bool = False,
    ) -> None:
        self.connection = Connection()
        self.transport = self.connection.transport
        head = HttpHead(
            method=method,
            raw_path=b"/p",
            path="/p",
            version=version,
            headers=[],
            expects_100=expects_100,
            keep_alive=keep_alive,
        )
        self.exchange = HttpExchange(head, cast("Any", self.connection), length=length)

    def receive(self, *pieces: bytes, complete: bool = False) -> None:
        """Each piece is read from the client on its own."""
        for number, piece in enumerate(pieces, 1):
            self.exchange.body_received(piece)
            self.exchange.body_complete = complete and number == len(pieces)
            self.exchange.input_read()

    def run(self, app: App) -> EagerTask:
        """Run this app, until it waits."""
        self.exchange.task = EagerTask(
            self.exchange.run(app), loop=self.connection.loop, on_end=self.exchange.ended
        )
        self.exchange.task.start()
        return self.exchange.task

    @property
    def ended(self) -> bool:
        assert self.connection.ended in ([], [self.exchange]), "it ends once"
        return bool(self.connection.ended)


async def echo(exchange: HttpExchange) -> None:
    exchange.respond(200, [], await exchange.body(unlimited))


async def test_a_whole_response_is_one_write() -> None:
    made = Made()
    made.exchange.respond(200, [(b"x-one", b"1")], b"body")
    assert made.transport.data == b"HTTP/1.1 200 OK\r\nx-one: 1\r\ncontent-length: 4\r\n\r\nbody"
    assert (made.transport.writes, made.connection.closed, made.connection.responses) == (1, False, 1)
    assert made.exchange.response_complete


async def test_a_status_without_a_phrase_is_written() -> None:
    made = Made()
    made.exchange.respond(529, [], b"")
    assert made.transport.data.startswith(b"HTTP/1.1 529 \r\n")


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
    assert made.connection.closed


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
    assert made.connection.responses == 1


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
    assert made.connection.closed


async def test_a_stream_in_response_to_head_has_a_head_alone() -> None:
    made = Made(method="HEAD")
    made.exchange.start([])
    made.exchange.write(b"abc", last=True)
    assert made.transport.data == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert made.connection.responses == 1


async def test_nothing_is_written_to_a_client_that_is_gone() -> None:
    made = Made()
    made.exchange.disconnected = True
    made.exchange.respond(200, [], b"body")
    made.exchange.write(b"more")
    made.connection.write_paused = True
    await made.exchange.drain()
    assert (made.transport.data, made.connection.waits) == (b"", 0)


async def test_draining_waits_for_a_slow_client() -> None:
    made = Made()
    await made.exchange.drain()
    assert made.connection.waits == 0
    made.connection.write_paused = True
    await made.exchange.drain()
    assert made.connection.waits == 1


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

    async def app(exchange: HttpExchange) -> None:
        if started:
            exchange.start([])
            exchange.write(b"abc")
        raise LookupError

    with caplog.at_level(logging.CRITICAL, logger="modelplex.server"):
        made.run(app)
    assert made.ended
    assert data in made.transport.data
    assert not made.transport.data.endswith(b"0\r\n\r\n")
    assert made.connection.closed is closed
    assert made.exchange.task is None, "an idle connection does not keep the task of its last request"


async def test_a_cancelled_app_closes_the_connection() -> None:
    made = Made()

    async def app(exchange: HttpExchange) -> None:
        await asyncio.Event().wait()

    task = made.run(app)
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(BOUND):
        while not made.ended:
            await asyncio.sleep(0)
    assert made.connection.closed


# --- bodies


LARGE = os.urandom(3 * DIRECT_SIZE)


@pytest.mark.parametrize("before", [0, 1, 2, 3], ids="{} pieces before the app asks".format)
@pytest.mark.parametrize("length", [None, 6])
async def test_a_body_in_pieces_arrives_whole(before: int, length: int | None) -> None:
    made, pieces = Made(length=length), (b"ab", b"cd", b"ef")
    made.receive(*pieces[:before], complete=before == 3)
    made.run(echo)
    if before < 3:
        assert not made.ended
        made.receive(*pieces[before:], complete=True)
    assert made.ended
    assert made.transport.data.endswith(b"\r\n\r\nabcdef")


@pytest.mark.parametrize("body", [b"", b"abc", LARGE])
async def test_a_body_that_came_with_its_head_is_complete_and_checked(body: bytes) -> None:
    sizes: list[int] = []

    async def app(exchange: HttpExchange) -> None:
        exchange.respond(200, [], await exchange.body(sizes.append))

    made = Made()
    connection = cast("Any", made.connection)
    made.exchange = HttpExchange(made.exchange.head, connection, length=len(body), whole_body=body)
    assert made.exchange.body_complete
    made.run(app)
    assert made.ended
    assert made.transport.data.endswith(b"\r\n\r\n" + body)
    assert sizes == ([len(body)] if body else [])


@pytest.mark.parametrize("before", [0, 1, PENDING_LIMIT])
async def test_the_rest_of_a_large_body_is_read_into_its_block(before: int) -> None:
    made = Made(length=len(LARGE))
    if before:
        made.receive(LARGE[:before])
    assert made.exchange.unfilled is None, "the app has not asked for it"
    made.run(echo)
    at = before
    while (view := made.exchange.unfilled) is not None and at < len(LARGE):
        assert len(view) == len(LARGE) - at
        size = min(50_000, len(view))
        view[:size] = LARGE[at : at + size]
        made.exchange.body_filled(size)
        at += size
        made.exchange.body_complete = at == len(LARGE)
        made.exchange.input_read()
        assert not made.ended, "the event loop holds the block, so that it would be copied"
        del view
    await asyncio.sleep(0)
    assert made.ended
    assert made.transport.data.endswith(b"\r\n\r\n" + LARGE)
    assert made.exchange.unfilled is None


async def test_what_is_read_elsewhere_is_copied_into_the_block() -> None:
    made = Made(length=len(LARGE))
    made.run(echo)
    made.receive(LARGE[:70_000], LARGE[70_000:], complete=True)
    await asyncio.sleep(0)
    assert made.transport.data.endswith(b"\r\n\r\n" + LARGE)


@pytest.mark.parametrize("rest", [DIRECT_SIZE - 1, DIRECT_SIZE])
async def test_a_small_rest_has_no_block(rest: int) -> None:
    made = Made(length=10 + rest)
    made.receive(b"x" * 10)
    made.run(echo)
    assert (made.exchange.unfilled is None) is (rest < DIRECT_SIZE)


async def test_reading_pauses_where_the_app_does_not_ask_and_goes_on_when_it_does() -> None:
    made = Made()
    made.receive(b"x" * PENDING_LIMIT)
    assert made.connection.reading == []
    made.receive(b"x")
    assert made.connection.reading == ["pause"]
    made.run(echo)
    assert made.connection.reading == ["pause", "resume"]
    made.receive(b"x" * PENDING_LIMIT * 2, complete=True)
    assert made.connection.reading == ["pause", "resume"]
    assert made.ended


async def test_100_continue_is_written_when_the_app_asks_and_once() -> None:
    made = Made(expects_100=True)
    assert made.transport.data == b""
    made.run(echo)
    assert made.transport.data == b"HTTP/1.1 100 Continue\r\n\r\n"
    made.receive(b"ok", complete=True)
    assert made.transport.data.count(b"100 Continue") == 1


async def test_100_continue_is_not_written_for_a_body_that_is_refused() -> None:
    made = Made(expects_100=True, length=9)

    async def app(exchange: HttpExchange) -> None:
        exchange.respond(413, [], b"")

    made.run(app)
    assert made.transport.data.startswith(b"HTTP/1.1 413 ")
    assert not made.exchange.waiting_for_100_continue


@pytest.mark.parametrize("before", [0, 1, 2], ids="{} pieces before the app asks".format)
async def test_the_check_gets_each_size_and_refuses_in_the_middle(before: int) -> None:
    made, sizes = Made(), list[int]()

    def check(size: int) -> None:
        sizes.append(size)
        if size > 3:
            raise TooLarge("above 3")

    async def app(exchange: HttpExchange) -> None:
        try:
            await exchange.body(check)
        except TooLarge as error:
            exchange.respond(error.status, [], b"no")

    pieces = (b"ab", b"cd", b"ef")
    made.receive(*pieces[:before])
    made.run(app)
    made.receive(*pieces[before:2])
    assert made.ended
    assert sizes == ([4] if before == 2 else [2, 4])
    assert made.transport.data.startswith(b"HTTP/1.1 413 ")
    made.receive(pieces[2])
    assert (sizes[-1], made.connection.responses) == (4, 1)


@pytest.mark.parametrize("before", [False, True], ids=["while it waits", "before it asks"])
@pytest.mark.parametrize("length", [None, 4, len(LARGE)])
@pytest.mark.parametrize(("refused", "error"), [(False, ClientClosed), (True, RequestTimeout)])
async def test_an_incomplete_body_is_an_error_and_keeps_nothing(
    before: bool, length: int | None, refused: bool, error: type[Exception]
) -> None:
    made, caught = Made(length=length), list[Exception]()

    async def app(exchange: HttpExchange) -> None:
        try:
            await exchange.body(unlimited)
        except (ClientClosed, RequestTimeout) as fault:
            caught.append(fault)

    made.receive(b"ab")
    if not before:
        made.run(app)
    made.exchange.refused = refused
    made.exchange.disconnect()
    if before:
        made.run(app)
    assert [type(each) for each in caught] == [error]
    assert made.ended
    assert made.exchange.unfilled is None
    assert (made.transport.data, made.connection.responses) == (b"", 0)


async def test_on_disconnect_is_called_while_the_app_runs_and_not_after_it() -> None:
    made, calls, waiting = Made(), list[str](), asyncio.Event()

    async def app(exchange: HttpExchange) -> None:
        exchange.on_disconnect = lambda: calls.append("called")
        await waiting.wait()

    made.run(app)
    made.exchange.disconnect()
    assert calls == ["called"]
    waiting.set()
    async with asyncio.timeout(BOUND):
        while not made.ended:
            await asyncio.sleep(0)
    made.exchange.disconnect()
    assert calls == ["called"]
