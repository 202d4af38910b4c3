"""Reads /api/chat, /api/generate and /api/embed: client body -> ChatRequest, CompletionRequest or
EmbeddingRequest.

`fields.py` decodes plain values. What Ollama's clients leave out is made here: ids of calls, which
call a tool's message answers, the media type of an image. What is bound to one model's own files (a
`template`, the token ids of a `context`) is refused. Source:
https://github.com/ollama/ollama/blob/main/docs/api.md; docs/reference/wire-formats.md#ollama.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    AnyTool,
    ChatRequest,
    CompletionRequest,
    Effort,
    EmbeddingRequest,
    HostedTool,
    Message,
    Part,
    Place,
    RawRequest,
    ResponseFormat,
    TextPart,
    Tool,
)
from modelplex.dialects.core.fields import FieldValues
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.members import RequestMembers, decode_member, unknown_members
from modelplex.dialects.ollama.fields import FIELDS, GENERATE_FIELDS
from modelplex.dialects.ollama.messages_in import read_image, read_messages
from modelplex.dialects.openai_chat.prompts import read_prompts

DIALECT = "ollama"
GENERATE = "ollama_generate"
"""The dialect of a request to /api/generate: its response has `response` where a chat's has
`message`.
"""

_EFFORTS = frozenset(get_args(Effort))
_TOOL_MEMBERS = {name: f"function.{name}" for name in ("name", "description", "parameters")}


class _OfferedFunction(msgspec.Struct, gc=False):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()


class _Offered(msgspec.Struct, gc=False):
    type: str = "function"
    function: _OfferedFunction | None = None


def read_stream(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Whether the response streams: unless `stream` is false, for chat and generate alike."""
    given = fields.get("stream")
    return given is None or bytes(given) != b"false"


def read_load(raw_request: RawRequest) -> str | None:
    """Whether a body only loads ("load") or unloads ("unload") a model; None for any other.

    `ollama run` and its like send these before and after a conversation. `write_loaded` answers
    them, since there is nothing to load here.
    """
    given = [
        raw_request.fields[name] for name in ("messages", "prompt", "images") if name in raw_request.fields
    ]
    if any(bytes(raw).strip() not in {b"", b"null", b'""', b"[]"} for raw in given):
        return None
    kept = raw_request.fields.get("keep_alive")
    return "unload" if kept is not None and bytes(kept) in {b"0", b'"0"', b'"0s"'} else "load"


def read_call(raw_request: RawRequest) -> ChatRequest:
    """/api/chat. Raises BadRequest with `param` like "messages[2].images[0]"."""
    values = FIELDS.read(raw_request.fields)
    given = values.take("messages")
    if given is None:
        raise BadRequest("The body has no 'messages'.", param="messages")
    messages, tools = read_messages(given), _read_tools(values)
    return _chat_request(raw_request, values, dialect=DIALECT, messages=messages, tools=tools)


def read_generate(raw_request: RawRequest) -> CompletionRequest | ChatRequest:
    """/api/generate. The model's template makes a conversation of one turn of a prompt: a
    ChatRequest. With `raw` or a `suffix` the prompt is continued: a CompletionRequest.

    Raises:
        BadRequest: `raw` beside `system`, `template` or `context`, as Ollama does.
        Unsupported: what only a model that Ollama runs can take: a `template`, the token ids of a
            `context`, a `suffix` or `raw` beside images.
    """
    values = GENERATE_FIELDS.read(raw_request.fields)
    prompt = values.decode("prompt", str) or ""
    system = values.decode("system", str)
    template = values.decode("template", str)
    context = values.decode("context", list[int])
    raw = values.decode("raw", bool) or False
    images = values.decode("images", list[str]) or []
    if raw and (system or template or context):
        raise BadRequest("'raw' goes with no 'system', 'template' or 'context'.", param="raw")
    if template:
        raise Unsupported("Only a model of Ollama's takes a 'template'.", param="template")
    if context:
        raise Unsupported(
            "A 'context' holds token ids, which mean nothing to another model; use /api/chat and send the messages.",
            param="context",
        )
    if raw or values.get("suffix") is not None:
        for name, unfit in (("images", images), ("system", system)):
            if unfit:
                raise Unsupported(f"'{name}' cannot go with 'raw' or 'suffix' here.", param=name)
        return CompletionRequest(
            dialect=GENERATE,
            model=raw_request.model,
            prompts=(prompt,),
            stream=read_stream(raw_request.fields),
            include_usage=True,
            **values.members(),
        )
    messages: list[Message] = []
    if system:
        messages.append(Message("system", (TextPart(system, at=Place("system")),), path="system"))
    parts: list[Part] = [read_image(data, Place("images", "", n)) for n, data in enumerate(images)]
    if prompt or not parts:
        parts.append(TextPart(prompt, at=Place("prompt")))
    messages.append(Message("user", tuple(parts), path="prompt"))
    return _chat_request(raw_request, values, dialect=GENERATE, messages=tuple(messages), tools=())


