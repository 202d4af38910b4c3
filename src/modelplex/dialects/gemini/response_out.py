"""Writes events as a Gemini response, streamed or whole.

Each chunk of a stream has the form of a whole response. The last one has the `finishReason`; it is
written at the end of the stream, since usage may arrive after the reason. A call is one part, which
is written when its arguments are complete; cut arguments are never written as a call (R25).
Imports no other dialect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.events import (
    CitationAdded,
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
from modelplex.core.request import Change, ChatRequest, OpaqueState
from modelplex.dialects.core.broken_responses import ended_early
from modelplex.dialects.core.call_arguments import NOT_AN_OBJECT
from modelplex.dialects.core.response_writer import lost_media, refusal_explanation
from modelplex.dialects.gemini.errors import write_error_event
from modelplex.dialects.gemini.json import DIALECT, STATE_FORMAT, as_signature
from modelplex.dialects.gemini.messages_out import AnyPart, FunctionCall, SentPart
from modelplex.dialects.gemini.usage import write_logprobs, write_usage

FINISH_REASONS: dict[Reason, str] = {
    "stop": "STOP",
    "stop_sequence": "STOP",
    "length": "MAX_TOKENS",
    "context": "MAX_TOKENS",
    "tool_calls": "STOP",
    "refusal": "SAFETY",
    "filter": "SAFETY",
    "paused": "CONTINUATION",
}
"""docs/reference/translation.md#finish-reasons."""
CUT = frozenset({"length", "context", "filter", "refusal"})
"""Reasons after which a call's arguments may be incomplete."""
PING = b"\n\n"
"""Official clients read a comment as broken JSON, and skip a blank line."""

_encode = msgspec.json.Encoder().encode


class _Call:
    """A call whose arguments arrive."""

    __slots__ = ("called", "pieces", "state")

    def __init__(self, called: ToolCallStarted) -> None:
        self.called = called
        self.pieces: list[str] = []
        self.state: OpaqueState | None = None


