"""The demo: a model that is none. Built in, offline, deterministic; for first steps, and for
testing agents.

Above it stands the gateway, which sends what it gives without delay; below it `instance.py`, which
fills in schemas. It is asked in OpenAI's chat form and answers in it, as a provider would, and it
says in every answer what it is. The same body gives the same answer; `created` (Unix seconds) is an
argument.

What it does: it repeats what was said; calls a tool where it is made to, where its name is
mentioned, or where the last message says "use the tool"; quotes a tool's result; answers in the
form that `response_format` asks for; embeds texts, those with common words nearer to each other.
Source of the forms: OpenAI's API reference.
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

from modelplex.core.errors import BadRequest, ClientError
from modelplex.core.request import RawRequest
from modelplex.providers.schema_instance import NoInstance, instance

MODELS = ("demo", "demo-embed")

INTRODUCTION = "This is Modelplex's built-in demo model: no real model is behind it."

MAX_QUOTED = 2000
"""Characters of what was said that are said back: enough to know it again."""
MAX_HEARD = 65_536
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
_words = re.compile(r"\w+")
# What counts as a token here: a word or a mark, with the space before it. Joined again they are the
# text.
_pieces = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")


# --- what is asked --------------------------------------------------------------------------------


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
    def asked(self) -> _Function:
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


# --- what is answered -----------------------------------------------------------------------------


class _Usage(msgspec.Struct):
    """Counted in words and marks. `estimated` says so, since no tokenizer was asked."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated: bool = True


class _Arguments(msgspec.Struct):
    name: str
    arguments: str


class _Input(msgspec.Struct):
    name: str
    input: str


class _Call(msgspec.Struct, omit_defaults=True):
    id: str
    type: str | None = None
    function: _Arguments | None = None
    custom: _Input | None = None


class _Said(msgspec.Struct):
    """One choice's answer: text, or calls. `pieces` are the text's tokens."""

    pieces: list[str]
    calls: list[_Call]
    finish: str

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def tokens(self) -> int:
        return len(self.pieces) + sum(len(_cut(_written(call))) for call in self.calls)


Json: TypeAlias = dict[str, Any]
_Asked = TypeVar("_Asked", _Chat, _Completion, _Embedding)


def answer(ask: RawRequest, *, created: int) -> tuple[int, bytes]:
    """Status and JSON body of a whole answer: 400 and OpenAI's error where the request is
    nonsense.
    """
    try:
        return 200, _encode(_whole(ask, created=created))
    except ClientError as error:
        return error.status, _encode({"error": _told(error)})


def stream(ask: RawRequest, *, created: int) -> list[bytes]:
    """The events of a streamed answer, each whole, `[DONE]` the last. Raises ClientError where the
    request is nonsense.
    """
    asked: _Limits
    match ask.endpoint:
        case "chat/completions":
            asked = chat = _read(ask, _Chat)
            said = _converse(chat, ask)
            usage = _usage(_count_messages(chat.messages), said)
            choices, kind = _chat_chunks(said), "chat.completion.chunk"
        case "completions":
            asked = completion = _read(ask, _Completion)
            said = _continue(completion)
            usage = _usage(_count_prompts(completion), said)
            choices, kind = _text_chunks(said), "text_completion"
        case _:
            raise BadRequest(f"The demo does not stream {ask.endpoint}.", param="stream")
    shell = _shell(ask, kind=kind, created=created)
    plain: Json = {"usage": None} if asked.wants_usage else {}
    events = [_event(shell | {"choices": [choice]} | plain) for choice in choices]
    if asked.wants_usage:
        events.append(_event(shell | {"choices": [], "usage": usage}))
    return [*events, b"data: [DONE]\n\n"]


def _whole(ask: RawRequest, *, created: int) -> Json:
    match ask.endpoint:
        case "chat/completions":
            chat = _read(ask, _Chat)
            said = _converse(chat, ask)
            choices = [_chat_choice(index, one) for index, one in enumerate(said)]
            usage = _usage(_count_messages(chat.messages), said)
            return _shell(ask, kind="chat.completion", created=created) | {"choices": choices, "usage": usage}
        case "completions":
            completion = _read(ask, _Completion)
            said = _continue(completion)
            choices = [_text_choice(index, one.text, one.finish) for index, one in enumerate(said)]
            usage = _usage(_count_prompts(completion), said)
            return _shell(ask, kind="text_completion", created=created) | {"choices": choices, "usage": usage}
        case "embeddings":
            return _embed(_read(ask, _Embedding))
        case _:
            raise BadRequest(f"The demo has no {ask.endpoint}.")


def _read(ask: RawRequest, kind: type[_Asked]) -> _Asked:
    try:
        asked = msgspec.json.decode(ask.body, type=kind)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        raise BadRequest(f"{reason}.", param=place.strip(".`") or None) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    if isinstance(asked, _Limits):
        asked.check()
    return asked


