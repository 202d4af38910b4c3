"""Arithmetic on token counts, shared by the readers of usage objects.

Budgets count what is billed: where an object contradicts itself, the larger of two counts is used.
Imports no dialect.
"""

from __future__ import annotations

import json
import re
from itertools import islice

import msgspec
from msgspec.structs import replace

from modelplex.core.events import Usage

MOST_TOKENS = 2**40
"""Larger counts are an error of the provider. A year of such counts fits into SQLite's 63 bits."""


def count(value: float | None) -> int:
    """A count, never negative, so that no provider can lower what was spent."""
    return 0 if value is None else min(max(0, int(value)), MOST_TOKENS)


def counted(
    *, given: float | None, written: float | None, total: float | None, apart: float | None = None
) -> tuple[int, int]:
    """Input and output tokens of a usage object that may have a total.

    What the total has above input and output is output: xAI bills reasoning beside
    `completion_tokens` (https://docs.x.ai/docs/guides/reasoning), and so does Google's endpoint in
    OpenAI's form. `apart` is reasoning; where there is no total and it is more than the output, it
    is not part of the output. Where no input is named, it is what the total leaves.
    """
    output = count(written)
    if total is None:
        reasoning = count(apart)
        return count(given), output + reasoning if reasoning > output else output
    if given is None:
        return max(0, count(total) - output), output
    return count(given), max(output, count(total) - count(given))


def of_vectors(usage: Usage | None) -> Usage | None:
    """The usage of embeddings, which have no output: what a total has above the prompt's text is
    input as well (images).
    """
    if usage is None or not usage.output:
        return usage
    return replace(usage, fresh=usage.fresh + usage.output, output=0)


# --- responses that are not parsed

_Count = int | float | None


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count = None
    audio_tokens: _Count = None
    image_tokens: _Count = None


class _OutputDetails(msgspec.Struct, gc=False):
    image_tokens: _Count = None


class _OpaqueUsage(msgspec.Struct, gc=False):
    """Usage in responses that are not parsed: images and transcriptions name their counts as
    Responses does, rerank has a total alone (Jina, Voyage) or `meta.tokens` (Cohere).
    """

    prompt_tokens: _Count = None
    input_tokens: _Count = None
    output_tokens: _Count = None
    completion_tokens: _Count = None
    total_tokens: _Count = None
    input_tokens_details: _InputDetails | None = None
    input_token_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


MAX_USAGE_OBJECTS = 16
"""Members called `usage` that are read; a response has one or two."""
_usage_name = re.compile(rb'"(?:usage|tokens)"\s*:\s*(?=\{)')
_decode_prefix = json.JSONDecoder().raw_decode


def usage_inside(text: bytes) -> Usage | None:
    """The largest usage object in a piece of a response that is not parsed; None where there is
    none. Quotes inside strings are escaped, so only names of members are found.
    """
    found: list[Usage] = []
    for mark in islice(_usage_name.finditer(text), MAX_USAGE_OBJECTS):
        try:
            members, _ = _decode_prefix(text[mark.end() :].decode("utf-8", "replace"))
            counts = msgspec.convert(members, _OpaqueUsage)
        except (ValueError, RecursionError):
            continue
        found.append(_opaque_usage(counts))
    most = max(found, key=lambda usage: usage.input + usage.output, default=None)
    return most if most is not None and most.input + most.output else None


def _opaque_usage(counts: _OpaqueUsage) -> Usage:
    details, out = (
        counts.input_tokens_details or counts.input_token_details or _InputDetails(),
        counts.output_tokens_details,
    )
    given, output = counted(
        given=counts.prompt_tokens if counts.input_tokens is None else counts.input_tokens,
        written=counts.completion_tokens if counts.output_tokens is None else counts.output_tokens,
        total=counts.total_tokens,
    )
    cached = count(details.cached_tokens)
    return Usage(
        fresh=max(0, given - cached),
        cache_read=cached,
        output=output,
        input_audio=count(details.audio_tokens),
        input_image=count(details.image_tokens),
        output_image=count(out.image_tokens) if out else 0,
    )
