"""Reads from a provider's error which values of `anthropic-beta` it does not take.

A request is asked once more without them, as without a refused parameter: a beta that only shapes
the answer is then off, and one that the body needs fails by the body's own member. Imports no other
dialect.
"""

from __future__ import annotations

import re

import msgspec

from modelplex.core.errors import ClientError, ModelplexError
from modelplex.dialects.anthropic.betas import BETA_HEADER
from modelplex.dialects.core.context_overflow import LONGEST
from modelplex.dialects.dialect import Headers

STATUSES = frozenset({400, 422, 429})


class BetaSaying(msgspec.Struct, frozen=True, gc=False):
    """What a service says. The refused betas are those that begin with `beta`; where it is None,
    those that the message names in the group `names`.
    """

    phrase: re.Pattern[str]
    said: str
    source: str
    beta: str | None = None


SAYINGS = (
    BetaSaying(
        re.compile(
            r"unexpected value\(s\) (?P<names>.{1,1500}?) for the `?anthropic-beta`? header", re.IGNORECASE
        ),
        "Unexpected value(s) `prompt-caching-scope-2026-01-05`, `structured-outputs-2025-12-15` for the `anthropic-beta` header. Please consult our documentation at docs.anthropic.com or try again without the header.",
        "https://github.com/QuantumNous/new-api/issues/2975",
    ),
    BetaSaying(
        re.compile(r"invalid beta flag", re.IGNORECASE),  # Bedrock's, which names none
        "invalid beta flag",
        "https://github.com/anthropics/claude-code/issues/49648",
        "",
    ),
    BetaSaying(
        re.compile(r"(?:extra usage is|usage credits are) required for long context", re.IGNORECASE),
        "Usage credits are required for long context requests.",
        "https://github.com/griffinmartin/opencode-claude-auth/issues/209",
        "context-1m-",
    ),
    BetaSaying(
        re.compile(r"long context beta is not yet available", re.IGNORECASE),
        "The long context beta is not yet available for this subscription.",
        "https://github.com/anthropics/claude-code/issues/27944",
        "context-1m-",
    ),
)
"""Read on 2026-12-02. Accounts without the 1M context answer without `context-1m-` up to 200,000
tokens, and refuse more as "prompt is too long", after which agents compact.
"""


def refused_betas(error: ModelplexError, headers: Headers) -> Headers:
    """The betas of `headers`, which were sent, that the error refuses: a header for each."""
    if error.upstream.status not in STATUSES or not isinstance(error, ClientError):
        return ()
    message = error.message[:LONGEST]
    found = next(((each, match) for each in SAYINGS if (match := each.phrase.search(message))), None)
    if found is None:
        return ()
    saying, match = found
    named = None if saying.beta is not None else frozenset(re.findall(r"[\w-]+", match["names"]))
    return tuple(
        (name, beta)
        for name, value in headers
        if name == BETA_HEADER
        for beta in (each.strip() for each in value.split(b","))
        if beta
        and (
            beta.decode("latin-1") in named
            if named is not None
            else beta.startswith((saying.beta or "").encode())
        )
    )
