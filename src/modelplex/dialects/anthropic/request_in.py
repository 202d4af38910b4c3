"""Reads a Messages request: client body -> ChatRequest.

`fields.py` decodes plain values, `messages_in.py` the conversation and `tools.py` the tools. What
has no leaf rides along unread, by its path: "output_config.task_budget"
(docs/reference/wire-formats.md#messages).
"""

from __future__ import annotations

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import ChatRequest, RawRequest, ResponseFormat
from modelplex.dialects.anthropic.fields import FIELDS
from modelplex.dialects.anthropic.messages_in import read_messages, read_system
from modelplex.dialects.anthropic.messages_out import DIALECT
from modelplex.dialects.anthropic.tools import read_choice, read_tools
from modelplex.dialects.core.fields import FieldValues
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.members import decode_member

COUNTED = "messages/count_tokens"
"""The endpoint whose requests need no `max_tokens`."""


class _Format(msgspec.Struct, gc=False):
    type: str
    schema: msgspec.Raw = msgspec.Raw()


def read_call(raw_request: RawRequest) -> ChatRequest:
    """The request. Raises BadRequest with `param` like "messages[2].content[0].source.data"."""
    values = FIELDS.read(raw_request.fields)
    messages = values.take("messages")
    if messages is None:
        raise BadRequest("The body has no 'messages'.", param="messages")
    if values.get("max_tokens") is None and raw_request.endpoint != COUNTED:
        raise BadRequest("The body has no 'max_tokens': this form of a request needs it.", param="max_tokens")
    _check_thinking(values)
    system = values.take("system")
    tools, choice, form = read_tools(values), read_choice(values), _read_format(values)
    return ChatRequest(
        dialect=DIALECT,
        model=raw_request.model,
        messages=read_system(system) + read_messages(messages),
        tools=tools,
        choice=choice,
        format=form,
        stream=raw_request.stream,
        include_usage=True,  # a response of this dialect always has it
        **values.members(),
    )


def _read_format(values: FieldValues) -> ResponseFormat | None:
    """`output_config.format`, or `output_format`, its older name."""
    older = values.take("output_format")
    raw, path = values.take("output_config.format"), "output_config.format"
    if raw is None:
        raw, path = older, "output_format"
    if raw is None:
        return None
    given = decode_member(raw, _Format, path=path)
    if given.type != "json_schema" or not is_given(given.schema):
        raise BadRequest(f"'{path}' must be of type \"json_schema\", with a `schema`.", param=path)
    values.paths |= {"format": path, "format.schema": f"{path}.schema"}
    return ResponseFormat("schema", schema=given.schema)


def _check_thinking(values: FieldValues) -> None:
    """Raises BadRequest where a member of `thinking` is missing."""
    mode = values.get("reasoning.mode")
    if mode is None and any(values.get(f"reasoning.{leaf}") is not None for leaf in ("budget", "show")):
        raise BadRequest("'thinking.type' is missing.", param="thinking.type")
    if mode == "enabled" and values.get("reasoning.budget") is None:
        raise BadRequest("'thinking.budget_tokens' is missing.", param="thinking.budget_tokens")
