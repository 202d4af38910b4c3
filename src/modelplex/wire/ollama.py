"""Ollama's own form: /api/chat, /api/generate, /api/embed and /api/tags, the half that faces a provider.

Above it stands the gateway; below it the vocabulary and the framing of lines. It knows no address, no key and no socket, and no
other dialect. Source: ollama/ollama's api/types.go and docs/api.md; wires.md 2.5 and the OLL columns of its section 3.

What Ollama has no words for is refused where the answer would be to another question (an image it cannot load, several
choices) and otherwise left out and named as a Change.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal, cast

import msgspec

from modelplex.call import (
    AnyTool,
    Attempt,
    Audio,
    Call,
    Change,
    Completion,
    Document,
    Effort,
    Embedding,
    Foreign,
    FreeTool,
    HostedTool,
    Image,
    Inline,
    Message,
    Part,
    PlainText,
    Reasoning,
    Refusal,
    Sampling,
    SearchResult,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Written,
)
from modelplex.errors import (
    BadRequest,
    ModelplexError,
    Overloaded,
    RateLimited,
    TooLarge,
    UnknownModel,
    Unsupported,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamTimeout,
)
from modelplex.event import (
    Argued,
    Began,
    Called,
    Closed,
    Embedded,
    Ended,
    Event,
    Failed,
    ListedModel,
    Measured,
    Reason,
    Said,
    Thought,
    Usage,
)
from modelplex.wire.dialect import Reader
from modelplex.wire.ndjson import MAX_LINE, Lines

# --- what is sent ------------------------------------------------------------------------------------------------------------------


class _Function(msgspec.Struct, omit_defaults=True):
    name: str
    description: str = ""
    parameters: msgspec.Raw | None = None
    arguments: msgspec.Raw | None = None


class _OfferedTool(msgspec.Struct):
    function: _Function
    type: str = "function"


class _MadeCall(msgspec.Struct):
    id: str
    function: _Function


class _Turn(msgspec.Struct, omit_defaults=True):
    role: str
    content: str | None = None
    thinking: str = ""
    images: tuple[str, ...] = ()
    tool_calls: tuple[_MadeCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


class _Options(msgspec.Struct, omit_defaults=True):
    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()


class _ChatBody(msgspec.Struct, omit_defaults=True):
    model: str
    messages: tuple[_Turn, ...]
    stream: bool | None = None
    tools: tuple[_OfferedTool, ...] = ()
    format: Literal["json"] | msgspec.Raw | None = None
    options: _Options | None = None
    think: bool | str | None = None
    logprobs: bool = False
    top_logprobs: int | None = None


class _GenerateBody(msgspec.Struct, omit_defaults=True):
    model: str
    prompt: str | None = None
    suffix: str | None = None
    stream: bool | None = None
    options: _Options | None = None
    logprobs: bool = False
    top_logprobs: int | None = None


class _EmbedBody(msgspec.Struct, omit_defaults=True):
    model: str
    input: tuple[str, ...]
    truncate: bool | None = None
    dimensions: int | None = None


# Ollama's levels. It has no "minimal" and no "xhigh": the nearest one is taken, and said so.
_THINK: dict[Effort, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}
_CLAMPED: frozenset[Effort] = frozenset({"minimal", "xhigh"})

# The least budget, in tokens, that stands for each level: the reverse of the table in wires.md 3.9.
_BUDGETS: tuple[tuple[int, Effort], ...] = (
    (32000, "max"),
    (24576, "xhigh"),
    (16384, "high"),
    (8192, "medium"),
    (2048, "low"),
    (0, "minimal"),
)

# The schema keywords that survive Ollama's own types; it drops the others before a model sees them.
_KEPT = frozenset({"type", "anyOf", "items", "description", "enum", "properties", "required", "$defs"})

_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')
_TEXT_INPUT = msgspec.Raw(b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}')
_ERROR_PREFIX = "[tool error] "

# What the client calls a thing, where it is not what OpenAI's chat form calls it.
_CLIENTS_WORDS: dict[str, dict[str, str]] = {
    "anthropic_messages": {
        "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
        "reasoning_effort": "thinking",
        "user": "metadata.user_id",
    },
    "openai_responses": {
        "verbosity": "text.verbosity",
        "reasoning_effort": "reasoning.effort",
        "response_format": "text.format",
    },
}


class _Losses:
    """Changes, gathered while a body is written, in the client's own words."""

    def __init__(self, dialect: str) -> None:
        self._words = _CLIENTS_WORDS.get(dialect, {})
        self.found: list[Change] = []

    def drop(self, path: str, reason: str) -> None:
        self.found.append(Change("drop", self._words.get(path, path), reason))

    def lower(self, path: str, reason: str) -> None:
        self.found.append(Change("lower", self._words.get(path, path), reason))

    def clamp(self, path: str, reason: str) -> None:
        self.found.append(Change("clamp", self._words.get(path, path), reason))


