"""Requests that no app has seen, in the record."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from modelplex.core.caller import Caller, Peer
from modelplex.records.record import Record
from modelplex.records.store import queries
from modelplex.records.store.database import open_database
from modelplex.server.callers import ClientConnection
from modelplex.server.connection_refusals import SLOW_HEAD, invalid_http
from modelplex.server.refused_requests import ROWS, RefusedRequests
from tests.gateways import WAIT_S, gateway

CLIENT = ClientConnection(Caller(listener="unix:/a", kind="unix", agent="a", peer=Peer(7, 8, 9)))
SMUGGLED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n"
UNFINISHED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_row_says_who_it_was_and_why() -> None:
    rows: list[Record] = []
    counts: dict[str, int] = {}
    refused = RefusedRequests(rows.append, counts=counts, ids=iter(["mpx-1"]), now=Clock())
    refused.add(CLIENT, invalid_http("HTTP/2.0"))
    (row,) = rows
    assert (row.id, row.agent, row.listener, row.peer) == ("mpx-1", "a", "unix:/a", Peer(7, 8, 9))
    assert (row.status, row.code, row.outcome, row.blame) == (400, "invalid_http", "error", "client")
    assert row.error == "This is not a valid HTTP/1.1 request. (HTTP/2.0)"
    assert counts == {"invalid_http": 1}


def test_a_flood_is_counted() -> None:
    rows: list[Record] = []
    counts: dict[str, int] = {}
    clock = Clock()
    refused = RefusedRequests(rows.append, counts=counts, ids=map(str, itertools.count()), now=clock)
    for _ in range(1000):
        refused.add(CLIENT, SLOW_HEAD)
    assert len(rows) == ROWS
    clock.now += 1.0
    refused.add(None, SLOW_HEAD)  # of nobody that is known
    refused.add(CLIENT, SLOW_HEAD)
    assert len(rows) == ROWS + 1
    assert rows[-1].error == f"{SLOW_HEAD.message} {1001 - ROWS} more were refused since the last such row."
    refused.add(CLIENT, SLOW_HEAD)
    assert rows[-1].error == SLOW_HEAD.message
    assert counts == {"request_timeout": 1003}


async def test_what_a_connection_refuses_is_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "records.sqlite"
    config = (
        "[server]\nheader_timeout = 1.0\nmax_connections_per_caller = 2\n"
        f'[[providers]]\ntype = "demo"\n[record]\nstore = "{store}"\n'
    )
    async with gateway(config, folder=tmp_path) as gw:
        port = int(gw.base.rstrip("/").rpartition(":")[2])
        assert (await said(port, SMUGGLED)).startswith(b"HTTP/1.1 400 ")
        assert (await said(port, b"GET / HTTP/1.1\r\nhost: ")).startswith(b"HTTP/1.1 408 ")
        busy = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in busy:
            writer.write(UNFINISHED)
        async with asyncio.timeout(WAIT_S):
            while len(gw.process.app.running) < 2:
                await asyncio.sleep(0.005)
        assert (await said(port, b"")).startswith(b"HTTP/1.1 429 ")
        for _, writer in busy:
            writer.close()
        async with asyncio.timeout(WAIT_S):
            while gw.process.app.running:
                await asyncio.sleep(0.005)
        metrics = (await gw.ask("GET", "/_internal/metrics")).body.decode()
    assert 'modelplex_refused_requests_total{code="invalid_http"} 1' in metrics
    found = [each for each in queries.recent_calls(open_database(store, read_only=True)) if not each.endpoint]
    assert [(each.status, each.code, each.client) for each in reversed(found)] == [
        (400, "invalid_http", "127.0.0.1"),
        (408, "request_timeout", "127.0.0.1"),
        (429, "too_many_connections", "127.0.0.1"),
    ]
    assert "Transfer-Encoding" in str(found[-1].error)


async def said(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    async with asyncio.timeout(WAIT_S):
        answer = await reader.read()
    writer.close()
    return answer
