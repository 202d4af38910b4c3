"""A Messages request, understood: its bytes into a Call.

Above it stands `anthropic_messages`; below it `anthropic.messages_in`, which reads the
conversation, and the vocabulary. Here are the tools, the choice among them, and the controls
(docs/reference/wire-formats.md#messages). What has no place in a Call rides along unread, members
of an object under a path: "output_config.task_budget".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, get_args

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    AnyTool,
    ChatRequest,
    Effort,
    HostedTool,
    RawRequest,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Tool,
    ToolChoice,
)
from modelplex.dialects.anthropic.fields import PATHS
from modelplex.dialects.anthropic.messages_in import (
    AnthropicCacheControl,
    read_cache,
    read_messages,
    read_system,
)
from modelplex.dialects.anthropic.messages_out import DIALECT
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.members import RequestMembers, decode_member

_EFFORTS = frozenset(get_args(Effort))
_MODES = frozenset({"adaptive", "enabled", "disabled", "between_tools"})
_TOOL_MEMBERS = frozenset({"type", "name", "description", "input_schema", "strict", "cache_control"})
_ABSENT = msgspec.Raw()

COUNTED = "messages/count_tokens"
"""The endpoint that is asked the same question with no answer wanted, so that no limit is due."""


class _Tool(msgspec.Struct):
    type: str | None = None
    name: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = _ABSENT
    strict: bool | None = None
    cache_control: AnthropicCacheControl | None = None


class _ToolChoice(msgspec.Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Format(msgspec.Struct):
    type: str
    schema: msgspec.Raw = _ABSENT


class _Thinking(msgspec.Struct):
    type: str
    budget_tokens: int | None = None
    display: str | None = None


def read_call(ask: RawRequest) -> ChatRequest:
    """The whole request, understood. Raises BadRequest with `param` like
    "messages[2].content[0].source.data".
    """
    members = RequestMembers(ask.fields)
    messages = members.unread("messages")
    if messages is None:
        raise BadRequest("The body has no 'messages'.", param="messages")
    extra: dict[str, msgspec.Raw] = {}
    max_tokens = members.get("max_tokens", int)
    if max_tokens is None and ask.endpoint != COUNTED:
        raise BadRequest("The body has no 'max_tokens': this form of a request needs it.", param="max_tokens")
    if max_tokens is not None and max_tokens < 0:
        raise BadRequest("'max_tokens' must be at least 0.", param="max_tokens")
    choice, parallel = _read_choice(members)
    effort, form = _read_output(members, extra)
    control = members.get("cache_control", AnthropicCacheControl)
    return ChatRequest(
        dialect=DIALECT,
        model=ask.model,
        messages=read_system(members.unread("system")) + read_messages(messages),
        tools=_read_tools(members),
        choice=choice,
        parallel=parallel,
        max_tokens=max_tokens,
        sampling=Sampling(
            temperature=members.get("temperature", float),
            top_p=members.get("top_p", float),
            top_k=members.get("top_k", int),
            stop=tuple(members.get("stop_sequences", list[str]) or ()),
        ),
        format=form,
        reasoning=_read_reasoning(members, effort, extra),
        cache=read_cache(control),
        user=_read_user(members, extra),
        tier=members.get("service_tier", str),
        stream=ask.stream,
        include_usage=True,  # an answer of this form always tells it
        extra=members.rest() | extra,
        paths=_paths(ask.fields),
    )


def _paths(fields: Mapping[str, msgspec.Raw]) -> dict[str, str]:
    """Where the leaves stand in this body: some have more than one member."""
    paths = dict(PATHS)
    if not is_given(fields.get("thinking", _ABSENT)):
        paths["reasoning"] = "output_config.effort"
    if is_given(fields.get("output_format", _ABSENT)):
        paths |= {"format": "output_format", "format.schema": "output_format.schema"}
    return paths


def _keep(members: dict[str, msgspec.Raw], *, of: str, but: set[str], extra: dict[str, msgspec.Raw]) -> None:
    """The members of an object that are not read here ride along."""
    extra |= {f"{of}.{name}": value for name, value in members.items() if name not in but and is_given(value)}


def _object(members: RequestMembers, name: str) -> dict[str, msgspec.Raw]:
    return members.get(name, dict[str, msgspec.Raw]) or {}


# --- tools ----------------------------------------------------------------------------------------


def _read_tools(members: RequestMembers) -> tuple[AnyTool, ...]:
    raws = members.get("tools", list[msgspec.Raw]) or []
    return tuple(_read_tool(raw, path=f"tools[{n}]") for n, raw in enumerate(raws))


def _read_tool(raw: msgspec.Raw, *, path: str) -> AnyTool:
    """A tool without a type is a client's function; one with a type is known to this dialect alone,
    whoever runs it.
    """
    tool = decode_member(raw, _Tool, path=path)
    if tool.type not in {None, "custom"}:
        return HostedTool(DIALECT, tool.type or "", raw, name=tool.name)
    if tool.name is None:
        raise BadRequest(f"'{path}.name' is missing.", param=f"{path}.name")
    whole = decode_member(raw, dict[str, msgspec.Raw], path=path)
    return Tool(
        tool.name,
        tool.description,
        parameters=tool.input_schema if is_given(tool.input_schema) else None,
        strict=tool.strict,
        cache=read_cache(tool.cache_control),
        extra={name: value for name, value in whole.items() if name not in _TOOL_MEMBERS and is_given(value)},
    )


def _read_choice(members: RequestMembers) -> tuple[ToolChoice | None, bool | None]:
    given = members.get("tool_choice", _ToolChoice)
    if given is None:
        return None, None
    parallel = False if given.disable_parallel_tool_use else None
    match given.type:
        case "auto" | "none" as mode:
            return ToolChoice(mode), parallel
        case "any":
            return ToolChoice("required"), parallel
        case "tool":
            if given.name is None:
                raise BadRequest("'tool_choice.name' is missing.", param="tool_choice.name")
            return ToolChoice("named", (given.name,)), parallel
        case kind:
            raise BadRequest(
                f"'tool_choice.type' is {kind!r}: it must be auto, any, tool or none.",
                param="tool_choice.type",
            )


# --- controls -------------------------------------------------------------------------------------


def _read_output(
    members: RequestMembers, extra: dict[str, msgspec.Raw]
) -> tuple[Effort | None, ResponseFormat | None]:
    """`output_config`; `output_format` is what its `format` was called before."""
    given = _object(members, "output_config")
    _keep(given, of="output_config", but={"effort", "format"}, extra=extra)
    effort = None
    if is_given(given.get("effort", _ABSENT)):
        path = "output_config.effort"
        effort = decode_member(given["effort"], str, path=path)
        if effort not in _EFFORTS:
            raise BadRequest(f"'{path}' must be one of {', '.join(get_args(Effort))}.", param=path)
    raw, path = given.get("format"), "output_config.format"
    older = members.unread("output_format")
    if raw is None and older is not None:
        raw, path = older, "output_format"
    return cast("Effort | None", effort), _read_format(raw, path)


def _read_format(raw: msgspec.Raw | None, path: str) -> ResponseFormat | None:
    if raw is None or not is_given(raw):
        return None
    given = decode_member(raw, _Format, path=path)
    if given.type != "json_schema" or not is_given(given.schema):
        raise BadRequest(f"'{path}' must be of type \"json_schema\", with a `schema`.", param=path)
    return ResponseFormat("schema", schema=given.schema)


def _read_reasoning(
    members: RequestMembers, effort: Effort | None, extra: dict[str, msgspec.Raw]
) -> ReasoningOptions | None:
    whole = _object(members, "thinking")
    if not whole:
        return None if effort is None else ReasoningOptions(effort=effort)
    given: _Thinking = decode_member(members.unread("thinking") or _ABSENT, _Thinking, path="thinking")
    if given.type not in _MODES:
        raise BadRequest(
            f"'thinking.type' is {given.type!r}: it must be one of {', '.join(sorted(_MODES))}.",
            param="thinking.type",
        )
    if given.type == "enabled" and given.budget_tokens is None:
        raise BadRequest("'thinking.budget_tokens' is missing.", param="thinking.budget_tokens")
    _keep(whole, of="thinking", but={"type", "budget_tokens", "display"}, extra=extra)
    return ReasoningOptions(effort=effort, budget=given.budget_tokens, mode=given.type, show=given.display)


def _read_user(members: RequestMembers, extra: dict[str, msgspec.Raw]) -> str | None:
    given = _object(members, "metadata")
    _keep(given, of="metadata", but={"user_id"}, extra=extra)
    user: Any = given.get("user_id", _ABSENT)
    return decode_member(user, str, path="metadata.user_id") if is_given(user) else None
