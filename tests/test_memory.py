"""What a finished request leaves in memory while the cycle collector is off: nothing."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from modelplex.http_client.connection import UpstreamConnection
from modelplex.server.connection import Connection
from modelplex.server.http_exchange import HttpExchange
from modelplex.server.request_reader import RequestReader
from tests.gateways import Running, gateway, one
from tests.processes import CHAT, WAIT_S, chat, exchange, read_response, request
from tests.upstreams import Act, Scripted, answer, chat_answer, chunk, provider, stall, stream

BODY = 1_000_000
"""Bytes of each request."""
ROUNDS = 4
SLACK = BODY // 2
"""What all rounds together may add: caches, log lines and counters, but not one body."""

SERVER = Path(__file__).parent / "mcp" / "scripted_tools.py"


def tools(folder: Path) -> str:
    """A tool server with a tool that returns its arguments and one that fails."""
    offered = folder / "offered.json"
    offered.write_text(
        json.dumps(
            {
                "tools": [
                    {"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "fail", "break")
                ]
            }
        )
    )
    rows = f'command = "{sys.executable}"\nargs = {json.dumps(["-S", "-E", str(SERVER), str(offered)])}\n'
    return f'[mcp]\nenabled = true\npinning = "off"\n[[mcp.servers]]\nname = "tools"\n{rows}'


Way = Callable[[Running], Awaitable[None]]


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


@asynccontextmanager
async def upstream(*scripts: Act) -> AsyncGenerator[Scripted]:
    """A provider that keeps nothing of its requests."""
    async with provider(*scripts) as up:

        class Forgetful(list[object]):
            def append(self, item: object, /) -> None:
                super().append(item)
                item.body = b""  # type: ignore[attr-defined]

        up.seen = Forgetful()  # type: ignore[assignment]
        yield up


async def growth(running: Running, way: Way) -> int:
    """Bytes that ROUNDS requests leave in memory, after one that fills the caches."""
    await way(running)
    await idle(running)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(ROUNDS):
        await way(running)
    await idle(running)
    return tracemalloc.get_traced_memory()[0] - before


async def idle(running: Running) -> None:
    """Wait until no request runs and no connection is open."""
    traffic = running.process.traffic
    async with asyncio.timeout(WAIT_S):
        while traffic.running or traffic.open:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0)


def post(body: bytes, *, path: str = CHAT, status: int, headers: tuple[str, ...] = ()) -> Way:
    async def way(running: Running) -> None:
        got = read_response(await exchange(running.socket, request("POST", path, body, headers=headers)))
        assert got.status == status, got.body[:500]

    return way


def broken_off(body: bytes, *, path: str = CHAT) -> Way:
    """A caller that disconnects before the last byte of its body."""

    async def way(running: Running) -> None:
        calls = len(running.records)
        _, writer = await asyncio.open_unix_connection(running.socket)
        writer.write(request("POST", path, body)[:-1])
        await writer.drain()
        writer.close()
        if path == CHAT:
            await running.record(calls + 1)

    return way


def hung_up(body: bytes) -> Way:
    """A caller that disconnects during its streamed response."""

    async def way(running: Running) -> None:
        calls = len(running.records)
        reader, writer = await asyncio.open_unix_connection(running.socket)
        writer.write(request("POST", CHAT, body))
        await asyncio.wait_for(reader.readuntil(b"word"), WAIT_S)
        writer.close()
        await running.record(calls + 1)

    return way


LARGE = "x" * BODY
GOOD = chat(text=LARGE)
STREAMED = chat(text=LARGE, stream=True)
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}


def tool_call(name: str, **meta: object) -> bytes:
    params = {"name": name, "arguments": {"text": LARGE}, "_meta": meta}
    return json.dumps({**CALL, "params": params}).encode()


MCP = ("accept: application/json, text/event-stream",)
REFUSED = {
    "unknown model": post(chat("nobody", text=LARGE), status=404),
    "no JSON": post(GOOD[:-1], status=400),
    "no model": post(GOOD.replace(b'"model"', b'"modle"'), status=400),
    "too deep": post(b'{"model":' + b"[" * BODY, status=400),
    "sealed policy": post(GOOD[:-1] + b',"messages":[]}', status=400),
    "too large": post(chat(text=LARGE * 3), status=413),
    "no route": post(GOOD, path="/v1/files", status=404),
    "no method": post(GOOD, path="/health", status=405),
    "Ollama's show": post(b'{"model":"nobody","x":"' + LARGE.encode() + b'"}', path="/api/show", status=404),
    "body broken off": broken_off(GOOD),
    "MCP: no JSON": post(b"{" + LARGE.encode(), path="/mcp/v1", status=400, headers=MCP),
    "MCP: neither era": post(tool_call("tools__echo"), path="/mcp/v1", status=400, headers=MCP),
    "MCP: no session": post(
        tool_call("tools__echo"), path="/mcp/v1", status=404, headers=(*MCP, "mcp-session-id: nobody")
    ),
    "MCP: body broken off": broken_off(tool_call("tools__echo"), path="/mcp/v1"),
    "REST: unknown tool": post(
        json.dumps({"arguments": {"text": LARGE}}).encode(), path="/mcp/v1/tools/nobody/call", status=404
    ),
    "REST: no JSON": post(b"{" + LARGE.encode(), path="/mcp/v1/tools/nobody/call", status=400),
    "REST: no arguments": post(
        json.dumps({"arguments": LARGE}).encode(), path="/mcp/v1/tools/nobody/call", status=400
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_body_is_freed_without_the_collector(
    name: str, tmp_path: Path, no_collector: None
) -> None:
    config = "[server]\nmax_request_size = 2_500_000\n" + one("http://127.0.0.1:9/v1") + tools(tmp_path)
    async with gateway(config, folder=tmp_path) as running:
        assert await growth(running, REFUSED[name]) < SLACK


async def test_a_rate_limited_body_is_freed_without_the_collector(tmp_path: Path, no_collector: None) -> None:
    agent = f'[[agents]]\nname = "a"\nsocket = "{tmp_path / "a.sock"}"\nrate = {{ requests = 1 }}\n'
    async with gateway(one("http://127.0.0.1:9/v1") + agent, folder=tmp_path) as running:
        running.socket = str(tmp_path / "a.sock")
        first = read_response(await exchange(running.socket, request("POST", CHAT, GOOD)))
        assert first.status == 502
        assert await growth(running, post(GOOD, status=429)) < SLACK


REST = "/mcp/v1/tools/tools__{}/call"
ARGUMENTS = json.dumps({"arguments": {"text": LARGE}}).encode()
MODERN = (*MCP, "mcp-protocol-version: 2026-07-28", "mcp-method: tools/call", "mcp-name: tools__echo")
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}
TOOL_CALLS = {
    "REST": post(ARGUMENTS, path=REST.format("echo"), status=200),
    "REST: it failed": post(ARGUMENTS, path=REST.format("fail"), status=200),
    "REST: no answer": post(ARGUMENTS, path=REST.format("break"), status=502),
    "MCP": post(tool_call("tools__echo", **META), path="/mcp/v1", status=200, headers=MODERN),
    "MCP: another name in the head": post(
        tool_call("tools__fail", **META), path="/mcp/v1", status=400, headers=MODERN
    ),
    "MCP: body broken off": broken_off(tool_call("tools__echo", **META), path="/mcp/v1"),
}


@pytest.mark.parametrize("name", TOOL_CALLS)
async def test_the_body_of_a_tool_call_is_freed_without_the_collector(
    name: str, tmp_path: Path, no_collector: None
) -> None:
    async with gateway(one("http://127.0.0.1:9/v1") + tools(tmp_path), folder=tmp_path) as running:
        assert await growth(running, TOOL_CALLS[name]) < SLACK


ANSWERED = {
    "answered": (answer(chat_answer()), post(GOOD, status=200)),
    "streamed": (
        stream(chunk({"content": "word"}), chunk({}, finish="stop"), b"data: [DONE]\n\n"),
        post(STREAMED, status=200),
    ),
    "translated": (
        answer(chat_answer()),
        post(b'{"max_tokens":9,' + GOOD[1:], path="/v1/messages", status=200),
    ),
    "counted": (answer(chat_answer()), post(GOOD, path="/v1/messages/count_tokens", status=200)),
    "provider failed": (answer({"error": {"message": "no"}}, status=500), post(GOOD, status=502)),
    "provider refused": (answer({"error": {"message": "no"}}, status=400), post(GOOD, status=400)),
    "stream broke off": (stream(chunk({"content": "word"}), end=False), post(STREAMED, status=200)),
    "stream failed": (
        stream(chunk({"content": "word"}), b'data: {"error":{"message":"no"}}\n\n'),
        post(STREAMED, status=200),
    ),
    "mislabelled": (answer({"error": {"message": "no"}}), post(STREAMED, status=502)),
    "hung up": (stream(chunk({"content": "word"}), then=stall), hung_up(STREAMED)),
}


@pytest.mark.parametrize("name", ANSWERED)
async def test_an_answered_body_is_freed_without_the_collector(
    name: str, tmp_path: Path, no_collector: None
) -> None:
    act, way = ANSWERED[name]
    failover = "[failover]\nbackoff = 0.0\nbreaker_failures = 1000\n"
    async with upstream(act) as up, gateway(one(up.url) + failover, folder=tmp_path) as running:
        assert await growth(running, way) < SLACK


@pytest.mark.parametrize("name", ["stream broke off", "hung up", "mislabelled"])
async def test_a_broken_upstream_connection_is_freed_without_the_collector(
    name: str, tmp_path: Path, no_collector: None
) -> None:
    act, way = ANSWERED[name]
    failover = "[failover]\nbackoff = 0.0\nbreaker_failures = 1000\n"
    async with upstream(act) as up, gateway(one(up.url) + failover, folder=tmp_path) as running:
        await way(running)
        await way(running)
        await idle(running)
        open_now = {each for pool in running.process._client._pools.values() for each in pool.open}
        left = [each for each in gc.get_objects() if isinstance(each, UpstreamConnection)]
        assert [each for each in left if each not in open_now] == []


async def test_a_body_is_freed_after_failover(tmp_path: Path, no_collector: None) -> None:
    failover = "[failover]\nbackoff = 0.0\nbreaker_failures = 1000\n"
    refused = one("http://127.0.0.1:9/v1", name="down")
    broken = answer({"error": {"message": "no"}}, status=500)
    async with upstream(broken) as first, upstream(answer(chat_answer())) as second:
        config = refused + one(first.url, name="first") + one(second.url, name="second") + failover
        async with gateway(config, folder=tmp_path) as running:
            assert await growth(running, post(GOOD, status=200)) < SLACK


HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
CONNECTIONS = {
    "silent": b"",
    "half a head": HEALTH[:-2],
    "no HTTP": b"\x16\x03\x01\r\n\r\n",
    "answered": HEALTH,
    "answered twice": HEALTH * 2,
    "half a body": request("POST", CHAT, GOOD)[:200],
    "refused": request("POST", "/v1/files", b"{}"),
}


@pytest.mark.parametrize("name", CONNECTIONS)
async def test_a_closed_connection_is_freed_without_the_collector(
    name: str, tmp_path: Path, no_collector: None
) -> None:
    config = "[server]\nmax_connections_per_caller = 2\n" + one("http://127.0.0.1:9/v1")
    async with gateway(config, folder=tmp_path) as running:
        for _ in range(4):
            pair = await asyncio.open_unix_connection(running.socket)
            pair[1].write(CONNECTIONS[name])
            with suppress(TimeoutError):
                await asyncio.wait_for(pair[0].read(9), 0.05)  # some of them get no response
            pair[1].transport.abort()
        await idle(running)
        kinds = (Connection, HttpExchange, RequestReader)
        assert [each for each in gc.get_objects() if isinstance(each, kinds)] == []
