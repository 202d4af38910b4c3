"""Fair shares of connections: counting, and thousands of connections to a whole gateway."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from modelplex.server.admission import MAX_HEADS
from modelplex.server.connection_shares import (
    ConnectionBounds,
    ConnectionShares,
    ShareHolder,
    ShareRefused,
    bounds,
)
from tests.gateways import Running, gateway, one
from tests.processes import CHAT, WAIT_S, chat, exchange, read_response, request
from tests.upstreams import provider, stall

NOBODY = one("http://127.0.0.1:9/v1")


class FakeConnection:
    """A connection without a socket."""

    def __init__(
        self, shares: ConnectionShares, caller: str, *, listener: str = "l", http: bool = False
    ) -> None:
        self._shares = shares
        self.closed = self.reading = False
        self.holder = shares.enter(caller, listener=listener, over_http=http)

    def idle(self) -> FakeConnection:
        assert isinstance(self.holder, ShareHolder)
        self.holder.idle[self] = None
        return self

    def make_room(self) -> bool:
        if self.reading:
            return False
        self.close()
        return True

    def close(self) -> None:
        assert isinstance(self.holder, ShareHolder)
        assert not self.closed
        self._shares.leave(self.holder, self)
        self.closed = True

    @property
    def refused(self) -> int:
        return self.holder.status if isinstance(self.holder, ShareRefused) else 0


def test_the_default_shares() -> None:
    assert bounds(2048) == ConnectionBounds(2048, 1024, 512, 256)
    assert bounds(1) == ConnectionBounds(1, 1, 1, 0)
    assert bounds(10, per_listener=20, per_caller=3, reserved=30) == ConnectionBounds(10, 10, 3, 9)


def test_a_caller_above_its_share_loses_its_longest_idle_connection() -> None:
    shares = ConnectionShares(bounds(100, per_caller=3))
    first, second, third = (FakeConnection(shares, "a") for _ in range(3))
    second.idle()
    first.idle()
    assert not FakeConnection(shares, "a").refused
    assert (first.closed, second.closed, third.closed) == (False, True, False)
    assert not FakeConnection(shares, "a").refused
    assert first.closed
    assert FakeConnection(shares, "a").refused == 429
    assert not FakeConnection(shares, "b").refused
    assert shares.count == 4


def test_a_full_listener_closes_a_connection_of_the_caller_with_the_most() -> None:
    shares = ConnectionShares(bounds(100, per_listener=4, per_caller=100))
    greedy = [FakeConnection(shares, "a").idle() for _ in range(3)]
    modest = FakeConnection(shares, "b").idle()
    assert not FakeConnection(shares, "c").refused
    assert [each.closed for each in greedy] == [True, False, False]
    assert not FakeConnection(shares, "c").refused
    assert [each.closed for each in greedy] == [True, True, False]
    # Now "c" has the most, and none of its own is idle.
    assert FakeConnection(shares, "c").refused == 503
    assert not modest.closed
    assert not FakeConnection(shares, "c", listener="m").refused


def test_a_caller_does_not_take_idle_connections_of_a_caller_with_fewer() -> None:
    shares = ConnectionShares(bounds(100, per_listener=4, per_caller=100))
    for _ in range(3):
        assert not FakeConnection(shares, "a").refused
    modest = FakeConnection(shares, "b").idle()
    assert FakeConnection(shares, "a").refused == 503
    assert not modest.closed


def test_connections_are_reserved_for_http() -> None:
    shares = ConnectionShares(bounds(8, per_listener=8, per_caller=8, reserved=2))
    for number in range(6):
        assert not FakeConnection(shares, f"{number}", listener=f"{number}").refused
    assert FakeConnection(shares, "x", listener="x").refused == 503
    assert not FakeConnection(shares, "host", listener="tcp", http=True).refused
    assert not FakeConnection(shares, "host", listener="tcp", http=True).refused
    assert FakeConnection(shares, "host", listener="tcp", http=True).refused == 503


def test_a_connection_whose_client_still_reads_is_not_closed() -> None:
    shares = ConnectionShares(bounds(2, per_listener=2, per_caller=2, reserved=0))
    slow, fast = FakeConnection(shares, "a").idle(), FakeConnection(shares, "a").idle()
    slow.reading = True
    assert not FakeConnection(shares, "a").refused
    assert (slow.closed, fast.closed) == (False, True)
    assert FakeConnection(shares, "a").refused == 429


def test_the_counts_stay_right_over_random_operations() -> None:
    chance = random.Random(3)
    shares = ConnectionShares(bounds(40, per_listener=25, per_caller=12, reserved=5))
    connections: list[FakeConnection] = []
    for _ in range(5000):
        caller = chance.choice("abcdef")
        connection = FakeConnection(
            shares, caller, listener=caller if caller < "d" else "tcp", http=caller >= "d"
        )
        if not connection.refused:
            connections.append(connection)
            if chance.random() < 0.5:
                connection.idle()
        if connections and chance.random() < 0.4:
            connection = chance.choice(connections)
            if not connection.closed:
                connection.close()
        connections = [each for each in connections if not each.closed]
        assert shares.count == len(connections) <= 40
    for connection in connections:
        connection.close()
    assert repr(shares) == "<ConnectionShares 0 of 40, 0 callers>"


# --- through a gateway

HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
FLOOD = 2400


class Flood(ExitStack):
    """Connections that this process keeps open."""

    def connect(self, path: str, data: bytes = b"") -> socket.socket:
        sock = self.enter_context(socket.socket(socket.AF_UNIX))
        sock.connect(path)
        if data:
            sock.sendall(data)
        return sock


async def open_connections(running: Running, at_least: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while running.process.traffic.shares.count < at_least:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("data", [b"", HEALTH, b"GET /hea"], ids=["silent", "answered", "half a head"])
async def test_thousands_of_idle_connections_of_an_agent_do_not_affect_other_callers(
    data: bytes, tmp_path: Path
) -> None:
    """The agent's idle connections are closed for its next ones; others are not affected."""
    agents = "".join(f'[[agents]]\nname = "{name}"\nsocket = "{tmp_path / name}.sock"\n' for name in "ab")
    async with gateway(NOBODY + agents, folder=tmp_path) as running:
        with Flood() as flood:

            def pour() -> None:
                for _ in range(FLOOD):
                    flood.connect(str(tmp_path / "a.sock"), data)

            await asyncio.wait_for(asyncio.to_thread(pour), WAIT_S * 3)
            await open_connections(running, 512)
            assert running.process.traffic.shares.count == 512
            for where in (str(tmp_path / "b.sock"), str(tmp_path / "a.sock"), running.socket):
                assert read_response(await exchange(where, request("GET", "/health"))).status == 200
            assert (await running.ask("GET", "/health?detail")).status == 200
            assert (await running.ask("GET", "/_internal/status")).status == 200
            assert (await running.chat()).status == 502


