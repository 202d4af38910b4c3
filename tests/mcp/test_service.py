"""From a config to running tool servers, and on to the next config: with processes that are real,
if small.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from time import perf_counter, time
from typing import Any

import msgspec
import pytest

from modelplex.config.mcp_settings import McpConfig, McpServer
from modelplex.config.secret import Secret
from modelplex.config.settings import Config, ServerConfig
from modelplex.http_client import HttpClient
from modelplex.mcp.approvals import LockedServer
from modelplex.mcp.call_recording import CallRecording
from modelplex.mcp.calls import admit_all
from modelplex.mcp.lockfile import lock_path, write_lock
from modelplex.mcp.service import ServerMachine, ToolService
from modelplex.records.tool_call import ToolRecord
from tests.mcp.harness import ScriptedClient, error, result, text

ECHO = """
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    match asked["method"]:
        case "initialize":
            answer["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "e", "version": "1"}}
        case "tools/list":
            answer["result"] = {"tools": [{"name": "pid", "inputSchema": {"type": "object"}}]}
        case "tools/call":
            answer["result"] = {"content": [{"type": "text", "text": str(os.getpid())}]}
        case _:
            answer["error"] = {"code": -32601, "message": "no"}
    print(json.dumps(answer), flush=True)
"""


class Said:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def debug(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    info = warning = error = debug


def server(name: str, **more: Any) -> McpServer:
    return McpServer(name=name, command=sys.executable, args=(Secret("-c"), Secret(ECHO)), **more)


def config(folder: Path, *servers: McpServer) -> Config:
    return Config(
        server=ServerConfig(state_folder=str(folder / "state")),
        mcp=McpConfig(enabled=True, servers=servers),
        path=str(folder / "config.toml"),
    )


class Running:
    def __init__(self, config: Config) -> None:
        self.said = Said()
        self.calls: list[ToolRecord] = []
        self.client = HttpClient()
        numbers = count(1)
        self.service = ToolService(
            config,
            machine=ServerMachine({"PATH": "/usr/bin:/bin"}),
            client=self.client,
            events=self.said,
            recording=CallRecording(
                ids=(f"mpx-{number}" for number in numbers),
                clock=perf_counter,
                wall=time,
                on_record=self.calls.append,
            ),
            key=b"k" * 32,
            admit=admit_all,
            record_place=lambda _: "",
        )

    async def pid(self, name: str) -> str:
        message = ScriptedClient().message("tools/call", {"name": f"{name}__pid", "arguments": {}})
        return text(await self.service.gateway.request(ScriptedClient(), message))


@asynccontextmanager
async def running(config: Config) -> AsyncGenerator[Running]:
    made = Running(config)
    try:
        made.service.start()
        yield made
    finally:
        await made.service.close()
        await made.client.aclose()


@pytest.mark.timeout(60)
async def test_a_server_whose_settings_stay_runs_on_over_a_reload(tmp_path: Path) -> None:
    async with running(config(tmp_path, server("a"), server("b"))) as harness:
        first, second = await asyncio.gather(harness.pid("a"), harness.pid("b"))
        harness.service.adopt(config(tmp_path, server("a"), server("b", timeout=9.0), server("c")))
        assert await harness.pid("a") == first
        assert await harness.pid("b") != second
        assert await harness.pid("c")
        harness.service.adopt(config(tmp_path, server("a")))
        assert await harness.pid("a") == first
        gone = ScriptedClient().message("tools/call", {"name": "b__pid", "arguments": {}})
        assert error(await harness.service.gateway.request(ScriptedClient(), gone))["code"] == -32602
        assert [row["name"] for row in harness.service.status()] == ["a"]
    assert len(harness.calls) == 7


@pytest.mark.timeout(60)
async def test_listing_after_a_restart_starts_nothing(tmp_path: Path) -> None:
    message = ScriptedClient().message("tools/list")
    async with running(config(tmp_path, server("a"))) as harness:
        assert len(result(await harness.service.gateway.request(ScriptedClient(), message))["tools"]) == 1
    async with running(config(tmp_path, server("a"))) as harness:
        assert len(result(await harness.service.gateway.request(ScriptedClient(), message))["tools"]) == 1
        (row,) = harness.service.status()
        assert row["state"] == "cataloged"
        assert list(row["pids"]) == []


@pytest.mark.timeout(60)
async def test_approvals_are_read_anew_where_the_lock_file_changes(tmp_path: Path) -> None:
    settings = config(tmp_path, server("a"))
    async with running(settings) as harness:
        assert await harness.pid("a")
        write_lock(lock_path(settings), {"a": LockedServer(tools={"pid": "sha256:another"})})
        harness.service.reload_approvals()
        message = ScriptedClient().message("tools/call", {"name": "a__pid", "arguments": {}})
        refused = await harness.service.gateway.request(ScriptedClient(), message)
        assert result(refused)["isError"] is True
        assert harness.calls[-1].rule == "pin"
        assert harness.calls[-1].decision == "deny"


@pytest.mark.timeout(60)
async def test_approvals_that_cannot_be_trusted_approve_nothing(tmp_path: Path) -> None:
    settings = config(tmp_path, server("a"))
    lock_path(settings).write_text("this is no lock file")
    async with running(settings) as harness:
        message = ScriptedClient().message("tools/list")
        assert result(await harness.service.gateway.request(ScriptedClient(), message))["tools"] == []
        assert any("none is approved" in event for event, _ in harness.said.lines)


@pytest.mark.timeout(60)
async def test_no_secret_is_in_the_status(tmp_path: Path) -> None:
    secret = "sk-a-very-secret-value"
    safe = msgspec.structs.replace(server("a"), env={"TOKEN": Secret(secret)})
    async with running(config(tmp_path, safe)) as harness:
        await harness.pid("a")
        assert secret not in str(harness.service.status())
        assert ECHO not in str(harness.service.status())
