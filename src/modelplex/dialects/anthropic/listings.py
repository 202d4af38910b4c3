"""Writes and reads Anthropic's list of models, a model, and a token count.

Source: Anthropic's API reference; the members are those that the SDK's types require. Imports no
other dialect.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.core.errors import UpstreamBroken

UNKNOWN_DATE = "1970-01-01T00:00:00Z"
"""The reference's value for an unknown date."""

_encode = msgspec.json.Encoder().encode


class _Count(msgspec.Struct, gc=False):
    input_tokens: int


_decode_count = msgspec.json.Decoder(_Count).decode


def write_models(models: Mapping[str, str]) -> bytes:
    """`GET /v1/models`, all on one page. `models` maps names to the providers that serve them."""
    names = list(models)
    page = {
        "data": [_model(name) for name in names],
        "has_more": False,
        "first_id": names[0] if names else None,
        "last_id": names[-1] if names else None,
    }
    return _encode(page)


def write_model(name: str) -> bytes:
    """`GET /v1/models/{id}`."""
    return _encode(_model(name))


def _model(name: str) -> dict[str, str]:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": UNKNOWN_DATE,
        "lifecycle": "active",
    }


def write_count(tokens: int, *, estimated: bool) -> bytes:
    """`POST /v1/messages/count_tokens`. An estimate is marked in a member that clients ignore
    (R55).
    """
    return _encode({"input_tokens": tokens, "estimated": True} if estimated else {"input_tokens": tokens})


def read_count(body: bytes) -> int:
    """The count of a provider. Raises UpstreamBroken."""
    try:
        return _decode_count(body).input_tokens
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UpstreamBroken(f"The provider's count of tokens has an unexpected form: {error}") from error
