"""The Dialect: one frozen value with every fact about a dialect, and the types of its functions.

The values of a dialect are at the end of `dialect.py` in its folder, which `registry.py` loads when
one is first needed. A dialect may be for clients, for providers, or for both; what is for both can
pass unchanged. Forms that share the errors, model list and paths of a dialect (embeddings, token
counts, Gemini's JSON array) are Dialect values too: `variant_of` is the one they belong to. Imports
core and policy.

Readers accept bytes cut anywhere, and give the same events however they are cut. Writers give whole
protocol events, each to be written in one write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.events import EmbeddingResponse, Event, ListedModel, Usage
from modelplex.core.request import (
    Attempt,
    Change,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ProviderRequest,
    Quirks,
    RawRequest,
    StrippedValue,
)
from modelplex.dialects.core.bounds import CHAT_LISTS
from modelplex.dialects.core.envelope import MARK
from modelplex.dialects.core.quota import Quota
from modelplex.dialects.form import Form
from modelplex.policy.judge import PolicyTable
from modelplex.policy.verdict import Facts

Headers = tuple[tuple[bytes, bytes], ...]
"""Header lines, names in lower case."""


class ObservedResponse(msgspec.Struct, frozen=True):
    """What was observed of a response that passed unchanged.

    finish         the dialect's own value
    error          why it is no valid response
    opaque_states  those it contained, as they are in the body, to record their origin
    characters     length of its text, reasoning and arguments so far; of a whole response only
                   where it has no `usage`
    counted_at     `characters` when `usage` came: a stream can end before its last count
    """

    model: str | None = None
    finish: str | None = None
    usage: Usage | None = None
    error: ModelplexError | None = None
    opaque_states: tuple[str, ...] = ()
    characters: int = 0
    counted_at: int = 0


class PassthroughObserver(Protocol):
    """Observes a stream that passes from a provider to a client of the same dialect.

    `feed` returns the bytes that may be forwarded now: whole events, unchanged. `has_output` is
    true from the first event with output on; before, the bytes are held back and failover is
    possible. `failed` (and `observed.error`) is set by an error event, or where the response must
    not count as complete. Nothing is forwarded after it, unless `error_forwarded` is false: then
    the gateway's own error. An error event before any output is not in what `feed` returned.
    `quota` counts what is kept of the stream; `feed` and `end` raise UpstreamBroken beyond it.
    """

    has_output: bool
    failed: ModelplexError | None
    error_forwarded: bool
    quota: Quota

    @property
    def observed(self) -> ObservedResponse: ...

    def feed(self, data: bytes) -> bytes: ...

    def end(self) -> bytes:
        """At the provider's EOF: the last bytes to forward; sets `failed` where the end mark never
        came.
        """
        ...


class ResponseReader(Protocol):
    """Reads a provider's stream into events. After ResponseFailed it returns no more. `quota`
    counts everything that is kept of the stream, here and by the reader of the events.
    """

    quota: Quota

    def feed(self, data: bytes) -> list[Event]: ...

    def end(self) -> list[Event]:
        """At EOF: what was held back, or ResponseFailed where the dialect's end mark never came."""
        ...


class TokenReader(Protocol):
    """Keeps the token ids and log probabilities of a response, for the record. `feed` takes the
    bytes of a stream, `whole` a complete body. `kept` is called once, at the end: JSON, or None
    where the provider returned none. Nothing raises: what cannot be read is left out.
    """

    def feed(self, data: bytes) -> None: ...
    def whole(self, body: bytes) -> None: ...
    def kept(self) -> bytes | None: ...


class EventWriter(Protocol):
    """Writes events as the client's stream.

    `send` returns b"" for an event that the dialect has no form for or that is held back. After
    ResponseFailed the stream is over: its bytes are the dialect's in-stream error, and no success
    mark follows. Otherwise `end`, called once after all events, gives the closing bytes. `changes`
    are losses so far. `media_type` is the stream's content type.
    """

    media_type: str
    changes: list[Change]

    def send(self, event: Event) -> bytes: ...

    def ping(self) -> bytes:
        """A keep-alive that no client reads as data; b"" where the dialect has none."""
        ...

    def end(self) -> bytes: ...


class StoredContext(msgspec.Struct, frozen=True):
    """What the gateway keeps of a response: whether it stores it, and the id of the response that
    it continues.
    """

    store: bool = False
    previous: str | None = None


