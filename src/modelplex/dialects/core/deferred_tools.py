"""Tools that are loaded later, for providers that do not load any: their definitions are there from
the start, and a reference to one is a line of text. Imports no dialect.
"""

from __future__ import annotations

import msgspec

from modelplex.core.request import (
    Change,
    ChatRequest,
    HostedTool,
    Message,
    Part,
    TextPart,
    ToolReferencePart,
    ToolResultPart,
)
from modelplex.dialects.core.ledger import tool_path
from modelplex.dialects.core.tool_names import alias

PRESENT = "nothing loads tools later here: it is there from the start"
"""The reason in reports."""


def presented(call: ChatRequest) -> ChatRequest:
    """The request with all tools there from the start."""
    changes = [
        Change("lower", tool_path(tool, "deferred"), PRESENT)
        for tool in call.tools
        if not isinstance(tool, HostedTool) and tool.deferred
    ]
    messages = tuple(
        [message if message.role != "tool" else _lowered(message, changes) for message in call.messages]
    )
    if not changes:
        return call
    tools = tuple(
        tool if isinstance(tool, HostedTool) else msgspec.structs.replace(tool, deferred=False)
        for tool in call.tools
    )
    return msgspec.structs.replace(call, messages=messages, tools=tools, changes=(*call.changes, *changes))


def _lowered(message: Message, changes: list[Change]) -> Message:
    parts = tuple(
        msgspec.structs.replace(part, parts=tuple(_as_text(inner, changes) for inner in part.parts))
        if isinstance(part, ToolResultPart) and any(isinstance(p, ToolReferencePart) for p in part.parts)
        else part
        for part in message.parts
    )
    return msgspec.structs.replace(message, parts=parts)


def _as_text(part: Part, changes: list[Change]) -> Part:
    if not isinstance(part, ToolReferencePart):
        return part
    changes.append(Change("lower", str(part.at), "a reference to a tool is sent as text"))
    return TextPart(f"The tool {alias(part.name)} can be called now.", part.cache, at=part.at)
