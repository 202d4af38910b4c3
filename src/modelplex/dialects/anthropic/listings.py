"""The small answers of Anthropic's form: the list of models, one model, and a count of tokens.

Above it stands `anthropic_messages`; below it msgspec. Source: Anthropic's API reference; the
members are those that the SDK's types insist on.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.core.errors import UpstreamBroken

UNKNOWN_DATE = "1970-01-01T00:00:00Z"
"""What the reference says where a model's date is not known."""

_encode = msgspec.json.Encoder().encode


class _Count(msgspec.Struct):
    input_tokens: int


_decode_count = msgspec.json.Decoder(_Count).decode


def write_models(known: Mapping[str, str]) -> bytes:
    """`GET /v1/models`, all on one page. `known` maps a model's name to who serves it."""
    names = list(known)
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
    """`POST /v1/messages/count_tokens`. A count that nobody made says so, in a member that clients
    pass over (R55).
    """
    return _encode({"input_tokens": tokens, "estimated": True} if estimated else {"input_tokens": tokens})


def read_count(body: bytes) -> int:
    """What a provider counted. Raises UpstreamBroken."""
    try:
        return _decode_count(body).input_tokens
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UpstreamBroken(f"The provider's count of tokens is not what it should be: {error}") from error