class ResponseStorage(msgspec.Struct, frozen=True):
    """The functions of a dialect whose clients name earlier responses.

    client            the client half for a response that is stored
    check_state       raises BadRequest for a state that is not stored; True: responses are stored
    previous_response the id of the response that the request continues
    wants_storing     whether the response is to be stored
    input_items       the items of the request
    with_items        the request with these items
    with_history      the request with the items of earlier turns before its own
    read_reference    the id that an item refers to; None for any other item
    response_id       the id of a response; "" if it has none
    output_items      the items of a response
    final_response    the response in the last events of a stream; None in others
    write_item_list   the items of the request with this id
    write_deleted     the confirmation that the response with this id is deleted
    """

    client: Callable[[StoredContext], ClientDialect]
    check_state: Callable[[RawRequest, bool], None]
    previous_response: Callable[[RawRequest], str | None]
    wants_storing: Callable[[RawRequest], bool]
    input_items: Callable[[RawRequest], list[msgspec.Raw]]
    with_items: Callable[[RawRequest, Sequence[msgspec.Raw]], RawRequest]
    with_history: Callable[[RawRequest, Sequence[msgspec.Raw]], RawRequest]
    read_reference: Callable[[msgspec.Raw], str | None]
    response_id: Callable[[bytes], str]
    output_items: Callable[[bytes], list[msgspec.Raw]]
    final_response: Callable[[bytes], bytes | None]
    write_item_list: Callable[[Sequence[msgspec.Raw], str], bytes]
    write_deleted: Callable[[str], bytes]


class StreamFraming(msgspec.Struct, frozen=True):
    """What the gateway itself adds to a stream that passes unchanged: its content type, a
    keep-alive that no client reads as data, and an error (`error(error, request_id)`).
    """

    media_type: str
    ping: bytes
    error: Callable[[ModelplexError, str], bytes]


class Framing(Protocol):
    """Another framing of the same events."""

    media_type: str

    def feed(self, events: bytes) -> bytes: ...
    def end(self) -> bytes: ...


class WriteError(Protocol):
    """Status and JSON body. Never lets a rejected upstream key show as 401."""

    def __call__(self, error: ModelplexError, *, request_id: str) -> tuple[int, bytes]: ...


class WriteFailedStream(Protocol):
    """The stream of a response that failed; arguments as in WriteResponse."""

    def __call__(self, error: ModelplexError, *, id: str, created: int, model: str) -> bytes | None: ...


class WriteResponse(Protocol):
    """A whole response. `id` is used where the provider gave none, `model` where ResponseStarted
    names none; `created` is Unix seconds.
    """

    def __call__(
        self, events: Sequence[Event], call: ChatRequest, *, id: str, created: int, model: str
    ) -> tuple[bytes, list[Change]]: ...


class MakeWriter(Protocol):
    """The writer of a streamed response; arguments as in WriteResponse."""

    def __call__(self, call: ChatRequest, *, id: str, created: int, model: str) -> EventWriter: ...


class ClientDialect(msgspec.Struct, frozen=True, kw_only=True):
    """The half of a dialect that faces clients.

    read_call    the whole request. Raises BadRequest with `param` naming the field
    """

    read_call: Callable[[RawRequest], ChatRequest]
    write_response: WriteResponse
    writer: MakeWriter


class ProviderDialect(msgspec.Struct, frozen=True, kw_only=True):
    """The half of a dialect that faces providers.

    write_call   the request body. Raises Unsupported naming the part that the dialect cannot
                 express; what it can only approximate is in `changes`
    read_response  a whole response. An invalid one gives ResponseFailed: incomplete JSON, an error
                 object inside a 200, no choices
    reader       of a streamed response
    read_error   a response with a status of 300 or more (status, headers, body), as an error of our
                 tree with `upstream` and `retry_after`. Header names are lower case
    read_models  a page of the list of models. Raises UpstreamBroken
    token_reader  of token ids; None for a dialect without a form for them
    """

    write_call: Callable[[ChatRequest, Attempt], ProviderRequest]
    read_response: Callable[[bytes, Attempt, ProviderRequest], list[Event]]
    reader: Callable[[Attempt, ProviderRequest], ResponseReader]
    read_error: Callable[[int, Mapping[str, str], bytes], ModelplexError]
    read_models: Callable[[bytes], list[ListedModel]]
    token_reader: Callable[[], TokenReader] | None = None


