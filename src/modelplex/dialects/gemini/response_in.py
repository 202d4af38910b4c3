"""Reads Gemini responses into events: the chunks of a stream, and whole responses, which have the
same form.

What the request writer changed comes with the ProviderRequest and is undone here. The end mark of a
stream is EOF after a `finishReason` for every candidate or a `blockReason`
(docs/reference/translation.md#rules). Calls arrive whole; text and reasoning arrive in pieces, and
a part ends where one of another kind begins. Imports no other dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Literal

import msgspec

from modelplex.core.errors import ModelplexError, UpstreamAuth, UpstreamBroken
from modelplex.core.events import (
    CitationAdded,
    Event,
    MediaOutput,
    OpaqueStateReceived,
    PartEnded,
    Reason,
    ReasoningDelta,
    ResponseEnded,
    ResponseFailed,
    ResponseStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    Usage,
    UsageReported,
)
from modelplex.core.request import Attempt, OpaqueState, ProviderRequest
from modelplex.dialects.core.foreign_errors import QUOTED
from modelplex.dialects.core.json import ABSENT, is_given
from modelplex.dialects.core.quota import Quota, choice_of
from modelplex.dialects.core.sse import SseEvent, SseReader
from modelplex.dialects.core.surrogates import mended
from modelplex.dialects.dialect import ResponseReader
from modelplex.dialects.gemini.errors import error_inside
from modelplex.dialects.gemini.json import DIALECT, ON_ITS_OWN, ON_TEXT, STATE_FORMAT
from modelplex.dialects.gemini.usage import read_logprobs, read_usage

REASONS: dict[str, Reason] = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "paused"}
"""`finishReason` in the vocabulary's words (docs/reference/translation.md#finish-reasons). Any
other, known or new, says that the answer was cut by a filter, but for those below.
"""

BROKEN: dict[str, str] = {
    "MALFORMED_FUNCTION_CALL": "wrote a tool call that cannot be read",
    "MALFORMED_RESPONSE": "wrote an answer that cannot be read",
    "UNEXPECTED_TOOL_CALL": "called a tool that was not offered",
    "TOO_MANY_TOOL_CALLS": "made too many tool calls",
    "MISSING_THOUGHT_SIGNATURE": "was sent a call without its thought signature",
}
"""Reasons that mean that there is no answer: what the provider's model did instead."""
DISABLED = "PUP_LIMITED_DISABLED"
"""The reason that means that the account may not ask any more."""
UNSAID = frozenset({"", "FINISH_REASON_UNSPECIFIED"})


# --- what comes, as far as it is acted on


class _FunctionCall(msgspec.Struct):
    name: str = ""
    id: str | None = None
    args: msgspec.Raw = ABSENT


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None


