"""Connections over TCP and over a socket file, on uvloop and on asyncio's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import Any

import pytest

from modelplex.core.errors import ClientClosed, RequestTimeout, TooLarge
from modelplex.server import connection_limits
from modelplex.server.address import Address
from modelplex.server.connection_refusals import MAX_PIPELINED
from modelplex.server.http_exchange import HttpExchange
from tests.server.harness import (
    BOUND,
    CHUNKED,
    GET,
    RawClient,
    Run,
    Served,
    disconnect,
    echo,
    serving,
    unlimited,
    until,
)

pytestmark = pytest.mark.usefixtures("short_waits")


# --- requests


def test_requests_on_one_connection_are_served_in_turn(run: Run, address: Address) -> None:
    async def main() -> None:
        async with serving(echo, address) as served:
            client = await served.client()
            for path in (b"/a", b"/b%20c"):
                client.send(b"POST " + path + b"?q=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
                status, headers, body = await client.response()
                assert status == 200
                assert not {"server", "date", "connection"} & headers.keys()
                assert body == path.replace(b"%20", b" ") + b" hi"

    run(main())


def test_the_state_has_the_listener_of_the_request(run: Run, address: Address) -> None:
    states: list[dict[str, Any]] = []

    async def app(exchange: HttpExchange) -> None:
        states.append(exchange.connection.state)
        exchange.respond(200, [], b"")

    async def main() -> None:
        async with serving(app, address) as served:
            client = await served.client()
            client.send(GET)
            await client.response()
            name = served.listening.addresses[0].replace("http://", "tcp:")
            assert states[0]["listener"] == name
            assert states[0]["kind"] == name.split(":")[0]
            assert not states[0]["stopping"].is_set()

    run(main())


def test_pipelined_requests_get_responses_in_order(run: Run, address: Address) -> None:
    async def main() -> None:
        async with serving(echo, address) as served:
            client = await served.client()
            client.send(
                b"".join(b"POST /%d HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nz" % n for n in range(5))
            )
            assert [(await client.response())[2] for _ in range(5)] == [b"/%d z" % n for n in range(5)]

    run(main())


def test_too_many_pipelined_requests_are_refused_after_those_that_fit(run: Run, address: Address) -> None:
    async def main() -> None:
        async with serving(echo, address) as served:
            client = await served.client()
            client.send(GET * 100)
            for _ in range(MAX_PIPELINED + 1):
                assert (await client.response())[0] == 200
            assert await client.refusal() == (400, "too_many_pipelined")

    run(main())


def test_head_gets_the_headers_and_no_body(run: Run, address: Address) -> None:
    async def main() -> None:
        async with serving(echo, address) as served:
            client = await served.client()
            client.send(GET.replace(b"GET", b"HEAD"))
            assert (await client.head())[1]["content-length"] == "2"
            client.send(GET)
            assert (await client.response())[2] == b"/ "

    run(main())


def test_a_chunked_body_arrives_whole_and_its_trailers_do_not_reach_the_app(
    run: Run, address: Address
) -> None:
    seen: list[bytes] = []

    async def app(exchange: HttpExchange) -> None:
        body = await exchange.body(unlimited)
        seen.extend(name for name, _ in exchange.head.headers)
        exchange.respond(200, [], body)

    async def main() -> None:
        async with serving(app, address) as served:
            client = await served.client()
            client.send(CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-api-key: forged\r\n\r\n")
            assert (await client.response())[2] == b"abcde"
            assert seen == [b"host", b"transfer-encoding"]

    run(main())


def test_a_body_larger_than_the_read_buffer_arrives_whole(run: Run, address: Address) -> None:
    body = os.urandom(3_000_000)

    async def main() -> None:
        async with serving(echo, address) as served:
            client = await served.client()
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            assert (await client.response())[2] == b"/ " + body

    run(main())


def test_100_continue_is_sent_when_the_app_asks_for_the_body(run: Run, address: Address) -> None:
    async def main() -> None:
        async with serving(echo, address) as served:
            client = await served.client()
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
            assert (await client.head())[0] == 100
            client.send(b"ok")
            assert (await client.response())[2] == b"/ ok"

    run(main())


def test_a_request_with_upgrade_is_served_as_http_and_closes(run: Run, address: Address) -> None:
    async def main() -> None:
        async with serving(echo, address) as served:
            client = await served.client()
            client.send(
                b"POST / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nhi"
            )
            status, headers, body = await client.response()
            assert (status, headers["connection"], body) == (200, "close", b"/ hi")
            await client.ended()

    run(main())


# --- disconnects, and ends of responses


@pytest.mark.parametrize("answering", [False, True])
def test_an_app_that_waits_gets_a_disconnect_at_once(run: Run, address: Address, *, answering: bool) -> None:
    async def main() -> None:
        working, gone = asyncio.Event(), asyncio.Event()

        async def app(exchange: HttpExchange) -> None:
            await exchange.body(unlimited)
            if answering:
                exchange.start([])
                exchange.write(b"first")
            working.set()
            await disconnect(exchange)
            gone.set()

        async with serving(app, address) as served:
            client = await served.client()
            # Large enough that reading is paused while it arrives.
            body = b"x" * 300_000
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            await until(working)
            client.close()
            await until(gone)

    run(main())


def test_after_a_complete_body_reading_goes_on_while_the_app_works(run: Run, address: Address) -> None:
    async def main() -> None:
        waiting, gone = asyncio.Event(), asyncio.Event()

        async def app(exchange: HttpExchange) -> None:
            waiting.set()
            await exchange.body(unlimited)
            await until(gone)

        async with serving(app, address) as served:
            client = await served.client()
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
            await until(waiting)
            (each,) = served.listening.traffic.open
            # In one piece, larger than what is kept before the app asks for the body.
            each.data_received(b"x" * 100_000)
            assert not each.read_paused
            gone.set()

    run(main())


def test_a_disconnect_reaches_the_running_request_and_drops_the_queued_one(
    run: Run, address: Address
) -> None:
    async def main() -> None:
        paths: list[str] = []
        working, gone = asyncio.Event(), asyncio.Event()

        async def app(exchange: HttpExchange) -> None:
            paths.append(exchange.head.path)
            await exchange.body(unlimited)
            working.set()
            await disconnect(exchange)
            gone.set()

        async with serving(app, address) as served:
            client = await served.client()
            client.send(GET + GET.replace(b"/ ", b"/second "))
            await until(working)
            client.close()
            await until(gone)
        assert paths == ["/"]

    run(main())


def test_a_slow_client_pauses_the_app_and_gets_everything(run: Run, address: Address) -> None:
    chunk, count = b"x" * 65536, 1000

    async def main() -> None:
        blocked = asyncio.Event()
        sent: list[int] = []

        async def app(exchange: HttpExchange) -> None:
            exchange.start([])
            for n in range(count):
                exchange.write(chunk, last=n == count - 1)
                draining = asyncio.ensure_future(exchange.drain())
                done, _ = await asyncio.wait({draining}, timeout=0.2)
                if not done and not blocked.is_set():
                    sent.append(n)
                    blocked.set()
                await draining

        async with serving(app, address) as served:
            client = await served.client()
            client.send(GET)
            await until(blocked)
            # The kernel's buffers and one of ours are filled, not the whole response.
            assert sent[0] < count // 2
            (each,) = served.listening.traffic.open
            assert each.transport.get_write_buffer_size() < 4 * len(chunk)
            assert (await client.head())[0] == 200
            assert await client.chunked() == chunk * count

    run(main())


ENDLESS = b"x" * 262_144


async def endless(exchange: HttpExchange) -> None:
    """Writes until the client disconnects."""
    exchange.start([])
    while not exchange.disconnected:
        await exchange.drain()
        exchange.write(ENDLESS)
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "limits",
    [{"unread_connections": 2}, {"unread_bytes": 1}, {"unread_timeout": 0.4}],
    ids=["connections", "bytes", "timeout"],
)
def test_the_oldest_unread_responses_of_a_caller_are_aborted(
    run: Run, address: Address, limits: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        usual = {"unread_grace": 0.2, "unread_timeout": 1000.0}
        async with serving(endless, address, **{**usual, **limits}) as served:
            reading = await served.client()
            reading.send(GET)
            await reading.head()
            idle = [await served.client() for _ in range(4)]
            for client in idle:
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                client.send(GET)
            left = 2 if "unread_connections" in limits else 0
            async with asyncio.timeout(BOUND):
                while len(served.listening.traffic.open) > left + 1:
                    # A client that reads slowly keeps its response.
                    assert await reading.reader.read(100_000)
            assert await reading.reader.read(100)

    with caplog.at_level(logging.WARNING, logger="modelplex.server"):
        run(main())
    assert all("unread" in record.message or "read nothing" in record.message for record in caplog.records)
    assert caplog.records


def test_an_app_that_fails_before_its_response_gives_a_500(
    run: Run, address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(exchange: HttpExchange) -> None:
        raise LookupError("a secret")

    async def main() -> None:
        async with serving(app, address) as served:
            client = await served.client()
            client.send(GET)
            assert await client.refusal() == (500, "gateway_error")

    with caplog.at_level(logging.ERROR, logger="modelplex.server"):
        run(main())
    assert [record.name for record in caplog.records] == ["modelplex.server"]


def test_an_app_that_returns_without_a_response_gives_a_500(run: Run, address: Address) -> None:
    async def app(exchange: HttpExchange) -> None:
        return

    async def main() -> None:
        async with serving(app, address) as served:
            client = await served.client()
            client.send(GET)
            assert await client.refusal() == (500, "gateway_error")

    run(main())


@pytest.mark.parametrize("raises", [False, True])
def test_an_app_that_stops_within_its_response_gives_an_incomplete_body(
    run: Run, address: Address, *, raises: bool
) -> None:
    async def app(exchange: HttpExchange) -> None:
        exchange.start([])
        exchange.write(b"half")
        if raises:
            raise LookupError

    async def main() -> None:
        async with serving(app, address) as served:
            client = await served.client()
            client.send(GET)
            assert (await client.head())[1]["transfer-encoding"] == "chunked"
            assert await client.rest() == b"4\r\nhalf\r\n"

    run(main())


def test_a_response_sent_before_the_body_is_read_can_be_read(run: Run, address: Address) -> None:
    async def app(exchange: HttpExchange) -> None:
        exchange.keep_alive = False
        exchange.respond(413, [], b"too large")

    async def main() -> None:
        async with serving(app, address) as served:
            client = await served.client()
            size = 4_000_000
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
            # A client that sends everything before it reads.
            async with asyncio.timeout(BOUND):
                for _ in range(size // 100_000):
                    client.send(b"x" * 100_000)
                    await client.writer.drain()
            assert (await client.response())[::2] == (413, b"too large")
            await client.ended()

    run(main())


def test_a_connection_is_used_again_after_an_early_response_and_a_small_rest_of_the_body(
    run: Run, address: Address
) -> None:
    async def app(exchange: HttpExchange) -> None:
        exchange.respond(413, [], exchange.head.path.encode())

    async def main() -> None:
        async with serving(app, address) as served:
            client = await served.client()
            client.send(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3000\r\n\r\n")
            assert (await client.response())[2] == b"/a"
            client.send(b"x" * 3000 + GET)
            assert (await client.response())[2] == b"/"

    run(main())


def test_the_rest_of_a_body_is_read_up_to_a_limit(
    run: Run, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limits, "LINGER_BYTES", 100_000)
    monkeypatch.setattr(connection_limits, "LINGER_SECONDS", 1000.0)

    async def app(exchange: HttpExchange) -> None:
        exchange.respond(413, [], b"no")

    async def main() -> None:
        async with serving(app, address) as served:
            client = await served.client()
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n")
            assert (await client.response())[0] == 413
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(BOUND):
                    while True:
                        client.send(b"x" * 50_000)
                        await client.writer.drain()
                        if not served.listening.traffic.open:
                            break
                        await asyncio.sleep(0)

    run(main())


# --- limits


@pytest.mark.parametrize("pieces", [1, 50])
def test_a_head_above_the_limit_is_a_431(run: Run, address: Address, pieces: int) -> None:
    async def main() -> None:
        async with serving(echo, address, max_header_size=4000) as served:
            client = await served.client()
            head = b"GET / HTTP/1.1\r\nhost: x\r\nx-long: " + b"y" * 5000 + b"\r\n\r\n"
            for start in range(0, len(head), len(head) // pieces):
                client.send(head[start : start + len(head) // pieces])
                await asyncio.sleep(0)
            assert await client.refusal() == (431, "request_headers_too_large")

    run(main())


def test_a_large_body_does_not_count_for_the_head(run: Run, address: Address) -> None:
    async def main() -> None:
        async with serving(echo, address, max_header_size=200) as served:
            client = await served.client()
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\n" + b"z" * 9000)
            assert len((await client.response())[2]) == 9002

    run(main())


def test_endless_trailers_are_refused(run: Run, address: Address) -> None:
    async def main() -> None:
        async with serving(echo, address, max_header_size=2000) as served:
            client = await served.client()
            client.send(CHUNKED + b"1\r\na\r\n0\r\n")
            client.send(b"x-more: " + b"y" * 400_000)
            assert await client.refusal() == (431, "request_headers_too_large")

    run(main())


def test_a_slow_head_is_a_408(run: Run, address: Address) -> None:
    async def main() -> None:
        async with serving(echo, address, header_timeout=0.1) as served:
            client = await served.client()
            client.send(b"GET / HTTP/1.1\r\nhost:")
            assert await client.refusal() == (408, "request_timeout")

    run(main())


def test_a_silent_connection_is_closed(run: Run, address: Address) -> None:
    async def main() -> None:
        async with serving(echo, address, header_timeout=0.1) as served:
            await (await served.client()).ended()

    run(main())


def test_an_idle_connection_is_closed_after_keep_alive(run: Run, address: Address) -> None:
    async def main() -> None:
        async with serving(echo, address, keep_alive=0.1) as served:
            client = await served.client()
            client.send(GET)
            assert (await client.response())[0] == 200
            await client.ended()

    run(main())


def test_the_deadlines_of_a_request_do_not_end_a_long_response(run: Run, address: Address) -> None:
    async def app(exchange: HttpExchange) -> None:
        await exchange.body(unlimited)
        await asyncio.wait({asyncio.ensure_future(disconnect(exchange))}, timeout=0.6)
        exchange.respond(200, [], b"late")

    async def main() -> None:
        async with serving(app, address, header_timeout=0.1, body_timeout=0.1, keep_alive=0.1) as served:
            client = await served.client()
            client.send(GET)
            assert (await client.response())[2] == b"late"

    run(main())


def test_a_body_that_stops_is_a_408_and_a_disconnect_for_the_app(run: Run, address: Address) -> None:
    async def main() -> None:
        disconnected = asyncio.Event()

        async def app(exchange: HttpExchange) -> None:
            try:
                await exchange.body(unlimited)
            except RequestTimeout:
                disconnected.set()

        async with serving(app, address, body_timeout=0.1) as served:
            client = await served.client()
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")
            assert await client.refusal() == (408, "request_timeout")
            await until(disconnected)

    run(main())


def test_a_body_that_the_app_does_not_read_is_not_late(run: Run, address: Address) -> None:
    async def app(exchange: HttpExchange) -> None:
        await asyncio.wait({asyncio.ensure_future(asyncio.Event().wait())}, timeout=0.6)
        await echo(exchange)

    async def main() -> None:
        async with serving(app, address, body_timeout=0.1) as served:
            client = await served.client()
            size = 8_000_000
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
            assert len((await client.response())[2]) == size + 2

    # The task that waits for ever is cancelled with the loop.
    run(main())


def test_a_connection_above_the_limit_is_refused_while_all_others_are_busy(
    run: Run, address: Address
) -> None:
    async def main() -> None:
        go = asyncio.Event()

        began = asyncio.Event()

        async def patient(exchange: HttpExchange) -> None:
            began.set()
            await go.wait()
            await echo(exchange)

        async with serving(patient, address, max_connections=1) as served:
            first = await served.client()
            first.send(GET)
            await until(began)
            second = await served.client()
            second.send(GET)
            assert await second.refusal() == (429, "too_many_connections")
            go.set()
            assert (await first.response())[0] == 200
            first.send(GET)
            assert (await first.response())[0] == 200

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
        async with serving(echo, address) as served:
            client = await served.client()
            client.send(request_bytes)
            assert await client.refusal() == (400, "invalid_http")

    run(main())


def test_the_refusal_of_a_pipelined_request_is_not_written_into_a_running_response(
    run: Run, address: Address
) -> None:
    async def main() -> None:
        # Both are in one piece, so the fault is known when the first request starts.
        begun, going = asyncio.Event(), asyncio.Event()

        async def app(exchange: HttpExchange) -> None:
            begun.set()
            await until(going)
            exchange.respond(200, [], b"whole")

        async with serving(app, address) as served:
            client = await served.client()
            client.send(GET + b"what is this\r\n\r\n")
            await until(begun)
            going.set()
            assert (await client.response())[2] == b"whole"
            assert await client.refusal() == (400, "invalid_http")

    run(main())


# --- bodies that are read into their block, refusals, and the order of requests


def post(size: int, path: bytes = b"/", more: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n" % (path, more, size)


LARGE = os.urandom(1_000_000)


@pytest.mark.parametrize("known", [False, True], ids=["new head", "known head"])
@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 131_072, 200_001, len(LARGE)])
@pytest.mark.parametrize("first", [0, 1, 65_000], ids="{} bytes with the head".format)
def test_a_large_body_is_intact_and_so_is_the_request_behind_it(
    run: Run, address: Address, known: bool, size: int, first: int
) -> None:
    async def main() -> None:
        async with serving(echo, address) as served:
            client = await served.client()
            if known:
                client.send(post(1) + b"x")
                assert (await client.response())[2] == b"/ x"
            client.send(post(size) + LARGE[:first])
            await client.writer.drain()
            client.send(LARGE[first:size] + post(2, b"/next") + b"ok" + GET)
            assert (await client.response())[2] == b"/ " + LARGE[:size]
            assert (await client.response())[2] == b"/next ok"
            assert (await client.response())[2] == b"/ "

    run(main())


def test_a_large_body_behind_a_running_request_is_intact(run: Run, address: Address) -> None:
    async def main() -> None:
        begun, going = asyncio.Event(), asyncio.Event()

        async def app(exchange: HttpExchange) -> None:
            if exchange.head.path == "/first":
                begun.set()
                await until(going)
            await echo(exchange)

        async with serving(app, address) as served:
            client = await served.client()
            client.send(post(1, b"/first") + b"1" + post(len(LARGE)) + LARGE + post(1, b"/last") + b"3")
            await until(begun)
            going.set()
            assert (await client.response())[2] == b"/first 1"
            assert (await client.response())[2] == b"/ " + LARGE
            assert (await client.response())[2] == b"/last 3"

    run(main())


async def started_body(served: Served) -> RawClient:
    """A client that has sent some of a large body, of which some was read into its block."""
    client = await served.client()
    client.send(post(len(LARGE)) + LARGE[:200_000])
    async with asyncio.timeout(BOUND):
        while not any(
            each.latest.unfilled is not None and each.latest.size > 100_000
            for each in served.listening.traffic.open
            if hasattr(each, "latest")
        ):
            await asyncio.sleep(0)
    return client


def test_a_client_that_disconnects_within_a_large_body_is_noticed(run: Run, address: Address) -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def app(exchange: HttpExchange) -> None:
            with pytest.raises(ClientClosed):
                await exchange.body(unlimited)
            assert exchange.unfilled is None
            gone.set()

        async with serving(app, address) as served:
            (await started_body(served)).close()
            await until(gone)

    run(main())


def test_a_large_body_that_stops_is_a_408(run: Run, address: Address) -> None:
    async def main() -> None:
        late = asyncio.Event()

        async def app(exchange: HttpExchange) -> None:
            with pytest.raises(RequestTimeout):
                await exchange.body(unlimited)
            late.set()

        async with serving(app, address, body_timeout=0.2) as served:
            client = await started_body(served)
            assert await client.refusal() == (408, "request_timeout")
            await until(late)

    run(main())


def test_a_body_above_a_limit_is_refused_in_the_middle_and_the_client_gets_the_error(
    run: Run, address: Address
) -> None:
    sizes: list[int] = []

    def check(size: int) -> None:
        sizes.append(size)
        if size > 100_000:
            raise TooLarge("above 100000")

    async def app(exchange: HttpExchange) -> None:
        try:
            await exchange.body(check)
        except TooLarge as error:
            exchange.keep_alive = False
            exchange.respond(error.status, [], error.message.encode())

    async def main() -> None:
        async with serving(app, address) as served:
            client = await served.client()
            client.send(CHUNKED)
            async with asyncio.timeout(BOUND):
                for _ in range(50):
                    client.send(b"c350\r\n" + b"x" * 50_000 + b"\r\n")
                    await client.writer.drain()
            assert (await client.response())[::2] == (413, b"above 100000")
            await client.ended()

    run(main())
    assert 100_000 < sizes[-1] < 300_000
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("size", [3, 3000, 100_000], ids="{} bytes".format)
@pytest.mark.parametrize("sent", ["with the head", "after the response"])
def test_the_body_of_an_early_response_is_not_read_as_a_request(
    run: Run, address: Address, size: int, sent: str
) -> None:
    paths: list[str] = []

    async def app(exchange: HttpExchange) -> None:
        paths.append(exchange.head.path)
        exchange.respond(200, [], b"early")

    async def main() -> None:
        async with serving(app, address) as served:
            client = await served.client()
            body = (post(0, b"/smuggled") * (size // 10 + 1))[:size]
            for path in (b"/a", b"/b"):
                client.send(post(size, path) + (body if sent == "with the head" else b""))
                assert (await client.response())[2] == b"early"
                if sent != "with the head":
                    client.send(body)
            client.send(post(0, b"/last"))
            assert (await client.response())[2] == b"early"

    run(main())
    assert paths == ["/a", "/b", "/last"]


def test_no_request_overtakes_another_while_input_arrives(run: Run, address: Address) -> None:
    """Requests that wait in the queue, and others that arrive between the end of a response and the
    start of the next.
    """
    started: list[str] = []

    async def main() -> None:
        going = asyncio.Event()
        begun = asyncio.Event()

        async def app(exchange: HttpExchange) -> None:
            started.append(exchange.head.path)
            begun.set()
            if exchange.head.path == "/0":
                await until(going)
            if int(exchange.head.path[1:]) % 3 == 1:
                await asyncio.sleep(0)
            await echo(exchange)

        async with serving(app, address) as served:
            client = await served.client()
            requests = [post(1, b"/%d" % number) + b"z" for number in range(MAX_PIPELINED - 1)]
            client.send(b"".join(requests[:3]))
            await until(begun)
            (connection,) = served.listening.traffic.open
            connection.data_received(b"".join(requests[3:5]))
            complete = connection.exchange_complete

            def complete_and_read() -> None:
                # In the same callback as the end of a response: nothing may start before the queue.
                complete()
                if len(requests) > 5:
                    connection.data_received(requests.pop(5))

            connection.exchange_complete = complete_and_read  # type: ignore[method-assign]
            number = len(requests)
            going.set()
            for each in range(number):
                assert (await client.response())[2] == b"/%d z" % each
            assert not connection.queue

    run(main())
    assert started == [f"/{number}" for number in range(MAX_PIPELINED - 1)]
