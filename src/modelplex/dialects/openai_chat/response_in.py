"""Reads chat completions responses, streamed or whole, into events.

A whole response is read as one chunk whose deltas are its messages. The variants of compatible
servers (docs/reference/wire-formats.md#openai-compatible-servers) are accepted from every provider:
no id, one id for several calls, usage in any chunk, `stop` after tool calls. Imports no other
dialect.
"""

from __future__ import annotations

from typing import Any

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
    RefusalDelta,
    ResponseEnded,
    ResponseStarted,
    TextDelta,
    UsageReported,
)
from modelplex.core.request import Attempt, ProviderRequest
from modelplex.dialects.core.broken_responses import ENDED_EARLY
from modelplex.dialects.core.json import (
    MALFORMED,
    as_list,
    as_object,
    as_text,
    decode_mended,
    encode,
    is_given,
)
from modelplex.dialects.core.quota import choice_of
from modelplex.dialects.core.response_reader import (
    EventBuffer,
    SseResponseReader,
    finish_reason,
    opaque_state,
)
from modelplex.dialects.openai_chat.errors import error_inside, flat_error
from modelplex.dialects.openai_chat.passthrough import GEMINI, google_signature
from modelplex.dialects.openai_chat.tool_calls_in import ChoiceCalls, FunctionDelta, ToolCallDelta
from modelplex.dialects.openai_chat.usage import read_usage

DIALECT = "openai_chat"

_REASONS: dict[str, Reason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "context",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "filter",
}
"""Mistral has `model_length`; some servers pass on the model's own reasons. An unknown reason is a
natural end.
"""
_CUT: frozenset[Reason] = frozenset({"length", "context", "filter"})
_FAILED = frozenset({"error", "network_error", "abort"})
"""Finish reasons of compatible servers for a response that failed."""


class _Detail(msgspec.Struct, gc=False):
    type: str = "reasoning.text"
    text: str | None = None
    summary: str | None = None
    signature: str | None = None
    data: str | None = None
    format: str | None = None
    id: str | None = None
    index: int | None = None


class _Delta(msgspec.Struct, gc=False):
    content: Any = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: list[_Detail] | None = None
    tool_calls: list[ToolCallDelta] | None = None
    function_call: FunctionDelta | None = None
    audio: Any = None
    images: Any = None
    annotations: list[msgspec.Raw] | None = None
    extra_content: Any = None


class _Logprobs(msgspec.Struct, gc=False):
    content: msgspec.Raw = msgspec.Raw()


class _Choice(msgspec.Struct, gc=False):
    index: int | None = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None
    usage: msgspec.Raw = msgspec.Raw()
    """Moonshot's: https://platform.kimi.ai/docs/api/chat, and earendil-works/pi#2017."""


