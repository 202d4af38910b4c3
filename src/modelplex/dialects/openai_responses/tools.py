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
from modelplex.core.request import AnyTool, ChatRequest, FreeformTool, HostedTool, Tool, ToolChoice
from modelplex.dialects.core.fields import FieldValues
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.members import decode_member
from modelplex.dialects.openai_responses.constants import DIALECT

_FUNCTION_MEMBERS = frozenset("type name description parameters strict".split())
_CUSTOM_MEMBERS = frozenset("type name description format".split())
_CUSTOM_PATHS = {"syntax": "format.syntax", "definition": "format.definition"}
_CHOOSABLE = frozenset({"function", "custom"})


class _Format(msgspec.Struct):
    type: str = "text"
    syntax: str | None = None
    definition: str | None = None


class _Tool(msgspec.Struct):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None
    format: _Format | None = None
    tools: list[msgspec.Raw] | None = None


class _Choosable(msgspec.Struct):
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
    tools: list[AnyTool] = []
    namespaces: dict[str, str] = {}
    for n, raw in enumerate(values.decode("tools", list[msgspec.Raw]) or []):
        path = f"tools[{n}]"
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
            extra=_rest(raw, _FUNCTION_MEMBERS, path=path),
            path=path,
        )
    if given.type == "custom":
        grammar = given.format if given.format is not None and given.format.type == "grammar" else _Format()
        return FreeformTool(
            _name_of(given, path=path),
            given.description,
            syntax=grammar.syntax,
            definition=grammar.definition,
            namespace=namespace,
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


# --- written --------------------------------------------------------------------------------------

Written = dict[str, Any] | msgspec.Raw


def write_tools(call: ChatRequest, write: Callable[[AnyTool], Written]) -> list[Written]:
    """The tools as `write` writes each, in their namespaces."""
    written: list[Written] = []
    groups: dict[str, list[Written]] = {}
    for tool in call.tools:
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
    return {**written, "parameters": tool.parameters, "strict": tool.strict}


def write_custom(tool: FreeformTool, name: str) -> dict[str, Any]:
    written: dict[str, Any] = {"type": "custom", "name": name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.definition is not None:
        written["format"] = {"type": "grammar", "syntax": tool.syntax, "definition": tool.definition}
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