class GeminiParts:
    """Makes Gemini's parts of events. What `of` returns may be sent at once."""

    def __init__(self, changes: list[Change]) -> None:
        self._changes = changes
        self._calls: dict[tuple[int, int], _Call] = {}
        self._ended: dict[int, ResponseEnded] = {}
        self._refused: set[int] = set()
        self.usage: Usage | None = None
        self.id = ""
        self.model = ""

    def __repr__(self) -> str:
        return f"<Parts {len(self._calls)} open calls, ended={sorted(self._ended)}>"

    def of(self, event: Event) -> list[AnyPart]:
        """The parts that this event completes."""
        match event:
            case TextDelta():
                return [SentPart(text=event.text)] if event.text else []
            case RefusalDelta():
                self._refused.add(event.choice)
                return [SentPart(text=event.text)]
            case ReasoningDelta():
                return [SentPart(text=event.text, thought=True)] if event.text else []
            case OpaqueStateReceived():
                return self._sealed(event)
            case ToolCallStarted():
                self._calls[event.choice, event.part] = _Call(event)
                return []
            case ToolArgumentsDelta():
                self._calls[event.choice, event.part].pieces.append(event.text)
                return []
            case PartEnded():
                call = self._calls.pop((event.choice, event.part), None)
                return [] if call is None else self._function_call(call, may_be_cut=False)
            case MediaOutput():
                return self._made(event)
            case CitationAdded():
                self._changes.append(
                    Change("drop", "candidates[].citationMetadata", "citations have no form here")
                )
                return []
            case ResponseStarted():
                self.id, self.model = event.id or self.id, event.model or self.model
                self.usage = event.usage or self.usage
                return []
            case UsageReported():
                self.usage = event.usage
                return []
            case ResponseEnded():
                self._ended[event.choice] = event
                return self._rest(event)
            case ResponseFailed():
                raise event.error
            case _:
                assert_never(event)

    def _sealed(self, event: OpaqueStateReceived) -> list[AnyPart]:
        call = self._calls.get((event.choice, event.part))
        if call is not None:
            call.state = event.state
            return []
        signature = as_signature(event.state, redacted=event.redacted)
        is_thought = event.state.format != STATE_FORMAT or event.state.id is None
        return [SentPart(text="", thought=is_thought, thought_signature=signature)]

    def _made(self, event: MediaOutput) -> list[AnyPart]:
        if event.dialect == DIALECT:
            return [event.raw]
        self._changes.append(lost_media("candidates[].content"))
        return []

    def _rest(self, event: ResponseEnded) -> list[AnyPart]:
        """The calls that are still open."""
        held = [key for key in sorted(self._calls) if key[0] == event.choice]
        parts: list[AnyPart] = []
        for key in held:
            parts += self._function_call(self._calls.pop(key), may_be_cut=event.reason in CUT)
        return parts

    def _function_call(self, call: _Call, *, may_be_cut: bool) -> list[AnyPart]:
        text = "".join(call.pieces)
        if call.called.free:
            arguments = _encode({"input": text})
        else:
            arguments = (text.strip() or "{}").encode("utf-8", "replace")
            try:
                msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                if may_be_cut:
                    reason = "a call whose arguments were cut off"
                    self._changes.append(Change("drop", "candidates[].content.parts[].functionCall", reason))
                    return []
                path = "candidates[].content.parts[].functionCall.args"
                self._changes.append(Change("lower", path, NOT_AN_OBJECT))
                arguments = _encode({"_raw": text})
        made = FunctionCall(call.called.id, call.called.name, msgspec.Raw(arguments))
        signature = None if call.state is None else as_signature(call.state)
        return [SentPart(function_call=made, thought_signature=signature)]

    def finished(self) -> list[tuple[int, dict[str, Any]]]:
        """The index and the final members of each choice."""
        finished: list[tuple[int, dict[str, Any]]] = []
        for choice, ended in sorted(self._ended.items()):
            name = "SAFETY" if choice in self._refused else FINISH_REASONS[ended.reason]
            finish: dict[str, Any] = {"finishReason": name}
            if (explanation := refusal_explanation(ended)) is not None:
                finish["finishMessage"] = explanation
            finished.append((choice, finish))
        return finished

    @property
    def is_whole(self) -> bool:
        return bool(self._ended)


class GeminiStreamWriter:
    """EventWriter (dialects/dialect.py) of Gemini."""

    media_type = "text/event-stream"

    def __init__(self, call: ChatRequest, *, id: str, created: int, model: str) -> None:
        del call, created  # not in this dialect's responses
        self.changes: list[Change] = []
        self._parts = GeminiParts(self.changes)
        self._id = id
        self._model = model
        self._tail = b""
        self._open: set[int] = set()
        self._failed = False

    def __repr__(self) -> str:
        return f"<GeminiStreamWriter failed={self._failed} {self._parts!r}>"

    def send(self, event: Event) -> bytes:
        if self._failed:
            return b""
        if isinstance(event, TextDelta) and event.logprobs is None and event.text:
            # Nearly all chunks are these, so the frame is not encoded anew.
            self._open.add(event.choice)
            return (
                b'data: {"candidates":[{"content":{"parts":[{"text":%s}],"role":"model"},"index":%d}]%s'
                % (
                    _encode(event.text),
                    event.choice,
                    self._tail or self._named(),
                )
            )
        try:
            parts = self._parts.of(event)
        except ModelplexError as error:
            return self._fail(error)
        choice = getattr(event, "choice", 0)
        if isinstance(event, ResponseEnded):
            self._open.discard(choice)
        elif not isinstance(event, ResponseStarted | UsageReported):
            self._open.add(choice)
        tokens = (
            write_logprobs(event.logprobs)
            if isinstance(event, TextDelta) and event.logprobs is not None
            else None
        )
        if not parts and tokens is None:
            return b""
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": choice}
        if tokens is not None:
            candidate["logprobsResult"] = tokens
        return self._chunk([candidate])

    def ping(self) -> bytes:
        return PING

    def end(self) -> bytes:
        if self._failed:
            return b""
        if self._open or not self._parts.is_whole:
            return self._fail(ended_early())
        last = [
            {"content": {"parts": [{"text": ""}], "role": "model"}, **finish, "index": choice}
            for choice, finish in self._parts.finished()
        ]
        return self._chunk(last, usage=self._parts.usage)

    def _fail(self, error: ModelplexError) -> bytes:
        self._failed = True
        return write_error_event(error)

    def _chunk(self, candidates: list[dict[str, Any]], *, usage: Usage | None = None) -> bytes:
        counted = b"" if usage is None else b',"usageMetadata":' + bytes(write_usage(usage))
        return b'data: {"candidates":' + _encode(candidates) + counted + (self._tail or self._named())

    def _named(self) -> bytes:
        """The last members of every chunk."""
        named = {"modelVersion": self._parts.model or self._model, "responseId": self._parts.id or self._id}
        self._tail = b"," + _encode(named)[1:] + b"\n\n"
        return self._tail


