"""The route table: which operation a path asks for, and in which dialect its caller speaks. Pure, and on one screen.

Above it stands the app. What is not here is a 404, in the dialect that the path begins like: nothing is passed through because somebody asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.call import Endpoint

BASES = ("/models/v1/", "/v1/")
"""The OpenAI-compatible interface, and its alias for clients that cannot be told a longer base URL."""


class Operation(msgspec.Struct, frozen=True):
    """`dialect` is the caller's. `form` may come as multipart/form-data. `model` and `stream` are set where the path says them, and not the body."""

    endpoint: Endpoint
    dialect: str
    form: bool = False
    model: str | None = None
    stream: bool | None = None


def _of(endpoint: Endpoint, dialect: str = "openai_json", *, form: bool = False) -> Operation:
    return Operation(endpoint, dialect, form)


OPERATIONS: Mapping[str, Operation] = {
    "chat/completions": _of("chat/completions", "openai_chat"),
    "completions": _of("completions", "openai_completions"),
    "embeddings": _of("embeddings", "openai_embeddings"),
    "moderations": _of("moderations"),
    "rerank": _of("rerank"),
    "images/generations": _of("images/generations"),
    "images/edits": _of("images/edits", form=True),
    "images/variations": _of("images/variations", form=True),
    "audio/speech": _of("audio/speech"),
    "audio/transcriptions": _of("audio/transcriptions", form=True),
    "audio/translations": _of("audio/translations", form=True),
}
"""What goes to a provider, by the path below a base."""


OLLAMA_BASES = ("/api/", "/models/api/")
"""Ollama's own interface, at the root, and beside the OpenAI-compatible one for clients that cut "/v1" off their base URL."""
OLLAMA_OPERATIONS: Mapping[str, Operation] = {
    "chat": _of("api/chat", "ollama"),
    "generate": _of("api/generate", "ollama_generate"),
    "embed": _of("api/embed", "ollama_embed"),
}


def operation(path: str) -> Operation | None:
    """What a POST to this path asks for."""
    if (rest := _below(path, BASES)) is not None:
        return OPERATIONS.get(rest)
    if (rest := _below(path, OLLAMA_BASES)) is not None:
        return OLLAMA_OPERATIONS.get(rest)
    return None


def dialect_of(path: str) -> str:
    """What the caller of a path speaks, be it served or not, so that it can read the error."""
    if (asked := operation(path)) is not None:
        return asked.dialect
    if _below(path, OLLAMA_BASES) is not None:
        return "ollama"
    return "openai_chat"


def below_base(path: str) -> str | None:
    """What follows a base of the OpenAI-compatible interface, None where the path is not below one."""
    return _below(path, BASES)


def below_ollama(path: str) -> str | None:
    """What follows a base of Ollama's interface, None where the path is not below one."""
    return _below(path, OLLAMA_BASES)


def _below(path: str, bases: tuple[str, ...]) -> str | None:
    return next((path[len(base) :] for base in bases if path.startswith(base)), None)
