"""All dialects. Everything about one is a member of its value (`dialect.py`).

Adding a dialect is one folder and one line here. Nothing is derived from this table at import, so
that a test can add a dialect to it.
"""

from __future__ import annotations

from modelplex.core.errors import ModelplexError
from modelplex.core.request import Attempt, ChatRequest, ProviderRequest
from modelplex.dialects.anthropic import dialect as anthropic
from modelplex.dialects.core import cross_dialect
from modelplex.dialects.dialect import Dialect, ProviderDialect
from modelplex.dialects.gemini import dialect as gemini
from modelplex.dialects.ollama import dialect as ollama
from modelplex.dialects.openai_chat import dialect as openai_chat
from modelplex.dialects.openai_responses import dialect as openai_responses

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        *(openai_chat.CHAT, openai_chat.COMPLETIONS, openai_chat.EMBEDDINGS, openai_chat.JSON),
        *(openai_responses.RESPONSES, openai_responses.COUNT),
        *(anthropic.MESSAGES, anthropic.COUNT),
        *(gemini.GEMINI, gemini.ARRAY, gemini.COUNT, gemini.EMBED_ONE, gemini.EMBED),
        *(ollama.OLLAMA, ollama.GENERATION, ollama.EMBED),
    )
}
"""By name. The variants of a dialect follow it."""

DEFAULT = openai_chat.CHAT.name
"""The dialect on shared paths, unless a header identifies another."""


def same_family(first: str, second: str) -> bool:
    """Whether two dialects share their error bodies. "" is of no family."""
    if first not in DIALECTS or second not in DIALECTS:
        return False
    return DIALECTS[first].family.name == DIALECTS[second].family.name


def request_names(dialect: str, request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers with a request's id: x-request-id, and the one that the client's library reads
    (docs/reference/wire-formats.md#endpoints-and-headers).
    """
    name, more = request_id.encode(), DIALECTS[dialect].family.request_id_header
    ours = [(b"x-request-id", name)]
    return ours if more is None else [*ours, (more, name)]


def provider_dialect(dialect: str) -> ProviderDialect:
    """The provider half of a dialect. Raises KeyError where it has none."""
    found = DIALECTS[dialect].family.provider
    if found is None:
        raise KeyError(dialect)
    return found


def write_request(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The body for a provider: what only the client's dialect has is settled first. Errors name the
    place in the client's body.

    Raises:
        KeyError: no provider speaks this dialect.
        BadRequest: the conversation or a schema is wrong for every model.
        Unsupported: the dialect or the model cannot express a part.
        StatePinned: the conversation holds opaque state of another provider or account.
    """
    writer = provider_dialect(attempt.dialect)
    if not same_family(call.dialect, attempt.dialect):
        call = cross_dialect.prepare(call, DIALECTS)
    return writer.write_call(call, attempt)


def write_error(dialect: str, error: ModelplexError, *, request_id: str) -> tuple[int, bytes]:
    """Status and body, as a client of this dialect expects them."""
    write = DIALECTS[dialect].family.write_error
    if write is None:
        raise KeyError(dialect)
    return write(error, request_id=request_id)
