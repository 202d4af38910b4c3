"""Real sockets, over TCP and over a socket file, on uvloop and on asyncio's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import grp
import logging
import os
import socket
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from modelplex.server import connection_limits as limits_module
from modelplex.server import listeners as serve_module
from modelplex.server.connection_refusals import MAX_PIPELINED
from modelplex.server.listeners import (
    Address,
    ConnectionLimits,
    ListenError,
    Listening,
    Tcp,
    Unix,
    listen,
    parse_http,
)
from modelplex.server.socket_file import HIDDEN_LENGTH, hidden_names

BOUND = 15
"""Seconds that any single wait may take before the test is called hung."""

App = Callable[[Any, Any, Any], Awaitable[None]]
Run = Callable[[Coroutine[Any, Any, None]], None]
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class Failure(msgspec.Struct):
    message: str
    type: str
    code: str
    param: str | None


class FailureBody(msgspec.Struct):
    error: Failure


class Client:
    """A socket and what came out of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(BOUND):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        return int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        async with asyncio.timeout(BOUND):
            return status, headers, await self.reader.readexactly(int(headers.get("content-length", "0")))

    async def refused(self) -> tuple[int, str]:
        """A refusal in full: status and code, the OpenAI shape, and the end of the connection after
        it.
        """
        status, headers, body = await self.answer()
        assert headers["content-type"] == "application/json"
        assert headers["connection"] == "close"
        await self.ended()
        return status, msgspec.json.decode(body, type=FailureBody).error.code

    async def rest(self) -> bytes:
        async with asyncio.timeout(BOUND):
            return await self.reader.read()

    async def ended(self) -> None:
        assert await self.rest() == b""

    def close(self) -> None:
        self.writer.transport.abort()


class House:
    """What a test listens on, and its clients."""

    def __init__(self, listening: Listening, address: Address) -> None:
        self.listening = listening
        self.address = address
        self.clients: list[Client] = []

    async def client(self) -> Client:
        if isinstance(self.address, Unix):
            streams = await asyncio.open_unix_connection(self.address.path)
        else:
            assert isinstance(self.address, Tcp)
            port = int(self.listening.addresses[0].rsplit(":", 1)[1])
            streams = await asyncio.open_connection(self.address.host, port)
        self.clients.append(Client(*streams))
        return self.clients[-1]


@contextlib.asynccontextmanager
async def house(app: App, address: Address, **limits: Any) -> AsyncGenerator[House, None]:
    settings: dict[str, Any] = {"drain_timeout": 0.05, **limits}
    here = House(await listen(app, [address], limits=ConnectionLimits(**settings)), address)
    try:
        yield here
    finally:
        for client in here.clients:
            client.close()
        await here.listening.drain()


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main)

    return run


@pytest.fixture(params=["tcp", "unix"])
def address(request: pytest.FixtureRequest, short: Path) -> Address:
    return Tcp("127.0.0.1", 0) if request.param == "tcp" else Unix(str(short / "s"))


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "LINGER_SECONDS", 0.3)
    monkeypatch.setattr(serve_module, "STOPPING_SECONDS", 0.3)
    monkeypatch.setattr(serve_module, "CANCELLED_SECONDS", 0.3)


async def read_body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        piece: bytes = message["body"]
        body += piece
        if not message["more_body"]:
            return body


