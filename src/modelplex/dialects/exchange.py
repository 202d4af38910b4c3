"""The way of one attempt through the wires: what goes up, and how what comes down becomes what the
client reads.

Above it stands the gateway, which moves the bytes; below it the dialects. A passage is made for one
Attempt and thrown away with it. Where client and provider speak the same dialect the bytes pass and
are only watched; across dialects they go through the hub, Call and Event. The gateway cannot tell
the two apart, and need not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import msgspec

from modelplex.core.errors import ModelplexError, UpstreamBroken, detached
from modelplex.core.events import (
    OUTPUT,
    CitationAdded,
    EmbeddingResponse,
    Event,
    MediaOutput,
    OpaqueStateReceived,
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
from modelplex.core.request import Attempt, Change, ProviderRequest, RawRequest
from modelplex.dialects.core.estimate import billed, estimated, hidden_characters
from modelplex.dialects.core.foreign_errors import QUOTED
from modelplex.dialects.core.quota import Quota
from modelplex.dialects.core.sse import LINE_CAP
from modelplex.dialects.dialect import (
    EventWriter,
    Framing,
    ObservedResponse,
    PassthroughDialect,
    PassthroughObserver,
    ResponseReader,
)
from modelplex.dialects.openai_chat.usage import usage_inside
from modelplex.dialects.raw_request import amended

KEPT_BYTES = 4096
"""Of the end of an answer that is not read, where usage stands behind the data of images."""
HEAD_BYTES = 1024
"""Of its beginning."""
AN_ERROR = re.compile(rb"\s*\{\s*(?:\"type\"\s*:\s*\"error\"\s*,\s*)?\"error\"\s*:\s*(?!null)")
"""How an error begins, in every form; some services send one with status 200."""
MAX_SILENCE = 2 * LINE_CAP
"""Bytes in a row of which no event comes. The longest line that is read is a part of one, and what
is passed over (an image in the making) may be another.
"""
MAX_LOSSES = 100
"""Losses of an answer that are told; more say nothing new."""
TEXT = (TextDelta, ReasoningDelta, ToolArgumentsDelta, RefusalDelta)
"""The output that is as many tokens as it is long."""


class Exchange(Protocol):
    """`body` goes up. Of a stream, `feed` and `end` give the bytes that go down; of a whole answer,
    `whole` does, or raises what it is instead.

    `has_output` is the point of no return. `failed` is set by `feed` or `end` where the answer
    broke: what they returned still goes down, if anything has, and then `in_stream_error` unless
    `error_was_forwarded`. `complete` tells that the end mark was seen. `media_type` is a stream's;
    empty where the answer is of a kind that nobody here reads, so that it goes down as it comes,
    whatever it is.
    """

    body: bytes
    passing: bool
    media_type: str

    @property
    def changes(self) -> tuple[Change, ...]: ...
    @changes.setter
    def changes(self, changes: tuple[Change, ...], /) -> None: ...
    @property
    def has_output(self) -> bool: ...
    @property
    def failed(self) -> ModelplexError | None: ...
    @property
    def error_was_forwarded(self) -> bool: ...
    @property
    def seen(self) -> ObservedResponse: ...
    @property
    def complete(self) -> bool: ...
    def whole(self, body: bytes) -> bytes: ...
    def feed(self, data: bytes) -> bytes: ...
    def end(self) -> bytes: ...
    def ping(self) -> bytes: ...
    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes: ...


class _Fresh:
    """What every passage begins with."""

    passing = True
    media_type = "text/event-stream"
    body: bytes
    changes: tuple[Change, ...] = ()
    has_output = False
    failed: ModelplexError | None = None
    error_was_forwarded = False


class Passthrough(_Fresh):
    """Same dialect on both sides: bytes pass, a Watch looks on."""

    def __init__(self, ask: RawRequest, attempt: Attempt, dialect: PassthroughDialect) -> None:
        self.changes, self.body, asked_usage = amended(ask, attempt)
        self.media_type = dialect.framing.media_type
        self._ask = ask
        self._dialect = dialect
        self._observer: PassthroughObserver | None = (
            dialect.observer(ask, withhold_usage=asked_usage) if ask.stream else None
        )
        self._seen = ObservedResponse()

    @property
    def seen(self) -> ObservedResponse:
        """What the provider did not count is estimated, of an answer that there was; the client
        gets what came.
        """
        seen = self._observer.seen if self._observer is not None else self._seen
        if seen.usage is None and not (self.has_output or seen.finish):
            return seen
        usage = billed(self._ask, seen.usage, characters=seen.characters, counted_at=seen.counted_at)
        return msgspec.structs.replace(seen, usage=usage)

    @property
    def complete(self) -> bool:
        seen = self._observer.seen if self._observer is not None else self._seen
        return seen.finish is not None and seen.error is None

    def whole(self, body: bytes) -> bytes:
        seen = self._seen = self._dialect.observe(body)
        if seen.error is not None:
            raise seen.error
        return body

    def feed(self, data: bytes) -> bytes:
        observer = self._observer
        assert observer is not None
        try:
            out = observer.feed(data)
        except UpstreamBroken as error:
            self.failed = detached(error)
            return b""
        self.has_output = observer.has_output
        if observer.failed is not None:
            self._fail(observer)
        return out

    def end(self) -> bytes:
        observer = self._observer
        assert observer is not None
        try:
            out = observer.end()
        except UpstreamBroken as error:
            self.failed = detached(error)
            return b""
        self.has_output = observer.has_output
        if observer.failed is not None:
            self._fail(observer)
        return out

    def _fail(self, observer: PassthroughObserver) -> None:
        self.failed = observer.failed
        self.error_was_forwarded = observer.error_forwarded

    def ping(self) -> bytes:
        return self._dialect.framing.ping

    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes:
        return self._dialect.framing.error(error, request_id)


class OpaquePassthrough(_Fresh):
    """Same dialect, and an endpoint whose answers nobody here reads (images, audio, moderations,
    rerank): only model and key are ours, and what it took is looked for.
    """

    media_type = ""
    complete = False
    """Nobody can tell where an unread answer ends, but its framing."""

    def __init__(self, ask: RawRequest, attempt: Attempt) -> None:
        self.changes, self.body, _ = amended(ask, attempt)
        self._seen = ObservedResponse(model=attempt.model)
        self._head = self._kept = b""

    @property
    def seen(self) -> ObservedResponse:
        """Usage stands near the beginning (rerank) or the end (images)."""
        usage = usage_inside(self._head + self._kept) if self._kept else None
        return msgspec.structs.replace(self._seen, usage=usage) if usage is not None else self._seen

    def whole(self, body: bytes) -> bytes:
        return body

    def feed(self, data: bytes) -> bytes:
        if not self.has_output and AN_ERROR.match(data):
            self.failed = UpstreamBroken(f"The provider's answer is an error{_sentence(data)}.")
            return b""
        self.has_output = True
        kept = self._kept + data
        if len(kept) > KEPT_BYTES:
            self._head = self._head or kept[:HEAD_BYTES] + b"\n"
            kept = kept[-KEPT_BYTES:]
        self._kept = kept
        return data

    def end(self) -> bytes:
        return b""

    def ping(self) -> bytes:
        return b""

    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes:
        """Nothing: an unread answer that breaks is cut, which its client sees."""
        del error, request_id
        return b""


class _ToldError(msgspec.Struct):
    message: str = ""


class _AnError(msgspec.Struct):
    error: str | _ToldError


def _sentence(data: bytes) -> str:
    try:
        told = msgspec.json.decode(data, type=_AnError).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    said = (told if isinstance(told, str) else told.message)[:QUOTED].rstrip(".")
    return f": {said}" if said else ""


class EmbeddingPassthrough(OpaquePassthrough):
    """Vectors: never streamed. The same dialect passes and is looked at."""

    media_type = "application/json"

    def __init__(
        self, ask: RawRequest, attempt: Attempt, observe: Callable[[bytes], ObservedResponse]
    ) -> None:
        super().__init__(ask, attempt)
        self._ask = ask
        self._observe = observe

    def whole(self, body: bytes) -> bytes:
        seen = self._seen = self._observe(body)
        if seen.error is not None:
            raise seen.error
        if seen.usage is None:
            self._seen = msgspec.structs.replace(seen, usage=estimated(self._ask, characters=0))
        return body


class EmbeddingTranslation(OpaquePassthrough):
    """Vectors of one dialect, written in another."""

    media_type = "application/json"
    passing = False

    def __init__(
        self,
        ask: RawRequest,
        written: ProviderRequest,
        attempt: Attempt,
        *,
        read: Callable[[bytes], EmbeddingResponse],
        write: Callable[[EmbeddingResponse], bytes],
    ) -> None:
        self.body, self.changes = written.body, written.changes
        self._seen = ObservedResponse(model=attempt.model)
        self._head = self._kept = b""
        self._ask = ask
        self._model = attempt.model
        self._read, self._write = read, write

    def whole(self, body: bytes) -> bytes:
        embedded = self._read(body)
        if embedded.usage.estimated:
            embedded = msgspec.structs.replace(embedded, usage=estimated(self._ask, characters=0))
        self._seen = ObservedResponse(model=embedded.model or self._model, usage=embedded.usage)
        return self._write(embedded)


class Translation(_Fresh):
    """Two dialects: up through Call, down through Event. A stream has a reader and a writer, a
    whole answer has `read` and `write`.
    """

    passing = False

    def __init__(
        self,
        ask: RawRequest,
        written: ProviderRequest,
        attempt: Attempt,
        *,
        reader: ResponseReader | None = None,
        writer: EventWriter | None = None,
        read: Callable[[bytes], list[Event]] | None = None,
        write: Callable[[list[Event]], tuple[bytes, list[Change]]] | None = None,
    ) -> None:
        self.body = written.body
        self.changes = written.changes
        self.media_type = writer.media_type if writer is not None else "application/json"
        self._ask = ask
        self._characters = 0
        self._counted_at = 0
        self._is_measured = False
        self._shown = -1
        """The part that text came of last. A state of another part has hidden thoughts."""
        self._opaque_states: list[str] = []
        self._losses: dict[Change, None] = {}
        """What the writer lost, each once."""
        self._silence = 0
        self._quota = reader.quota if reader is not None else Quota()
        self._reader, self._writer = reader, writer
        self._read, self._write = read, write
        self._model: str = attempt.model
        self._usage: Usage | None = None
        self._finish: str | None = None

    @property
    def seen(self) -> ObservedResponse:
        usage = self._usage
        if usage is not None or self.has_output or self._finish is not None:
            usage = billed(self._ask, usage, characters=self._characters, counted_at=self._counted_at)
        return ObservedResponse(self._model, self._finish, usage, self.failed, tuple(self._opaque_states))

    @property
    def complete(self) -> bool:
        return self._finish is not None and self.failed is None

    def whole(self, body: bytes) -> bytes:
        assert self._read is not None
        assert self._write is not None
        events = self._read(body)
        for event in events:
            self._note(event)
        if self.failed is not None:
            raise self.failed
        if self._usage is None:  # every answer has usage, whoever counted it
            events = [*events, self._estimate()]
        out, changes = self._write(events)
        self.changes += tuple(changes)
        return out

    def feed(self, data: bytes) -> bytes:
        assert self._reader is not None
        try:
            events = self._reader.feed(data)
            self._silence = 0 if events else self._silence + len(data)
            if self._silence > MAX_SILENCE:
                raise UpstreamBroken(f"The provider's stream says nothing in more than {MAX_SILENCE} bytes.")
            return self._carry(events)
        except UpstreamBroken as error:
            self.failed = detached(error)
            return b""

    def end(self) -> bytes:
        assert self._reader is not None
        assert self._writer is not None
        try:
            out = self._carry(self._reader.end())
        except UpstreamBroken as error:
            self.failed, out = detached(error), b""
        if self.failed is None and self._finish is None:
            self.failed = UpstreamBroken("The provider's answer ended before its end.")
        if self.failed is None:
            if self._usage is None:  # a client that asked for usage gets its one chunk (R13)
                out += self._writer.send(self._estimate())
            out += self._writer.end()
        self._keep_losses(self._writer)
        return out

    def _estimate(self) -> UsageReported:
        self._usage = estimated(self._ask, characters=self._characters)
        return UsageReported(self._usage)

    def _keep_losses(self, writer: EventWriter) -> None:
        for change in writer.changes:
            if change not in self._losses and len(self._losses) < MAX_LOSSES:
                self._losses[change] = None
                self.changes += (change,)
        writer.changes.clear()

    def _carry(self, events: list[Event]) -> bytes:
        assert self._writer is not None
        out: list[bytes] = []
        for event in events:
            self._note(event)
            if self.failed is not None:
                break
            out.append(self._writer.send(event))
        if self._writer.changes:  # at once: nobody knows whether there is an end
            self._keep_losses(self._writer)
        return b"".join(out)

    def _note(self, event: Event) -> None:
        self._take(event)
        if isinstance(event, OUTPUT):
            self.has_output = True
            if isinstance(event, TEXT):
                self._characters += len(event.text)
                self._shown = event.part
            elif isinstance(
                event, OpaqueStateReceived
            ):  # a client of the maker's own dialect gets it without an envelope
                self._opaque_states.append(event.state.data)
                if event.part != self._shown:
                    self._characters += hidden_characters(event.state.data)
        elif isinstance(event, UsageReported):
            self._usage = event.usage
            self._counted_at = self._characters
            self._is_measured = event.usage.output > 0
        elif isinstance(event, ResponseEnded):
            self._finish = event.reason
            if self._is_measured:  # what a reader held back comes after the count that includes it
                self._counted_at = self._characters
        elif isinstance(event, ResponseFailed):
            self.failed = event.error
        elif isinstance(event, ResponseStarted):
            self._usage = event.usage or self._usage
            self._model = event.model or self._model

    def _take(self, event: Event) -> None:
        """Whatever the reader or the writer keeps of it. Raises UpstreamBroken."""
        match event:
            case TextDelta() | ReasoningDelta() | ToolArgumentsDelta() | RefusalDelta():
                self._quota.take_text(event.text)
                if isinstance(event, TextDelta) and event.logprobs is not None:
                    self._quota.take(len(event.logprobs))
            case ToolCallStarted():
                self._quota.take_entry(event.name)
            case OpaqueStateReceived():
                self._quota.take_entry(event.state.data)
            case CitationAdded() | MediaOutput():
                self._quota.take_entry(bytes(event.raw))
            case _:
                pass

    def ping(self) -> bytes:
        return self._writer.ping() if self._writer is not None else b""

    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes:
        return self._writer.send(ResponseFailed(error)) if self._writer is not None else b""


class Reframed:
    """A passage whose stream is framed otherwise on its last yard."""

    def __init__(self, inner: Exchange, frames: Framing) -> None:
        self._inner = inner
        self._frames = frames
        self.body = inner.body
        self.media_type = frames.media_type
        self.passing = False

    @property
    def changes(self) -> tuple[Change, ...]:
        return self._inner.changes

    @changes.setter
    def changes(self, changes: tuple[Change, ...]) -> None:
        self._inner.changes = changes

    @property
    def has_output(self) -> bool:
        return self._inner.has_output

    @property
    def failed(self) -> ModelplexError | None:
        return self._inner.failed

    @property
    def error_was_forwarded(self) -> bool:
        return self._inner.error_was_forwarded

    @property
    def seen(self) -> ObservedResponse:
        return self._inner.seen

    @property
    def complete(self) -> bool:
        return self._inner.complete

    def whole(self, body: bytes) -> bytes:
        return self._inner.whole(body)

    def feed(self, data: bytes) -> bytes:
        return self._frames.feed(self._inner.feed(data))

    def end(self) -> bytes:
        out = self._frames.feed(self._inner.end())
        return out if self._inner.failed is not None else out + self._frames.end()

    def ping(self) -> bytes:
        """None: an array has no place for one that a parser would pass over."""
        return b""

    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes:
        """The error as the array's last member; the array stays open, so that nobody takes it for a
        whole one.
        """
        return self._frames.feed(self._inner.in_stream_error(error, request_id))