def write_call(call: Call, attempt: Attempt) -> Written:
    """The body of POST /api/chat. Raises Unsupported naming the part that Ollama cannot be told, BadRequest where calls and results do not match."""
    losses = _Losses(call.dialect)
    _one_choice(call.sampling)
    free = frozenset(tool.name for tool in call.tools if isinstance(tool, FreeTool))
    body = _ChatBody(
        model=attempt.model,
        messages=tuple(_turns(call.messages, losses)),
        stream=call.stream,
        tools=tuple(_offered(call, losses)),
        format=_format(call, losses),
        options=_options(call.sampling, max_tokens=call.max_tokens, losses=losses),
        think=_think(call.reasoning, attempt, losses),
        logprobs=call.sampling.logprobs,
        top_logprobs=call.sampling.top_logprobs if call.sampling.logprobs else None,
    )
    _unsaid(call, losses)
    return Written(body=msgspec.json.encode(body), changes=tuple(losses.found), free=free)


def write_completion(completion: Completion, attempt: Attempt) -> Written:
    """The body of POST /api/generate. One text prompt only: raises Unsupported for several, and for token ids.

    The model's template is applied, as Ollama's own /v1/completions does: `raw` would take the suffix's place in it away.
    """
    losses = _Losses(completion.dialect)
    _one_choice(completion.sampling)
    if len(completion.prompts) != 1:
        raise Unsupported("Ollama takes one prompt at a time; send one request for each.", param="prompt")
    (prompt,) = completion.prompts
    if not isinstance(prompt, str):
        raise Unsupported("Ollama takes a prompt as text, not as token ids.", param="prompt")
    if completion.echo:
        losses.drop("echo", "Ollama gives the continuation alone")
    for name in completion.extra:
        losses.drop(name, "Ollama has no such field")
    sampling = completion.sampling
    body = _GenerateBody(
        model=attempt.model,
        prompt=prompt,
        suffix=completion.suffix,
        stream=completion.stream,
        options=_options(sampling, max_tokens=completion.max_tokens, losses=losses),
        logprobs=sampling.logprobs,
        top_logprobs=sampling.top_logprobs if sampling.logprobs else None,
    )
    return Written(body=msgspec.json.encode(body), changes=tuple(losses.found))


def write_embedding(embedding: Embedding, attempt: Attempt) -> Written:
    """The body of POST /api/embed. Raises Unsupported for token ids. A text that is too long is an error, as in OpenAI's form, and
    not cut in silence, which is Ollama's default. The vectors come back as floats whatever the client asked for.
    """
    losses = _Losses(embedding.dialect)
    texts: list[str] = []
    for index, text in enumerate(embedding.inputs):
        if not isinstance(text, str):
            raise Unsupported("Ollama embeds texts, not token ids.", param=f"input[{index}]")
        texts.append(text)
    for name in embedding.extra:
        losses.drop(name, "Ollama has no such field")
    body = _EmbedBody(
        model=attempt.model, input=tuple(texts), truncate=False, dimensions=embedding.dimensions
    )
    return Written(body=msgspec.json.encode(body), changes=tuple(losses.found))


def _one_choice(sampling: Sampling) -> None:
    if sampling.n > 1:
        raise Unsupported("Ollama gives one choice a request; send `n` requests instead.", param="n")


def _options(sampling: Sampling, *, max_tokens: int | None, losses: _Losses) -> _Options | None:
    if sampling.logit_bias is not None:
        losses.drop("logit_bias", "Ollama has no such option")
    options = _Options(
        num_predict=max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=sampling.seed,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        stop=sampling.stop,
    )
    return None if options == _Options() else options


