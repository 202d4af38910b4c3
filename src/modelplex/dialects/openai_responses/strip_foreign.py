"""Removes from a ChatRequest what only Responses has, before another dialect writes it.

Tools come out of their namespaces, records of what a provider did earlier are left out, members
that say nothing elsewhere go without a report, and what names stored state is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

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
    Place,
    ReasoningPart,
    ToolCallPart,
    ToolChoice,
    ToolReferencePart,
    ToolResultPart,
)
from modelplex.dialects.core.deferred_tools import PRESENT
from modelplex.dialects.core.members import decode_member, without_empty
from modelplex.dialects.core.tool_names import qualified
from modelplex.dialects.core.tool_results import joined_results
from modelplex.dialects.openai_responses.constants import (
    COMPACTED,
    ENCRYPTED,
    INERT,
    LOGPROBS,
    SEARCH,
    SEARCH_CALL,
    SEARCH_OUTPUT,
    STATEFUL,
)
from modelplex.dialects.openai_responses.tools import flat_names, loaded_by, search_function

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
    flat = flat_names(call.tools)
    loading = _Loading(call, flat, changes)
    messages = tuple(
        kept
        for message in call.messages
        if (kept := _strip_message(loading.lower(message), flat, changes)) is not None
    )
    names = {name: sent for (_, name), sent in flat.items()}
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
        messages=tuple(joined_results(messages)),
        tools=tuple(_strip_tool(tool, flat, loading.found, changes) for tool in call.tools),
        namespaces={},
        choice=_strip_choice(call.choice, names),
        extra=extra,
    )
    return left, tuple(changes)


class _SearchCall(msgspec.Struct):
    call_id: str | None = None
    execution: str | None = None
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Loading:
    """Expresses the items that load tools: a search that the client ran is a call of a function,
    and its output a result with a reference to each tool. `found` are the names of those.
    """

    def __init__(self, call: ChatRequest, flat: dict[tuple[str, str], str], changes: list[Change]) -> None:
        self.found: set[str] = set()
        self._flat = flat
        self._changes = changes
        self._is_client_run = any(
            isinstance(tool, HostedTool) and search_function(tool) is not None for tool in call.tools
        )

    def lower(self, message: Message) -> Message:
        if not any(isinstance(part, ForeignPart) for part in message.parts):
            return message
        parts = tuple(self._part(part) for part in message.parts)
        if len(parts) == 1 and isinstance(parts[0], ToolResultPart):
            return msgspec.structs.replace(message, role="tool", parts=parts)
        return msgspec.structs.replace(message, parts=parts)

    def _part(self, part: Part) -> Part:
        if not isinstance(part, ForeignPart) or part.type not in {SEARCH_CALL, SEARCH_OUTPUT}:
            return part
        item = decode_member(part.raw, _SearchCall, path=part.at)
        if item.call_id is None or item.execution not in {"client", None}:
            return part
        if item.execution is None and not self._is_client_run:
            return part
        if part.type == SEARCH_CALL:
            return ToolCallPart(item.call_id, SEARCH, _arguments(item.arguments), at=part.at)
        return ToolResultPart(item.call_id, tuple(self._references(part)), name=SEARCH, at=part.at)

    def _references(self, part: ForeignPart) -> Iterator[ToolReferencePart]:
        for tool in loaded_by(part)[0]:
            if isinstance(tool, HostedTool):
                self._changes.append(
                    Change("drop", tool.path, f"{tool.type} is run by its own provider alone")
                )
                continue
            name = _flat_name(self._flat, tool.namespace, tool.name)
            self.found.add(name)
            yield ToolReferencePart(name, at=Place(tool.path))


def _arguments(raw: msgspec.Raw) -> str:
    """The arguments as text: here they may be any JSON value."""
    text = bytes(raw).decode()
    return decode_member(raw, str, path="arguments") if text.startswith('"') else text


def _flat_name(flat: dict[tuple[str, str], str], namespace: str | None, name: str) -> str:
    if namespace is None:
        return name
    return flat.get((namespace, name)) or qualified(namespace, name)


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


def _strip_tool(
    tool: AnyTool, flat: dict[tuple[str, str], str], found: set[str], changes: list[Change]
) -> AnyTool:
    """The tool outside its namespace. One is deferred only where a search of the client loads it:
    what a search of the provider would find has to be there.
    """
    if isinstance(tool, HostedTool):
        function = search_function(tool)
        if function is not None:
            changes.append(Change("lower", tool.path, "the client's search for tools is sent as a function"))
        return function or tool
    name = _flat_name(flat, tool.namespace, tool.name)
    is_deferred = tool.loaded and name in found
    if tool.deferred and not is_deferred:
        changes.append(Change("lower", f"{tool.path}.defer_loading", PRESENT))
    return msgspec.structs.replace(tool, name=name, namespace=None, deferred=is_deferred)


def _strip_choice(choice: ToolChoice | None, names: dict[str, str]) -> ToolChoice | None:
    if choice is None or not names:
        return choice
    return msgspec.structs.replace(choice, names=tuple(names.get(name, name) for name in choice.names))


def _strip_message(
    message: Message, flat: dict[tuple[str, str], str], changes: list[Change]
) -> Message | None:
    parts: list[Part] = []
    for part in message.parts:
        match part:
            case ForeignPart(type="additional_tools"):
                changes.append(Change("move", str(part.at), "its tools are sent with those of the request"))
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
                name = _flat_name(flat, part.namespace, part.name)
                parts.append(msgspec.structs.replace(part, name=name, namespace=None))
            case _:
                parts.append(part)
    if message.parts and not parts:
        return None
    return msgspec.structs.replace(message, parts=tuple(parts), phase=None)
