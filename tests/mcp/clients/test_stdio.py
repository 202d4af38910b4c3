"""A message a line on a socket of its own: docs/reference/mcp-protocol.md, M15, M16, M35."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import stat
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelplex.config import Config
from modelplex.config.mcp_settings import McpConfig
from modelplex.mcp.clients import stdio as stdio_module
from modelplex.mcp.clients.checks import read as read_message
from modelplex.mcp.clients.stdio import StdioConnections
from modelplex.pipeline.offload import MANY_VALUES, is_heavy
from modelplex.server.address import Unix
from modelplex.server.admission import BodyMemory
from modelplex.server.callers import CallerResolver
from modelplex.server.connection_shares import ConnectionShares, bounds
from modelplex.server.listeners import BoundSocket
from modelplex.server.mcp_stdio import McpStdioListener
from modelplex.server.socket_file import claim
from tests.mcp.clients.scripted import BOUND, ScriptedBackend, call, enveloped, request


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, *messages: Any) -> None:
        for message in messages:
            data = message if isinstance(message, bytes) else json.dumps(message).encode()
            self.writer.write(data + b"\n")

    async def hear(self) -> Any:
        async with asyncio.timeout(BOUND):
            line = await self.reader.readline()
        return json.loads(line) if line else None

    async def begin(self, version: str = "2025-11-25") -> None:
        self.say(request("initialize", {"protocolVersion": version}, id=0))
        assert (await self.hear())["result"]["protocolVersion"] == version
        self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})


@dataclass
class Harness:
    backend: ScriptedBackend
    lines: StdioConnections
    path: Path
    clients: list[Client]
    bodies: BodyMemory

    async def client(self) -> Client:
        client = Client(*await asyncio.open_unix_connection(str(self.path), limit=1 << 24))
        self.clients.append(client)
        return client


@asynccontextmanager
async def harness(folder: Path, *, server: str | None = None, **config: Any) -> AsyncGenerator[Harness]:
    backend, ids, path = ScriptedBackend(), itertools.count(1), folder / "mcp.sock"
    settings = McpConfig(enabled=True, **config)
    lines = StdioConnections(backend, settings, ids=lambda: f"line-{next(ids)}", server=server)
    bodies = BodyMemory(total=300_000, share=100_000)
    stdio = McpStdioListener(
        BoundSocket(address := Unix(str(path)), claim(address)),
        lines,
        callers=CallerResolver(Config()),
        shares=ConnectionShares(bounds(8)),
        bodies=bodies,
    )
    await stdio.open()
    there = Harness(backend, lines, path, [], bodies)
    try:
        yield there
    finally:
        for client in there.clients:
            client.writer.close()
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()
        await stdio.close()
        assert not path.exists()


async def test_a_legacy_client_is_served_on_one_connection(tmp_path: Path) -> None:
    async with harness(tmp_path) as there:
        assert stat.S_IMODE(there.path.stat().st_mode) == 0o660
        client = await there.client()
        await client.begin()
        client.say(request("tools/list", id="a"), call("one__tell", {"times": 2}, id=1))
        heard = [await client.hear() for _ in range(4)]
        assert [each.get("method", each.get("id")) for each in heard if "result" in each] == ["a", 1]
        assert sum("method" in each for each in heard) == 2
        client.say(request("initialize", {}, id=2))
        assert (await client.hear())["error"]["code"] == -32600
        client.writer.close()
        async with asyncio.timeout(BOUND):
            while ("closed", None) not in there.backend.seen:
                await asyncio.sleep(0.005)


async def test_a_modern_client_is_served_on_another_at_the_same_time(tmp_path: Path) -> None:
    async with harness(tmp_path) as there:
        old, new = await there.client(), await there.client()
        await old.begin()
        new.say(enveloped(request("server/discover", id=1), capabilities={"sampling": {}}))
        assert (await new.hear())["result"]["supportedVersions"]
        assert there.backend.parties[-1].capabilities == {"sampling": {}}
        old.say(call("one__hold", id=1))
        new.say(enveloped(call("one__echo", {"n": 1}, id=1)))
        assert json.loads((await new.hear())["result"]["content"][0]["text"]) == {"n": 1}
        there.backend.go.set()
        assert (await old.hear())["result"]["content"][0]["text"] == "held"


async def test_the_first_request_fixes_the_era(tmp_path: Path) -> None:
    async with harness(tmp_path) as there:
        client = await there.client()
        client.say(request("tools/list", id=1))
        found = await client.hear()
        assert (found["id"], found["error"]["code"]) == (1, -32600)
        assert "2026-07-28" in found["error"]["message"]
        client.say(enveloped(request("server/discover", id=2), version="2099-01-01"))
        assert (await client.hear())["error"]["code"] == -32022
        client.say(enveloped(request("tools/list", id=3)))
        assert (await client.hear())["result"]["tools"]
        client.say(request("tools/list", id=4), request("initialize", {}, id=5))
        assert [(await client.hear())["error"]["code"] for _ in range(2)] == [-32602, -32602]


async def test_a_client_may_initialize_after_an_unsupported_modern_version(tmp_path: Path) -> None:
    async with harness(tmp_path) as there:
        client = await there.client()
        client.say(enveloped(request("server/discover", id=1), version="2099-01-01"))
        assert "2025-11-25" in (await client.hear())["error"]["data"]["supported"]
        await client.begin()


@pytest.mark.parametrize("modern", [True, False])
async def test_a_cancellation_cancels_that_request_of_that_connection(tmp_path: Path, modern: bool) -> None:
    async with harness(tmp_path) as there:
        mine, theirs = await there.client(), await there.client()
        for each in (mine, theirs):
            if modern:
                each.say(enveloped(request("tools/list", id=0)))
                await each.hear()
            else:
                await each.begin()
        held = call("one__hold", id=7)
        mine.say(enveloped(held) if modern else held)
        async with asyncio.timeout(BOUND):
            await there.backend.begun.wait()
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        ask = request("tools/list", id=8)
        theirs.say(cancel, enveloped(ask) if modern else ask)
        assert (await theirs.hear())["id"] == 8
        assert not there.backend.cancelled.is_set()
        mine.say(cancel, enveloped(ask) if modern else ask)
        async with asyncio.timeout(1):
            await there.backend.cancelled.wait()
        heard = [(await mine.hear())["id"] for _ in range(1 if modern else 2)]
        assert set(heard) == ({8} if modern else {7, 8})


async def test_a_line_over_the_limit_ends_the_connection_with_an_error_and_nothing_else(
    tmp_path: Path,
) -> None:
    async with harness(tmp_path, max_message=1000) as there:
        client, other = await there.client(), await there.client()
        await client.begin()
        await other.begin()
        client.say(b"x" * 5000)
        found = await client.hear()
        assert (found["id"], found["error"]["code"]) == (None, -32600)
        assert "[mcp] max_message" in found["error"]["message"]
        assert await client.hear() is None
        fits = call("one__echo", {"text": "y" * 800})
        other.say(fits)
        assert (await other.hear())["result"]


async def test_a_malformed_message_gets_an_error_and_the_connection_stays(tmp_path: Path) -> None:
    async with harness(tmp_path, max_depth=8) as there:
        client = await there.client()
        await client.begin()
        for line, code in (
            (b"{", -32700),
            (b"\xff", -32700),
            (b"[]", -32600),
            (b"3", -32600),
            (b"[" * 9 + b"]" * 9, -32600),
        ):
            client.say(line)
            assert (await client.hear())["error"]["code"] == code, line
        client.say(b"", b"  \r", {"jsonrpc": "2.0", "id": 99, "result": {}}, request("ping", id=5))
        assert (await client.hear())["id"] == 5
        client.say(call("one__hold", id=6), request("ping", id=6))
        assert (await client.hear())["error"]["code"] == -32600


async def test_a_servers_question_is_answered_on_the_connection(tmp_path: Path) -> None:
    async with harness(tmp_path) as there:
        client = await there.client()
        await client.begin()
        client.say(call("one__ask", id=1))
        asked = await client.hear()
        client.say({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -1, "message": "no"}})
        found = json.loads((await client.hear())["result"]["content"][0]["text"])
        assert found == {"result": None, "error": {"code": -1, "message": "no"}}


async def test_a_batch_is_answered_with_one_array_in_one_revision_only(tmp_path: Path) -> None:
    batch = [request("ping", id=1), call("one__tell", {"times": 1}, id=2)]
    async with harness(tmp_path) as there:
        client, newer = await there.client(), await there.client()
        await client.begin("2025-03-26")
        client.say(batch)
        assert (await client.hear())["method"] == "notifications/progress"
        assert sorted(each["id"] for each in await client.hear()) == [1, 2]
        await newer.begin()
        newer.say(batch)
        assert (await newer.hear())["error"]["code"] == -32600


async def test_a_client_that_stops_writing_still_gets_the_response(tmp_path: Path) -> None:
    async with harness(tmp_path, server="one") as there:
        client = await there.client()
        client.writer.write(json.dumps(enveloped(request("tools/list"))).encode())
        client.writer.write_eof()
        assert (await client.hear())["result"]["tools"]
        assert await client.hear() is None
        assert ("tools/list", "one") in there.backend.seen


async def test_a_disconnect_cancels_the_calls_of_a_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelplex.mcp.clients.stdio.LAST_ANSWERS_SECONDS", 0.01)
    async with harness(tmp_path) as there:
        client = await there.client()
        await client.begin()
        client.say(call("one__hold"))
        async with asyncio.timeout(BOUND):
            await there.backend.begun.wait()
            client.writer.close()
            await there.backend.cancelled.wait()


async def test_a_client_that_does_not_read_loses_its_connection_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelplex.mcp.clients.message_stream.UNREAD_MESSAGES", 100)
    async with harness(tmp_path) as there:
        deaf, other = await there.client(), await there.client()
        await deaf.begin()
        await other.begin()
        deaf.say(call("one__tell", {"times": 5000, "token": "x" * 1000}))
        async with asyncio.timeout(BOUND):
            await there.backend.begun.wait()
        other.say(request("ping"))
        assert (await other.hear())["result"] == {}
        async with asyncio.timeout(BOUND):
            while await deaf.reader.read(1 << 20):
                pass


async def test_connections_are_bounded(tmp_path: Path) -> None:
    async with harness(tmp_path, max_sessions=1) as there:
        client = await there.client()
        await client.begin()
        second = await there.client()
        assert "max_sessions" in (await second.hear())["error"]["message"]
        assert await second.hear() is None


@pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed")
async def test_a_stock_client_reaches_it_through_socat(tmp_path: Path) -> None:
    async with harness(tmp_path) as there:
        process = await asyncio.create_subprocess_exec(
            "socat",
            "-",
            f"UNIX-CONNECT:{there.path}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(BOUND):
                for message in (
                    request("initialize", {"protocolVersion": "2025-06-18"}),
                    request("tools/list", id=2),
                ):
                    process.stdin.write(json.dumps(message).encode() + b"\n")
                    assert "result" in json.loads(await process.stdout.readline())
                process.stdin.close()
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_lines_that_are_not_complete_count_as_body_memory(tmp_path: Path) -> None:
    async with harness(tmp_path) as there:
        first, second = await there.client(), await there.client()
        first.writer.write(b'{"x":"' + b"y" * 80_000)
        async with asyncio.timeout(BOUND):
            while there.bodies.used < 80_000:
                await asyncio.sleep(0.005)
        second.writer.write(b'{"x":"' + b"y" * 40_000)
        found = await second.hear()
        assert "max_body_memory_per_caller" in found["error"]["message"]
        assert found["error"]["data"]["reason"] == "limit"
        assert await second.hear() is None
        first.writer.write(b'"}\n')
        assert (await first.hear())["error"]
        async with asyncio.timeout(BOUND):
            while there.bodies.used:
                await asyncio.sleep(0.005)


async def test_a_message_counts_until_it_is_answered(tmp_path: Path) -> None:
    async with harness(tmp_path) as there:
        client = await there.client()
        await client.begin()
        client.say(
            call("one__hold", {"text": "x" * 5000}, id=1), call("one__echo", {"text": "y" * 90_000}, id=2)
        )
        assert (await client.hear())["id"] == 2
        assert 5000 < there.bodies.used < 10_000
        there.backend.go.set()
        assert (await client.hear())["id"] == 1
        async with asyncio.timeout(BOUND):
            while there.bodies.used:
                await asyncio.sleep(0.005)


async def test_a_line_in_pieces_and_several_in_one_are_read_alike(tmp_path: Path) -> None:
    async with harness(tmp_path) as there:
        client = await there.client()
        await client.begin()
        texts = ["a" * size for size in (1, 20_000, 65_536, 2)]
        data = b"".join(
            json.dumps(call("one__echo", {"text": text}, id=at)).encode() + b"\n"
            for at, text in enumerate(texts)
        )
        for at in range(0, len(data), 50_000):
            client.writer.write(data[at : at + 50_000])
            await client.writer.drain()
        heard = [await client.hear() for _ in texts]
        got = {one["id"]: json.loads(one["result"]["content"][0]["text"])["text"] for one in heard}
        assert [got[at] for at in range(len(texts))] == texts


async def test_a_caller_above_its_connection_limit_gets_an_error(tmp_path: Path) -> None:
    async with harness(tmp_path) as there:
        first, second = await there.client(), await there.client()
        await first.begin()
        await second.begin()
        third = await there.client()
        found = await third.hear()
        assert "max_connections_per_caller" in found["error"]["message"]
        assert await third.hear() is None


async def test_a_large_line_is_parsed_in_a_thread_and_messages_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go, parse = threading.Event(), threading.Event(), read_message
    lines: list[tuple[bool, bool]] = []

    def held(line: bytes, *, max_depth: int) -> Any:
        lines.append((is_heavy(line), threading.current_thread() is threading.main_thread()))
        if is_heavy(line):
            began.set()
            assert go.wait(BOUND)
        return parse(line, max_depth=max_depth)

    async with harness(tmp_path) as there:
        client, other = await there.client(), await there.client()
        await client.begin()
        monkeypatch.setattr(stdio_module, "read", held)
        large = call("one__echo", {"numbers": [0] * (MANY_VALUES * 2)}, id=1)
        client.say(large, call("one__echo", {}, id=2))
        try:
            assert await asyncio.to_thread(began.wait, BOUND)
            await other.begin()  # the loop is free
        finally:
            go.set()
        assert [(await client.hear())["id"] for _ in range(2)] == [1, 2]
    assert {heavy for heavy, _ in lines} == {False, True}
    assert all(heavy != on_loop for heavy, on_loop in lines)
    assert there.bodies.used == 0


async def test_a_connection_that_is_closed_while_a_large_line_is_parsed_frees_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go = threading.Event(), threading.Event()

    def held(line: bytes, *, max_depth: int) -> Any:
        del line, max_depth
        began.set()
        assert go.wait(BOUND)

    monkeypatch.setattr(stdio_module, "read", held)
    async with harness(tmp_path) as there:
        client = await there.client()
        client.say([0] * (MANY_VALUES * 4))
        try:
            assert await asyncio.to_thread(began.wait, BOUND)
            await asyncio.wait_for(there.lines.close(), BOUND)
            assert there.bodies.used == 0
        finally:
            go.set()
