"""The built-in demo model: offline and deterministic, for first steps and for testing agents.

It reads requests in the form of OpenAI's API reference and returns events, which pipeline/demo.py
writes; every answer says that no real model is behind it. The same body gives the same answer;
`created` (Unix seconds) is an argument.

It repeats the last message; calls a tool where `tool_choice` demands one, where the last message
names one, says "use the tool" or asks for what one tells ("What's the weather?": `get_weather`);
quotes the results of tools; fills in the schema of `response_format`; embeds texts, those with
common words nearer to each other. Imports `core` alone.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.events import (
    Event,
    ResponseEnded,
    ResponseStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    Usage,
    UsageReported,
)
from modelplex.core.request import RawRequest
from modelplex.providers.schema_instance import NoInstance, instance

MODELS = ("demo", "demo-embed")

INTRODUCTION = "This is Modelplex's built-in demo model: no real model is behind it."

MAX_QUOTED = 2000
"""Characters of a message that are quoted: enough to recognise it."""
MAX_READ = 65_536
"""Characters of a text that are looked at for words: what a person says, and more. The rest of a
longer one is counted by its length.
"""
CHARACTERS_A_TOKEN = 4
"""Of the rest of a text that is too long to be cut into words."""
MAX_TEXTS = 2048
"""Of one request for vectors; OpenAI's limit."""
MAX_CHOICES = 16
"""Choices of one answer; OpenAI's limit is 128, and nobody wants the same text that often."""
DIMENSIONS = 256
MAX_DIMENSIONS = 4096
"""Of a vector; the largest in common use."""

# Of a text whose words are one space apart: over a run of spaces this would take time by its
# square.
_asks_for_tools = re.compile(r" (?:use|call|run|try|invoke) (?:(?:the|a|an|your|any|all) )?tool(s?) ")
_tells = re.compile(r"(?:get|fetch|look_?up|query)(?:_|(?=[A-Z]))(?:current_?)?(\w{1,64})", re.IGNORECASE)
_humps = re.compile(r"(?<=[a-z])(?=[A-Z])")
_words = re.compile(r"\w+")
# What counts as a token here: a word or a mark, with the space before it. Joined again they are the
# text.
_pieces = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")


# --- requests -------------------------------------------------------------------------------------


class _Part(msgspec.Struct):
    type: str
    text: str = ""


class _CalledFunction(msgspec.Struct):
    name: str


class _PastCall(msgspec.Struct):
    id: str
    function: _CalledFunction | None = None
    custom: _CalledFunction | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    tool_calls: list[_PastCall] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return " ".join(part.text for part in self.content if part.text)
        return self.content or ""


class _Function(msgspec.Struct):
    name: str
    parameters: object = None


class _Tool(msgspec.Struct):
    type: Literal["function", "custom"] = "function"
    function: _Function | None = None
    custom: _Function | None = None

    @property
    def definition(self) -> _Function:
        found = self.custom if self.type == "custom" else self.function
        if found is None:
            raise BadRequest(f"A tool of type {self.type!r} must hold {self.type!r}.", param="tools")
        return found