class MakeObserver(Protocol):
    """The observer of a stream that passes. `withhold_usage`: the gateway asked for the usage event
    and the client did not, so it is not forwarded.
    """

    def __call__(self, raw_request: RawRequest, *, withhold_usage: bool) -> PassthroughObserver: ...


class PassthroughDialect(msgspec.Struct, frozen=True, kw_only=True):
    """What a dialect of clients and providers needs for responses that pass unchanged.

    observer  of a stream
    observe   observes a whole response; `error` of the result says why it is invalid (incomplete
              JSON, an error object inside a 200, no choices)
    """

    observer: MakeObserver
    observe: Callable[[bytes], ObservedResponse]
    framing: StreamFraming


class WriteCompletion(Protocol):
    """A whole completion; arguments as in WriteResponse."""

    def __call__(
        self, events: Sequence[Event], asked: CompletionRequest, *, id: str, created: int, model: str
    ) -> tuple[bytes, list[Change]]: ...


class MakeCompletionWriter(Protocol):
    """The writer of a streamed completion."""

    def __call__(self, asked: CompletionRequest, *, id: str, created: int, model: str) -> EventWriter: ...


class ClientCompletions(msgspec.Struct, frozen=True, kw_only=True):
    """Text completions, on the client's side."""

    read: Callable[[RawRequest], CompletionRequest]
    write: WriteCompletion
    writer: MakeCompletionWriter


class ProviderCompletions(msgspec.Struct, frozen=True, kw_only=True):
    """Text completions, on the provider's side."""

    write: Callable[[CompletionRequest, Attempt], ProviderRequest]
    read: Callable[[bytes, Attempt, ProviderRequest], list[Event]]
    reader: Callable[[Attempt, ProviderRequest], ResponseReader]


class ClientEmbeddings(msgspec.Struct, frozen=True, kw_only=True):
    """Embeddings, on the client's side: `write(response, raw request, request, model)`."""

    read: Callable[[RawRequest], EmbeddingRequest]
    write: Callable[[EmbeddingResponse, RawRequest, EmbeddingRequest, str], bytes]


class ProviderEmbeddings(msgspec.Struct, frozen=True, kw_only=True):
    """Embeddings, on the provider's side. `observe` observes a response that passes unchanged."""

    write: Callable[[EmbeddingRequest, Attempt], ProviderRequest]
    read: Callable[[bytes], EmbeddingResponse]
    observe: Callable[[bytes], ObservedResponse]


class Amendment(msgspec.Struct, frozen=True):
    """Top-level members of a body that must change before it passes; None takes a member out."""

    members: Mapping[str, msgspec.Raw | None]
    changes: tuple[Change, ...] = ()


def _no_headers(error: ModelplexError, headers: Headers) -> Headers:
    del error, headers
    return ()


def _all_headers(headers: Headers, facts: Facts) -> tuple[Headers, tuple[StrippedValue, ...]]:
    del facts
    return headers, ()


def _no_leaf(path: str) -> str:
    del path
    return ""


