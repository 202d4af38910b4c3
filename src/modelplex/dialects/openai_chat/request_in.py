"""Reads a chat completions request: client body -> ChatRequest.

`fields.py` decodes plain values. Here are the members with a structure: tools and the choice among
them, the response format, and the forms before tools, `functions` and `function_call`. Messages are
read by `messages_in.py` (docs/reference/wire-formats.md#chat-completions).
"""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    AnyTool,
    CacheBreakpoint,
    ChatRequest,
    FreeformTool,
    HostedTool,
    RawRequest,
    ResponseFormat,
    Tool,
    ToolChoice,
)
from modelplex.dialects.core.fields import FieldValues
from modelplex.dialects.core.json import MALFORMED, is_given
from modelplex.dialects.core.members import decode_member, unknown_members
from modelplex.dialects.openai_chat.fields import FIELDS
from modelplex.dialects.openai_chat.messages_in import DIALECT, ChatCacheControl, read_cache, read_messages

_FUNCTION_MEMBERS = {name: f"function.{name}" for name in ("name", "description", "parameters", "strict")} | {
    "cache": "cache_control"
}
_CUSTOM_MEMBERS = {
    "name": "custom.name",
    "description": "custom.description",
    "syntax": "custom.format.grammar.syntax",
    "definition": "custom.format.grammar.definition",
}
_FORMAT_PATHS = {
    f"format.{name}": f"response_format.json_schema.{name}"
    for name in ("schema", "name", "description", "strict")
}
_MODES = frozenset({"none", "auto", "required"})


# --- the shapes -----------------------------------------------------------------------------------


class _Function(msgspec.Struct, gc=False):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


class _Grammar(msgspec.Struct, gc=False):
    definition: str
    syntax: str


class _CustomFormat(msgspec.Struct, gc=False):
    type: str
    grammar: _Grammar | None = None


class _CustomTool(msgspec.Struct, gc=False):
    name: str
    description: str | None = None
    format: _CustomFormat | None = None


class _Tool(msgspec.Struct, gc=False):
    type: str
    function: _Function | None = None
    custom: _CustomTool | None = None
    cache_control: ChatCacheControl | None = None


class _PlainFunction(_Function, forbid_unknown_fields=True):
    pass


