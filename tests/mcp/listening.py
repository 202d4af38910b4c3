"""A server with resources, and a running `subscriptions/listen`."""

from __future__ import annotations

import asyncio

from modelplex.mcp.constants import (
    Json,
    McpReply,
)
from tests.mcp.harness import (
    WAIT,
    Harness,
    ScriptedClient,
    ScriptedServer,
    tool,
)

TOOLS = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}


ALL: Json = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


def files(name: str = "fs", uri: str = "file:///a") -> ScriptedServer:
    return ScriptedServer(
        name,
        tools=[tool("x")],
        resources=[{"uri": uri, "name": "a"}],
        capabilities={"tools": {}, "resources": {"subscribe": True}},
    )


class Listening:
    """One modern subscription."""

    def __init__(self, harness: Harness, guest: ScriptedClient, wanted: Json, *, id: str | int = 1) -> None:
        message = guest.message("subscriptions/listen", {"notifications": wanted}, id=id)
        self.task: asyncio.Task[McpReply] = asyncio.create_task(harness.gateway.request(guest, message))
        self.guest = guest

    async def begun(self) -> Json:
        await asyncio.wait_for(self.guest.notified.wait(), WAIT)
        for _ in range(5):
            await asyncio.sleep(0)
        return self.guest.notifications[0]

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