class _Content(msgspec.Struct):
    parts: list[msgspec.Raw] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None
    citation_metadata: msgspec.Raw = ABSENT
    grounding_metadata: msgspec.Raw = ABSENT
    logprobs_result: msgspec.Raw = ABSENT


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Chunk(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: msgspec.Raw = ABSENT
    model_version: str | None = None
    response_id: str | None = None
    error: msgspec.Raw = ABSENT


class _FreeInput(msgspec.Struct):
    input: str


_decode_chunk: Callable[[bytes], _Chunk | list[_Chunk]] = msgspec.json.Decoder(_Chunk | list[_Chunk]).decode
_decode_part = msgspec.json.Decoder(_Part).decode


# --- the machine


class _Progress:
    """What was read of one candidate."""

    def __init__(self, choice: int) -> None:
        self.choice = choice
        self.open: tuple[Literal["text", "thought"], int] | None = None
        self.text_part: int | None = None
        self.calls = 0
        self.finish = ""


class GeminiResponse:
    """Chunks in, Events out; `finish` once, at the end."""

    def __init__(self, attempt: Attempt, written: ProviderRequest) -> None:
        self._attempt = attempt
        self._written = written
        self.quota = Quota()
        self._candidates: dict[int, _Progress] = {}
        self._blocked = False
        self._begun = False
        self._parts = 0
        self._calls = 0
        self._usage: Usage | None = None
        self._counted = b""
        self._measured = False

    def __repr__(self) -> str:
        finished = {n: progress.finish for n, progress in self._candidates.items()}
        return f"<Answer parts={self._parts} calls={self._calls} finished={finished}>"

    def read(self, data: bytes) -> Iterator[Event]:
        """One chunk, or one whole answer. Raises UpstreamBroken, or the error that stands in the
        answer's place.
        """
        found: _Chunk | list[_Chunk] = _decode_chunk(mended(data))
        for chunk in found if isinstance(found, list) else [found]:
            yield from self._chunk(chunk, data)

    def _chunk(self, chunk: _Chunk, data: bytes) -> Iterator[Event]:
        if is_given(chunk.error):
            raise error_inside(chunk.error, body=data)
        usage = read_usage(chunk.usage_metadata)
        news = bytes(chunk.usage_metadata) if usage is not None else b""
        if not self._begun:
            self._begun = True
            yield ResponseStarted(id=chunk.response_id or "", model=chunk.model_version or "", usage=usage)
        elif usage is not None and news != self._counted:
            self._measured = True
            yield UsageReported(usage)
        if usage is not None:
            self._usage, self._counted = usage, news
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            self._blocked = True
        for candidate in chunk.candidates or ():
            yield from self._candidate(candidate)

    def _candidate(self, candidate: _Candidate) -> Iterator[Event]:
        index = choice_of(candidate.index)
        progress = self._candidates.get(index)
        if progress is None:
            self.quota.take_entry()
            progress = self._candidates[index] = _Progress(index)
        odds = read_logprobs(candidate.logprobs_result)
        for raw in (candidate.content.parts if candidate.content is not None else None) or ():
            part = _decode_part(raw)
            if part.function_call is not None:
                yield from self._called(part.function_call, part.thought_signature, progress)
            elif part.thought:
                yield from self._thought(part, progress)
            elif part.text is not None or part.thought_signature:
                yield from self._read_part(part, progress, odds)
                odds = None if part.text else odds
            else:
                yield from self._close(progress)
                yield MediaOutput(self._next_part(), raw, DIALECT, progress.choice)
        yield from self._cited(candidate, progress)
        reason = candidate.finish_reason or ""
        if reason not in UNSAID:
            self._refuse_broken(reason, candidate.finish_message)
            progress.finish = reason

    def _refuse_broken(self, reason: str, message: str | None) -> None:
        told = f": {message[:QUOTED]}" if message else "."
        if reason == DISABLED:
            raise UpstreamAuth("The provider has limited the account that the gateway has with it.")
        if reason in BROKEN:
            raise UpstreamBroken(
                f"The provider's model {BROKEN[reason]}{told}", upstream_status=200, upstream_type=reason
            )

    def finish(self) -> Iterator[Event]:
        """The end. Raises UpstreamBroken where a candidate has no reason for its end."""
        if self._blocked and not self._candidates:
            yield from self._count()
            yield ResponseEnded("filter")
            return
        if not self._candidates:
            raise UpstreamBroken("The provider's answer has no candidates.")
        for progress in self._candidates.values():
            yield from self._close(progress)
        if not all(progress.finish for progress in self._candidates.values()):
            raise UpstreamBroken("The provider's answer ended before its end: no finish reason came.")
        yield from self._count()
        for choice, progress in sorted(self._candidates.items()):
            reason = REASONS.get(progress.finish, "filter")
            # A call comes whole or not at all, so that a limit that was hit cut nothing of it.
            is_call = progress.calls > 0 and reason in {"stop", "length"}
            yield ResponseEnded("tool_calls" if is_call else reason, choice)

    def _count(self) -> Iterator[Event]:
        """What the only chunk said of usage: so far it was told as what was known at the
        beginning.
        """
        if self._usage is not None and not self._measured:
            yield UsageReported(self._usage)

    # --- parts

    def _next_part(self) -> int:
        self.quota.take_entry()
        self._parts += 1
        return self._parts - 1

    def _close(self, progress: _Progress) -> Iterator[Event]:
        if progress.open is not None:
            yield PartEnded(progress.open[1], progress.choice)
            progress.open = None

    def _turn_to(self, kind: Literal["text", "thought"], progress: _Progress) -> Generator[Event, None, int]:
        """The number of the open part of this kind."""
        if progress.open is None or progress.open[0] != kind:
            yield from self._close(progress)
            progress.open = (kind, self._next_part())
            if kind == "text":
                progress.text_part = progress.open[1]
        return progress.open[1]

    def _opaque_state(self, signature: str, *, place: str | None = None) -> OpaqueState:
        attempt = self._attempt
        return OpaqueState(STATE_FORMAT, signature, attempt.provider, attempt.account, attempt.model, place)

    def _thought(self, part: _Part, progress: _Progress) -> Iterator[Event]:
        if not part.text and not part.thought_signature:
            return
        number = yield from self._turn_to("thought", progress)
        if part.text:
            yield ReasoningDelta(number, part.text, progress.choice, summary=True)
        if part.thought_signature:
            yield OpaqueStateReceived(number, self._opaque_state(part.thought_signature), progress.choice)
            yield from self._close(progress)

    def _read_part(self, part: _Part, progress: _Progress, odds: msgspec.Raw | None) -> Iterator[Event]:
        if part.text or odds is not None:
            number = yield from self._turn_to("text", progress)
            yield TextDelta(number, part.text or "", progress.choice, odds)
        if part.thought_signature:
            # Text has no state in the vocabulary: it becomes a thinking part of its own that
            # remembers where it was.
            yield from self._close(progress)
            number = self._next_part()
            place = ON_TEXT if part.text else ON_ITS_OWN
            yield OpaqueStateReceived(
                number, self._opaque_state(part.thought_signature, place=place), progress.choice
            )
            yield PartEnded(number, progress.choice)

    def _called(self, call: _FunctionCall, signature: str | None, progress: _Progress) -> Iterator[Event]:
        yield from self._close(progress)
        arguments = bytes(call.args).decode() if is_given(call.args) else ""
        if arguments:
            msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
        number = self._next_part()
        free = call.name in self._written.free
        name = self._written.aliases.get(call.name, call.name)
        yield ToolCallStarted(number, call.id or f"call_{self._calls}", name, progress.choice, free=free)
        self._calls += 1
        progress.calls += 1
        text = _free_input(arguments) if free else arguments
        if signature:
            yield OpaqueStateReceived(number, self._opaque_state(signature), progress.choice)
        if text and text.replace(" ", "") != "{}":
            yield ToolArgumentsDelta(number, text, progress.choice)
        yield PartEnded(number, progress.choice)

    def _cited(self, candidate: _Candidate, progress: _Progress) -> Iterator[Event]:
        """Sources, of a text that was said."""
        for raw in (candidate.citation_metadata, candidate.grounding_metadata):
            if is_given(raw) and bytes(raw) != b"{}" and progress.text_part is not None:
                yield CitationAdded(progress.text_part, raw, DIALECT, progress.choice)


def _free_input(arguments: str) -> str:
    """What a free-form tool was given; a model that forgot `input` gave the whole text."""
    try:
        return msgspec.json.decode(arguments, type=_FreeInput).input
    except msgspec.DecodeError:
        return arguments


# --- the two forms


class GeminiStreamReader:
    """A dialect.Reader: a streamed answer."""

    def __init__(self, attempt: Attempt, written: ProviderRequest) -> None:
        self._sse = SseReader()
        self._answer = GeminiResponse(attempt, written)
        self.quota = self._answer.quota
        self._is_over = False

    def __repr__(self) -> str:
        return f"<StreamReader over={self._is_over} {self._answer!r}>"

    def feed(self, data: bytes) -> list[Event]:
        return self._events(lambda: self._sse.feed(data))

    def end(self) -> list[Event]:
        events = self._events(self._sse.end)
        if not self._is_over:
            events += _events_of(self._answer.finish())
            self._is_over = True
        return events

    def _events(self, arrive: Callable[[], list[SseEvent]]) -> list[Event]:
        events: list[Event] = []
        if self._is_over:
            return events
        try:
            arrived = arrive()
        except UpstreamBroken as error:
            self._is_over = True
            return [ResponseFailed(error)]
        for each in arrived:
            events += _events_of(self._answer.read(each.data))
            if events and isinstance(events[-1], ResponseFailed):
                self._is_over = True
                break
        return events


def _events_of(answer: Iterator[Event]) -> list[Event]:
    """The events, and a Failed as the last where what came is no answer."""
    events: list[Event] = []
    try:
        for event in answer:
            events.append(event)  # noqa: PERF402 - what came before a failure is kept
    except ModelplexError as error:
        events.append(ResponseFailed(error))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        broken = UpstreamBroken(f"The provider's answer is not what it should be: {error}")
        events.append(ResponseFailed(broken))
    return events


def reader(attempt: Attempt, written: ProviderRequest) -> ResponseReader:
    """A streamed answer of `:streamGenerateContent?alt=sse`."""
    return GeminiStreamReader(attempt, written)


def read_response(body: bytes, attempt: Attempt, written: ProviderRequest) -> list[Event]:
    """A whole answer of `:generateContent`; its last event is a Failed where it is none."""
    answer = GeminiResponse(attempt, written)
    events = _events_of(answer.read(body))
    if events and isinstance(events[-1], ResponseFailed):
        return events
    return events + _events_of(answer.finish())
