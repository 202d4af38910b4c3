"""One attempt's exchange with a provider: the body that goes up, and how the response becomes what
the client reads.

An exchange is made for one Attempt. Where client and provider speak the same dialect, the bytes
pass unchanged and are observed; across dialects they are translated through ChatRequest and Event.
The data path treats both alike. Names no dialect.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from modelplex.core.errors import ModelplexError, UpstreamBroken, detached
from modelplex.core.events import (
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
from modelplex.dialects.core.broken_responses import ended_early
from modelplex.dialects.core.estimate import billed, estimated, hidden_characters
from modelplex.dialects.core.foreign_errors import QUOTED
from modelplex.dialects.core.json import MALFORMED
from modelplex.dialects.core.quota import Quota
from modelplex.dialects.core.sse import LINE_CAP
from modelplex.dialects.core.usage import usage_inside
from modelplex.dialects.dialect import (
    EventWriter,
    ObservedResponse,
    PassthroughDialect,
    PassthroughObserver,
    ResponseReader,
)
from modelplex.dialects.raw_request import amend_body

TAIL_BYTES = 4096
"""Kept of the end of an opaque response, where usage follows the data of images."""
HEAD_BYTES = 1024
"""Kept of its beginning."""
_ERROR_BODY = re.compile(rb"\s*\{\s*(?:\"type\"\s*:\s*\"error\"\s*,\s*)?\"error\"\s*:\s*(?!null)")
"""How an error begins, in every dialect; some services send one with status 200."""
MAX_SILENCE = 2 * LINE_CAP
"""Bytes in a row without an event. The longest line that is read is a part of one, and what is
skipped (an image in the making) may be another.
"""
_EVENT_STREAM = re.compile(rb"\s*(?:data|event|id|retry)?:", re.IGNORECASE)
"""How server-sent events begin, comments among them."""
_JSON_LINES = re.compile(rb"\}\r?\n\{")
"""Between two lines of JSON, each an object of its own."""
MAX_LOSSES = 100
"""Losses of a response that are reported."""


class Exchange(Protocol):
    """`body` goes up. Of a stream, `feed` and `end` return the bytes for the client; of a whole
    response, `whole` does, or raises the error that it is.

    `has_output` is the commit point. `failed` is set by `feed` or `end` where the response broke:
    what they returned is still sent, if anything was sent before, and then `in_stream_error` unless
    `error_was_forwarded`. `complete`: the end mark was seen. `media_type` is a stream's; it is
    empty for a response of a kind that is not parsed, which is forwarded as it comes.
    """

    body: bytes
    is_passthrough: bool
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
    def observed(self) -> ObservedResponse: ...
    @property
    def complete(self) -> bool: ...
    def whole(self, body: bytes) -> bytes: ...
    def feed(self, data: bytes) -> bytes: ...
    def end(self) -> bytes: ...
    def ping(self) -> bytes: ...
    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes: ...


class _NewExchange:
    """The state that every exchange begins with."""

    is_passthrough = True
    media_type = "text/event-stream"
    body: bytes
    changes: tuple[Change, ...] = ()
    has_output = False
    failed: ModelplexError | None = None
    error_was_forwarded = False


class Passthrough(_NewExchange):
    """The same dialect on both sides: bytes pass, and an observer reads them."""

    def __init__(self, raw_request: RawRequest, attempt: Attempt, dialect: PassthroughDialect) -> None:
        self.changes, self.body, adds_usage = amend_body(raw_request, attempt)
        self.media_type = dialect.framing.media_type
        self._raw_request = raw_request
        self._dialect = dialect
        self._observer: PassthroughObserver | None = (
            dialect.observer(raw_request, withhold_usage=adds_usage) if raw_request.stream else None
        )
        self._observed = ObservedResponse()

    @property
    def observed(self) -> ObservedResponse:
        """What the provider did not count is estimated, of a response that had output. The client
        gets the provider's usage.
        """
        observed = self._observed if self._observer is None else self._observer.observed
        if observed.usage is None:
            if not (self.has_output or observed.finish):
                return observed
        elif observed.characters <= observed.counted_at:
            return observed
        usage = billed(
            self._raw_request, observed.usage, characters=observed.characters, counted_at=observed.counted_at
        )
        return observed if usage is observed.usage else msgspec.structs.replace(observed, usage=usage)

    @property
    def complete(self) -> bool:
        observed = self._observed if self._observer is None else self._observer.observed
        return observed.finish is not None and observed.error is None

    def whole(self, body: bytes) -> bytes:
        observed = self._observed = self._dialect.observe(body)
        if observed.error is not None:
            raise observed.error
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


class OpaquePassthrough(_NewExchange):
    """The same dialect, at an endpoint whose responses are not parsed (images, audio, moderations,
    rerank): only model and key change, and usage is searched for.
    """

    media_type = ""
    complete = False
    """Only the framing tells where such a response ends."""

    def __init__(self, raw_request: RawRequest, attempt: Attempt) -> None:
        self.changes, self.body, _ = amend_body(raw_request, attempt)
        self._observed = ObservedResponse(model=attempt.model)
        self._head = self._tail = b""

    @property
    def observed(self) -> ObservedResponse:
        """Usage is near the beginning (rerank) or the end (images)."""
        usage = usage_inside(self._head + self._tail) if self._tail else None
        return self._observed if usage is None else msgspec.structs.replace(self._observed, usage=usage)

    def whole(self, body: bytes) -> bytes:
        return body

    def feed(self, data: bytes) -> bytes:
        if not self.has_output and _ERROR_BODY.match(data):
            self.failed = UpstreamBroken(f"The provider's answer is an error{_error_message(data)}.")
            return b""
        self.has_output = True
        tail = self._tail + data
        if len(tail) > TAIL_BYTES:
            self._head = self._head or tail[:HEAD_BYTES] + b"\n"
            tail = tail[-TAIL_BYTES:]
        self._tail = tail
        return data

    def end(self) -> bytes:
        return b""

    def ping(self) -> bytes:
        return b""

    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes:
        """Nothing: a response that breaks is cut, which its client sees."""
        del error, request_id
        return b""


class _ErrorObject(msgspec.Struct, gc=False):
    message: str = ""


class _ErrorBody(msgspec.Struct, gc=False):
    error: str | _ErrorObject


def _error_message(data: bytes) -> str:
    try:
        error = msgspec.json.decode(data, type=_ErrorBody).error
    except MALFORMED:
        return ""
    message = (error if isinstance(error, str) else error.message)[:QUOTED].rstrip(".")
    return f": {message}" if message else ""


class EmbeddingPassthrough(OpaquePassthrough):
    """Embeddings in the same dialect, which are never streamed."""

    media_type = "application/json"

    def __init__(
        self, raw_request: RawRequest, attempt: Attempt, observe: Callable[[bytes], ObservedResponse]
    ) -> None:
        super().__init__(raw_request, attempt)
        self._raw_request = raw_request
        self._observe = observe

    def whole(self, body: bytes) -> bytes:
        observed = self._observed = self._observe(body)
        if observed.error is not None:
            raise observed.error
        if observed.usage is None:
            self._observed = msgspec.structs.replace(
                observed, usage=estimated(self._raw_request, characters=0)
            )
        return body


class EmbeddingTranslation(OpaquePassthrough):
    """Embeddings of one dialect, written in another."""

    media_type = "application/json"
    is_passthrough = False

    def __init__(
        self,
        raw_request: RawRequest,
        written: ProviderRequest,
        attempt: Attempt,
        *,
        read: Callable[[bytes], EmbeddingResponse],
        write: Callable[[EmbeddingResponse], bytes],
    ) -> None:
        self.body, self.changes = written.body, written.changes
        self._observed = ObservedResponse(model=attempt.model)
        self._head = self._tail = b""
        self._raw_request = raw_request
        self._model = attempt.model
        self._read, self._write = read, write

    def whole(self, body: bytes) -> bytes:
        response = self._read(body)
        if response.usage.estimated:
            response = msgspec.structs.replace(response, usage=estimated(self._raw_request, characters=0))
        self._observed = ObservedResponse(model=response.model or self._model, usage=response.usage)
        return self._write(response)


class Translation(_NewExchange):
    """Two dialects. A stream has a reader and a writer, a whole response `read` and `write`."""

    is_passthrough = False

    def __init__(
        self,
        raw_request: RawRequest,
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
        self._raw_request = raw_request
        self._characters = 0
        self._counted_at = 0
        self._counts_output = False
        """The last usage had output tokens."""
        self._text_part = -1
        """The part of the last text. State of another part stands for hidden reasoning."""
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

    def withhold_logprobs(self) -> None:
        """The client did not ask for the log probabilities that the provider returns."""
        if self._reader is not None:
            self._reader = _WithoutLogprobs(self._reader)
        if self._read is not None:
            self._read = partial(_read_without_logprobs, self._read)

    @property
    def observed(self) -> ObservedResponse:
        usage = self._usage
        if usage is not None or self.has_output or self._finish is not None:
            usage = billed(self._raw_request, usage, characters=self._characters, counted_at=self._counted_at)
        return ObservedResponse(self._model, self._finish, usage, self.failed, tuple(self._opaque_states))

    @property
    def complete(self) -> bool:
        return self._finish is not None and self.failed is None

    def whole(self, body: bytes) -> bytes:
        assert self._read is not None
        assert self._write is not None
        events = self._read(body)
        for event in events:
            self._observe(event)
        if self.failed is not None:
            raise self.failed
        if self._usage is None:  # every response has usage, counted or estimated
            events = [*events, self._estimate()]
        out, changes = self._write(events)
        self.changes += tuple(changes)
        return out

    def feed(self, data: bytes) -> bytes:
        assert self._reader is not None
        try:
            events = self._reader.feed(data)
            if events:
                self._silence = 0
                return self._send(events)
            self._silence += len(data)
            if self._silence > MAX_SILENCE:
                raise UpstreamBroken(f"The provider's stream has no event in more than {MAX_SILENCE} bytes.")
        except UpstreamBroken as error:
            self.failed = detached(error)
        return b""

    def end(self) -> bytes:
        assert self._reader is not None
        assert self._writer is not None
        try:
            out = self._send(self._reader.end())
        except UpstreamBroken as error:
            self.failed, out = detached(error), b""
        if self.failed is None and self._finish is None:
            self.failed = ended_early()
        if self.failed is None:
            if self._usage is None:  # a client that asked for usage gets its one chunk (R13)
                out += self._writer.send(self._estimate())
            out += self._writer.end()
        self._keep_losses(self._writer)
        return out

    def _estimate(self) -> UsageReported:
        self._usage = estimated(self._raw_request, characters=self._characters)
        return UsageReported(self._usage)

    def _keep_losses(self, writer: EventWriter) -> None:
        for change in writer.changes:
            if change not in self._losses and len(self._losses) < MAX_LOSSES:
                self._losses[change] = None
                self.changes += (change,)
        writer.changes.clear()

    def _send(self, events: list[Event]) -> bytes:
        writer = self._writer
        assert writer is not None
        out: list[bytes] = []
        for event in events:
            self._observe(event)
            if self.failed is not None:
                break
            out.append(writer.send(event))
        if writer.changes:  # at once, since the stream may have no end
            self._keep_losses(writer)
        return b"".join(out)

    def _observe(self, event: Event) -> None:
        """Count an event, and what the reader or the writer keeps of it. Raises UpstreamBroken
        beyond the quota.
        """
        match event:
            case TextDelta() | ReasoningDelta() | ToolArgumentsDelta() | RefusalDelta():
                self._quota.take_text(event.text)
                if isinstance(event, TextDelta) and event.logprobs is not None:
                    self._quota.take(len(event.logprobs))
                self.has_output = True
                self._characters += len(event.text)
                self._text_part = event.part
            case ToolCallStarted():
                self._quota.take_entry(event.name)
                self.has_output = True
            case OpaqueStateReceived():
                # A client of the provider's own dialect gets it without an envelope.
                data = event.state.data
                self._quota.take_entry(data)
                self.has_output = True
                self._opaque_states.append(data)
                if event.part != self._text_part:
                    self._characters += hidden_characters(data)
            case CitationAdded():
                self._quota.take_entry(bytes(event.raw))
            case MediaOutput():
                self._quota.take_entry(bytes(event.raw))
                self.has_output = True
            case UsageReported():
                self._usage = event.usage
                self._counted_at = self._characters
                self._counts_output = event.usage.output > 0
            case ResponseEnded():
                self._finish = event.reason
                if self._counts_output:  # what a reader held back comes after the count that includes it
                    self._counted_at = self._characters
            case ResponseFailed():
                self.failed = event.error
            case ResponseStarted():
                self._usage = event.usage or self._usage
                self._model = event.model or self._model
            case _:
                pass

    def ping(self) -> bytes:
        return self._writer.ping() if self._writer is not None else b""

    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes:
        del request_id
        return self._writer.send(ResponseFailed(error)) if self._writer is not None else b""


class _WithoutLogprobs:
    """A ResponseReader without log probabilities."""

    def __init__(self, reader: ResponseReader) -> None:
        self._reader = reader
        self.quota = reader.quota

    def feed(self, data: bytes) -> list[Event]:
        return _without_logprobs(self._reader.feed(data))

    def end(self) -> list[Event]:
        return _without_logprobs(self._reader.end())


def _read_without_logprobs(read: Callable[[bytes], list[Event]], body: bytes) -> list[Event]:
    return _without_logprobs(read(body))


def _without_logprobs(events: list[Event]) -> list[Event]:
    found: list[Event] = []
    for event in events:
        if not isinstance(event, TextDelta) or event.logprobs is None:
            found.append(event)
        elif event.text:  # else it had nothing but them
            found.append(msgspec.structs.replace(event, logprobs=None))
    return found


def collected(
    raw_request: RawRequest,
    written: ProviderRequest,
    attempt: Attempt,
    *,
    reader: ResponseReader | None,
    read: Callable[[bytes], list[Event]],
    writer: EventWriter | None,
    write: Callable[[list[Event]], tuple[bytes, list[Change]]],
) -> Translation:
    """The exchange of a response that came complete, in a framing that was not asked for. `reader`
    is set where it is a stream, `writer` where the client asked for one.
    """

    def read_stream(body: bytes) -> list[Event]:
        assert reader is not None
        events = [*reader.feed(body), *reader.end()]
        if not any(isinstance(event, ResponseEnded | ResponseFailed) for event in events):
            raise ended_early()
        return events

    def write_stream(events: list[Event]) -> tuple[bytes, list[Change]]:
        assert writer is not None
        out = b"".join(map(writer.send, events)) + writer.end()
        return out, writer.changes

    exchange = Translation(
        raw_request,
        written,
        attempt,
        read=read if reader is None else read_stream,
        write=write if writer is None else write_stream,
    )
    if writer is not None:
        exchange.media_type = writer.media_type
    came = "in one piece" if reader is None else "as a stream"
    exchange.changes = (*exchange.changes, Change("lower", "stream", f"the provider answered {came}"))
    return exchange


def is_stream_body(body: bytes) -> bool:
    """Whether a complete body is a stream: server-sent events, or JSON in lines."""
    return _EVENT_STREAM.match(body) is not None or _JSON_LINES.search(body) is not None
