"""Looking on while an OpenAI answer passes untouched: chat and completions, streamed or whole.

Above it stand the OpenAI dialects; below it the vocabulary. This is the hottest code of the
gateway: a chunk that holds whole events is split on its blank lines and each event is decoded once,
into the few fields that decide something. Bytes are forwarded as they came.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from modelplex.core.errors import ModelplexError, UpstreamBroken
from modelplex.core.request import RawRequest
from modelplex.dialects.core.json import MALFORMED, as_list, as_object, decode_mended, mend, parses
from modelplex.dialects.core.quota import Quota, choice_of
from modelplex.dialects.core.sse import IDLE_CAP, LINE_CAP, SseReader, stalled
from modelplex.dialects.dialect import ObservedResponse
from modelplex.dialects.openai_chat.errors import error_inside
from modelplex.dialects.openai_chat.usage import read_usage

GEMINI = "google-gemini-v1"
"""The format of the signatures in `extra_content`: of a call, or of a message where the model
signed a part without one.
"""
ENDED_EARLY = "The provider's stream ended before its end: "
_HALF_ARGUMENTS = "The provider ended a tool call whose arguments are not JSON."
_MAY_BE_CUT = frozenset({"length", "content_filter", "max_tokens"})
"""Finish words after which a call's arguments may be half."""


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class _ToolDelta(msgspec.Struct, gc=False):
    index: int | None = 0
    id: str | int | None = None
    function: _Function | None = None
    extra_content: Any = None


class _Delta(msgspec.Struct, gc=False):
    """A delta, or a whole message: what tells that there is output."""

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


class _Choice(msgspec.Struct, gc=False):
    index: int | None = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    text: Any = None
    finish_reason: str | None = None


class _Marker(msgspec.Struct, gc=False):
    """Present and an object; its members are read where they are asked for."""


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    model: str | None = None
    usage: _Marker | None = None
    error: Any = None