def _format(call: Call, losses: _Losses) -> Literal["json"] | msgspec.Raw | None:
    if call.format is None or call.format.kind == "text":
        return None
    if call.format.description:
        losses.drop("response_format", "Ollama takes the schema without its description")
    return call.format.schema if call.format.kind == "schema" and call.format.schema is not None else "json"


def _think(reasoning: Reasoning | None, attempt: Attempt, losses: _Losses) -> bool | str | None:
    """Ollama's `think`: false, true or a level; None to leave it to the model."""
    if reasoning is None:
        return None
    if reasoning.show is not None:
        losses.drop("reasoning_effort", f"Ollama shows all thinking; {reasoning.show!r} cannot be asked for")
    effort = _effort(reasoning, losses)
    if effort is None:
        return True if reasoning.mode and attempt.facts.thinking != "none" else None
    if effort == "none":
        if attempt.facts.can_disable_thinking:
            return False
        losses.drop("reasoning_effort", "this model always thinks")
        return None
    if attempt.facts.thinking == "none":
        losses.drop("reasoning_effort", "this model does not think")
        return None
    if effort in _CLAMPED:
        losses.clamp("reasoning_effort", f"Ollama's nearest level to {effort!r} is {_THINK[effort]!r}")
    return _THINK[effort]


def _effort(reasoning: Reasoning, losses: _Losses) -> Effort | None:
    if reasoning.effort is not None:
        return reasoning.effort
    if reasoning.mode == "disabled":
        return "none"
    if reasoning.budget is None:
        return None
    losses.lower("reasoning_effort", "Ollama has levels of thinking, not a budget")
    return next(effort for least, effort in _BUDGETS if max(reasoning.budget, 0) >= least)


def _unsaid(call: Call, losses: _Losses) -> None:
    """The parts of a Call that Ollama has no field for."""
    if call.verbosity is not None:
        losses.drop("verbosity", "Ollama has no such field")
    if call.cache is not None:
        losses.drop("cache_control", "Ollama caches prefixes by itself")
    if call.cache_key is not None:
        losses.drop("prompt_cache_key", "Ollama caches prefixes by itself")
    if call.user is not None:
        losses.drop("user", "Ollama knows no end users")
    if call.metadata is not None:
        losses.drop("metadata", "Ollama keeps none")
    if call.tier not in {None, "auto", "default"}:
        losses.drop("service_tier", "Ollama has no tiers")
    for name in call.extra:
        losses.drop(name, "Ollama has no such field")


# --- tools


def _offered(call: Call, losses: _Losses) -> Iterator[_OfferedTool]:
    """The tools that may be called. There is no tool_choice: what it said is done by what is offered, or reported."""
    choice = call.choice
    if call.parallel is False:
        losses.drop("parallel_tool_calls", "Ollama cannot be held to one call")
    if choice is not None and (choice.mode in {"required", "named"} or choice.required):
        losses.drop("tool_choice", "Ollama cannot be made to call a tool")
    if choice is not None and choice.mode == "none":
        return
    for index, tool in enumerate(call.tools):
        offered = _tool(tool, path=f"tools[{index}]", losses=losses)
        if choice is None or choice.mode != "subset" or offered.function.name in choice.names:
            yield offered


def _tool(tool: AnyTool, *, path: str, losses: _Losses) -> _OfferedTool:
    match tool:
        case HostedTool():
            raise Unsupported(
                f"Ollama runs no tools: {tool.type!r} is of use at its own provider only.", param=path
            )
        case FreeTool():
            losses.lower(path, "a free-form tool is offered as a function with one string, `input`")
            said = [tool.description or ""]
            if tool.definition:
                said.append(f"`input` must match this {tool.syntax or ''} grammar:\n{tool.definition}")
            description = "\n\n".join(text for text in said if text)
            return _OfferedTool(_Function(tool.name, description, _TEXT_INPUT))
        case Tool():
            lost = _lost_keywords(tool, path=path)
            if lost:
                losses.lower(path, f"Ollama drops from a tool: {', '.join(lost)}")
            if tool.cache is not None:
                losses.drop(f"{path}.cache_control", "Ollama caches prefixes by itself")
            return _OfferedTool(
                _Function(tool.name, tool.description or "", tool.parameters or _NO_PARAMETERS)
            )


