"""One connection: framing, timeouts, backpressure, and every way in which it can end."""

import asyncio
import socket
from typing import Any

import pytest
import trustme

from modelplex.http_client import BadResponse, ConnectionCut, HttpClient, Origin, TimedOut, Timeouts
from modelplex.http_client.connection import READ_SIZE, UpstreamConnection
from modelplex.http_client.incoming_response import HEAD_LIMIT
from modelplex.http_client.request import EncodedRequest

from .upstream import (
    BOUND,
    CHUNKED,
    OK,
    PATIENT,
    SHORT,
    SOON,
    TO_THE_END,
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


def test_small_writes_are_not_delayed(run: Run) -> None:
    async def scenario() -> None:
        async with upstream(respond_with(OK)) as up, client() as pool:
            await fetch(pool, up.origin)
            sock = only_connection(pool).transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(scenario)


@pytest.mark.parametrize("response", [OK, CHUNKED, TO_THE_END], ids=["length", "chunked", "eof"])
def test_every_framing_yields_the_same_body(run: Run, response: bytes) -> None:
    async def scenario() -> None:
        async with upstream(respond_then_close(response)) as up, client() as pool:
            reply = await send(pool, up.origin)
            assert await reply.body(limit=100) == b"hello"
            assert await reply.chunk() == b""

    run(scenario)


@pytest.mark.parametrize("response", [OK, CHUNKED, TO_THE_END], ids=["length", "chunked", "eof"])
def test_a_response_received_byte_by_byte_is_the_same(
    run: Run, response: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = UpstreamConnection.parse

    def by_byte(self: Any, data: memoryview) -> None:
        for at in range(len(data)):
            whole(self, data[at : at + 1])

    monkeypatch.setattr(UpstreamConnection, "parse", by_byte)

    async def scenario() -> None:
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        async with upstream(respond_then_close(interim + response)) as up, client() as pool:
            reply = await send(pool, up.origin)
            assert (reply.status, await reply.body(limit=100)) == (200, b"hello")

    run(scenario)


@pytest.mark.parametrize("response", [OK, CHUNKED, TO_THE_END], ids=["length", "chunked", "eof"])
def test_a_connection_closed_at_any_byte_is_a_cut_and_not_a_clean_end(run: Run, response: bytes) -> None:
    head = response.index(b"\r\n\r\n") + 4

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await respond_then_close(response[: number - 1])(reader, writer, number)

    async def read_until_it_ends(pool: HttpClient, origin: Origin) -> tuple[bytes, ConnectionCut | None]:
        got = b""
        try:
            reply = await send(pool, origin)
            while data := await reply.chunk():
                got += data
        except ConnectionCut as cut:
            return got, cut
        return got, None

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            for offset in range(len(response)):
                got, cut = await read_until_it_ends(pool, up.origin)
                if response is TO_THE_END and offset >= head:
                    assert (got, cut) == (response[head:offset], None)
                else:
                    assert cut is not None
                    assert cut.started == (offset > 0)
                    assert b"hello".startswith(got)
                assert up.connections == offset + 1
                await until(lambda: counts(pool) == (0, 0))

    run(scenario)


def test_a_reset_is_a_cut_even_if_the_body_ends_with_the_connection(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(TO_THE_END)
        await reader.readexactly(1)

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await send(pool, up.origin)
            assert await reply.chunk() == b"hello"
            only_connection(pool).connection_lost(ConnectionResetError())
            with pytest.raises(ConnectionCut):
                await reply.chunk()

    run(scenario)


def test_interim_responses_are_skipped(run: Run) -> None:
    response = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK

    async def scenario() -> None:
        async with upstream(respond_with(response)) as up, client() as pool:
            for _ in range(2):
                reply = await send(pool, up.origin)
                assert (reply.status, reply.header(b"link")) == (200, None)
                assert await reply.body(limit=100) == b"hello"
            assert up.connections == 1

    run(scenario)


def test_a_redirect_is_delivered_and_not_followed(run: Run) -> None:
    response = b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"

    async def scenario() -> None:
        async with upstream(respond_with(response)) as up, client() as pool:
            reply = await send(pool, up.origin)
            assert (reply.status, reply.header(b"location")) == (307, b"http://127.0.0.1:1/")
            assert await reply.chunk() == b""
            assert up.connections == 1

    run(scenario)


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        (b"DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
    ],
)
def test_a_response_without_a_body_ends_at_its_head_and_the_connection_is_kept(
    run: Run, method: bytes, response: bytes
) -> None:
    async def scenario() -> None:
        async with upstream(respond_with(response)) as up, client() as pool:
            for _ in range(3):
                assert await fetch(pool, up.origin, method=method) == b""
            assert up.connections == 1

    run(scenario)


@pytest.mark.parametrize(
    "response",
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
def test_invalid_http_or_an_oversized_head_is_a_bad_response(run: Run, response: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(response)
        await reader.readexactly(1)

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            with pytest.raises(BadResponse) as caught:
                await send(pool, up.origin)
            assert "127.0.0.1" in caught.value.sentence
            await until(lambda: counts(pool) == (0, 0) and up.hung_up == 1)

    run(scenario)


@pytest.mark.parametrize(
    "tail", [b"zz\r\n", b"3\r\nabcdef", b"3;" + b"a" * 70_000, b"0\r\nx: " + b"a" * 70_000]
)
def test_broken_or_endless_chunk_framing_is_a_bad_response_after_the_data_before_it(
    run: Run, tail: bytes
) -> None:
    response = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(response)
        await proceed.wait()
        writer.write(tail)
        await reader.readexactly(1)

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await send(pool, up.origin)
            assert await reply.chunk() == b"hello"
            proceed.set()
            with pytest.raises(BadResponse):
                await reply.body(limit=1000)
            await until(lambda: up.hung_up == 1)

    run(scenario)


def test_a_connection_lost_between_connecting_and_sending_is_a_cut(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        pass

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            connection = await pool._connect(up.origin, BOUND)
            await until(lambda: connection.gone)
            with pytest.raises(ConnectionCut) as caught:
                await connection.exchange(EncodedRequest(b"GET / HTTP/1.1\r\n\r\n", b"", False, PATIENT))
            assert not caught.value.started

    run(scenario)


@pytest.mark.parametrize(
    ("received", "phase"),
    [
        (b"", "first_byte"),
        (OK[:20], "first_byte"),
        (OK[:-5], "idle"),
        (OK[:-2], "idle"),
        (CHUNKED[:60], "idle"),
    ],
)
def test_a_stall_times_out_in_its_phase_and_closes_the_connection(
    run: Run, received: bytes, phase: str
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(received)
        await reader.readexactly(1)

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            with pytest.raises(TimedOut) as caught:
                await fetch(pool, up.origin, timeouts=SHORT)
            assert caught.value.phase == phase
            assert f"{SOON:g} seconds" in caught.value.sentence
            await until(lambda: counts(pool) == (0, 0) and up.hung_up == 1)

    run(scenario)


def test_a_server_that_stops_reading_the_body_times_out_in_write(run: Run) -> None:
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await proceed.wait()

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            limits = Timeouts(first_byte=60.0, idle=SOON)
            with pytest.raises(TimedOut) as caught:
                await send(pool, up.origin, body=b"x" * 64_000_000, timeouts=limits)
            assert caught.value.phase == "write"
            proceed.set()

    run(scenario)


def test_a_timer_set_for_a_long_wait_expires_for_a_shorter_one(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK)
        await reader.readexactly(1_000_000)

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            await fetch(pool, up.origin, timeouts=PATIENT)
            with pytest.raises(TimedOut) as caught:
                await fetch(pool, up.origin, timeouts=SHORT)
            assert (caught.value.phase, up.connections) == ("first_byte", 1)

    run(scenario)


def test_a_slow_reader_is_no_timeout(run: Run) -> None:
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK[:-2])
        await proceed.wait()
        writer.write(OK[-2:])
        await reader.read()

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await send(pool, up.origin, timeouts=Timeouts(first_byte=SOON, idle=SOON))
            connection = only_connection(pool)
            await until(
                lambda: connection.deadline.timer is None
            )  # the deadline of the head has expired without a waiter
            assert await reply.chunk() == b"hel"
            proceed.set()
            assert await reply.chunk() == b"lo"

    run(scenario)


def test_an_unread_body_stops_the_server_and_memory_stays_bounded(run: Run) -> None:
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

    async def scenario() -> None:
        async with upstream(script) as up, client(max_buffer=65536) as pool:
            reply = await send(pool, up.origin)
            connection = only_connection(pool)
            await until(lambda: connection.read_paused)
            before = -1
            while sent != before:  # until the kernel's buffers are full too
                before = sent
                await asyncio.sleep(0.1)
            assert sent < total // 2
            assert connection.buffered <= 65536 + READ_SIZE
            size = 0
            while data := await reply.chunk():
                size += len(data)
            assert size == total
            assert counts(pool) == (1, 1)
            assert not connection.read_paused

    run(scenario)


def test_a_response_sent_before_the_body_was_read_is_delivered(run: Run) -> None:
    response = b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nhello"
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await proceed.wait()

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await send(pool, up.origin, body=b"x" * 64_000_000)
            connection = only_connection(pool)
            assert connection.unsent  # most of the body was never given to the transport
            assert (reply.status, await reply.body(limit=100)) == (413, b"hello")
            await until(lambda: counts(pool) == (0, 0))
            proceed.set()

    run(scenario)


def test_a_half_close_during_an_upload_closes_the_connection(run: Run) -> None:
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK[:-2])
        writer.write_eof()
        await proceed.wait()

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await send(pool, up.origin, body=b"x" * 64_000_000)
            with pytest.raises(ConnectionCut):
                await reply.body(limit=100)
            await until(lambda: counts(pool) == (0, 0))
            proceed.set()

    run(scenario)


@pytest.mark.parametrize("response", [OK[:-2], CHUNKED[:-5], OK[:10]])
def test_a_cut_under_tls_is_a_cut(run: Run, authority: tuple[trustme.CA, str], response: bytes) -> None:
    ca, path = authority

    async def scenario() -> None:
        tls = server_context(ca, "127.0.0.1")
        async with upstream(respond_then_close(response), tls=tls) as up, client() as pool:
            with pytest.raises(ConnectionCut):
                await fetch(pool, tls_origin(up.origin, path))

    run(scenario)


def test_an_unread_tls_body_stops_the_server_and_close_hangs_up(
    run: Run, authority: tuple[trustme.CA, str]
) -> None:
    ca, path = authority

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            # uvloop's TLS drops writes to a lost peer before it reports that, so drain() never
            # suspends.
            await asyncio.sleep(0)

    async def scenario() -> None:
        async with upstream(script, tls=server_context(ca, "127.0.0.1")) as up, client() as pool:
            reply = await send(pool, tls_origin(up.origin, path))
            connection = only_connection(pool)
            await until(lambda: connection.read_paused)
            assert connection.buffered <= 65536 + READ_SIZE
            for _ in range(20):
                assert await reply.chunk()
            reply.close()
            await until(lambda: up.hung_up == 1 and counts(pool) == (0, 0))

    run(scenario)
