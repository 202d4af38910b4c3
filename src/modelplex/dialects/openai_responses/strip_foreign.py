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
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolReferencePart,
    ToolResultPart,
)
from modelplex.dialects.core.deferred_tools import PRESENT
from modelplex.dialects.core.members import without_empty
from modelplex.dialects.core.tool_names import qualified
from modelplex.dialects.core.tool_results import joined_results
from modelplex.dialects.openai_responses.client_tools import (
    CALLS,
    OUTPUTS,
    ClientTools,
    TypedItem,
    id_of,
    is_of_container,
    read_item,
    result_text,
)
from modelplex.dialects.openai_responses.constants import (
    COMPACTED,
    ENCRYPTED,
    INERT,
    LOGPROBS,
    SEARCH,
    STATEFUL,
)
from modelplex.dialects.openai_responses.tools import flat_names, loaded_by

_BENIGN: dict[str, frozenset[str]] = {"include": frozenset({ENCRYPTED, LOGPROBS})}
_SILENT = ("stream_options.", "tool_choice")
"""Members that ride along beside what was read of them, and options of a stream of this dialect."""
AS_FUNCTION = "a typed tool that the client runs is sent as a function"
_DISABLED = b'"disabled"'
"""What `truncation` says where it asks for nothing."""


def strip(call: ChatRequest) -> tuple[ChatRequest, tuple[Change, ...]]:
    """The request as every dialect can express it, and what it lost. Raises Unsupported naming what
    is stored at a provider.
    """
    changes: list[Change] = []
    extra = _strip_members(call)
    flat = flat_names(call.tools)
    typed = ClientTools(call.tools)
    items = _TypedItems(typed, flat, changes)
    messages = tuple(
        kept
        for message in call.messages
        if (kept := _strip_message(items.lower(message), flat, changes)) is not None
    )
    tools = _strip_tools(call.tools, flat, typed, items.found, changes)
    names = {name: sent for (_, name), sent in flat.items()}
    for tool in call.tools:
        if not isinstance(tool, HostedTool) and tool.namespace is None:
            names.pop(tool.name, None)
    if "tool_choice" in call.extra:  # it is of a typed tool
        names |= {kind: name for kind, name in typed.names.items() if name in typed.offered}
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
        tools=tools,
        namespaces={},
        choice=_strip_choice(call.choice, names),
        extra=extra,
    )
    return left, tuple(changes)


class _TypedItems:
    """Expresses the calls of typed tools that the client ran as calls of functions, and their
    outputs as results; the output of a search for tools refers to each tool. `found` are the names
    of those.
    """

    def __init__(self, tools: ClientTools, flat: dict[tuple[str, str], str], changes: list[Change]) -> None:
        self.found: set[str] = set()
        self._tools = tools
        self._flat = flat
        self._changes = changes

    def lower(self, message: Message) -> Message:
        if not any(isinstance(part, ForeignPart) for part in message.parts):
            return message
        parts = tuple(self._part(part) for part in message.parts)
        if len(parts) == 1 and isinstance(parts[0], ToolResultPart):
            return msgspec.structs.replace(message, role="tool", parts=parts)
        return msgspec.structs.replace(message, parts=parts)

    def _part(self, part: Part) -> Part:
        if not isinstance(part, ForeignPart) or part.type not in CALLS.keys() | OUTPUTS.keys():
            return part
        tool = CALLS.get(part.type) or OUTPUTS[part.type]
        item, name = read_item(part), self._tools.names[tool.type]
        if (call_id := id_of(item)) is None or not self._is_clients(tool.type, item):
            return part
        if part.type == tool.call:
            return ToolCallPart(call_id, name, tool.arguments(item), at=part.at)
        if tool.type == SEARCH:
            return ToolResultPart(call_id, tuple(self._references(part)), name=name, at=part.at)
        text, is_error = result_text(item)
        answer = TextPart(text, at=Place(part.at, ".output"))
        return ToolResultPart(call_id, (answer,), name=name, is_error=is_error, at=part.at)

    def _is_clients(self, kind: str, item: TypedItem) -> bool:
        """Whether the client ran it, and no provider."""
        if kind != SEARCH:
            return not is_of_container(item)
        return item.execution == "client" or (item.execution is None and self._tools.searches())

    def _references(self, part: ForeignPart) -> Iterator[ToolReferencePart]:
        for tool in loaded_by(part)[0]:
            if isinstance(tool, HostedTool) and (function := self._tools.function(tool)) is not None:
                self.found.add(function.name)
                yield ToolReferencePart(function.name, at=Place(tool.path))
                continue
            if isinstance(tool, HostedTool):
                self._changes.append(
                    Change("drop", tool.path, f"{tool.type} is run by its own provider alone")
                )
                continue
            name = _flat_name(self._flat, tool.namespace, tool.name)
            self.found.add(name)
            yield ToolReferencePart(name, at=Place(tool.path))


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


def _strip_tools(
    tools: tuple[AnyTool, ...],
    flat: dict[tuple[str, str], str],
    typed: ClientTools,
    found: set[str],
    changes: list[Change],
) -> tuple[AnyTool, ...]:
    """The tools outside their namespaces; a typed one that the client runs is a function, once."""
    stripped: list[AnyTool] = []
    functions: set[str] = set()
    for tool in tools:
        function = typed.function(tool) if isinstance(tool, HostedTool) else None
        if function is None:
            stripped.append(_strip_tool(tool, flat, found, changes))
        elif function.name in functions:
            changes.append(Change("drop", tool.path, "the tool is offered twice"))
        else:
            functions.add(function.name)
            changes.append(Change("lower", tool.path, AS_FUNCTION))
            stripped.append(_strip_tool(function, flat, found, changes))
    return tuple(stripped)


def _strip_tool(
    tool: AnyTool, flat: dict[tuple[str, str], str], found: set[str], changes: list[Change]
) -> AnyTool:
    """The tool outside its namespace. One is deferred only where a search of the client loads it:
    what a search of the provider would find has to be there.
    """
    if isinstance(tool, HostedTool):
        return tool
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
