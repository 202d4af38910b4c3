"""Reads Anthropic Messages responses, streamed or whole, into events.

What the request writer changed (aliases, wrapped arguments, added tools) comes with the
ProviderRequest and is undone here. A whole response is read as a stream that opens each block with
all of its content. A call with empty input gets no ToolArgumentsDelta; each writer then writes "{}"
or {} (docs/reference/translation.md#tool-calls-and-results). Imports no other dialect.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import (
    CitationAdded,
    Event,
    MediaOutput,
    OpaqueStateReceived,
    PartEnded,
    Reason,
    ReasoningDelta,
    ResponseEnded,
    ResponseStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from modelplex.core.request import Attempt, ProviderRequest
from modelplex.dialects.anthropic.errors import AnthropicErrorBody, error_of
from modelplex.dialects.anthropic.messages_out import DIALECT, STATE_FORMAT
from modelplex.dialects.anthropic.usage import UsageMembers
from modelplex.dialects.core.broken_responses import ENDED_EARLY
from modelplex.dialects.core.json import ABSENT, is_given
from modelplex.dialects.core.response_reader import (
    EventBuffer,
    SseResponseReader,
    finish_reason,
    opaque_state,
)
from modelplex.dialects.core.streamed_calls import StreamedCall, free_input
from modelplex.dialects.core.surrogates import mended

REASONS: dict[str, Reason] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "pause_turn": "paused",
    "compaction": "paused",
    "refusal": "refusal",
    "model_context_window_exceeded": "context",
}
"""By `stop_reason` (docs/reference/translation.md#finish-reasons). An unknown one is a natural
end.
"""
_LIMITS: frozenset[Reason] = frozenset({"length", "context"})
_MAY_CUT_A_CALL: frozenset[Reason] = frozenset({"length", "context", "refusal", "paused"})


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    type: str | None = None
    content: list[msgspec.Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: msgspec.Raw = ABSENT
    usage: dict[str, msgspec.Raw] | None = None


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    input: msgspec.Raw = ABSENT
    citations: list[msgspec.Raw] | None = None


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: msgspec.Raw = ABSENT


class _MessageStart(msgspec.Struct, gc=False):
    message: _Message


class _BlockStart(msgspec.Struct, gc=False):
    index: int
    content_block: msgspec.Raw


class _BlockDelta(msgspec.Struct, gc=False):
    index: int
    delta: _Delta


class _BlockStop(msgspec.Struct, gc=False):
    index: int


class _MessageDelta(msgspec.Struct, gc=False):
    delta: _Message = msgspec.field(default_factory=_Message)
    usage: dict[str, msgspec.Raw] | None = None


class _MessageStop(msgspec.Struct, gc=False):
    pass


class _Named(msgspec.Struct, gc=False):
    type: str = ""


_Kind = Literal["text", "thinking", "redacted", "call", "media"]


class _OpenBlock:
    """A block that has begun. `start` is its decoded start, `raw` the same undecoded."""

    __slots__ = ("call", "has_events", "is_broken", "kind", "part", "raw", "start")

    def __init__(self, kind: _Kind, part: int, start: _Block, raw: msgspec.Raw) -> None:
        self.kind = kind
        self.part = part
        self.start = start
        self.raw = raw
        self.call: StreamedCall | None = None
        """Of a tool call, and of a hosted tool's call, whose events are not used."""
        self.has_events = False
        self.is_broken = False


# --- blocks ---------------------------------------------------------------------------------------


class AnthropicResponse:
    """Reads the parts of one response; events go to `out`. `open` and `close` once for each block,
    `fill` between them; `finish` once, at the end mark.
    """

    def __init__(self, out: EventBuffer, attempt: Attempt, written: ProviderRequest) -> None:
        self._out = out
        self._attempt = attempt
        self._written = written
        self._open: dict[int, _OpenBlock] = {}
        self._calls = 0
        self._broken: dict[int, str] = {}
        """Calls whose arguments are no JSON object, by part, and what is still unread of them."""
        self._ends_in_bare_call = False
        """The last block is a call without arguments, which a limit may have cut."""
        self._usage = UsageMembers(out.quota)
        self._stop = _Message()

    def __repr__(self) -> str:
        return (
            f"<AnthropicResponse calls={self._calls} open={sorted(self._open)} stop={self._stop.stop_reason}>"
        )

    def begin(self, message: _Message) -> None:
        self._usage.merge(message.usage)
        usage, tier = self._usage.usage, self._usage.tier
        self._out.events.append(
            ResponseStarted(id=message.id or "", model=message.model or "", usage=usage, tier=tier)
        )

    def open(self, index: int, raw: msgspec.Raw) -> None:
        """Begin a block, which may be full already. Its content is read at once, except the input,
        which deltas may replace.
        """
        start = msgspec.json.decode(raw, type=_Block)
        self._out.quota.take(len(raw))
        block = self._open[index] = _OpenBlock(_kind(start), self._out.next_part(), start, raw)
        self._ends_in_bare_call = False
        events = self._out.events
        count = len(events)
        if block.kind == "call":
            self._begin_call(block)
        elif block.kind == "redacted":
            self._add_state(block, start.data or "", redacted=True)
        elif block.kind in {"text", "thinking"}:
            self._read(block, _Delta(text=start.text, thinking=start.thinking, signature=start.signature))
            events += [CitationAdded(block.part, citation, DIALECT) for citation in start.citations or ()]
        block.has_events = len(events) > count

    def _begin_call(self, block: _OpenBlock) -> None:
        name = block.start.name or ""
        call = block.call = StreamedCall(name, self._written, part=block.part)
        if call.as_text:
            return
        id_ = block.start.id or f"call_{self._calls}"
        self._calls += 1
        client_name = self._written.aliases.get(name, name)
        self._out.events.append(ToolCallStarted(block.part, id_, client_name, free=call.wrapped))

    def fill(self, index: int, delta: _Delta) -> None:
        """Read a delta. Raises UpstreamBroken for a block that was not begun."""
        block = self._open.get(index)
        if block is None:
            raise UpstreamBroken(f"The provider's stream continues block {index}, which it did not begin.")
        if delta.text:
            block.has_events = True
            self._out.events.append(TextDelta(block.part, delta.text))
            return
        count = len(self._out.events)
        self._read(block, delta)
        block.has_events = block.has_events or len(self._out.events) > count

    def _read(self, block: _OpenBlock, delta: _Delta) -> None:
        """Read every known member of a delta."""
        events = self._out.events
        if delta.text:
            events.append(TextDelta(block.part, delta.text))
        if delta.thinking:
            events.append(ReasoningDelta(block.part, delta.thinking))
        if delta.signature:
            self._add_state(block, delta.signature)
        if is_given(delta.citation):
            events.append(CitationAdded(block.part, delta.citation, DIALECT))
        if delta.partial_json:
            self._out.quota.take_text(delta.partial_json)
            if block.call is None:
                block.call = StreamedCall("", self._written, part=block.part)
            event = block.call.add(delta.partial_json)
            if event is not None and block.kind == "call":
                events.append(event)

    def _add_state(self, block: _OpenBlock, data: str, *, redacted: bool = False) -> None:
        state = opaque_state(self._attempt, STATE_FORMAT, data)
        self._out.events.append(OpaqueStateReceived(block.part, state, redacted=redacted))

    def close(self, index: int) -> None:
        block = self._open.pop(index, None)
        if block is None:
            return
        count = len(self._out.events)
        if block.kind == "media":
            self._out.events.append(MediaOutput(block.part, _with_input(block), DIALECT))
        elif block.call is not None and block.kind == "call":
            self._complete_call(block, block.call)
        # A part without events has no end, and a call that was cut is not complete.
        if not block.is_broken and (block.has_events or len(self._out.events) > count):
            self._out.events.append(PartEnded(block.part))

    def _complete_call(self, block: _OpenBlock, call: StreamedCall) -> None:
        """Read the end of a call. The input in its start counts where there were no deltas."""
        given = "" if call.pieces else _given_input(block.start)
        arguments = call.text or given
        block.is_broken = _object(arguments or "{}") is None
        self._ends_in_bare_call = not arguments
        if call.as_text:
            if not call.pieces:
                self._out.events.append(TextDelta(block.part, given or "{}"))
            return
        text = given
        if call.wrapped:
            text = free_input(arguments) if arguments else ""
        if block.is_broken:
            self._broken[block.part] = text
            return
        if text:
            self._out.events.append(ToolArgumentsDelta(block.part, text))

    def stop(self, message: _Message, usage: dict[str, msgspec.Raw] | None) -> None:
        """Read `message_delta`. Its usage is cumulative and replaces earlier counts."""
        stop = self._stop
        self._stop = _Message(
            stop_reason=message.stop_reason or stop.stop_reason,
            stop_sequence=message.stop_sequence or stop.stop_sequence,
            stop_details=message.stop_details if is_given(message.stop_details) else stop.stop_details,
        )
        self._usage.merge(usage)
        counted = self._usage.usage
        if usage is not None and counted is not None:
            self._out.events.append(UsageReported(counted))

    def finish(self) -> None:
        """Read the end mark. Raises UpstreamBroken where no reason was given. Arguments that are no
        JSON object are the model's, where no limit explains them.
        """
        for index in sorted(self._open):
            self.close(index)
        stop = self._stop
        if stop.stop_reason is None:
            raise UpstreamBroken("The provider's response gives no reason for its end.")
        reason = REASONS.get(stop.stop_reason, "stop")
        if reason not in _MAY_CUT_A_CALL:
            for part, text in self._broken.items():
                self._out.events += [ToolArgumentsDelta(part, text)] if text else []
                self._out.events.append(PartEnded(part))
        is_cut = reason in _LIMITS and (bool(self._broken) or self._ends_in_bare_call)
        reason = finish_reason(reason, calls=self._calls > 0 and not is_cut)
        sequence = stop.stop_sequence if reason == "stop_sequence" else None
        detail = stop.stop_details if reason == "refusal" and is_given(stop.stop_details) else None
        self._out.is_over = True
        self._out.events.append(ResponseEnded(reason, sequence=sequence, detail=detail))


def _kind(start: _Block) -> _Kind:
    match start.type:
        case "text" | "thinking":
            return start.type
        case "redacted_thinking":
            return "redacted"
        case "tool_use":
            return "call"
        case _:
            return "media"


def _given_input(start: _Block) -> str:
    """The input in a block's start as JSON text; "" for an empty object, with which every streamed
    call begins.
    """
    text = bytes(start.input).decode() if is_given(start.input) else ""
    return "" if text.replace(" ", "") == "{}" else text


def _object(text: str) -> dict[str, msgspec.Raw] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError):
        return None


