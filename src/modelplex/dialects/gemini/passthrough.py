"""Looking on while a Gemini answer passes untouched, streamed or whole.

Above it stands `gemini`; below it the vocabulary. Each event is decoded once, into the few fields
that decide something, and its bytes are forwarded as they came.
"""

from __future__ import annotations

import re

import msgspec

from modelplex.core.errors import ModelplexError, UpstreamBroken
from modelplex.core.request import RawRequest
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.quota import Quota, choice_of
from modelplex.dialects.core.sse import IDLE_CAP, LINE_CAP, SseReader, stalled
from modelplex.dialects.core.surrogates import mended
from modelplex.dialects.core.usage import of_vectors
from modelplex.dialects.dialect import ObservedResponse
from modelplex.dialects.gemini.errors import error_inside
from modelplex.dialects.gemini.json import ABSENT
from modelplex.dialects.gemini.response_in import BROKEN, UNSAID
from modelplex.dialects.gemini.usage import read_usage

ENDED_EARLY = "The provider's stream ended before its end: "


class _Marker(msgspec.Struct, gc=False):
    """Present and an object; its members are read where they are asked for."""


class _Function(msgspec.Struct, gc=False):
    args: msgspec.Raw = ABSENT


class _Part(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    thought_signature: str | None = None
    function_call: _Function | None = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int | None = None


class _Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Marker | None = None
    model_version: str | None = None
    error: _Marker | None = None


class _Measure(msgspec.Struct, rename="camel"):
    usage_metadata: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_measure = msgspec.json.Decoder(_Measure).decode
_MALFORMED = (msgspec.DecodeError, UnicodeError, RecursionError)
_blank_line = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")


class _Looked:
    """What was seen of an answer so far."""

    __slots__ = (
        "characters",
        "counted_at",
        "finish",
        "has_output",
        "measured",
        "model",
        "open",
        "quota",
        "seals",
    )

    def __init__(self) -> None:
        self.model: str | None = None
        self.finish: str | None = None
        self.measured: bytes | None = None
        self.characters = 0
        self.counted_at = 0
        self.seals: list[str] = []
        self.open: set[int] = set()
        self.quota = Quota()
        self.has_output = False

    def look(self, chunk: _Chunk, data: bytes) -> None:
        if self.model is None:
            self.model = chunk.model_version
        if chunk.usage_metadata is not None:
            self.measured = data
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            self.finish = self.finish or chunk.prompt_feedback.block_reason
        for candidate in chunk.candidates or ():
            index = choice_of(candidate.index)
            if candidate.content is not None and candidate.content.parts:
                for part in candidate.content.parts:
                    self._look_at(part)
            if candidate.finish_reason is None or candidate.finish_reason in UNSAID:
                if self.finish is None or index in self.open:
                    self.open.add(index)
            else:
                self.open.discard(index)
                self.finish = self.finish or candidate.finish_reason
        if chunk.usage_metadata is not None:
            self.counted_at = self.characters

    def _look_at(self, part: _Part) -> None:
        if part.text:
            self.characters += len(part.text)
        elif part.function_call is not None:
            self.characters += len(part.function_call.args)
        elif part.text is not None and part.thought_signature is None:
            return
        self.has_output = True
        if part.thought_signature is not None:
            self.quota.take_text(part.thought_signature)
            self.seals.append(part.thought_signature)

    def seen(self, error: ModelplexError | None) -> ObservedResponse:
        usage = None
        if self.measured is not None:
            usage = read_usage(_decode_measure(self.measured).usage_metadata)
        length = 0 if usage is not None and self.counted_at == self.characters else self.characters
        at = self.counted_at if length else 0
        return ObservedResponse(self.model, self.finish, usage, error, tuple(self.seals), length, at)


def _only_line(data: bytes) -> int:
    """Where the line ends, of what most chunks are: one event of one line, all of it. 0 for any
    other. This service ends its lines with CR LF.
    """
    if not data.startswith(b"data: {"):
        return 0
    line = len(data) - 4 if data.endswith(b"\r\n\r\n") else len(data) - 2 if data.endswith(b"\n\n") else 0
    return line if data.find(b"\r", 0, line) == -1 == data.find(b"\n", 0, line) else 0


class GeminiObserver:
    """dialects/dialect.py's Watch. The end mark is EOF behind a finish reason for every candidate,
    or a block reason.
    """

    def __init__(self) -> None:
        self.has_output = False
        self.failed: ModelplexError | None = None
        self.error_forwarded = False
        self._looked = _Looked()
        self.quota = self._looked.quota
        self._idle = 0
        self._carry = bytearray()

    def __repr__(self) -> str:
        return f"<GeminiWatch finish={self._looked.finish!r} failed={self.failed!r}>"

    @property
    def seen(self) -> ObservedResponse:
        return self._looked.seen(self.failed)

    def feed(self, data: bytes) -> bytes:
        if self.failed is not None:
            return b""
        if not self._carry and (line := _only_line(data)):
            return data if self._observe(data[6:line]) else b""
        self._carry += data
        if len(self._carry) > LINE_CAP:
            self.failed = UpstreamBroken(f"The provider's stream has an event of more than {LINE_CAP} bytes.")
            return b""
        # Three bytes back: a blank line may have been cut between any two of its four.
        if not _blank_line.search(self._carry, max(0, len(self._carry) - len(data) - 3)):
            return b""
        whole = bytes(self._carry)
        out: list[bytes] = []
        start = 0
        for found in _blank_line.finditer(whole):
            block = whole[start : found.end()]
            start = found.end()
            if not self._pass(block):
                break
            out.append(block)
        self._carry = bytearray(whole[start:])
        return b"".join(out)

    def end(self) -> bytes:
        if self.failed is not None:
            return b""
        rest = bytes(self._carry)
        if rest.strip():
            rest += b"\n\n"  # the last blank line is missing: the event is made whole, since only whole events leave
            if not self._pass(rest):
                return b""
        looked = self._looked
        if looked.finish is None and not looked.open:
            self.failed = UpstreamBroken(ENDED_EARLY + "it held no answer.")
        elif looked.open:
            self.failed = UpstreamBroken(ENDED_EARLY + "no finish reason came.")
        return rest

    def _pass(self, block: bytes) -> bool:
        """Whether the block may leave."""
        events = SseReader().feed(block) if b"data" in block else []
        self._idle = 0 if events else self._idle + len(block)
        if self._idle > IDLE_CAP:
            self.failed = stalled()
            return False
        return all(self._observe(event.data) for event in events)

    def _observe(self, data: bytes) -> bool:
        try:
            chunk = _decode(mended(data))
        except _MALFORMED as error:
            self.failed = UpstreamBroken(f"The provider's stream is not what it should be: {error}")
            return False
        if chunk.error is not None:
            self.error_forwarded = self.has_output
            self.failed = error_inside(_decode_measure(data).error, body=data)
            return self.error_forwarded
        self._looked.look(chunk, data)
        self.has_output = self._looked.has_output
        return self._judge(chunk)

    def _judge(self, chunk: _Chunk) -> bool:
        """A finish reason that says that there is no answer is told to a client that has begun to
        read; before that another provider may do better.
        """
        broken = next((c.finish_reason for c in chunk.candidates or () if c.finish_reason in BROKEN), None)
        if broken is None:
            return True
        self.failed = UpstreamBroken(f"The provider's model {BROKEN[broken]}.", upstream_type=broken)
        self.error_forwarded = self.has_output
        return self.error_forwarded


def watch(ask: RawRequest, *, withhold_usage: bool) -> GeminiObserver:  # noqa: ARG001 - usage comes in every stream, unasked
    return GeminiObserver()


def look(body: bytes) -> ObservedResponse:
    """A whole answer: what is in it, and why it is none."""
    body = mended(body)
    try:
        chunk = _decode(body)
        measure = _decode_measure(body)
    except _MALFORMED:
        return ObservedResponse(
            error=UpstreamBroken(
                "The provider answered with something that is not an answer of Gemini's form."
            )
        )
    if is_given(measure.error):
        return ObservedResponse(chunk.model_version, error=error_inside(measure.error, body=body))
    looked = _Looked()
    looked.look(chunk, body)
    error: ModelplexError | None = None
    broken = next((c.finish_reason for c in chunk.candidates or () if c.finish_reason in BROKEN), None)
    if broken is not None:
        error = UpstreamBroken(f"The provider's model {BROKEN[broken]}.", upstream_type=broken)
    elif looked.finish is None or looked.open:
        error = UpstreamBroken("The provider's answer has no reason for its end.")
    return looked.seen(error)


def look_at_vectors(body: bytes) -> ObservedResponse:
    """An answer to `:embedContent` or `:batchEmbedContents`: its usage, and why it is none."""
    try:
        measure = _decode_measure(body)
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except _MALFORMED:
        return ObservedResponse(
            error=UpstreamBroken("The provider answered with something that is not a list of vectors.")
        )
    if is_given(measure.error):
        return ObservedResponse(error=error_inside(measure.error, body=body))
    error = (
        None
        if members.keys() & {"embedding", "embeddings"}
        else UpstreamBroken("The provider's answer has no vectors.")
    )
    return ObservedResponse(usage=of_vectors(read_usage(measure.usage_metadata)), error=error)
