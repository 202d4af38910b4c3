"""One HTTP request to the MCP routes, and what its path means."""

from __future__ import annotations

from typing import Final

import msgspec

from modelplex.core.caller import Caller
from modelplex.mcp.clients.checks import Headers

BASE: Final = "/mcp/v1"


class McpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose Host and Origin have been checked. `length` is the declared body length."""

    method: str
    path: str
    query: bytes
    headers: Headers
    caller: Caller
    length: int | None


class McpPlace(msgspec.Struct, frozen=True):
    """What a path means. `form` "mcp" is the MCP endpoint, "sse" the HTTP+SSE endpoint of
    2024-11-05, "tools" and "call" the REST routes; `name` is the server or the tool.
    """

    form: str
    name: str | None = None


def place_of(path: str) -> McpPlace | None:
    parts = path.removeprefix(BASE).strip("/").split("/")
    match parts:
        case [""]:
            return McpPlace("mcp")
        case ["sse"]:
            return McpPlace("sse")
        case ["tools"]:
            return McpPlace("tools")
        case ["tools", *name, "call"] if name:
            return McpPlace("call", "/".join(name))
        case ["servers", name]:
            return McpPlace("mcp", name)
        case ["servers", name, "sse"]:
            return McpPlace("sse", name)
        case _:
            return None
