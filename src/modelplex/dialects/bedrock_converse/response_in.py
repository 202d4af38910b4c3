"""Reads Converse and ConverseStream responses into events.

A whole response is read as a stream that gives each block at once. The order of a stream is
messageStart, blocks, messageStop with the reason, metadata with the usage; it is whole with
messageStop and an end between two messages. Imports no other dialect.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode

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
    ToolCallStarted,
    UsageReported,
)
from modelplex.core.request import Attempt, ProviderRequest
from modelplex.dialects.bedrock_converse.errors import exception_inside
from modelplex.dialects.bedrock_converse.event_stream import EventStreamReader, StreamMessage
from modelplex.dialects.bedrock_converse.messages_out import DIALECT, STATE_FORMAT
from modelplex.dialects.bedrock_converse.usage import ConverseUsage, read_usage
from modelplex.dialects.core.broken_responses import ENDED_EARLY
from modelplex.dialects.core.json import ABSENT, is_given, parses
from modelplex.dialects.core.response_reader import EventBuffer, finish_reason, opaque_state
from modelplex.dialects.core.streamed_calls import StreamedCall, close_calls
from modelplex.dialects.core.surrogates import mended

REASONS: dict[str, Reason] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "filter",
    "content_filtered": "filter",
    "model_context_window_exceeded": "context",
}
"""By `stopReason`. An unknown one is a natural end."""
MALFORMED_OUTPUT = frozenset({"malformed_model_output", "malformed_tool_use"})
"""Values of `stopReason` after which what was sent is not a whole response."""
_LIMITS: frozenset[Reason] = frozenset({"length", "context"})


class _Reasoning(msgspec.Struct, rename="camel", gc=False):
    """`reasoningContent` of a block or a delta: text is in `reasoning_text` of a block."""

    reasoning_text: _ReasoningText | None = None
    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class _ReasoningText(msgspec.Struct, gc=False):
    text: str = ""
    signature: str | None = None


class _ToolUse(msgspec.Struct, rename="camel", gc=False):
    tool_use_id: str | None = None
    name: str | None = None
    input: msgspec.Raw = ABSENT
    type: str | None = None


class _Content(msgspec.Struct, gc=False):
    text: str = ""


class _CitationsContent(msgspec.Struct, gc=False):
    content: list[_Content] | None = None
    citations: list[msgspec.Raw] | None = None


class _Block(msgspec.Struct, rename="camel", gc=False):
    """A block, the start of one or a delta: unions with one member each."""

    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None
    citations_content: _CitationsContent | None = None
    citation: msgspec.Raw = ABSENT


class _Event(msgspec.Struct, rename="camel", gc=False):
    """The payload of any event of a stream."""

    content_block_index: int = 0
    start: msgspec.Raw = ABSENT
    delta: msgspec.Raw = ABSENT
    stop_reason: str | None = None
    additional_model_response_fields: msgspec.Raw = ABSENT
    usage: ConverseUsage | None = None


class _Message(msgspec.Struct, gc=False):
    content: list[msgspec.Raw] | None = None


class _Output(msgspec.Struct, gc=False):
    message: _Message | None = None


class _Whole(msgspec.Struct, rename="camel", gc=False):
    output: _Output | None = None
    stop_reason: str | None = None
    usage: ConverseUsage | None = None
    additional_model_response_fields: msgspec.Raw = ABSENT


class _ModelFields(msgspec.Struct, gc=False):
    stop_sequence: str | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_block = msgspec.json.Decoder(_Block).decode
_decode_whole = msgspec.json.Decoder(_Whole).decode


class _OpenBlock:
    """A block that has begun."""

    __slots__ = ("call", "has_events", "other", "part", "redacted", "signature")

    def __init__(self, part: int) -> None:
        self.part = part
        self.call: StreamedCall | None = None
        self.other: list[msgspec.Raw] = []
        """The start and deltas of a block that is neither text, reasoning nor a client's call."""
        self.has_events = False
        self.signature: list[str] = []
        self.redacted: list[str] = []


