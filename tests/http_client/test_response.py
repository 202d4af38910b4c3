"""Reading and closing a response."""

import asyncio
import gzip

import pytest

from modelplex.http_client import ConnectionCut, ResponseTooLarge

from .upstream import (
    OK,
    Run,
    client,
    counts,
    fetch,
    only_connection,
    read_request,
    respond_then_close,
    respond_with,
    send,
    until,
    upstream,
)


def test_data_before_a_cut_is_delivered_first_and_the_cut_is_raised_again(run: Run) -> None:
    async def scenario() -> None:
        async with upstream(respond_then_close(OK[:-1])) as up, client() as pool:
            reply = await send(pool, up.origin)
            await until(lambda: counts(pool) == (0, 0))
            assert await reply.chunk() == b"hell"
            for _ in range(2):
                with pytest.raises(ConnectionCut) as caught:
                    await reply.chunk()
                assert caught.value.started

    run(scenario)


def test_a_compressed_body_stays_compressed(run: Run) -> None:
    packed = gzip.compress(b"hello" * 100)
    response = (
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed
    )

    async def scenario() -> None:
        async with upstream(respond_with(response)) as up, client() as pool:
            assert await fetch(pool, up.origin) == packed

    run(scenario)


def test_a_body_above_the_readers_limit_closes_the_connection(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1000)
        await reader.readexactly(1)

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await send(pool, up.origin)
            with pytest.raises(ResponseTooLarge) as caught:
                await reply.body(limit=999)
            assert caught.value.limit == 999
            await until(lambda: up.hung_up == 1)

    run(scenario)


@pytest.mark.parametrize("received", [b"", OK[:-5], OK[:-2]])
def test_a_cancelled_wait_closes_the_connection(run: Run, received: bytes) -> None:
    requested = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(received)
        requested.set()
        await reader.readexactly(1)

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            task = asyncio.create_task(fetch(pool, up.origin))
            await requested.wait()
            connection = only_connection(pool)
            await until(lambda: connection.has_head == bool(received) and connection.waiter is not None)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: up.hung_up == 1 and counts(pool) == (0, 0))

    run(scenario)


def test_close_aborts_an_incomplete_response_and_keeps_the_connection_of_a_complete_one(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK)
        await read_request(reader)
        writer.write(OK[:-2])
        await reader.readexactly(1)

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            whole = await send(pool, up.origin)
            await until(lambda: only_connection(pool).complete)
            whole.close()
            assert counts(pool) == (1, 1)
            part = await send(pool, up.origin)
            assert await part.chunk() == b"hel"
            part.close()
            part.close()
            whole.close()
            await until(lambda: up.hung_up == 1 and counts(pool) == (0, 0))
            for reply in (whole, part):
                with pytest.raises(ConnectionCut):  # never b"", which would be a clean end
                    await reply.chunk()

    run(scenario)


def test_a_header_is_found_by_its_lower_case_name_and_the_first_value_counts(run: Run) -> None:
    response = b"HTTP/1.1 200 OK\r\nX-One: 1\r\nx-one: 2\r\ncontent-length: 0\r\n\r\n"

    async def scenario() -> None:
        async with upstream(respond_with(response)) as up, client() as pool:
            reply = await send(pool, up.origin)
            assert (reply.header(b"x-one"), reply.header(b"x-two")) == (b"1", None)
            assert await reply.body(limit=0) == b""

    run(scenario)


def test_a_nudge_wakes_the_reader_and_does_not_extend_its_timeout(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(OK[:-2])
        await reader.readexactly(1)

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await send(pool, up.origin)
            connection = only_connection(pool)
            assert await reply.chunk() == b"hel"
            reply.nudge()  # without a waiter: no effect
            waiting = asyncio.create_task(reply.chunk())
            await until(lambda: connection.waiter is not None)
            deadline = connection.deadline.at
            reply.nudge()
            assert await waiting is None
            waiting = asyncio.create_task(reply.chunk())
            await until(lambda: connection.waiter is not None)
            assert connection.deadline.at == deadline
            reply.close()
            with pytest.raises(ConnectionCut):
                await waiting

    run(scenario)


@pytest.mark.parametrize("refused", [0, 2])
def test_delivered_bytes_come_within_the_callback_until_they_are_refused(run: Run, refused: int) -> None:
    going = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in (b"a", b"b", b"c"):
            await going.wait()
            going.clear()
            writer.write(b"1\r\n%b\r\n" % piece)
        await going.wait()
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async def scenario() -> None:
        taken: list[bytes] = []

        def take(data: bytes) -> bool:
            taken.append(data)
            going.set()
            return len(taken) != refused

        async with upstream(script) as up, client() as pool:
            reply = await send(pool, up.origin)
            going.set()
            assert not await reply.deliver(take)
            if refused:
                assert taken == [b"a", b"b"]
                assert await reply.chunk() == b"c"
                going.set()
            else:
                assert taken == [b"a", b"b", b"c"]
            assert await reply.chunk() == b""
            assert not await reply.deliver(take)
            assert counts(pool) == (1, 1)

    run(scenario)


def test_a_nudge_ends_the_delivery(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        await reader.read()

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await send(pool, up.origin)
            asyncio.get_running_loop().call_later(0.01, reply.nudge)
            assert await reply.deliver(lambda _: True)
            reply.close()

    run(scenario)
