"""Reads Ollama responses into events: the lines of /api/chat and /api/generate, and whole
responses, which have the same form. Imports no other dialect.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import msgspec

from modelplex.core.errors import (
    UpstreamBroken,
)
from modelplex.core.events import (
    Event,
    PartEnded,
    Reason,
    ReasoningDelta,
    ResponseEnded,
    ResponseFailed,
    ResponseStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    Usage,
    UsageReported,
)
from modelplex.core.request import (
    Attempt,
    ProviderRequest,
)
from modelplex.dialects.core.ndjson import MAX_LINE, NdjsonReader
from modelplex.dialects.core.quota import ENTRY, Quota
from modelplex.dialects.core.surrogates import mended
from modelplex.dialects.core.usage import count
from modelplex.dialects.dialect import ResponseReader


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
    """A line of /api/chat (`message`) or of /api/generate (`response`, `thinking`); a whole answer
    has the same form.
    """

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


BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What bytes raise that are not the JSON that is due, no UTF-8, or nested without a floor."""

_line_decoder = msgspec.json.Decoder(_Line)


class OllamaStreamReader:
    """A dialect.Reader: the lines of /api/chat and of /api/generate alike."""

    def __init__(self, written: ProviderRequest, *, limit: int = MAX_LINE) -> None:
        self.quota = Quota()
        self._lines = NdjsonReader(limit=limit)
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
            line = _line_decoder.decode(mended(data))
        except BROKEN as error:
            return self._fail(f"Ollama sent a line that is not of its form: {error}")
        if bytes(line.error) != b"null":
            return self._fail(f"Ollama: {sentence(line.error)}", body=data)
        events: list[Event] = (
            [] if self._begun else [ResponseStarted(model=line.model, created=seconds(line.created_at))]
        )
        self._begun = True
        try:
            events += self._output(line)
        except BROKEN as error:
            return [*events, *self._fail(f"Ollama sent a tool call that is not of its form: {error}")]
        if line.done:
            events += self._done(line)
        return events

    def _output(self, line: _Line) -> Iterator[Event]:
        message = line.message or _ReadMessage(line.response, line.thinking)
        if message.thinking:
            yield from self._turn_to("thinking")
            yield ReasoningDelta(self._parts - 1, message.thinking)
        if line.logprobs and (message.content or not message.thinking):
            # Tokens of a character that is not complete yet come with no text; they go with the
            # text that they become.
            self.quota.take(ENTRY * len(line.logprobs))
            self._tokens += line.logprobs
        if message.content:
            yield from self._turn_to("text")
            yield TextDelta(self._parts - 1, message.content, logprobs=self._take_tokens())
        for call in message.tool_calls or ():
            yield from self._called(call)

    def _turn_to(self, kind: Literal["text", "thinking"]) -> Iterator[Event]:
        if self._open is None or self._open[0] != kind:
            yield from self._close()
            self.quota.take_entry()
            self._open = (kind, self._parts)
            self._parts += 1

    def _close(self) -> Iterator[Event]:
        if self._open is not None:
            yield PartEnded(self._open[1])
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
        yield ToolCallStarted(
            part, call.id or f"call_{self._calls}", self._aliases.get(sent, sent), free=free
        )
        self._calls += 1
        if text:
            yield ToolArgumentsDelta(part, text)
        yield PartEnded(part)

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
            yield UsageReported(Usage(fresh=count(line.prompt_eval_count), output=count(line.eval_count)))
        reason: Reason = "tool_calls" if self._calls else "stop"
        # Ollama drops a call that was cut off, so behind "length" there may be one that was never
        # shown.
        yield ResponseEnded("length" if line.done_reason == "length" else reason)

    def _fail(self, message: str, *, body: bytes | None = None) -> list[Event]:
        self._over = True
        return [ResponseFailed(UpstreamBroken(message, upstream_status=200, upstream_body=body))]


def _unquoted(arguments: bytes) -> bytes:
    """Arguments that are no object: null is none; a string is the object's text, as some servers
    that speak this form send it.

    Raises msgspec.DecodeError for anything else.
    """
    text = msgspec.json.decode(arguments, type=str | None) or "{}"
    msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return text.encode()


def _free_input(arguments: bytes) -> str:
    """What a free-form tool was given; a model that forgot `input` gave the whole text."""
    try:
        return msgspec.json.decode(arguments, type=_FreeInput).input
    except BROKEN:
        return arguments.decode("utf-8", "replace")


def sentence(error: msgspec.Raw) -> str:
    """The error's sentence: a string in Ollama's form, an object with `message` behind some
    proxies.
    """
    try:
        told = msgspec.json.decode(error)
    except BROKEN:
        return bytes(error).decode("utf-8", "replace")
    match told:
        case str(text):
            return text
        case {"message": str(text)}:
            return text
        case _:
            return bytes(error).decode()


def seconds(timestamp: str) -> int:
    """RFC 3339 as Unix seconds; 0 where it is no such thing."""
    try:
        return int(datetime.fromisoformat(timestamp).timestamp())
    except ValueError:
        return 0


def reader(attempt: Attempt, written: ProviderRequest) -> ResponseReader:  # noqa: ARG001 - the contract of every dialect
    """A streamed answer of /api/chat."""
    return OllamaStreamReader(written)


def read_response(body: bytes, attempt: Attempt, written: ProviderRequest) -> list[Event]:  # noqa: ARG001 - the contract of every dialect
    """A whole answer of /api/chat: one object of a line's form with `done` true."""
    whole = OllamaStreamReader(written)
    return [*whole.line(body), *whole.end()]


completion_reader = reader
"""A streamed answer of /api/generate."""

read_completion = read_response
"""A whole answer of /api/generate."""