def _lost_keywords(tool: Tool, *, path: str) -> list[str]:
    """What Ollama will not pass on of this tool, sorted."""
    lost = set(tool.extra)
    lost |= {"strict"} if tool.strict else set()
    lost |= {"namespace"} if tool.namespace else set()
    try:
        waiting: list[object] = [msgspec.json.decode(tool.parameters)] if tool.parameters else []
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(
            f"The parameters of tool {tool.name!r} are no JSON schema: {error}", param=path
        ) from None
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += cast("list[object]", node)
        elif isinstance(node, dict):
            schema = cast("dict[str, object]", node)
            lost |= schema.keys() - _KEPT
            waiting += [schema.get("items"), schema.get("anyOf")]
            for named in (schema.get("properties"), schema.get("$defs")):
                waiting += cast("dict[str, object]", named).values() if isinstance(named, dict) else ()
    return sorted(lost)


# --- messages


def _turns(messages: Sequence[Message], losses: _Losses) -> Iterator[_Turn]:
    """Each message as Ollama's. `open_calls` are the calls of the last assistant turn that still want a result."""
    open_calls: dict[str, str] = {}
    order: list[str] = []
    for message in messages:
        if message.name is not None:
            losses.drop(f"{message.path}.name", "Ollama's messages have no name")
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        for result in sorted(results, key=lambda result: order.index(result.id) if result.id in order else 0):
            if result.id not in open_calls:
                raise BadRequest(
                    f"The result for call {result.id!r} follows no such call.", param=message.path
                )
            yield _result(result, name=open_calls.pop(result.id), path=message.path, losses=losses)
        rest = [(index, part) for index, part in enumerate(message.parts) if not isinstance(part, ToolResult)]
        if not rest and (results or message.role == "tool"):
            continue
        if message.role in {"user", "assistant"}:
            _refuse_unanswered(open_calls, path=message.path)
        turn = _turn(message, rest, losses)
        if turn.tool_calls:
            open_calls = {made.id: made.function.name for made in turn.tool_calls}
            order = list(open_calls)
        yield turn
    _refuse_unanswered(open_calls, path=messages[-1].path if messages else "messages")


def _refuse_unanswered(open_calls: Mapping[str, str], *, path: str) -> None:
    if open_calls:
        ids = ", ".join(open_calls)
        raise BadRequest(
            f"Every tool call needs a result before the dialogue goes on; missing: {ids}.", param=path
        )


def _turn(message: Message, parts: Sequence[tuple[int, Part]], losses: _Losses) -> _Turn:
    texts: list[str] = []
    thinking: list[str] = []
    images: list[str] = []
    calls: list[_MadeCall] = []
    for index, part in parts:
        path = f"{message.path}.content[{index}]"
        match part:
            case Thinking():
                if part.text:
                    thinking.append(part.text)
                if part.seal is not None or part.redacted:
                    losses.drop(path, "sealed reasoning is of use to its maker only")
            case ToolCall():
                calls.append(_made_call(part, path=f"{message.path}.tool_calls[{len(calls)}]", losses=losses))
            case Image():
                images.append(_image(part, path=path, losses=losses))
            case _:
                texts.append(_text(part, path=path, losses=losses))
    return _Turn(
        role="system" if message.role == "developer" else message.role,
        content="\n\n".join(texts),
        thinking="\n\n".join(thinking),
        images=tuple(images),
        tool_calls=tuple(calls),
    )


def _result(result: ToolResult, *, name: str, path: str, losses: _Losses) -> _Turn:
    if result.cache is not None:
        losses.drop(path, "cache breakpoint: Ollama caches prefixes by itself")
    texts: list[str] = []
    images: list[str] = []
    for index, part in enumerate(result.parts):
        inside = f"{path}.content[{index}]"
        if isinstance(part, Image):
            images.append(_image(part, path=inside, losses=losses))
        else:
            texts.append(_text(part, path=inside, losses=losses))
    return _Turn(
        role="tool",
        content=(_ERROR_PREFIX if result.is_error else "") + "\n\n".join(texts),
        images=tuple(images),
        tool_name=name,
        tool_call_id=result.id,
    )


