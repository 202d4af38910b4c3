"""OpenAI's usage object, read and written. The same shape serves chat, completions and embeddings.

Above it stand the OpenAI dialects; below it the event vocabulary. What a provider counted is never counted again (wires.md R14): its object
rides along and goes back as it came.
"""

from __future__ import annotations

import msgspec

from modelplex.event import Usage
from modelplex.wire._openai_json import MALFORMED, encode, is_given

RAW_OF = "openai_chat"
"""The dialect that `Usage.raw` is in, where it came from here."""

_Count = int | float | None


class _In(msgspec.Struct):
    cached_tokens: _Count = None
    cache_write_tokens: _Count = None


class _Out(msgspec.Struct):
    reasoning_tokens: _Count = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    total_tokens: _Count = None
    prompt_tokens_details: _In | None = None
    completion_tokens_details: _Out | None = None
    prompt_cache_hit_tokens: _Count = None
    """DeepSeek's name for cached tokens."""


_decode = msgspec.json.Decoder(_Usage).decode


def read_usage(raw: msgspec.Raw) -> Usage | None:
    """The counts, or None where the object is absent, null or not one of counts."""
    if not is_given(raw):
        return None
    try:
        seen = _decode(raw)
    except MALFORMED:
        return None
    details = seen.prompt_tokens_details or _In()
    cached = int(details.cached_tokens or seen.prompt_cache_hit_tokens or 0)
    written = int(details.cache_write_tokens or 0)
    out = seen.completion_tokens_details
    # A client's typed usage needs all three counts; an object that lacks one is written anew from what is known.
    whole = isinstance(seen.prompt_tokens, int) and isinstance(seen.total_tokens, int)
    return Usage(
        fresh=max(0, int(seen.prompt_tokens or 0) - cached - written),
        cache_read=cached,
        cache_write=written,
        output=int(seen.completion_tokens or 0),
        reasoning=int((out.reasoning_tokens if out else 0) or 0),
        raw=msgspec.Raw(bytes(raw)) if whole and isinstance(seen.completion_tokens, int) else None,
        raw_of=RAW_OF if whole and isinstance(seen.completion_tokens, int) else None,
    )


def write_usage(usage: Usage) -> msgspec.Raw:
    """The usage object of chat and completions."""
    if usage.raw is not None and usage.raw_of == RAW_OF:
        return usage.raw
    return msgspec.Raw(
        encode(
            {
                "prompt_tokens": usage.input,
                "completion_tokens": usage.output,
                "total_tokens": usage.input + usage.output,
                "prompt_tokens_details": {
                    "cached_tokens": usage.cache_read,
                    "cache_write_tokens": usage.cache_write,
                },
                "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
            }
        )
    )
