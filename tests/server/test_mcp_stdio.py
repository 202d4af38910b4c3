"""The stdio socket: who may connect, whose share a connection counts for, and its file.
tests/mcp/clients/test_stdio.py has the messages.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from modelplex.config import Config, parse, provider_types
from modelplex.config.mcp_settings import McpConfig
from modelplex.mcp.clients.stdio import StdioConnections
from modelplex.server.address import ListenError, Unix
from modelplex.server.admission import BodyMemory
from modelplex.server.callers import CallerResolver
from modelplex.server.connection_shares import ConnectionShares, bounds
from modelplex.server.listeners import BoundSocket
from modelplex.server.mcp_stdio import McpStdioListener
from modelplex.server.socket_file import claim
from tests.mcp.clients.scripted import BOUND, ScriptedBackend, request


def listener(path: Path, config: Config, shares: ConnectionShares) -> McpStdioListener:
    lines = StdioConnections(ScriptedBackend(), McpConfig(enabled=True), ids=lambda: "id")
    return McpStdioListener(
        BoundSocket(address := Unix(str(path)), claim(address)),
        lines,
        callers=CallerResolver(config),
        shares=shares,
        bodies=BodyMemory(total=300_000, share=100_000),
    )


@asynccontextmanager
async def served(
    path: Path, config: Config | None = None, shares: ConnectionShares | None = None
) -> AsyncGenerator[McpStdioListener]:
    made = listener(path, config or Config(), shares or ConnectionShares(bounds(8)))
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def first_message(path: Path) -> tuple[Any, asyncio.StreamWriter]:
    """The response to `initialize`, or a refusal, and the open connection."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(json.dumps(request("initialize", {"protocolVersion": "2025-11-25"}, id=0)).encode() + b"\n")
    async with asyncio.timeout(BOUND):
        return json.loads(await reader.readline()), writer


async def test_a_caller_that_may_connect_is_served(tmp_path: Path) -> None:
    async with served(tmp_path / "m.sock"):
        message, writer = await first_message(tmp_path / "m.sock")
        assert message["result"]["protocolVersion"] == "2025-11-25"
        writer.close()


async def test_a_user_that_is_not_allowed_is_refused_with_the_reason(tmp_path: Path) -> None:
    text = f'[server]\nallow_uid = [{os.geteuid() + 1}]\n[[providers]]\ntype = "demo"\n'
    config = parse(text.encode(), file="c.toml", environ={}, types=provider_types())
    shares = ConnectionShares(bounds(8))
    async with served(tmp_path / "m.sock", config, shares):
        message, writer = await first_message(tmp_path / "m.sock")
        assert message["error"]["data"] == {"reason": "policy"}
        assert "allow_uid" in message["error"]["message"]
        assert shares.count == 0
        writer.close()


async def test_a_connection_counts_until_it_ends_and_one_above_the_share_is_refused(tmp_path: Path) -> None:
    shares = ConnectionShares(bounds(8, per_caller=1))
    async with served(tmp_path / "m.sock", shares=shares):
        _, writer = await first_message(tmp_path / "m.sock")
        assert shares.count == 1
        message, refused = await first_message(tmp_path / "m.sock")
        assert message["error"]["data"] == {"reason": "limit"}
        for each in (writer, refused):
            each.close()
        async with asyncio.timeout(BOUND):
            while shares.count:
                await asyncio.sleep(0.005)


async def test_the_file_is_claimed_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    async with served(path) as made:
        assert path.is_socket()
        assert str(path) in repr(made)
        with pytest.raises(ListenError, match="in use"):
            listener(path, Config(), ConnectionShares(bounds(8)))
    assert list(tmp_path.iterdir()) == []


async def test_a_listener_that_was_never_opened_leaves_no_file(tmp_path: Path) -> None:
    made = listener(tmp_path / "m.sock", Config(), ConnectionShares(bounds(8)))
    await made.close()
    assert list(tmp_path.iterdir()) == []
