# pyright: reportPrivateUsage=false
"""The client against scripted servers on real sockets: what it sends, how it takes every ending,
what it holds.
"""

import asyncio
import contextlib
import gzip
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from modelplex.http_client import (
    BadResponse,
    ConnectFailed,
    ConnectionCut,
    HttpClient,
    HttpResponse,
    Origin,
    ResponseTooLarge,
    SendError,
    TimedOut,
    Timeouts,
    TlsFailed,
    parse_origin,
)
from modelplex.http_client.connection import HEAD_LIMIT, UpstreamConnection
from modelplex.http_client.errors import map_connect_error
from modelplex.http_client.request import EncodedRequest

BOUND = 20.0  # seconds for a whole story: far above what any takes
SOON = 0.05  # a timeout that is meant to ring
KEY = b"sk-this-must-never-be-shown"
HEADERS = ((b"authorization", b"Bearer " + KEY), (b"accept-encoding", b"identity"))
PATIENT = Timeouts(connect=60.0, first_byte=60.0, idle=60.0)  # beyond BOUND: a wait that rings late fails
SHORT = Timeouts(connect=60.0, first_byte=SOON, idle=SOON)

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nt: u\r\n\r\n"
TO_THE_END = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a story on each of the two loops, within a bound."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def bounded(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(story(), BOUND))

    return bounded


class Upstream:
    """A server that plays a script on each connection; the script gets the connection's number,
    from 1.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.hung_up = 0
        self.origin = Origin(host="127.0.0.1", port=0, tls=False)
        self._tasks: set[asyncio.Task[None]] = set()

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.script(reader, writer, self.connections)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            self.hung_up += 1
        except asyncio.CancelledError:
            pass
        finally:
            writer.transport.abort()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@contextlib.asynccontextmanager
async def upstream(
    script: Script, *, tls: ssl.SSLContext | None = None, unix: Path | None = None
) -> AsyncGenerator[Upstream]:
    served = Upstream(script)
    if unix is not None:
        server = await asyncio.start_unix_server(served.play, unix)
        served.origin = Origin(host="localhost", port=80, tls=False, unix=str(unix))
    else:
        server = await asyncio.start_server(served.play, "127.0.0.1", 0, ssl=tls)
        port: int = server.sockets[0].getsockname()[1]
        served.origin = Origin(host="127.0.0.1", port=port, tls=tls is not None)
    try:
        yield served
    finally:
        server.close()
        await served.stop()


@contextlib.asynccontextmanager
async def client(**settings: Any) -> AsyncGenerator[HttpClient]:
    made = HttpClient(**settings)
    try:
        yield made
    finally:
        await made.aclose()


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    _, _, rest = head.lower().partition(b"content-length:")
    return head, await reader.readexactly(int(rest.split(b"\r\n")[0])) if rest else b""


def answering(*answers: bytes) -> Script:
    """Answer the requests of each connection with these bytes in turn, the last one again and
    again.
    """

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        served = 0
        while True:
            await read_request(reader)
            writer.write(answers[min(served, len(answers) - 1)])
            served += 1

    return script


def answering_then_closing(answer: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return script


async def ask(
    pool: HttpClient,
    origin: Origin,
    *,
    method: bytes = b"POST",
    body: bytes | tuple[bytes, ...] = b"{}",
    timeouts: Timeouts = PATIENT,
) -> HttpResponse:
    return await pool.send(
        origin, method=method, target=b"/v1/x", headers=HEADERS, body=body, timeouts=timeouts
    )


async def fetch(
    pool: HttpClient, origin: Origin, *, method: bytes = b"POST", timeouts: Timeouts = PATIENT
) -> bytes:
    reply = await ask(pool, origin, method=method, timeouts=timeouts)
    return await reply.body(limit=1 << 20)


async def until(outcome: Callable[[], bool]) -> None:
    """Let the loop turn until the outcome is there; the story's bound is the limit."""
    while not outcome():
        await asyncio.sleep(0.001)


def counts(pool: HttpClient) -> tuple[int, int]:
    """(open, idle) over all origins."""
    pools = pool._pools.values()
    return sum(len(p.open) for p in pools), sum(len(p.idle) for p in pools)