class _Chunk(msgspec.Struct, gc=False):
    id: str | int | None = None
    created: int | float | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    service_tier: str | None = None
    system_fingerprint: str | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class _ChoiceReader:
    """One choice. Consecutive output of one kind is one part, whose events go to `out`."""

    __slots__ = ("_attempt", "_group", "_has_text", "_kind", "_part_number", "_refused", "calls", "ended", "index", "out")  # fmt: skip

    def __init__(self, index: int, out: EventBuffer, attempt: Attempt, written: ProviderRequest) -> None:
        self.index = index
        self.out = out
        self.calls = ChoiceCalls(index, out, attempt, written)
        self.ended = False
        self._attempt = attempt
        self._refused = False
        self._part_number = -1
        self._kind = ""
        """What the open part is: "text", "thinking", "refusal" or another output; "" for none."""
        self._group: object = None
        """The index of a reasoning detail, which begins a part of its own."""
        self._has_text = False
        """The open part has readable reasoning."""

    def read(self, delta: _Delta, logprobs: _Logprobs | None) -> None:
        """Read all of a delta but its calls."""
        if delta.reasoning_details or delta.reasoning_content or delta.reasoning:
            self._read_reasoning(delta)
        content = delta.content
        tokens = None if logprobs is None else _tokens(logprobs)
        if content.__class__ is str:
            if content or tokens is not None:
                self.out.events.append(TextDelta(self._part("text"), content, self.index, tokens))
        elif content is not None:
            self._read_content_list(content)
        if delta.refusal:
            self._refused = True
            self.out.events.append(RefusalDelta(self._part("refusal"), delta.refusal, self.index))
        for annotation in delta.annotations or ():
            raw = msgspec.Raw(bytes(annotation))
            self.out.events.append(CitationAdded(self._part("text"), raw, DIALECT, self.index))
        if delta.audio or delta.images:
            for name, media in (("audio", delta.audio), ("images", delta.images)):
                if media:
                    raw = msgspec.Raw(encode({name: media}))
                    self.out.events.append(MediaOutput(self._part(name), raw, DIALECT, self.index))
        if delta.extra_content is not None and (signature := google_signature(delta.extra_content)):
            state = opaque_state(self._attempt, GEMINI, signature)
            self.out.events.append(
                OpaqueStateReceived(self._part("signature"), state, self.index, redacted=True)
            )

    def _read_content_list(self, content: object) -> None:
        """Content as parts: OpenAI's text parts, and Mistral's {"type": "thinking", "thinking":
        [{"type": "text", ...}]}.
        """
        for each in as_list(content):
            part = as_object(each) or {}
            if text := as_text(part.get("text")):
                self.out.events.append(TextDelta(self._part("text"), text, self.index))
            for thought in as_list(part.get("thinking")):
                if text := as_text((as_object(thought) or {}).get("text")):
                    self.out.events.append(ReasoningDelta(self._part("thinking"), text, self.index))

    def _part(self, kind: str, group: object = None) -> int:
        """The number of the open part of this kind; a new one where another kind was open."""
        if self._kind != kind or self._group != group:
            self.close_part()
            self._part_number = self.out.next_part()
            self._kind = kind
            self._group = group
            self._has_text = False
        return self._part_number

    def close_part(self) -> None:
        """Close the open part: another part begins, or the choice ends."""
        if self._kind:
            self.out.events.append(PartEnded(self._part_number, self.index))
            self._kind = ""
            self._group = None

    def _read_reasoning(self, delta: _Delta) -> None:
        """`reasoning_details` is authoritative; of `reasoning_content` and `reasoning` in one delta
        one is enough (R43).
        """
        has_text = False
        for detail in delta.reasoning_details or ():
            has_text = self._read_detail(detail) or has_text
        if has_text:
            return
        text = reasoning_text(delta.reasoning_content) or reasoning_text(delta.reasoning)
        if text:
            part = self._part("thinking", self._group if self._kind == "thinking" else None)
            self._has_text = True
            self.out.events.append(ReasoningDelta(part, text, self.index))

    def _read_detail(self, detail: _Detail) -> bool:
        """True where the detail has text, so that the same text beside it is not read again."""
        text = detail.summary or detail.text
        data = detail.signature or detail.data
        if not text and not data:
            return False
        is_unnumbered = detail.index is None and self._kind == "thinking"
        part = self._part("thinking", self._group if is_unnumbered else detail.index)
        if text:
            self._has_text = True
            self.out.events.append(ReasoningDelta(part, text, self.index, bool(detail.summary)))
        if data:
            state = opaque_state(self._attempt, detail.format or "unknown", data, id=detail.id)
            redacted = detail.type == "reasoning.encrypted" and not self._has_text
            self.out.events.append(OpaqueStateReceived(part, state, self.index, redacted))
        return bool(text)

    def finish(self, given: str) -> None:
        """Read the finish reason. Raises UpstreamBroken for a failed response or an incomplete
        call.
        """
        self.ended = True
        self.close_part()
        if given in _FAILED:
            raise UpstreamBroken(f"The provider ended its response with the finish reason {given!r}.")
        reason = _REASONS.get(given, "stop")
        has_calls, are_whole = self.calls.finish(cut=reason in _CUT)
        reason = finish_reason(reason, calls=has_calls and are_whole, refused=self._refused)
        self.out.events.append(ResponseEnded(reason, self.index))


