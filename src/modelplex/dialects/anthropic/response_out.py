"""Writes events as an Anthropic Messages response, streamed or whole.

A stream has one open block at a time, numbered without gaps: the content of other parts waits until
an open call is closed (docs/reference/translation.md#stream-writers).

Opaque state is written as the signature of a thinking block: Anthropic's own unchanged, that of
other providers and unsigned thinking in an envelope, since clients send back only signed blocks and
nothing else may look like Anthropic's. The signature of a call, for which the API has no member, is
a redacted block before that call, whose envelope names the call. Imports no other dialect.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, assert_never

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.events import (
    CitationAdded,
    ContentEvent,
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
from modelplex.core.request import Change, ChatRequest, OpaqueState, ToolCallPart
from modelplex.dialects.anthropic.errors import error_event
from modelplex.dialects.anthropic.messages_out import DIALECT, STATE_FORMAT
from modelplex.dialects.anthropic.tool_call_ids import call_id, message_id
from modelplex.dialects.core import sse
from modelplex.dialects.core.broken_responses import ended_early
from modelplex.dialects.core.call_arguments import NOT_AN_OBJECT
from modelplex.dialects.core.envelope import wrap
from modelplex.dialects.core.response_writer import lost_media

STOP_REASONS: dict[Reason, str] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "context": "model_context_window_exceeded",
    "tool_calls": "tool_use",
    "refusal": "refusal",
    "filter": "refusal",
    "paused": "pause_turn",
}
"""docs/reference/translation.md#finish-reasons."""
TIERS = {"default": "standard", "standard": "standard", "priority": "priority", "batch": "batch"}
"""Anthropic's tiers, by OpenAI's names and its own."""
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
NO_STATE = wrap(OpaqueState("unknown", ""))
"""The signature of thinking without opaque state. Always the same, so that a provider's prompt
cache matches the conversation.
"""

_Written = dict[str, Any]

_encode = msgspec.json.Encoder().encode
_LOST_CITATION = Change("drop", "content[].citations", "a citation of another form has no place here")
_LOST_MEDIA = lost_media("content[]")


# --- streamed and whole ---------------------------------------------------------------------------


