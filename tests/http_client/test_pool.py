"""Which connection carries a request, and how connections are made and kept."""

import asyncio
import socket
from pathlib import Path

import pytest
import trustme

from modelplex.http_client import (
    ConnectFailed,
    ConnectionCut,
    HttpClient,
    Origin,
    TimedOut,
    Timeouts,
    parse_origin,
)

from .upstream import (
    CHUNKED,
    OK,
    SOON,
    Run,
    client,
    counts,
    fetch,
    only_connection,
    read_request,
    respond_then_close,
    respond_with,
    send,
    server_context,
    tls_origin,
    until,
    upstream,
)


@pytest.mark.parametrize("response", [OK, CHUNKED])
def test_a_connection_is_reused_after_its_response_was_read(run: Run, response: bytes) -> None:
    async def scenario() -> None:
        async with upstream(respond_with(response)) as up, client() as pool:
            for _ in range(5):
                assert await fetch(pool, up.origin) == b"hello"
            assert up.connections == 1
            assert repr(pool) == f"<HttpClient 127.0.0.1:{up.origin.port}: open=1 idle=1>"

    run(scenario)


def test_concurrent_requests_have_own_connections_and_the_last_one_freed_is_used_next(run: Run) -> None:
    async def scenario() -> None:
        async with upstream(respond_with(OK)) as up, client(max_idle_per_origin=2) as pool:
            replies = await asyncio.gather(*(send(pool, up.origin) for _ in range(3)))
            assert up.connections == 3
            assert counts(pool) == (3, 0)
            last = replies[2]._connection
            for reply in replies:
                await reply.body(limit=100)
            await until(lambda: counts(pool) == (2, 2))
            again = await send(pool, up.origin)
            assert again._connection is last
            assert up.connections == 3

    run(scenario)


def test_an_idle_connection_is_closed_after_idle_seconds(run: Run) -> None:
    async def scenario() -> None:
        async with upstream(respond_with(OK)) as up, client(idle_seconds=SOON) as pool:
            await fetch(pool, up.origin)
            await until(lambda: counts(pool) == (0, 0))
            await until(lambda: up.hung_up == 1)
            assert repr(pool) == "<HttpClient empty>"

    run(scenario)


@pytest.mark.parametrize(
    "response",
    [
        OK.replace(b"Content-Type: text/plain", b"Connection: close"),
        OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
        OK + b"HTTP/1.1 200 OK\r\n",
        OK + b"junk",
    ],
)
def test_a_connection_that_must_close_or_sent_extra_bytes_is_not_reused(run: Run, response: bytes) -> None:
    async def scenario() -> None:
        async with upstream(respond_with(response)) as up, client() as pool:
            for number in (1, 2):
                assert await fetch(pool, up.origin) == b"hello"
                assert up.connections == number

    run(scenario)


def test_an_idle_connection_that_receives_bytes_is_closed(run: Run) -> None:
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK)
        await proceed.wait()
        writer.write(OK)
        await reader.readexactly(1)

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            await fetch(pool, up.origin)
            assert counts(pool) == (1, 1)
            proceed.set()
            await until(lambda: counts(pool) == (0, 0))

    run(scenario)


def test_a_request_on_a_kept_connection_that_was_closed_is_sent_again_on_a_new_one(run: Run) -> None:
    bodies: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK)
        bodies.append((await read_request(reader))[1] if number == 1 else b"")

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            assert await fetch(pool, up.origin) == b"hello"
            reply = await send(pool, up.origin, body=b"again" * 10_000)
            assert await reply.body(limit=100) == b"hello"
            assert up.connections == 2
            assert bodies[0] == b"again" * 10_000

    run(scenario)


