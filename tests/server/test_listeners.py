"""Listeners bind all addresses or none, and drain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from modelplex.config import Config
from modelplex.server.address import Address, ListenError, Tcp, Unix
from modelplex.server.callers import CallerResolver
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.http_exchange import HttpExchange
from modelplex.server.listeners import BoundSocket, bind_all, listen, serve_all
from tests.server.harness import BOUND, GET, Run, echo, serving, until

pytestmark = pytest.mark.usefixtures("short_waits")


# --- drain


def test_draining_closes_idle_connections_and_lets_running_responses_end(run: Run, address: Address) -> None:
    async def main() -> None:
        working, going = asyncio.Event(), asyncio.Event()

        async def app(exchange: HttpExchange) -> None:
            if exchange.head.path == "/wait":
                working.set()
                await until(going)
                assert not exchange.connection.state["stopping"].is_set()
            exchange.respond(200, [], b"done")

        async with serving(app, address, drain_timeout=BOUND) as served:
            idle, busy = await served.client(), await served.client()
            idle.send(GET)
            await idle.response()
            busy.send(GET.replace(b"/ ", b"/wait "))
            await until(working)
            draining = asyncio.ensure_future(served.listening.drain())
            await idle.ended()
            with pytest.raises((ConnectionError, FileNotFoundError)):
                await served.client()
            going.set()
            status, headers, _ = await busy.response()
            assert (status, headers["connection"]) == (200, "close")
            async with asyncio.timeout(BOUND):
                await draining
            assert not served.listening.traffic.open

    run(main())


def test_after_the_drain_timeout_a_stream_ends_with_its_own_error(run: Run, address: Address) -> None:
    async def main() -> None:
        working = asyncio.Event()

        async def app(exchange: HttpExchange) -> None:
            exchange.start([])
            working.set()
            await until(exchange.connection.state["stopping"])
            exchange.write(b"error!", last=True)

        async with serving(app, address) as served:
            client = await served.client()
            client.send(GET)
            await until(working)
            await served.listening.drain()
            await client.head()
            assert await client.rest() == b"6\r\nerror!\r\n0\r\n\r\n"

    run(main())


def test_an_app_that_does_not_stop_is_disconnected_and_cancelled(run: Run, address: Address) -> None:
    async def main() -> None:
        working = asyncio.Event()
        cancelled: list[bool] = []

        async def app(exchange: HttpExchange) -> None:
            exchange.start([])
            exchange.write(b"")
            working.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        async with serving(app, address) as served:
            client = await served.client()
            client.send(GET)
            await until(working)
            async with asyncio.timeout(BOUND):
                await served.listening.drain()
            assert cancelled == [True]
            assert not served.listening.traffic.running
            await client.head()
            with contextlib.suppress(ConnectionResetError):
                assert b"0\r\n\r\n" not in await client.rest()

    run(main())


# --- binding


def test_a_port_in_use_is_a_listen_error_and_leaves_no_file(run: Run, short: Path) -> None:
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
def test_a_host_that_is_not_local_is_a_listen_error(run: Run, address: Tcp, sentence: str) -> None:
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


def test_sockets_are_there_before_a_port_answers(
    run: Run, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        publish = BoundSocket.publish

        def check(bound: BoundSocket) -> None:
            if bound.file is None:
                assert (short / "s").exists()
            else:
                assert not [each for each in sockets if each.server is not None and each.file is None]
            publish(bound)

        monkeypatch.setattr(BoundSocket, "publish", check)
        sockets = await bind_all([Tcp("127.0.0.1", 0), Unix(str(short / "s"))], may_be_none=False)
        callers = CallerResolver(Config())
        listening = await serve_all(
            echo, sockets, limits=ConnectionLimits(drain_timeout=0.05), callers=callers
        )
        assert all(each.server is not None for each in sockets)
        await listening.drain()

    run(main())
