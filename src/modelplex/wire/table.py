"""Which dialects there are, and who speaks them: a new one is its file, its transcripts and a line in these tables.

Above it stand the passages' maker and whoever has an error to write; below it the dialects. A dialect may be spoken by clients, by providers, or by both; what both speak can
pass untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from modelplex.call import Ask, Attempt, Embedding, Written
from modelplex.errors import ModelplexError
from modelplex.event import Embedded
from modelplex.wire import anthropic_messages, ollama, openai_chat, openai_completions, openai_embeddings
from modelplex.wire.dialect import ClientDialect, PassingDialect, ProviderDialect, Seen
from modelplex.wire.passage import Interjections

WriteError = Callable[..., tuple[int, bytes]]
"""`write_error(error, *, request_id)`: status and body."""

CLIENTS: Mapping[str, ClientDialect] = {
    "openai_chat": openai_chat,
    "ollama": ollama,
    "ollama_generate": ollama,
}
"""What conversations may be asked for in."""

PROVIDERS: Mapping[str, ProviderDialect] = {
    "openai_chat": openai_chat,
    "anthropic_messages": anthropic_messages,
    "ollama": ollama,
}
"""What conversations are held in with providers."""

SMALLER_FORMS: Mapping[str, str] = {
    "openai_completions": "openai_chat",
    "openai_embeddings": "openai_chat",
    "openai_json": "openai_chat",
    "ollama_generate": "ollama",
    "ollama_embed": "ollama",
}
"""Forms that share the errors and the lists of a dialect."""

PASSING: Mapping[str, PassingDialect] = {
    "openai_chat": openai_chat,
    "openai_completions": openai_completions,
    "ollama": ollama,
    "ollama_generate": ollama,
}
"""What is looked at while it passes untouched."""

LOOK_AT_VECTORS: Mapping[str, Callable[[bytes], Seen]] = {
    "openai_embeddings": openai_embeddings.look,
    "ollama_embed": ollama.look_at_vectors,
}


class VectorsAsked(msgspec.Struct, frozen=True):
    """How a client asks for vectors, and is given them: `write(embedded, asked, model)`."""

    read: Callable[[Ask], Embedding]
    write: Callable[[Embedded, Embedding, str], bytes]


class VectorsGiven(msgspec.Struct, frozen=True):
    """How a provider is asked for vectors, and gives them."""

    write: Callable[[Embedding, Attempt], Written]
    read: Callable[[bytes], Embedded]


VECTORS_ASKED: Mapping[str, VectorsAsked] = {
    "openai_embeddings": VectorsAsked(openai_embeddings.read_embedding, openai_embeddings.write_embedded),
    "ollama_embed": VectorsAsked(
        ollama.read_embed, lambda embedded, _, model: ollama.write_embedded(embedded, model)
    ),
}
VECTORS_GIVEN: Mapping[str, VectorsGiven] = {
    "openai_embeddings": VectorsGiven(openai_embeddings.write_embedding, openai_embeddings.read_embedded),
    "ollama_embed": VectorsGiven(ollama.write_embedding, ollama.read_embedded),
}


def _openai_error(error: ModelplexError, request_id: str) -> bytes:
    return b"data: " + openai_chat.write_error(error, request_id=request_id)[1] + b"\n\n"


_OPENAI = Interjections("text/event-stream", b": ping\n\n", _openai_error)
_OLLAMA = Interjections("application/x-ndjson", b"", lambda error, _: ollama.error_line(error))
INTERJECTIONS: Mapping[str, Interjections] = {
    "openai_chat": _OPENAI,
    "openai_completions": _OPENAI,
    "ollama": _OLLAMA,
    "ollama_generate": _OLLAMA,
}

ERRORS: Mapping[str, WriteError] = {
    "openai_chat": openai_chat.write_error,
    "ollama": ollama.write_error,
}
"""How a client is told of an error."""


def family(dialect: str) -> str:
    """The dialect whose errors and lists this one shares."""
    return SMALLER_FORMS.get(dialect, dialect)


def provider_dialect(dialect: str) -> ProviderDialect:
    """How errors and lists are read of a provider that is spoken to in this dialect."""
    return PROVIDERS[family(dialect)]


def write_error(dialect: str, error: ModelplexError, *, request_id: str) -> tuple[int, bytes]:
    """Status and body, as a client of this dialect expects them."""
    return ERRORS[family(dialect)](error, request_id=request_id)
