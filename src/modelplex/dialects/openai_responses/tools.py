"""Reads and writes the tools of a Responses request and the choice among them.

A namespace is a tool that holds tools. They are read as a flat list, each with its namespace, and
grouped again when they are written (docs/reference/translation.md#tools-and-tool-choice). What is
written goes to providers, and back to clients in the response object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    AnyTool,
    ChatRequest,
    ForeignPart,
    FreeformTool,
    HostedTool,
    Message,
    Part,
    Tool,
    ToolChoice,
)
from modelplex.dialects.core.fields import FieldValues
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.members import decode_member
from modelplex.dialects.core.tool_names import digest, qualified
from modelplex.dialects.openai_responses.constants import DIALECT, LOADS_TOOLS

_FUNCTION_MEMBERS = frozenset("type name description parameters strict defer_loading".split())
_CUSTOM_MEMBERS = frozenset("type name description format defer_loading".split())
_FUNCTION_PATHS = {"deferred": "defer_loading"}
_CUSTOM_PATHS = {"syntax": "format.syntax", "definition": "format.definition", **_FUNCTION_PATHS}
_CHOOSABLE = frozenset({"function", "custom"})


class _Format(msgspec.Struct, gc=False):
    type: str = "text"
    syntax: str | None = None
    definition: str | None = None


class _Tool(msgspec.Struct, gc=False):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None
    format: _Format | None = None
    tools: list[msgspec.Raw] | None = None
    defer_loading: bool | None = None


class _Loading(msgspec.Struct, gc=False):
    """An item that defines tools."""

    tools: list[msgspec.Raw] | None = None


class _Choosable(msgspec.Struct, gc=False):
    type: str = "function"
    name: str | None = None
    mode: str = "auto"
    tools: list[_Choosable] | None = None

    @property
    def chosen(self) -> str | None:
        """The name of a function or custom tool; of others the type."""
        return self.name if self.type in _CHOOSABLE else self.type


def read_tools(values: FieldValues) -> tuple[tuple[AnyTool, ...], dict[str, str]]:
    """The tools in order, each with its namespace, and the namespaces with their descriptions."""
    return _read_list(values.decode("tools", list[msgspec.Raw]) or [], within="tools")


def loaded_by(item: ForeignPart) -> tuple[tuple[AnyTool, ...], dict[str, str]]:
    """The tools that an item of the conversation defines, as `read_tools` gives those of the
    request. Raises BadRequest.
    """
    given = decode_member(item.raw, _Loading, path=item.at).tools or []
    tools, namespaces = _read_list(given, within=f"{item.at}.tools")
    return tuple(msgspec.structs.replace(tool, loaded=True) for tool in tools), namespaces


def with_loaded_tools(
    tools: tuple[AnyTool, ...], namespaces: dict[str, str], messages: Iterable[Message]
) -> tuple[tuple[AnyTool, ...], dict[str, str]]:
    """The tools and namespaces of the request with those that items define, each once: a search may
    find a tool again.
    """
    given = [*tools]
    known = {key for tool in tools if (key := _key(tool)) is not None}
    for item in (part for message in messages for part in message.parts if _loads_tools(part)):
        loaded, described = loaded_by(cast("ForeignPart", item))
        namespaces = {**described, **namespaces}
        for tool in loaded:
            key = _key(tool)
            if key is None:
                given.append(tool)
            elif key not in known:
                given.append(tool)
                known.add(key)
    return tuple(given), namespaces


def _loads_tools(part: Part) -> bool:
    return isinstance(part, ForeignPart) and part.type in LOADS_TOOLS


def _key(tool: AnyTool) -> tuple[str | None, str] | None:
    return None if isinstance(tool, HostedTool) else (tool.namespace, tool.name)


def _read_list(raws: list[msgspec.Raw], *, within: str) -> tuple[tuple[AnyTool, ...], dict[str, str]]:
    tools: list[AnyTool] = []
    namespaces: dict[str, str] = {}
    for n, raw in enumerate(raws):
        path = f"{within}[{n}]"
        given = decode_member(raw, _Tool, path=path)
        if given.type != "namespace":
            tools.append(_read_tool(given, raw, None, path=path))
            continue
        name = _name_of(given, path=path)
        namespaces[name] = given.description or ""
        for m, inner in enumerate(given.tools or []):
            place = f"{path}.tools[{m}]"
            tools.append(_read_tool(decode_member(inner, _Tool, path=place), inner, name, path=place))
    return tuple(tools), namespaces


def _name_of(given: _Tool, *, path: str) -> str:
    if not given.name:
        raise BadRequest(f"'{path}.name' is missing.", param=f"{path}.name")
    return given.name


def _read_tool(given: _Tool, raw: msgspec.Raw, namespace: str | None, *, path: str) -> AnyTool:
    if given.type == "function":
        return Tool(
            _name_of(given, path=path),
            given.description,
            parameters=given.parameters if is_given(given.parameters) else None,
            strict=given.strict,
            namespace=namespace,
            deferred=given.defer_loading or False,
            extra=_rest(raw, _FUNCTION_MEMBERS, path=path),
            path=path,
            members=_FUNCTION_PATHS,
        )
    if given.type == "custom":
        grammar = given.format if given.format is not None and given.format.type == "grammar" else _Format()
        return FreeformTool(
            _name_of(given, path=path),
            given.description,
            syntax=grammar.syntax,
            definition=grammar.definition,
            namespace=namespace,
            deferred=given.defer_loading or False,
            extra=_rest(raw, _CUSTOM_MEMBERS, path=path),
            path=path,
            members=_CUSTOM_PATHS,
        )
    return HostedTool(DIALECT, given.type, raw, path=path)


def _rest(raw: msgspec.Raw, known: frozenset[str], *, path: str) -> dict[str, msgspec.Raw]:
    members = decode_member(raw, dict[str, msgspec.Raw], path=path)
    return {name: value for name, value in members.items() if name not in known and is_given(value)}


def read_choice(values: FieldValues) -> ToolChoice | None:
    """`tool_choice`. A choice of hosted tools rides along too, since a ToolChoice holds only their
    types.
    """
    raw = values.take("tool_choice")
    if raw is None:
        return None
    if bytes(raw).lstrip().startswith(b'"'):
        mode = decode_member(raw, str, path="tool_choice")
        if mode in {"none", "auto", "required"}:
            return ToolChoice(cast("Any", mode))
        raise BadRequest(
            '\'tool_choice\' must be "none", "auto", "required", or name a tool.', param="tool_choice"
        )
    given = decode_member(raw, _Choosable, path="tool_choice")
    chosen = [given] if given.type != "allowed_tools" else given.tools or []
    if any(each.type not in _CHOOSABLE for each in chosen):
        values.extra["tool_choice"] = raw
    names = tuple(each.chosen for each in chosen)
    if None in names or not names:
        raise BadRequest("'tool_choice' names no tool.", param="tool_choice")
    chosen_names = cast("tuple[str, ...]", names)
    if given.type != "allowed_tools":
        return ToolChoice("named", chosen_names)
    return ToolChoice("subset", chosen_names, required=given.mode == "required")


def flat_names(tools: Iterable[AnyTool]) -> dict[tuple[str, str], str]:
    """The name of each tool of a namespace where there are no namespaces, by namespace and name.
    Where two would have one name, the later one gets a digest of both of its own.
    """
    taken = {tool.name for tool in tools if not isinstance(tool, HostedTool) and tool.namespace is None}
    names: dict[tuple[str, str], str] = {}
    for tool in tools:
        if isinstance(tool, HostedTool) or tool.namespace is None:
            continue
        name = qualified(tool.namespace, tool.name)
        if name in taken:
            name = f"{name}_{digest(f'{tool.namespace}.{tool.name}')}"
        taken.add(name)
        names[tool.namespace, tool.name] = name
    return names


# --- written --------------------------------------------------------------------------------------

Written = dict[str, Any] | msgspec.Raw


def write_tools(call: ChatRequest, write: Callable[[AnyTool], Written]) -> list[Written]:
    """The tools of the request as `write` writes each, in their namespaces. Those that an item
    defines stay there.
    """
    written: list[Written] = []
    groups: dict[str, list[Written]] = {}
    for tool in call.tools:
        is_deferred = not isinstance(tool, HostedTool) and tool.deferred
        if tool.loaded if call.dialect == DIALECT else is_deferred:
            continue
        entry = write(tool)
        namespace = None if isinstance(tool, HostedTool) else tool.namespace
        if namespace is None:
            written.append(entry)
            continue
        if namespace not in groups:
            inside = groups[namespace] = []
            described = {"description": call.namespaces.get(namespace, ""), "tools": inside}
            written.append({"type": "namespace", "name": namespace, **described})
        groups[namespace].append(entry)
    return written


def write_function(tool: Tool, name: str) -> dict[str, Any]:
    """`parameters` and `strict` are always there, null where they are not set."""
    written: dict[str, Any] = {"type": "function", "name": name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.deferred:
        written["defer_loading"] = True
    return {**written, "parameters": tool.parameters, "strict": tool.strict}


def write_custom(tool: FreeformTool, name: str) -> dict[str, Any]:
    written: dict[str, Any] = {"type": "custom", "name": name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.definition is not None:
        written["format"] = {"type": "grammar", "syntax": tool.syntax, "definition": tool.definition}
    if tool.deferred:
        written["defer_loading"] = True
    return written


def write_choice(choice: ToolChoice, free: Iterable[str], name_of: Callable[[str], str]) -> object:
    """The choice. `free` are the names of custom tools."""
    if choice.mode in {"none", "auto", "required"}:
        return choice.mode
    customs = set(free)
    named = [
        {"type": "custom" if name in customs else "function", "name": name_of(name)} for name in choice.names
    ]
    if choice.mode == "named":
        return named[0]
    return {"type": "allowed_tools", "mode": "required" if choice.required else "auto", "tools": named}
