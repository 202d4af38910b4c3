"""Tool servers and the stdio socket with several workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.mcp.test_service import ECHO
from tests.processes import WAIT_S, Gateway, served, until

CALL = "/mcp/v1/tools/echo__pid/call"


def config(folder: Path) -> str:
    echo = (
        f'[[mcp.servers]]\nname = "echo"\ncommand = {json.dumps(sys.executable)}\nprotocol = "legacy"\n'
        f"args = {json.dumps(['-S', '-E', '-c', ECHO])}\n"
    )
    return (
        f'[server]\nworkers = 2\nstate_folder = "{folder / "state"}"\n[[providers]]\ntype = "demo"\n'
        f'[[agents]]\nname = "a"\nsocket = "{folder / "a.sock"}"\n'
        f'[[agents]]\nname = "b"\nsocket = "{folder / "b.sock"}"\n'
        f'[mcp]\nenabled = true\nstdio_socket = "{folder / "lines"}"\n{echo}'
    )


async def server_of(gateway: Gateway, at: Path) -> int:
    """The pid of the tool server that serves this socket."""
    got = await gateway.ask("POST", CALL, b'{"arguments": {}}', at=str(at))
    assert got.status == 200, got.body
    return int(got.json["content"][0]["text"])


async def stdio_reply(path: Path) -> dict[str, Any]:
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
    async with asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(json.dumps(hello).encode() + b"\n")
        reply: dict[str, Any] = json.loads(await reader.readline())
        writer.close()
        return reply


async def test_each_worker_has_its_own_servers_and_another_worker_starts_them_anew(tmp_path: Path) -> None:
    async with served(config(tmp_path), folder=tmp_path) as gateway:
        a, b = tmp_path / "a.sock", tmp_path / "b.sock"
        status = (await gateway.ask("GET", "/_internal/status")).json
        of = {row["worker"]: row["pid"] for row in status["workers"]}
        agents = (await gateway.ask("GET", "/_internal/agents")).json["agents"]
        assert {row["agent"]: row["worker"] for row in agents} == {"a": 2, "b": 1}
        first = {"a": await server_of(gateway, a), "b": await server_of(gateway, b)}
        assert len(set(first.values())) == 2
        assert await server_of(gateway, a) == first["a"]
        rows = (await gateway.ask("GET", "/_internal/mcp")).json["servers"]
        assert [(row["worker"], row["name"], row["state"]) for row in rows] == [
            (1, "echo", "ready"),
            (2, "echo", "ready"),
        ]
        os.kill(of[2], signal.SIGKILL)
        assert await server_of(gateway, a) != first["a"]
        assert await server_of(gateway, b) == first["b"]
        await until(lambda: not Path(f"/proc/{first['a']}").exists(), what="the end of the server")


async def test_the_stdio_socket_outlives_its_worker(tmp_path: Path) -> None:
    async with served(config(tmp_path), folder=tmp_path) as gateway:
        lines = tmp_path / "lines"
        assert (await stdio_reply(lines))["result"]["protocolVersion"] == "2025-11-25"
        before = lines.stat().st_ino
        rows = (await gateway.ask("GET", "/_internal/status")).json["workers"]
        os.kill(rows[0]["pid"], signal.SIGKILL)
        assert (await stdio_reply(lines))["result"]["protocolVersion"] == "2025-11-25"
        assert lines.stat().st_ino == before
    assert not lines.exists()
