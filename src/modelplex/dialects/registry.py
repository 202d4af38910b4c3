"""Which dialects there are, and who speaks them: a new one is its file, its transcripts and a line
in these tables.

Above it stand the passages' maker and whoever has an error to write; below it the dialects. A
dialect may be spoken by clients, by providers, or by both; what both speak can pass untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.events import EmbeddingResponse
from modelplex.core.request import Attempt, EmbeddingRequest, ProviderRequest, RawRequest
from modelplex.dialects.anthropic import dialect as anthropic
from modelplex.dialects.dialect import ClientDialect, ObservedResponse, PassthroughDialect, ProviderDialect
from modelplex.dialects.exchange import StreamFraming
from modelplex.dialects.gemini import dialect as gemini
from modelplex.dialects.ollama import dialect as ollama
from modelplex.dialects.openai_chat import completions, embeddings
from modelplex.dialects.openai_chat import dialect as openai_chat
from modelplex.dialects.openai_responses import dialect as openai_responses

WriteError = Callable[..., tuple[int, bytes]]
"""`write_error(error, *, request_id)`: status and body."""

CLIENTS: Mapping[str, ClientDialect] = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "anthropic_messages": anthropic,
    "gemini": gemini,
    "ollama": ollama,
    "ollama_generate": ollama,
}
"""What conversations may be asked for in."""

PROVIDERS: Mapping[str, ProviderDialect] = {
    "openai_responses": openai_responses,
    "openai_chat": openai_chat,
    "anthropic_messages": anthropic,
    "gemini": gemini,
    "ollama": ollama,
}
"""What conversations are held in with providers."""

SMALLER_FORMS: Mapping[str, str] = {
    "openai_count": "openai_responses",
    "openai_completions": "openai_chat",
    "openai_embeddings": "openai_chat",
    "openai_json": "openai_chat",
    "anthropic_count": "anthropic_messages",
    "gemini_array": "gemini",
    "gemini_embed": "gemini",
    "gemini_embed_one": "gemini",
    "gemini_count": "gemini",
    "ollama_generate": "ollama",
    "ollama_embed": "ollama",
}
"""Forms that share the errors and the lists of a dialect."""

PASSING: Mapping[str, PassthroughDialect] = {
    "openai_responses": openai_responses,
    "openai_chat": openai_chat,
    "openai_completions": completions,
    "anthropic_messages": anthropic,
    "gemini": gemini,
    "ollama": ollama,
    "ollama_generate": ollama,
}
"""What is looked at while it passes untouched."""

LOOK_AT_VECTORS: Mapping[str, Callable[[bytes], ObservedResponse]] = {
    "openai_embeddings": embeddings.look,
    "gemini_embed": gemini.look_at_vectors,
    "ollama_embed": ollama.look_at_vectors,
}


class ClientEmbeddings(msgspec.Struct, frozen=True):
    """How a client asks for vectors, and is given them: `write(embedded, ask, asked, model)`."""

    read: Callable[[RawRequest], EmbeddingRequest]
    write: Callable[[EmbeddingResponse, RawRequest, EmbeddingRequest, str], bytes]


class ProviderEmbeddings(msgspec.Struct, frozen=True):
    """How a provider is asked for vectors, and gives them."""

    write: Callable[[EmbeddingRequest, Attempt], ProviderRequest]
    read: Callable[[bytes], EmbeddingResponse]


_GEMINI_VECTORS = ClientEmbeddings(
    gemini.read_embedding, lambda embedded, ask, _, __: gemini.write_embedded(embedded, ask)
)
VECTORS_ASKED: Mapping[str, ClientEmbeddings] = {
    "openai_embeddings": ClientEmbeddings(
        embeddings.read_embedding,
        lambda embedded, _, asked, model: embeddings.write_embedded(embedded, asked, model),
    ),
    "gemini_embed": _GEMINI_VECTORS,
    "gemini_embed_one": _GEMINI_VECTORS,
    "ollama_embed": ClientEmbeddings(
        ollama.read_embed, lambda embedded, _, __, model: ollama.write_embedded(embedded, model)
    ),
}
VECTORS_GIVEN: Mapping[str, ProviderEmbeddings] = {
    "openai_embeddings": ProviderEmbeddings(embeddings.write_embedding, embeddings.read_embedded),
    "gemini_embed": ProviderEmbeddings(gemini.write_embedding, gemini.read_embedded),
    "ollama_embed": ProviderEmbeddings(ollama.write_embedding, ollama.read_embedded),
}

COUNTS: Mapping[str, Callable[[int], bytes]] = {
    "anthropic_count": lambda tokens: anthropic.write_count(tokens, estimated=True),
    "gemini_count": gemini.write_count,
    "openai_count": openai_responses.write_input_tokens,
}
"""How a client that asks for the length of a prompt is told an estimate of it."""

SEALS: Mapping[str, tuple[bytes, ...]] = {
    "openai_responses": (b'"encrypted_content"',),
    "openai_chat": (b'"reasoning_details"', b'"thought_signature"'),
    "anthropic_messages": (b'"signature"', b'"redacted_thinking"'),
    "gemini": (b'"thoughtSignature"', b'"thought_signature"'),
}
"""Member names that carry sealed state. Only a body with one of these is read for it."""
KEPT: Mapping[str, tuple[bytes, ...]] = {
    "openai_responses": (b'"file_id"', b'"item_reference"'),
    "openai_chat": (b'"file_id"', b'"audio"'),
    "anthropic_messages": (b'"file_id"', b'"container"'),
    "gemini": (b'"fileData"', b'"file_data"'),
}
"""Member names that carry the id of what is kept at a provider."""


def _openai_error(error: ModelplexError, request_id: str) -> bytes:
    return b"data: " + openai_chat.write_error(error, request_id=request_id)[1] + b"\n\n"


_OPENAI = StreamFraming("text/event-stream", b": ping\n\n", _openai_error)
_OLLAMA = StreamFraming("application/x-ndjson", b"", lambda error, _: ollama.error_line(error))
_RESPONSES = StreamFraming(
    "text/event-stream",
    b": ping\n\n",
    lambda error, _: openai_responses.write_error_event(error),
)
_ANTHROPIC = StreamFraming(
    "text/event-stream",
    anthropic.PING,
    lambda error, request_id: anthropic.error_event(error, request_id=request_id),
)
_GEMINI = StreamFraming(
    "text/event-stream",
    gemini.PING,
    lambda error, request_id: gemini.write_error_event(error, request_id=request_id),
)
INTERJECTIONS: Mapping[str, StreamFraming] = {
    "openai_responses": _RESPONSES,
    "anthropic_messages": _ANTHROPIC,
    "gemini": _GEMINI,
    "openai_chat": _OPENAI,
    "openai_completions": _OPENAI,
    "ollama": _OLLAMA,
    "ollama_generate": _OLLAMA,
}

ERRORS: Mapping[str, WriteError] = {
    "openai_responses": openai_responses.write_error,
    "openai_chat": openai_chat.write_error,
    "anthropic_messages": anthropic.write_error,
    "gemini": gemini.write_error,
    "ollama": ollama.write_error,
}
"""How a client is told of an error."""


def family(dialect: str) -> str:
    """The dialect whose errors and lists this one shares."""
    return SMALLER_FORMS.get(dialect, dialect)


def request_names(dialect: str, request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers that tell a client what its request is called: ours, and where its library reads
    another, that too (docs/reference/wire-formats.md#endpoints-and-headers).
    """
    name = request_id.encode()
    ours = [(b"x-request-id", name)]
    return [*ours, (b"request-id", name)] if family(dialect) == "anthropic_messages" else ours


def provider_dialect(dialect: str) -> ProviderDialect:
    """How errors and lists are read of a provider that is spoken to in this dialect."""
    return PROVIDERS[family(dialect)]


def write_error(dialect: str, error: ModelplexError, *, request_id: str) -> tuple[int, bytes]:
    """Status and body, as a client of this dialect expects them."""
    return ERRORS[family(dialect)](error, request_id=request_id)
