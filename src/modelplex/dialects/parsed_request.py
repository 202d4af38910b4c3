"""Makes the Exchange of a request and an Attempt.

A request is parsed at most once, however many candidates are tried, and not at all where its bytes
pass unchanged. The Dialect values of both sides have the functions; no dialect is named here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import msgspec

from modelplex.core.errors import Unsupported, UpstreamBroken, detached
from modelplex.core.request import (
    Attempt,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    RawRequest,
)
from modelplex.dialects.core.estimate import estimated
from modelplex.dialects.core.ledger import client_path
from modelplex.dialects.core.search import holds_any
from modelplex.dialects.core.sse import BOM
from modelplex.dialects.dialect import (
    ClientCompletions,
    ClientDialect,
    ClientEmbeddings,
    ProviderCompletions,
    ProviderDialect,
    ProviderEmbeddings,
    StoredContext,
)
from modelplex.dialects.exchange import (
    EmbeddingPassthrough,
    EmbeddingTranslation,
    Exchange,
    OpaquePassthrough,
    Passthrough,
    Translation,
    collected,
    is_stream_body,
)
from modelplex.dialects.registry import DIALECTS, find, same_family, write_request
from modelplex.dialects.wrapped_exchange import ReframedExchange


class ParsedRequest:
    """A request, parsed when it is needed. `id` and `created` (Unix seconds) are of a response that
    has none of its provider's. `kept` is what the gateway stores of it.
    """

    def __init__(
        self, raw_request: RawRequest, *, id: str, created: int, kept: StoredContext | None = None
    ) -> None:
        self.raw_request = raw_request
        self._dialect = dialect = DIALECTS[raw_request.dialect]
        self._client = (
            dialect.client if kept is None or dialect.storage is None else dialect.storage.client(kept)
        )
        self._id = id
        self._created = created

    @cached_property
    def call(self) -> ChatRequest:
        """The conversation. Raises BadRequest."""
        if self._client is None:
            raise Unsupported(f"{self.raw_request.endpoint} is no conversation.")
        return self._client.read_call(self.raw_request)

    @cached_property
    def completion(self) -> CompletionRequest:
        """The text to be continued. Raises BadRequest."""
        assert self._dialect.completions_client is not None
        return self._dialect.completions_client.read(self.raw_request)

    @cached_property
    def embedding(self) -> EmbeddingRequest:
        """The texts to be embedded. Raises BadRequest."""
        assert self._dialect.embeddings_client is not None
        return self._dialect.embeddings_client.read(self.raw_request)

    def exchange(self, attempt: Attempt, *, call: ChatRequest | None = None) -> Exchange:
        """The exchange with this candidate. `call` replaces the request where it had to be changed.
        Raises BadRequest or Unsupported.
        """
        raw_request, client = self.raw_request, self._dialect
        if client.reframe is not None:
            events = msgspec.structs.replace(raw_request, dialect=client.form.family.name)
            inner = ParsedRequest(events, id=self._id, created=self._created)
            return ReframedExchange(inner.exchange(attempt, call=call), client.reframe())
        passes = attempt.dialect == raw_request.dialect and call is None
        if passes and (client.needs_hub is None or not client.needs_hub(raw_request, attempt)):
            return self._untouched(attempt)
        if (provider := find(attempt.dialect)) is not None:
            if self._client is not None and provider.provider is not None:
                return self._conversation(self._client, provider.provider, call or self.call, attempt)
            if client.completions_client is not None and provider.completions_provider is not None:
                return self._continuation(client.completions_client, provider.completions_provider, attempt)
            if client.embeddings_client is not None and provider.embeddings_provider is not None:
                return self._embeddings(client.embeddings_client, provider.embeddings_provider, attempt)
        raise Unsupported(
            f"The provider {attempt.provider} has no {raw_request.endpoint}; ask for a model of one that does.",
            param="model",
        )

    def client_path(self, path: str, attempt: Attempt) -> str:
        """Where a member of the provider's body stands in the client's: by its leaf, where it has
        one.
        """
        provider = find(attempt.dialect)
        if same_family(attempt.dialect, self.raw_request.dialect) or provider is None:
            return path
        leaf = provider.family.leaf_of(path)
        return client_path(self.call.paths, leaf) if leaf and self._client is not None else path

    def whole(
        self, exchange: Exchange, attempt: Attempt, body: bytes, *, call: ChatRequest | None = None
    ) -> tuple[Exchange, bytes]:
        """The client's response to a complete body of the provider, and the exchange that made it:
        another one where the provider answered with a stream and none was asked for, or the
        reverse. Raises the error that the body is.
        """
        body = body.removeprefix(BOM)
        failure = UpstreamBroken(
            f"{attempt.provider} answered a streamed request with JSON, which is no stream."
        )
        if not self.raw_request.stream:
            try:
                return exchange, exchange.whole(body)
            except UpstreamBroken as error:
                if not is_stream_body(body):
                    raise
                failure = detached(error)
        other = self._collected(attempt, body, call)
        if other is None:
            raise failure
        return other, other.whole(body)

    def _collected(self, attempt: Attempt, body: bytes, call: ChatRequest | None) -> Exchange | None:
        """The exchange of a complete body in the other framing; None where a dialect has one."""
        client, dialect = self._client, find(attempt.dialect)
        if client is None or dialect is None or self._dialect.reframe is not None:
            return None
        if (provider := dialect.provider) is None:
            return None
        call = call or self.call
        written = write_request(call, attempt)
        created, model = self._created, attempt.model
        return collected(
            self.raw_request,
            written,
            attempt,
            reader=provider.reader(attempt, written) if is_stream_body(body) else None,
            read=lambda body: provider.read_response(body, attempt, written),
            writer=client.writer(call, id=self._id, created=created, model=model) if call.stream else None,
            write=lambda events: client.write_response(
                events, call, id=self._id, created=created, model=model
            ),
        )

    def _untouched(self, attempt: Attempt) -> Exchange:
        raw_request, dialect = self.raw_request, self._dialect
        if dialect.passthrough is not None:
            return Passthrough(raw_request, attempt, dialect.passthrough)
        if dialect.embeddings_provider is not None:
            return EmbeddingPassthrough(raw_request, attempt, dialect.embeddings_provider.observe)
        return OpaquePassthrough(raw_request, attempt)

    def _embeddings(
        self, client: ClientEmbeddings, provider: ProviderEmbeddings, attempt: Attempt
    ) -> Exchange:
        return EmbeddingTranslation(
            self.raw_request,
            provider.write(self.embedding, attempt),
            attempt,
            read=provider.read,
            write=lambda embedded: client.write(embedded, self.raw_request, self.embedding, attempt.model),
        )

    def _conversation(
        self, client: ClientDialect, provider: ProviderDialect, call: ChatRequest, attempt: Attempt
    ) -> Exchange:
        written = write_request(call, attempt)
        if call.stream:
            return Translation(
                self.raw_request,
                written,
                attempt,
                reader=provider.reader(attempt, written),
                writer=client.writer(call, id=self._id, created=self._created, model=attempt.model),
            )
        return Translation(
            self.raw_request,
            written,
            attempt,
            read=lambda body: provider.read_response(body, attempt, written),
            write=lambda events: client.write_response(
                events, call, id=self._id, created=self._created, model=attempt.model
            ),
        )

    def _continuation(
        self, client: ClientCompletions, provider: ProviderCompletions, attempt: Attempt
    ) -> Exchange:
        completion = self.completion
        written = provider.write(completion, attempt)
        if completion.stream:
            return Translation(
                self.raw_request,
                written,
                attempt,
                reader=provider.reader(attempt, written),
                writer=client.writer(completion, id=self._id, created=self._created, model=attempt.model),
            )
        return Translation(
            self.raw_request,
            written,
            attempt,
            read=lambda body: provider.read(body, attempt, written),
            write=lambda events: client.write(
                events, completion, id=self._id, created=self._created, model=attempt.model
            ),
        )


def answer_locally(raw_request: RawRequest, attempts: Sequence[Attempt], *, created: int) -> bytes | None:
    """The response to a request that needs no model, where no candidate is of the client's dialect:
    Ollama's clients load a model before they use it.
    """
    answer = DIALECTS[raw_request.dialect].answer_locally
    if answer is None or any(same_family(a.dialect, raw_request.dialect) for a in attempts):
        return None
    return answer(raw_request, created)


def holds_envelopes(raw_request: RawRequest) -> bool:
    """Whether the body may hold opaque state of another dialect in an envelope. Such a body never
    passes unchanged.
    """
    dialect = DIALECTS[raw_request.dialect]
    return dialect.client is not None and holds_any(raw_request.body, (dialect.family.envelope_mark,))


def may_hold_opaque_state(raw_request: RawRequest) -> bool:
    """Whether the body may hold opaque state, in an envelope or as its provider wrote it."""
    marks = DIALECTS[raw_request.dialect].family.opaque_members
    return _may_refer(raw_request) and holds_any(raw_request.body, marks)


def may_name_stored_state(raw_request: RawRequest) -> bool:
    """Whether the body may hold the id of a file or the like, which one provider stores."""
    marks = DIALECTS[raw_request.dialect].family.stored_members
    return _may_refer(raw_request) and holds_any(raw_request.body, marks)


def _may_refer(raw_request: RawRequest) -> bool:
    """Whether the body is a conversation, or one to be counted. Others hold no state of a provider,
    and what looks like a member's name in them is text.
    """
    dialect = DIALECTS[raw_request.dialect]
    return dialect.client is not None or dialect.write_count is not None


def estimate_count(raw_request: RawRequest) -> bytes | None:
    """The response to a request for a token count that no provider can answer: an estimate."""
    write = DIALECTS[raw_request.dialect].write_count
    return None if write is None else write(estimated(raw_request, characters=0).fresh)