class _Head:
    """The members of a message, without its blocks."""

    def __init__(self, call: ChatRequest, *, id: str, model: str) -> None:
        self.id = id
        self.model = model
        self.tier: str | None = None
        self.usage: Usage | None = None
        self.is_own = False
        """A provider of this dialect made the response, so its signatures are Anthropic's."""
        self.calls = 0
        self._unchecked = _unchecked(call.extra.get("safeguards"))
        self._times = Counter(
            part.id for message in call.messages for part in message.parts if isinstance(part, ToolCallPart)
        )

    def begin(self, event: ResponseStarted) -> None:
        self.id = message_id(event.id or self.id)
        self.model = event.model or self.model
        self.tier = TIERS.get(event.tier or "")
        self.usage = event.usage or self.usage
        self.is_own = event.usage is not None and event.usage.raw_of == DIALECT

    def call_id(self, given: str) -> str:
        """The id of the next call; an id that the conversation has already is changed."""
        sent = call_id(given, times=self._times[given])
        self._times[given] += 1
        self.calls += 1
        return sent

    def sealed(self, state: OpaqueState) -> str:
        return state.data if self.is_own and state.format == STATE_FORMAT else wrap(state)

    def start(self) -> _Written:
        """The message before its content."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self.measured(),
        }

    def measured(self) -> msgspec.Raw | _Written:
        """`usage`. A usage object of this dialect passes unchanged. An unknown count is 0, and
        replaced later.
        """
        usage = self.usage or Usage()
        if usage.raw is not None and usage.raw_of == DIALECT:
            return msgspec.Raw(usage.raw)
        usage_object: _Written = {
            "input_tokens": usage.fresh,
            "cache_creation_input_tokens": usage.cache_write,
            "cache_read_input_tokens": usage.cache_read,
            "output_tokens": usage.output,
        }
        if usage.cache_write:
            usage_object["cache_creation"] = {
                "ephemeral_5m_input_tokens": max(0, usage.cache_write - usage.cache_write_1h),
                "ephemeral_1h_input_tokens": usage.cache_write_1h,
            }
        if usage.reasoning:
            usage_object["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
        if self.tier is not None:
            usage_object["service_tier"] = self.tier
        return usage_object

    def stop(self, ended: ResponseEnded, *, refusal: str) -> _Written:
        """The stop reason. A response with a call has `tool_use` (R8)."""
        reason = ended.reason
        if self.calls and reason in {"stop", "stop_sequence"}:
            reason = "tool_calls"
        detail: object = ended.detail
        if detail is None and reason == "refusal" and refusal:
            detail = {"type": "refusal", "category": None, "explanation": refusal}
        return {
            "stop_reason": STOP_REASONS[reason],
            "stop_sequence": ended.sequence if reason == "stop_sequence" else None,
            "stop_details": detail,
            **self._unchecked,
        }


class _Safeguard(msgspec.Struct, gc=False):
    type: str | None = None


def _unchecked(safeguards: msgspec.Raw | None) -> _Written:
    """The answer to `safeguards` of a provider that has no such checks. Without it Claude Code
    2.1.332 takes it that something on the way lost the results (docs/decisions/0053-auto-mode.md).
    """
    try:
        asked = msgspec.json.decode(safeguards or b"null", type=list[_Safeguard] | None) or ()
    except msgspec.DecodeError:
        return {}
    results = [{"type": each.type, "status": {"type": "unsupported"}} for each in asked if each.type]
    return {"safeguard_results": results} if results else {}


def _redacted(data: str) -> _Written:
    return {"type": "redacted_thinking", "data": data}


def _state_of_call(state: OpaqueState, id_: str) -> _Written:
    """The signature of the call with this id, as a block that names the call."""
    return _redacted(wrap(msgspec.structs.replace(state, id=id_)))


# --- streams --------------------------------------------------------------------------------------


class _Block:
    """The open block. A call's block is `begun` with its first arguments, so that a signature can
    precede it.
    """

    __slots__ = ("argued", "begun", "called", "is_sealed", "kind", "part", "pieces", "state")

    def __init__(self, kind: str, part: int, called: ToolCallStarted | None = None) -> None:
        self.kind = kind
        self.part = part
        self.called = called
        self.begun = False
        self.argued = False
        self.is_sealed = False
        self.pieces: list[str] = []
        """A free-form tool's text, which is written as one JSON string."""
        self.state: OpaqueState | None = None


class _Waiting:
    """An event that is held."""

    __slots__ = ("event", "is_written")

    def __init__(self, event: ContentEvent | PartEnded) -> None:
        self.event = event
        self.is_written = False