async def say(
    send: Any, body: bytes, *, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await say(send, scope["path"].encode() + b" " + await read_body(receive))


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(BOUND):
        await event.wait()


# Requests as such.


def test_requests_are_answered_one_after_another_on_one_connection(run: Run, address: Address) -> None:
    async def main() -> None:
        async with house(echo, address) as here:
            client = await here.client()
            for path in (b"/a", b"/b%20c"):
                client.send(b"POST " + path + b"?q=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
                status, headers, body = await client.answer()
                assert status == 200
                assert not {"server", "date", "connection"} & headers.keys()
                assert body == path.replace(b"%20", b" ") + b" hi"

    run(main())


def test_the_app_is_told_where_a_request_came_in(run: Run, address: Address) -> None:
    states: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        states.append(scope["state"])
        await say(send, b"")

    async def main() -> None:
        async with house(app, address) as here:
            client = await here.client()
            client.send(GET)
            await client.answer()
            name = here.listening.addresses[0].replace("http://", "tcp:")
            assert states[0]["listener"] == name
            assert states[0]["kind"] == name.split(":")[0]
            assert not states[0]["stopping"].is_set()

    run(main())


def test_pipelined_requests_are_answered_in_order(run: Run, address: Address) -> None:
    async def main() -> None:
        async with house(echo, address) as here:
            client = await here.client()
            client.send(
                b"".join(b"POST /%d HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nz" % n for n in range(5))
            )
            assert [(await client.answer())[2] for _ in range(5)] == [b"/%d z" % n for n in range(5)]

    run(main())


def test_a_flood_of_pipelined_requests_is_refused_after_those_that_fit(run: Run, address: Address) -> None:
    async def main() -> None:
        async with house(echo, address) as here:
            client = await here.client()
            client.send(GET * 100)
            for _ in range(MAX_PIPELINED + 1):
                assert (await client.answer())[0] == 200
            assert await client.refused() == (400, "too_many_pipelined")

    run(main())


def test_head_gets_the_headers_and_no_body(run: Run, address: Address) -> None:
    async def main() -> None:
        async with house(echo, address) as here:
            client = await here.client()
            client.send(GET.replace(b"GET", b"HEAD"))
            assert (await client.head())[1]["content-length"] == "2"
            client.send(GET)
            assert (await client.answer())[2] == b"/ "

    run(main())


def test_a_chunked_body_arrives_whole_and_its_trailers_do_not_reach_the_app(
    run: Run, address: Address
) -> None:
    seen: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = await read_body(receive)
        seen.extend(name for name, _ in scope["headers"])
        await say(send, body)

    async def main() -> None:
        async with house(app, address) as here:
            client = await here.client()
            client.send(CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-api-key: forged\r\n\r\n")
            assert (await client.answer())[2] == b"abcde"
            assert seen == [b"host", b"transfer-encoding"]

    run(main())


def test_a_body_larger_than_the_read_buffer_arrives_whole(run: Run, address: Address) -> None:
    body = os.urandom(3_000_000)

    async def main() -> None:
        async with house(echo, address) as here:
            client = await here.client()
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            assert (await client.answer())[2] == b"/ " + body

    run(main())


def test_100_continue_is_sent_when_the_app_asks_for_the_body(run: Run, address: Address) -> None:
    async def main() -> None:
        async with house(echo, address) as here:
            client = await here.client()
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
            assert (await client.head())[0] == 100
            client.send(b"ok")
            assert (await client.answer())[2] == b"/ ok"

    run(main())


def test_an_upgrade_that_is_not_taken_is_answered_as_http_and_ends(run: Run, address: Address) -> None:
    async def main() -> None:
        async with house(echo, address) as here:
            client = await here.client()
            client.send(
                b"POST / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nhi"
            )
            status, headers, body = await client.answer()
            assert (status, headers["connection"], body) == (200, "close", b"/ hi")
            await client.ended()

    run(main())


# The end of things.


@pytest.mark.parametrize("answering", [False, True])
def test_a_hang_up_is_seen_at_once_by_an_app_that_waits(
    run: Run, address: Address, *, answering: bool
) -> None:
    async def main() -> None:
        working, gone = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await read_body(receive)
            if answering:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"first", "more_body": True})
            working.set()
            assert (await receive())["type"] == "http.disconnect"
            gone.set()

        async with house(app, address) as here:
            client = await here.client()
            # Large enough that reading was paused while it came in.
            body = b"x" * 300_000
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            await until(working)
            client.close()
            await until(gone)

    run(main())


def test_once_a_body_is_complete_the_connection_is_watched_while_the_app_works(
    run: Run, address: Address
) -> None:
    async def main() -> None:
        waiting, gone = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            waiting.set()
            await read_body(receive)
            await until(gone)

        async with house(app, address) as here:
            client = await here.client()
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
            await until(waiting)
            (each,) = here.listening.traffic.open
            # In one piece, above the mark at which reading pauses, to an app that asks for no more
            # after it.
            each.data_received(b"x" * 100_000)
            assert not each.flow.read_paused
            gone.set()

    run(main())


def test_a_hang_up_reaches_the_running_request_and_not_the_one_behind_it(run: Run, address: Address) -> None:
    async def main() -> None:
        paths: list[str] = []
        working, gone = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            paths.append(scope["path"])
            await read_body(receive)
            working.set()
            assert (await receive())["type"] == "http.disconnect"
            gone.set()

        async with house(app, address) as here:
            client = await here.client()
            client.send(GET + GET.replace(b"/ ", b"/second "))
            await until(working)
            client.close()
            await until(gone)
        assert paths == ["/"]

    run(main())


def test_a_slow_reader_stops_the_app_and_then_gets_everything(run: Run, address: Address) -> None:
    chunk, count = b"x" * 65536, 1000

    async def main() -> None:
        blocked = asyncio.Event()
        sent: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            size = (b"content-length", b"%d" % (len(chunk) * count))
            await send({"type": "http.response.start", "status": 200, "headers": [size]})
            for n in range(count):
                sending = asyncio.ensure_future(
                    send({"type": "http.response.body", "body": chunk, "more_body": n < count - 1})
                )
                done, _ = await asyncio.wait({sending}, timeout=0.2)
                if not done and not blocked.is_set():
                    sent.append(n)
                    blocked.set()
                await sending

        async with house(app, address) as here:
            client = await here.client()
            client.send(GET)
            await until(blocked)
            # What is in flight is the kernel's buffers and one of ours, never the whole answer.
            assert sent[0] < count // 2
            (each,) = here.listening.traffic.open
            assert each.transport.get_write_buffer_size() < 4 * len(chunk)
            assert len((await client.answer())[2]) == len(chunk) * count

    run(main())


ENDLESS = b"x" * 262_144


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """Writes for as long as its client is there."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while not scope["exchange"].disconnected:
        await send({"type": "http.response.body", "body": ENDLESS, "more_body": True})
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "limits",
    [{"unread_connections": 2}, {"unread_bytes": 3 * len(ENDLESS)}, {"unread_timeout": 0.4}],
    ids=["connections", "bytes", "timeout"],
)
def test_a_caller_that_leaves_answers_unread_loses_the_oldest(
    run: Run, address: Address, limits: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        usual = {"unread_grace": 0.2, "unread_timeout": 1000.0}
        async with house(endless, address, **{**usual, **limits}) as here:
            reading = await here.client()
            reading.send(GET)
            await reading.head()
            idle = [await here.client() for _ in range(4)]
            for client in idle:
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                client.send(GET)
            left = 0 if "unread_timeout" in limits else 2
            async with asyncio.timeout(BOUND):
                while len(here.listening.traffic.open) > left + 1:
                    # One that reads slowly keeps its answer.
                    assert await reading.reader.read(100_000)
            assert await reading.reader.read(100)

    with caplog.at_level(logging.WARNING, logger="modelplex.server"):
        run(main())
    assert all("unread" in record.message or "read nothing" in record.message for record in caplog.records)
    assert caplog.records


def test_an_app_that_fails_before_its_answer_gives_a_500(
    run: Run, address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("a secret")

    async def main() -> None:
        async with house(app, address) as here:
            client = await here.client()
            client.send(GET)
            assert await client.refused() == (500, "gateway_error")

    with caplog.at_level(logging.ERROR, logger="modelplex.server"):
        run(main())
    assert [record.name for record in caplog.records] == ["modelplex.server"]


def test_an_app_that_says_nothing_gives_a_500(run: Run, address: Address) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        return

    async def main() -> None:
        async with house(app, address) as here:
            client = await here.client()
            client.send(GET)
            assert await client.refused() == (500, "gateway_error")

    run(main())


@pytest.mark.parametrize("raises", [False, True])
def test_an_app_that_stops_within_its_answer_leaves_an_incomplete_body(
    run: Run, address: Address, *, raises: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        if raises:
            raise LookupError

    async def main() -> None:
        async with house(app, address) as here:
            client = await here.client()
            client.send(GET)
            assert (await client.head())[1]["transfer-encoding"] == "chunked"
            assert await client.rest() == b"4\r\nhalf\r\n"

    run(main())


def test_an_answer_that_comes_before_the_body_is_read_can_be_read(run: Run, address: Address) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, b"too large", status=413, headers=((b"connection", b"close"),))

    async def main() -> None:
        async with house(app, address) as here:
            client = await here.client()
            size = 4_000_000
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
            # A client that sends all before it reads.
            async with asyncio.timeout(BOUND):
                for _ in range(size // 100_000):
                    client.send(b"x" * 100_000)
                    await client.writer.drain()
            assert (await client.answer())[::2] == (413, b"too large")
            await client.ended()

    run(main())


def test_a_connection_whose_early_answer_left_a_small_rest_is_used_again(run: Run, address: Address) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, scope["path"].encode(), status=413)

    async def main() -> None:
        async with house(app, address) as here:
            client = await here.client()
            client.send(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3000\r\n\r\n")
            assert (await client.answer())[2] == b"/a"
            client.send(b"x" * 3000 + GET)
            assert (await client.answer())[2] == b"/"

    run(main())


def test_the_rest_of_a_body_is_not_read_for_ever(
    run: Run, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_module, "LINGER_BYTES", 100_000)
    monkeypatch.setattr(limits_module, "LINGER_SECONDS", 1000.0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, b"no", status=413)

    async def main() -> None:
        async with house(app, address) as here:
            client = await here.client()
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n")
            assert (await client.answer())[0] == 413
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(BOUND):
                    while True:
                        client.send(b"x" * 50_000)
                        await client.writer.drain()
                        if not here.listening.traffic.open:
                            break
                        await asyncio.sleep(0)

    run(main())


# Limits.


@pytest.mark.parametrize("pieces", [1, 50])
def test_a_head_above_the_limit_is_a_431(run: Run, address: Address, pieces: int) -> None:
    async def main() -> None:
        async with house(echo, address, max_header_size=4000) as here:
            client = await here.client()
            head = b"GET / HTTP/1.1\r\nhost: x\r\nx-long: " + b"y" * 5000 + b"\r\n\r\n"
            for start in range(0, len(head), len(head) // pieces):
                client.send(head[start : start + len(head) // pieces])
                await asyncio.sleep(0)
            assert await client.refused() == (431, "request_headers_too_large")

    run(main())


def test_a_large_body_behind_a_small_head_is_no_large_head(run: Run, address: Address) -> None:
    async def main() -> None:
        async with house(echo, address, max_header_size=200) as here:
            client = await here.client()
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\n" + b"z" * 9000)
            assert len((await client.answer())[2]) == 9002

    run(main())


def test_endless_trailers_are_refused(run: Run, address: Address) -> None:
    async def main() -> None:
        async with house(echo, address, max_header_size=2000) as here:
            client = await here.client()
            client.send(CHUNKED + b"1\r\na\r\n0\r\n")
            client.send(b"x-more: " + b"y" * 400_000)
            assert await client.refused() == (431, "request_headers_too_large")

    run(main())


def test_a_slow_head_is_a_408(run: Run, address: Address) -> None:
    async def main() -> None:
        async with house(echo, address, header_timeout=0.1) as here:
            client = await here.client()
            client.send(b"GET / HTTP/1.1\r\nhost:")
            assert await client.refused() == (408, "request_timeout")

    run(main())


def test_a_connection_that_says_nothing_is_closed(run: Run, address: Address) -> None:
    async def main() -> None:
        async with house(echo, address, header_timeout=0.1) as here:
            await (await here.client()).ended()

    run(main())


def test_an_idle_connection_is_closed_after_keep_alive(run: Run, address: Address) -> None:
    async def main() -> None:
        async with house(echo, address, keep_alive=0.1) as here:
            client = await here.client()
            client.send(GET)
            assert (await client.answer())[0] == 200
            await client.ended()

    run(main())


def test_a_long_answer_outlives_every_deadline_of_the_request(run: Run, address: Address) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.wait({asyncio.ensure_future(receive_twice(receive))}, timeout=0.6)
        await say(send, b"late")

    async def receive_twice(receive: Any) -> None:
        await receive()
        await receive()

    async def main() -> None:
        async with house(app, address, header_timeout=0.1, body_timeout=0.1, keep_alive=0.1) as here:
            client = await here.client()
            client.send(GET)
            assert (await client.answer())[2] == b"late"

    run(main())


def test_a_body_that_stops_is_a_408_and_the_app_is_told(run: Run, address: Address) -> None:
    async def main() -> None:
        told = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await read_body(receive)
            except ConnectionResetError:
                told.set()

        async with house(app, address, body_timeout=0.1) as here:
            client = await here.client()
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")
            assert await client.refused() == (408, "request_timeout")
            await until(told)

    run(main())


def test_a_body_that_the_app_does_not_read_is_not_the_clients_slowness(run: Run, address: Address) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.wait({asyncio.ensure_future(asyncio.Event().wait())}, timeout=0.6)
        await echo(scope, receive, send)

    async def main() -> None:
        async with house(app, address, body_timeout=0.1) as here:
            client = await here.client()
            size = 8_000_000
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
            assert len((await client.answer())[2]) == size + 2

    # The task that waits for nothing is cancelled with the loop.
    run(main())


def test_a_connection_above_the_limit_is_refused_while_the_others_are_busy(
    run: Run, address: Address
) -> None:
    async def main() -> None:
        go = asyncio.Event()

        began = asyncio.Event()

        async def patient(scope: Any, receive: Any, send: Any) -> None:
            began.set()
            await go.wait()
            await echo(scope, receive, send)

        async with house(patient, address, max_connections=1) as here:
            first = await here.client()
            first.send(GET)
            await until(began)
            second = await here.client()
            second.send(GET)
            assert await second.refused() == (429, "too_many_connections")
            go.set()
            assert (await first.answer())[0] == 200
            first.send(GET)
            assert (await first.answer())[0] == 200

    run(main())


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"what is this\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n",
        b"CONNECT host:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        CHUNKED + b"zz\r\n",
    ],
)
def test_malformed_http_is_a_400(run: Run, address: Address, request_bytes: bytes) -> None:
    async def main() -> None:
        async with house(echo, address) as here:
            client = await here.client()
            client.send(request_bytes)
            assert await client.refused() == (400, "invalid_http")

    run(main())


def test_a_malformed_request_behind_a_running_one_does_not_land_in_its_answer(
    run: Run, address: Address
) -> None:
    async def main() -> None:
        # The fault is in the same piece as the request before it, so it is known when that one
        # begins.
        begun, going = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            begun.set()
            await until(going)
            await say(send, b"whole")

        async with house(app, address) as here:
            client = await here.client()
            client.send(GET + b"what is this\r\n\r\n")
            await until(begun)
            going.set()
            assert (await client.answer())[2] == b"whole"
            assert await client.refused() == (400, "invalid_http")

    run(main())


# The drain.


def test_draining_closes_idle_connections_and_lets_running_answers_end(run: Run, address: Address) -> None:
    async def main() -> None:
        working, going = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/wait":
                working.set()
                await until(going)
                assert not scope["state"]["stopping"].is_set()
            await say(send, b"done")

        async with house(app, address, drain_timeout=BOUND) as here:
            idle, busy = await here.client(), await here.client()
            idle.send(GET)
            await idle.answer()
            busy.send(GET.replace(b"/ ", b"/wait "))
            await until(working)
            draining = asyncio.ensure_future(here.listening.drain())
            await idle.ended()
            with pytest.raises((ConnectionError, FileNotFoundError)):
                await here.client()
            going.set()
            status, headers, _ = await busy.answer()
            assert (status, headers["connection"]) == (200, "close")
            async with asyncio.timeout(BOUND):
                await draining
            assert not here.listening.traffic.open

    run(main())


def test_after_the_drain_time_a_stream_ends_with_its_own_error(run: Run, address: Address) -> None:
    async def main() -> None:
        working = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            working.set()
            await until(scope["state"]["stopping"])
            await send({"type": "http.response.body", "body": b"error!"})

        async with house(app, address) as here:
            client = await here.client()
            client.send(GET)
            await until(working)
            await here.listening.drain()
            await client.head()
            assert await client.rest() == b"6\r\nerror!\r\n0\r\n\r\n"

    run(main())


def test_an_app_that_will_not_stop_is_cut_and_cancelled(run: Run, address: Address) -> None:
    async def main() -> None:
        working = asyncio.Event()
        cancelled: list[bool] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            working.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        async with house(app, address) as here:
            client = await here.client()
            client.send(GET)
            await until(working)
            async with asyncio.timeout(BOUND):
                await here.listening.drain()
            assert cancelled == [True]
            assert not here.listening.traffic.running
            await client.head()
            with contextlib.suppress(ConnectionResetError):
                assert b"0\r\n\r\n" not in await client.rest()

    run(main())


# Addresses.


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:8080", Tcp("0.0.0.0", 8080)),
        (":8080", Tcp("127.0.0.1", 8080)),
        ("[::1]:80", Tcp("::1", 80)),
        ("localhost:0", Tcp("localhost", 0)),
    ],
)
def test_an_http_address_is_read(text: str, address: Tcp) -> None:
    assert parse_http(text) == address


@pytest.mark.parametrize(
    "text", ["8080", "", "::1:80", "host:", "host:65536", "host:x", "http://host:80", "a b:80"]
)
def test_a_wrong_http_address_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ValueError, match=r'"0\.0\.0\.0:8080"'):
        parse_http(text)


def test_a_port_in_use_is_a_sentence_and_nothing_is_left_behind(run: Run, short: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port} is in use"):
                await listen(
                    echo, [Unix(str(short / "s")), Tcp("127.0.0.1", port)], limits=ConnectionLimits()
                )
        assert list(short.iterdir()) == []

    run(main())


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        (Tcp("192.0.2.1", 0), "not an address of this machine"),
        (Tcp("no.such.invalid", 0), "host name is not known"),
    ],
)
def test_a_host_that_is_not_ours_is_a_sentence(run: Run, address: Tcp, sentence: str) -> None:
    async def main() -> None:
        with pytest.raises(ListenError, match=sentence):
            await listen(echo, [address], limits=ConnectionLimits())

    run(main())


def test_several_listeners_serve_at_once(run: Run, short: Path) -> None:
    async def main() -> None:
        addresses: list[Address] = [
            Tcp("127.0.0.1", 0),
            Tcp("127.0.0.1", 0),
            Unix(str(short / "a")),
            Unix(str(short / "b")),
        ]
        listening = await listen(echo, addresses, limits=ConnectionLimits(drain_timeout=0.05))
        assert listening.addresses[2:] == [f"unix:{short}/a", f"unix:{short}/b"]
        assert len(set(listening.addresses)) == 4
        assert not any(each.endswith(":0") for each in listening.addresses)
        await listening.drain()
        assert list(short.iterdir()) == []

    run(main())


# The socket file.


@contextlib.contextmanager
def umask(mask: int) -> Generator[None, None, None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


async def refusal_at(path: Path | str, **settings: Any) -> str:
    with pytest.raises(ListenError) as caught:
        await listen(echo, [Unix(str(path), **settings)], limits=ConnectionLimits())
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o666])
def test_the_socket_has_its_mode_whatever_the_umask(run: Run, short: Path, mode: int) -> None:
    async def main() -> None:
        with umask(0o077):
            async with house(echo, Unix(str(short / "s"), mode=mode)):
                assert stat.S_IMODE((short / "s").lstat().st_mode) == mode
                assert sorted(each.name for each in short.iterdir()) == ["s", "s.lock"]
            assert os.umask(0o077) == 0o077
        assert list(short.iterdir()) == []

    run(main())


def test_the_socket_belongs_to_the_group_by_name(run: Run, short: Path) -> None:
    gid = os.getgroups()[0] if os.getgroups() else os.getgid()

    async def main() -> None:
        async with house(echo, Unix(str(short / "s"), group=grp.getgrgid(gid).gr_name)):
            assert (short / "s").lstat().st_gid == gid

    run(main())


def test_a_group_that_is_not_or_may_not_is_a_sentence(
    run: Run, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chown(path: str, uid: int, gid: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    async def main() -> None:
        assert 'no group "nobodys-group"' in await refusal_at(short / "s", group="nobodys-group")
        monkeypatch.setattr(os, "chown", chown)
        assert "cannot be given to the group" in await refusal_at(
            short / "s", group=grp.getgrgid(os.getgid()).gr_name
        )
        assert list(short.iterdir()) == []

    run(main())


def test_a_dead_socket_is_replaced(run: Run, short: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(short / "s"))
        before = (short / "s").lstat().st_ino

        async def main() -> None:
            async with house(echo, Unix(str(short / "s"))) as here:
                assert (short / "s").lstat().st_ino != before
                client = await here.client()
                client.send(GET)
                assert (await client.answer())[0] == 200

        run(main())


def test_a_live_socket_is_refused_with_who_holds_it_and_stays(run: Run, short: Path) -> None:
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(short / "s"))
        live.listen()
        before = (short / "s").lstat()

        async def main() -> None:
            sentence = await refusal_at(short / "s")
            assert str(short / "s") in sentence
            assert f"process {os.getpid()}" in sentence

        run(main())
        after = (short / "s").lstat()
        assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
        assert [each.name for each in short.iterdir()] == ["s"]


def test_a_second_gateway_on_the_same_path_is_refused(run: Run, short: Path) -> None:
    async def main() -> None:
        async with house(echo, Unix(str(short / "s"))) as here:
            assert f"process {os.getpid()}" in await refusal_at(short / "s")
            client = await here.client()
            client.send(GET)
            assert (await client.answer())[0] == 200

    run(main())


def test_a_socket_with_a_full_backlog_is_alive(run: Run, short: Path) -> None:
    with contextlib.ExitStack() as open_sockets:
        live = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
        live.bind(str(short / "s"))
        live.listen(0)
        for _ in range(2):
            waiting = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(str(short / "s"))

        async def main() -> None:
            assert "is in use" in await refusal_at(short / "s")

        run(main())


@pytest.mark.parametrize("kind", ["regular file", "fifo", "directory", "symbolic link"])
def test_what_is_no_socket_is_refused_and_left_as_it_is(run: Run, short: Path, kind: str) -> None:
    path = short / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        match kind:
            case "regular file":
                path.write_text("keep me")
            case "fifo":
                os.mkfifo(path)
            case "directory":
                path.mkdir()
            case _:
                # To a dead socket: following it would find something to replace.
                dead.bind(str(short / "other"))
                path.symlink_to(short / "other")
        before, names = path.lstat(), sorted(short.iterdir())

        async def main() -> None:
            assert f"a {kind}, not a socket" in await refusal_at(path)

        run(main())
        after = path.lstat()
        assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
        assert sorted(short.iterdir()) == names


def test_a_path_above_the_limit_is_refused_with_both_lengths_and_one_at_it_works(
    run: Run, short: Path
) -> None:
    longest = str(short / ("x" * (107 - len(str(short)) - 1)))

    async def main() -> None:
        async with house(echo, Unix(longest)):
            assert Path(longest).is_socket()
        sentence = await refusal_at(longest + "é")
        assert "109 bytes" in sentence
        assert "107" in sentence
        assert list(short.iterdir()) == []

    run(main())


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("", "needs a path"), ("\0abstract", "abstract names"), ("/no/such/dir/s", "/no/such/dir")],
)
def test_a_path_that_cannot_be_is_a_sentence(run: Run, path: str, sentence: str) -> None:
    async def main() -> None:
        assert sentence in await refusal_at(path)

    run(main())


def test_a_half_made_socket_never_bears_a_name_that_somebody_might_choose() -> None:
    names = hidden_names("/run/b")
    assert {len(Path(each).name) for each in names} == {HIDDEN_LENGTH}
    assert all(each.startswith("/run/.") for each in names)
    assert {len(each) for each in hidden_names("/" + "d" * 104 + "/s")} == {107}


def test_a_path_that_another_starter_has_locked_is_refused(run: Run, short: Path) -> None:
    with (short / "s.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        async def main() -> None:
            assert "starting or stopping" in await refusal_at(short / "s")

        run(main())
    assert [each.name for each in short.iterdir()] == ["s.lock"]


def test_a_lock_left_by_a_crash_is_no_hindrance(run: Run, short: Path) -> None:
    (short / "s.lock").touch()

    async def main() -> None:
        async with house(echo, Unix(str(short / "s"))):
            assert (short / "s").is_socket()

    run(main())
    assert list(short.iterdir()) == []


def test_a_symlink_in_place_of_the_lock_is_not_followed(run: Run, short: Path) -> None:
    (short / "s.lock").symlink_to(short / "elsewhere")

    async def main() -> None:
        assert "s.lock" in await refusal_at(short / "s")

    run(main())
    assert not (short / "elsewhere").exists()


def test_a_file_that_took_our_place_is_not_removed_on_stop(run: Run, short: Path) -> None:
    path = short / "s"

    async def main() -> None:
        async with house(echo, Unix(str(path))):
            path.rename(short / "moved")
            path.write_text("somebody else's")

    run(main())
    assert path.read_text() == "somebody else's"
