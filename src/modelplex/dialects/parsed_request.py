"""One Ask, and the passage for each Attempt at it.

Above it stands the gateway; below it the passages and the tables of dialects. What was asked is
understood at most once, however many candidates are tried, and not at all where it passes
untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import msgspec

from modelplex.core.errors import Unsupported
from modelplex.core.events import Event
from modelplex.core.request import (
    Attempt,
    Change,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    RawRequest,
)
from modelplex.dialects.core.envelope import MARK
from modelplex.dialects.core.estimate import estimated
from modelplex.dialects.dialect import EventWriter
from modelplex.dialects.exchange import (
    EmbeddingPassthrough,
    EmbeddingTranslation,
    Exchange,
    OpaquePassthrough,
    Passthrough,
    Reframed,
    Translation,
)
from modelplex.dialects.gemini import dialect as gemini
from modelplex.dialects.ollama import dialect as ollama
from modelplex.dialects.openai_chat import completions
from modelplex.dialects.openai_responses import dialect as openai_responses
from modelplex.dialects.registry import (
    CLIENTS,
    COUNTS,
    INTERJECTIONS,
    KEPT,
    LOOK_AT_VECTORS,
    PASSING,
    PROVIDERS,
    SEALS,
    VECTORS_ASKED,
    VECTORS_GIVEN,
    family,
)

ARRAY = "gemini_array"
"""Gemini's stream as one JSON array, which is Google's default where a client does not ask for
events.
"""
ENVELOPE = MARK.encode()
ENVELOPE_IN_BASE64 = b"bXB4MS"
"""How an envelope begins where a dialect wraps it once more: what base64 makes of the mark, but for
the bits that it shares with what follows.
"""


class ParsedRequest:
    """`id` and `created` (Unix seconds) are what an answer is called that its provider gave no
    name. `kept` says what is kept of a Responses answer.
    """

    def __init__(
        self, ask: RawRequest, *, id: str, created: int, kept: openai_responses.StoredContext | None = None
    ) -> None:
        self.ask = ask
        self._kept = kept
        self._id = id
        self._created = created

    @cached_property
    def call(self) -> ChatRequest:
        """The conversation, understood. Raises BadRequest."""
        if self.ask.dialect == ARRAY:
            return self._as_events.call
        if self.ask.dialect != ollama.GENERATE:
            return CLIENTS[self.ask.dialect].read_call(self.ask)
        asked = ollama.read_generate(self.ask)
        if isinstance(asked, CompletionRequest):
            raise Unsupported("'raw' and 'suffix' are for models of Ollama itself.", param="raw")
        return asked

    @cached_property
    def _as_events(self) -> ParsedRequest:
        """The same, asked for as a stream of events."""
        return ParsedRequest(
            msgspec.structs.replace(self.ask, dialect=gemini.DIALECT), id=self._id, created=self._created
        )

    @cached_property
    def completion(self) -> CompletionRequest:
        """The text to be continued, understood. Raises BadRequest."""
        return completions.read_completion(self.ask)

    @cached_property
    def embedding(self) -> EmbeddingRequest:
        """The texts to be embedded, understood. Raises BadRequest."""
        return VECTORS_ASKED[self.ask.dialect].read(self.ask)

    def passage(self, attempt: Attempt, *, call: ChatRequest | None = None) -> Exchange:
        """The way to this candidate. `call` stands for the Ask where it had to be changed. Raises
        BadRequest or Unsupported.
        """
        ask = self.ask
        if ask.dialect == ARRAY:
            return Reframed(self._as_events.passage(attempt, call=call), gemini.GeminiArrayFraming())
        if attempt.dialect == ask.dialect and call is None:
            return self._untouched(attempt)
        if ask.dialect in CLIENTS and attempt.dialect in PROVIDERS:
            return self._conversation(call or self.call, attempt)
        if ask.dialect == "openai_completions" and attempt.dialect == ollama.GENERATE:
            return self._continuation(attempt)
        if ask.dialect in VECTORS_ASKED and attempt.dialect in VECTORS_GIVEN:
            return self._vectors(attempt)
        raise Unsupported(
            f"The provider {attempt.provider} has no {ask.endpoint}; ask for a model of one that does.",
            param="model",
        )

    def _vectors(self, attempt: Attempt) -> Exchange:
        client, provider = VECTORS_ASKED[self.ask.dialect], VECTORS_GIVEN[attempt.dialect]
        return EmbeddingTranslation(
            self.ask,
            provider.write(self.embedding, attempt),
            attempt,
            read=provider.read,
            write=lambda embedded: client.write(embedded, self.ask, self.embedding, attempt.model),
        )

    def _untouched(self, attempt: Attempt) -> Exchange:
        ask = self.ask
        if (dialect := PASSING.get(ask.dialect)) is not None:
            return Passthrough(ask, attempt, dialect, INTERJECTIONS[ask.dialect])
        if (look := LOOK_AT_VECTORS.get(ask.dialect)) is not None:
            return EmbeddingPassthrough(ask, attempt, look)
        return OpaquePassthrough(ask, attempt)

    def _conversation(self, call: ChatRequest, attempt: Attempt) -> Exchange:
        provider = PROVIDERS[attempt.dialect]
        written = provider.write_call(call, attempt)
        if call.stream:
            return Translation(
                self.ask,
                written,
                attempt,
                reader=provider.reader(attempt, written),
                writer=self._writer(call, attempt),
            )
        return Translation(
            self.ask,
            written,
            attempt,
            read=lambda body: provider.read_answer(body, attempt, written),
            write=lambda events: self._write_answer(events, call, attempt),
        )

    def _writer(self, call: ChatRequest, attempt: Attempt) -> EventWriter:
        if self._kept is not None:
            return openai_responses.writer(
                call, id=self._id, created=self._created, model=attempt.model, kept=self._kept
            )
        client = CLIENTS[self.ask.dialect]
        return client.writer(call, id=self._id, created=self._created, model=attempt.model)

    def _write_answer(
        self, events: list[Event], call: ChatRequest, attempt: Attempt
    ) -> tuple[bytes, list[Change]]:
        if self._kept is not None:
            return openai_responses.write_answer(
                events, call, id=self._id, created=self._created, model=attempt.model, kept=self._kept
            )
        client = CLIENTS[self.ask.dialect]
        return client.write_answer(events, call, id=self._id, created=self._created, model=attempt.model)

    def _continuation(self, attempt: Attempt) -> Exchange:
        asked = self.completion
        written = ollama.write_completion(asked, attempt)
        if asked.stream:
            return Translation(
                self.ask,
                written,
                attempt,
                reader=ollama.completion_reader(attempt, written),
                writer=completions.writer(asked, id=self._id, created=self._created, model=attempt.model),
            )
        return Translation(
            self.ask,
            written,
            attempt,
            read=lambda body: ollama.read_completion(body, attempt, written),
            write=lambda events: completions.write_answer(
                events, asked, id=self._id, created=self._created, model=attempt.model
            ),
        )


def answered_here(ask: RawRequest, attempts: Sequence[Attempt], *, created: int) -> bytes | None:
    """The answer to what is no question to a model: Ollama's clients have a model loaded before
    they talk to it, and here nothing is loaded.
    """
    if family(ask.dialect) != ollama.DIALECT or any(family(a.dialect) == ollama.DIALECT for a in attempts):
        return None
    if ask.dialect == "ollama_embed" or (reason := ollama.read_load(ask)) is None:
        return None
    return ollama.write_loaded(
        ask.model, reason=reason, generate=ask.dialect == ollama.GENERATE, created=created
    )


def holds_envelopes(ask: RawRequest) -> bool:
    """Whether the body may hold state that was sealed elsewhere and given out in an envelope. Such
    a body never passes untouched.
    """
    if ask.dialect not in CLIENTS:
        return False
    return (ENVELOPE_IN_BASE64 if family(ask.dialect) == gemini.DIALECT else ENVELOPE) in ask.body


def may_hold_seals(ask: RawRequest) -> bool:
    """Whether the body may hold sealed state, in an envelope or as its maker gave it."""
    return any(mark in ask.body for mark in SEALS.get(family(ask.dialect), ()))


def may_name_what_is_kept(ask: RawRequest) -> bool:
    """Whether the body may hold the id of a file or the like, which is kept at one provider."""
    return any(mark in ask.body for mark in KEPT.get(family(ask.dialect), ()))


def counted_here(ask: RawRequest) -> bytes | None:
    """The answer to the question for a prompt's length where no provider can be asked: an estimate,
    in the client's form.
    """
    write = COUNTS.get(ask.dialect)
    return None if write is None else write(estimated(ask, characters=0).fresh)
