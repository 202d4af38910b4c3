"""The context of one request, and the errors of the gateway itself."""

from __future__ import annotations

from typing import Any

from modelplex.dialects.core.json import as_object
from modelplex.mcp import era_translation
from modelplex.mcp.constants import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    RESOURCE_NOT_FOUND,
    Era,
    Json,
    McpClient,
    McpReply,
    Unavailable,
)
from modelplex.records.tool_call import ToolRecordBuilder


class ToolRequestContext:
    """One request while it is answered."""

    __slots__ = ("_builder", "client", "id", "method", "params", "route")

    def __init__(self, client: McpClient, message: Json, *, route: str | None) -> None:
        self.client = client
        self.route = route
        self.id: Any = message.get("id")
        self.method: str = message["method"]
        self.params: Json = as_object(message.get("params")) or {}
        self._builder: ToolRecordBuilder | None = None

    @property
    def globs(self) -> tuple[str, ...]:
        return self.client.caller.tools

    @property
    def modern(self) -> bool:
        return self.client.era == "modern"

    @property
    def builder(self) -> ToolRecordBuilder:
        """The record of a call. Only calls have one."""
        assert self._builder is not None, "every call is recorded"
        return self._builder

    @builder.setter
    def builder(self, builder: ToolRecordBuilder) -> None:
        self._builder = builder


def invalid(sentence: str) -> McpReply:
    return McpReply.failed(INVALID_PARAMS, sentence, reason="invalid")


def unknown(kind: str, name: str) -> McpReply:
    """Also for what this caller may not know of."""
    return McpReply.failed(INVALID_PARAMS, f"Unknown {kind}: {name[:100]}", reason="unknown")


def unlisted(context: ToolRequestContext, uri: str) -> McpReply:
    code = INVALID_PARAMS if context.modern else RESOURCE_NOT_FOUND
    return McpReply.failed(code, "Resource not found", {"uri": uri}, reason="unknown")


def tool_refused(sentence: str, *, reason: str, era: Era) -> McpReply:
    """A tool result with `isError` and the reason of a refusal."""
    result: Json = {"content": [{"type": "text", "text": sentence}], "isError": True}
    return McpReply(
        result=era_translation.modern_result(result) if era == "modern" else result, reason=reason
    )


def unavailable(error: Unavailable) -> McpReply:
    data: Json = {"reason": error.reason}
    if error.server:
        data["server"] = error.server
    if error.retry_after is not None:
        data["retryAfterMs"] = round(error.retry_after * 1000)
    return McpReply.failed(INTERNAL_ERROR, error.sentence, data, reason=error.reason)
