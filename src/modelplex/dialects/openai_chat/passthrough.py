"""Observer of chat and completions responses that pass unchanged, streamed or whole.

Each event is decoded once, into the few members that decide something. Imports no other dialect.
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.errors import ModelplexError, UpstreamBroken
from modelplex.core.events import Usage
from modelplex.core.request import RawRequest
from modelplex.dialects.core.broken_responses import ENDED_EARLY
from modelplex.dialects.core.json import ABSENT, MALFORMED, as_list, as_object, decode_mended
from modelplex.dialects.core.passthrough import SseObserver
from modelplex.dialects.core.quota import choice_of
from modelplex.dialects.dialect import ObservedResponse
from modelplex.dialects.openai_chat.errors import error_inside, flat_error
from modelplex.dialects.openai_chat.usage import read_usage

GEMINI = "google-gemini-v1"
"""The format of the signatures in `extra_content`, which a call has, or a message where the model
signed a part without a call.
"""
_OBJECT_OR_NOTHING = frozenset({b"{", b"n", b""})
"""How a usage object begins, a null, and one that is absent."""


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class _ToolDelta(msgspec.Struct, gc=False):
    index: int | None = 0
    id: str | int | None = None
    function: _Function | None = None
    extra_content: Any = None


class _Delta(msgspec.Struct, gc=False):
    """A delta or a whole message: the members that are output."""

    content: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    tool_calls: list[_ToolDelta] | None = None
    function_call: _Function | None = None
    audio: Any = None
    images: Any = None
    extra_content: Any = None


class _Marker(msgspec.Struct, gc=False):
    """An object is present; its members are decoded only when they are needed."""


class _Choice(msgspec.Struct, gc=False):
    index: int | None = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    text: Any = None
    finish_reason: str | None = None
    usage: _Marker | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    model: str | None = None
    usage: _Marker | None = None
    error: Any = None


class _Whole(_Chunk, gc=False):
    """A whole response, which is decoded once."""

    usage: msgspec.Raw = ABSENT  # type: ignore[assignment]


class _ChoiceMeasure(msgspec.Struct, gc=False):
    usage: msgspec.Raw = msgspec.Raw()


class _Measure(msgspec.Struct, gc=False):
    usage: msgspec.Raw = msgspec.Raw()
    choices: list[_ChoiceMeasure] | None = None

    @property
    def given(self) -> msgspec.Raw:
        """The usage object: Moonshot has it in the choice."""
        return self.usage or next((each.usage for each in self.choices or () if each.usage), self.usage)


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_whole = msgspec.json.Decoder(_Whole).decode
_decode_measure = msgspec.json.Decoder(_Measure).decode


class ChatObserver(SseObserver):
    """PassthroughObserver of chat and completions streams.

    The end mark is a finish reason for every choice. `[DONE]` may be missing. With it the number of
    choices is what the provider sent; without it, the number in the request.
    """

    __slots__ = (
        "_choices",
        "_finished",
        "_is_done",
        "_open",
        "_usage_event",
        "_withhold",
    )

    def __init__(self, *, choices: int, withhold_usage: bool) -> None:
        super().__init__()
        self._choices = choices
        self._withhold = withhold_usage
        self._usage_event: bytes | None = None
        """Data of the last event with usage."""
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._is_done = False

    def __repr__(self) -> str:
        open_, finished = sorted(self._open), sorted(self._finished)
        return f"<ChatObserver open={open_} finished={finished} failed={self.failed!r}>"

    def _usage(self) -> Usage | None:
        return None if self._usage_event is None else _usage_in(self._usage_event)

    def _judge_end(self) -> None:
        if self._is_done:
            return
        if not self._finished and not self._open:
            self._fail(UpstreamBroken(ENDED_EARLY + "it held no answer."))
        elif self._open or len(self._finished) < self._choices:
            self._fail(UpstreamBroken(ENDED_EARLY + "no finish reason came."))

    def _read_event(self, data: bytes, name: bytes) -> bool:
        try:
            chunk = _decode(data)
        except MALFORMED:
            return self._read_odd(data, name)
        if chunk.error:
            return self._fail(error_inside(chunk.error, body=data), forwarded=self.has_output)
        if self._model is None:
            self._model = chunk.model
        if chunk.usage is not None:
            self._usage_event = data
            if not chunk.choices:
                self._counted_at = self._characters
                return not self._withhold
        if not chunk.choices:
            if chunk.usage is None and (error := flat_error(data)) is not None:
                return self._fail(error, forwarded=self.has_output)
            return True
        for choice in chunk.choices:
            index = choice_of(choice.index) if choice.index else 0
            delta = choice.delta or choice.message
            if delta is not None:
                self._read_delta(delta)
            if choice.text:
                self.has_output = True
                if choice.text.__class__ is str:
                    self._characters += len(choice.text)
            if choice.finish_reason is not None:
                self._open.discard(index)
                self._finished.add(index)
                self._finish = self._finish or choice.finish_reason
                if choice.usage is not None and chunk.usage is None:
                    self._usage_event = data
            elif index not in self._open and index not in self._finished:
                self.quota.take_entry()
                self._open.add(index)
        if chunk.usage is not None:
            self._counted_at = self._characters
        return True

    def _read_delta(self, delta: _Delta) -> None:
        text = delta.content or delta.reasoning_content or delta.reasoning or delta.refusal
        if text:
            self.has_output = True
            if text.__class__ is str:
                self._characters += len(text)
        if delta.tool_calls:
            self.has_output = True
            for call in delta.tool_calls:
                if call.extra_content is not None:
                    self._keep_signature(call.extra_content)
                self._count_arguments(call.function)
        if delta.function_call is not None:
            self.has_output = True
            self._count_arguments(delta.function_call)
        if delta.reasoning_details:
            self.has_output = True
            for state in opaque_states_in(delta.reasoning_details):
                self._keep_state(state)
        if delta.audio or delta.images:
            self.has_output = True
        if delta.extra_content is not None:
            self._keep_signature(delta.extra_content)

    def _count_arguments(self, function: _Function | None) -> None:
        """What is not JSON is forwarded: it is the model's slip, and its agent tells it."""
        if function is not None and isinstance(function.arguments, str):
            self._characters += len(function.arguments)

    def _keep_signature(self, extra: Any) -> None:
        signature = google_signature(extra)
        if signature:
            self._keep_state(signature)

    def _keep_state(self, state: str) -> None:
        self.quota.take_text(state)
        self._opaque_states[len(self._opaque_states)] = state

    def _read_odd(self, data: bytes, name: bytes) -> bool:
        """Reads `[DONE]`, an empty event, or what `_read_mended` reads."""
        stripped = data.strip()
        if not stripped:
            return True
        if stripped != b"[DONE]":
            return self._read_mended(data, name, decode=_decode)
        self._is_done = True
        if self._open or not self._finished:
            return self._fail(UpstreamBroken(ENDED_EARLY + "[DONE] came without a finish reason."))
        return True

    def _read_unknown(self, data: bytes) -> bool:
        error = (as_object(msgspec.json.decode(data)) or {}).get("error")
        if error:
            return self._fail(error_inside(error, body=data), forwarded=self.has_output)
        if (flat := flat_error(data)) is not None:
            return self._fail(flat, forwarded=self.has_output)
        return super()._read_unknown(data)