class Dialect(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Every fact about one dialect. The gateway acts on these members, never on a dialect's name.

    form              name, paths and endpoints, which are known before it is loaded
    policy            the sealed policy's table of its bodies. Required: a body without one must not
                      leave
    variant_of        the dialect whose errors, models, opaque state and paths this form shares

    Request:

    lists             the largest number of entries of lists at the top level of a body
    stream            whether a response streams where the body does not say ("never": not even
                      where it does)
    usage_on_request  streams carry usage only where `stream_options.include_usage` asks for it
    amend             members that must change in a body that passes, beside `model` and
                      `stream_options`
    amend_marks       what `amend` and `needs_hub` look for in the values of members: of a body
                      with none of these marks they read only which members it has, and `n`. None:
                      more than that
    request_headers   the request headers of the dialect, which go to a provider of it
    sealed_headers    which of those the sealed policy lets pass
    refused_headers   (error, headers that were sent): those that the error refuses, a comma list's
                      members one by one
    opaque_members    names of members with opaque state; only a body with one is searched for it
    stored_members    names of members with the id of something stored at a provider
    envelope_mark     how an envelope (`core/envelope.py`) begins in a body
    conversation      members with the conversation: the list of messages, then the instructions
    leaf_of           the leaf of ChatRequest that a member is, by its path; "" where it is none

    Before another dialect writes a request:

    needs_hub         whether a body may not pass as it is, though the provider has the dialect
    lower             the request without what this provider lacks, of the same dialect or not
    strip_foreign     the request without what only this dialect has, and the losses
    stored_context    members for an earlier part of the conversation that a provider stores
    client_run_tools  prefixes of the types of hosted tools that the client runs; the provider runs
                      all others

    Functions, None where the dialect has no such side:

    storage           the functions for responses that the gateway stores, below `form.folder`
    reframe           this form is its `variant_of` in another stream framing
    answer_locally    (request, Unix seconds): the response to a request that needs no provider,
                      else None
    write_count       the response to a request for a token count
    write_failed_stream  the stream of a response that failed before its first output, for an error
                      that its clients heed there only; else None
    request_id_header a header beside x-request-id that its client library reads
    write_models      the list of models; `known` maps a name to its provider
    write_model       one model: name, provider
    views             responses to GET below `form.bases`, beside the models: written from the known
                      models, or constant
    model_views       responses to POST about one model, which the body names
    """

    form: Form
    policy: PolicyTable
    variant_of: Dialect | None = None

    lists: Mapping[str, int] = msgspec.field(default_factory=lambda: CHAT_LISTS)
    stream: Literal["on_request", "by_default", "never"] = "on_request"
    usage_on_request: bool = False
    amend: Callable[[RawRequest, Attempt], Amendment | None] | None = None
    amend_marks: Callable[[Quirks], tuple[bytes, ...]] | None = None
    request_headers: Callable[[Sequence[tuple[bytes, bytes]]], Headers] | None = None
    sealed_headers: Callable[[Headers, Facts], tuple[Headers, tuple[StrippedValue, ...]]] = _all_headers
    refused_headers: Callable[[ModelplexError, Headers], Headers] = _no_headers
    opaque_members: tuple[bytes, ...] = ()
    stored_members: tuple[bytes, ...] = ()
    envelope_mark: bytes = MARK.encode()
    conversation: tuple[str, ...] = ()
    leaf_of: Callable[[str], str] = _no_leaf

    needs_hub: Callable[[RawRequest, Attempt], bool] | None = None
    lower: Callable[[ChatRequest, Attempt], ChatRequest] | None = None
    strip_foreign: Callable[[ChatRequest], tuple[ChatRequest, tuple[Change, ...]]] | None = None
    stored_context: frozenset[str] = frozenset()
    client_run_tools: tuple[str, ...] = ()

    client: ClientDialect | None = None
    provider: ProviderDialect | None = None
    passthrough: PassthroughDialect | None = None
    storage: ResponseStorage | None = None
    reframe: Callable[[], Framing] | None = None
    completions_client: ClientCompletions | None = None
    completions_provider: ProviderCompletions | None = None
    embeddings_client: ClientEmbeddings | None = None
    embeddings_provider: ProviderEmbeddings | None = None
    answer_locally: Callable[[RawRequest, int], bytes | None] | None = None
    write_count: Callable[[int], bytes] | None = None
    write_error: WriteError | None = None
    write_failed_stream: WriteFailedStream | None = None
    request_id_header: bytes | None = None
    write_models: Callable[[Mapping[str, str]], bytes] | None = None
    write_model: Callable[[str, str], bytes] | None = None
    views: Mapping[str, Callable[[Mapping[str, str]], bytes] | bytes] = {}
    model_views: Mapping[str, Callable[[str], bytes]] = {}

    def __post_init__(self) -> None:
        """Raises ValueError where the form says something else than the functions."""
        form = self.form
        passes = self.passthrough is not None or self.embeddings_provider is not None
        said = (form.passes, form.converses, form.counts, form.variant_of)
        variant_of = self.variant_of.form if self.variant_of is not None else None
        if said != (passes, self.client is not None, self.write_count is not None, variant_of):
            raise ValueError(f"{form} and its dialect differ in passes, converses, counts or variant_of")

    @property
    def family(self) -> Dialect:
        """The dialect whose errors and models this one shares: itself unless it is a variant."""
        return self.variant_of or self

    def __repr__(self) -> str:
        return f"<Dialect {self.form.name}>"