def read_embed(raw_request: RawRequest) -> EmbeddingRequest:
    """/api/embed. Raises BadRequest with `param` naming the field."""
    members = RequestMembers(raw_request.fields)
    given = members.unread("input")
    if given is None:
        raise BadRequest("The body has no 'input'.", param="input")
    return EmbeddingRequest(
        dialect=DIALECT,
        model=raw_request.model,
        inputs=read_prompts(given, path="input"),
        dimensions=members.get("dimensions", int),
        extra=members.rest(),
    )


def _chat_request(
    raw_request: RawRequest,
    values: FieldValues,
    *,
    dialect: str,
    messages: tuple[Message, ...],
    tools: tuple[AnyTool, ...],
) -> ChatRequest:
    form = _read_format(values)
    _read_think(values)
    return ChatRequest(
        dialect=dialect,
        model=raw_request.model,
        messages=messages,
        tools=tools,
        format=form,
        stream=read_stream(raw_request.fields),
        include_usage=True,  # the last line always has it
        **values.members(),
    )


# --- controls


def _read_format(values: FieldValues) -> ResponseFormat | None:
    raw = values.take("format")
    text = b'""' if raw is None else bytes(raw).strip()
    if text == b'""':
        return None
    if text == b'"json"':
        return ResponseFormat("json")
    if not text.startswith(b"{"):
        raise BadRequest("'format' must be \"json\" or a JSON schema.", param="format")
    values.paths["format.schema"] = "format"
    return ResponseFormat("schema", schema=raw)


def _read_think(values: FieldValues) -> None:
    """`think`: a boolean, or how much."""
    raw = values.take("think")
    if raw is None:
        return
    text = bytes(raw).strip()
    if text == b"true":
        values.set("reasoning.mode", "enabled", path="think")
        return
    effort = "none" if text == b"false" else decode_member(raw, str, path="think")
    if effort not in _EFFORTS:
        raise BadRequest("'think' must be true, false, or one of low, medium, high, max.", param="think")
    values.set("reasoning.effort", effort, path="think")


def _read_tools(values: FieldValues) -> tuple[AnyTool, ...]:
    raws = values.decode("tools", list[msgspec.Raw]) or []
    return tuple(_read_tool(raw, path=f"tools[{n}]") for n, raw in enumerate(raws))


def _read_tool(raw: msgspec.Raw, *, path: str) -> AnyTool:
    offered = decode_member(raw, _Offered, path=path)
    if offered.type != "function":
        return HostedTool(DIALECT, offered.type, raw, path=path)
    function = offered.function
    if function is None:
        raise BadRequest(f"'{path}.function' is missing.", param=f"{path}.function")
    whole = decode_member(raw, dict[str, msgspec.Raw], path=path)
    inner = decode_member(whole["function"], dict[str, msgspec.Raw], path=f"{path}.function")
    return Tool(
        function.name,
        function.description or None,
        function.parameters if is_given(function.parameters) else None,
        extra=unknown_members(whole, _Offered) | unknown_members(inner, _OfferedFunction, within="function."),
        path=path,
        members=_TOOL_MEMBERS,
    )