def test_a_second_loss_is_an_error_and_a_new_connection_is_not_replaced(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        if number == 1:
            writer.write(OK)
            await read_request(reader)

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            await fetch(pool, up.origin)
            with pytest.raises(ConnectionCut) as caught:
                await send(pool, up.origin)
            assert (caught.value.started, up.connections) == (False, 2)
            with pytest.raises(ConnectionCut):
                await send(pool, up.origin)
            assert up.connections == 3

    run(scenario)


def test_a_kept_connection_lost_after_a_byte_is_not_replaced(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK)
        await respond_then_close(b"H")(reader, writer, number)

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            await fetch(pool, up.origin)
            with pytest.raises(ConnectionCut) as caught:
                await send(pool, up.origin)
            assert (caught.value.started, up.connections) == (True, 1)

    run(scenario)


def test_a_connection_closed_by_the_other_side_leaves_the_pool(run: Run) -> None:
    async def scenario() -> None:
        async with upstream(respond_then_close(OK)) as up, client() as pool:
            await fetch(pool, up.origin)
            await until(lambda: counts(pool) == (0, 0))

    run(scenario)


def test_of_two_kept_connections_only_the_closed_one_leaves_the_pool(run: Run) -> None:
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK)
        await (proceed.wait() if number == 1 else reader.read())

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            replies = await asyncio.gather(send(pool, up.origin), send(pool, up.origin))
            for reply in replies:
                await reply.body(limit=100)
            await until(lambda: counts(pool) == (2, 2))
            proceed.set()
            await until(lambda: counts(pool)[0] == 1)
            assert counts(pool) == (1, 1)

    run(scenario)


def test_a_handshake_that_stalls_times_out_in_connect(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.read()

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            origin = Origin(host="127.0.0.1", port=up.origin.port, tls=True, verify=False)
            with pytest.raises(TimedOut) as caught:
                await send(pool, origin, timeouts=Timeouts(connect=SOON))
            assert caught.value.phase == "connect"
            assert counts(pool) == (0, 0)

    run(scenario)


def test_closing_the_client_ends_every_exchange(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK[:-2])
        await reader.readexactly(1)

    async def scenario() -> None:
        async with upstream(script) as up:
            pool = HttpClient()
            reply = await send(pool, up.origin)
            assert await reply.chunk() == b"hel"
            waiting = asyncio.create_task(reply.chunk())
            await until(lambda: only_connection(pool).waiter is not None)
            await pool.aclose()
            with pytest.raises(ConnectionCut):
                await waiting
            with pytest.raises(ConnectFailed):
                await send(pool, up.origin)
            assert repr(pool) == "<HttpClient closed>"
            await pool.aclose()

    run(scenario)


def test_a_unix_socket_is_connected_by_its_path(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "up.sock"
        async with upstream(respond_with(OK), unix=path) as up, client() as pool:
            origin, prefix = parse_origin(f"unix:{path}:/v1")
            assert (origin, prefix) == (up.origin, "/v1")
            assert await fetch(pool, origin) == b"hello"
            assert repr(pool) == f"<HttpClient the socket {path}: open=1 idle=1>"
            with pytest.raises(ConnectFailed, match=r"missing\.sock"):
                await send(pool, parse_origin(f"unix:{tmp_path}/missing.sock")[0])

    run(scenario)


def test_a_unix_socket_may_be_connected_by_somebody_else(run: Run, tmp_path: Path) -> None:
    connected: list[str] = []

    def connect(path: str) -> socket.socket:
        connected.append(path)
        made = socket.socket(socket.AF_UNIX)
        made.connect(path)
        made.setblocking(False)
        return made

    async def scenario() -> None:
        async with upstream(respond_with(OK), unix=tmp_path / "up.sock") as up, client() as pool:
            pool.connect_unix = connect
            assert await fetch(pool, up.origin) == b"hello"

    run(scenario)
    assert connected == [str(tmp_path / "up.sock")]


def test_tls_with_a_private_authority_is_kept_alive(run: Run, authority: tuple[trustme.CA, str]) -> None:
    ca, path = authority

    async def scenario() -> None:
        async with upstream(respond_with(OK), tls=server_context(ca, "127.0.0.1")) as up, client() as pool:
            for origin in (tls_origin(up.origin, path), tls_origin(up.origin, None, verify=False)):
                big = await send(pool, origin, body=b"x" * 3_000_000)
                assert await big.body(limit=100) == b"hello"
                assert await fetch(pool, origin) == b"hello"
            assert up.connections == 2

    run(scenario)
