"""Which dialects there are, and who speaks them: a new one is its file, its transcripts and a line in these tables.

Above it stand the passages' maker and whoever has an error to write; below it the dialects. A dialect may be spoken by clients, by providers, or by both; what both speak can
pass untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from modelplex.errors import ModelplexError
from modelplex.wire import anthropic_messages, ollama, openai_chat, openai_completions, openai_embeddings
from modelplex.wire.dialect import ClientDialect, PassingDialect, ProviderDialect, Seen
from modelplex.wire.passage import Interjections

WriteError = Callable[..., tuple[int, bytes]]
"""`write_error(error, *, request_id)`: status and body."""

CLIENTS: Mapping[str, ClientDialect] = {
    "openai_chat": openai_chat,
}
"""What conversations may be asked for in."""

PROVIDERS: Mapping[str, ProviderDialect] = {
    "openai_chat": openai_chat,
    "openai_completions": openai_chat,
    "openai_embeddings": openai_chat,
    "openai_json": openai_chat,
    "anthropic_messages": anthropic_messages,
    "ollama": ollama,
}
"""What providers are asked in. OpenAI's smaller forms share its errors and its list of models."""

PASSING: Mapping[str, PassingDialect] = {
    "openai_chat": openai_chat,
    "openai_completions": openai_completions,
}
"""What is looked at while it passes untouched."""

LOOK_AT_VECTORS: Mapping[str, Callable[[bytes], Seen]] = {
    "openai_embeddings": openai_embeddings.look,
}


def _openai_error(error: ModelplexError, request_id: str) -> bytes:
    return b"data: " + openai_chat.write_error(error, request_id=request_id)[1] + b"\n\n"


_OPENAI = Interjections("text/event-stream", b": ping\n\n", _openai_error)
INTERJECTIONS: Mapping[str, Interjections] = {
    "openai_chat": _OPENAI,
    "openai_completions": _OPENAI,
}

ERRORS: Mapping[str, WriteError] = {}
"""How a client is told of an error, where not in OpenAI's form."""


def write_error(dialect: str, error: ModelplexError, *, request_id: str) -> tuple[int, bytes]:
    """Status and body, as a client of this dialect expects them."""
    return ERRORS.get(dialect, openai_chat.write_error)(error, request_id=request_id)