def only_connection(pool: HttpClient) -> Any:
    (connection,) = next(iter(pool._pools.values())).open
    return connection


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, str]:
    made = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    return made, str(path)


def certified(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    return context


# What is sent.


@pytest.mark.parametrize("size", [0, 2, 20_000, 200_000, 5_000_000])
@pytest.mark.parametrize("pieces", [1, 3])
def test_the_request_arrives_whole_whatever_its_size(run: Run, size: int, pieces: int) -> None:
    piece = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    got: list[tuple[bytes, bytes]] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        got.append(await read_request(reader))
        writer.write(OK)
        await reader.read()

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            body = piece if pieces == 1 else (piece,) * pieces
            reply = await ask(pool, up.origin, body=body)
            assert (reply.status, await reply.body(limit=100)) == (200, b"hello")
            head, body_got = got[0]
            assert head == (
                b"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer %b\r\n"
                b"accept-encoding: identity\r\ncontent-length: %d\r\n\r\n"
            ) % (up.origin.port, KEY, size * pieces)
            assert body_got == piece * pieces

    run(story)


def test_encoded_header_lines_go_out_as_they_are_and_a_get_has_no_length(run: Run) -> None:
    got: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        got.append((await read_request(reader))[0])
        writer.write(OK)
        await reader.read()

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            lines = b"X-One: 1\r\nx-two:2\r\n"
            reply = await pool.send(up.origin, method=b"GET", target=b"/", headers=lines, timeouts=PATIENT)
            await reply.body(limit=100)
            assert got == [b"GET / HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % up.origin.port + lines + b"\r\n"]

    run(story)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x", b"a\r\nb: c")],
        [(b"x", b"a\nb")],
        [(b"x", b"a\0")],
        [(b"x y", b"a")],
        [(b"", b"a")],
        [(b"Host", b"a")],
        [(b"content-length", b"3")],
        [(b"Transfer-Encoding", b"chunked")],
        b"x: a",
        b"x: a\n",
        b"x: a\r\n\r\n",
        b"x: a\r\n b\r\n",
        b"x: a\rb\r\n",
        b"x\r\n",
        b"X: a\r\nHOST: b\r\n",
        b"content-length:3\r\n",
    ],
)
def test_a_header_that_could_split_or_reframe_the_request_is_refused(headers: Any) -> None:
    async def story() -> None:
        async with client() as pool:
            origin = Origin(host="127.0.0.1", port=1, tls=False)
            with pytest.raises(ValueError, match=r"header|Header"):
                await pool.send(origin, target=b"/", headers=headers, timeouts=PATIENT)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("method", "target"), [(b"GE T", b"/"), (b"GET", b"/a b"), (b"GET", b"/\r\n"), (b"GET", b"")]
)
def test_a_target_or_method_that_could_split_the_request_is_refused(method: bytes, target: bytes) -> None:
    async def story() -> None:
        async with client() as pool:
            origin = Origin(host="127.0.0.1", port=1, tls=False)
            with pytest.raises(ValueError, match="HTTP does not allow"):
                await pool.send(origin, method=method, target=target, headers=b"", timeouts=PATIENT)

    asyncio.run(story())


def test_small_writes_are_not_delayed(run: Run) -> None:
    async def story() -> None:
        async with upstream(answering(OK)) as up, client() as pool:
            await fetch(pool, up.origin)
            sock = only_connection(pool).transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(story)


# What comes back.


@pytest.mark.parametrize("answer", [OK, CHUNKED, TO_THE_END], ids=["length", "chunked", "eof"])
def test_every_framing_yields_the_same_body(run: Run, answer: bytes) -> None:
    async def story() -> None:
        async with upstream(answering_then_closing(answer)) as up, client() as pool:
            reply = await ask(pool, up.origin)
            assert await reply.body(limit=100) == b"hello"
            assert await reply.chunk() == b""

    run(story)


