"""A sealed agent calls a tool that requires OAuth, after the host's owner signed in: with
oidc-provider, and a browser that the test plays.
"""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

from tests.gateways import Running, gateway
from tests.mcp.authorization import Authorization, authorization_server, modelplex

REFUSED = "requires a sign-in: the owner of this host has to run `modelplex mcp login far`"


def config(at: Authorization, *more: str) -> str:
    rows = "\n".join(more)
    return f'[mcp]\nenabled = true\npinning = "off"\n\n[[mcp.servers]]\nname = "far"\nurl = "{at.resource}"\n{rows}\n'


async def call(running: Running, tool: str = "whoami") -> tuple[int, Any]:
    """As a sealed agent on the socket. The status and the text, or the error."""
    answer = await running.ask("POST", f"/mcp/v1/tools/far__{tool}/call", {"arguments": {}}, unix=True)
    if "content" in answer.json:
        return answer.status, answer.json["content"][0]["text"]
    return answer.status, answer.json["error"]


def sign_in(folder: Path, name: str = "far.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "state" / "mcp-sign-ins" / name).read_text())
    return found


async def test_an_agent_uses_a_tool_after_the_owner_has_signed_in(tmp_path: Path) -> None:
    async with authorization_server() as at, gateway(config(at), folder=tmp_path) as running:
        listed = await running.ask("GET", "/mcp/v1/tools", unix=True)
        assert listed.json["tools"] == []
        print(await call(running))
        print((await running.ask("GET", "/_internal/mcp")).json["servers"])
        print((await modelplex(tmp_path, "mcp", "status")))
        print((await modelplex(tmp_path, "mcp", "list")))
        said = await modelplex(tmp_path, "mcp", "login", "far")
        assert (said.status, said.out[:20]) == (0, "Signed in to far: wi"), said
        print(await call(running))
        print(await call(running, "leak"))
        print(await call(running, "write"))
        print((await modelplex(tmp_path, "mcp", "status")))
        print((await modelplex(tmp_path, "mcp", "login", "far")))
        print(await call(running, "write"))
        print((await running.ask("GET", "/_internal/mcp")).json["servers"])
        print((await modelplex(tmp_path, "mcp", "logout", "far")))
        print(await call(running, "write"))
        print((tmp_path / "log.json").read_text()[-3000:])