def opaque_states_in(details: object) -> list[str]:
    """The opaque strings of reasoning_details, as they are in the body."""
    entries = [as_object(each) or {} for each in as_list(details)]
    found = [entry.get(name) for entry in entries for name in ("signature", "data")]
    return [state for state in found if isinstance(state, str) and state]


def google_signature(extra: object) -> str | None:
    """The signature in Gemini's `extra_content`: {"google": {"thought_signature": ...}}."""
    signature = (as_object((as_object(extra) or {}).get("google")) or {}).get("thought_signature")
    return signature if isinstance(signature, str) else None


def observer(raw_request: RawRequest, *, withhold_usage: bool) -> ChatObserver:
    """An observer of the response. The request has the number of choices."""
    return ChatObserver(choices=_choices_in(raw_request), withhold_usage=withhold_usage)


def _choices_in(raw_request: RawRequest) -> int:
    """`n`, where it is a number. A completions request has a choice for each prompt as well; these
    are not counted.
    """
    given = raw_request.fields.get("n")
    text = bytes(given) if given is not None else b"1"
    return int(text) if text.isdigit() else 1


def observe(body: bytes) -> ObservedResponse:
    """Reads a whole response."""
    try:
        answer: _Whole | None = _decode_whole(body)
    except MALFORMED:
        answer = decode_mended(body, _decode_whole)
    if answer is None or bytes(answer.usage)[:1] not in _OBJECT_OR_NOTHING:
        broken = "The provider answered with something that is not an answer in OpenAI's form."
        return ObservedResponse(error=UpstreamBroken(broken))
    if answer.error:
        return ObservedResponse(answer.model, error=error_inside(answer.error, body=body))
    usage = read_usage(answer.usage)
    if not answer.choices:
        missing = flat_error(body) or UpstreamBroken("The provider's answer has no choices.")
        return ObservedResponse(answer.model, usage=usage, error=missing)
    states: list[str] = []
    error: ModelplexError | None = None
    for choice in answer.choices:
        message = choice.message or choice.delta
        if message is None:
            continue
        if message.reasoning_details:
            states += opaque_states_in(message.reasoning_details)
        if message.extra_content is not None or message.tool_calls:
            extras = [message.extra_content, *(call.extra_content for call in message.tool_calls or ())]
            states += [state for extra in extras if extra is not None and (state := google_signature(extra))]
    length = sum(map(_characters, answer.choices)) if usage is None else 0
    return ObservedResponse(
        answer.model, answer.choices[0].finish_reason, usage, error, tuple(states), length
    )


def _usage_in(data: bytes) -> Usage | None:
    found = decode_mended(data, _decode_measure)
    return None if found is None else read_usage(found.given)


def _characters(choice: _Choice) -> int:
    """Characters of text, reasoning and arguments in a choice of a whole response."""
    message = choice.message or choice.delta or _Delta()
    functions = [message.function_call, *(call.function for call in message.tool_calls or ())]
    texts = [choice.text, message.content, message.reasoning_content or message.reasoning, message.refusal]
    texts += [each.arguments for each in functions if each is not None]
    return sum(len(text) for text in texts if isinstance(text, str))
