"""Which operation of a provider serves what a client asks, and in which dialect it is asked.

Above it stand the upstreams; below it the rows. Where the provider has the client's own form, that
one is used, so that the bytes can pass untouched; otherwise the form that its row calls its
dialect.
"""

from __future__ import annotations

from modelplex.core.request import Endpoint
from modelplex.providers.specs import ProviderSpec

CONVERSATIONS = frozenset({"chat/completions", "responses", "messages", "generate_content", "api/chat"})
NATIVE: dict[Endpoint, str] = {"responses": "openai_responses", "messages": "anthropic_messages"}
"""Forms of conversation that a provider may have beside its own."""
OTHERS: dict[Endpoint, Endpoint] = {
    "completions": "completions",
    "api/generate": "completions",
    "embeddings": "embeddings",
    "embed_content": "embeddings",
    "api/embed": "embeddings",
}
SMALLER_FORMS: dict[tuple[str, str], str] = {
    ("openai_chat", "completions"): "openai_completions",
    ("openai_chat", "embeddings"): "openai_embeddings",
    ("ollama", "completions"): "ollama_generate",
    ("ollama", "embeddings"): "ollama_embed",
    ("gemini", "embeddings"): "gemini_embed",
}
"""What a dialect's own forms of these are called."""
COUNTS: dict[Endpoint, tuple[str, str]] = {
    "messages/count_tokens": ("anthropic_messages", "anthropic_count"),
    "responses/input_tokens": ("openai_chat", "openai_count"),
    "count_tokens": ("gemini", "gemini_count"),
}
"""Token counts: the dialect of the providers that have them, and the name of the form."""
FREE = frozenset({*COUNTS, "moderations"})
"""Endpoints that no provider bills."""


def way(row: ProviderSpec, endpoint: Endpoint, *, conversations: str = "usual") -> tuple[str, Endpoint]:
    """The dialect and the operation. The dialect is "" where the provider has nothing that could
    serve it. `conversations` is the quirk of that name.
    """
    usual: tuple[str, Endpoint] = row.dialect, "chat/completions"
    if conversations == "responses" and "responses" in row.serves:
        usual = "openai_responses", "responses"
    if endpoint == "api/generate" and row.dialect != "ollama":
        return usual  # a prompt is a conversation of one turn
    if endpoint in CONVERSATIONS:
        native = NATIVE.get(endpoint)
        if native is not None and native != row.dialect and endpoint in row.serves:
            return native, endpoint
        return usual
    if (count := COUNTS.get(endpoint)) is not None:
        dialect, form = count
        return (form if dialect == row.dialect and endpoint in row.serves else ""), endpoint
    served = OTHERS.get(endpoint, endpoint)
    if served not in row.serves:
        return "", endpoint
    if endpoint in OTHERS:
        return SMALLER_FORMS.get((row.dialect, served), ""), served
    return "openai_json", served