@pytest.mark.parametrize("answer", [OK, CHUNKED, TO_THE_END], ids=["length", "chunked", "eof"])
def test_a_response_that_comes_byte_by_byte_is_the_same_response(
    run: Run, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = UpstreamConnection.data_received

    def by_byte(self: Any, data: bytes) -> None:
        for at in range(len(data)):
            whole(self, data[at : at + 1])

    monkeypatch.setattr(UpstreamConnection, "data_received", by_byte)

    async def story() -> None:
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        async with upstream(answering_then_closing(interim + answer)) as up, client() as pool:
            reply = await ask(pool, up.origin)
            assert (reply.status, await reply.body(limit=100)) == (200, b"hello")

    run(story)


@pytest.mark.parametrize("answer", [OK, CHUNKED, TO_THE_END], ids=["length", "chunked", "eof"])
def test_a_cut_at_any_byte_is_a_cut_and_never_a_clean_end(run: Run, answer: bytes) -> None:
    head = answer.index(b"\r\n\r\n") + 4

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await answering_then_closing(answer[: number - 1])(reader, writer, number)

    async def read_until_it_ends(pool: HttpClient, origin: Origin) -> tuple[bytes, ConnectionCut | None]:
        got = b""
        try:
            reply = await ask(pool, origin)
            while data := await reply.chunk():
                got += data
        except ConnectionCut as cut:
            return got, cut
        return got, None

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            for offset in range(len(answer)):
                got, cut = await read_until_it_ends(pool, up.origin)
                if answer is TO_THE_END and offset >= head:
                    assert (got, cut) == (answer[head:offset], None)
                else:
                    assert cut is not None
                    assert cut.started == (offset > 0)
                    assert b"hello".startswith(got)
                assert up.connections == offset + 1
                await until(lambda: counts(pool) == (0, 0))

    run(story)


def test_all_that_arrived_before_a_cut_is_delivered_first_and_the_cut_stays(run: Run) -> None:
    async def story() -> None:
        async with upstream(answering_then_closing(OK[:-1])) as up, client() as pool:
            reply = await ask(pool, up.origin)
            await until(lambda: counts(pool) == (0, 0))
            assert await reply.chunk() == b"hell"
            for _ in range(2):
                with pytest.raises(ConnectionCut) as caught:
                    await reply.chunk()
                assert caught.value.started

    run(story)


def test_a_reset_is_a_cut_even_where_the_connection_ends_the_body(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(TO_THE_END)
        await reader.readexactly(1)

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await ask(pool, up.origin)
            assert await reply.chunk() == b"hello"
            only_connection(pool).connection_lost(ConnectionResetError())
            with pytest.raises(ConnectionCut):
                await reply.chunk()

    run(story)


def test_interim_responses_are_skipped(run: Run) -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK

    async def story() -> None:
        async with upstream(answering(answer)) as up, client() as pool:
            for _ in range(2):
                reply = await ask(pool, up.origin)
                assert (reply.status, reply.header(b"link")) == (200, None)
                assert await reply.body(limit=100) == b"hello"
            assert up.connections == 1

    run(story)


def test_a_redirect_is_delivered_and_not_followed(run: Run) -> None:
    answer = b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"

    async def story() -> None:
        async with upstream(answering(answer)) as up, client() as pool:
            reply = await ask(pool, up.origin)
            assert (reply.status, reply.header(b"location")) == (307, b"http://127.0.0.1:1/")
            assert await reply.chunk() == b""
            assert up.connections == 1

    run(story)


def test_a_compressed_body_stays_compressed(run: Run) -> None:
    packed = gzip.compress(b"hello" * 100)
    answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed

    async def story() -> None:
        async with upstream(answering(answer)) as up, client() as pool:
            assert await fetch(pool, up.origin) == packed

    run(story)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        (b"DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
    ],
)
def test_a_response_without_a_body_ends_at_its_head_and_the_connection_is_kept(
    run: Run, method: bytes, answer: bytes
) -> None:
    async def story() -> None:
        async with upstream(answering(answer)) as up, client() as pool:
            for _ in range(3):
                assert await fetch(pool, up.origin, method=method) == b""
            assert up.connections == 1

    run(story)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * HEAD_LIMIT + b"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * HEAD_LIMIT,
        b"HTTP/1.1 200 OK\r\n" + b"x: a\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
    ],
)
def test_what_is_not_http_or_has_an_oversized_head_is_a_bad_response(run: Run, answer: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(answer)
        await reader.readexactly(1)

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            with pytest.raises(BadResponse) as caught:
                await ask(pool, up.origin)
            assert "127.0.0.1" in caught.value.sentence
            await until(lambda: counts(pool) == (0, 0) and up.hung_up == 1)

    run(story)


@pytest.mark.parametrize(
    "tail", [b"zz\r\n", b"3\r\nabcdef", b"3;" + b"a" * 70_000, b"0\r\nx: " + b"a" * 70_000]
)
def test_broken_or_endless_chunk_framing_is_a_bad_response_after_what_came_before(
    run: Run, tail: bytes
) -> None:
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(answer)
        await proceed.wait()
        writer.write(tail)
        await reader.readexactly(1)

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await ask(pool, up.origin)
            assert await reply.chunk() == b"hello"
            proceed.set()
            with pytest.raises(BadResponse):
                await reply.body(limit=1000)
            await until(lambda: up.hung_up == 1)

    run(story)


def test_a_body_beyond_the_readers_limit_is_too_large_and_hung_up_on(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1000)
        await reader.readexactly(1)

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await ask(pool, up.origin)
            with pytest.raises(ResponseTooLarge) as caught:
                await reply.body(limit=999)
            assert caught.value.limit == 999
            await until(lambda: up.hung_up == 1)

    run(story)


# Which connection carries it.


@pytest.mark.parametrize("answer", [OK, CHUNKED])
def test_a_connection_is_used_again_once_its_response_was_read(run: Run, answer: bytes) -> None:
    async def story() -> None:
        async with upstream(answering(answer)) as up, client() as pool:
            for _ in range(5):
                assert await fetch(pool, up.origin) == b"hello"
            assert up.connections == 1
            assert repr(pool) == f"<HttpClient 127.0.0.1:{up.origin.port}: open=1 idle=1>"

    run(story)


def test_replies_under_way_have_a_connection_each_and_the_last_one_freed_is_used_next(run: Run) -> None:
    async def story() -> None:
        async with upstream(answering(OK)) as up, client(max_idle_per_origin=2) as pool:
            replies = await asyncio.gather(*(ask(pool, up.origin) for _ in range(3)))
            assert up.connections == 3
            assert counts(pool) == (3, 0)
            last = replies[2]._connection
            for reply in replies:
                await reply.body(limit=100)
            await until(lambda: counts(pool) == (2, 2))
            again = await ask(pool, up.origin)
            assert again._connection is last
            assert up.connections == 3

    run(story)


def test_an_idle_connection_is_closed_when_its_time_is_over(run: Run) -> None:
    async def story() -> None:
        async with upstream(answering(OK)) as up, client(idle_seconds=SOON) as pool:
            await fetch(pool, up.origin)
            await until(lambda: counts(pool) == (0, 0))
            await until(lambda: up.hung_up == 1)
            assert repr(pool) == "<HttpClient empty>"

    run(story)


@pytest.mark.parametrize(
    "answer",
    [
        OK.replace(b"Content-Type: text/plain", b"Connection: close"),
        OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
        OK + b"HTTP/1.1 200 OK\r\n",
        OK + b"junk",
    ],
)
def test_a_connection_that_must_close_or_said_too_much_is_not_used_again(run: Run, answer: bytes) -> None:
    async def story() -> None:
        async with upstream(answering(answer)) as up, client() as pool:
            for number in (1, 2):
                assert await fetch(pool, up.origin) == b"hello"
                assert up.connections == number

    run(story)


def test_a_connection_that_speaks_unasked_is_dropped(run: Run) -> None:
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK)
        await proceed.wait()
        writer.write(OK)
        await reader.readexactly(1)

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            await fetch(pool, up.origin)
            assert counts(pool) == (1, 1)
            proceed.set()
            await until(lambda: counts(pool) == (0, 0))

    run(story)