class _Measure(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_measure = msgspec.json.Decoder(_Measure).decode

_PASS, _WITHHOLD, _STOP = 0, 1, 2
"""What becomes of an event: it leaves as it came; it is taken out; nothing more leaves after it."""

_blank_line = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")


class ChatObserver:
    """dialects/dialect.py's Watch for chat and completions streams.

    The end mark is a finish reason for every choice; `[DONE]` may be missing, but with it the
    provider's word counts for how many choices there are, and without it the number that was asked
    for.
    """

    __slots__ = (
        "_arguments",
        "_asked",
        "_calls",
        "_carry",
        "_characters",
        "_counted_at",
        "_finish",
        "_finished",
        "_idle",
        "_measured",
        "_model",
        "_open",
        "_over",
        "_seals",
        "_stopped",
        "_withhold",
        "error_forwarded",
        "failed",
        "has_output",
        "quota",
    )

    def __init__(self, *, asked: int, withhold_usage: bool) -> None:
        self.has_output = False
        self.error_forwarded = False
        self.quota = Quota()
        self._idle = 0
        self._asked = asked
        self._withhold = withhold_usage
        self._carry = bytearray()
        self._model: str | None = None
        self._finish: str | None = None
        self._measured: bytes | None = None
        self._characters = 0
        """Of text, thoughts and arguments."""
        self._counted_at = 0
        self.failed: ModelplexError | None = None
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._arguments: dict[int, list[list[str]]] = {}
        """Of each choice, the pieces of each call's arguments."""
        self._calls: dict[tuple[int, int], tuple[str | int | None, list[str]]] = {}
        """By choice and index, the id and the pieces of the call that deltas go to."""
        self._seals: list[str] = []
        self._over = False
        self._stopped = False

    def __repr__(self) -> str:
        return f"<OpenAIWatch open={sorted(self._open)} finished={sorted(self._finished)} failed={self.failed!r}>"

    @property
    def seen(self) -> ObservedResponse:
        usage = None
        if self._measured is not None:
            measure = decode_mended(self._measured, _decode_measure)
            usage = read_usage(measure.usage) if measure is not None else None
        return ObservedResponse(
            self._model,
            self._finish,
            usage,
            self.failed,
            tuple(self._seals),
            self._characters,
            self._counted_at,
        )

    def feed(self, data: bytes) -> bytes:
        if self._stopped:
            return b""
        if (
            data.startswith(b"data: {")
            and data.endswith(b"\n\n")
            and data.find(b"\n") == len(data) - 2
            and not self._carry
            and b"\r" not in data
        ):
            # One event of one line, all of it: what most chunks are.
            verdict = self._observe(data[6:-2])
            return data if verdict == _PASS else self._leave(data, verdict)
        return self._feed_any(data)

    def _feed_any(self, data: bytes) -> bytes:
        if self._carry:
            self._carry += data
            if len(self._carry) > LINE_CAP:
                self._stop(
                    UpstreamBroken(f"The provider's stream has an event of more than {LINE_CAP} bytes.")
                )
                return b""
            # Three bytes back: a blank line may have been cut between any two of its four.
            if not _blank_line.search(self._carry, max(0, len(self._carry) - len(data) - 3)):
                return b""
            data = bytes(self._carry)
            self._carry.clear()
        if b"\r" in data:
            return self._feed_lines(data)
        end = data.rfind(b"\n\n") + 2
        if end == 1:
            self._carry += data
            return b""
        if end != len(data):
            self._carry += data[end:]
            data = data[:end]
        return self._pass(data, [block + b"\n\n" for block in data[:-2].split(b"\n\n")])

    def _feed_lines(self, data: bytes) -> bytes:
        """As `feed`, where lines may end with CR or CRLF."""
        blocks: list[bytes] = []
        start = 0
        for found in _blank_line.finditer(data):
            blocks.append(data[start : found.end()])
            start = found.end()
        self._carry += data[start:]
        return self._pass(data[:start], blocks)

    def end(self) -> bytes:
        if self._stopped:
            return b""
        if self._carry.strip():
            # The last blank line is missing: the event is made whole, since only whole events
            # leave.
            last = bytes(self._carry) + b"\n\n"
            self._carry.clear()
            rest = self._pass(last, [last])
        else:
            rest = bytes(self._carry)  # the second half of a CRLF
        self._judge_end()
        return rest

    def _judge_end(self) -> None:
        if self._stopped or self._over:
            return
        if not self._finished and not self._open:
            self._stop(UpstreamBroken(ENDED_EARLY + "it held no answer."))
        elif self._open or len(self._finished) < self._asked:
            self._stop(UpstreamBroken(ENDED_EARLY + "no finish reason came."))

    def _pass(self, whole: bytes, blocks: list[bytes]) -> bytes:
        """What of these events may leave: `whole` itself where that is all of them."""
        passed: list[bytes] = []
        for block in blocks:
            verdict = self._observe_block(block)
            if verdict == _PASS:
                passed.append(block)
                continue
            left = self._leave(block, verdict)
            if left:
                passed.append(left)
            if self._stopped:
                break
        return whole if len(passed) == len(blocks) else b"".join(passed)

    def _observe_block(self, block: bytes) -> int:
        if block.startswith(b"data: ") and block.endswith(b"\n\n") and block.find(b"\n") == len(block) - 2:
            return self._observe(block[6:-2])
        if b"data" not in block:
            self._idle += len(block)
            return _PASS if self._idle <= IDLE_CAP else self._stop(stalled())
        events = SseReader().feed(block)
        self._idle = 0 if any(event.data for event in events) else self._idle + len(block)
        if self._idle > IDLE_CAP:
            return self._stop(stalled())
        return max((self._observe(event.data) for event in events), default=_PASS)

    def _leave(self, block: bytes, verdict: int) -> bytes:
        """The bytes of an event that is more than passed: the usage that only we asked for, or the
        end of it all.
        """
        return block if verdict == _STOP and self.error_forwarded else b""

    def _stop(self, error: ModelplexError) -> int:
        self.failed = error
        self._stopped = True
        return _STOP

    def _observe(self, data: bytes) -> int:
        """Looks at one event's data, and says whether it may leave."""
        try:
            chunk = _decode(data)
        except MALFORMED:
            return self._observe_odd(data)
        if chunk.error:
            return self._fail(chunk.error, data)
        if self._model is None:
            self._model = chunk.model
        if chunk.usage is not None:
            self._measured = data
            if not chunk.choices:
                self._counted_at = self._characters
                return _WITHHOLD if self._withhold else _PASS
        if not chunk.choices:
            return _PASS
        for choice in chunk.choices:
            index = choice_of(choice.index)
            delta = choice.delta or choice.message
            if delta is not None:
                self._observe_delta(index, delta)
            if choice.text:
                self.has_output = True
                if choice.text.__class__ is str:
                    self._characters += len(choice.text)
            if choice.finish_reason is not None:
                if self._observe_finish(index, choice.finish_reason) == _STOP:
                    return _STOP
            elif index not in self._open and index not in self._finished:
                self.quota.take_entry()
                self._open.add(index)
        if chunk.usage is not None:
            self._counted_at = self._characters
        return _PASS

    def _observe_delta(self, index: int, delta: _Delta) -> None:
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
                self._observe_call(index, call.index or 0, call.id, call.function)
        if delta.function_call is not None:
            self.has_output = True
            self._observe_call(index, -1, None, delta.function_call)
        if delta.reasoning_details:
            self.has_output = True
            self._keep_seals(seals_in(delta.reasoning_details))
        if delta.audio or delta.images:
            self.has_output = True
        if delta.extra_content is not None:
            self._keep_signature(delta.extra_content)

    def _observe_call(
        self, choice: int, index: int, id_: str | int | None, function: _Function | None
    ) -> None:
        if function is None:
            return
        call = self._calls.get((choice, index))
        # Some servers send every call with the index 0: another id beside a name is another call.
        if call is None or (id_ and call[0] and id_ != call[0] and function.name):
            self.quota.take_entry()
            call = self._calls[choice, index] = (id_, [])
            self._arguments.setdefault(choice, []).append(call[1])
        if isinstance(function.arguments, str):
            self.quota.take_text(function.arguments)
            call[1].append(function.arguments)
            self._characters += len(function.arguments)

    def _keep_signature(self, extra: Any) -> None:
        signature = google_signature(extra)
        if signature:
            self._keep_seals([signature])

    def _keep_seals(self, seals: list[str]) -> None:
        for seal in seals:
            self.quota.take_text(seal)
        self._seals += seals

    def _observe_finish(self, index: int, reason: str) -> int:
        self._open.discard(index)
        self._finished.add(index)
        self._finish = self._finish or reason
        if self._arguments and reason not in _MAY_BE_CUT:
            for pieces in self._arguments.get(index, ()):
                text = "".join(pieces)
                if text.strip() and not parses(text):
                    return self._stop(UpstreamBroken(_HALF_ARGUMENTS))
        return _PASS

    def _fail(self, error: Any, data: bytes) -> int:
        self.error_forwarded = self.has_output
        return self._stop(error_inside(error, body=data))

    def _observe_done(self) -> int:
        self._over = True
        if self._open or not self._finished:
            return self._stop(UpstreamBroken(ENDED_EARLY + "it said [DONE] without a finish reason."))
        return _PASS

    def _observe_odd(self, data: bytes) -> int:
        """Not JSON, JSON that no strict reader takes, or a shape that we do not know."""
        if data.strip() == b"[DONE]":
            return self._observe_done()
        mended = mend(data) if data.strip() else b"{}"
        if mended is None:
            return self._stop(UpstreamBroken("The provider's stream holds something that is not JSON."))
        if decode_mended(mended, _decode) is not None:
            return self._observe(mended)
        error = (as_object(msgspec.json.decode(mended)) or {}).get("error")
        if error:
            return self._fail(error, data)
        # Not understood, and therefore not judged: it passes, as an untouched stream should.
        self.has_output = True
        return _PASS


def seals_in(details: object) -> list[str]:
    """The opaque strings of reasoning_details, as they stand in the body."""
    entries = [as_object(each) or {} for each in as_list(details)]
    found = [entry.get(name) for entry in entries for name in ("signature", "data")]
    return [seal for seal in found if isinstance(seal, str) and seal]


def google_signature(extra: object) -> str | None:
    """Of Gemini's `extra_content`: {"google": {"thought_signature": ...}}."""
    signature = (as_object((as_object(extra) or {}).get("google")) or {}).get("thought_signature")
    return signature if isinstance(signature, str) else None


def watch(ask: RawRequest, *, withhold_usage: bool) -> ChatObserver:
    """Looks on while a stream passes; the number of choices is that of the request."""
    return ChatObserver(asked=_asked(ask), withhold_usage=withhold_usage)


def _asked(ask: RawRequest) -> int:
    """`n`, where it is a number. A completions request has a choice for each prompt; how many they
    are is left to the provider.
    """
    given = ask.fields.get("n")
    text = bytes(given) if given is not None else b"1"
    return int(text) if text.isdigit() else 1


def look(body: bytes) -> ObservedResponse:
    """A whole answer: what is in it, and why it is none."""
    try:
        answer = _decode(body)
    except MALFORMED:
        found = decode_mended(body, _decode)
        if found is None:
            return ObservedResponse(
                error=UpstreamBroken(
                    "The provider answered with something that is not an answer in OpenAI's form."
                )
            )
        answer = found
    if answer.error:
        return ObservedResponse(answer.model, error=error_inside(answer.error, body=body))
    usage = None
    if answer.usage is not None:
        measure = decode_mended(body, _decode_measure)
        usage = read_usage(measure.usage) if measure is not None else None
    if not answer.choices:
        return ObservedResponse(
            answer.model, usage=usage, error=UpstreamBroken("The provider's answer has no choices.")
        )
    seals: list[str] = []
    error: ModelplexError | None = None
    for choice in answer.choices:
        message = choice.message or choice.delta
        if message is None:
            continue
        if message.reasoning_details:
            seals += seals_in(message.reasoning_details)
        extras = [message.extra_content, *(call.extra_content for call in message.tool_calls or ())]
        seals += [seal for extra in extras if extra is not None and (seal := google_signature(extra))]
        if choice.finish_reason not in _MAY_BE_CUT and _has_half_arguments(message):
            error = UpstreamBroken(_HALF_ARGUMENTS)
    length = sum(map(_characters, answer.choices)) if usage is None else 0
    return ObservedResponse(answer.model, answer.choices[0].finish_reason, usage, error, tuple(seals), length)


def _characters(choice: _Choice) -> int:
    """The length of what a choice of a whole answer says."""
    message = choice.message or choice.delta or _Delta()
    functions = [message.function_call, *(call.function for call in message.tool_calls or ())]
    texts = [choice.text, message.content, message.reasoning_content or message.reasoning, message.refusal]
    texts += [each.arguments for each in functions if each is not None]
    return sum(len(text) for text in texts if isinstance(text, str))


def _has_half_arguments(message: _Delta) -> bool:
    functions = [message.function_call, *(call.function for call in message.tool_calls or ())]
    return any(
        isinstance(each.arguments, str) and each.arguments.strip() and not parses(each.arguments)
        for each in functions
        if each is not None
    )
