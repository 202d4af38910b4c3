"""Ollama's own form: /api/chat, /api/generate, /api/embed and /api/tags, the half that faces a provider.

Above it stands the gateway; below it the vocabulary and the framing of lines. It knows no address, no key and no socket, and no
other dialect. Source: ollama/ollama's api/types.go and docs/api.md; wires.md 2.5 and the OLL columns of its section 3.

What Ollama has no words for is refused where the answer would be to another question (an image it cannot load, several
choices) and otherwise left out and named as a Change.

What is asked stands in `_ollama_write` (with the conversation itself in `_ollama_history`), what is answered in `_ollama_read`; here are the
dialect's names, its vectors, its models and its errors.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.errors import (
    BadRequest,
    ModelplexError,
    Overloaded,
    RateLimited,
    TooLarge,
    UnknownModel,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamTimeout,
)
from modelplex.event import (
    Embedded,
    ListedModel,
    Usage,
)
from modelplex.wire._ollama_read import (
    completion_reader,
    read_answer,
    read_completion,
    reader,
    seconds,
    sentence,
)
from modelplex.wire._ollama_write import write_call, write_completion, write_embedding

__all__ = [
    "completion_reader",
    "read_answer",
    "read_completion",
    "read_embedded",
    "read_error",
    "read_models",
    "reader",
    "write_call",
    "write_completion",
    "write_embedding",
]


class _EmbedAnswer(msgspec.Struct):
    embeddings: tuple[tuple[float, ...], ...]
    model: str = ""
    prompt_eval_count: int | None = None


def read_embedded(body: bytes) -> Embedded:
    """The answer of /api/embed. Raises UpstreamBroken where it is none."""
    try:
        answer = msgspec.json.decode(body, type=_EmbedAnswer)
    except msgspec.DecodeError as error:
        raise UpstreamBroken(
            f"Ollama's answer holds no embeddings: {error}", upstream_status=200, upstream_body=body
        ) from None
    usage = Usage(fresh=answer.prompt_eval_count or 0, estimated=answer.prompt_eval_count is None)
    return Embedded(answer.model, answer.embeddings, usage)


class _Tag(msgspec.Struct):
    name: str = ""
    model: str = ""
    modified_at: str = ""


class _Tags(msgspec.Struct):
    models: list[_Tag] | None


def read_models(body: bytes) -> list[ListedModel]:
    """The answer of GET /api/tags. Raises UpstreamBroken where it is none."""
    try:
        tags = msgspec.json.decode(body, type=_Tags)
    except msgspec.DecodeError as error:
        raise UpstreamBroken(f"Ollama's list of models is not of its form: {error}") from None
    return [ListedModel(tag.model or tag.name, seconds(tag.modified_at)) for tag in tags.models or ()]


# --- errors

_ERRORS: dict[int, type[ModelplexError]] = {
    401: UpstreamAuth,
    402: UpstreamAuth,
    403: UpstreamAuth,
    404: UnknownModel,
    408: UpstreamTimeout,
    409: UpstreamBroken,
    413: TooLarge,
    429: RateLimited,
    503: Overloaded,
    504: UpstreamTimeout,
}


class _ErrorBody(msgspec.Struct):
    error: msgspec.Raw


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ModelplexError:
    """An answer with a status of 300 or more. Header names are lower case."""
    try:
        text = sentence(msgspec.json.decode(body, type=_ErrorBody).error)
        its_own = True
    except (msgspec.DecodeError, RecursionError):
        text = body[:200].decode(errors="replace").strip() or f"status {status}, and no words"
        its_own = False
    kind = _ERRORS.get(status) or (BadRequest if 400 <= status < 500 else UpstreamBroken)
    if not its_own and kind in {BadRequest, UnknownModel}:
        # "404 page not found": something answered, but it is not Ollama.
        kind = UpstreamBroken
    too_long = kind is BadRequest and "context length" in text
    return kind(
        f"Ollama: {text}",
        code="context_length_exceeded" if too_long else None,
        upstream_status=status,
        upstream_body=body,
        retry_after=_retry_after(headers),
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds. A date is left alone: what time it is, is not known here."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
    return None
