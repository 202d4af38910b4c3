"""Ollama's /api/chat, /api/generate, /api/embed and /api/tags: the Dialect values.

Here are vectors, models and errors of a provider. Source: api/types.go of ollama/ollama and
https://github.com/ollama/ollama/blob/main/docs/api.md;
docs/reference/wire-formats.md#ollama and the OLL columns of docs/reference/translation.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.core.errors import (
    BadRequest,
    ModelplexError,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    TooLarge,
    UnknownModel,
    Unsupported,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamReply,
    UpstreamTimeout,
)
from modelplex.core.events import (
    EmbeddingResponse,
    ListedModel,
    Usage,
)
from modelplex.core.request import ChatRequest, CompletionRequest, RawRequest
from modelplex.dialects.core.context_overflow import is_overflow
from modelplex.dialects.core.foreign_errors import quotable_text
from modelplex.dialects.core.retry_after import read_delay
from modelplex.dialects.core.usage import count
from modelplex.dialects.core.usage_limits import is_usage_limit
from modelplex.dialects.dialect import (
    ClientDialect,
    ClientEmbeddings,
    Dialect,
    PassthroughDialect,
    ProviderCompletions,
    ProviderDialect,
    ProviderEmbeddings,
    StreamFraming,
)
from modelplex.dialects.ollama import fields, forms
from modelplex.dialects.ollama.passthrough import OllamaObserver, observe, observe_embeddings, observer
from modelplex.dialects.ollama.request_in import (
    DIALECT,
    GENERATE,
    read_call,
    read_embed,
    read_generate,
    read_load,
    read_stream,
)
from modelplex.dialects.ollama.request_out import write_call, write_completion, write_embedding
from modelplex.dialects.ollama.response_in import (
    OllamaStreamReader,
    error_message,
    overflowed,
    read_response,
    seconds,
)
from modelplex.dialects.ollama.response_out import (
    SPOKEN,
    OllamaStreamWriter,
    error_line,
    write_embedded,
    write_error,
    write_loaded,
    write_response,
    write_show,
    write_tags,
    write_version,
)
from modelplex.policy.judge import PolicyTable

__all__ = [
    "DIALECT",
    "EMBED",
    "GENERATE",
    "GENERATION",
    "OLLAMA",
    "SPOKEN",
    "OllamaObserver",
    "OllamaStreamReader",
    "OllamaStreamWriter",
    "error_line",
    "observe",
    "observe_embeddings",
    "observer",
    "read_call",
    "read_embed",
    "read_embedded",
    "read_error",
    "read_generate",
    "read_load",
    "read_models",
    "read_response",
    "read_stream",
    "write_call",
    "write_completion",
    "write_embedded",
    "write_embedding",
    "write_error",
    "write_loaded",
    "write_response",
    "write_show",
    "write_tags",
    "write_version",
]


class _EmbedAnswer(msgspec.Struct, gc=False):
    embeddings: tuple[tuple[float, ...], ...]
    model: str = ""
    prompt_eval_count: int | None = None


def read_embedded(body: bytes) -> EmbeddingResponse:
    """The answer of /api/embed. Raises UpstreamBroken where it is none."""
    try:
        answer = msgspec.json.decode(body, type=_EmbedAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UpstreamBroken(
            f"Ollama's answer holds no embeddings: {error}", upstream=UpstreamReply(status=200, body=body)
        ) from None
    usage = Usage(fresh=count(answer.prompt_eval_count), estimated=answer.prompt_eval_count is None)
    return EmbeddingResponse(answer.model, answer.embeddings, usage)


class _Tag(msgspec.Struct, gc=False):
    name: str = ""
    model: str = ""
    modified_at: str = ""


class _Tags(msgspec.Struct, gc=False):
    models: list[_Tag] | None


def read_models(body: bytes) -> list[ListedModel]:
    """The answer of GET /api/tags. Raises UpstreamBroken where it is none."""
    try:
        tags = msgspec.json.decode(body, type=_Tags)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
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


class _ErrorBody(msgspec.Struct, gc=False):
    error: msgspec.Raw


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ModelplexError:
    """An answer with a status of 300 or more. Header names are lower case."""
    try:
        text = error_message(msgspec.json.decode(body, type=_ErrorBody).error)
        its_own = True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = quotable_text(status, body) or f"status {status}, and no words"
        its_own = False
    kind = _ERRORS.get(status) or (BadRequest if 400 <= status < 500 else UpstreamBroken)
    if not its_own and kind in {BadRequest, UnknownModel}:
        # "404 page not found": something answered, but it is not Ollama.
        kind = UpstreamBroken
    if is_overflow(status, text):
        return overflowed(text, status=status, body=body)
    if kind is RateLimited and is_usage_limit(status, text):
        kind = QuotaExceeded
    return kind(
        f"Ollama: {text}",
        upstream=UpstreamReply(status=status, body=body),
        retry_after=read_delay(headers),
    )


# --- the values


def _read_generated_call(raw_request: RawRequest) -> ChatRequest:
    """/api/generate as a conversation of one turn, for models that are not Ollama's."""
    asked = read_generate(raw_request)
    if isinstance(asked, CompletionRequest):
        raise Unsupported("'raw' and 'suffix' are for models of Ollama itself.", param="raw")
    return asked


def _answer_load(raw_request: RawRequest, created: int) -> bytes | None:
    """The response to a body that only loads or unloads a model: nothing is loaded here."""
    reason = read_load(raw_request)
    if reason is None:
        return None
    return write_loaded(
        raw_request.model, reason=reason, generate=raw_request.dialect == GENERATE, created=created
    )


_PASSTHROUGH = PassthroughDialect(
    observer=observer,
    observe=observe,
    framing=StreamFraming("application/x-ndjson", b"", lambda error, _: error_line(error)),
)

OLLAMA = Dialect(
    form=forms.OLLAMA,
    conversation=fields.FIELDS.members_of("messages"),
    leaf_of=fields.FIELDS.leaf_of,
    policy=PolicyTable(fields.FIELDS.policy),
    stream="by_default",
    client=ClientDialect(read_call=read_call, write_response=write_response, writer=OllamaStreamWriter),
    provider=ProviderDialect(
        write_call=write_call,
        read_response=read_response,
        reader=OllamaStreamReader,
        read_error=read_error,
        read_models=read_models,
    ),
    passthrough=_PASSTHROUGH,
    answer_locally=_answer_load,
    write_error=write_error,
    views={"tags": write_tags, "version": write_version(), "ps": b'{"models":[]}'},  # nothing is loaded here
    model_views={"show": write_show},
)
GENERATION = Dialect(
    form=forms.GENERATION,
    policy=PolicyTable(fields.GENERATE_FIELDS.policy),
    variant_of=OLLAMA,
    stream="by_default",
    client=ClientDialect(
        read_call=_read_generated_call, write_response=write_response, writer=OllamaStreamWriter
    ),
    passthrough=_PASSTHROUGH,
    completions_provider=ProviderCompletions(
        write=write_completion, read=read_response, reader=OllamaStreamReader
    ),
    answer_locally=_answer_load,
)
EMBED = Dialect(
    form=forms.EMBED,
    policy=PolicyTable(fields.EMBED),
    variant_of=OLLAMA,
    stream="never",
    embeddings_client=ClientEmbeddings(
        read=read_embed, write=lambda embedded, _, __, model: write_embedded(embedded, model)
    ),
    embeddings_provider=ProviderEmbeddings(
        write=write_embedding, read=read_embedded, observe=observe_embeddings
    ),
)

DIALECTS = (OLLAMA, GENERATION, EMBED)
