"""The caller's side of one request: its body within limits, its response, and what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any, cast

import pytest

from modelplex.core.errors import AgentLimited, ClientClosed, RequestTimeout, Stopping, TooLarge
from modelplex.pipeline.response_output import ResponseHead
from modelplex.server.admission import BodyMemory
from modelplex.server.fair_start import FairStart
from modelplex.server.http_exchange import HttpExchange
from modelplex.server.response_writer import ResponseWriter, check_length

HEADERS = [(b"x-one", b"1")]


class Connection:
    """A connection whose client reads at once."""

    def __init__(self) -> None:
        self.write_paused = self.closed = False

    def close(self) -> None:
        self.closed = True


class Exchange:
    """An exchange whose body comes in these pieces, and which keeps what is written. None is the
    end of the input before the body is complete. `drained` counts the waits for a slow client.
    """

    def __init__(self, pieces: tuple[bytes | None, ...], *, body_complete: bool) -> None:
        self.pieces = pieces
        self.body_complete = body_complete
        self.connection = Connection()
        self.refused = self.disconnected = False
        self.task: asyncio.Task[Any] | None = None
        self.on_disconnect: Any = None
        self.written: list[Any] = []
        self.drained = 0

    async def body(self, check: Callable[[int], None]) -> bytes:
        body = b""
        for piece in self.pieces:
            if piece is None:
                raise RequestTimeout("late") if self.refused else ClientClosed("gone")
            body += piece
            check(len(body))
        return body

    def take_body(self) -> bytes:
        assert self.body_complete
        return b"".join(piece for piece in self.pieces if piece is not None)

    async def drain(self) -> None:
        self.drained += 1

    def respond(self, status: int, headers: list[tuple[bytes, bytes]] | bytes, body: bytes) -> None:
        self.written.append((status, headers, body))

    def start(self, headers: list[tuple[bytes, bytes]] | bytes) -> None:
        self.written.append(headers)

    def write(self, data: bytes, *, last: bool = False) -> None:
        self.written.append((data, last))


def writer(
    *pieces: bytes | None, keep: int = 0, body_complete: bool = False
) -> tuple[ResponseWriter, Exchange]:
    exchange, clock = Exchange(pieces, body_complete=body_complete), count(1.0)
    made = ResponseWriter(cast("HttpExchange", exchange), clock=lambda: next(clock), keep=keep)
    return made, exchange


@pytest.mark.parametrize("body_complete", [False, True])
@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("pieces", [[b""], [b"whole"], [b"in ", b"pieces"]])
async def test_a_body_arrives_whole(pieces: list[bytes], declared: bool, body_complete: bool) -> None:
    response, _ = writer(*pieces, body_complete=body_complete)
    whole = b"".join(pieces)
    assert await response.body(limit=100, declared=len(whole) if declared else None) == whole


async def test_a_body_at_the_limit_passes_and_one_above_it_does_not() -> None:
    response, _ = writer(b"x" * 10)
    assert await response.body(limit=10, declared=None) == b"x" * 10
    response, _ = writer(b"x" * 10, b"x")
    with pytest.raises(TooLarge, match="11 bytes or more"):
        await response.body(limit=10, declared=None)


async def test_a_declared_length_above_the_limit_is_refused_without_reading() -> None:
    response, _ = writer()
    with pytest.raises(TooLarge):
        await response.body(limit=10, declared=11)
    check_length(None, limit=1)
    check_length(1, limit=1)


@pytest.mark.parametrize(("refused", "error"), [(False, ClientClosed), (True, RequestTimeout)])
async def test_an_incomplete_body_is_an_error(refused: bool, error: type[Exception]) -> None:
    response, exchange = writer(b"x", None)
    exchange.refused = refused
    with pytest.raises(error):
        await response.body(limit=10, declared=2)


async def test_a_declared_body_is_reserved_before_it_is_read() -> None:
    memory = BodyMemory(total=100, share=10)
    response, _ = writer()
    response.memory, response.owner = memory, "a"
    with pytest.raises(AgentLimited):
        await response.body(limit=100, declared=11)
    assert memory.used == 0


async def test_an_undeclared_body_is_reserved_as_it_arrives() -> None:
    memory = BodyMemory(total=100, share=10)
    response, _ = writer(b"x" * 6, b"x" * 6)
    response.memory, response.owner = memory, "a"
    with pytest.raises(AgentLimited):
        await response.body(limit=100, declared=None)
    assert memory.used == 6
    response.release()
    assert memory.used == 0


async def test_the_memory_of_a_kept_body_outlives_the_request() -> None:
    memory = BodyMemory(total=100, share=50)
    response, _ = writer(b"x" * 6)
    response.memory, response.owner = memory, "a"
    await response.body(limit=100, declared=6)
    release = response.keep_body()
    response.release()
    assert memory.used == 6
    release()
    assert memory.used == 0
    response.keep_body()()  # nothing is left to release


async def test_a_declared_body_that_has_come_already_is_limited_and_reserved_too() -> None:
    memory = BodyMemory(total=100, share=10)
    response, _ = writer(b"x" * 11, body_complete=True)
    response.memory, response.owner = memory, "a"
    with pytest.raises(TooLarge):
        await response.body(limit=10, declared=11)
    with pytest.raises(AgentLimited):
        await response.body(limit=100, declared=11)
    assert memory.used == 0


async def test_an_undeclared_body_that_has_come_already_is_limited_and_reserved_too() -> None:
    memory = BodyMemory(total=100, share=10)
    response, _ = writer(b"x" * 11, body_complete=True)
    response.memory, response.owner = memory, "a"
    with pytest.raises(TooLarge):
        await response.body(limit=10, declared=None)
    with pytest.raises(AgentLimited):
        await response.body(limit=100, declared=None)
    assert memory.used == 0


async def test_a_body_is_returned_at_its_turn() -> None:
    turns: list[tuple[str, str, int]] = []

    class Turns:
        may = True

        def may_start(self, owner: str, size: int) -> bool:
            turns.append(("asked", owner, size))
            return self.may

        async def wait(self, owner: str, size: int) -> None:
            turns.append(("waited", owner, size))

    response, _ = writer(b"body")
    response.fair_start, response.starter = cast("FairStart", Turns()), "a"
    assert await response.body(limit=10, declared=None) == b"body"
    assert turns == [("asked", "a", 4)]
    Turns.may = False
    assert await response.body(limit=10, declared=None) == b"body"
    assert turns[1:] == [("asked", "a", 4), ("waited", "a", 4)]


async def test_a_whole_response_is_counted() -> None:
    response, exchange = writer()
    await response.respond(404, HEADERS, b"12345")
    assert exchange.written == [(404, HEADERS, b"12345")]
    assert (response.started, response.ended, response.status, response.sent) == (True, True, 404, 5)
    assert response.first == 1.0
    assert exchange.drained == 0
    assert repr(response) == "<ResponseWriter ended 404 5 bytes>"


async def test_a_whole_response_waits_for_a_slow_client() -> None:
    response, exchange = writer()
    exchange.connection.write_paused = True
    await response.respond(200, HEADERS, b"12345")
    assert exchange.drained == 1


async def test_a_head_as_values_is_written_as_headers() -> None:
    response, exchange = writer()
    await response.respond(200, ResponseHead(dialect="openai_chat", request_id="r"), b"")
    (_, headers, _) = exchange.written[0]
    assert b"\r\nx-request-id: r\r\n" in headers
    assert (response.sent, response.first) == (0, None)


async def test_a_stream_is_counted_from_its_first_byte() -> None:
    response, exchange = writer(keep=4)
    await response.start(HEADERS)
    assert (response.started, response.status, response.first) == (True, 200, None)
    for piece in (b"", b"abc", b"def"):
        await response.write(piece)
    assert (response.sent, response.first) == (6, 1.0)
    assert b"".join(response.kept) == b"abcd"
    await response.finish()
    assert response.ended
    assert exchange.written == [HEADERS, (b"", False), (b"abc", False), (b"def", False), (b"", True)]


async def test_a_write_waits_for_a_slow_client() -> None:
    response, exchange = writer()
    await response.write(b"a")
    assert exchange.drained == 0
    exchange.connection.write_paused = True
    await response.write(b"a")
    assert exchange.drained == 1


async def test_a_disconnect_cancels_the_task_only_while_that_is_wanted() -> None:
    response, exchange = writer()
    exchange.task = asyncio.create_task(asyncio.sleep(0))
    response.cancel_on_disconnect()
    assert exchange.on_disconnect == exchange.task.cancel
    response.ignore_disconnect()
    assert exchange.on_disconnect is None
    await exchange.task


async def test_a_client_that_has_disconnected_already_is_noticed() -> None:
    response, exchange = writer()
    exchange.disconnected = True
    with pytest.raises(ClientClosed):
        response.cancel_on_disconnect()


async def test_stopping_cancels_the_task_and_aborting_closes_the_connection() -> None:
    response, exchange = writer()
    reason = Stopping("The gateway stops.")
    response.stop(reason)
    assert response.stopping
    assert response.stop_error is reason
    exchange.task = asyncio.create_task(asyncio.Event().wait())
    response.cancel_on_disconnect()
    response.stop(reason)
    with pytest.raises(asyncio.CancelledError):
        await exchange.task
    response.abort()
    assert exchange.connection.closed
    assert response.ended
