"""Reads Gemini responses into events: the chunks of a stream, and whole responses, which have the
same form.

What the request writer changed comes with the ProviderRequest and is undone here. The end mark of a
stream is EOF after a `finishReason` for every candidate or a `blockReason`
(docs/reference/translation.md#rules). Calls arrive whole; text and reasoning arrive in pieces, and
a part ends where one of another kind begins. Imports no other dialect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from modelplex.core.errors import UpstreamAuth, UpstreamBroken, UpstreamReply
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
    Usage,
    UsageReported,
)
from modelplex.core.request import Attempt, OpaqueState, ProviderRequest
from modelplex.dialects.core.broken_responses import ENDED_EARLY
from modelplex.dialects.core.foreign_errors import QUOTED
from modelplex.dialects.core.json import ABSENT, is_given
from modelplex.dialects.core.quota import choice_of
from modelplex.dialects.core.response_reader import SseResponseReader, finish_reason, opaque_state
from modelplex.dialects.core.streamed_calls import free_input
from modelplex.dialects.core.surrogates import mended
from modelplex.dialects.gemini.errors import error_inside
from modelplex.dialects.gemini.json import DIALECT, ON_ITS_OWN, ON_TEXT, STATE_FORMAT
from modelplex.dialects.gemini.usage import read_logprobs, read_usage

REASONS: dict[str, Reason] = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "paused"}
"""By `finishReason` (docs/reference/translation.md#finish-reasons). Any other, except those below,
means that a filter cut the response.
"""

BROKEN: dict[str, str] = {
    "MALFORMED_FUNCTION_CALL": "wrote a tool call that cannot be read",
    "MALFORMED_RESPONSE": "wrote an answer that cannot be read",
    "UNEXPECTED_TOOL_CALL": "called a tool that was not offered",
    "TOO_MANY_TOOL_CALLS": "made too many tool calls",
    "MISSING_THOUGHT_SIGNATURE": "was sent a call without its thought signature",
}
"""Reasons that mean that there is no response: what the model did instead."""
DISABLED = "PUP_LIMITED_DISABLED"
"""The reason that means that the account is limited."""
UNSAID = frozenset({"", "FINISH_REASON_UNSPECIFIED"})


# --- wire types: the members that are read


class _FunctionCall(msgspec.Struct, gc=False):
    name: str = ""
    id: str | None = None
    args: msgspec.Raw = ABSENT


class _Part(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None


class _Content(msgspec.Struct, gc=False):
    parts: list[msgspec.Raw] | None = None


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None
    citation_metadata: msgspec.Raw = ABSENT
    grounding_metadata: msgspec.Raw = ABSENT
    logprobs_result: msgspec.Raw = ABSENT


class _Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: msgspec.Raw = ABSENT
    model_version: str | None = None
    response_id: str | None = None
    error: msgspec.Raw = ABSENT


_decode_chunk: Callable[[bytes], _Chunk | list[_Chunk]] = msgspec.json.Decoder(_Chunk | list[_Chunk]).decode
_decode_part = msgspec.json.Decoder(_Part).decode


# --- reader


class _Progress:
    """What was read of one candidate."""

    __slots__ = ("calls", "choice", "finish", "open_kind", "open_part", "text_part")

    def __init__(self, choice: int) -> None:
        self.choice = choice
        self.open_kind = ""
        self.open_part = -1
        self.text_part: int | None = None
        self.calls = 0
        self.finish = ""


class GeminiStreamReader(SseResponseReader):
    """ResponseReader of Gemini streams. The end mark is EOF after a finish reason for every
    candidate, or after a block reason.
    """

    def __init__(self, attempt: Attempt, written: ProviderRequest) -> None:
        super().__init__()
        self._attempt = attempt
        self._written = written
        self._candidates: dict[int, _Progress] = {}
        self._is_blocked = False
        self._has_started = False
        self._calls = 0
        self._usage: Usage | None = None
        self._usage_object = b""
        """The JSON of the last usage."""
        self._has_reported_usage = False

    def __repr__(self) -> str:
        finished = {n: candidate.finish for n, candidate in self._candidates.items()}
        return f"<GeminiStreamReader {self._out!r} calls={self._calls} finished={finished}>"

    def read_whole(self, body: bytes) -> list[Event]:
        """The events of a response that is not streamed."""
        return self._out.read(lambda: self._read_body(body))

    def _read_body(self, body: bytes) -> None:
        self._read_event(body, "")
        self._read_end()

    def _read_event(self, data: bytes, name: str) -> None:
        """Read one chunk, or a whole response."""
        del name
        found: _Chunk | list[_Chunk] = _decode_chunk(mended(data))
        for chunk in found if isinstance(found, list) else [found]:
            self._read_chunk(chunk, data)

    def _read_chunk(self, chunk: _Chunk, data: bytes) -> None:
        if is_given(chunk.error):
            raise error_inside(chunk.error, body=data)
        raw = bytes(chunk.usage_metadata)
        if not self._has_started:
            self._has_started = True
            usage = read_usage(chunk.usage_metadata)
            self._out.events.append(
                ResponseStarted(id=chunk.response_id or "", model=chunk.model_version or "", usage=usage)
            )
            self._usage, self._usage_object = usage, raw
        elif raw and raw != self._usage_object and (usage := read_usage(chunk.usage_metadata)) is not None:
            self._has_reported_usage = True
            self._out.events.append(UsageReported(usage))
            self._usage, self._usage_object = usage, raw
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            self._is_blocked = True
        for given in chunk.candidates or ():
            self._read_candidate(given)

    def _read_candidate(self, given: _Candidate) -> None:
        index = choice_of(given.index)
        candidate = self._candidates.get(index)
        if candidate is None:
            self.quota.take_entry()
            candidate = self._candidates[index] = _Progress(index)
        tokens = read_logprobs(given.logprobs_result) if given.logprobs_result else None
        for raw in (given.content.parts if given.content is not None else None) or ():
            part = _decode_part(raw)
            if part.function_call is not None:
                self._read_call(part.function_call, part.thought_signature, candidate)
            elif part.thought:
                self._read_thought(part, candidate)
            elif part.text is not None or part.thought_signature:
                self._read_text(part, candidate, tokens)
                tokens = None if part.text else tokens
            else:
                self._close(candidate)
                self._out.events.append(MediaOutput(self._out.next_part(), raw, DIALECT, candidate.choice))
        self._read_citations(given, candidate)
        reason = given.finish_reason or ""
        if reason not in UNSAID:
            self._check_reason(reason, given.finish_message)
            candidate.finish = reason

    def _check_reason(self, reason: str, message: str | None) -> None:
        """Raises UpstreamAuth or UpstreamBroken for a reason that means that there is no
        response.
        """
        if reason == DISABLED:
            raise UpstreamAuth("The provider has limited the account that the gateway has with it.")
        if reason in BROKEN:
            detail = f": {message[:QUOTED]}" if message else "."
            raise UpstreamBroken(
                f"The provider's model {BROKEN[reason]}{detail}",
                upstream=UpstreamReply(status=200, type=reason),
            )

    def _read_end(self) -> None:
        events = self._out.events
        if not self._candidates and not self._is_blocked:
            raise UpstreamBroken("The provider's response has no candidates.")
        for candidate in self._candidates.values():
            self._close(candidate)
        if not all(candidate.finish for candidate in self._candidates.values()):
            raise UpstreamBroken(ENDED_EARLY + "no finish reason came.")
        if self._usage is not None and not self._has_reported_usage:
            events.append(
                UsageReported(self._usage)
            )  # the first chunk's is known so far as a preliminary one
        if not self._candidates:
            events.append(ResponseEnded("filter"))
        for choice, candidate in sorted(self._candidates.items()):
            # A call comes whole or not at all, so a limit cuts none.
            reason = finish_reason(REASONS.get(candidate.finish, "filter"), calls=candidate.calls > 0)
            events.append(ResponseEnded(reason, choice))
        self._out.is_over = True

    # --- parts

    def _close(self, candidate: _Progress) -> None:
        if candidate.open_kind:
            self._out.events.append(PartEnded(candidate.open_part, candidate.choice))
            candidate.open_kind = ""

    def _part(self, kind: Literal["text", "thought"], candidate: _Progress) -> int:
        """The number of the open part of this kind."""
        if candidate.open_kind != kind:
            self._close(candidate)
            candidate.open_kind = kind
            candidate.open_part = self._out.next_part()
            if kind == "text":
                candidate.text_part = candidate.open_part
        return candidate.open_part

    def _state(self, signature: str, *, id: str | None = None) -> OpaqueState:
        return opaque_state(self._attempt, STATE_FORMAT, signature, id=id)

    def _read_thought(self, part: _Part, candidate: _Progress) -> None:
        if not part.text and not part.thought_signature:
            return
        events, number, choice = self._out.events, self._part("thought", candidate), candidate.choice
        if part.text:
            events.append(ReasoningDelta(number, part.text, choice, summary=True))
        if part.thought_signature:
            events.append(OpaqueStateReceived(number, self._state(part.thought_signature), choice))
            self._close(candidate)

    def _read_text(self, part: _Part, candidate: _Progress, tokens: msgspec.Raw | None) -> None:
        events, choice = self._out.events, candidate.choice
        if part.text or tokens is not None:
            events.append(TextDelta(self._part("text", candidate), part.text or "", choice, tokens))
        if part.thought_signature:
            # A text part has no opaque state in ChatRequest: the state is a thinking part of its
            # own that remembers where it was.
            self._close(candidate)
            number = self._out.next_part()
            state = self._state(part.thought_signature, id=ON_TEXT if part.text else ON_ITS_OWN)
            events += [OpaqueStateReceived(number, state, choice), PartEnded(number, choice)]

    def _read_call(self, call: _FunctionCall, signature: str | None, candidate: _Progress) -> None:
        self._close(candidate)
        arguments = bytes(call.args).decode() if is_given(call.args) else ""
        if arguments:
            msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
        number, choice, events = self._out.next_part(), candidate.choice, self._out.events
        free = call.name in self._written.free
        name = self._written.aliases.get(call.name, call.name)
        events.append(ToolCallStarted(number, call.id or f"call_{self._calls}", name, choice, free=free))
        self._calls += 1
        candidate.calls += 1
        if signature:
            events.append(OpaqueStateReceived(number, self._state(signature), choice))
        text = free_input(arguments) if free else arguments
        if text and text.replace(" ", "") != "{}":
            events.append(ToolArgumentsDelta(number, text, choice))
        events.append(PartEnded(number, choice))

    def _read_citations(self, given: _Candidate, candidate: _Progress) -> None:
        """Sources of the text before."""
        for raw in (given.citation_metadata, given.grounding_metadata):
            if is_given(raw) and bytes(raw) != b"{}" and candidate.text_part is not None:
                self._out.events.append(CitationAdded(candidate.text_part, raw, DIALECT, candidate.choice))


def read_response(body: bytes, attempt: Attempt, written: ProviderRequest) -> list[Event]:
    """The events of a whole response of `:generateContent`; the last is ResponseFailed where the
    body is none.
    """
    return GeminiStreamReader(attempt, written).read_whole(body)