def _made_call(call: ToolCall, *, path: str, losses: _Losses) -> _MadeCall:
    if call.seal is not None:
        losses.drop(path, "sealed reasoning is of use to its maker only")
    if call.cache is not None:
        losses.drop(path, "cache breakpoint: Ollama caches prefixes by itself")
    if call.free:
        arguments = msgspec.json.encode({"input": call.arguments})
    else:
        arguments = _object(call.arguments, path=path, losses=losses)
    return _MadeCall(call.id, _Function(call.name, arguments=msgspec.Raw(arguments)))


def _object(arguments: str, *, path: str, losses: _Losses) -> bytes:
    """The arguments as a JSON object, their bytes untouched where they are one."""
    text = arguments.strip() or "{}"
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        losses.lower(path, "arguments that are no JSON object are sent as {`_raw`: text}")
        return msgspec.json.encode({"_raw": arguments})
    return text.encode()


def _image(image: Image, *, path: str, losses: _Losses) -> str:
    """Bare base64. Ollama fetches nothing, and neither do we without being told to."""
    if image.detail not in {None, "auto"}:
        losses.drop(f"{path}.detail", "Ollama has no such field")
    if image.cache is not None:
        losses.drop(path, "cache breakpoint: Ollama caches prefixes by itself")
    if not isinstance(image.source, Inline):
        raise Unsupported("Ollama takes images as data, not as a URL or a file id.", param=path)
    return image.source.data


def _text(part: Part, *, path: str, losses: _Losses) -> str:
    """What can be said in words; the rest is refused by its path."""
    if isinstance(part, Text | Document | SearchResult) and part.cache is not None:
        losses.drop(path, "cache breakpoint: Ollama caches prefixes by itself")
    if isinstance(part, Document | SearchResult) and part.citations:
        losses.drop(f"{path}.citations", "Ollama cites nothing")
    match part:
        case Text():
            if part.annotations is not None:
                losses.drop(f"{path}.annotations", "Ollama's texts carry none")
            return part.text
        case Refusal():
            losses.lower(path, "a refusal is sent as plain text")
            return part.text
        case Document():
            head = (part.title or part.filename, part.context)
            return "\n\n".join(text for text in (*head, _document(part, path=path)) if text)
        case SearchResult():
            return "\n\n".join((f"{part.title}\n{part.source}", *part.texts))
        case Audio():
            raise Unsupported("Ollama takes no audio.", param=path)
        case Foreign():
            raise Unsupported(f"Ollama has no {part.type!r}.", param=path)
        case Image() | Thinking() | ToolCall() | ToolResult():
            raise Unsupported(f"Ollama takes no {type(part).__name__} in this place.", param=path)


def _document(document: Document, *, path: str) -> str:
    match document.source:
        case PlainText(text):
            return text
        case Inline(media_type, data) if media_type.startswith("text/"):
            try:
                return base64.b64decode(data, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError) as error:
                raise BadRequest(f"The document is not base64 of UTF-8 text: {error}", param=path) from None
        case _:
            raise Unsupported("Ollama reads documents as plain text only.", param=path)


# --- what comes back ---------------------------------------------------------------------------------------------------------------