def test_a_kept_connection_that_dies_unanswered_is_replaced_once_unnoticed(run: Run) -> None:
    bodies: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK)
        bodies.append((await read_request(reader))[1] if number == 1 else b"")

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            assert await fetch(pool, up.origin) == b"hello"
            reply = await ask(pool, up.origin, body=b"again" * 10_000)
            assert await reply.body(limit=100) == b"hello"
            assert up.connections == 2
            assert bodies[0] == b"again" * 10_000

    run(story)


def test_a_second_death_is_reported_and_a_fresh_connection_is_not_tried_again(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        if number == 1:
            writer.write(OK)
            await read_request(reader)

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            await fetch(pool, up.origin)
            with pytest.raises(ConnectionCut) as caught:
                await ask(pool, up.origin)
            assert (caught.value.started, up.connections) == (False, 2)
            with pytest.raises(ConnectionCut):
                await ask(pool, up.origin)
            assert up.connections == 3

    run(story)


def test_a_kept_connection_that_dies_after_a_byte_is_not_retried(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK)
        await answering_then_closing(b"H")(reader, writer, number)

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            await fetch(pool, up.origin)
            with pytest.raises(ConnectionCut) as caught:
                await ask(pool, up.origin)
            assert (caught.value.started, up.connections) == (True, 1)

    run(story)


def test_a_connection_closed_by_the_other_side_leaves_the_pool(run: Run) -> None:
    async def story() -> None:
        async with upstream(answering_then_closing(OK)) as up, client() as pool:
            await fetch(pool, up.origin)
            await until(lambda: counts(pool) == (0, 0))

    run(story)


def test_of_two_kept_connections_only_the_closed_one_leaves_the_pool(run: Run) -> None:
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK)
        await (proceed.wait() if number == 1 else reader.read())

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            replies = await asyncio.gather(ask(pool, up.origin), ask(pool, up.origin))
            for reply in replies:
                await reply.body(limit=100)
            await until(lambda: counts(pool) == (2, 2))
            proceed.set()
            await until(lambda: counts(pool)[0] == 1)
            assert counts(pool) == (1, 1)

    run(story)