class _Allowed(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: list[_Tool]


class _Choice(msgspec.Struct):
    type: str
    function: _Function | None = None
    custom: _Function | None = None
    allowed_tools: _Allowed | None = None


class _JsonSchema(msgspec.Struct):
    name: str = ""
    schema: object = True


class _ResponseFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Limits(msgspec.Struct, kw_only=True):
    """What chat and completion have in common."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    stream_options: _StreamOptions | None = None

    def check(self) -> None:
        for name in ("max_tokens", "max_completion_tokens"):
            if (limit := getattr(self, name)) is not None and limit < 1:
                raise BadRequest(f"{name} must be at least 1.", param=name)
        if self.n is not None and not 1 <= self.n <= MAX_CHOICES:
            raise BadRequest(f"n must be between 1 and {MAX_CHOICES}.", param="n")

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> list[str]:
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [stop for stop in given if stop]

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class _Chat(_Limits, kw_only=True):
    messages: list[_Message]
    tools: list[_Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _Choice | None = None
    parallel_tool_calls: bool | None = None
    response_format: _ResponseFormat | None = None


_Tokens: TypeAlias = list[int]


class _Completion(_Limits, kw_only=True):
    prompt: str | list[str | int | _Tokens] = ""
    echo: bool | None = None


class _Embedding(msgspec.Struct):
    input: str | list[str | int | _Tokens]
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None


# --- responses ------------------------------------------------------------------------------------


class _Call(msgspec.Struct):
    id: str
    name: str
    arguments: str
    free: bool


class _Reply(msgspec.Struct):
    """One choice: text, or calls. `pieces` are the text's tokens."""

    pieces: list[str]
    calls: list[_Call]
    finish: Literal["stop", "length", "tool_calls"]

    @property
    def tokens(self) -> int:
        return len(self.pieces) + sum(len(_split(call.arguments)) for call in self.calls)


class DemoResponse(msgspec.Struct):
    """The events of a response; `include_usage` is whether a stream of them ends with usage."""

    events: list[Event]
    include_usage: bool


Json: TypeAlias = dict[str, Any]
_Request = TypeVar("_Request", _Chat, _Completion, _Embedding)


def respond(ask: RawRequest, *, created: int, usage_of: str) -> DemoResponse:
    """The response to a chat or completions request. `usage_of` is the dialect that has the form of
    its usage object, OpenAI's. Raises ClientError for an invalid request.
    """
    request: _Limits
    match ask.endpoint:
        case "chat/completions":
            request = chat = _read(ask, _Chat)
            replies, prefix = _converse(chat, ask), "chatcmpl"
            prompt = _count_messages(chat.messages)
        case "completions":
            request = completion = _read(ask, _Completion)
            replies, prefix = _continue(completion), "cmpl"
            prompt = _count_prompts(completion)
        case _:
            raise BadRequest(f"The demo has no {ask.endpoint}.")
    id_ = f"{prefix}-demo-{_digest(ask.body)}"
    started = ResponseStarted(id_, MODELS[0], created, fingerprint="demo")
    usage = UsageReported(_usage(prompt, sum(reply.tokens for reply in replies), dialect=usage_of))
    return DemoResponse([started, *_events(replies), usage], request.wants_usage)


def embed(ask: RawRequest) -> bytes:
    """The JSON response to an embeddings request. Raises ClientError for an invalid request."""
    return _encode(_embed(_read(ask, _Embedding)))


def _events(replies: Sequence[_Reply]) -> Iterator[Event]:
    for choice, reply in enumerate(replies):
        for piece in reply.pieces:
            yield TextDelta(0, piece, choice)
        for part, call in enumerate(reply.calls, 1):
            yield ToolCallStarted(part, call.id, call.name, choice, free=call.free)
            for piece in _split(call.arguments):
                yield ToolArgumentsDelta(part, piece, choice)
        yield ResponseEnded(reply.finish, choice=choice)


def _read(ask: RawRequest, kind: type[_Request]) -> _Request:
    try:
        request = msgspec.json.decode(ask.body, type=kind)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        raise BadRequest(f"{reason}.", param=place.strip(".`") or None) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    if isinstance(request, _Limits):
        request.check()
    return request


def _encode(value: object) -> bytes:
    return msgspec.json.encode(value)


def _digest(data: bytes) -> str:
    return hashlib.blake2s(data, digest_size=8).hexdigest()


# --- chat


def _converse(request: _Chat, ask: RawRequest) -> list[_Reply]:
    if not request.messages:
        raise BadRequest("messages must hold at least one message.", param="messages")
    count = request.n or 1
    chosen = _chosen(request)
    if chosen:
        return [
            _limited_calls(
                [_call(tool, digest=f"{_digest(ask.body)}{index}{i}") for i, tool in enumerate(chosen)],
                request,
            )
            for index in range(count)
        ]
    text = _reply(request)
    if request.response_format is not None and request.response_format.type != "text":
        formatted = _formatted(request.response_format, text)
        return [_limited(formatted, request) for _ in range(count)]
    return [
        _limited(text + (f" (Answer {index + 1} of {count}.)" if index else ""), request)
        for index in range(count)
    ]


def _chosen(request: _Chat) -> list[_Tool]:
    """The tools to call now; none to answer in words."""
    tools, choice = request.tools or [], request.tool_choice
    forced = choice == "required"
    if choice == "none" or (choice is None and not tools):
        return []
    if isinstance(choice, _Choice):
        if choice.allowed_tools is not None:
            names = {tool.definition.name for tool in choice.allowed_tools.tools}
            tools = [tool for tool in tools if tool.definition.name in names]
            forced = choice.allowed_tools.mode == "required"
        else:
            return [_named(tools, choice)]
    if forced and not tools:
        raise BadRequest("tool_choice wants a tool to be called, and there is none.", param="tool_choice")
    last = request.messages[-1]
    if not forced and last.role != "user":
        return []
    found = _mentioned(tools, last.text) or (tools[:1] if forced else [])
    return found[:1] if request.parallel_tool_calls is False else found


def _named(tools: Sequence[_Tool], choice: _Choice) -> _Tool:
    wanted = choice.function or choice.custom
    for tool in tools:
        if wanted is not None and tool.definition.name == wanted.name:
            return tool
    raise BadRequest("tool_choice names a tool that is not among the tools.", param="tool_choice")


def _mentioned(tools: Sequence[_Tool], text: str) -> list[_Tool]:
    """The tools that the text names; the first where it only says to use the tool, all where it
    says to use the tools.
    """
    words = _words_of(text[:MAX_READ])
    named = [tool for tool in tools if f" {_words_of(tool.definition.name).strip()} " in words]
    if not named and "?" in text[:MAX_READ]:
        named = [
            tool for tool in tools if (asked := _subject(tool.definition.name)) and f" {asked} " in words
        ]
    if named:
        return named
    asks = _asks_for_tools.search(words)
    if asks is None:
        return []
    return list(tools) if asks[1] else list(tools[:1])


def _subject(name: str) -> str:
    """What a tool tells: "weather" of `get_current_weather` and `getWeather`. "" of other tools:
    "Can you write a poem?" asks for no file.
    """
    found = _tells.fullmatch(name)
    return _words_of(_humps.sub(" ", found[1])).strip() if found else ""


def _words_of(text: str) -> str:
    """Lower case, words apart by one space: `get_weather` is also "get weather"."""
    return f" {' '.join(_words.findall(text.lower().replace('_', ' ')))} "


def _call(tool: _Tool, *, digest: str) -> _Call:
    function = tool.definition
    id_ = f"call_demo_{digest}"
    if tool.type == "custom":
        return _Call(id_, function.name, "demo", free=True)
    try:
        arguments: object = {} if function.parameters is None else instance(function.parameters)
    except NoInstance as error:
        raise BadRequest(
            f"The parameters of {function.name!r} cannot be met: {error}.", param="tools"
        ) from None
    return _Call(id_, function.name, _encode(arguments).decode(), free=False)


def _reply(request: _Chat) -> str:
    is_result = takewhile(lambda message: message.role in {"tool", "function"}, reversed(request.messages))
    results = [*is_result][::-1]
    if results:
        names = _names_of_calls(request.messages)
        quotes = [
            f"The tool {names.get(m.tool_call_id, 'you have')} gave: {_quoted(m.text)}" for m in results
        ]
        return " ".join([INTRODUCTION, *quotes])
    last = next((message for message in reversed(request.messages) if message.role == "user"), None)
    if last is None:
        return f"{INTRODUCTION} You said nothing."
    others = (
        [part.type for part in last.content if part.type != "text"] if isinstance(last.content, list) else []
    )
    shown = f" With it came: {', '.join(others)}." if others else ""
    return f"{INTRODUCTION} You said: {_quoted(last.text)}{shown}"


def _names_of_calls(messages: Sequence[_Message]) -> dict[str | None, str]:
    calls = [call for message in messages for call in message.tool_calls or ()]
    return {call.id: made.name for call in calls if (made := call.function or call.custom) is not None}


def _quoted(text: str) -> str:
    return f'"{text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "…"}"'


def _formatted(wanted: _ResponseFormat, text: str) -> str:
    if wanted.json_schema is None:
        if wanted.type == "json_schema":
            raise BadRequest(
                "A response_format of type json_schema must hold json_schema.", param="response_format"
            )
        return _encode({"demo": True, "message": text}).decode()
    try:
        return _encode(instance(wanted.json_schema.schema)).decode()
    except NoInstance as error:
        raise BadRequest(
            f"The schema cannot be met: {error}.", param="response_format.json_schema.schema"
        ) from None


# --- completions


def _continue(request: _Completion) -> list[_Reply]:
    replies: list[_Reply] = []
    for prompt in _prompts(request):
        text = f" {INTRODUCTION} The prompt was: {_quoted(prompt)}"
        one = _limited(text, request)
        if request.echo:
            one.pieces.insert(0, prompt)
        replies += [one] * (request.n or 1)
    return replies


def _prompts(request: _Completion) -> list[str]:
    return _texts(request.prompt, param="prompt")


def _texts(given: str | Sequence[str | int | _Tokens], *, param: str) -> list[str]:
    """Each text; token ids are named by their numbers, since there is no tokenizer."""
    if isinstance(given, str):
        return [given]
    if not given:
        raise BadRequest(f"{param} must not be empty.", param=param)
    ids = [item for item in given if isinstance(item, int)]
    if ids:
        if len(ids) < len(given):
            raise BadRequest(f"{param} holds token ids beside other things.", param=param)
        return [_ids(ids)]
    return [item if isinstance(item, str) else _ids(item) for item in given if not isinstance(item, int)]


def _ids(ids: Sequence[int]) -> str:
    return " ".join(str(number) for number in ids)


# --- limits and usage


def _split(text: str) -> list[str]:
    return _pieces.findall(text)


def _limited(text: str, limits: _Limits) -> _Reply:
    """The text, ended by the first stop sequence or by the token limit, whichever comes first."""
    found = [at for stop in limits.stops if (at := text.find(stop)) >= 0]
    pieces = _split(text[: min(found)] if found else text)
    if limits.limit is not None and len(pieces) > limits.limit:
        return _Reply(pieces[: limits.limit], [], "length")
    return _Reply(pieces, [], "stop")


def _limited_calls(calls: list[_Call], limits: _Limits) -> _Reply:
    """The calls; the limit falls into arguments as it does with real models, and what is cut is no
    whole call.
    """
    left = math.inf if limits.limit is None else limits.limit
    for index, call in enumerate(calls):
        pieces = _split(call.arguments)
        if len(pieces) > left:
            call.arguments = "".join(pieces[: int(left)])
            return _Reply([], calls[: index + 1], "length")
        left -= len(pieces)
    return _Reply([], calls, "tool_calls")


def _usage(prompt: int, output: int, *, dialect: str) -> Usage:
    """Counted in words and marks. `estimated` says that no tokenizer counted."""
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "estimated": True,
    }
    raw = msgspec.Raw(_encode(counts))
    return Usage(fresh=prompt, output=output, estimated=True, raw=raw, raw_of=dialect)


