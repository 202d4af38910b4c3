"""Writes events as an Ollama response: the lines of /api/chat and /api/generate, and whole
responses, which have the same form.

A call is one line, written when its arguments are complete. The last line has `done`, the reason
and the counts (docs/reference/wire-formats.md#ollama and
docs/reference/translation.md#stream-writers). Durations are not measured and therefore omitted, as
Ollama omits zeros. Imports no other dialect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, assert_never

import msgspec

from modelplex.core.errors import ModelplexError, UpstreamBroken
from modelplex.core.events import (
    CitationAdded,
    EmbeddingResponse,
    Event,
    MediaOutput,
    OpaqueStateReceived,
    PartEnded,
    Reason,
    ReasoningDelta,
    RefusalDelta,
    ResponseEnded,
    ResponseFailed,
    ResponseStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    Usage,
    UsageReported,
)
from modelplex.core.request import Change, ChatRequest, CompletionRequest
from modelplex.dialects.core import ndjson
from modelplex.dialects.core.broken_responses import ended_early
from modelplex.dialects.core.call_arguments import NOT_AN_OBJECT
from modelplex.dialects.core.error_bodies import forwarded_body, message_with_id
from modelplex.dialects.core.json import encode
from modelplex.dialects.core.response_writer import lost_media, refusal_explanation
from modelplex.dialects.core.vectors import encode_vector
from modelplex.dialects.ollama.request_in import GENERATE

DONE_REASONS: dict[Reason, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "context": "length",
    "tool_calls": "stop",
    "refusal": "stop",
    "filter": "stop",
    "paused": "length",
}
"""Ollama has two reasons (docs/reference/translation.md#finish-reasons)."""
_LOSSY_REASONS = frozenset({"refusal", "filter", "paused", "context"})
"""Reasons for which Ollama's are less precise."""
_MAY_BE_CUT = frozenset({"length", "context"})
SPOKEN = "0.13.5"
"""The version of Ollama whose API this is. Clients refuse an older one."""
_decode_any = msgspec.json.Decoder().decode


class _Call:
    """A call whose arguments arrive."""

    __slots__ = ("called", "texts")

    def __init__(self, called: ToolCallStarted) -> None:
        self.called = called
        self.texts: list[str] = []


class OllamaStreamWriter:
    """EventWriter (dialects/dialect.py) of /api/chat and /api/generate, by the dialect of the
    request.
    """

    media_type = "application/x-ndjson"

    def __init__(self, call: ChatRequest | CompletionRequest, *, id: str, created: int, model: str) -> None:
        del id  # responses of this dialect have none
        self.changes: list[Change] = []
        self._generate = call.dialect == GENERATE
        self._text_line = (
            b'%s"response":%s,"done":false}'
            if self._generate
            else b'%s"message":{"role":"assistant","content":%s},"done":false}'
        )
        self._model = model
        self._created = created
        self._head = b""
        self._calls: dict[int, _Call] = {}
        self._called = 0
        self._usage: Usage | None = None
        self._refused = False
        self._ended: ResponseEnded | None = None
        self._failed = False

    def __repr__(self) -> str:
        return (
            f"<OllamaStreamWriter calls={self._called} ended={self._ended is not None} failed={self._failed}>"
        )

    def send(self, event: Event) -> bytes:
        if self._failed:
            return b""
        match event:
            case ResponseStarted():
                self._begin(event)
                return b""
            case ResponseFailed():
                return self._fail(event.error)
            case UsageReported():
                self._usage = event.usage
                return b""
            case TextDelta():
                if not event.text and event.logprobs is None:
                    return b""
                if event.logprobs is not None or not self._head:
                    return self._line({"content": event.text}, logprobs=event.logprobs)
                # Nearly all lines are these, so that the frame is not encoded anew.
                return ndjson.line(self._text_line % (self._head, encode(event.text)))
            case RefusalDelta():
                self._refused = True
                self._lose("lower", "message.content", "a refusal is sent as plain text")
                return self._line({"content": event.text})
            case ReasoningDelta():
                return self._line({"thinking": event.text}) if event.text else b""
            case ToolCallStarted():
                self._calls[event.part] = _Call(event)
                return b""
            case ToolArgumentsDelta():
                self._calls[event.part].texts.append(event.text)
                return b""
            case PartEnded():
                return self._call(event.part)
            case OpaqueStateReceived():
                self._lose("drop", "message.thinking", "opaque state has no place here")
                return b""
            case CitationAdded():
                self._lose("drop", "message.content", "citations have no place here")
                return b""
            case MediaOutput():
                self._keep_loss(lost_media("message"))
                return b""
            case ResponseEnded():
                return self._end(event)
            case _:
                assert_never(event)

    def ping(self) -> bytes:
        """Nothing: clients read every line as a chunk."""
        return b""

    def end(self) -> bytes:
        if self._failed:
            return b""
        if self._ended is None:
            return self._fail(ended_early())
        last: dict[str, Any] = {"done": True, "done_reason": DONE_REASONS[self._ended.reason]}
        if self._usage is not None:
            counts = {"prompt_eval_count": self._usage.input, "eval_count": self._usage.output}
            last |= {name: count for name, count in counts.items() if count}
        return self._line({}, rest=last)

    # --- lines

    def _begin(self, event: ResponseStarted) -> None:
        if not self._head:
            name, created = event.model or self._model, event.created or self._created
            head = encode({"model": name, "created_at": timestamp(created)})
            self._head = head[:-1] + b","
            self._usage = event.usage or self._usage

    def _line(
        self, content: Mapping[str, Any], *, logprobs: msgspec.Raw | None = None, rest: Mapping[str, Any] = {}
    ) -> bytes:
        if not self._head:
            self._begin(ResponseStarted())
        if self._generate:
            line: dict[str, Any] = {"response": content.get("content", "")}
            line |= {name: value for name, value in content.items() if name != "content"}
        else:
            line = {"message": {"role": "assistant", "content": "", **content}}
        line["done"] = False
        if logprobs is not None:
            line["logprobs"] = logprobs
        return ndjson.line(self._head + encode({**line, **rest})[1:])

    def _call(self, part: int) -> bytes:
        """The line of a call, where the part is a call that was not written yet."""
        call = self._calls.pop(part, None)
        if call is None:
            return b""
        called, text = call.called, "".join(call.texts)
        if called.free:
            arguments = msgspec.Raw(encode({"input": text}))
        else:
            try:
                value = _decode_any(text.strip() or "{}")
            except (msgspec.DecodeError, RecursionError):
                value = None
            if not isinstance(value, dict):
                self._lose("lower", "message.tool_calls", NOT_AN_OBJECT)
            whole = text.strip() or "{}"
            arguments = msgspec.Raw(whole.encode() if isinstance(value, dict) else encode({"_raw": text}))
        function = {"index": self._called, "name": called.name, "arguments": arguments}
        self._called += 1
        return self._line({"tool_calls": [{"id": called.id, "function": function}]})

    def _end(self, event: ResponseEnded) -> bytes:
        self._ended = event
        out = b""
        for part in sorted(self._calls):
            if event.reason in _MAY_BE_CUT and part == max(self._calls) and not self._is_whole(part):
                # Ollama leaves out a call that was cut off, too.
                self._lose("drop", "message.tool_calls", "a call that the output limit cut off")
                del self._calls[part]
                continue
            out += self._call(part)
        if self._failed:
            return out
        explanation = refusal_explanation(event)
        if explanation and not self._refused:
            out += self._line({"content": explanation})
        if event.reason in _LOSSY_REASONS:
            name = DONE_REASONS[event.reason]
            self._lose("lower", "done_reason", f"the finish reason {event.reason} is sent as {name!r}")
        return out

    def _is_whole(self, part: int) -> bool:
        call = self._calls[part]
        try:
            return call.called.free or isinstance(_decode_any("".join(call.texts)), dict)
        except (msgspec.DecodeError, RecursionError):
            return False

    def _fail(self, error: ModelplexError) -> bytes:
        self._failed = True
        return error_line(error)

    def _lose(self, op: Any, path: str, reason: str) -> None:
        self._keep_loss(Change(op, path, reason))

    def _keep_loss(self, change: Change) -> None:
        if change not in self.changes:
            self.changes.append(change)


def write_response(
    events: Sequence[Event], call: ChatRequest | CompletionRequest, *, id: str, created: int, model: str
) -> tuple[bytes, list[Change]]:
    """A whole response: the lines of the stream, joined as Ollama joins them. Raises the error of
    ResponseFailed.
    """
    lines = OllamaStreamWriter(call, id=id, created=created, model=model)
    out: list[bytes] = []
    for event in events:
        if isinstance(event, ResponseFailed):
            raise event.error
        out.append(lines.send(event))
    out.append(lines.end())
    return _joined([_decode_any(line) for line in b"".join(out).splitlines()]), lines.changes


def _joined(lines: Sequence[dict[str, Any]]) -> bytes:
    last = lines[-1]
    if "error" in last:
        raise UpstreamBroken(last["error"])
    whole = dict(last)
    inner = [line.get("message") or line for line in lines]
    name = "content" if "message" in last else "response"
    content: dict[str, Any] = {name: "".join(each[name] for each in inner)}
    thinking = "".join(each.get("thinking", "") for each in inner)
    if thinking:
        content["thinking"] = thinking
    calls = [call for each in inner for call in each.get("tool_calls", ())]
    if calls:
        content["tool_calls"] = calls
    if "message" in last:
        whole["message"] = {"role": "assistant", **content}
    else:
        whole |= content
    tokens = [token for line in lines for token in line.get("logprobs", ())]
    if tokens:
        whole["logprobs"] = tokens
    return encode(whole)


def write_embedded(embedded: EmbeddingResponse, model: str) -> bytes:
    """The response of /api/embed, with floats. Raises UpstreamBroken for invalid base64."""
    answer: dict[str, Any] = {
        "model": embedded.model or model,
        "embeddings": [encode_vector(vector, "float") for vector in embedded.vectors],
    }
    if embedded.usage.input:
        answer["prompt_eval_count"] = embedded.usage.input
    return encode(answer)


def write_loaded(model: str, *, reason: str, generate: bool, created: int) -> bytes:
    """The response to a request that only loads or unloads a model (`read_load`)."""
    content: dict[str, Any] = (
        {"response": ""} if generate else {"message": {"role": "assistant", "content": ""}}
    )
    head = {"model": model, "created_at": timestamp(created)}
    return encode({**head, **content, "done": True, "done_reason": reason})


# --- errors


class _Own(msgspec.Struct, gc=False):
    error: str


def write_error(error: ModelplexError, *, request_id: str) -> tuple[int, bytes]:
    """Status and `{"error": text}`. A provider's own error about the client passes unchanged."""
    body = forwarded_body(error, is_own=_is_own)
    return error.status, body or encode({"error": message_with_id(error, request_id)})


def error_line(error: ModelplexError) -> bytes:
    """The error inside a stream. Nothing may follow it."""
    return ndjson.line(encode({"error": error.message}))


def _is_own(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=_Own)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


# --- models

DETAILS: dict[str, Any] = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": [],
    "parameter_size": "",
    "quantization_level": "",
}
"""Ollama's facts about a model's file. There is no file here, and clients require the fields."""
NEVER = "1970-01-01T00:00:00Z"
"""The date of a model, which is unknown."""


def write_tags(models: Mapping[str, str]) -> bytes:
    """The response of GET /api/tags. `models` maps names to the providers that serve them."""
    return encode(
        {
            "models": [
                {
                    "name": name,
                    "model": name,
                    "modified_at": NEVER,
                    "size": 0,
                    "digest": "",
                    "details": DETAILS,
                }
                for name in models
            ]
        }
    )


def write_show(
    model: str, *, capabilities: Sequence[str] = ("completion", "tools", "vision", "thinking")
) -> bytes:
    """The response of POST /api/show. `capabilities` decide what clients do with the model. Those
    of a provider's model are unknown here, so all are named.
    """
    return encode(
        {
            "model": model,
            "modelfile": "",
            "parameters": "",
            "template": "",
            "license": "",
            "modified_at": NEVER,
            "details": DETAILS,
            "model_info": {},
            "capabilities": list(capabilities),
        }
    )


def write_version(version: str = SPOKEN) -> bytes:
    """The response of GET /api/version."""
    return encode({"version": version})


def timestamp(seconds: int) -> str:
    """RFC 3339 in UTC, as Ollama's clients parse it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
