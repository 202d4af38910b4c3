"""Ollama's answers, looked at while they pass untouched from a provider to a client of the same
form.

Above it stands `ollama.py`, below it the vocabulary and the framing of lines. What is told of a
stream is what its last line says; a stream without one broke off.
"""

from __future__ import annotations

import msgspec

from modelplex.core.errors import ModelplexError, UpstreamBroken
from modelplex.core.events import Usage
from modelplex.core.request import RawRequest
from modelplex.dialects.core.ndjson import IDLE_CAP, MAX_LINE
from modelplex.dialects.core.quota import Quota
from modelplex.dialects.core.surrogates import mended
from modelplex.dialects.core.usage import count
from modelplex.dialects.dialect import ObservedResponse
from modelplex.dialects.ollama.response_in import sentence


class _Function(msgspec.Struct, frozen=True):
    arguments: msgspec.Raw = msgspec.Raw()


class _Call(msgspec.Struct):
    function: _Function = _Function()


class _Said(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct):
    model: str | None = None
    message: _Said | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def characters(self) -> int:
        said = self.message or _Said(self.response, self.thinking)
        calls = sum(len(call.function.arguments) for call in said.tool_calls or ())
        return len(said.content or "") + len(said.thinking or "") + calls

    @property
    def has_output(self) -> bool:
        said = self.message or _Said(self.response, self.thinking)
        return bool(said.content or said.thinking or said.tool_calls)

    @property
    def usage(self) -> Usage | None:
        if self.prompt_eval_count is None and self.eval_count is None:
            return None
        return Usage(fresh=count(self.prompt_eval_count), output=count(self.eval_count))


class _Vectors(msgspec.Struct):
    model: str | None = None
    embeddings: msgspec.Raw = msgspec.Raw(b"null")
    prompt_eval_count: int | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Line).decode
_decode_vectors = msgspec.json.Decoder(_Vectors).decode
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class OllamaObserver:
    """dialects/dialect.py's Watch for /api/chat and /api/generate. Whole lines leave, as
    they came.
    """

    def __init__(self, *, limit: int = MAX_LINE) -> None:
        self.has_output = False
        self.failed: ModelplexError | None = None
        self.error_forwarded = False
        self.quota = Quota()
        self._idle = 0
        self._limit = limit
        self._held = bytearray()
        """The beginning of a line whose end has not come."""
        self._model: str | None = None
        self._last: _Line | None = None
        self._characters = 0

    def __repr__(self) -> str:
        return f"<LineWatch done={self._last is not None} failed={self.failed!r}>"

    @property
    def seen(self) -> ObservedResponse:
        last = self._last
        usage = last.usage if last is not None else None
        finish = (last.done_reason or "stop") if last is not None else None
        # The counts stand in the last line alone.
        return ObservedResponse(
            self._model,
            finish,
            usage,
            self.failed,
            characters=self._characters,
            counted_at=self._characters,
        )

    def feed(self, data: bytes) -> bytes:
        if self.failed is not None:
            return b""
        *whole, rest = data.split(b"\n")
        out: list[bytes] = []
        for piece in whole:
            line = bytes(self._held + piece)
            self._held = bytearray()
            if len(line) > self._limit:
                self._fail_by_length()
            if self.failed is not None:
                break
            out.append(self._observe(line + b"\n"))
        self._held += rest
        if len(self._held) > self._limit and self.failed is None:
            self._fail_by_length()
        return b"".join(out)

    def end(self) -> bytes:
        if self.failed is not None:
            return b""
        out = self._observe(bytes(self._held))
        self._judge_end()
        return out

    def _judge_end(self) -> None:
        if self.failed is None and self._last is None:
            self.failed = UpstreamBroken("Ollama broke off before its last line.")

    def _fail_by_length(self) -> None:
        self.failed = UpstreamBroken("Ollama sent a line that is too long to be an answer.")

    def _observe(self, data: bytes) -> bytes:
        """The line with its end, if it may leave."""
        if not data.strip():
            self._idle += len(data)
            if self._idle > IDLE_CAP:
                self.failed = UpstreamBroken("Ollama sent nothing but blank lines.")
            return data
        self._idle = 0
        try:
            line = _decode(mended(data))
        except _BROKEN as error:
            self.failed = UpstreamBroken(f"Ollama sent a line that is not of its form: {error}")
            return b""
        if bytes(line.error) != b"null":
            self.failed = _told(line.error, data)
            self.error_forwarded = self.has_output
            return data if self.has_output else b""
        if self._model is None:
            self._model = line.model
        self.has_output = self.has_output or line.has_output
        self._characters += line.characters
        if line.done:
            self._last = line
        return data


def watch(ask: RawRequest, *, withhold_usage: bool) -> OllamaObserver:
    """Looks on while a stream passes. Its usage stands in the last line, which every
    client gets.
    """
    del ask, withhold_usage
    return OllamaObserver()


def look(body: bytes) -> ObservedResponse:
    """A whole answer of /api/chat or /api/generate: what is in it, and why it is none."""
    try:
        answer = _decode(mended(body))
    except _BROKEN as error:
        return ObservedResponse(error=UpstreamBroken(f"Ollama's answer is not of its form: {error}"))
    if bytes(answer.error) != b"null":
        return ObservedResponse(answer.model, error=_told(answer.error, body))
    if not answer.done:
        return ObservedResponse(answer.model, error=UpstreamBroken("Ollama's answer is not a whole one."))
    characters = 0 if answer.usage is not None else answer.characters
    return ObservedResponse(answer.model, answer.done_reason or "stop", answer.usage, characters=characters)


def look_at_vectors(body: bytes) -> ObservedResponse:
    """An answer of /api/embed."""
    try:
        answer = _decode_vectors(body)
    except _BROKEN as error:
        return ObservedResponse(error=UpstreamBroken(f"Ollama's answer holds no embeddings: {error}"))
    if bytes(answer.error) != b"null":
        return ObservedResponse(answer.model, error=_told(answer.error, body))
    if not bytes(answer.embeddings).startswith(b"["):
        return ObservedResponse(answer.model, error=UpstreamBroken("Ollama's answer holds no embeddings."))
    counted = answer.prompt_eval_count
    return ObservedResponse(answer.model, usage=None if counted is None else Usage(fresh=count(counted)))


def _told(error: msgspec.Raw, body: bytes) -> UpstreamBroken:
    return UpstreamBroken(f"Ollama: {sentence(error)}", upstream_status=200, upstream_body=body)