def _count_messages(messages: Sequence[_Message]) -> int:
    return sum(_length(message.text) for message in messages)


def _count_prompts(request: _Completion) -> int:
    return sum(_length(prompt) for prompt in _prompts(request))


def _length(text: str) -> int:
    """In tokens."""
    return len(_split(text[:MAX_READ])) + max(0, len(text) - MAX_READ) // CHARACTERS_A_TOKEN


# --- embeddings


def _embed(request: _Embedding) -> Json:
    length = DIMENSIONS if request.dimensions is None else request.dimensions
    if not 1 <= length <= MAX_DIMENSIONS:
        raise BadRequest(f"dimensions must be between 1 and {MAX_DIMENSIONS}.", param="dimensions")
    texts = _texts(request.input, param="input")
    if len(texts) > MAX_TEXTS:
        raise BadRequest(f"input holds more than {MAX_TEXTS} texts.", param="input")
    packed = [_vector(text, length) for text in texts]
    as_text = request.encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector).decode()
            if as_text
            else struct.unpack(f"<{length}f", vector),
        }
        for index, vector in enumerate(packed)
    ]
    tokens = sum(map(_length, texts))
    usage: Json = {"prompt_tokens": tokens, "total_tokens": tokens, "estimated": True}
    return {"object": "list", "data": data, "model": MODELS[1], "usage": usage}


def _vector(text: str, length: int) -> bytes:
    """A unit vector as little-endian float32: each word adds to one place, so texts with common
    words are near each other.
    """
    places = [0.0] * length
    for word in _words.findall(text[:MAX_READ].lower()):
        number = int.from_bytes(hashlib.blake2s(word.encode(), digest_size=8).digest(), "little")
        places[(number >> 1) % length] += 1.0 if number & 1 else -1.0
    # The text as a whole adds a little to one place: no two texts are the same, and none is
    # nowhere.
    whole = int.from_bytes(hashlib.blake2s(text.encode(), digest_size=8).digest(), "little")
    places[whole % length] += 0.125
    norm = math.sqrt(sum(place * place for place in places))
    if norm == 0.0:
        places[0] = norm = 1.0
    return struct.pack(f"<{length}f", *(place / norm for place in places))
