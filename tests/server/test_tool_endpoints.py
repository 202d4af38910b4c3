"""The tool service and its endpoints follow the config, and tool calls count for agents' limits."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from modelplex.server.tool_endpoints import request_ids, session_ids
from tests.gateways import WAIT_S, Running, gateway

DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'
SERVER = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    result = {
        "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}},
        "tools/list": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": "done"}]},
    }.get(message["method"])
    answer = {"result": result} if result is not None else {"error": {"code": -32601, "message": "no"}}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
"""


def enabled(folder: Path, more: str = "") -> str:
    script = folder / "server.py"
    script.write_text(SERVER)
    return (
        f'[mcp]\nenabled = true\npinning = "trust_first"\nlock_file = "{folder / "lock"}"\n{more}'
        f'[[mcp.servers]]\nname = "one"\ncommand = {json.dumps(sys.executable)}\nargs = [{json.dumps(str(script))}]\n'
    )


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.sleep(0.005)


async def reload(running: Running, folder: Path, old: str, new: str) -> None:
    file = folder / "config.toml"
    file.write_text(file.read_text().replace(old, new))
    running.process.reload()


async def call(running: Running, **more: Any) -> int:
    return (await running.ask("POST", "/mcp/v1/tools/one__echo/call", {}, **more)).status


def test_request_ids_ascend_and_differ_between_runs() -> None:
    first, second = list(islice(request_ids(), 20)), list(islice(request_ids(), 20))
    assert first == sorted(first)
    assert len({*first, *second}) == 40


def test_session_ids_have_128_random_bits() -> None:
    ids = {session_ids()() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(bytes.fromhex(each)) == 16 for each in ids)


async def test_where_mcp_is_not_enabled_there_is_no_service(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        tools = running.process.tools
        assert (tools.service, tools.servers, tools.status(), tools.left_out()) == (None, [], [], {})
        tools.reload_approvals()
        tools.drain()


async def test_a_reload_enables_and_disables_mcp(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        process = running.process
        await reload(running, tmp_path, DEMO, DEMO + enabled(tmp_path))
        await until(lambda: process.app.mcp is not None)
        assert process.tools.servers == ["one"]
        assert [row["name"] for row in process.tools.status()] == ["one"]
        await reload(running, tmp_path, "enabled = true", "enabled = false")
        await process.tools.close()  # waits for what the reload closes in the background
        assert process.tools.service is None
        assert process.app.mcp is None
        assert not process.tools._background


async def test_a_stdio_socket_that_cannot_be_opened_after_a_reload_is_logged(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        taken = tmp_path / "taken"
        taken.write_text("")
        more = f"stdio_socket = {json.dumps(str(taken))}\n"
        await reload(running, tmp_path, DEMO, DEMO + enabled(tmp_path, more))
        log = tmp_path / "log.json"
        await until(lambda: f"{taken} is a regular file" in log.read_text())
        assert (await running.ask("GET", "/health")).status == 200


async def test_a_tool_call_counts_as_a_request_of_its_agent(tmp_path: Path) -> None:
    socket = tmp_path / "a.sock"
    agent = f'[[agents]]\nname = "a"\nsocket = "{socket}"\nrate = {{ requests = 1 }}\n'
    async with gateway(DEMO + agent + enabled(tmp_path), folder=tmp_path) as running:
        running.socket = str(socket)
        await call(running, unix=True)
        view = running.process.limits.view()[0]
        assert (view["running"], view["last_minute"]) == (0, {"requests": 1, "tokens": 0})
        refused = await running.ask("POST", "/mcp/v1/tools/one__echo/call", {}, unix=True)
        assert refused.status == 429
        assert "may use 1" in refused.body.decode()
