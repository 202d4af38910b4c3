"""Reads and writes the usage object of the Responses API.

The provider's usage object is kept and returned unchanged to a client of the same dialect
(docs/reference/translation.md#r14).
"""

from __future__ import annotations

import msgspec

from modelplex.core.events import Usage
from modelplex.dialects.core.json import MALFORMED, encode, is_given
from modelplex.dialects.core.usage import count, counted
from modelplex.dialects.openai_responses.constants import DIALECT

_Count = int | float | None


class _In(msgspec.Struct, gc=False):
    cached_tokens: _Count = None
    cache_write_tokens: _Count = None


class _Out(msgspec.Struct, gc=False):
    reasoning_tokens: _Count = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: _Count = None
    output_tokens: _Count = None
    total_tokens: _Count = None
    input_tokens_details: _In | None = None
    output_tokens_details: _Out | None = None


_decode = msgspec.json.Decoder(_Usage).decode


def read_usage(raw: msgspec.Raw) -> Usage | None:
    """The counts, or None where the object is absent, null or not one of counts."""
    if not is_given(raw):
        return None
    try:
        seen = _decode(raw)
    except MALFORMED:
        return None
    given, out = seen.input_tokens_details, seen.output_tokens_details
    cached, written = (count(given.cached_tokens), count(given.cache_write_tokens)) if given else (0, 0)
    reasoning = count(out.reasoning_tokens) if out else 0
    read, wrote = counted(
        given=seen.input_tokens, written=seen.output_tokens, total=seen.total_tokens, apart=reasoning
    )
    return Usage(
        fresh=max(0, read - cached - written),
        cache_read=cached,
        cache_write=written,
        output=wrote,
        reasoning=reasoning,
        raw=bytes(raw) if _is_whole(seen) else None,
        raw_of=DIALECT if _is_whole(seen) else None,
    )


def _is_whole(seen: _Usage) -> bool:
    """Whether a client's typed usage takes it; an object that lacks a count is written anew from
    what is known.
    """
    given, out = seen.input_tokens_details, seen.output_tokens_details
    counts = [seen.input_tokens, seen.output_tokens, seen.total_tokens]
    counts += [given.cached_tokens, given.cache_write_tokens] if given else [None]
    counts += [out.reasoning_tokens] if out else [None]
    return all(isinstance(count, int) for count in counts)


def write_usage(usage: Usage) -> msgspec.Raw:
    """The usage object of a response."""
    if usage.raw is not None and usage.raw_of == DIALECT:
        return msgspec.Raw(usage.raw)
    return msgspec.Raw(
        encode(
            {
                "input_tokens": usage.input,
                "input_tokens_details": {
                    "cached_tokens": usage.cache_read,
                    "cache_write_tokens": usage.cache_write,
                },
                "output_tokens": usage.output,
                "output_tokens_details": {"reasoning_tokens": usage.reasoning},
                "total_tokens": usage.input + usage.output,
            }
        )
    )