class AnthropicStreamWriter:
    """EventWriter (dialects/dialect.py) of Messages."""

    media_type = "text/event-stream"

    def __init__(self, call: ChatRequest, *, id: str, created: int, model: str) -> None:
        del created  # not in this dialect's responses
        self.changes: list[Change] = []
        self._head = _Head(call, id=id, model=model)
        self._index = 0
        self._open: _Block | None = None
        self._held: deque[_Waiting] = deque()
        """Events of other parts while a call is open, in their order."""

        self._held_of: dict[int, deque[_Waiting]] = {}
        """The same by part."""
        self._is_releasing = False
        self._called: dict[int, str] = {}
        """The provider's ids of the calls, by part."""
        self._refusal: list[str] = []
        self._has_begun = False
        self._ended: ResponseEnded | None = None
        self._failed = False

    def __repr__(self) -> str:
        open_ = f"{self._open.kind} {self._open.part}" if self._open is not None else None
        return f"<AnthropicStreamWriter {self._index} blocks, open={open_}, held={len(self._held)}, failed={self._failed}>"

    def send(self, event: Event) -> bytes:
        if self._failed:
            return b""
        if isinstance(event, TextDelta):  # nearly all events
            block = self._open
            if block is not None and block.part == event.part and block.kind == "text" and event.text:
                return self._delta(b"text_delta", b"text", event.text)
        match event:
            case ResponseStarted():
                return self._begin(event)
            case ResponseFailed():
                return self._fail(event.error)
            case UsageReported():
                self._head.usage = event.usage
                return b""
            case ResponseEnded():
                return self._end(event) if event.choice == 0 else b""
            case _ if event.choice:
                return b""
            case _:
                begun = b"" if self._has_begun else self._begin(ResponseStarted())
                return begun + self._take(event)

    def ping(self) -> bytes:
        return PING

    def end(self) -> bytes:
        """Stop reason and usage are written at the end: some providers send usage last."""
        if self._failed:
            return b""
        if self._ended is None:
            return self._fail(ended_early())
        delta = self._head.stop(self._ended, refusal="".join(self._refusal))
        return _event("message_delta", {"delta": delta, "usage": self._head.measured()}) + STOP

    def _fail(self, error: ModelplexError) -> bytes:
        self._failed = True
        return error_event(error)

    def _begin(self, event: ResponseStarted) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        self._head.begin(event)
        return _event("message_start", {"message": self._head.start()})

    def _end(self, event: ResponseEnded) -> bytes:
        self._ended = event
        out = [self._begin(ResponseStarted())]
        while self._open is not None or self._held:
            # A call that a limit cut before its arguments has none; a whole one has "{}".
            out += (self._close(is_whole=event.reason == "tool_calls"), self._release())
        return b"".join(out)

    # -- one block at a time

    def _take(self, event: ContentEvent | PartEnded) -> bytes:
        block = self._open
        if block is not None and block.kind == "call" and event.part != block.part:
            waiting = _Waiting(event)
            self._held.append(waiting)
            self._held_of.setdefault(event.part, deque()).append(waiting)
            return b""
        return self._write(event)

    def _release(self) -> bytes:
        """Write the held events that may be written now: of an open call its own, otherwise in
        their order. Each event is visited once.
        """
        if self._is_releasing:
            return b""
        self._is_releasing = True
        out: list[bytes] = []
        while (waiting := self._next_held()) is not None:
            waiting.is_written = True
            out.append(self._write(waiting.event))
        self._is_releasing = False
        return b"".join(out)

    def _next_held(self) -> _Waiting | None:
        block = self._open
        own = block is not None and block.kind == "call"
        queue = self._held_of.get(block.part) if block is not None and own else self._held
        while queue:
            waiting = queue.popleft()
            if not waiting.is_written:
                return waiting
        if block is not None and own:
            self._held_of.pop(block.part, None)
        return None

    def _write(self, event: ContentEvent | PartEnded) -> bytes:
        match event:
            case TextDelta():
                return self._text(event.part, event.text)
            case RefusalDelta():
                self._refusal.append(event.text)
                return self._text(event.part, event.text)
            case ReasoningDelta():
                return self._write_reasoning(event)
            case OpaqueStateReceived():
                return self._write_opaque_state(event)
            case ToolCallStarted():
                out = self._close()
                self._called[event.part] = event.id
                self._open = _Block("call", event.part, event)
                return out
            case ToolArgumentsDelta():
                return self._write_arguments(event)
            case CitationAdded():
                return self._write_citation(event)
            case MediaOutput():
                return self._write_media(event)
            case PartEnded():
                if self._open is None or self._open.part != event.part:
                    return b""
                return self._close() + self._release()
            case _:
                assert_never(event)

    def _need(self, kind: str, part: int, start: _Written) -> bytes:
        """Open the block of this part, unless it is open."""
        block = self._open
        if block is not None and block.kind == kind and block.part == part:
            return b""
        out = self._close()
        self._open = _Block(kind, part)
        return out + self._start(start)

    def _start(self, block: _Written) -> bytes:
        return _event("content_block_start", {"index": self._index, "content_block": block})

    def _stop(self) -> bytes:
        self._index += 1
        return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % (
            self._index - 1
        )

    def _delta(self, kind: bytes, name: bytes, value: str) -> bytes:
        # Nearly all events are these, so the frame is not encoded anew.
        return (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%s","%s":%s}}\n\n'
            % (self._index, kind, name, _encode(value))
        )

    def _alone(self, block: _Written) -> bytes:
        """A block that is complete in its start."""
        return self._close() + self._start(block) + self._stop()

    def _close(self, *, is_whole: bool = True) -> bytes:
        block, self._open = self._open, None
        if block is None:
            return b""
        if block.called is not None:
            return self._close_call(block, block.called, is_whole=is_whole)
        out = b""
        if block.kind == "thinking" and not block.is_sealed:
            out = self._delta(b"signature_delta", b"signature", NO_STATE)
        return out + self._stop()

    def _close_call(self, block: _Block, called: ToolCallStarted, *, is_whole: bool) -> bytes:
        out = self._begin_call(block, called)
        if called.free:
            text = _encode({"input": "".join(block.pieces)}).decode()
            out += self._delta(b"input_json_delta", b"partial_json", text)
        elif not block.argued and is_whole:
            out += self._delta(b"input_json_delta", b"partial_json", "{}")
        out += self._stop()
        return out if block.state is None else out + self._alone(_state_of_call(block.state, called.id))

    # -- parts

    def _text(self, part: int, text: str) -> bytes:
        if not text:
            return b""
        opened = self._need("text", part, {"type": "text", "text": ""})
        return opened + self._delta(b"text_delta", b"text", text)

    def _write_reasoning(self, event: ReasoningDelta) -> bytes:
        if not event.text:
            return b""
        return self._thinking(event.part) + self._delta(b"thinking_delta", b"thinking", event.text)

    def _thinking(self, part: int) -> bytes:
        return self._need("thinking", part, {"type": "thinking", "thinking": "", "signature": ""})

    def _write_opaque_state(self, event: OpaqueStateReceived) -> bytes:
        block = self._open
        if event.part in self._called:
            if block is None or block.part != event.part:
                return self._alone(_state_of_call(event.state, self._called[event.part]))
            block.state = event.state
            return b""
        is_open = block is not None and block.part == event.part
        if event.redacted and not is_open:
            return self._alone(_redacted(self._head.sealed(event.state)))
        out = self._thinking(event.part)
        if self._open is not None:
            self._open.is_sealed = True
        return out + self._delta(b"signature_delta", b"signature", self._head.sealed(event.state))

    def _begin_call(self, block: _Block, called: ToolCallStarted) -> bytes:
        if block.begun:
            return b""
        block.begun = True
        out = b""
        if block.state is not None:
            state, block.state = block.state, None
            out = self._start(_state_of_call(state, called.id)) + self._stop()
        tool: _Written = {
            "type": "tool_use",
            "id": self._head.call_id(called.id),
            "name": called.name,
            "input": {},
        }
        return out + self._start(tool)

    def _write_arguments(self, event: ToolArgumentsDelta) -> bytes:
        block = self._open
        if block is None or block.called is None:
            return b""  # no reader continues a closed call
        block.argued = True
        if block.called.free:
            block.pieces.append(event.text)
            return b""
        begun = self._begin_call(block, block.called)
        return begun + self._delta(b"input_json_delta", b"partial_json", event.text)

    def _write_citation(self, event: CitationAdded) -> bytes:
        if event.dialect != DIALECT:
            self.changes.append(_LOST_CITATION)
            return b""
        out = self._need("text", event.part, {"type": "text", "text": ""})
        delta = {"type": "citations_delta", "citation": event.raw}
        return out + _event("content_block_delta", {"index": self._index, "delta": delta})

    def _write_media(self, event: MediaOutput) -> bytes:
        if event.dialect != DIALECT:
            self.changes.append(_LOST_MEDIA)
            return b""
        block = msgspec.json.decode(event.raw, type=dict[str, msgspec.Raw])
        if "input" not in block:
            return self._alone(block)
        # A provider's own call is streamed like a client's: agents take its input from deltas
        # alone.
        out = self._close() + self._start({**block, "input": {}})
        out += self._delta(b"input_json_delta", b"partial_json", bytes(block["input"]).decode())
        return out + self._stop()