def _with_input(block: _OpenBlock) -> msgspec.Raw:
    """A hosted tool's block with its whole input."""
    input_ = _object(block.call.text) if block.call is not None else None
    if input_ is None:
        return block.raw
    members: dict[str, Any] = msgspec.json.decode(block.raw, type=dict[str, msgspec.Raw])
    return msgspec.Raw(msgspec.json.encode({**members, "input": input_}))


# --- streamed and whole ---------------------------------------------------------------------------


_EVENTS: dict[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(shape)
    for name, shape in {
        "message_start": _MessageStart,
        "content_block_start": _BlockStart,
        "content_block_delta": _BlockDelta,
        "content_block_stop": _BlockStop,
        "message_delta": _MessageDelta,
        "message_stop": _MessageStop,
        "error": AnthropicErrorBody,
    }.items()
}
"""Any other event is skipped: the service may add some, as `ping`."""


class AnthropicStreamReader(SseResponseReader):
    """ResponseReader of Messages streams. Only `message_stop` ends one: EOF without it is a failure
    (docs/reference/translation.md#rules).
    """

    def __init__(self, attempt: Attempt, written: ProviderRequest) -> None:
        super().__init__()
        self._response = AnthropicResponse(self._out, attempt, written)

    def __repr__(self) -> str:
        return f"<AnthropicStreamReader {self._out!r} {self._response!r} {self._sse!r}>"

    def read_whole(self, body: bytes) -> list[Event]:
        """The events of a response that is not streamed."""
        return self._out.read(lambda: self._read_body(mended(body)))

    def _read_body(self, body: bytes) -> None:
        message, response = msgspec.json.decode(body, type=_Message), self._response
        if message.content is None:
            raise error_of(msgspec.json.decode(body, type=AnthropicErrorBody).error, body=body)
        response.begin(message)
        for index, block in enumerate(message.content):
            response.open(index, block)
            response.close(index)
        response.stop(message, message.usage)
        response.finish()

    def _read_end(self) -> None:
        raise UpstreamBroken(ENDED_EARLY + "no message_stop came.")

    def _read_event(self, data: bytes, name: str) -> None:
        data = mended(data)
        if name not in _EVENTS:
            # Some servers send no `event` line; the data has the same type.
            name = msgspec.json.decode(data, type=_Named).type if name in {"", "message"} else name
        decoder = _EVENTS.get(name)
        if decoder is None:
            return
        response = self._response
        match decoder.decode(data):
            case _BlockDelta(index=index, delta=delta):
                response.fill(index, delta)
            case _BlockStart(index=index, content_block=block):
                response.open(index, block)
            case _BlockStop(index=index):
                response.close(index)
            case _MessageStart(message=message):
                response.begin(message)
            case _MessageDelta(delta=delta, usage=usage):
                response.stop(delta, usage)
            case AnthropicErrorBody(error=error):
                raise error_of(error, body=data)
            case _:
                response.finish()


def read_response(body: bytes, attempt: Attempt, written: ProviderRequest) -> list[Event]:
    """The events of a whole response; ResponseFailed alone where the body is none."""
    return AnthropicStreamReader(attempt, written).read_whole(body)
