"""Writes events as a Responses API response, streamed or whole.

The order of events is that of docs/reference/wire-formats.md#responses, which OpenAI's client
libraries rely on. A whole response is the last event of its stream. Imports no other dialect.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelplex.core.errors import OVERFLOW, ModelplexError
from modelplex.core.events import (
    ContentEvent,
    Event,
    PartEnded,
    Reason,
    ResponseEnded,
    ResponseFailed,
    ResponseStarted,
    TextDelta,
    Usage,
    UsageReported,
)
from modelplex.core.request import Change, ChatRequest
from modelplex.dialects.core import sse
from modelplex.dialects.core.broken_responses import ended_early
from modelplex.dialects.core.response_writer import refusal_explanation
from modelplex.dialects.dialect import StoredContext
from modelplex.dialects.openai_responses.compaction import is_compaction, no_summary
from modelplex.dialects.openai_responses.constants import DIALECT
from modelplex.dialects.openai_responses.response_items_out import EventNumbering, ItemWriter
from modelplex.dialects.openai_responses.response_object import ResponseObject

PREFIX = "resp_"
INCOMPLETE: dict[Reason, str | None] = {
    "stop": None,
    "stop_sequence": None,
    "tool_calls": None,
    "length": "max_output_tokens",
    "context": "max_output_tokens",
    "paused": "max_output_tokens",
    "refusal": "content_filter",
    "filter": "content_filter",
}
"""Why a response is incomplete, None where it is complete
(docs/reference/translation.md#finish-reasons).
"""

CUT = frozenset(reason for reason, why in INCOMPLETE.items() if why is not None)


class ResponsesWriter:
    """EventWriter (dialects/dialect.py) of Responses. A response has one choice; others are not
    written.
    """

    media_type = "text/event-stream"

    def __init__(
        self, call: ChatRequest, *, id: str, created: int, model: str, kept: StoredContext | None = None
    ) -> None:
        self.changes: list[Change] = []
        self._call = call
        self._id = id
        self._created = created
        self._model = model
        self._kept = kept or StoredContext()
        self._events = EventNumbering()
        self._object: ResponseObject | None = None
        self._items: ItemWriter | None = None
        """Set by the first event, with `_object`."""
        self._tier: str | None = None
        self._usage: Usage | None = None
        self._ended: ResponseEnded | None = None
        self._is_over = False
        self._summary: list[str] | None = [] if is_compaction(call) else None
        """The text of a response that is written as an item `compaction`."""

    def __repr__(self) -> str:
        return f"<ResponsesWriter {self._events.count} events, {self._items!r}, over={self._is_over}>"

    def send(self, event: Event) -> bytes:
        if self._is_over:
            return b""
        if self._summary is not None and isinstance(event, ContentEvent | PartEnded):
            if isinstance(event, TextDelta) and not event.choice:
                self._summary.append(event.text)
            return self._begun()[0]
        if isinstance(event, TextDelta) and self._items is not None and not event.choice:
            return self._items.write(event)  # nearly all events
        match event:
            case ResponseStarted():
                return self._begin(event) if self._items is None else b""
            case ResponseFailed():
                return self._fail(event.error)
            case UsageReported():
                self._usage = event.usage
                return b""
            case _ if event.choice:
                return b""
            case ResponseEnded():
                self._ended = event
                return b"" if self._items is not None else self._begin(ResponseStarted())
            case _:
                begun, items = self._begun()
                return begun + items.write(event)

    def ping(self) -> bytes:
        """A comment: clients read every data event as one of theirs (R50)."""
        return sse.comment(b"ping")

    def end(self) -> bytes:
        if self._is_over:
            return b""
        if self._ended is None:
            return self._fail(ended_early())
        if self._summary is not None and (self._ended.reason in CUT or not "".join(self._summary).strip()):
            return self._fail(no_summary())
        out, status = self._close_all()
        self._is_over = True
        return out + self._events.event(f"response.{status}", b'"response":' + self._response(status))

    def whole(self) -> bytes:
        """The response object, once everything was sent. Raises UpstreamBroken for a compaction
        without a summary.
        """
        if self._summary is not None and not "".join(self._summary).strip():
            raise no_summary()
        _, status = self._close_all()
        return self._response(status)

    def _fail(self, error: ModelplexError) -> bytes:
        """The in-stream error, with all that came before it. Nothing may follow it."""
        begun, items = self._begun()
        for item in items.open_items:
            item.settle("incomplete")
        self._is_over = True
        response = self._response("failed", error=error)
        return begun + self._events.event("response.failed", b'"response":' + response)

    def _begun(self) -> tuple[bytes, ItemWriter]:
        """The writer of items, and the bytes that begin the response where nothing did before."""
        begun = b"" if self._items is not None else self._begin(ResponseStarted())
        assert self._items is not None
        return begun, self._items

    def _begin(self, event: ResponseStarted) -> bytes:
        name = event.id if event.id.startswith(PREFIX) else self._id
        name = name.removeprefix(PREFIX)
        self._object = ResponseObject(
            self._call, id=PREFIX + name, created=event.created or self._created, kept=self._kept
        )
        self._items = ItemWriter(self._events, response_id=name, tools=self._call.tools, changes=self.changes)
        self._model = event.model or self._model
        self._tier = event.tier
        self._usage = event.usage or self._usage
        response = b'"response":' + self._object.write("in_progress", model=self._model, output=[])
        created = self._events.event("response.created", response)
        return created + self._events.event("response.in_progress", response)

    def _response(self, status: str, *, error: ModelplexError | None = None) -> bytes:
        assert self._object is not None
        assert self._items is not None
        return self._object.write(
            status,
            model=self._model,
            output=self._items.output,
            usage=self._usage,
            tier=self._tier,
            error=error,
            reason=INCOMPLETE[self._ended.reason] if status == "incomplete" and self._ended else None,
        )

    def _close_all(self) -> tuple[bytes, str]:
        """Close every item. Returns the bytes and the status of the response."""
        ended = self._ended or ResponseEnded("stop")
        out, items = self._begun()
        explanation = refusal_explanation(ended)
        if explanation and not items.refused:
            out += items.write_refusal(-1, explanation)
        if ended.reason == "paused":
            lowered = "a paused turn is reported as max_output_tokens"
            self.changes.append(Change("lower", "incomplete_details.reason", lowered))
        if self._summary is not None:
            out += items.write_compaction("".join(self._summary).strip())
        reason = INCOMPLETE[ended.reason]
        if ended.reason == "refusal" and items.refused and ended.detail is None:
            reason = None  # the refusal is a part of its own, in the model's words
            self._ended = ResponseEnded("stop")
        out += items.close_all(cut=reason is not None)
        return out, "completed" if reason is None else "incomplete"


HEEDED_IN_STREAM = frozenset({OVERFLOW, "insufficient_quota", "usage_not_included", "cyber_policy"})
"""Codes that Codex heeds in `response.failed` alone, as OpenAI sends them: after an HTTP error with
one it neither compacts nor tells the reason
(https://github.com/openai/codex/blob/main/codex-rs/codex-api/src/sse/responses.rs).
"""


def write_failed_stream(error: ModelplexError, *, id: str, created: int, model: str) -> bytes | None:
    """The stream of a response that failed before its first output, for an error whose code clients
    heed inside a stream; None for others, whose HTTP status decides.
    """
    if error.code not in HEEDED_IN_STREAM or error.blame not in {"client", "provider"}:
        return None
    call = ChatRequest(dialect=DIALECT, model=model, messages=(), stream=True)
    writer = ResponsesWriter(call, id=id, created=created, model=model)
    return writer.send(ResponseFailed(error))


def write_response(
    events: Sequence[Event],
    call: ChatRequest,
    *,
    id: str,
    created: int,
    model: str,
    kept: StoredContext | None = None,
) -> tuple[bytes, list[Change]]:
    """A whole response. Raises the error of ResponseFailed."""
    writer = ResponsesWriter(call, id=id, created=created, model=model, kept=kept)
    for event in events:
        if isinstance(event, ResponseFailed):
            raise event.error
        writer.send(event)
    return writer.whole(), writer.changes