def test_a_connection_lost_between_connecting_and_asking_is_a_cut(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        pass

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            connection = await pool._connect(up.origin, BOUND)
            await until(lambda: connection.gone)
            with pytest.raises(ConnectionCut) as caught:
                await connection.exchange(EncodedRequest(b"GET / HTTP/1.1\r\n\r\n", (), False, PATIENT))
            assert not caught.value.started

    run(story)


# Waiting too long.


def test_a_handshake_that_stalls_times_out_in_connect(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.read()

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            origin = Origin(host="127.0.0.1", port=up.origin.port, tls=True, verify=False)
            with pytest.raises(TimedOut) as caught:
                await ask(pool, origin, timeouts=Timeouts(connect=SOON))
            assert caught.value.phase == "connect"
            assert counts(pool) == (0, 0)

    run(story)


@pytest.mark.parametrize(
    ("begun", "phase"),
    [
        (b"", "first_byte"),
        (OK[:20], "first_byte"),
        (OK[:-5], "idle"),
        (OK[:-2], "idle"),
        (CHUNKED[:60], "idle"),
    ],
)
def test_a_stall_times_out_in_its_phase_and_hangs_up(run: Run, begun: bytes, phase: str) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(begun)
        await reader.readexactly(1)

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            with pytest.raises(TimedOut) as caught:
                await fetch(pool, up.origin, timeouts=SHORT)
            assert caught.value.phase == phase
            assert f"{SOON:g} seconds" in caught.value.sentence
            await until(lambda: counts(pool) == (0, 0) and up.hung_up == 1)

    run(story)


def test_a_server_that_stops_taking_the_body_times_out_in_write(run: Run) -> None:
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await proceed.wait()

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            limits = Timeouts(first_byte=60.0, idle=SOON)
            with pytest.raises(TimedOut) as caught:
                await ask(pool, up.origin, body=b"x" * 64_000_000, timeouts=limits)
            assert caught.value.phase == "write"
            proceed.set()

    run(story)


def test_a_timer_armed_for_long_still_rings_for_a_shorter_wait(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK)
        await reader.readexactly(1_000_000)

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            await fetch(pool, up.origin, timeouts=PATIENT)
            with pytest.raises(TimedOut) as caught:
                await fetch(pool, up.origin, timeouts=SHORT)
            assert (caught.value.phase, up.connections) == ("first_byte", 1)

    run(story)


def test_a_reader_that_takes_its_time_is_not_the_upstreams_fault(run: Run) -> None:
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK[:-2])
        await proceed.wait()
        writer.write(OK[-2:])
        await reader.read()

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await ask(pool, up.origin, timeouts=Timeouts(first_byte=SOON, idle=SOON))
            connection = only_connection(pool)
            await until(
                lambda: connection.deadline.timer is None
            )  # the deadline of the head has rung, for nobody
            assert await reply.chunk() == b"hel"
            proceed.set()
            assert await reply.chunk() == b"lo"

    run(story)


# Backpressure.


def test_a_flood_that_nobody_reads_stops_the_server_and_memory_stays_bounded(run: Run) -> None:
    total = 64 << 20
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while sent < total:
            writer.write(b"x" * 65536)
            await writer.drain()
            await asyncio.sleep(0)  # drain() alone need not suspend, and the client shares this loop
            sent += 65536
        await reader.read()

    async def story() -> None:
        async with upstream(script) as up, client(max_buffer=65536) as pool:
            reply = await ask(pool, up.origin)
            connection = only_connection(pool)
            await until(lambda: connection.read_paused)
            before = -1
            while sent != before:  # until the kernel's buffers are full too
                before = sent
                await asyncio.sleep(0.1)
            assert sent < total // 2
            assert connection.buffered < 65536 + (512 << 10)  # what one read may add
            size = 0
            while data := await reply.chunk():
                size += len(data)
            assert size == total
            assert counts(pool) == (1, 1)
            assert not connection.read_paused

    run(story)


def test_an_answer_that_comes_before_the_body_was_taken_is_delivered(run: Run) -> None:
    answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nhello"
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await proceed.wait()

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await ask(pool, up.origin, body=b"x" * 64_000_000)
            connection = only_connection(pool)
            assert connection.unsent  # most of the body was never given to the transport
            assert (reply.status, await reply.body(limit=100)) == (413, b"hello")
            await until(lambda: counts(pool) == (0, 0))
            proceed.set()

    run(story)


def test_a_server_that_half_closes_amid_an_upload_is_hung_up_on(run: Run) -> None:
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK[:-2])
        writer.write_eof()
        await proceed.wait()

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await ask(pool, up.origin, body=b"x" * 64_000_000)
            with pytest.raises(ConnectionCut):
                await reply.body(limit=100)
            await until(lambda: counts(pool) == (0, 0))
            proceed.set()

    run(story)


