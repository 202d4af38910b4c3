"""The tools of a Responses request and the choice among them, read and written.

Above it stand the files of openai_responses; below it the vocabulary. Tools are flat here
(docs/reference/translation.md#tools-and-tool-choice) and may stand in namespaces, which are taken
apart when they are read and put together again when they are written. What is written goes to
providers, and back to clients as the echo of what they asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import AnyTool, ChatRequest, FreeformTool, HostedTool, Tool, ToolChoice
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.members import RequestMembers, decode_member
from modelplex.dialects.openai_responses.constants import DIALECT

_FUNCTION_MEMBERS = frozenset("type name description parameters strict".split())
_CUSTOM_MEMBERS = frozenset("type name description format".split())
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
    def word(self) -> str | None:
        """What a choice calls it: its name, or its type where it has none or names something else
        by it.
        """
        return self.name if self.type in _CHOOSABLE else self.type


def read_tools(members: RequestMembers) -> tuple[tuple[AnyTool, ...], dict[str, str]]:
    """The tools in order, each with the namespace that it stood in, and what the namespaces are
    for.
    """
    tools: list[AnyTool] = []
    namespaces: dict[str, str] = {}
    for n, raw in enumerate(members.get("tools", list[msgspec.Raw]) or []):
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
        )
    return HostedTool(DIALECT, given.type, raw)


def _rest(raw: msgspec.Raw, known: frozenset[str], *, path: str) -> dict[str, msgspec.Raw]:
    members = decode_member(raw, dict[str, msgspec.Raw], path=path)
    return {name: value for name, value in members.items() if name not in known and is_given(value)}


def read_choice(members: RequestMembers) -> ToolChoice | None:
    """`tool_choice`. One that is not of functions and custom tools alone rides along too, since its
    words do not hold all of it.
    """
    raw = members.unread("tool_choice")
    if raw is None:
        return None
    if bytes(raw).lstrip().startswith(b'"'):
        word = decode_member(raw, str, path="tool_choice")
        if word in {"none", "auto", "required"}:
            return ToolChoice(cast("Any", word))
        raise BadRequest(
            '\'tool_choice\' must be "none", "auto", "required", or name a tool.', param="tool_choice"
        )
    given = decode_member(raw, _Choosable, path="tool_choice")
    chosen = [given] if given.type != "allowed_tools" else given.tools or []
    if any(each.type not in _CHOOSABLE for each in chosen):
        members.keep("tool_choice")
    names = tuple(each.word for each in chosen)
    if None in names or not names:
        raise BadRequest("'tool_choice' names no tool.", param="tool_choice")
    words = cast("tuple[str, ...]", names)
    if given.type != "allowed_tools":
        return ToolChoice("named", words)
    return ToolChoice("subset", words, required=given.mode == "required")


# --- written --------------------------------------------------------------------------------------

Written = dict[str, Any] | msgspec.Raw


def write_tools(call: ChatRequest, write: Callable[[AnyTool, str], Written | None]) -> list[Written]:
    """The tools as `write` says each of them (it is given the tool and its place, and None leaves
    one out), in their namespaces.
    """
    written: list[Written] = []
    groups: dict[str, list[Written]] = {}
    for n, tool in enumerate(call.tools):
        told = write(tool, f"tools[{n}]")
        namespace = None if isinstance(tool, HostedTool) else tool.namespace
        if told is None:
            continue
        if namespace is None:
            written.append(told)
            continue
        if namespace not in groups:
            inside = groups[namespace] = []
            described = {"description": call.namespaces.get(namespace, ""), "tools": inside}
            written.append({"type": "namespace", "name": namespace, **described})
        groups[namespace].append(told)
    return written


def write_function(tool: Tool, name: str) -> dict[str, Any]:
    """`parameters` and `strict` are always there, null where nothing was said."""
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
    """The choice; `free` are the tools, as asked, that are custom ones."""
    if choice.mode in {"none", "auto", "required"}:
        return choice.mode
    customs = set(free)
    named = [
        {"type": "custom" if name in customs else "function", "name": name_of(name)} for name in choice.names
    ]
    if choice.mode == "named":
        return named[0]
    return {"type": "allowed_tools", "mode": "required" if choice.required else "auto", "tools": named}
