"""Reads Ollama responses into events: the lines of /api/chat and /api/generate, and whole
responses, which have the same form. Imports no other dialect.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec

from modelplex.core.errors import OVERFLOW, BadRequest, ModelplexError, UpstreamBroken, UpstreamReply
from modelplex.core.events import (
    Event,
    PartEnded,
    ReasoningDelta,
    ResponseEnded,
    ResponseStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    Usage,
    UsageReported,
)
from modelplex.core.request import Attempt, ProviderRequest
from modelplex.dialects.core.context_overflow import is_overflow
from modelplex.dialects.core.json import MALFORMED
from modelplex.dialects.core.ndjson import MAX_LINE, NdjsonReader
from modelplex.dialects.core.quota import ENTRY
from modelplex.dialects.core.response_reader import EventBuffer
from modelplex.dialects.core.streamed_calls import free_input
from modelplex.dialects.core.surrogates import mended
from modelplex.dialects.core.usage import count


class _ReadFunction(msgspec.Struct, gc=False):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _ReadCall(msgspec.Struct, gc=False):
    function: _ReadFunction
    id: str | None = None


class _ReadMessage(msgspec.Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ReadCall] | None = None


class _Token(msgspec.Struct, gc=False):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _TokenWithOthers(_Token, gc=False):
    top_logprobs: list[_Token] | None = None


class _Line(msgspec.Struct, gc=False):
    """A line of /api/chat (`message`) or of /api/generate (`response`, `thinking`), or a whole
    response.
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


_decode = msgspec.json.Decoder(_Line).decode


class OllamaStreamReader:
    """ResponseReader (dialects/dialect.py) of the lines of /api/chat and of /api/generate."""

    def __init__(self, attempt: Attempt, written: ProviderRequest, *, limit: int = MAX_LINE) -> None:
        del attempt  # this dialect has no opaque state
        self._out = EventBuffer()
        self.quota = self._out.quota
        self._lines = NdjsonReader(limit=limit)
        self._aliases = written.aliases
        self._free = written.free
        self._has_started = False
        self._open_kind = ""
        self._open_part = -1
        self._calls = 0
        self._tokens: list[_TokenWithOthers] = []
        """Log probabilities that wait for their text."""

    def __repr__(self) -> str:
        return f"<OllamaStreamReader {self._out!r} calls={self._calls}>"

    def feed(self, data: bytes) -> list[Event]:
        return self._read(lambda: self._lines.feed(data))

    def end(self) -> list[Event]:
        return self._read(self._lines.end, is_end=True)

    def read_whole(self, body: bytes) -> list[Event]:
        """The events of a response that is not streamed: one object of a line's form."""
        return self._read(lambda: [body], is_end=True)

    def _read(self, lines: Callable[[], list[bytes]], *, is_end: bool = False) -> list[Event]:
        out = self._out
        if out.is_over:
            return []
        try:
            for line in lines():
                self._read_line(line)
                if out.is_over:
                    break
            if self._lines.overflowed and not out.is_over:
                raise _broken("Ollama sent a line that is too long to be a response.")
            if is_end and not out.is_over:
                raise _broken("Ollama broke off before its last line.")
        except ModelplexError as error:
            out.fail(error)
        return out.take()

    def _read_line(self, data: bytes) -> None:
        try:
            line = _decode(mended(data))
        except MALFORMED as error:
            raise _broken(f"Ollama sent a line of an unexpected form: {error}") from None
        if bytes(line.error) != b"null":
            raise error_inside(line.error, data)
        if not self._has_started:
            self._has_started = True
            self._out.events.append(ResponseStarted(model=line.model, created=seconds(line.created_at)))
        try:
            self._read_message(line)
        except MALFORMED as error:
            raise _broken(f"Ollama sent a tool call of an unexpected form: {error}") from None
        if line.done:
            self._finish(line)

    def _read_message(self, line: _Line) -> None:
        message = line.message or _ReadMessage(line.response, line.thinking)
        events = self._out.events
        if message.thinking:
            events.append(ReasoningDelta(self._part("thinking"), message.thinking))
        if line.logprobs and (message.content or not message.thinking):
            # Tokens of an incomplete character come without text, and belong to the text that
            # follows.
            self.quota.take(ENTRY * len(line.logprobs))
            self._tokens += line.logprobs
        if message.content:
            tokens = self._take_tokens() if self._tokens else None
            events.append(TextDelta(self._part("text"), message.content, logprobs=tokens))
        for call in message.tool_calls or ():
            self._read_call(call)

    def _part(self, kind: Literal["text", "thinking"]) -> int:
        """The number of the open part of this kind."""
        if self._open_kind != kind:
            self._close()
            self._open_kind, self._open_part = kind, self._out.next_part()
        return self._open_part

    def _close(self) -> None:
        if self._open_kind:
            self._out.events.append(PartEnded(self._open_part))
            self._open_kind = ""

    def _read_call(self, call: _ReadCall) -> None:
        name = call.function.name
        arguments = bytes(call.function.arguments)
        if not arguments.startswith(b"{"):
            arguments = _as_object(arguments)
        free = name in self._free
        text = free_input(arguments.decode()) if free else arguments.decode()
        self._close()
        part, events = self._out.next_part(), self._out.events
        id_ = call.id or f"call_{self._calls}"
        self._calls += 1
        events.append(ToolCallStarted(part, id_, self._aliases.get(name, name), free=free))
        if text:
            events.append(ToolArgumentsDelta(part, text))
        events.append(PartEnded(part))

    def _take_tokens(self) -> msgspec.Raw:
        for token in self._tokens:
            token.top_logprobs = token.top_logprobs or []
        entries, self._tokens = self._tokens, []
        return msgspec.Raw(msgspec.json.encode(entries))

    def _finish(self, line: _Line) -> None:
        self._close()
        events = self._out.events
        if line.prompt_eval_count is not None or line.eval_count is not None:
            # A prompt that was cached whole has no count.
            events.append(
                UsageReported(Usage(fresh=count(line.prompt_eval_count), output=count(line.eval_count)))
            )
        # Ollama leaves out a call that was cut off: after "length" there may have been one.
        is_cut = line.done_reason == "length"
        events.append(ResponseEnded("length" if is_cut else "tool_calls" if self._calls else "stop"))
        self._out.is_over = True


