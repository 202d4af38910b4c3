"""Reads the token counts of Converse.

`inputTokens` counts what was neither read from a cache nor written to it
(https://github.com/anomalyco/opencode/pull/38427), and `cacheDetails` what was written by how long
it lives (CacheDetail of botocore 1.44.8, bedrock-runtime). Imports no dialect.
"""

from __future__ import annotations

import msgspec

from modelplex.core.events import Usage
from modelplex.dialects.core.usage import count

MAX_DETAILS = 16
"""Entries of `cacheDetails` that are read: there are two lifetimes."""


class _CacheDetail(msgspec.Struct, rename="camel", gc=False):
    ttl: str = ""
    input_tokens: float | None = None


class ConverseUsage(msgspec.Struct, rename="camel", gc=False):
    input_tokens: float | None = None
    output_tokens: float | None = None
    total_tokens: float | None = None
    cache_read_input_tokens: float | None = None
    cache_write_input_tokens: float | None = None
    cache_details: list[_CacheDetail] | None = None


def read_usage(given: ConverseUsage | None) -> Usage | None:
    """The counts; None where there are none. Where the total is above the sum, the rest is
    output.
    """
    if given is None or (given.input_tokens is None and given.output_tokens is None):
        return None
    fresh, read = count(given.input_tokens), count(given.cache_read_input_tokens)
    long = sum(
        count(each.input_tokens) for each in (given.cache_details or ())[:MAX_DETAILS] if each.ttl == "1h"
    )
    written = max(count(given.cache_write_input_tokens), long)
    output = max(count(given.output_tokens), count(given.total_tokens) - fresh - read - written)
    return Usage(fresh=fresh, cache_read=read, cache_write=written, cache_write_1h=long, output=output)
