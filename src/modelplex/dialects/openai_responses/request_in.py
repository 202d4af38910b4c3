"""A Responses request, understood: its bytes into a Call; and a request with the items of earlier
ones put before its own.

Above it stands openai_responses; below it the vocabulary. It reads what OpenAI's own clients, Codex
among them, send (docs/reference/wire-formats.md#responses). What has no place in a Call rides along
unread, so that nothing is lost on the way to a provider of the same form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    ChatRequest,
    Effort,
    Message,
    RawRequest,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    TextPart,
)
from modelplex.dialects.core.json import MALFORMED, encode, is_given
from modelplex.dialects.core.members import RequestMembers, decode_member
from modelplex.dialects.openai_responses.constants import DIALECT, LOGPROBS
from modelplex.dialects.openai_responses.fields import PATHS
from modelplex.dialects.openai_responses.messages_in import read_input
from modelplex.dialects.openai_responses.tools import read_choice, read_tools

INSTRUCTIONS = "instructions"
"""The path of the message that `instructions` is read into: it is no item, and goes back to where
it came from.
"""

_EFFORTS = frozenset(get_args(Effort))


class _Format(msgspec.Struct):
    type: str
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


def read_call(ask: RawRequest) -> ChatRequest:
    """The whole request, understood. Raises BadRequest with `param` like
    "input[2].content[0].image_url".
    """
    members = RequestMembers(ask.fields)
    tools, namespaces = read_tools(members)
    text = members.get("text", _Text) or _Text()
    user, user_field = _read_user(members)
    return ChatRequest(
        dialect=DIALECT,
        model=ask.model,
        messages=_read_messages(members),
        tools=tools,
        namespaces=namespaces,
        choice=read_choice(members),
        parallel=members.get("parallel_tool_calls", bool),
        max_tokens=members.get("max_output_tokens", int),
        sampling=_read_sampling(members),
        format=None if text.format is None else _read_format(text.format),
        verbosity=text.verbosity,
        reasoning=_read_reasoning(members),
        cache_key=members.get("prompt_cache_key", str),
        user=user,
        user_field=user_field,
        metadata=members.unread("metadata"),
        tier=members.get("service_tier", str),
        stream=ask.stream,
        extra=members.rest(),
        paths=PATHS
        | {"user": user_field}
        | (
            {}
            if is_given(ask.fields.get("include", msgspec.Raw()))
            else {"sampling.logprobs": "top_logprobs"}
        ),
    )


def _read_messages(members: RequestMembers) -> tuple[Message, ...]:
    given = members.unread("input")
    instructions = members.get("instructions", str)
    if given is None and instructions is None:
        raise BadRequest("The body has no 'input'.", param="input")
    messages = [] if given is None else read_input(given)
    if instructions:
        messages.insert(0, Message("system", (TextPart(instructions),), path=INSTRUCTIONS))
    return tuple(messages)


def _read_user(members: RequestMembers) -> tuple[str | None, str]:
    user = members.get("user", str)
    safety = members.get("safety_identifier", str)
    if safety is None:
        return user, "user"
    if user is not None and user != safety:
        members.keep("user")
    return safety, "safety_identifier"


def _read_sampling(members: RequestMembers) -> Sampling:
    top = members.get("top_logprobs", int)
    include = members.get("include", list[str]) or []
    members.keep("include")
    return Sampling(
        temperature=members.get("temperature", float),
        top_p=members.get("top_p", float),
        logprobs=LOGPROBS in include or bool(top),
        top_logprobs=top,
    )


def _read_format(given: _Format) -> ResponseFormat:
    if given.type == "text":
        return ResponseFormat("text")
    if given.type == "json_object":
        return ResponseFormat("json")
    if given.type != "json_schema" or not is_given(given.schema):
        path = "text.format.schema" if given.type == "json_schema" else "text.format.type"
        raise BadRequest(
            f'\'{path}\': expected "text", "json_object", or "json_schema" with a `schema`.', param=path
        )
    return ResponseFormat(
        "schema",
        schema=given.schema,
        name=given.name,
        description=given.description,
        strict=given.strict,
    )


def _read_reasoning(members: RequestMembers) -> ReasoningOptions | None:
    given = members.get("reasoning", _Reasoning)
    if given is None:
        return None
    whole = members.get("reasoning", dict[str, msgspec.Raw]) or {}
    if any(is_given(value) for name, value in whole.items() if name not in _Reasoning.__struct_fields__):
        members.keep("reasoning")
    if given.effort is not None and given.effort not in _EFFORTS:
        raise BadRequest(
            f"'reasoning.effort' must be one of {', '.join(get_args(Effort))}.", param="reasoning.effort"
        )
    show = given.summary or given.generate_summary
    if given.effort is None and show is None:
        return None
    return ReasoningOptions(effort=cast("Effort | None", given.effort), show=show)


# --- earlier answers ------------------------------------------------------------------------------


class _Body(msgspec.Struct):
    output: list[msgspec.Raw] | None = None


def input_items(ask: RawRequest) -> list[msgspec.Raw]:
    """The items that the request itself brings, a plain text as the message that it is. Raises
    BadRequest.
    """
    given = ask.fields.get("input")
    if given is None or not is_given(given):
        return []
    if bytes(given).lstrip().startswith(b'"'):
        text = decode_member(given, str, path="input")
        content = [{"type": "input_text", "text": text}]
        return [msgspec.Raw(encode({"type": "message", "role": "user", "content": content}))]
    return decode_member(given, list[msgspec.Raw], path="input")


def output_items(body: bytes) -> list[msgspec.Raw]:
    """The items of an answer (the whole response object), empty where it has none."""
    try:
        return msgspec.json.decode(body, type=_Body).output or []
    except MALFORMED:
        return []


def previous_response(ask: RawRequest) -> str | None:
    """The id of the answer that the request goes on from. Raises BadRequest where it is not a
    string.
    """
    given = ask.fields.get("previous_response_id")
    if given is None or not is_given(given):
        return None
    return decode_member(given, str, path="previous_response_id")


def wants_keeping(ask: RawRequest) -> bool:
    """Whether the answer is to be kept: `store` is true unless it is said to be false
    (docs/reference/wire-formats.md#responses).
    """
    given = ask.fields.get("store")
    return given is None or bytes(given) != b"false"


def with_history(ask: RawRequest, earlier_items: Sequence[msgspec.Raw]) -> RawRequest:
    """The request with the items of earlier turns before its own, and without the name that they
    were kept under. `instructions` of earlier turns do not carry over, by OpenAI's rule.
    """
    items = [*earlier_items, *input_items(ask)]
    fields = {name: value for name, value in ask.fields.items() if name != "previous_response_id"}
    fields["input"] = msgspec.Raw(encode(items))
    return msgspec.structs.replace(ask, body=encode(fields), fields=fields)
