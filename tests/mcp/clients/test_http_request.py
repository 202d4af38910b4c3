"""Who may ask, over TCP and over the socket: docs/reference/mcp-protocol.md#agent-facing-routes,
M17, M18; and the places that there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelplex.config.settings import McpConfig
from modelplex.core.caller import Caller
from modelplex.mcp.clients import McpHttp
from modelplex.mcp.clients.http_request import McpRequest, place_of
from tests.gateways import gateway
from tests.mcp.clients.scripted import BOUND, ScriptedBackend, call, enveloped, modern_headers, place, request

LIST = enveloped(request("tools/list"))
HEADERS = modern_headers(LIST)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]", "localhost:11435"])
async def test_tcp_serves_its_own_names(tmp_path: Path, host: str) -> None:
    async with place(tmp_path) as there:
        assert (await there.post(LIST, [*HEADERS, ("host", host)])).status == 200
        assert (
            await there.post(LIST, [*HEADERS, ("host", host), ("origin", "http://localhost:3")])
        ).status == 200


@pytest.mark.parametrize(
    "header", [("host", "evil.example"), ("origin", "https://evil.example"), ("origin", "null")]
)
@pytest.mark.parametrize("path", ["/mcp/v1", "/mcp/v1/tools"])
async def test_tcp_refuses_a_foreign_host_and_origin(
    tmp_path: Path, header: tuple[str, str], path: str
) -> None:
    async with place(tmp_path) as there:
        answer = await there.post(LIST, [*HEADERS, header], path=path)
        assert answer.status == 403
        assert ("jsonrpc" in answer.json) == (path == "/mcp/v1")
        assert there.backend.seen == []


async def test_a_socket_takes_any_host_and_no_origin(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        for host in ("anything.example", "", "localhost"):
            assert (await there.post(LIST, [*HEADERS, ("host", host)], unix=True)).status == 200
        for origin in ("http://localhost", "null"):
            answer = await there.post(LIST, [*HEADERS, ("origin", origin)], unix=True)
            assert (answer.status, answer.code) == (403, -32600)


class Heard:
    """The caller's side, with what was answered."""

    started = stopping = False

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []

    async def body(self, *, limit: int, declared: int | None) -> bytes:
        return b'{"jsonrpc":"2.0","id":1,"method":"initialize"}'

    async def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status, self.headers = status, headers

    async def start(self, headers: list[tuple[bytes, bytes]]) -> None: ...
    async def write(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...
    def abort(self) -> None: ...
    def keep_body(self) -> Callable[[], None]:
        return lambda: None

    def cancel_on_disconnect(self) -> None: ...
    def ignore_disconnect(self) -> None: ...


@pytest.mark.parametrize(
    ("listener", "agent", "everybody", "status"),
    [
        ("tcp:127.0.0.1:11435", "", False, 200),
        ("tcp:127.9.9.9:1", "", False, 200),
        ("tcp:[::1]:11435", "", False, 200),
        ("tcp:0.0.0.0:11435", "", False, 401),
        ("tcp:192.168.1.2:11435", "", False, 401),
        ("tcp:[::]:11435", "", False, 401),
        ("tcp:0.0.0.0:11435", "coder", False, 200),
        ("tcp:0.0.0.0:11435", "", True, 200),
    ],
)
async def test_beyond_loopback_a_token_is_needed(
    listener: str, agent: str, everybody: bool, status: int
) -> None:
    front = McpHttp(
        ScriptedBackend(),
        McpConfig(enabled=True),
        ids=lambda: "a" * 32,
        clock=lambda: 0.0,
        open_to_all=everybody,
    )
    door = Heard()
    caller = Caller(listener=listener, kind="tcp", agent=agent)
    headers = [(b"accept", b"*/*")]
    asked = McpRequest(method="POST", path="/mcp/v1", query=b"", headers=headers, caller=caller, length=None)
    await front.answer(asked, door)
    await front.close()
    assert door.status == status
    assert ((b"www-authenticate", b"Bearer") in door.headers) == (status == 401)


@pytest.mark.parametrize("path", ["/mcp/v1", "/mcp/v1/tools", "/mcp/v1/tools/a/call", "/mcp/other"])
async def test_where_it_is_not_enabled_a_sentence_says_how(tmp_path: Path, path: str) -> None:
    async with gateway("[mcp]\nenabled = false\n", folder=tmp_path) as running:
        answer = await running.ask("POST", path, {})
        assert answer.status == 404
        assert "[mcp] enabled" in answer.error["message"]


async def test_unknown_servers_and_paths_are_not_there(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        for path in (
            "/mcp/v1/servers/nobody",
            "/mcp/v1/else",
            "/mcp/",
            "/mcp/v1/servers",
            "/mcp/v1/servers/one/x",
        ):
            assert (await there.post(LIST, HEADERS, path=path)).status == 404, path
        for path in ("/mcp/v1/", "/mcp/v1/servers/one", "/mcp/v1/servers/one/"):
            assert (await there.post(LIST, HEADERS, path=path)).status == 200, path
        assert there.backend.seen == [("tools/list", None), ("tools/list", "one"), ("tools/list", "one")]


@pytest.mark.parametrize(
    ("path", "form", "name"),
    [
        ("/mcp/v1", "mcp", None),
        ("/mcp/v1/sse", "sse", None),
        ("/mcp/v1/servers/a/sse", "sse", "a"),
        ("/mcp/v1/tools", "tools", None),
        ("/mcp/v1/tools/a__b/call", "call", "a__b"),
        ("/mcp/v1/tools/a/b/call", "call", "a/b"),
    ],
)
def test_a_path_says_what_is_asked(path: str, form: str, name: Any) -> None:
    found = place_of(path)
    assert found is not None
    assert (found.form, found.name) == (form, name)


async def test_the_gateway_stops_though_streams_are_open_and_calls_run(tmp_path: Path) -> None:
    """With a patience of 30 s, which is for calls: a stream that never ends by itself does not use
    it up.
    """
    async with place(tmp_path, server="drain_timeout = 30") as there:
        headers = await there.session()
        standing = await there.open(b"", headers, method="GET")
        listening = enveloped(request("subscriptions/listen"))
        listen = await there.open(listening, modern_headers(listening))
        older = await there.open(b"", method="GET", path="/mcp/v1/sse")
        for wire in (standing, listen, older):
            assert (await wire.head())[0] == 200
        there.process.stop()
        for wire in (standing, listen, older):
            while await wire.event() is not None:
                pass


async def test_a_call_that_outlasts_the_gateways_patience_is_told(tmp_path: Path) -> None:
    async with place(tmp_path, server="drain_timeout = 0.1") as there:
        held = enveloped(call("one__hold"))
        modern = await there.open(held, modern_headers(held))
        headers = await there.session()
        legacy = await there.open(call("one__hold"), headers)
        async with asyncio.timeout(BOUND):
            while len(there.backend.parties) < 3:
                await asyncio.sleep(0.005)
            there.process.stop()
        for wire in (modern, legacy):
            answer = await wire.whole()
            assert (answer.status, answer.code) == (503, -32603)


async def test_many_clients_at_once_get_what_is_theirs(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()

        async def one(number: int) -> None:
            message = call("one__echo", {"n": number}, id=number)
            answer = await (there.modern(message) if number % 2 else there.post(message, headers))
            assert answer.json["id"] == number
            assert answer.json["result"]["content"][0]["text"] == f'{{"n": {number}}}'

        await asyncio.gather(*(one(number) for number in range(200)))
        assert "0 endless" in repr(there.front)
