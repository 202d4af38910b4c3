"""What an Ollama client asks: the bodies of /api/chat, /api/generate and /api/embed, understood.

Above it stands `ollama.py`, below it the vocabulary. Source: ollama/ollama's api/types.go and
https://github.com/ollama/ollama/blob/main/docs/api.md; docs/reference/wire-formats.md#ollama.

Ollama's clients say less than the vocabulary asks for, and what they leave out is made here: a
call's id, whose result a tool's message is, the kind of an image. `options` that only Ollama's
runners have (`num_ctx`, `repeat_penalty`) ride along by their path, `options.num_ctx`. What is
bound to one model's own files (a `template`, the token ids of a `context`) is refused by name,
since another provider's model could not honour it.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, cast, get_args

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    AnyTool,
    ChatRequest,
    CompletionRequest,
    Effort,
    EmbeddingRequest,
    HostedTool,
    ImagePart,
    InlineData,
    Message,
    Part,
    RawRequest,
    ReasoningOptions,
    ReasoningPart,
    ResponseFormat,
    Sampling,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.ledger import part_paths
from modelplex.dialects.core.members import RequestMembers, decode_member
from modelplex.dialects.core.pending_calls import PendingCalls
from modelplex.dialects.core.tool_results import joined_results
from modelplex.dialects.ollama.fields import PATHS
from modelplex.dialects.openai_chat.prompts import read_prompts

DIALECT = "ollama"
GENERATE = "ollama_generate"
"""The dialect of a Call or Completion that came by /api/generate: its answer has `response` where a
chat's has `message`.
"""

_EFFORTS = frozenset(get_args(Effort))
_MESSAGE_MEMBERS = frozenset("role content thinking images tool_calls tool_name name tool_call_id".split())
_HEAD = 24
"""Characters of base64 that hold the bytes by which an image's kind is told."""
_KINDS: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89PNG", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF8", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"BM", 0, "image/bmp"),
)


class _Function(msgspec.Struct):
    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[_Call] | None = None
    tool_name: str | None = None
    name: str | None = None  # what `tool_name` was called at first
    tool_call_id: str | None = None


