"""A chat completions request, understood: its bytes into a Call.

Above it stands openai_chat; below it the vocabulary. It reads what OpenAI's own clients send
(docs/reference/wire-formats.md#chat-completions), what clients of compatible servers
add to it, and the forms that came before: `functions`, `function_call`, `max_tokens`. What has no
place in a Call rides along unread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, get_args

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    AnyTool,
    CacheBreakpoint,
    ChatRequest,
    Effort,
    FreeformTool,
    HostedTool,
    RawRequest,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Tool,
    ToolChoice,
)
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.ledger import part_paths
from modelplex.dialects.core.members import RequestMembers, decode_member, keep_stream_options, read_stop
from modelplex.dialects.openai_chat.fields import PATHS
from modelplex.dialects.openai_chat.messages_in import DIALECT, ChatCacheControl, read_cache, read_messages

_EFFORTS = frozenset(get_args(Effort))
# --- the shapes -----------------------------------------------------------------------------------


class _FunctionTool(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


class _Grammar(msgspec.Struct):
    definition: str
    syntax: str


class _CustomFormat(msgspec.Struct):
    type: str
    grammar: _Grammar | None = None


class _CustomTool(msgspec.Struct):
    name: str
    description: str | None = None
    format: _CustomFormat | None = None


class _Tool(msgspec.Struct):
    type: str
    function: _FunctionTool | None = None
    custom: _CustomTool | None = None
    cache_control: ChatCacheControl | None = None


class _Named(msgspec.Struct):
    name: str


class _NamedTool(msgspec.Struct):
    type: str = "function"
    function: _Named | None = None
    custom: _Named | None = None


class _AllowedTools(msgspec.Struct):
    tools: list[_NamedTool]
    mode: str = "auto"


class _ToolChoice(msgspec.Struct):
    type: str = "function"
    function: _Named | None = None
    custom: _Named | None = None
    allowed_tools: _AllowedTools | None = None


class _JsonSchema(msgspec.Struct):
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


class _ResponseFormat(msgspec.Struct):
    type: str
    json_schema: _JsonSchema | None = None


class _ReasoningObject(msgspec.Struct):
    effort: str | None = None
    max_tokens: int | None = None
    exclude: bool | None = None
    enabled: bool | None = None
    summary: str | None = None


class _ThinkingObject(msgspec.Struct):
    type: str
    budget_tokens: int | None = None
    display: str | None = None


def read_call(ask: RawRequest) -> ChatRequest:
    """The whole request, understood. Raises BadRequest with `param` like
    "messages[2].content[0].image_url".
    """
    members = RequestMembers(ask.fields)
    messages = members.unread("messages")
    if messages is None:
        raise BadRequest("The body has no 'messages'.", param="messages")
    old = "functions" in ask.fields and is_given(ask.fields["functions"])
    max_tokens = members.get("max_tokens", int)
    longest = members.get("max_completion_tokens", int)
    user, user_field = _read_user(members)
    reasoning = _read_reasoning(members)
    tools = _read_tools(members)
    choice = _read_choice(members)
    control = members.get("cache_control", ChatCacheControl)
    keep_stream_options(members)
    return ChatRequest(
        dialect=DIALECT,
        model=ask.model,
        messages=(conversation := read_messages(messages)),
        tools=tools,
        choice=choice,
        parallel=members.get("parallel_tool_calls", bool),
        max_tokens=max_tokens if longest is None else longest,
        sampling=_read_sampling(members),
        format=_read_format(members),
        verbosity=members.get("verbosity", str),
        reasoning=reasoning,
        cache=None if control is None else CacheBreakpoint(control.ttl),
        cache_key=members.get("prompt_cache_key", str),
        user=user,
        user_field=user_field,
        old_functions=old,
        metadata=members.unread("metadata"),
        tier=members.get("service_tier", str),
        stream=ask.stream,
        include_usage=ask.include_usage,
        extra=members.rest(),
        paths=_paths(ask.fields) | part_paths(conversation),
    )


def _paths(fields: Mapping[str, msgspec.Raw]) -> dict[str, str]:
    """Where the leaves stand in this body: some have more than one member."""
    given = {name for name, value in fields.items() if is_given(value)}
    paths = dict(PATHS)
    if "max_completion_tokens" in given:
        paths["max_tokens"] = "max_completion_tokens"
    if "safety_identifier" in given:
        paths["user"] = "safety_identifier"
    if "function_call" in given and "tool_choice" not in given:
        paths["choice"] = "function_call"
    if "reasoning_effort" not in given and (group := given & {"reasoning", "thinking"}):
        paths["reasoning"] = min(group)
        paths["reasoning.effort"] = f"{min(group)}.effort"
    if "thinking" in given and "reasoning" not in given:
        members = {"budget": "budget_tokens", "mode": "type", "show": "display"}
        paths |= {f"reasoning.{leaf}": f"thinking.{member}" for leaf, member in members.items()}
    return paths


def _read_user(members: RequestMembers) -> tuple[str | None, str]:
    user = members.get("user", str)
    safety = members.get("safety_identifier", str)
    if safety is None:
        return user, "user"
    if user is not None and user != safety:
        members.keep("user")
    return safety, "safety_identifier"


def _read_sampling(members: RequestMembers) -> Sampling:
    n = members.get("n", int)
    if n is not None and n < 1:
        raise BadRequest("'n' must be at least 1.", param="n")
    return Sampling(
        temperature=members.get("temperature", float),
        top_p=members.get("top_p", float),
        top_k=members.get("top_k", int),
        min_p=members.get("min_p", float),
        seed=members.get("seed", int),
        presence_penalty=members.get("presence_penalty", float),
        frequency_penalty=members.get("frequency_penalty", float),
        logit_bias=members.unread("logit_bias"),
        logprobs=members.get("logprobs", bool) or False,
        top_logprobs=members.get("top_logprobs", int),
        n=n or 1,
        stop=read_stop(members),
    )


def _read_format(members: RequestMembers) -> ResponseFormat | None:
    given = members.get("response_format", _ResponseFormat)
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
    asked = given.json_schema
    return ResponseFormat(
        "schema",
        schema=asked.schema if is_given(asked.schema) else None,
        name=asked.name,
        description=asked.description,
        strict=asked.strict,
    )


def _read_effort(given: str | None, *, path: str) -> Effort | None:
    if given is None:
        return None
    if given not in _EFFORTS:
        raise BadRequest(f"'{path}' must be one of {', '.join(get_args(Effort))}.", param=path)
    return cast("Effort", given)


def _read_reasoning(members: RequestMembers) -> ReasoningOptions | None:
    """`reasoning_effort`, OpenRouter's `reasoning` object, DeepSeek's and Anthropic's `thinking`
    object.
    """
    effort = _read_effort(members.get("reasoning_effort", str), path="reasoning_effort")
    given = members.get("reasoning", _ReasoningObject)
    thinking = members.get("thinking", _ThinkingObject)
    if effort is None and given is None and thinking is None:
        return None
    budget, mode, show = None, None, None
    if given is not None:
        effort = effort or _read_effort(given.effort, path="reasoning.effort")
        budget = given.max_tokens
        show = "omitted" if given.exclude else given.summary
        if given.enabled is not None and effort is None and budget is None:
            mode = "enabled" if given.enabled else "disabled"
    if thinking is not None:
        mode = thinking.type
        budget = budget or thinking.budget_tokens
        show = show or thinking.display
    return ReasoningOptions(effort=effort, budget=budget, mode=mode, show=show)


# --- tools ----------------------------------------------------------------------------------------


def _read_tools(members: RequestMembers) -> tuple[AnyTool, ...]:
    raws = members.get("tools", list[msgspec.Raw]) or []
    tools = [_read_tool(raw, path=f"tools[{n}]") for n, raw in enumerate(raws)]
    old = members.get("functions", list[_FunctionTool]) or []
    return (*tools, *(_function_tool(each) for each in old))


def _read_tool(raw: msgspec.Raw, *, path: str) -> AnyTool:
    tool = decode_member(raw, _Tool, path=path)
    if tool.type == "function":
        if tool.function is None:
            raise BadRequest(f"'{path}.function' is missing.", param=f"{path}.function")
        return _function_tool(tool.function, cache=read_cache(tool.cache_control, None))
    if tool.type == "custom" and tool.custom is not None:
        custom = tool.custom
        grammar = custom.format.grammar if custom.format is not None else None
        return FreeformTool(
            custom.name,
            custom.description,
            syntax=grammar.syntax if grammar else None,
            definition=grammar.definition if grammar else None,
        )
    return HostedTool(DIALECT, tool.type, raw)


def _function_tool(function: _FunctionTool, *, cache: CacheBreakpoint | None = None) -> Tool:
    return Tool(
        function.name,
        function.description,
        parameters=function.parameters if is_given(function.parameters) else None,
        strict=function.strict,
        cache=cache,
    )


def _read_choice(members: RequestMembers) -> ToolChoice | None:
    for name in ("tool_choice", "function_call"):
        raw = members.unread(name)
        if raw is None:
            continue
        if bytes(raw).lstrip().startswith(b'"'):
            word = decode_member(raw, str, path=name)
            if word in {"none", "auto", "required"}:
                return ToolChoice(cast("Any", word))
            raise BadRequest(f'\'{name}\' must be "none", "auto", "required", or name a tool.', param=name)
        if name == "function_call":
            return ToolChoice("named", (decode_member(raw, _Named, path=name).name,))
        return _read_choice_object(decode_member(raw, _ToolChoice, path=name))
    return None


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
