"""The classes that a tools/call passes on its way to a tool server: docs/why/architecture.md."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest

from modelplex.mcp.clients.session import ClientConversation
from modelplex.mcp.constants import Json
from modelplex.mcp.servers.stdio import StdioChannel
from tests.mcp.clients.scripted import BOTH, Wire, call, enveloped, modern_headers, request
from tests.mcp.test_faults import config, inside, scripted

DOC = Path(__file__).parents[2] / "docs" / "why" / "architecture.md"
CALLED = ["ToolGateway", "ToolCalls", "Relay", "ManagedServer", "ServerSession", "StdioChannel"]
MODERN = ["SseResponder", "McpHttp", *CALLED]
LEGACY = ["McpHttp", "SessionHttp", "LegacySession", *CALLED]


def classes() -> list[str]:
    """The classes of mcp/ whose methods are on the stack, the outermost first."""
    found: list[str] = []
    frame: FrameType | None = sys._getframe().f_back
    while frame is not None:
        owner = cast("type[object]", type(frame.f_locals.get("self")))
        if owner.__module__.startswith("modelplex.mcp.") and owner.__name__ not in found:
            found.append(owner.__name__)
        frame = frame.f_back
    return found[::-1]


async def post(base: str, message: Json, headers: list[tuple[str, str]]) -> dict[str, str]:
    host, _, port = base.removeprefix("http://").rstrip("/").rpartition(":")
    wire = Wire(*await asyncio.open_connection(host, int(port)))
    await wire.send("POST", "/mcp/v1", json.dumps(message).encode(), headers)
    answer = await wire.whole()
    await wire.close()
    assert answer.status == 200, answer
    return answer.headers


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_tool_call_passes_fewer_than_ten_classes(
    era: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[str] = []
    send, start = StdioChannel.send, ClientConversation.start

    async def recorded_send(self: StdioChannel, message: Json) -> None:
        if message.get("method") == "tools/call":
            passed.extend(name for name in classes() if name not in passed)
        await send(self, message)

    def recorded_start(
        self: ClientConversation, message: Json, stream: Any, *, done: Callable[[], None]
    ) -> bool:
        if message["method"] == "tools/call":
            passed.extend(classes())
        return start(self, message, stream, done=done)

    monkeypatch.setattr(StdioChannel, "send", recorded_send)
    monkeypatch.setattr(ClientConversation, "start", recorded_start)
    async with inside(tmp_path, config(tmp_path, scripted(tmp_path, "s"))) as running:
        if era == "modern":
            message = enveloped(call("s__echo"))
            await post(running.base, message, modern_headers(message))
        else:
            params: Json = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}
            headers = await post(running.base, request("initialize", params), [BOTH])
            await post(running.base, call("s__echo"), [BOTH, ("mcp-session-id", headers["mcp-session-id"])])
    assert passed == (MODERN if era == "modern" else LEGACY)
    assert len(passed) < 10


def test_the_documented_path_is_the_tested_one() -> None:
    (rows,) = re.findall(r"### The way of a tool call\n.*?\n((?:\|.*\n)+)", DOC.read_text(), flags=re.DOTALL)
    assert re.findall(r"^\| `(\w+)`", rows, flags=re.MULTILINE) == LEGACY
