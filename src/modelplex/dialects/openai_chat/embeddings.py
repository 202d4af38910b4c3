"""OpenAI's embeddings, both ways, and observation of passthrough responses.

Vectors are floats or base64 of little-endian float32
(docs/reference/wire-formats.md#completions-and-embeddings). Between the two, values that float32
can represent do not change.
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.errors import BadRequest, ModelplexError, UpstreamBroken
from modelplex.core.events import EmbeddingResponse, Usage
from modelplex.core.request import Attempt, Change, EmbeddingRequest, ProviderRequest, RawRequest
from modelplex.dialects.core.json import decode_mended, encode
from modelplex.dialects.core.members import RequestMembers
from modelplex.dialects.core.usage import of_vectors
from modelplex.dialects.core.vectors import encode_vector
from modelplex.dialects.dialect import ObservedResponse
from modelplex.dialects.openai_chat.errors import error_inside, read_error, write_error
from modelplex.dialects.openai_chat.prompts import read_prompts
from modelplex.dialects.openai_chat.usage import read_usage

__all__ = [
    "DIALECT",
    "observe",
    "read_embedded",
    "read_embedding",
    "read_error",
    "write_embedded",
    "write_embedding",
    "write_error",
]

DIALECT = "openai_embeddings"


class _Marker(msgspec.Struct, gc=False):
    """A vector; observation does not read its numbers."""


class _Looked(msgspec.Struct, gc=False):
    data: list[_Marker] | None = None
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw()
    error: Any = None


class _Vector(msgspec.Struct, gc=False):
    embedding: list[float] | str
    index: int | None = None


class _Answer(msgspec.Struct, gc=False):
    data: list[_Vector] | None = None
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw()
    error: Any = None


_decode_looked = msgspec.json.Decoder(_Looked).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def read_embedding(raw_request: RawRequest) -> EmbeddingRequest:
    """Raises BadRequest with `param` naming the field."""
    members = RequestMembers(raw_request.fields)
    given = members.unread("input")
    if given is None:
        raise BadRequest("The body has no 'input'.", param="input")
    encoding = members.get("encoding_format", str) or "float"
    if encoding not in {"float", "base64"}:
        raise BadRequest('\'encoding_format\' must be "float" or "base64".', param="encoding_format")
    return EmbeddingRequest(
        dialect=DIALECT,
        model=raw_request.model,
        inputs=read_prompts(given, path="input"),
        dimensions=members.get("dimensions", int),
        encoding="base64" if encoding == "base64" else "float",
        extra=members.rest(),
    )


def write_embedding(call: EmbeddingRequest, attempt: Attempt) -> ProviderRequest:
    """The request body for a provider."""
    body: dict[str, Any] = {
        "model": attempt.model,
        "input": list(call.inputs),
        "encoding_format": call.encoding,
    }
    if call.dimensions is not None:
        body["dimensions"] = call.dimensions
    changes: list[Change] = []
    for name, value in call.extra.items():
        if call.dialect == DIALECT:
            body.setdefault(name, value)
        else:
            changes.append(Change("drop", name, "this dialect has no such member"))
    refused = [name for name in attempt.quirks.refuses if body.pop(name, None) is not None]
    changes += [Change("drop", name, "this service answers it with an error") for name in refused]
    return ProviderRequest(encode(body), tuple(changes))


def observe(body: bytes) -> ObservedResponse:
    """Model, usage and error of a passthrough response."""
    answer = decode_mended(body, _decode_looked)
    error = _fault(answer, body)
    if answer is None:
        return ObservedResponse(error=error)
    return ObservedResponse(answer.model, usage=of_vectors(read_usage(answer.usage)), error=error)


def read_embedded(body: bytes) -> EmbeddingResponse:
    """The vectors in the order of the inputs. Raises UpstreamBroken, or the provider's error."""
    answer = decode_mended(body, _decode_answer)
    error = _fault(answer, body)
    if error is not None or answer is None or answer.data is None:
        raise error or UpstreamBroken("The provider's answer has no vectors.")
    rows = [
        row if row.index is not None else msgspec.structs.replace(row, index=n)
        for n, row in enumerate(answer.data)
    ]
    rows.sort(key=lambda row: row.index or 0)
    vectors = tuple(row.embedding if isinstance(row.embedding, str) else tuple(row.embedding) for row in rows)
    return EmbeddingResponse(
        answer.model or "", vectors, of_vectors(read_usage(answer.usage)) or Usage(estimated=True)
    )


def _fault(answer: _Looked | _Answer | None, body: bytes) -> ModelplexError | None:
    if answer is None:
        return UpstreamBroken("The provider answered with something that is not a list of vectors.")
    if answer.error:
        return error_inside(answer.error, body=body)
    return None if answer.data else UpstreamBroken("The provider's answer has no vectors.")


def write_embedded(embedded: EmbeddingResponse, call: EmbeddingRequest, model: str) -> bytes:
    """The response body, in the encoding that the client asked for."""
    data = [
        {"object": "embedding", "index": n, "embedding": encode_vector(vector, call.encoding)}
        for n, vector in enumerate(embedded.vectors)
    ]
    usage = embedded.usage
    return encode(
        {
            "object": "list",
            "data": data,
            "model": embedded.model or model,
            "usage": {"prompt_tokens": usage.input, "total_tokens": usage.input + usage.output},
        }
    )