# Giving up.


@pytest.mark.parametrize("begun", [b"", OK[:-5], OK[:-2]])
def test_a_cancelled_wait_hangs_up_on_the_upstream(run: Run, begun: bytes) -> None:
    asked = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(begun)
        asked.set()
        await reader.readexactly(1)

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            task = asyncio.create_task(fetch(pool, up.origin))
            await asked.wait()
            connection = only_connection(pool)
            await until(lambda: connection.answered == bool(begun) and connection.waiter is not None)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: up.hung_up == 1 and counts(pool) == (0, 0))

    run(story)


def test_closing_a_reply_hangs_up_amid_its_body_and_keeps_the_connection_after_it(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK)
        await read_request(reader)
        writer.write(OK[:-2])
        await reader.readexactly(1)

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            whole = await ask(pool, up.origin)
            await until(lambda: only_connection(pool).complete)
            whole.close()
            assert counts(pool) == (1, 1)
            part = await ask(pool, up.origin)
            assert await part.chunk() == b"hel"
            part.close()
            part.close()
            whole.close()
            await until(lambda: up.hung_up == 1 and counts(pool) == (0, 0))
            for reply in (whole, part):
                with pytest.raises(ConnectionCut):  # never b"", which would be a clean end
                    await reply.chunk()

    run(story)