def error_inside(error: msgspec.Raw, body: bytes) -> ModelplexError:
    """The error inside a 200: a line of a stream, or a whole response."""
    text = error_message(error)
    if is_overflow(0, text):
        return overflowed(text, status=200, body=body)
    return _broken(f"Ollama: {text}", body=body)


def overflowed(text: str, *, status: int, body: bytes) -> BadRequest:
    """The error of a conversation that is too long; its runner answers some with 500."""
    return BadRequest(f"Ollama: {text}", code=OVERFLOW, upstream=UpstreamReply(status=status, body=body))


def _broken(message: str, *, body: bytes | None = None) -> UpstreamBroken:
    return UpstreamBroken(message, upstream=UpstreamReply(status=200, body=body))


def _as_object(arguments: bytes) -> bytes:
    """The arguments of a call that are not an object: null is an empty one; a string is the
    object's text, as some servers of this dialect send it. Raises msgspec.DecodeError for anything
    else.
    """
    text = msgspec.json.decode(arguments, type=str | None) or "{}"
    msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return text.encode()


def error_message(error: msgspec.Raw) -> str:
    """The message of `error`: a string at Ollama, an object with `message` behind some proxies."""
    try:
        decoded = msgspec.json.decode(error)
    except MALFORMED:
        return bytes(error).decode("utf-8", "replace")
    match decoded:
        case str(text):
            return text
        case {"message": str(text)}:
            return text
        case _:
            return bytes(error).decode()


def seconds(timestamp: str) -> int:
    """RFC 3339 as Unix seconds; 0 for other text."""
    try:
        return int(datetime.fromisoformat(timestamp).timestamp())
    except ValueError:
        return 0


def read_response(body: bytes, attempt: Attempt, written: ProviderRequest) -> list[Event]:
    """The events of a whole response of /api/chat or /api/generate."""
    return OllamaStreamReader(attempt, written).read_whole(body)
