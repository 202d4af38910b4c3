"""Observer of Ollama responses that pass unchanged, streamed or whole.

The last line of a stream has `done`, the reason and the counts. Imports no other dialect.
"""

from __future__ import annotations

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import Usage
from modelplex.core.request import RawRequest
from modelplex.dialects.core.json import MALFORMED
from modelplex.dialects.core.ndjson import BOM, IDLE_CAP, MAX_LINE
from modelplex.dialects.core.passthrough import StreamObserver
from modelplex.dialects.core.surrogates import mended
from modelplex.dialects.core.usage import count
from modelplex.dialects.dialect import ObservedResponse
from modelplex.dialects.ollama.response_in import error_inside


class _Function(msgspec.Struct, frozen=True, gc=False):
    arguments: msgspec.Raw = msgspec.Raw()


class _Call(msgspec.Struct, gc=False):
    function: _Function = _Function()


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct, gc=False):
    model: str | None = None
    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def characters(self) -> int:
        message = self.message or _Message(self.response, self.thinking)
        calls = sum(len(call.function.arguments) for call in message.tool_calls or ())
        return len(message.content or "") + len(message.thinking or "") + calls

    @property
    def has_output(self) -> bool:
        message = self.message or _Message(self.response, self.thinking)
        return bool(message.content or message.thinking or message.tool_calls)

    @property
    def usage(self) -> Usage | None:
        if self.prompt_eval_count is None and self.eval_count is None:
            return None
        return Usage(fresh=count(self.prompt_eval_count), output=count(self.eval_count))


class _Vectors(msgspec.Struct, gc=False):
    model: str | None = None
    embeddings: msgspec.Raw = msgspec.Raw(b"null")
    prompt_eval_count: int | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Line).decode
_decode_vectors = msgspec.json.Decoder(_Vectors).decode


class OllamaObserver(StreamObserver):
    """PassthroughObserver of /api/chat and /api/generate. Whole lines are forwarded. The end mark
    is a line with `done`.
    """

    __slots__ = ("_last", "_limit")

    def __init__(self, *, limit: int = MAX_LINE) -> None:
        super().__init__()
        self._limit = limit
        self._last: _Line | None = None

    def _usage(self) -> Usage | None:
        return None if self._last is None else self._last.usage

    def _judge_end(self) -> None:
        if self._last is None:
            self._fail(UpstreamBroken("Ollama broke off before its last line."))

    def feed(self, data: bytes) -> bytes:
        if self.failed is not None:
            return b""
        *whole, rest = data.split(b"\n")
        out: list[bytes] = []
        for piece in whole:
            line = bytes(self._carry + piece) + b"\n"
            self._carry.clear()
            if len(line) > self._limit + 1:
                self._fail_by_length()
            elif self._read_line(line):
                out.append(line)
            if self.failed is not None:
                return b"".join(out)
        self._carry += rest
        if len(self._carry) > self._limit:
            self._fail_by_length()
        return b"".join(out)

    def end(self) -> bytes:
        if self.failed is not None:
            return b""
        rest = bytes(self._carry)
        out = rest if self._read_line(rest) else b""
        if self.failed is None:
            self._judge_end()
        return out

    def _fail_by_length(self) -> None:
        self._fail(UpstreamBroken("Ollama sent a line that is too long to be a response."))

    def _read_line(self, data: bytes) -> bool:
        """Reads a line with its end. Returns whether it may be forwarded."""
        if not data.strip():
            self._idle += len(data)
            if self._idle > IDLE_CAP:
                self._fail(UpstreamBroken("Ollama sent nothing but blank lines."))
            return True
        self._idle = 0
        try:
            line = _decode(data)
        except MALFORMED:
            try:
                line = _decode(mended(data.removeprefix(BOM)))
            except MALFORMED as error:
                return self._fail(UpstreamBroken(f"Ollama sent a line of an unexpected form: {error}"))
        if bytes(line.error) != b"null":
            return self._fail(error_inside(line.error, data), forwarded=self.has_output)
        if self._model is None:
            self._model = line.model
        self.has_output = self.has_output or line.has_output
        self._characters += line.characters
        if line.done:
            self._last = line
            self._finish = line.done_reason or "stop"
            self._counted_at = self._characters
        return True


def observer(raw_request: RawRequest, *, withhold_usage: bool) -> OllamaObserver:
    """An observer of the response. Usage is in the last line of every stream, so that none is
    withheld.
    """
    del raw_request, withhold_usage
    return OllamaObserver()


def observe(body: bytes) -> ObservedResponse:
    """Reads a whole response of /api/chat or /api/generate."""
    try:
        answer = _decode(mended(body))
    except MALFORMED as error:
        return ObservedResponse(error=UpstreamBroken(f"Ollama's response has an unexpected form: {error}"))
    if bytes(answer.error) != b"null":
        return ObservedResponse(answer.model, error=error_inside(answer.error, body))
    if not answer.done:
        return ObservedResponse(answer.model, error=UpstreamBroken("Ollama's response is incomplete."))
    characters = 0 if answer.usage is not None else answer.characters
    return ObservedResponse(answer.model, answer.done_reason or "stop", answer.usage, characters=characters)


def observe_embeddings(body: bytes) -> ObservedResponse:
    """Reads a response of /api/embed."""
    try:
        answer = _decode_vectors(body)
    except MALFORMED as error:
        return ObservedResponse(error=UpstreamBroken(f"Ollama's answer holds no embeddings: {error}"))
    if bytes(answer.error) != b"null":
        return ObservedResponse(answer.model, error=error_inside(answer.error, body))
    if not bytes(answer.embeddings).startswith(b"["):
        return ObservedResponse(answer.model, error=UpstreamBroken("Ollama's answer holds no embeddings."))
    counted = answer.prompt_eval_count
    return ObservedResponse(answer.model, usage=None if counted is None else Usage(fresh=count(counted)))
