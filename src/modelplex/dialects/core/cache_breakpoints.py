"""Writes OpenAI's `prompt_cache_breakpoint`, for the models that take one.

GPT-5.6 and newer take it (https://platform.openai.com/docs/guides/prompt-caching); others answer a
member that they do not know with an error (https://github.com/charmbracelet/crush/issues/1590).
Imports no dialect.
"""

from __future__ import annotations

import re
from typing import Any

from modelplex.core.request import Attempt, BasePart, CacheBreakpoint

MEMBER = "prompt_cache_breakpoint"
SINCE = (5, 6)
"""The first GPT version that takes breakpoints."""
_VERSION = re.compile(r"(?:^|/)gpt-(\d+)(?:\.(\d+))?(?![\d.])")
_LIFETIMES = {"1h": "12h", "30m": "30m", "12h": "12h"}
"""By the lifetime that the client gave; "5m" and none become the service's own default of 30m
(docs/reference/translation.md#caching-identity-and-tier).
"""


def takes_breakpoints(attempt: Attempt) -> bool:
    found = _VERSION.search(attempt.model) if attempt.quirks.cache_breakpoints else None
    return found is not None and (int(found[1]), int(found[2] or 0)) >= SINCE


def breakpoint_of(
    cache: CacheBreakpoint, part: BasePart, attempt: Attempt, *, native: bool
) -> dict[str, Any] | None:
    """The value of MEMBER; None where it may not be sent. `native`: a client of the provider's own
    dialect; what it calls by this name is its own affair.
    """
    if native and part.at.members.get("cache") == MEMBER:
        ttl = cache.ttl
    elif takes_breakpoints(attempt):
        ttl = _LIFETIMES.get(cache.ttl or "")
    else:
        return None
    return {"mode": "explicit"} if ttl is None else {"mode": "explicit", "ttl": ttl}