def _told(error: ClientError) -> Json:
    return {"message": error.message, "type": error.type, "param": error.param, "code": error.code}


def _shell(ask: RawRequest, *, kind: str, created: int) -> Json:
    prefix = "cmpl" if kind == "text_completion" else "chatcmpl"
    return {
        "id": f"{prefix}-demo-{_mark(ask.body)}",
        "object": kind,
        "created": created,
        "model": MODELS[0],
        "system_fingerprint": "demo",
    }


def _encode(value: object) -> bytes:
    return msgspec.json.encode(value)


def _event(chunk: Json) -> bytes:
    return b"data: " + _encode(chunk) + b"\n\n"


def _mark(data: bytes) -> str:
    return hashlib.blake2s(data, digest_size=8).hexdigest()


# --- chat


def _converse(asked: _Chat, ask: RawRequest) -> list[_Said]:
    if not asked.messages:
        raise BadRequest("messages must hold at least one message.", param="messages")
    count = asked.n or 1
    chosen = _chosen(asked)
    if chosen:
        return [
            _limited_calls(
                [_call(tool, mark=f"{_mark(ask.body)}{index}{i}") for i, tool in enumerate(chosen)], asked
            )
            for index in range(count)
        ]
    text = _reply(asked)
    if asked.response_format is not None and asked.response_format.type != "text":
        formatted = _formatted(asked.response_format, text)
        return [_limited(formatted, asked) for _ in range(count)]
    return [
        _limited(text + (f" (Answer {index + 1} of {count}.)" if index else ""), asked)
        for index in range(count)
    ]


def _chosen(asked: _Chat) -> list[_Tool]:
    """The tools to call now; none to answer in words."""
    tools, choice = asked.tools or [], asked.tool_choice
    forced = choice == "required"
    if choice == "none" or (choice is None and not tools):
        return []
    if isinstance(choice, _Choice):
        if choice.allowed_tools is not None:
            names = {tool.asked.name for tool in choice.allowed_tools.tools}
            tools = [tool for tool in tools if tool.asked.name in names]
            forced = choice.allowed_tools.mode == "required"
        else:
            return [_named(tools, choice)]
    if forced and not tools:
        raise BadRequest("tool_choice wants a tool to be called, and there is none.", param="tool_choice")
    last = asked.messages[-1]
    if not forced and last.role != "user":
        return []
    found = _mentioned(tools, last.text) or (tools[:1] if forced else [])
    return found[:1] if asked.parallel_tool_calls is False else found


def _named(tools: Sequence[_Tool], choice: _Choice) -> _Tool:
    wanted = choice.function or choice.custom
    for tool in tools:
        if wanted is not None and tool.asked.name == wanted.name:
            return tool
    raise BadRequest("tool_choice names a tool that is not among the tools.", param="tool_choice")


def _mentioned(tools: Sequence[_Tool], text: str) -> list[_Tool]:
    """The tools that the text names; the first where it only says to use the tool, all where it
    says to use the tools.
    """
    said = _spoken(text[:MAX_HEARD])
    named = [tool for tool in tools if f" {_spoken(tool.asked.name).strip()} " in said]
    if named:
        return named
    asks = _asks_for_tools.search(said)
    if asks is None:
        return []
    return list(tools) if asks[1] else list(tools[:1])


def _spoken(text: str) -> str:
    """Lower case, words apart by one space: `get_weather` is said as "get weather" too."""
    return f" {' '.join(_words.findall(text.lower().replace('_', ' ')))} "


def _call(tool: _Tool, *, mark: str) -> _Call:
    function = tool.asked
    made = f"call_demo_{mark}"
    if tool.type == "custom":
        return _Call(made, "custom", custom=_Input(function.name, "demo"))
    try:
        arguments: object = {} if function.parameters is None else instance(function.parameters)
    except NoInstance as error:
        raise BadRequest(
            f"The parameters of {function.name!r} cannot be met: {error}.", param="tools"
        ) from None
    return _Call(made, "function", function=_Arguments(function.name, _encode(arguments).decode()))


def _reply(asked: _Chat) -> str:
    is_result = takewhile(lambda message: message.role in {"tool", "function"}, reversed(asked.messages))
    results = [*is_result][::-1]
    if results:
        names = _names_of_calls(asked.messages)
        told = [f"The tool {names.get(m.tool_call_id, 'you have')} gave: {_quoted(m.text)}" for m in results]
        return " ".join([INTRODUCTION, *told])
    last = next((message for message in reversed(asked.messages) if message.role == "user"), None)
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


def _continue(asked: _Completion) -> list[_Said]:
    said: list[_Said] = []
    for prompt in _prompts(asked):
        text = f" {INTRODUCTION} The prompt was: {_quoted(prompt)}"
        one = _limited(text, asked)
        if asked.echo:
            one.pieces.insert(0, prompt)
        said += [one] * (asked.n or 1)
    return said