class _OfferedFunction(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()


class _Offered(msgspec.Struct):
    type: str = "function"
    function: _OfferedFunction | None = None


def read_stream(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Whether the answer is to be streamed: as it is unless `stream` is false, for chat and
    generate alike.
    """
    given = fields.get("stream")
    return given is None or bytes(given) != b"false"


def read_load(ask: RawRequest) -> str | None:
    """Of a body that asks for nothing but that a model be loaded ("load") or forgotten ("unload"),
    which; None for any other.

    `ollama run` and its like send these before and after a conversation. There is nothing to load
    here: `write_loaded` answers them.
    """
    said = [ask.fields[name] for name in ("messages", "prompt", "images") if name in ask.fields]
    if any(bytes(raw).strip() not in {b"", b"null", b'""', b"[]"} for raw in said):
        return None
    kept = ask.fields.get("keep_alive")
    return "unload" if kept is not None and bytes(kept) in {b"0", b'"0"', b'"0s"'} else "load"


def read_call(ask: RawRequest) -> ChatRequest:
    """/api/chat, the whole request. Raises BadRequest with `param` like "messages[2].images[0]"."""
    members = RequestMembers(ask.fields)
    given = members.unread("messages")
    if given is None:
        raise BadRequest("The body has no 'messages'.", param="messages")
    return _read_rest(ask, members, dialect=DIALECT, messages=_Dialogue(given).read(), tools=_tools(members))


def read_generate(ask: RawRequest) -> CompletionRequest | ChatRequest:
    """/api/generate. A prompt goes through the model's own template, so that it is a conversation
    of one turn: a Call. With `raw` or a `suffix` it is a text to be continued: a Completion.

    Raises BadRequest for what Ollama refuses too (`raw` beside `system`, `template` or `context`),
    Unsupported for what only a model that Ollama runs can be told: a `template`, the token ids of a
    `context`, a `suffix` or `raw` beside images.
    """
    members = RequestMembers(ask.fields)
    prompt = members.get("prompt", str) or ""
    suffix = members.get("suffix", str) or None
    system = members.get("system", str)
    template = members.get("template", str)
    context = members.get("context", list[int])
    raw = members.get("raw", bool) or False
    images = members.get("images", list[str]) or []
    if raw and (system or template or context):
        raise BadRequest("'raw' goes with no 'system', 'template' or 'context'.", param="raw")
    if template:
        raise Unsupported("A 'template' can be told to a model of Ollama's only.", param="template")
    if context:
        raise Unsupported(
            "A 'context' holds token ids, which mean nothing to another model; use /api/chat and send the messages.",
            param="context",
        )
    if raw or suffix is not None:
        for name, unfit in (("images", images), ("system", system)):
            if unfit:
                raise Unsupported(f"'{name}' cannot go with 'raw' or 'suffix' here.", param=name)
        return _read_completion(ask, members, prompt=prompt, suffix=suffix)
    said: list[Message] = []
    if system:
        said.append(Message("system", (TextPart(system),), path="system"))
    asked: list[Part] = [_image(data, path=f"images[{n}]") for n, data in enumerate(images)]
    if prompt or not asked:
        asked.append(TextPart(prompt))
    said.append(Message("user", tuple(asked), path="prompt"))
    return _read_rest(ask, members, dialect=GENERATE, messages=tuple(said), tools=())


def read_embed(ask: RawRequest) -> EmbeddingRequest:
    """/api/embed. Raises BadRequest with `param` naming the field."""
    members = RequestMembers(ask.fields)
    given = members.unread("input")
    if given is None:
        raise BadRequest("The body has no 'input'.", param="input")
    return EmbeddingRequest(
        dialect=DIALECT,
        model=ask.model,
        inputs=read_prompts(given, path="input"),
        dimensions=members.get("dimensions", int),
        extra=members.rest(),
    )


def _read_rest(
    ask: RawRequest,
    members: RequestMembers,
    *,
    dialect: str,
    messages: tuple[Message, ...],
    tools: tuple[AnyTool, ...],
) -> ChatRequest:
    sampling, max_tokens, extra = _read_sampling(members)
    form = _read_format(members.unread("format"))
    think = members.unread("think")
    return ChatRequest(
        dialect=dialect,
        model=ask.model,
        messages=messages,
        tools=tools,
        max_tokens=max_tokens,
        sampling=sampling,
        format=form,
        reasoning=None if think is None else _read_think(think),
        stream=read_stream(ask.fields),
        include_usage=True,  # the last line has it, asked for or not
        extra={**members.rest(), **extra},
        paths=PATHS | part_paths(messages),
    )


def _read_completion(
    ask: RawRequest, members: RequestMembers, *, prompt: str, suffix: str | None
) -> CompletionRequest:
    sampling, max_tokens, extra = _read_sampling(members)
    return CompletionRequest(
        dialect=GENERATE,
        model=ask.model,
        prompts=(prompt,),
        suffix=suffix,
        max_tokens=max_tokens,
        sampling=sampling,
        stream=read_stream(ask.fields),
        include_usage=True,
        extra={**members.rest(), **extra},
    )


# --- controls


def _read_sampling(members: RequestMembers) -> tuple[Sampling, int | None, dict[str, msgspec.Raw]]:
    """The sampling, the output limit, and the options that nobody else has, by their path."""
    options = RequestMembers(members.get("options", dict[str, msgspec.Raw]) or {}, within="options")
    limit = options.get("num_predict", int)
    seed = options.get("seed", int)
    stop = options.unread("stop")
    sampling = Sampling(
        temperature=options.get("temperature", float),
        top_p=options.get("top_p", float),
        top_k=options.get("top_k", int),
        min_p=options.get("min_p", float),
        seed=seed if seed is not None and seed >= 0 else None,  # -1 is Ollama's word for any
        presence_penalty=options.get("presence_penalty", float),
        frequency_penalty=options.get("frequency_penalty", float),
        logprobs=members.get("logprobs", bool) or False,
        top_logprobs=members.get("top_logprobs", int) or None,
        stop=() if stop is None else _read_stop(stop),
    )
    extra = {f"options.{name}": raw for name, raw in options.rest().items()}
    # -1 and -2 are Ollama's words for no limit.
    return sampling, limit if limit is not None and limit > 0 else None, extra


def _read_stop(raw: msgspec.Raw) -> tuple[str, ...]:
    if bytes(raw).lstrip().startswith(b"["):
        return tuple(decode_member(raw, list[str], path="options.stop"))
    return (decode_member(raw, str, path="options.stop"),)


def _read_format(raw: msgspec.Raw | None) -> ResponseFormat | None:
    said = b'""' if raw is None else bytes(raw).strip()
    if said == b'""':
        return None
    if said == b'"json"':
        return ResponseFormat("json")
    if not said.startswith(b"{"):
        raise BadRequest("'format' must be \"json\" or a JSON schema.", param="format")
    return ResponseFormat("schema", schema=raw)


def _read_think(raw: msgspec.Raw) -> ReasoningOptions:
    """`think`: a boolean, or how much."""
    said = bytes(raw).strip()
    if said in {b"true", b"false"}:
        return ReasoningOptions(mode="enabled") if said == b"true" else ReasoningOptions(effort="none")
    word = decode_member(raw, str, path="think")
    if word not in _EFFORTS:
        raise BadRequest("'think' must be true, false, or one of low, medium, high, max.", param="think")
    return ReasoningOptions(effort=cast("Effort", word))


def _tools(members: RequestMembers) -> tuple[AnyTool, ...]:
    raws = members.get("tools", list[msgspec.Raw]) or []
    tools: list[AnyTool] = []
    for n, raw in enumerate(raws):
        offered = decode_member(raw, _Offered, path=f"tools[{n}]")
        if offered.type != "function":
            tools.append(HostedTool(DIALECT, offered.type, raw))
            continue
        function = offered.function
        if function is None:
            raise BadRequest(f"'tools[{n}].function' is missing.", param=f"tools[{n}].function")
        parameters = function.parameters if is_given(function.parameters) else None
        tools.append(Tool(function.name, function.description or None, parameters))
    return tuple(tools)


# --- the conversation


class _Dialogue:
    """The messages, and which calls still want a result: many clients name a result's tool and not
    its call.
    """

    def __init__(self, raw: msgspec.Raw) -> None:
        self._given = decode_member(raw, list[_Message], path="messages")
        self._whole = decode_member(raw, list[dict[str, msgspec.Raw]], path="messages")
        self._waiting: PendingCalls[ToolCallPart] = PendingCalls()
        self._made = 0

    def read(self) -> tuple[Message, ...]:
        messages: list[Message] = []
        for n, (message, members) in enumerate(zip(self._given, self._whole, strict=True)):
            path = f"messages[{n}]"
            if message.role == "tool":
                messages.append(Message("tool", (self._result(message, path=path),), path=path))
                continue
            if message.role not in {"system", "user", "assistant"}:
                raise BadRequest(
                    f"'{path}.role' must be system, user, assistant or tool.", param=f"{path}.role"
                )
            extra = {name: raw for name, raw in members.items() if name not in _MESSAGE_MEMBERS}
            role = cast("Any", message.role)
            messages.append(Message(role, tuple(self._parts(message, path=path)), path=path, extra=extra))
        return tuple(joined_results(messages))

    def _parts(self, message: _Message, *, path: str) -> list[Part]:
        parts: list[Part] = []
        if message.thinking:
            parts.append(ReasoningPart(message.thinking))
        parts += [_image(data, path=f"{path}.images[{n}]") for n, data in enumerate(message.images or ())]
        calls = [
            self._call(call, path=f"{path}.tool_calls[{n}]")
            for n, call in enumerate(message.tool_calls or ())
        ]
        if message.content or not (parts or calls):
            parts.append(TextPart(message.content or ""))
        for call in calls:
            self._waiting.add(call.id, call.name, call)
        return [*parts, *calls]

    def _call(self, call: _Call, *, path: str) -> ToolCallPart:
        arguments = bytes(call.function.arguments).strip()
        if arguments in {b"", b"null"}:
            arguments = b"{}"
        if not arguments.startswith(b"{"):
            raise BadRequest(
                f"'{path}.function.arguments' must be an object.", param=f"{path}.function.arguments"
            )
        id_ = call.id or f"call_{self._made}"
        self._made += 1
        return ToolCallPart(id_, call.function.name, arguments.decode())

    def _result(self, message: _Message, *, path: str) -> ToolResultPart:
        name = message.tool_name or message.name
        call = self._waiting.take(message.tool_call_id, name or None, or_any=True)
        if call is None:
            told = message.tool_call_id or name or "a tool"
            raise BadRequest(f"'{path}' is the result of {told}, for which no call is waiting.", param=path)
        parts: list[Part] = []
        if message.content or not message.images:
            parts.append(TextPart(message.content or ""))
        parts += [_image(data, path=f"{path}.images[{n}]") for n, data in enumerate(message.images or ())]
        return ToolResultPart(call.id, tuple(parts), name=call.name)


def _image(data: str, *, path: str) -> ImagePart:
    """Bare base64; what kind of image it is, its first bytes tell."""
    try:
        head = b64decode(data[:_HEAD])
    except ValueError:
        head = b""
    for mark, at, media_type in _KINDS:
        if head[at : at + len(mark)] == mark:
            return ImagePart(InlineData(media_type, data))
    raise BadRequest(
        f"'{path}' must be the base64 of a PNG, JPEG, GIF, WebP or BMP image, without a data: prefix.",
        param=path,
    )
