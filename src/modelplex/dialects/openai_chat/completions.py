"""OpenAI's legacy text completions: requests read, responses written, and passthrough.

The choices of all prompts are one list: choice = prompt * n + i
(docs/reference/wire-formats.md#completions-and-embeddings).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.events import (
    CitationAdded,
    Event,
    MediaOutput,
    OpaqueStateReceived,
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
from modelplex.core.request import Change, CompletionRequest, RawRequest
from modelplex.dialects.core import sse
from modelplex.dialects.core.broken_responses import ended_early
from modelplex.dialects.core.json import encode
from modelplex.dialects.openai_chat.errors import read_error, write_error
from modelplex.dialects.openai_chat.fields import COMPLETION_FIELDS
from modelplex.dialects.openai_chat.passthrough import observe, observer
from modelplex.dialects.openai_chat.prompts import read_prompts
from modelplex.dialects.openai_chat.response_out import DONE, finish_reason, write_error_event
from modelplex.dialects.openai_chat.usage import write_usage

__all__ = [
    "DIALECT",
    "CompletionWriter",
    "observe",
    "observer",
    "read_completion",
    "read_error",
    "write_error",
    "write_response",
]

DIALECT = "openai_completions"
NO_PROMPT = "<|endoftext|>"
"""The prompt where none is given, by OpenAI's documentation: the beginning of a new document."""
_OUTPUTS: dict[type, str] = {
    CitationAdded: "citations",
    MediaOutput: "media",
    OpaqueStateReceived: "opaque state",
    ReasoningDelta: "reasoning",
    RefusalDelta: "refusals",
    ToolArgumentsDelta: "tool calls",
    ToolCallStarted: "tool calls",
}
"""Output that text completions cannot hold, by event."""


def read_completion(raw_request: RawRequest) -> CompletionRequest:
    """The whole request, understood. Raises BadRequest with `param` naming the field."""
    values = COMPLETION_FIELDS.read(raw_request.fields)
    prompt = values.take("prompt")
    if values.get("sampling.top_logprobs") is not None:
        values.set("sampling.logprobs", True, path="logprobs")
    return CompletionRequest(
        dialect=DIALECT,
        model=raw_request.model,
        prompts=(NO_PROMPT,) if prompt is None else read_prompts(prompt, path="prompt"),
        stream=raw_request.stream,
        include_usage=raw_request.include_usage,
        **values.members(),
    )


class CompletionWriter:
    """dialects/dialect.py's Writer: every chunk is a whole answer in small, its `text` the next
    piece.
    """

    media_type = "text/event-stream"

    def __init__(self, asked: CompletionRequest, *, id: str, created: int, model: str) -> None:
        self.changes: list[Change] = []
        self._asked = asked
        self._began = ResponseStarted(id=id, model=model, created=created)
        self._head = b""
        self._usage: Usage | None = None
        self._open: dict[int, bool] = {}
        """The choices that were seen, and whether each has ended."""
        self._failed = False

    def __repr__(self) -> str:
        return f"<CompletionWriter {sum(self._open.values())} of {len(self._open)} choices ended>"

    def send(self, event: Event) -> bytes:
        if self._failed:
            return b""
        match event:
            case ResponseStarted():
                self._began = _named(event, self._began)
                self._usage = event.usage or self._usage
            case ResponseFailed():
                return self._fail(event.error)
            case UsageReported():
                self._usage = event.usage
            case TextDelta():
                self._open.setdefault(event.choice, False)
                return self._chunk(event.choice, event.text, None) if event.text else b""
            case ResponseEnded():
                self._open[event.choice] = True
                return self._chunk(event.choice, "", _word(event, self.changes))
            case _:
                lose(event, self.changes)
        return b""

    def ping(self) -> bytes:
        return sse.comment(b"ping")

    def end(self) -> bytes:
        if self._failed:
            return b""
        if not self._open or not all(self._open.values()):
            return self._fail(ended_early())
        if not self._asked.include_usage or self._usage is None:
            return DONE
        return (
            sse.event(encode({**_head(self._began), "choices": [], "usage": write_usage(self._usage)})) + DONE
        )

    def _fail(self, error: ModelplexError) -> bytes:
        self._failed = True
        return write_error_event(error)

    def _chunk(self, choice: int, text: str, finish: str | None) -> bytes:
        chunk: dict[str, Any] = {**_head(self._began), "choices": [_choice(choice, text, finish)]}
        if self._asked.include_usage:
            chunk["usage"] = None
        return sse.event(encode(chunk))


def write_response(
    events: Sequence[Event],
    asked: CompletionRequest,
    *,
    id: str,
    created: int,
    model: str,
) -> tuple[bytes, list[Change]]:
    """A whole answer. Raises the error of a Failed."""
    del asked
    began = ResponseStarted(id=id, model=model, created=created)
    usage: Usage | None = None
    texts: dict[int, list[str]] = {}
    finishes: dict[int, str] = {}
    changes: list[Change] = []
    for event in events:
        match event:
            case ResponseStarted():
                began, usage = _named(event, began), event.usage or usage
            case UsageReported():
                usage = event.usage
            case ResponseFailed():
                raise event.error
            case TextDelta():
                texts.setdefault(event.choice, []).append(event.text)
            case ResponseEnded():
                finishes[event.choice] = _word(event, changes)
            case _:
                lose(event, changes)
    choices = [
        _choice(index, "".join(texts.get(index, ())), finishes.get(index, "stop"))
        for index in sorted({*texts, *finishes})
    ]
    answer: dict[str, Any] = {**_head(began), "choices": choices}
    if usage is not None:
        answer["usage"] = write_usage(usage)
    return encode(answer), changes


def _named(event: ResponseStarted, given: ResponseStarted) -> ResponseStarted:
    """What the provider says of the answer, and where it says nothing, what we call it."""
    return msgspec.structs.replace(
        event,
        id=event.id or given.id,
        model=event.model or given.model,
        created=event.created or given.created,
    )


def _head(began: ResponseStarted) -> dict[str, Any]:
    head: dict[str, Any] = {
        "id": began.id,
        "object": "text_completion",
        "created": began.created,
        "model": began.model,
    }
    if began.fingerprint is not None:
        head["system_fingerprint"] = began.fingerprint
    return head


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _word(event: ResponseEnded, changes: list[Change]) -> str:
    """This form knows stop, length and content_filter."""
    word = finish_reason(event, refused=False, old=False, changes=changes)
    return "stop" if word == "tool_calls" else word


def lose(event: Event, changes: list[Change]) -> None:
    """Reports output that text completions cannot hold, once of each kind."""
    if (output := _OUTPUTS.get(type(event))) is None:
        return
    lost = Change("drop", "choices[].text", f"text completions have no {output}")
    if lost not in changes:
        changes.append(lost)