def write_response(
    events: Sequence[Event],
    call: ChatRequest,  # noqa: ARG001 - the contract of every dialect
    *,
    id: str,
    created: int,  # noqa: ARG001 - the contract of every dialect
    model: str,
) -> tuple[bytes, list[Change]]:
    """A whole response. Raises the error of ResponseFailed."""
    changes: list[Change] = []
    parts = GeminiParts(changes)
    parts_of: dict[int, list[AnyPart]] = {}
    tokens: dict[int, dict[str, Any]] = {}
    for event in events:
        choice = getattr(event, "choice", 0)
        for part in parts.of(event):
            _join(parts_of.setdefault(choice, []), part)
        if (
            isinstance(event, TextDelta)
            and event.logprobs is not None
            and (more := write_logprobs(event.logprobs))
        ):
            held = tokens.setdefault(choice, {"chosenCandidates": [], "topCandidates": []})
            for name, values in more.items():
                held[name] += values
    if not parts.is_whole:
        raise ended_early()
    candidates: list[dict[str, Any]] = []
    for choice, finish in parts.finished():
        content = {"parts": parts_of.get(choice, []), "role": "model"}
        written: dict[str, Any] = {"content": content, **finish, "index": choice}
        if choice in tokens:
            written["logprobsResult"] = tokens[choice]
        candidates.append(written)
    body: dict[str, Any] = {"candidates": candidates}
    if parts.usage is not None:
        body["usageMetadata"] = write_usage(parts.usage)
    body |= {"modelVersion": parts.model or model, "responseId": parts.id or id}
    return _encode(body), changes


def _join(parts: list[AnyPart], part: AnyPart) -> None:
    """Pieces of one text, or of one thought, are one part, which has the thought's signature."""
    last = parts[-1] if parts else None
    if (
        isinstance(part, SentPart)
        and isinstance(last, SentPart)
        and part.text is not None
        and last.text is not None
        and last.thought_signature is None
        and part.thought == last.thought
        and (part.thought or part.text)
    ):
        parts[-1] = msgspec.structs.replace(
            last, text=last.text + part.text, thought_signature=part.thought_signature
        )
    else:
        parts.append(part)


class GeminiArrayFraming:
    """Writes the stream as one JSON array, Google's default without `alt=sse`. `feed` takes whole
    events of GeminiStreamWriter.
    """

    media_type = "application/json"

    def __init__(self) -> None:
        self._begun = False

    def __repr__(self) -> str:
        return f"<ArrayStream begun={self._begun}>"

    def feed(self, events: bytes) -> bytes:
        out = b""
        for event in events.replace(b"\r\n", b"\n").split(b"\n\n"):
            lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                out += (b",\r\n" if self._begun else b"[") + b"\n".join(lines)
                self._begun = True
        return out

    def end(self) -> bytes:
        return b"\n]" if self._begun else b"[]"
