"""Observer of Gemini responses that pass unchanged, streamed or whole.

Each event is decoded once, into the few members that decide something. Imports no other dialect.
"""

from __future__ import annotations

import msgspec

from modelplex.core.errors import ModelplexError, UpstreamBroken, UpstreamReply
from modelplex.core.events import Usage
from modelplex.core.request import RawRequest
from modelplex.dialects.core.broken_responses import ENDED_EARLY, unreadable
from modelplex.dialects.core.json import ABSENT, MALFORMED, is_given
from modelplex.dialects.core.passthrough import SseObserver
from modelplex.dialects.core.quota import choice_of
from modelplex.dialects.core.surrogates import mended
from modelplex.dialects.core.usage import of_vectors
from modelplex.dialects.dialect import ObservedResponse
from modelplex.dialects.gemini.errors import error_inside
from modelplex.dialects.gemini.response_in import BROKEN, UNSAID
from modelplex.dialects.gemini.usage import read_usage


class _Marker(msgspec.Struct, gc=False):
    """An object is present; its members are decoded only when they are needed."""


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


class _Measure(msgspec.Struct, rename="camel", gc=False):
    usage_metadata: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_measure = msgspec.json.Decoder(_Measure).decode


class GeminiObserver(SseObserver):
    """PassthroughObserver of Gemini streams. The end mark is EOF after a finish reason for every
    candidate, or after a block reason.
    """

    __slots__ = ("_open", "_usage_event")

    def __init__(self) -> None:
        super().__init__()
        self._open: set[int] = set()
        """Candidates without a finish reason."""
        self._usage_event: bytes | None = None
        """Data of the last event with usage."""

    def _usage(self) -> Usage | None:
        return (
            None
            if self._usage_event is None
            else read_usage(_decode_measure(self._usage_event).usage_metadata)
        )

    @property
    def observed(self) -> ObservedResponse:
        seen = super().observed
        if seen.usage is None or self._counted_at < self._characters:
            return seen
        return msgspec.structs.replace(seen, characters=0, counted_at=0)

    @property
    def is_complete(self) -> bool:
        return self._finish is not None and not self._open

    def _judge_end(self) -> None:
        if self._finish is None and not self._open:
            self._fail(UpstreamBroken(ENDED_EARLY + "it held no answer."))
        elif self._open:
            self._fail(UpstreamBroken(ENDED_EARLY + "no finish reason came."))

    def feed(self, data: bytes) -> bytes:
        if (
            data.startswith(b"data: {")
            and data.endswith(b"\r\n\r\n")
            and data.find(b"\n") == len(data) - 3
            and data.find(b"\r") == len(data) - 4
            and not self._carry
            and self.failed is None
        ):
            # Most chunks: one whole event with one data line. Google ends lines with CR LF.
            self._idle = 0
            return data if self._read_event(data[6:-4], b"") else b""
        return super().feed(data)

    def _read_event(self, data: bytes, name: bytes) -> bool:
        del name
        try:
            chunk = _decode(data)
        except MALFORMED:
            try:
                chunk = _decode(mended(data))
            except MALFORMED as error:
                return self._fail(unreadable(error))
        if chunk.error is not None:
            error_object = _decode_measure(data).error
            return self._fail(error_inside(error_object, body=data), forwarded=self.has_output)
        broken = self.read_chunk(chunk, data)
        return broken is None or self._fail(broken, forwarded=self.has_output)

    def read_chunk(self, chunk: _Chunk, data: bytes) -> ModelplexError | None:
        """Returns the error of a finish reason that means that there is no response."""
        broken = None
        if self._model is None:
            self._model = chunk.model_version
        if chunk.usage_metadata is not None:
            self._usage_event = data
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            self._finish = self._finish or chunk.prompt_feedback.block_reason
        for candidate in chunk.candidates or ():
            index = choice_of(candidate.index) if candidate.index else 0
            if candidate.content is not None and candidate.content.parts:
                for part in candidate.content.parts:
                    self._read_part(part)
            reason = candidate.finish_reason
            if reason is None or reason in UNSAID:
                if self._finish is None or index in self._open:
                    self._open.add(index)
                continue
            self._open.discard(index)
            self._finish = self._finish or reason
            if reason in BROKEN and broken is None:
                broken = UpstreamBroken(
                    f"The provider's model {BROKEN[reason]}.", upstream=UpstreamReply(type=reason)
                )
        if chunk.usage_metadata is not None:
            self._counted_at = self._characters
        return broken

    def _read_part(self, part: _Part) -> None:
        if part.text:
            self._characters += len(part.text)
        elif part.function_call is not None:
            self._characters += len(part.function_call.args)
        elif part.text is not None and part.thought_signature is None:
            return
        self.has_output = True
        if part.thought_signature is not None:
            self.quota.take_text(part.thought_signature)
            self._opaque_states[len(self._opaque_states)] = part.thought_signature


def observer(raw_request: RawRequest, *, withhold_usage: bool) -> GeminiObserver:
    """An observer of the response. Usage is in every stream, so that none is withheld."""
    del raw_request, withhold_usage
    return GeminiObserver()


def observe(body: bytes) -> ObservedResponse:
    """Reads a whole response."""
    body = mended(body)
    try:
        chunk = _decode(body)
        measure = _decode_measure(body)
    except MALFORMED:
        return ObservedResponse(
            error=UpstreamBroken(
                "The provider answered with something that is not an answer of Gemini's form."
            )
        )
    if is_given(measure.error):
        return ObservedResponse(chunk.model_version, error=error_inside(measure.error, body=body))
    observer = GeminiObserver()
    error = observer.read_chunk(chunk, body)
    if error is None and not observer.is_complete:
        error = UpstreamBroken("The provider's answer has no reason for its end.")
    return msgspec.structs.replace(observer.observed, error=error)


def observe_embeddings(body: bytes) -> ObservedResponse:
    """Reads a response of `:embedContent` or `:batchEmbedContents`."""
    try:
        measure = _decode_measure(body)
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except MALFORMED:
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
