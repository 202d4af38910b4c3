"""Gemini generateContent, countTokens, embeddings and model lists: the Dialect values.

The model's name is in the path of the URL. A body that passes is not changed, unless it repeats the
name. Source: ai.google.dev/api and the types of google-genai; docs/reference/wire-formats.md#gemini
and the GEM columns of docs/reference/translation.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import EmbeddingResponse, ListedModel, Usage
from modelplex.core.request import Attempt, RawRequest
from modelplex.dialects.core.bounds import MAX_MESSAGES, MAX_TOOLS
from modelplex.dialects.core.json import ABSENT
from modelplex.dialects.core.usage import of_vectors
from modelplex.dialects.core.vectors import encode_vector
from modelplex.dialects.dialect import (
    Amendment,
    ClientDialect,
    ClientEmbeddings,
    Dialect,
    PassthroughDialect,
    ProviderDialect,
    ProviderEmbeddings,
    StreamFraming,
)
from modelplex.dialects.gemini import fields, forms, policy
from modelplex.dialects.gemini.errors import read_error, write_error, write_error_event
from modelplex.dialects.gemini.json import DIALECT, camel
from modelplex.dialects.gemini.passthrough import GeminiObserver, observe, observe_embeddings, observer
from modelplex.dialects.gemini.request_in import read_call, read_counting, read_embedding
from modelplex.dialects.gemini.request_out import write_call, write_counting, write_embedding
from modelplex.dialects.gemini.response_in import GeminiStreamReader, read_response
from modelplex.dialects.gemini.response_out import (
    PING,
    GeminiArrayFraming,
    GeminiStreamWriter,
    write_response,
)
from modelplex.dialects.gemini.usage import read_usage
from modelplex.policy.judge import PolicyTable

__all__ = [
    "ARRAY",
    "COUNT",
    "DIALECT",
    "EMBED",
    "EMBED_ONE",
    "GEMINI",
    "PING",
    "GeminiArrayFraming",
    "GeminiObserver",
    "GeminiStreamReader",
    "GeminiStreamWriter",
    "observe",
    "observe_embeddings",
    "observer",
    "read_call",
    "read_count",
    "read_counting",
    "read_embedded",
    "read_embedding",
    "read_error",
    "read_models",
    "read_response",
    "write_call",
    "write_count",
    "write_counting",
    "write_embedded",
    "write_embedding",
    "write_error",
    "write_error_event",
    "write_model",
    "write_models",
    "write_response",
]

SERVED = ("generateContent", "embedContent")
"""What a model must be able to do to be of use here; the list also has some that make videos, or
answer in tunes.
"""
METHODS = ("generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents")


# --- models


class _Model(msgspec.Struct, rename="camel", gc=False):
    name: str
    supported_generation_methods: list[str] | None = None


class _Models(msgspec.Struct, gc=False):
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


class _Count(msgspec.Struct, rename="camel", gc=False):
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


class _Vector(msgspec.Struct, gc=False):
    values: tuple[float, ...] = ()


class _Vectors(msgspec.Struct, rename="camel", gc=False):
    embeddings: list[_Vector] | None = None
    embedding: _Vector | None = None
    usage_metadata: msgspec.Raw = ABSENT


def read_embedded(body: bytes) -> EmbeddingResponse:
    """The answer of `:batchEmbedContents` or `:embedContent`. Raises UpstreamBroken, or the error
    that stands in the answer's place.
    """
    error = observe_embeddings(body).error
    if error is not None:
        raise error
    try:
        answer = msgspec.json.decode(body, type=_Vectors)
    except (msgspec.DecodeError, UnicodeError) as wrong:
        raise UpstreamBroken(f"The provider's answer holds no vectors: {wrong}") from None
    vectors = answer.embeddings or ([answer.embedding] if answer.embedding is not None else [])
    usage = of_vectors(read_usage(answer.usage_metadata)) or Usage(estimated=True)
    return EmbeddingResponse("", tuple(vector.values for vector in vectors), usage)


def write_embedded(embedded: EmbeddingResponse, raw_request: RawRequest) -> bytes:
    """The client's answer, in the form of what it asked: one vector for `content`, a list for
    `requests`.
    """
    vectors = [{"values": encode_vector(vector, "float")} for vector in embedded.vectors]
    counted = {"usageMetadata": {"promptTokenCount": embedded.usage.input}}
    if any(camel(name) == "requests" for name in raw_request.fields):
        return msgspec.json.encode({"embeddings": vectors, **counted})
    return msgspec.json.encode({"embedding": vectors[0], **counted})


# --- passthrough

INSTRUCTIONS = ("systemInstruction", "system_instruction")
REPEATS = ("generateContentRequest", "generate_content_request")
"""Members that hold a whole request, and in it the model's name."""
_encode = msgspec.json.Encoder().encode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_requests = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