class _Response:
    """Reads the parts of one response; events go to `out`."""

    def __init__(self, out: EventBuffer, attempt: Attempt, written: ProviderRequest) -> None:
        self._out = out
        self._attempt = attempt
        self._written = written
        self._open: dict[int, _OpenBlock] = {}
        self._calls: list[StreamedCall] = []
        self._given_calls = 0
        self._stop_reason: str | None = None
        self._sequence: str | None = None

    def __repr__(self) -> str:
        return f"<_Response calls={len(self._calls)} open={sorted(self._open)} stop={self._stop_reason}>"

    @property
    def is_stopped(self) -> bool:
        """Whether the reason of the end has come."""
        return self._stop_reason is not None

    def begin(self) -> None:
        self._out.events.append(ResponseStarted(model=self._attempt.model))

    def _block(self, index: int) -> _OpenBlock:
        """The open block of this index. Text and reasoning have no start."""
        block = self._open.get(index)
        if block is None:
            block = self._open[index] = _OpenBlock(self._out.next_part())
        return block

    def read(self, index: int, raw: msgspec.Raw) -> None:
        """Read a block, the start of one or a delta."""
        block, given = self._block(index), _decode_block(raw)
        events = self._out.events
        count = len(events)
        if given.text is not None:
            if given.text:
                events.append(TextDelta(block.part, given.text))
        elif given.tool_use is not None:
            self._tool_use(block, given.tool_use, raw)
        elif given.reasoning_content is not None:
            self._reasoning(block, given.reasoning_content)
        elif given.citations_content is not None:
            self._citations(block, given.citations_content)
        elif is_given(given.citation):
            events.append(CitationAdded(block.part, given.citation, DIALECT))
        else:
            self._keep(block, raw)
        block.has_events = block.has_events or len(events) > count

    def _keep(self, block: _OpenBlock, raw: msgspec.Raw) -> None:
        self._out.quota.take(len(raw))
        block.other.append(raw)

    def _tool_use(self, block: _OpenBlock, given: _ToolUse, raw: msgspec.Raw) -> None:
        """A call, its start, or a piece of its input: JSON text in a delta, JSON in a block."""
        if given.type == "server_tool_use" or block.other:
            self._keep(block, raw)
            return
        if block.call is None:
            self._begin_call(block, given)
        call = block.call
        if not is_given(given.input) or call is None:
            return
        text = bytes(given.input)
        piece = msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode()
        if not piece:
            return
        self._out.quota.take_text(piece)
        if (event := call.add(piece)) is not None:
            self._out.events.append(event)

    def _begin_call(self, block: _OpenBlock, given: _ToolUse) -> None:
        if not given.name:
            raise UpstreamBroken("The provider's stream continues a call that it did not begin.")
        name = given.name
        call = block.call = StreamedCall(name, self._written, part=block.part)
        self._calls.append(call)
        if call.as_text:
            return
        id_ = given.tool_use_id or f"call_{self._given_calls}"
        self._given_calls += 1
        client_name = self._written.aliases.get(name, name)
        self._out.events.append(ToolCallStarted(block.part, id_, client_name, free=call.wrapped))

    def _reasoning(self, block: _OpenBlock, given: _Reasoning) -> None:
        inner = given.reasoning_text or _ReasoningText(given.text or "", given.signature)
        if inner.text:
            self._out.events.append(ReasoningDelta(block.part, inner.text))
        for piece, pieces in ((inner.signature, block.signature), (given.redacted_content, block.redacted)):
            if piece:
                self._out.quota.take_text(piece)
                pieces.append(piece)

    def _add_state(self, block: _OpenBlock) -> None:
        """The state of a block of reasoning, once it is whole."""
        redacted = bool(block.redacted)
        data = _joined_base64(block.redacted) if redacted else "".join(block.signature)
        if data:
            state = opaque_state(self._attempt, STATE_FORMAT, data)
            self._out.events.append(OpaqueStateReceived(block.part, state, redacted=redacted))
            block.has_events = True

    def _citations(self, block: _OpenBlock, given: _CitationsContent) -> None:
        events = self._out.events
        events += [TextDelta(block.part, each.text) for each in given.content or () if each.text]
        events += [CitationAdded(block.part, raw, DIALECT) for raw in given.citations or ()]

    def close(self, index: int) -> None:
        block = self._open.pop(index, None)
        if block is None:
            return
        self._add_state(block)
        if block.other:
            self._out.events.append(MediaOutput(block.part, _joined(block.other), DIALECT))
            self._out.events.append(PartEnded(block.part))
        elif block.call is not None:
            if parses(block.call.text):  # otherwise a limit may have cut it, which the end tells
                self._out.events += block.call.close()
        elif block.has_events:
            self._out.events.append(PartEnded(block.part))

    def stop(self, reason: str | None, fields: msgspec.Raw) -> None:
        self._stop_reason = reason
        if is_given(fields):
            try:
                self._sequence = msgspec.json.decode(fields, type=_ModelFields).stop_sequence
            except msgspec.ValidationError:
                self._sequence = None

    def count(self, usage: ConverseUsage | None) -> None:
        if (counted := read_usage(usage)) is not None:
            self._out.events.append(UsageReported(counted))

    def finish(self) -> None:
        """Read the end. Raises UpstreamBroken where no reason was given, or one that says that the
        response is not whole.
        """
        if self._stop_reason is None:
            raise UpstreamBroken("The provider's response gives no reason for its end.")
        if self._stop_reason in MALFORMED_OUTPUT:
            raise UpstreamBroken(f"The model's output is malformed: {self._stop_reason}.")
        for index in sorted(self._open):
            self.close(index)
        reason = REASONS.get(self._stop_reason, "stop")
        events, is_whole = close_calls(self._calls, cut=reason in _LIMITS)
        self._out.events += events
        reason = finish_reason(reason, calls=self._given_calls > 0 and is_whole)
        sequence = self._sequence if reason == "stop_sequence" else None
        self._out.is_over = True
        self._out.events.append(ResponseEnded(reason, sequence=sequence))


