"""Reads a Responses request: client body -> ChatRequest; and puts the items of earlier responses
before its own.

`fields.py` decodes plain values. What has no leaf rides along unread, so that nothing is lost on
the way to a provider of the same dialect (docs/reference/wire-formats.md#responses).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    ChatRequest,
    Message,
    Place,
    RawRequest,
    ResponseFormat,
    TextPart,
)
from modelplex.dialects.core.fields import FieldValues
from modelplex.dialects.core.json import MALFORMED, encode, is_given
from modelplex.dialects.core.members import decode_member
from modelplex.dialects.openai_responses.constants import DIALECT, LOGPROBS
from modelplex.dialects.openai_responses.fields import FIELDS
from modelplex.dialects.openai_responses.messages_in import read_input
from modelplex.dialects.openai_responses.tools import read_choice, read_tools, with_loaded_tools

INSTRUCTIONS = "instructions"
"""The path of the message that `instructions` is read into. It is no item, and is written to the
same member.
"""


class _Format(msgspec.Struct, gc=False):
    type: str
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


_FORMAT_PATHS = {
    f"format.{name}": f"text.format.{name}" for name in ("schema", "name", "description", "strict")
}


def read_call(raw_request: RawRequest) -> ChatRequest:
    """The request. Raises BadRequest with `param` like "input[2].content[0].image_url"."""
    values = FIELDS.read(raw_request.fields)
    tools, namespaces = read_tools(values)
    messages = _read_messages(values)
    tools, namespaces = with_loaded_tools(tools, namespaces, messages)
    choice, form = read_choice(values), _read_format(values)
    _read_logprobs(values)
    return ChatRequest(
        dialect=DIALECT,
        model=raw_request.model,
        messages=messages,
        tools=tools,
        namespaces=namespaces,
        choice=choice,
        format=form,
        stream=raw_request.stream,
        **values.members(),
    )


def _read_messages(values: FieldValues) -> tuple[Message, ...]:
    given = values.take("input")
    instructions = values.decode("instructions", str)
    if given is None and instructions is None:
        raise BadRequest("The body has no 'input'.", param="input")
    messages = [] if given is None else read_input(given)
    if instructions:
        messages.insert(
            0, Message("system", (TextPart(instructions, at=Place(INSTRUCTIONS)),), path=INSTRUCTIONS)
        )
    return tuple(messages)


def _read_logprobs(values: FieldValues) -> None:
    """Either member asks for log probabilities. `include` rides along, since it holds more."""
    include = values.special.get("include")
    if include is not None and LOGPROBS in decode_member(include, list[str], path="include"):
        values.set("sampling.logprobs", True, path="include")
    elif values.get("sampling.top_logprobs"):
        values.set("sampling.logprobs", True, path="top_logprobs")


def _read_format(values: FieldValues) -> ResponseFormat | None:
    given = values.decode("text.format", _Format)
    if given is None:
        return None
    if given.type == "text":
        return ResponseFormat("text")
    if given.type == "json_object":
        return ResponseFormat("json")
    if given.type != "json_schema" or not is_given(given.schema):
        path = "text.format.schema" if given.type == "json_schema" else "text.format.type"
        raise BadRequest(
            f'\'{path}\': expected "text", "json_object", or "json_schema" with a `schema`.', param=path
        )
    values.paths |= _FORMAT_PATHS
    return ResponseFormat(
        "schema",
        schema=given.schema,
        name=given.name,
        description=given.description,
        strict=given.strict,
    )


# --- earlier responses ----------------------------------------------------------------------------


class _Body(msgspec.Struct, gc=False):
    output: list[msgspec.Raw] | None = None


def input_items(raw_request: RawRequest) -> list[msgspec.Raw]:
    """The items of the request's own `input`; a plain text as a message. Raises BadRequest."""
    given = raw_request.fields.get("input")
    if given is None or not is_given(given):
        return []
    if bytes(given).lstrip().startswith(b'"'):
        text = decode_member(given, str, path="input")
        content = [{"type": "input_text", "text": text}]
        return [msgspec.Raw(encode({"type": "message", "role": "user", "content": content}))]
    return decode_member(given, list[msgspec.Raw], path="input")


def output_items(body: bytes) -> list[msgspec.Raw]:
    """The items of a response object, empty where it has none."""
    try:
        return msgspec.json.decode(body, type=_Body).output or []
    except MALFORMED:
        return []


def previous_response(raw_request: RawRequest) -> str | None:
    """The id of the response that the request continues. Raises BadRequest where it is not a
    string.
    """
    given = raw_request.fields.get("previous_response_id")
    if given is None or not is_given(given):
        return None
    return decode_member(given, str, path="previous_response_id")


def wants_storing(raw_request: RawRequest) -> bool:
    """Whether the response is to be stored: `store` is true by default
    (docs/reference/wire-formats.md#responses).
    """
    given = raw_request.fields.get("store")
    return given is None or bytes(given) != b"false"


def with_history(raw_request: RawRequest, earlier_items: Sequence[msgspec.Raw]) -> RawRequest:
    """The request with the items of earlier turns before its own, and without their id. OpenAI does
    not carry `instructions` of earlier turns over.
    """
    items = [*earlier_items, *input_items(raw_request)]
    fields = {name: value for name, value in raw_request.fields.items() if name != "previous_response_id"}
    fields["input"] = msgspec.Raw(encode(items))
    return msgspec.structs.replace(raw_request, body=encode(fields), fields=fields)