def amend(raw_request: RawRequest, attempt: Attempt) -> Amendment | None:
    """Some bodies repeat the path's model, with a prefix; one that differs from the path's is an
    error there, so an alias is replaced.
    """
    changed = _names_repeated(raw_request.fields, attempt.model)
    return Amendment(changed) if changed else None


def needs_hub(raw_request: RawRequest, attempt: Attempt) -> bool:
    """Whether the body has instructions for a model that takes none."""
    is_refused = attempt.quirks.system_messages == "nowhere"
    return is_refused and not raw_request.fields.keys().isdisjoint(INSTRUCTIONS)


def _names_repeated(fields: Mapping[str, msgspec.Raw], model: str) -> dict[str, msgspec.Raw]:
    """The members that name another model than the path will, with the provider's name in them."""
    name = msgspec.Raw(_encode(f"models/{model}"))
    changed: dict[str, msgspec.Raw] = {}
    if "model" in fields and bytes(fields["model"]) != bytes(name):
        changed["model"] = name
    try:
        for member in REPEATS:
            if member in fields and _says_another(inner := _decode_fields(fields[member]), name):
                changed[member] = msgspec.Raw(_encode({**inner, "model": name}))
        if "requests" in fields:
            rows = _decode_requests(fields["requests"])
            if any(_says_another(row, name) for row in rows):
                changed["requests"] = msgspec.Raw(
                    _encode([{**row, "model": name} if "model" in row else row for row in rows])
                )
    except (msgspec.DecodeError, UnicodeDecodeError):
        return changed  # of another shape than the dialect's: the provider says so
    return changed


def _says_another(members: Mapping[str, msgspec.Raw], name: msgspec.Raw) -> bool:
    return "model" in members and bytes(members["model"]) != bytes(name)


# --- the values

_POLICY = PolicyTable(fields.FIELDS.policy, policy.FINISH)
_LISTS = {"contents": MAX_MESSAGES, "tools": MAX_TOOLS}
_CLIENT = ClientDialect(read_call=read_call, write_response=write_response, writer=GeminiStreamWriter)
_EMBEDDINGS = ClientEmbeddings(
    read=read_embedding, write=lambda embedded, raw_request, _, __: write_embedded(embedded, raw_request)
)

GEMINI = Dialect(
    form=forms.GEMINI,
    conversation=fields.FIELDS.members_of("messages"),
    leaf_of=fields.FIELDS.leaf_of,
    policy=_POLICY,
    lists=_LISTS,
    amend=amend,
    needs_hub=needs_hub,
    opaque_members=(b'"thoughtSignature"', b'"thought_signature"'),
    stored_members=(b'"fileData"', b'"file_data"'),
    stored_context=frozenset({"cachedContent"}),
    client_run_tools=("computerUse",),
    envelope_mark=b"bXB4MS",  # base64 of the mark, but for the bits that it shares with what follows
    client=_CLIENT,
    provider=ProviderDialect(
        write_call=write_call,
        read_response=read_response,
        reader=GeminiStreamReader,
        read_error=read_error,
        read_models=read_models,
    ),
    passthrough=PassthroughDialect(
        observer=observer,
        observe=observe,
        framing=StreamFraming(
            "text/event-stream",
            PING,
            lambda error, request_id: write_error_event(error, request_id=request_id),
        ),
    ),
    write_error=write_error,
    write_models=lambda known: write_models(list(known)),
    write_model=lambda name, _: write_model(name),
)
ARRAY = Dialect(
    form=forms.ARRAY,
    policy=_POLICY,
    variant_of=GEMINI,
    lists=_LISTS,
    client=_CLIENT,
    reframe=GeminiArrayFraming,
)
COUNT = Dialect(
    form=forms.COUNT,
    policy=PolicyTable(fields.COUNT_BODY, policy.FINISH),
    variant_of=GEMINI,
    lists=_LISTS,
    amend=amend,
    write_count=write_count,
)
EMBED_ONE = Dialect(
    form=forms.EMBED_ONE,
    policy=PolicyTable(policy.EMBED_ONE),
    variant_of=GEMINI,
    embeddings_client=_EMBEDDINGS,
)
EMBED = Dialect(
    form=forms.EMBED,
    policy=PolicyTable(policy.EMBED),
    variant_of=GEMINI,
    amend=amend,
    embeddings_client=_EMBEDDINGS,
    embeddings_provider=ProviderEmbeddings(
        write=write_embedding, read=read_embedded, observe=observe_embeddings
    ),
)

DIALECTS = (GEMINI, ARRAY, COUNT, EMBED_ONE, EMBED)