class _PlainTool(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A function without members that are not known here."""

    type: Literal["function"]
    function: _PlainFunction
    cache_control: ChatCacheControl | None = None


class _Named(msgspec.Struct, gc=False):
    name: str


class _NamedTool(msgspec.Struct, gc=False):
    type: str = "function"
    function: _Named | None = None
    custom: _Named | None = None


class _AllowedTools(msgspec.Struct, gc=False):
    tools: list[_NamedTool]
    mode: str = "auto"


class _ToolChoice(msgspec.Struct, gc=False):
    type: str = "function"
    function: _Named | None = None
    custom: _Named | None = None
    allowed_tools: _AllowedTools | None = None


class _JsonSchema(msgspec.Struct, gc=False):
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


class _ResponseFormat(msgspec.Struct, gc=False):
    type: str
    json_schema: _JsonSchema | None = None


_decode_plain_tools = msgspec.json.Decoder(list[_PlainTool]).decode


def read_call(raw_request: RawRequest) -> ChatRequest:
    """The request. Raises BadRequest with `param` like "messages[2].content[0].image_url"."""
    values = FIELDS.read(raw_request.fields)
    messages = values.take("messages")
    if messages is None:
        raise BadRequest("The body has no 'messages'.", param="messages")
    _read_reasoning(values)
    conversation = read_messages(messages)
    functions = values.take("functions")
    tools = (*_read_tools(values.take("tools")), *_read_functions(functions))
    choice = _read_choice(values)
    form = _read_format(values)
    return ChatRequest(
        dialect=DIALECT,
        model=raw_request.model,
        messages=conversation,
        tools=tools,
        choice=choice,
        format=form,
        old_functions=functions is not None,
        stream=raw_request.stream,
        include_usage=raw_request.include_usage,
        **values.members(),
    )


def _read_format(values: FieldValues) -> ResponseFormat | None:
    given = values.decode("response_format", _ResponseFormat)
    if given is None:
        return None
    if given.type == "text":
        return ResponseFormat("text")
    if given.type == "json_object":
        return ResponseFormat("json")
    if given.type != "json_schema" or given.json_schema is None:
        path = "response_format.json_schema" if given.type == "json_schema" else "response_format.type"
        raise BadRequest(
            f'\'{path}\': expected "text", "json_object", or "json_schema" with a `json_schema`.', param=path
        )
    values.paths |= _FORMAT_PATHS
    form = given.json_schema
    return ResponseFormat(
        "schema",
        schema=form.schema if is_given(form.schema) else None,
        name=form.name,
        description=form.description,
        strict=form.strict,
    )


def _read_reasoning(values: FieldValues) -> None:
    """Two switches of OpenRouter's `reasoning` object."""
    if values.decode("reasoning.exclude", bool):
        values.set("reasoning.show", "omitted", path="reasoning.exclude")
    is_enabled = values.decode("reasoning.enabled", bool)
    is_told = any(values.get(f"reasoning.{leaf}") for leaf in ("effort", "budget", "mode"))
    if is_enabled is not None and not is_told:
        values.set("reasoning.mode", "enabled" if is_enabled else "disabled", path="reasoning.enabled")


# --- tools ----------------------------------------------------------------------------------------


def _read_tools(raw: msgspec.Raw | None) -> list[AnyTool]:
    if raw is None:
        return []
    try:
        plain = _decode_plain_tools(raw)
    except MALFORMED:
        raws = decode_member(raw, list[msgspec.Raw], path="tools")
        return [_read_tool(each, path=f"tools[{n}]") for n, each in enumerate(raws)]
    return [
        _function_tool(
            tool.function,
            path=f"tools[{n}]",
            members=_FUNCTION_MEMBERS,
            cache=read_cache(tool.cache_control, None),
        )
        for n, tool in enumerate(plain)
    ]


def _read_functions(raw: msgspec.Raw | None) -> list[Tool]:
    """`functions`, the form before `tools`."""
    raws = [] if raw is None else decode_member(raw, list[msgspec.Raw], path="functions")
    tools: list[Tool] = []
    for n, each in enumerate(raws):
        path = f"functions[{n}]"
        function = decode_member(each, _Function, path=path)
        extra = unknown_members(decode_member(each, dict[str, msgspec.Raw], path=path), _Function)
        tools.append(_function_tool(function, path=path, members={}, extra=extra))
    return tools


def _read_tool(raw: msgspec.Raw, *, path: str) -> AnyTool:
    tool = decode_member(raw, _Tool, path=path)
    if tool.type == "function":
        if tool.function is None:
            raise BadRequest(f"'{path}.function' is missing.", param=f"{path}.function")
        whole = decode_member(raw, dict[str, msgspec.Raw], path=path)
        inner = decode_member(whole["function"], dict[str, msgspec.Raw], path=path)
        return _function_tool(
            tool.function,
            path=path,
            members=_FUNCTION_MEMBERS,
            cache=read_cache(tool.cache_control, None),
            extra=unknown_members(whole, _Tool) | unknown_members(inner, _Function, within="function."),
        )
    if tool.type == "custom" and tool.custom is not None:
        custom = tool.custom
        grammar = custom.format.grammar if custom.format is not None else None
        whole = decode_member(raw, dict[str, msgspec.Raw], path=path)
        inner = decode_member(whole["custom"], dict[str, msgspec.Raw], path=path)
        return FreeformTool(
            custom.name,
            custom.description,
            syntax=grammar.syntax if grammar else None,
            definition=grammar.definition if grammar else None,
            extra=unknown_members(whole, _Tool) | unknown_members(inner, _CustomTool, within="custom."),
            path=path,
            members=_CUSTOM_MEMBERS,
        )
    return HostedTool(DIALECT, tool.type, raw, path=path)


def _function_tool(
    function: _Function,
    *,
    path: str,
    members: dict[str, str],
    cache: CacheBreakpoint | None = None,
    extra: dict[str, msgspec.Raw] | None = None,
) -> Tool:
    return Tool(
        function.name,
        function.description,
        parameters=function.parameters if is_given(function.parameters) else None,
        strict=function.strict,
        cache=cache,
        extra=extra or {},
        path=path,
        members=members,
    )


def _read_choice(values: FieldValues) -> ToolChoice | None:
    """`tool_choice`, or `function_call` of the form before it."""
    older = values.take("function_call")
    name, raw = "tool_choice", values.take("tool_choice")
    if raw is None:
        name, raw = "function_call", older
    if raw is None:
        return None
    if bytes(raw).lstrip().startswith(b'"'):
        mode = decode_member(raw, str, path=name)
        if mode in _MODES:
            return ToolChoice(cast("Any", mode))
        raise BadRequest(f'\'{name}\' must be "none", "auto", "required", or name a tool.', param=name)
    if name == "function_call":
        return ToolChoice("named", (decode_member(raw, _Named, path=name).name,))
    return _read_choice_object(decode_member(raw, _ToolChoice, path=name))


def _read_choice_object(given: _ToolChoice) -> ToolChoice:
    if given.type == "allowed_tools" and given.allowed_tools is not None:
        allowed = [tool.function or tool.custom for tool in given.allowed_tools.tools]
        names = tuple(each.name for each in allowed if each is not None)
        if len(names) < len(allowed):
            raise BadRequest(
                "'tool_choice.allowed_tools.tools' must name functions or custom tools.",
                param="tool_choice.allowed_tools.tools",
            )
        return ToolChoice("subset", names, required=given.allowed_tools.mode == "required")
    named = given.function or given.custom
    if named is None:
        raise BadRequest("'tool_choice' names no tool.", param="tool_choice")
    return ToolChoice("named", (named.name,))
