"""The members by which a provider is asked for token ids, in a body for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from modelplex.core.request import Change
from modelplex.dialects.core.json import MALFORMED, encode

REASON: Final = "[record] tokens"

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_UNSET: Final = frozenset({b"", b"null"})
_UNASKED: Final = frozenset({b"", b"null", b"false", b"0"})
_NO_TOOLS: Final = frozenset({b"", b"null", b"[]"})


class TokenMembers(msgspec.Struct, frozen=True, gc=False):
    """For a whole response, for a stream, and for a stream that may call tools. Empty where the
    server refuses all.
    """

    whole: Mapping[str, bool | int] = {}
    stream: Mapping[str, bool | int] = {}
    stream_with_tools: Mapping[str, bool | int] = {}


_IDS_AND_LOGPROBS: Final[Mapping[str, bool | int]] = {"return_token_ids": True, "logprobs": True}
_LOGPROBS: Final[Mapping[str, bool | int]] = {"logprobs": True}
_PROBS: Final[Mapping[str, bool | int]] = {"n_probs": 1}

SERVERS: Final[Mapping[str, TokenMembers]] = {
    # The ids of the prompt are in a stream's first chunk, and each chunk has its own (2026-12-01):
    # https://github.com/vllm-project/vllm vllm/entrypoints/openai/chat_completion/protocol.py
    "vllm": TokenMembers(_IDS_AND_LOGPROBS, _IDS_AND_LOGPROBS, _IDS_AND_LOGPROBS),
    # "return_token_ids is not supported with streaming on /v1/chat/completions" (2026-12-01):
    # https://github.com/sgl-project/sglang python/sglang/srt/entrypoints/openai/serving_chat.py
    "sglang": TokenMembers(_IDS_AND_LOGPROBS, _LOGPROBS, _LOGPROBS),
    # A member that the chat form does not know goes to the sampler; each entry of log probabilities
    # has the token's id. "logprobs is not supported with tools + stream" (2026-12-01):
    # https://github.com/ggml-org/llama.cpp tools/server/server-common.cpp, server-task.cpp
    "llamacpp": TokenMembers(_PROBS, _PROBS),
}
"""By the quirk `tokens`."""


class AskedTokens(msgspec.Struct, frozen=True, gc=False):
    """A body that asks for token ids. `changes` are the members that were added. `withholds`: the
    client asked for no log probabilities, so a translated response has none.
    """

    body: bytes
    changes: tuple[Change, ...]
    withholds: bool


def with_token_members(
    body: bytes, members: TokenMembers, *, stream: bool, refused: frozenset[str]
) -> AskedTokens:
    """What the client has set stays, and `refused` is not added. Other members keep their bytes."""
    try:
        given = _decode(body)
    except MALFORMED:
        return AskedTokens(body, (), withholds=False)
    wanted = members.whole
    if stream:
        has_tools = _value(given, "tools") not in _NO_TOOLS
        wanted = members.stream_with_tools if has_tools else members.stream
        if not wanted:
            reason = f"{REASON}: the provider returns none in a stream{' with tools' if has_tools else ''}"
            return AskedTokens(body, (Change("drop", "tokens", reason),), withholds=False)
    added = {
        name: msgspec.Raw(encode(value))
        for name, value in wanted.items()
        if name not in refused and _value(given, name) in _UNSET
    }
    return AskedTokens(
        encode({**given, **added}) if added else body,
        tuple(Change("add", name, REASON) for name in added),
        withholds=_value(given, "logprobs") in _UNASKED,
    )


def _value(given: dict[str, msgspec.Raw], name: str) -> bytes:
    return bytes(given[name]) if name in given else b""