def test_closing_the_client_ends_everything_at_once(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK[:-2])
        await reader.readexactly(1)

    async def story() -> None:
        async with upstream(script) as up:
            pool = HttpClient()
            reply = await ask(pool, up.origin)
            assert await reply.chunk() == b"hel"
            waiting = asyncio.create_task(reply.chunk())
            await until(lambda: only_connection(pool).waiter is not None)
            await pool.aclose()
            with pytest.raises(ConnectionCut):
                await waiting
            with pytest.raises(ConnectFailed):
                await ask(pool, up.origin)
            assert repr(pool) == "<HttpClient closed>"
            await pool.aclose()

    run(story)


# No connection.


def test_a_refused_connection_is_a_sentence_that_names_the_host(run: Run) -> None:
    async def story() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets this port
            port = taken.getsockname()[1]
            async with client() as pool:
                with pytest.raises(ConnectFailed, match=f"127.0.0.1:{port} refused the connection"):
                    await ask(pool, Origin(host="127.0.0.1", port=port, tls=False))

    run(story)


def test_a_name_that_cannot_exist_fails_to_connect(run: Run) -> None:
    async def story() -> None:
        async with client() as pool:
            with pytest.raises(ConnectFailed, match="could not be resolved"):
                await ask(pool, Origin(host="a" * 70 + ".example", port=80, tls=False))

    run(story)


