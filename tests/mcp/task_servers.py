"""Scripted servers with tasks, and clients of both eras that use them."""

from __future__ import annotations

from typing import Any

from modelplex.mcp.constants import (
    INVALID_PARAMS,
    META_RELATED,
    Json,
    McpReply,
)
from modelplex.mcp.tasks import EXTENSION
from tests.mcp.harness import (
    Harness,
    ScriptedClient,
    ScriptedServer,
    Sent,
    result,
    tool,
)

OLD: Json = {
    "tools": {},
    "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}, "vendor": {}},
}


NEW: Json = {"tools": {}, "extensions": {EXTENSION: {}}}


KNOWS: Json = {"extensions": {EXTENSION: {}}}


def task(own: str, status: str = "working", **more: Any) -> Json:
    return {
        "taskId": own,
        "status": status,
        "createdAt": "2026-01-01T00:00:00Z",
        "lastUpdatedAt": "2026-01-01T00:00:00Z",
        "ttl": 60_000,
        **more,
    }


class Tasker:
    """A server that makes a task of each call, in the form of its era."""

    def __init__(self, era: str = "legacy") -> None:
        self.era = era
        self.made: list[str] = []
        self.waiting: Json = {}

    async def __call__(self, sent: Sent) -> McpReply:
        own = str(sent.params.get("taskId"))
        match sent.method:
            case "tools/call":
                return self.called(sent)
            case "tasks/get" | "tasks/cancel" if own not in self.made:
                return McpReply.failed(INVALID_PARAMS, "no such task")
            case "tasks/get" if self.era == "modern":
                return McpReply(result={"resultType": "complete", **task(own), **self.waiting})
            case "tasks/get" | "tasks/cancel" if self.era == "legacy":
                return McpReply(
                    result=task(own, "cancelled" if "cancel" in sent.method else "working", note=1)
                )
            case "tasks/result":
                meta = {META_RELATED: {"taskId": own, "vendor": 1}, "vendor/x": 2}
                return McpReply(result={"content": [{"type": "text", "text": f"of {own}"}], "_meta": meta})
            case "tasks/list":
                rest = [*self.made, "somebody-elses"]
                at = int(sent.params.get("cursor", "0"))
                more = {"nextCursor": str(at + 1)} if at + 1 < len(rest) else {}
                return McpReply(result={"tasks": [task(rest[at])], **more})
            case _:
                return McpReply(result={"resultType": "complete"})

    def called(self, sent: Sent) -> McpReply:
        if self.era == "legacy" and "task" not in sent.params:
            return McpReply(result={"content": [{"type": "text", "text": "at once"}]})
        self.made.append(own := f"t{len(self.made) + 1}")
        if self.era == "legacy":
            return McpReply(result={"task": task(own, vendor=[1]), "_meta": {META_RELATED: {"taskId": own}}})
        return McpReply(result={"resultType": "task", **task(own), "_meta": {"vendor/x": 2}})


def tasking(name: str, era: str = "legacy", **more: Any) -> ScriptedServer:
    more = {"allow": ("tasks",), "capabilities": OLD if era == "legacy" else NEW, **more}
    tools = [tool("work"), tool("long", execution={"taskSupport": "required"})]
    script = more.pop("script", None) or Tasker(era)
    return ScriptedServer(
        name, era="modern" if era == "modern" else "legacy", tools=tools, script=script, **more
    )


def old(**more: Any) -> ScriptedClient:
    return ScriptedClient("legacy", **more)


def new(**more: Any) -> ScriptedClient:
    return ScriptedClient("modern", capabilities=KNOWS, **more)


async def made(harness: Harness, client: ScriptedClient, name: str = "a__work", **more: Any) -> str:
    found = result(await harness.call(client, name, task={"ttl": 5}, **more))
    return str((found if client.era == "modern" else found["task"])["taskId"])