def _prompts(asked: _Completion) -> list[str]:
    return _texts(asked.prompt, param="prompt")


def _texts(given: str | Sequence[str | int | _Tokens], *, param: str) -> list[str]:
    """Each text; token ids are told by their numbers, since nobody here can read them."""
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


def _cut(text: str) -> list[str]:
    return _pieces.findall(text)


def _limited(text: str, limits: _Limits) -> _Said:
    """The text, ended by the first stop sequence or by the token limit, whichever comes first."""
    found = [at for stop in limits.stops if (at := text.find(stop)) >= 0]
    pieces = _cut(text[: min(found)] if found else text)
    if limits.limit is not None and len(pieces) > limits.limit:
        return _Said(pieces[: limits.limit], [], "length")
    return _Said(pieces, [], "stop")


def _limited_calls(calls: list[_Call], limits: _Limits) -> _Said:
    """The calls; the limit falls into arguments as it does with real models, and what is cut is no
    whole call.
    """
    left = math.inf if limits.limit is None else limits.limit
    for index, call in enumerate(calls):
        pieces = _cut(_written(call))
        if len(pieces) > left:
            kept = "".join(pieces[: int(left)])
            if call.function is not None:
                call.function.arguments = kept
            elif call.custom is not None:
                call.custom.input = kept
            return _Said([], calls[: index + 1], "length")
        left -= len(pieces)
    return _Said([], calls, "tool_calls")


def _written(call: _Call) -> str:
    if call.function is not None:
        return call.function.arguments
    return call.custom.input if call.custom is not None else ""


def _usage(prompt: int, said: Sequence[_Said]) -> _Usage:
    completion = sum(one.tokens for one in said)
    return _Usage(prompt, completion, prompt + completion)


def _count_messages(messages: Sequence[_Message]) -> int:
    return sum(_length(message.text) for message in messages)


def _count_prompts(asked: _Completion) -> int:
    return sum(_length(prompt) for prompt in _prompts(asked))


def _length(text: str) -> int:
    """In tokens."""
    return len(_cut(text[:MAX_HEARD])) + max(0, len(text) - MAX_HEARD) // CHARACTERS_A_TOKEN


# --- the forms of an answer


def _chat_choice(index: int, said: _Said) -> Json:
    message: Json = {"role": "assistant", "content": None if said.calls else said.text, "refusal": None}
    if said.calls:
        message["tool_calls"] = said.calls
    return {"index": index, "message": message, "logprobs": None, "finish_reason": said.finish}


def _chat_chunks(said: Sequence[_Said]) -> Iterator[Json]:
    """The choices of the chunks, in order: role, pieces or calls, end."""
    for index, one in enumerate(said):
        deltas: list[Json] = [{"role": "assistant", "content": None if one.calls else "", "refusal": None}]
        deltas += [{"content": piece} for piece in one.pieces]
        for number, call in enumerate(one.calls):
            deltas += [{"tool_calls": [delta]} for delta in _call_deltas(number, call)]
        for delta in deltas:
            yield {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": one.finish}


def _call_deltas(number: int, call: _Call) -> Iterator[Json]:
    """The first delta of a call has its names, the later ones have its arguments alone."""
    place: Json = {"index": number}
    begin: Json = place | {"id": call.id, "type": call.type}
    if call.custom is not None:
        yield begin | {"custom": {"name": call.custom.name, "input": ""}}
        for piece in _cut(call.custom.input):
            yield place | {"custom": {"input": piece}}
    elif call.function is not None:
        yield begin | {"function": {"name": call.function.name, "arguments": ""}}
        for piece in _cut(call.function.arguments):
            yield place | {"function": {"arguments": piece}}


def _text_choice(index: int, text: str, finish: str | None) -> Json:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _text_chunks(said: Sequence[_Said]) -> Iterator[Json]:
    for index, one in enumerate(said):
        for piece in one.pieces:
            yield _text_choice(index, piece, None)
        yield _text_choice(index, "", one.finish)


# --- embeddings


def _embed(asked: _Embedding) -> Json:
    length = DIMENSIONS if asked.dimensions is None else asked.dimensions
    if not 1 <= length <= MAX_DIMENSIONS:
        raise BadRequest(f"dimensions must be between 1 and {MAX_DIMENSIONS}.", param="dimensions")
    texts = _texts(asked.input, param="input")
    if len(texts) > MAX_TEXTS:
        raise BadRequest(f"input holds more than {MAX_TEXTS} texts.", param="input")
    packed = [_vector(text, length) for text in texts]
    as_text = asked.encoding_format == "base64"
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
    for word in _words.findall(text[:MAX_HEARD].lower()):
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
