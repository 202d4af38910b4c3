"""What every dialect offers, as protocols: the contract between `wire/` and `gateway.py`.

A dialect is a module with these names. One that is only ever spoken by providers (Ollama, so far)
leaves out the client's half, and one that is only spoken by clients leaves out the provider's. The
table at the end of `dialects/registry.py` says which is which.

Readers accept bytes cut anywhere, and give the same events however they are cut. Writers give whole
protocol events, each to be written in one write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.events import Event, ListedModel, Usage
from modelplex.core.request import Attempt, Change, ChatRequest, ProviderRequest, RawRequest
from modelplex.dialects.core.quota import Quota


class ObservedResponse(msgspec.Struct, frozen=True):
    """What was observed of an answer that passed untouched. `finish` is the dialect's own word;
    `error` is why it is no answer, if it is none. `seals` are the opaque states it contained, as
    they stand in the body, so that they find their way back. `characters` is the length of its
    text, thoughts and arguments as far as they came; of a whole answer it is told only where
    `usage` is not. `counted_at` is what `characters` was when `usage` was told: a stream can end
    before its last count.
    """

    model: str | None = None
    finish: str | None = None
    usage: Usage | None = None
    error: ModelplexError | None = None
    seals: tuple[str, ...] = ()
    characters: int = 0
    counted_at: int = 0


class PassthroughObserver(Protocol):
    """Looks on while a stream passes from a provider to a client of the same dialect.

    `quota` is drawn on for everything that is kept of the stream; `feed` and `end` raise
    UpstreamBroken beyond it. `feed` returns the bytes that may be forwarded now: whole events, as
    they came. `has_output` turns true with the first event that carries output: until then the
    caller holds the bytes back and may still fail over. `failed` (and `seen.error`) is set by an
    error event (whose bytes are not in what `feed` returned while `has_output` is false) or by an
    answer that must not pass for a whole one; nothing may be forwarded after it but `write_error`'s
    bytes where `error_forwarded` is false.
    """

    has_output: bool
    failed: ModelplexError | None
    error_forwarded: bool
    quota: Quota

    @property
    def seen(self) -> ObservedResponse: ...

    def feed(self, data: bytes) -> bytes: ...

    def end(self) -> bytes:
        """At the provider's EOF: the last bytes to forward; sets `failed` where the end mark never
        came.
        """
        ...


class ResponseReader(Protocol):
    """A provider's streamed answer, read into Events. After a Failed it returns no more. `quota` is
    drawn on for everything that is kept of the stream, here and by whoever reads the events.
    """

    quota: Quota

    def feed(self, data: bytes) -> list[Event]: ...

    def end(self) -> list[Event]:
        """At EOF: what was held back, or Failed(UpstreamBroken) where the dialect's end mark never
        came.
        """
        ...


class EventWriter(Protocol):
    """Events, written as the client's stream.

    `send` returns b"" where the event says nothing in this dialect or is held back. After
    `send(Failed)` the stream is over: its bytes are the dialect's in-stream error and no success
    mark follows. Otherwise `end` gives the closing bytes; it is called once, after every event was
    sent. `changes` are losses found on the way. `media_type` is the stream's content type.
    """

    media_type: str
    changes: list[Change]

    def send(self, event: Event) -> bytes: ...

    def ping(self) -> bytes:
        """A keep-alive that no client reads as data; b"" where the dialect has none."""
        ...

    def end(self) -> bytes: ...


class ClientDialect(Protocol):
    """The half of a dialect that faces clients."""

    def read_call(self, ask: RawRequest) -> ChatRequest:
        """The whole request, understood. Raises BadRequest with `param` naming the field."""
        ...

    def write_answer(
        self, events: Sequence[Event], call: ChatRequest, *, id: str, created: int, model: str
    ) -> tuple[bytes, list[Change]]:
        """A whole answer. `id` is used where the provider gave none; `created` is Unix seconds;
        `model` where Began names none.
        """
        ...

    def writer(self, call: ChatRequest, *, id: str, created: int, model: str) -> EventWriter: ...

    def write_error(self, error: ModelplexError, *, request_id: str) -> tuple[int, bytes]:
        """Status and JSON body. Never lets a rejected upstream key show as 401."""
        ...


class ProviderDialect(Protocol):
    """The half of a dialect that faces providers."""

    def write_call(self, call: ChatRequest, attempt: Attempt) -> ProviderRequest:
        """The request body. Raises Unsupported naming the part that cannot be said; what can only
        be said in weaker words is in `changes`.
        """
        ...

    def read_answer(self, body: bytes, attempt: Attempt, written: ProviderRequest) -> list[Event]:
        """A whole answer. What is no answer gives a Failed: half a JSON, an error object inside a
        200, no choices.
        """
        ...

    def reader(self, attempt: Attempt, written: ProviderRequest) -> ResponseReader: ...

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelplexError:
        """An answer with a status of 300 or more, as an error of our tree (with upstream_status,
        _type, _code, _body and retry_after filled). Header names are lower case.
        """
        ...

    def read_models(self, body: bytes) -> list[ListedModel]: ...


class PassthroughDialect(Protocol):
    """What a dialect that is spoken on both sides offers for the untouched way."""

    def watch(self, ask: RawRequest, *, withhold_usage: bool) -> PassthroughObserver:
        """`withhold_usage`: the gateway asked for the usage event and the client did not, so it is
        taken out of what is forwarded.
        """
        ...

    def look(self, body: bytes) -> ObservedResponse:
        """A whole answer: what is in it, and `error` where it is none (half a JSON, an error object
        inside a 200, no choices).
        """
        ...