def _event(name: str, members: _Written) -> bytes:
    return sse.event(_encode({"type": name, **members}), name=name.encode())


# --- whole responses ------------------------------------------------------------------------------


class _Whole:
    """The blocks of a whole response by part, in the order in which the parts began."""

    def __init__(self, head: _Head) -> None:
        self.head = head
        self.blocks: dict[int, _Written] = {}
        self.opaque_states: dict[int, OpaqueState] = {}
        self.ids: dict[int, str] = {}
        self.free: set[int] = set()
        self.refusal = ""
        self.changes: list[Change] = []

    def collect(self, event: ContentEvent | PartEnded) -> None:
        match event:
            case TextDelta() | RefusalDelta():
                if isinstance(event, RefusalDelta):
                    self.refusal += event.text
                if event.text:
                    self._text(event.part)["text"] += event.text
            case ReasoningDelta():
                if event.text:
                    self._thinking(event.part)["thinking"] += event.text
            case OpaqueStateReceived():
                self._write_opaque_state(event)
            case ToolCallStarted():
                id_ = self.head.call_id(event.id)
                self.blocks[event.part] = {"type": "tool_use", "id": id_, "name": event.name, "input": ""}
                self.ids[event.part] = event.id
                if event.free:
                    self.free.add(event.part)
            case ToolArgumentsDelta():
                self.blocks[event.part]["input"] += event.text
            case CitationAdded():
                if event.dialect == DIALECT:
                    self._text(event.part).setdefault("citations", []).append(event.raw)
                else:
                    self.changes.append(_LOST_CITATION)
            case MediaOutput():
                if event.dialect == DIALECT:
                    self.blocks[event.part] = msgspec.json.decode(event.raw, type=dict[str, msgspec.Raw])
                else:
                    self.changes.append(_LOST_MEDIA)
            case PartEnded():
                pass
            case _:
                assert_never(event)

    def _text(self, part: int) -> _Written:
        return self.blocks.setdefault(part, {"type": "text", "text": ""})

    def _thinking(self, part: int) -> _Written:
        return self.blocks.setdefault(part, {"type": "thinking", "thinking": "", "signature": NO_STATE})

    def _write_opaque_state(self, event: OpaqueStateReceived) -> None:
        if event.part in self.ids:
            self.opaque_states[event.part] = event.state
        elif event.redacted and event.part not in self.blocks:
            self.blocks[event.part] = _redacted(self.head.sealed(event.state))
        else:
            self._thinking(event.part)["signature"] = self.head.sealed(event.state)

    def content(self) -> list[_Written]:
        content: list[_Written] = []
        for part, block in self.blocks.items():
            if part not in self.ids:
                content.append(block)
                continue
            if part in self.opaque_states:
                content.append(_state_of_call(self.opaque_states[part], self.ids[part]))
            content.append({**block, "input": self._input(block["input"], is_free=part in self.free)})
        return content

    def _input(self, text: str, *, is_free: bool) -> object:
        if is_free:
            return {"input": text}
        if not text.strip():
            return {}
        try:
            msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            self.changes.append(Change("lower", "content[].input", NOT_AN_OBJECT))
            return {"_raw": text}
        return msgspec.Raw(text.encode())


def write_response(
    events: Sequence[Event], call: ChatRequest, *, id: str, created: int, model: str
) -> tuple[bytes, list[Change]]:
    """A whole response. Raises the error of ResponseFailed."""
    del created
    head = _Head(call, id=message_id(id), model=model)
    whole = _Whole(head)
    ended = ResponseEnded("stop")
    for event in events:
        match event:
            case ResponseStarted():
                head.begin(event)
            case UsageReported():
                head.usage = event.usage
            case ResponseFailed():
                raise event.error
            case ResponseEnded():
                ended = event if event.choice == 0 else ended
            case _ if event.choice == 0:
                whole.collect(event)
            case _:
                pass  # a response of this dialect has one choice
    response = {**head.start(), "content": whole.content(), **head.stop(ended, refusal=whole.refusal)}
    return _encode(response), whole.changes
