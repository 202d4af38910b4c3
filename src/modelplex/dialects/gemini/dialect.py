"""Gemini's own form: generateContent, countTokens, batchEmbedContents and the list of models; all
three halves of dialects/dialect.py.

Above it stands the passage; below it the vocabulary. This page is the contract; each half has its
files. It knows no address, no key and no socket, and no other dialect. Source: ai.google.dev/api,
google-genai's types; docs/reference/wire-formats.md#gemini and the GEM columns of
docs/reference/translation.md.

Which model is asked stands in the path and not in the body: an Ask of this dialect has a `model`
that its `fields` need not have, and a body that passes is not touched. The rooms: what is asked by
clients `gemini.request_in` and `gemini.messages_in`, what is asked of providers
`gemini.request_out` and `gemini.messages_out`, what providers answer `gemini.response_in`, what
clients are answered `gemini.response_out`, what passes `gemini.passthrough`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import EmbeddingResponse, ListedModel, Usage
from modelplex.core.request import ChatRequest, RawRequest
from modelplex.dialects.core.usage import of_vectors
from modelplex.dialects.gemini.errors import read_error, write_error, write_error_event
from modelplex.dialects.gemini.json import ABSENT, DIALECT, camel
from modelplex.dialects.gemini.passthrough import GeminiObserver, look, look_at_vectors, watch
from modelplex.dialects.gemini.request_in import read_call, read_counting, read_embedding
from modelplex.dialects.gemini.request_out import write_call, write_counting, write_embedding
from modelplex.dialects.gemini.response_in import read_answer, reader
from modelplex.dialects.gemini.response_out import PING, GeminiArrayFraming, GeminiStreamWriter, write_answer
from modelplex.dialects.gemini.usage import read_usage

__all__ = [
    "DIALECT",
    "PING",
    "GeminiArrayFraming",
    "GeminiObserver",
    "GeminiStreamWriter",
    "look",
    "look_at_vectors",
    "read_answer",
    "read_call",
    "read_count",
    "read_counting",
    "read_embedded",
    "read_embedding",
    "read_error",
    "read_models",
    "reader",
    "watch",
    "write_answer",
    "write_call",
    "write_count",
    "write_counting",
    "write_embedded",
    "write_embedding",
    "write_error",
    "write_error_event",
    "write_model",
    "write_models",
    "writer",
]

SERVED = ("generateContent", "embedContent")
"""What a model must be able to do to be of use here; the list also has some that make videos, or
answer in tunes.
"""
METHODS = ("generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents")


def writer(call: ChatRequest, *, id: str, created: int, model: str) -> GeminiStreamWriter:  # noqa: ARG001 - the contract of every dialect
    return GeminiStreamWriter(id_=id, model=model)


# --- models


class _Model(msgspec.Struct, rename="camel"):
    name: str
    supported_generation_methods: list[str] | None = None


class _Models(msgspec.Struct):
    models: list[_Model] | None = None


def read_models(body: bytes) -> list[ListedModel]:
    """One page of `GET /v1beta/models`, up to 1000 with `?pageSize=1000`. Names have "models/"
    before them. Raises UpstreamBroken.
    """
    try:
        listed = msgspec.json.decode(body, type=_Models).models
    except (msgspec.DecodeError, UnicodeError) as error:
        raise UpstreamBroken(f"The provider's list of models is not what it should be: {error}") from None
    if listed is None:
        raise UpstreamBroken("The provider's list of models is not one in Gemini's form.")
    return [
        ListedModel(model.name)
        for model in listed
        if model.supported_generation_methods is None
        or any(method in SERVED for method in model.supported_generation_methods)
    ]


def write_models(known: Sequence[str]) -> bytes:
    """These names as the answer to `GET /v1beta/models`."""
    return msgspec.json.encode({"models": [_listed(name) for name in known]})


def write_model(name: str) -> bytes:
    """One name as the answer to `GET /v1beta/models/{name}`."""
    return msgspec.json.encode(_listed(name))


def _listed(name: str) -> dict[str, Any]:
    return {
        "name": f"models/{name}",
        "version": "",
        "displayName": name,
        "supportedGenerationMethods": METHODS,
    }


# --- counts


class _Count(msgspec.Struct, rename="camel"):
    total_tokens: int


def read_count(body: bytes) -> int:
    """The answer of `:countTokens`. Raises UpstreamBroken where it is none."""
    try:
        return msgspec.json.decode(body, type=_Count).total_tokens
    except (msgspec.DecodeError, UnicodeError) as error:
        raise UpstreamBroken(f"The provider's count of tokens is not what it should be: {error}") from None


def write_count(tokens: int) -> bytes:
    """`tokens` as the answer to `:countTokens`."""
    return msgspec.json.encode({"totalTokens": tokens})


# --- vectors


class _Vector(msgspec.Struct):
    values: tuple[float, ...] = ()


class _Vectors(msgspec.Struct, rename="camel"):
    embeddings: list[_Vector] | None = None
    embedding: _Vector | None = None
    usage_metadata: msgspec.Raw = ABSENT


def read_embedded(body: bytes) -> EmbeddingResponse:
    """The answer of `:batchEmbedContents` or `:embedContent`. Raises UpstreamBroken, or the error
    that stands in the answer's place.
    """
    error = look_at_vectors(body).error
    if error is not None:
        raise error
    try:
        answer = msgspec.json.decode(body, type=_Vectors)
    except (msgspec.DecodeError, UnicodeError) as wrong:
        raise UpstreamBroken(f"The provider's answer holds no vectors: {wrong}") from None
    vectors = answer.embeddings or ([answer.embedding] if answer.embedding is not None else [])
    usage = of_vectors(read_usage(answer.usage_metadata)) or Usage(estimated=True)
    return EmbeddingResponse("", tuple(vector.values for vector in vectors), usage)


def write_embedded(embedded: EmbeddingResponse, ask: RawRequest) -> bytes:
    """The client's answer, in the form of what it asked: one vector for `content`, a list for
    `requests`.
    """
    from modelplex.dialects.openai_chat.embeddings import encoded

    vectors = [{"values": encoded(vector, "float")} for vector in embedded.vectors]
    counted = {"usageMetadata": {"promptTokenCount": embedded.usage.input}}
    if any(camel(name) == "requests" for name in ask.fields):
        return msgspec.json.encode({"embeddings": vectors, **counted})
    return msgspec.json.encode({"embedding": vectors[0], **counted})