async def test_an_agent_whose_connections_are_all_busy_is_refused_with_429(tmp_path: Path) -> None:
    config = "[server]\nmax_connections = 40\nmax_connections_per_caller = 3\n"
    agents = "".join(f'[[agents]]\nname = "{name}"\nsocket = "{tmp_path / name}.sock"\n' for name in "ab")
    async with provider(stall) as up, gateway(config + one(up.url) + agents, folder=tmp_path) as running:
        with Flood() as flood:
            for _ in range(3):
                flood.connect(str(tmp_path / "a.sock"), request("POST", CHAT, chat(), close=False))
            async with asyncio.timeout(WAIT_S):
                while len(running.process.traffic.running) < 3:
                    await asyncio.sleep(0.005)
            got = read_response(await exchange(str(tmp_path / "a.sock"), request("GET", "/health")))
            assert (got.status, got.error["code"]) == (429, "too_many_connections")
            assert "max_connections_per_caller" in got.error["message"]
            assert got.headers["retry-after"] == "1"
            for where in (str(tmp_path / "b.sock"), running.socket):
                assert read_response(await exchange(where, request("GET", "/health"))).status == 200
            assert len(running.process.traffic.running) == 3


@pytest.mark.parametrize("whole", [False, True], ids=["unfinished", "running"])
async def test_the_memory_of_all_large_heads_is_bounded(whole: bool, tmp_path: Path) -> None:
    """A head of short headers takes thirty times its bytes in memory."""
    rows = b"".join(b"x%d:\r\n" % number for number in range(5500))
    config = "[server]\nmax_connections_per_caller = 100\n"
    async with provider(stall) as up, gateway(config + one(up.url), folder=tmp_path) as running:
        traffic = running.process.traffic
        with Flood() as flood:
            plain = request("POST", CHAT, chat(), close=False)
            first, _, rest = plain.partition(b"\r\n")
            data = first + b"\r\n" + rows + (rest if whole else b"")

            async def pour() -> None:
                for _ in range(20):
                    await asyncio.to_thread(flood.connect, running.socket, data)

            await asyncio.wait_for(pour(), WAIT_S)
            refused = read_response(await exchange(running.socket, data if whole else data + rest))
            assert (refused.status, refused.error["code"]) == (503, "heads_full")
            assert traffic.heads.used < 2 * MAX_HEADS
            got = read_response(await exchange(running.socket, request("GET", "/health")))
            assert got.status == 200
        async with asyncio.timeout(WAIT_S):
            while traffic.open:
                await asyncio.sleep(0.005)
        assert traffic.heads.used == 0


CROWD = """
import socket, sys
path, count = sys.argv[1], int(sys.argv[2])
held = []
for _ in range(count):
    one = socket.socket(socket.AF_UNIX)
    one.connect(path)
    held.append(one)
print("ready", flush=True)
sys.stdin.read()
"""


async def test_processes_on_one_socket_have_their_own_shares(tmp_path: Path) -> None:
    """A caller that is no agent is known by its process."""
    config = "[server]\nmax_connections = 40\nmax_connections_per_caller = 10\n"
    async with gateway(config + NOBODY, folder=tmp_path) as running:
        pipe = asyncio.subprocess.PIPE
        crowd = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CROWD, running.socket, "30", stdin=pipe, stdout=pipe
        )
        try:
            assert crowd.stdout is not None
            assert await asyncio.wait_for(crowd.stdout.readline(), WAIT_S) == b"ready\n"
            await open_connections(running, 10)
            with Flood() as flood:
                for _ in range(10):
                    flood.connect(running.socket, HEALTH)
                await open_connections(running, 20)
                assert running.process.traffic.shares.count == 20
        finally:
            assert crowd.stdin is not None
            crowd.stdin.close()
            await asyncio.wait_for(crowd.wait(), WAIT_S)