def test_a_name_that_does_not_resolve_is_said_so() -> None:
    origin = Origin(host="nowhere.example", port=443, tls=True)
    error = map_connect_error(origin, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    assert error.sentence == "The name nowhere.example could not be resolved."


def test_a_unix_socket_is_dialled_by_its_path(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "up.sock"
        async with upstream(answering(OK), unix=path) as up, client() as pool:
            origin, prefix = parse_origin(f"unix:{path}:/v1")
            assert (origin, prefix) == (up.origin, "/v1")
            assert await fetch(pool, origin) == b"hello"
            assert repr(pool) == f"<HttpClient the socket {path}: open=1 idle=1>"
            with pytest.raises(ConnectFailed, match=r"missing\.sock"):
                await ask(pool, parse_origin(f"unix:{tmp_path}/missing.sock")[0])

    run(story)


# TLS.


def trusting(origin: Origin, ca_file: str | None, *, host: str = "127.0.0.1", verify: bool = True) -> Origin:
    return Origin(host=host, port=origin.port, tls=True, ca_file=ca_file, verify=verify)


def test_tls_works_with_its_own_authority_and_is_kept_alive(
    run: Run, authority: tuple[trustme.CA, str]
) -> None:
    ca, path = authority

    async def story() -> None:
        async with upstream(answering(OK), tls=certified(ca, "127.0.0.1")) as up, client() as pool:
            for origin in (trusting(up.origin, path), trusting(up.origin, None, verify=False)):
                big = await ask(pool, origin, body=b"x" * 3_000_000)
                assert await big.body(limit=100) == b"hello"
                assert await fetch(pool, origin) == b"hello"
            assert up.connections == 2

    run(story)


def test_an_untrusted_or_misnamed_certificate_is_a_tls_failure_that_names_the_host(
    run: Run, authority: tuple[trustme.CA, str]
) -> None:
    ca, path = authority

    async def story() -> None:
        async with client() as pool:
            async with upstream(answering(OK), tls=certified(ca, "127.0.0.1")) as up:
                with pytest.raises(TlsFailed, match=r"certificate of 127\.0\.0\.1:\d+ is not trusted"):
                    await ask(pool, trusting(up.origin, None))
            async with upstream(answering(OK), tls=certified(ca, "other.example")) as up:
                with pytest.raises(TlsFailed, match=r"certificate of 127\.0\.0\.1:\d+ is not trusted"):
                    await ask(pool, trusting(up.origin, path))
            with pytest.raises(TlsFailed, match="does not exist"):
                await ask(pool, trusting(up.origin, "/nonexistent/ca.pem"))
            assert counts(pool) == (0, 0)

    run(story)


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_without_tls_is_a_tls_failure(run: Run, greeting: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.read(100)
        writer.write(greeting)
        await writer.drain()

    async def story() -> None:
        async with upstream(script) as up, client() as pool:
            with pytest.raises(TlsFailed, match=r"127\.0\.0\.1"):
                await ask(pool, trusting(up.origin, None))

    run(story)


@pytest.mark.parametrize("answer", [OK[:-2], CHUNKED[:-5], OK[:10]])
def test_a_cut_under_tls_is_a_cut(run: Run, authority: tuple[trustme.CA, str], answer: bytes) -> None:
    ca, path = authority

    async def story() -> None:
        tls = certified(ca, "127.0.0.1")
        async with upstream(answering_then_closing(answer), tls=tls) as up, client() as pool:
            with pytest.raises(ConnectionCut):
                await fetch(pool, trusting(up.origin, path))

    run(story)


def test_a_flood_under_tls_is_held_back_and_a_cancel_hangs_up(
    run: Run, authority: tuple[trustme.CA, str]
) -> None:
    ca, path = authority

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            # uvloop's TLS drops writes to a lost peer before it says so, and drain() then never
            # suspends.
            await asyncio.sleep(0)

    async def story() -> None:
        async with upstream(script, tls=certified(ca, "127.0.0.1")) as up, client() as pool:
            reply = await ask(pool, trusting(up.origin, path))
            connection = only_connection(pool)
            await until(lambda: connection.read_paused)
            assert connection.buffered < 65536 + (1 << 20)
            for _ in range(20):
                assert await reply.chunk()
            reply.close()
            await until(lambda: up.hung_up == 1 and counts(pool) == (0, 0))

    run(story)


# Nothing secret is said.


@pytest.mark.parametrize(
    "answer", [b"", b"H", b"junk " + KEY + b"\r\n\r\n", OK[:-1], b"HTTP/1.1 200 OK\r\n" + KEY]
)
def test_no_error_shows_a_header_or_what_was_received(run: Run, answer: bytes) -> None:
    async def story() -> None:
        async with upstream(answering_then_closing(answer)) as up, client() as pool:
            with pytest.raises(SendError) as caught:
                await fetch(pool, up.origin)
            shown = f"{caught.value!r} {caught.value.sentence} {pool!r}"
            assert KEY.decode() not in shown
            assert caught.value.sentence.endswith(".")

    run(story)


# Addresses.


@pytest.mark.parametrize(
    ("url", "origin", "prefix", "host_header"),
    [
        ("https://api.x.com/v1", Origin(host="api.x.com", port=443, tls=True), "/v1", "api.x.com"),
        ("https://API.x.com", Origin(host="api.x.com", port=443, tls=True), "", "api.x.com"),
        ("HTTP://x:8080/a/b/", Origin(host="x", port=8080, tls=False), "/a/b", "x:8080"),
        ("http://[::1]:80/", Origin(host="::1", port=80, tls=False), "", "[::1]"),
        ("https://x:80", Origin(host="x", port=80, tls=True), "", "x:80"),
        ("unix:/a.sock", Origin(host="localhost", port=80, tls=False, unix="/a.sock"), "", "localhost"),
        ("unix:///a.sock", Origin(host="localhost", port=80, tls=False, unix="/a.sock"), "", "localhost"),
        (
            "unix:/a:b.sock:/v1/",
            Origin(host="localhost", port=80, tls=False, unix="/a:b.sock"),
            "/v1",
            "localhost",
        ),
    ],
)
def test_a_base_url_is_split_into_where_and_prefix(
    url: str, origin: Origin, prefix: str, host_header: str
) -> None:
    assert parse_origin(url) == (origin, prefix)
    assert origin.authority == host_header


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.x.com",
        "ftp://x",
        "https:x",
        "https://",
        "https://secret:word@x",
        "https://secret@x/",
        "https://x/?secret=1",
        "https://x/#secret",
        "https://x:secret/",
        "https://x:99999/",
        "https://x:0/",
        "https://x y/",
        "https://x\r\n/",
        "https://exämple/",
        "https://-x/",
        "https://[::1/",
        "unix:secret.sock",
        "unix:",
        "unix:/",
    ],
)
def test_any_other_base_url_is_refused_with_a_sentence_that_does_not_repeat_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"^[A-Z].*\.$") as caught:
        parse_origin(url)
    assert "secret" not in str(caught.value)


@pytest.fixture(autouse=True)
def _no_quiet_failures(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An exception that only the event loop's log would tell of fails the test."""
    yield
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio" and r.levelname == "ERROR"] == []
