"""Reads and writes OpenAI's usage object, which chat, completions and embeddings share.

The provider's usage object is kept and returned unchanged to a client of the same dialect
(docs/reference/translation.md#r14).
"""

from __future__ import annotations

import msgspec

from modelplex.core.events import Usage
from modelplex.dialects.core.json import MALFORMED, encode
from modelplex.dialects.core.usage import MOST_TOKENS, count, counted

RAW_OF = "openai_chat"
"""The dialect that `Usage.raw` is in, where it came from here."""

_Count = int | float | None


class _In(msgspec.Struct, gc=False):
    cached_tokens: _Count = None
    cache_write_tokens: _Count = None
    audio_tokens: _Count = None
    image_tokens: _Count = None


class _Out(msgspec.Struct, gc=False):
    """Rejected predictions are part of `completion_tokens`, as reasoning is at OpenAI."""

    reasoning_tokens: _Count = None
    audio_tokens: _Count = None
    image_tokens: _Count = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    total_tokens: _Count = None
    prompt_tokens_details: _In | None = None
    completion_tokens_details: _Out | None = None
    prompt_cache_hit_tokens: _Count = None
    """DeepSeek's name for cached tokens: https://api-docs.deepseek.com/guides/kv_cache."""
    cached_tokens: _Count = None
    """Moonshot's: https://platform.kimi.ai/docs/api/chat."""


_decode = msgspec.json.Decoder(_Usage).decode
_NOTHING = frozenset({b"", b"null"})


def read_usage(raw: msgspec.Raw) -> Usage | None:
    """The counts, or None where the object is absent, null or not one of counts."""
    written = bytes(raw)
    if written in _NOTHING:
        return None
    try:
        seen = _decode(written)
    except MALFORMED:
        return None
    details, out = seen.prompt_tokens_details, seen.completion_tokens_details
    if (
        not (
            details is not None
            and (
                details.cached_tokens
                or details.cache_write_tokens
                or details.audio_tokens
                or details.image_tokens
            )
        )
        and not (out is not None and (out.reasoning_tokens or out.audio_tokens or out.image_tokens))
        and not (seen.prompt_cache_hit_tokens or seen.cached_tokens)
        and isinstance(given := seen.prompt_tokens, int)
        and isinstance(output := seen.completion_tokens, int)
        and given >= 0 <= output
        and given + output == seen.total_tokens
        and given + output <= MOST_TOKENS
    ):
        return Usage(fresh=given, output=output, raw=written, raw_of=RAW_OF)
    details, out = details or _In(), out or _Out()
    cached = count(details.cached_tokens or seen.prompt_cache_hit_tokens or seen.cached_tokens)
    cache_write = count(details.cache_write_tokens)
    given, output = counted(
        given=seen.prompt_tokens,
        written=seen.completion_tokens,
        total=seen.total_tokens,
        apart=out.reasoning_tokens,
    )
    # A client's typed usage needs all three counts; an object that lacks one is written anew from
    # what is known.
    whole = isinstance(seen.prompt_tokens, int) and isinstance(seen.total_tokens, int)
    return Usage(
        fresh=max(0, given - cached - cache_write),
        cache_read=cached,
        cache_write=cache_write,
        output=output,
        reasoning=count(out.reasoning_tokens),
        input_audio=count(details.audio_tokens),
        input_image=count(details.image_tokens),
        output_audio=count(out.audio_tokens),
        output_image=count(out.image_tokens),
        raw=written if whole and isinstance(seen.completion_tokens, int) else None,
        raw_of=RAW_OF if whole and isinstance(seen.completion_tokens, int) else None,
    )


def write_usage(usage: Usage) -> msgspec.Raw:
    """The usage object of chat and completions."""
    if usage.raw is not None and usage.raw_of == RAW_OF:
        return msgspec.Raw(usage.raw)
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