def _joined(raws: list[msgspec.Raw]) -> msgspec.Raw:
    """A block that is forwarded to no dialect as what it is: whole, or as its pieces."""
    return raws[0] if len(raws) == 1 else msgspec.Raw(msgspec.json.encode({"pieces": raws}))


def _joined_base64(pieces: list[str]) -> str:
    """The base64 of all pieces, each of which is base64. Raises UpstreamBroken."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return b64encode(b"".join(b64decode(piece, validate=True) for piece in pieces)).decode()
    except binascii.Error:
        raise UpstreamBroken("The provider's redacted reasoning is not base64.") from None


class ConverseStreamReader:
    """ResponseReader of ConverseStream."""

    def __init__(self, attempt: Attempt, written: ProviderRequest) -> None:
        self._out = EventBuffer()
        self._stream = EventStreamReader()
        self._response = _Response(self._out, attempt, written)
        self.quota = self._out.quota

    def __repr__(self) -> str:
        return f"<ConverseStreamReader {self._out!r} {self._response!r} {self._stream!r}>"

    def feed(self, data: bytes) -> list[Event]:
        return [] if self._out.is_over else self._out.read(lambda: self._read(data))

    def end(self) -> list[Event]:
        return [] if self._out.is_over else self._out.read(self._read_end)

    def read_whole(self, body: bytes) -> list[Event]:
        """The events of a response that is not streamed."""
        return self._out.read(lambda: self._read_body(mended(body)))

    def _read(self, data: bytes) -> None:
        for message in self._stream.feed(data):
            self._read_message(message)
            if self._out.is_over:
                break

    def _read_end(self) -> None:
        if self._stream.has_rest:
            raise UpstreamBroken(ENDED_EARLY + "in the midst of a message.")
        if not self._response.is_stopped:
            raise UpstreamBroken(ENDED_EARLY + "no messageStop came.")
        self._response.finish()

    def _read_message(self, message: StreamMessage) -> None:
        headers = message.headers
        kind = headers.get(":message-type")
        if kind == "exception":
            raise exception_inside(headers.get(":exception-type", ""), message.payload)
        if kind == "error":
            raise UpstreamBroken(
                f"The provider's stream is an error: {headers.get(':error-code', '')} {headers.get(':error-message', '')}."
            )
        self._read_event(headers.get(":event-type", ""), mended(message.payload))

    def _read_event(self, name: str, payload: bytes) -> None:
        """Any other event is skipped: the service may add some."""
        response = self._response
        match name:
            case "contentBlockDelta":
                event = _decode_event(payload)
                response.read(event.content_block_index, event.delta)
            case "contentBlockStart":
                event = _decode_event(payload)
                response.read(event.content_block_index, event.start)
            case "contentBlockStop":
                response.close(_decode_event(payload).content_block_index)
            case "messageStart":
                response.begin()
            case "messageStop":
                event = _decode_event(payload)
                response.stop(event.stop_reason, event.additional_model_response_fields)
            case "metadata":
                response.count(_decode_event(payload).usage)
                if response.is_stopped:
                    response.finish()
            case _:
                pass

    def _read_body(self, body: bytes) -> None:
        whole, response = _decode_whole(body), self._response
        if whole.output is None or whole.output.message is None or whole.output.message.content is None:
            raise UpstreamBroken("The provider's response holds no message.")
        response.begin()
        for index, raw in enumerate(whole.output.message.content):
            response.read(index, raw)
            response.close(index)
        response.stop(whole.stop_reason, whole.additional_model_response_fields)
        response.count(whole.usage)
        response.finish()


def read_response(body: bytes, attempt: Attempt, written: ProviderRequest) -> list[Event]:
    """The events of a whole response; ResponseFailed alone where the body is none."""
    return ConverseStreamReader(attempt, written).read_whole(body)
