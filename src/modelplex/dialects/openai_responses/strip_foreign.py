"""Removes from a ChatRequest what only Responses has, before another dialect writes it.

Tools come out of their namespaces, records of what a provider did earlier are left out, members
that say nothing elsewhere go without a report, and what names stored state is refused.
"""

from __future__ import annotations

import msgspec

from modelplex.core.errors import Unsupported
from modelplex.core.request import (
    AnyTool,
    Change,
    ChatRequest,
    ForeignPart,
    HostedTool,
    Message,
    Part,
    ReasoningPart,
    ToolCallPart,
    ToolChoice,
)
from modelplex.dialects.core.members import without_empty
from modelplex.dialects.core.tool_names import qualified
from modelplex.dialects.openai_responses.constants import COMPACTED, ENCRYPTED, INERT, LOGPROBS, STATEFUL

_BENIGN: dict[str, frozenset[str]] = {"include": frozenset({ENCRYPTED, LOGPROBS})}
_SILENT = ("stream_options.", "tool_choice")
"""Members that ride along beside what was read of them, and options of a stream of this dialect."""
_DISABLED = b'"disabled"'
"""What `truncation` says where it asks for nothing."""


def strip(call: ChatRequest) -> tuple[ChatRequest, tuple[Change, ...]]:
    """The request as every dialect can express it, and what it lost. Raises Unsupported naming what
    is stored at a provider.
    """
    changes: list[Change] = []
    extra = _strip_members(call)
    messages = tuple(
        kept for message in call.messages if (kept := _strip_message(message, changes)) is not None
    )
    names = {
        tool.name: qualified(tool.namespace, tool.name)
        for tool in call.tools
        if not isinstance(tool, HostedTool) and tool.namespace is not None
    }
    for tool in call.tools:
        if not isinstance(tool, HostedTool) and tool.namespace is None:
            names.pop(tool.name, None)
    paths = {  # a namespace is a tool that holds tools
        tool.namespace: tool.path.rpartition(".tools[")[0]
        for tool in call.tools
        if not isinstance(tool, HostedTool) and tool.namespace is not None
    }
    for namespace, description in call.namespaces.items():
        reason = f"there are no namespaces here: its tools are called {qualified(namespace, '')}..."
        untold = ", and its description is not sent" if description else ""
        changes.append(Change("rename", paths.get(namespace, "tools"), reason + untold))
    left = msgspec.structs.replace(
        call,
        messages=messages,
        tools=tuple(_strip_tool(tool) for tool in call.tools),
        namespaces={},
        choice=_strip_choice(call.choice, names),
        extra=extra,
    )
    return left, tuple(changes)


def _strip_members(call: ChatRequest) -> dict[str, msgspec.Raw]:
    extra: dict[str, msgspec.Raw] = {}
    for name, raw in without_empty(call.extra).items():
        if bytes(raw) == _DISABLED or name.startswith(_SILENT):
            continue
        if name in STATEFUL:
            raise Unsupported(
                f"'{name}' names what is kept at a provider of the Responses form, and this model's provider is none. Send the items instead.",
                param=name,
            )
        if name == "store":
            continue  # what is kept, is kept by the gateway
        if name in _BENIGN and set(msgspec.json.decode(raw, type=list[str])) <= _BENIGN[name]:
            continue
        extra[name] = raw
    return extra


def _strip_tool(tool: AnyTool) -> AnyTool:
    if isinstance(tool, HostedTool) or tool.namespace is None:
        return tool
    return msgspec.structs.replace(tool, name=qualified(tool.namespace, tool.name), namespace=None)


def _strip_choice(choice: ToolChoice | None, names: dict[str, str]) -> ToolChoice | None:
    if choice is None or not names:
        return choice
    return msgspec.structs.replace(choice, names=tuple(names.get(name, name) for name in choice.names))


def _strip_message(message: Message, changes: list[Change]) -> Message | None:
    parts: list[Part] = []
    for part in message.parts:
        match part:
            case ForeignPart() if part.type in INERT:
                changes.append(
                    Change("drop", str(part.at), f"what a provider did earlier ({part.type}) is not sent")
                )
            case ForeignPart(type="item_reference"):
                raise Unsupported(
                    f"'{part.at}' names an item that is kept at a provider. Send the item itself.",
                    param=str(part.at),
                )
            case ReasoningPart() if part.state is not None and part.state.format == COMPACTED:
                raise Unsupported(
                    f"'{part.at}' is a compacted conversation, which its maker alone can read.",
                    param=str(part.at),
                )
            case ToolCallPart() if part.namespace is not None:
                name = qualified(part.namespace, part.name)
                parts.append(msgspec.structs.replace(part, name=name, namespace=None))
            case _:
                parts.append(part)
    if message.parts and not parts:
        return None
    return msgspec.structs.replace(message, parts=tuple(parts), phase=None)