class ChatReader(SseResponseReader):
    """ResponseReader of chat completions. Parts are numbered over all choices together."""

    def __init__(self, attempt: Attempt, written: ProviderRequest) -> None:
        super().__init__()
        self._attempt = attempt
        self._written = written
        self._choices: dict[int, _ChoiceReader] = {}
        self._calls = 0
        self._has_started = False

    def __repr__(self) -> str:
        ended = sum(choice.ended for choice in self._choices.values())
        return f"<ChatReader {ended} of {len(self._choices)} choices ended, {self._out!r}>"

    def read_whole(self, body: bytes) -> list[Event]:
        """The events of a response that is not streamed."""
        return self._out.read(lambda: self._read_body(body))

    def _read_body(self, body: bytes) -> None:
        chunk = decode_mended(body, _decode)
        if chunk is None:
            raise UpstreamBroken("The provider's response is not a chat completion.")
        if not chunk.error and not chunk.choices:
            raise flat_error(body) or UpstreamBroken("The provider's response has no choices.")
        self._read_chunk(chunk, body)
        for choice in list(self._choices.values()):
            if not choice.ended and not self._out.is_over:
                choice.finish("stop")  # the body is complete, and names no finish reason

    def _read_event(self, data: bytes, name: str) -> None:
        del name
        try:
            chunk = _decode(data)
        except MALFORMED:
            self._read_odd(data.strip())
            return
        self._read_chunk(chunk, data)

    def _read_odd(self, data: bytes) -> None:
        """Read `[DONE]`, an empty event, or JSON that strict parsers refuse."""
        if data == b"[DONE]":
            self._check_finished("[DONE] came without a finish reason.")
            self._out.is_over = True
        elif data:
            chunk = decode_mended(data, _decode)
            if chunk is None:
                raise flat_error(data) or UpstreamBroken(
                    "The provider's stream holds something that is not a chat completion chunk."
                )
            self._read_chunk(chunk, data)

    def _read_end(self) -> None:
        self._check_finished("no finish reason came." if self._choices else "it held no choice.")

    def _check_finished(self, otherwise: str) -> None:
        if not self._choices or not all(choice.ended for choice in self._choices.values()):
            raise UpstreamBroken(ENDED_EARLY + otherwise)

    def _read_chunk(self, chunk: _Chunk, data: bytes) -> None:
        if chunk.error:
            raise error_inside(chunk.error, body=data)
        usage = read_usage(chunk.usage) if chunk.usage else None
        if not chunk.choices and usage is None and (error := flat_error(data)) is not None:
            raise error
        if not self._has_started and (chunk.choices or usage):
            # Azure's first chunk has filter results only, and neither id nor model.
            self._has_started = True
            self._out.events.append(
                ResponseStarted(
                    id=as_text(chunk.id) or "",
                    model=chunk.model or "",
                    created=int(chunk.created or 0),
                    tier=chunk.service_tier,
                    fingerprint=chunk.system_fingerprint,
                )
            )
        for given in chunk.choices or ():
            choice = self._choices.get(choice_of(given.index)) or self._add_choice(given.index or 0)
            delta = given.delta or given.message
            if delta is not None:
                choice.read(delta, given.logprobs)
                if delta.tool_calls or delta.function_call is not None:
                    self._read_calls(choice, delta)
            if given.finish_reason is not None and not choice.ended:
                choice.finish(given.finish_reason)
            if given.usage and usage is None:
                usage = read_usage(given.usage)
        if usage is not None:
            self._out.events.append(UsageReported(usage))

    def _add_choice(self, index: int) -> _ChoiceReader:
        self.quota.take_entry()
        choice = self._choices[index] = _ChoiceReader(index, self._out, self._attempt, self._written)
        return choice

    def _read_calls(self, choice: _ChoiceReader, delta: _Delta) -> None:
        deltas = delta.tool_calls or []
        if delta.function_call is not None:
            deltas = [*deltas, ToolCallDelta(index=-1, function=delta.function_call)]
        for each in deltas:
            call = choice.calls.continued_by(each)
            if call is None:
                choice.close_part()
                call = choice.calls.begin(each, number=self._calls)
                self._calls += 1
            choice.calls.read(call, each)


def reasoning_text(value: object) -> str:
    """The text of reasoning: a string, or an object or a list of objects that hold it."""
    if isinstance(value, str):
        return value
    if members := as_object(value):
        names = ("text", "content", "summary", "reasoning")
        return next((text for name in names if (text := reasoning_text(members.get(name)))), "")
    return "".join(map(reasoning_text, as_list(value)))


def _tokens(logprobs: _Logprobs) -> msgspec.Raw | None:
    """The entries of log probabilities; None where there are none."""
    content = logprobs.content
    return content if is_given(content) and bytes(content) != b"[]" else None


def read_response(body: bytes, attempt: Attempt, written: ProviderRequest) -> list[Event]:
    """The events of a whole response. The last is ResponseFailed for what is no response:
    incomplete JSON, an error object inside a 200, no choices.
    """
    return ChatReader(attempt, written).read_whole(body)