class _ReadFunction(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _ReadCall(msgspec.Struct):
    function: _ReadFunction
    id: str | None = None


class _ReadMessage(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ReadCall] | None = None


class _Token(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _TokenWithOthers(_Token):
    top_logprobs: list[_Token] | None = None


class _Line(msgspec.Struct):
    """A line of /api/chat (`message`) or of /api/generate (`response`, `thinking`); a whole answer has the same form."""

    model: str = ""
    created_at: str = ""
    message: _ReadMessage | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    logprobs: list[_TokenWithOthers] | None = None
    # Not `Raw | None`, which msgspec 0.22 decodes as null alone.
    error: msgspec.Raw = msgspec.Raw(b"null")


class _FreeInput(msgspec.Struct):
    input: str


_line_decoder = msgspec.json.Decoder(_Line)


class LineReader:
    """A dialect.Reader: the lines of /api/chat and of /api/generate alike."""

    def __init__(self, written: Written, *, limit: int = MAX_LINE) -> None:
        self._lines = Lines(limit=limit)
        self._aliases = written.aliases
        self._free = written.free
        self._begun = False
        self._over = False
        self._parts = 0
        self._open: tuple[Literal["text", "thinking"], int] | None = None
        self._calls = 0
        self._tokens: list[_TokenWithOthers] = []

    def __repr__(self) -> str:
        state = "over" if self._over else "reading" if self._begun else "waiting"
        return f"<ollama reader {state} parts={self._parts} calls={self._calls}>"

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for line in self._lines.feed(data):
            events += self.line(line)
        if self._lines.overflowed and not self._over:
            events += self._fail("Ollama sent a line that is too long to be an answer.")
        return events

    def end(self) -> list[Event]:
        events: list[Event] = []
        for line in self._lines.end():
            events += self.line(line)
        if not self._over:
            events += self._fail("Ollama broke off before its last line.")
        return events

    def line(self, data: bytes) -> list[Event]:
        """One whole line, or one whole answer."""
        if self._over:
            return []
        try:
            line = _line_decoder.decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            return self._fail(f"Ollama sent a line that is not of its form: {error}")
        if bytes(line.error) != b"null":
            return self._fail(f"Ollama: {_said(line.error)}", body=data)
        events: list[Event] = (
            [] if self._begun else [Began(model=line.model, created=_seconds(line.created_at))]
        )
        self._begun = True
        try:
            events += self._output(line)
        except msgspec.DecodeError as error:
            return [*events, *self._fail(f"Ollama sent a tool call that is not of its form: {error}")]
        if line.done:
            events += self._done(line)
        return events

    def _output(self, line: _Line) -> Iterator[Event]:
        message = line.message or _ReadMessage(line.response, line.thinking)
        if message.thinking:
            yield from self._turn_to("thinking")
            yield Thought(self._parts - 1, message.thinking)
        if line.logprobs and (message.content or not message.thinking):
            # Tokens of a character that is not complete yet come with no text; they go with the text that they become.
            self._tokens += line.logprobs
        if message.content:
            yield from self._turn_to("text")
            yield Said(self._parts - 1, message.content, logprobs=self._take_tokens())
        for call in message.tool_calls or ():
            yield from self._called(call)

    def _turn_to(self, kind: Literal["text", "thinking"]) -> Iterator[Event]:
        if self._open is None or self._open[0] != kind:
            yield from self._close()
            self._open = (kind, self._parts)
            self._parts += 1

    def _close(self) -> Iterator[Event]:
        if self._open is not None:
            yield Closed(self._open[1])
            self._open = None

    def _called(self, call: _ReadCall) -> Iterator[Event]:
        sent = call.function.name
        arguments = bytes(call.function.arguments)
        if not arguments.startswith(b"{"):
            arguments = _unquoted(arguments)
        text = arguments.decode()
        free = sent in self._free
        if free:
            text = _free_input(arguments)
        yield from self._close()
        part, self._parts = self._parts, self._parts + 1
        yield Called(part, call.id or f"call_{self._calls}", self._aliases.get(sent, sent), free=free)
        self._calls += 1
        if text:
            yield Argued(part, text)
        yield Closed(part)

    def _take_tokens(self) -> msgspec.Raw | None:
        if not self._tokens:
            return None
        for token in self._tokens:
            token.top_logprobs = token.top_logprobs or []
        entries, self._tokens = self._tokens, []
        return msgspec.Raw(msgspec.json.encode(entries))

    def _done(self, line: _Line) -> Iterator[Event]:
        self._over = True
        yield from self._close()
        if line.prompt_eval_count is not None or line.eval_count is not None:
            # A prompt that was cached whole has no count: it took nothing.
            yield Measured(Usage(fresh=line.prompt_eval_count or 0, output=line.eval_count or 0))
        reason: Reason = "tool_calls" if self._calls else "stop"
        # Ollama drops a call that was cut off, so behind "length" there may be one that was never shown.
        yield Ended("length" if line.done_reason == "length" else reason)

    def _fail(self, message: str, *, body: bytes | None = None) -> list[Event]:
        self._over = True
        return [Failed(UpstreamBroken(message, upstream_status=200, upstream_body=body))]


def _unquoted(arguments: bytes) -> bytes:
    """Arguments that are no object: null is none; a string is the object's text, as some servers that speak this form send it.

    Raises msgspec.DecodeError for anything else.
    """
    text = msgspec.json.decode(arguments, type=str | None) or "{}"
    msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return text.encode()


def _free_input(arguments: bytes) -> str:
    """What a free-form tool was given; a model that forgot `input` gave the whole text."""
    try:
        return msgspec.json.decode(arguments, type=_FreeInput).input
    except msgspec.DecodeError:
        return arguments.decode()


def _said(error: msgspec.Raw) -> str:
    """The error's sentence: a string in Ollama's form, an object with `message` behind some proxies."""
    match msgspec.json.decode(error):
        case str(text):
            return text
        case {"message": str(text)}:
            return text
        case _:
            return bytes(error).decode()


def _seconds(timestamp: str) -> int:
    """RFC 3339 as Unix seconds; 0 where it is no such thing."""
    try:
        return int(datetime.fromisoformat(timestamp).timestamp())
    except ValueError:
        return 0


def reader(attempt: Attempt, written: Written) -> Reader:  # noqa: ARG001 - the contract of every dialect
    """A streamed answer of /api/chat."""
    return LineReader(written)


def read_answer(body: bytes, attempt: Attempt, written: Written) -> list[Event]:  # noqa: ARG001 - the contract of every dialect
    """A whole answer of /api/chat: one object of a line's form with `done` true."""
    whole = LineReader(written)
    return [*whole.line(body), *whole.end()]


completion_reader = reader
"""A streamed answer of /api/generate."""

read_completion = read_answer
"""A whole answer of /api/generate."""


class _EmbedAnswer(msgspec.Struct):
    embeddings: tuple[tuple[float, ...], ...]
    model: str = ""
    prompt_eval_count: int | None = None


def read_embedded(body: bytes) -> Embedded:
    """The answer of /api/embed. Raises UpstreamBroken where it is none."""
    try:
        answer = msgspec.json.decode(body, type=_EmbedAnswer)
    except msgspec.DecodeError as error:
        raise UpstreamBroken(
            f"Ollama's answer holds no embeddings: {error}", upstream_status=200, upstream_body=body
        ) from None
    usage = Usage(fresh=answer.prompt_eval_count or 0, estimated=answer.prompt_eval_count is None)
    return Embedded(answer.model, answer.embeddings, usage)


class _Tag(msgspec.Struct):
    name: str = ""
    model: str = ""
    modified_at: str = ""


class _Tags(msgspec.Struct):
    models: list[_Tag] | None


def read_models(body: bytes) -> list[ListedModel]:
    """The answer of GET /api/tags. Raises UpstreamBroken where it is none."""
    try:
        tags = msgspec.json.decode(body, type=_Tags)
    except msgspec.DecodeError as error:
        raise UpstreamBroken(f"Ollama's list of models is not of its form: {error}") from None
    return [ListedModel(tag.model or tag.name, _seconds(tag.modified_at)) for tag in tags.models or ()]


# --- errors

_ERRORS: dict[int, type[ModelplexError]] = {
    401: UpstreamAuth,
    402: UpstreamAuth,
    403: UpstreamAuth,
    404: UnknownModel,
    408: UpstreamTimeout,
    409: UpstreamBroken,
    413: TooLarge,
    429: RateLimited,
    503: Overloaded,
    504: UpstreamTimeout,
}


class _ErrorBody(msgspec.Struct):
    error: msgspec.Raw


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ModelplexError:
    """An answer with a status of 300 or more. Header names are lower case."""
    try:
        text = _said(msgspec.json.decode(body, type=_ErrorBody).error)
        its_own = True
    except (msgspec.DecodeError, RecursionError):
        text = body[:200].decode(errors="replace").strip() or f"status {status}, and no words"
        its_own = False
    kind = _ERRORS.get(status) or (BadRequest if 400 <= status < 500 else UpstreamBroken)
    if not its_own and kind in {BadRequest, UnknownModel}:
        # "404 page not found": something answered, but it is not Ollama.
        kind = UpstreamBroken
    too_long = kind is BadRequest and "context length" in text
    return kind(
        f"Ollama: {text}",
        code="context_length_exceeded" if too_long else None,
        upstream_status=status,
        upstream_body=body,
        retry_after=_retry_after(headers),
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds. A date is left alone: what time it is, is not known here."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
    return None
