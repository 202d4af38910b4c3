"""Each sentence about refused betas is read, and takes out what it names."""

from __future__ import annotations

import json

import pytest

from modelplex.core.errors import OVERFLOW, BadRequest, RateLimited, UpstreamReply
from modelplex.dialects.anthropic.dialect import read_error
from modelplex.dialects.anthropic.refused_betas import SAYINGS, BetaSaying, refused_betas

BETAS = (b"context-1m-2025-08-07", b"prompt-caching-scope-2026-01-05", b"claude-code-20250219")
SENT = ((b"anthropic-version", b"2023-06-01"), (b"anthropic-beta", b", ".join(BETAS)))
TAKEN_OUT = {None: BETAS[1:2], "": BETAS, "context-1m-": BETAS[:1]}
"""By `beta` of a saying."""


@pytest.mark.parametrize("saying", SAYINGS, ids=lambda each: each.said[:30])
def test_each_saying_takes_out_what_it_is_about(saying: BetaSaying) -> None:
    error = BadRequest(saying.said, upstream=UpstreamReply(status=400))
    assert refused_betas(error, SENT) == tuple((b"anthropic-beta", beta) for beta in TAKEN_OUT[saying.beta])
    assert saying.source.startswith("https://")


def test_another_error_takes_out_nothing() -> None:
    assert refused_betas(BadRequest("max_tokens: wrong", upstream=UpstreamReply(status=400)), SENT) == ()
    assert refused_betas(RateLimited("invalid beta flag", upstream=UpstreamReply(status=429)), SENT) == ()
    assert refused_betas(BadRequest("invalid beta flag", upstream=UpstreamReply(status=404)), SENT) == ()


@pytest.mark.parametrize(
    "message",
    [
        "Extra usage is required for long context requests.",
        "Usage credits are required for long context requests.",
    ],
)
def test_a_plan_without_long_context_is_a_rule_of_this_request(message: str) -> None:
    """A 429 rate_limit_error: https://github.com/anthropics/claude-code/issues/42616"""
    body = json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": message}}).encode()
    error = read_error(429, {"retry-after": "3000"}, body)
    assert (type(error), error.status, error.code, error.retry_after, error.blame, error.upstream.status) == (
        BadRequest,
        400,
        OVERFLOW,
        None,
        "client",
        429,
    )


def test_a_rate_of_anthropic_stays_one() -> None:
    said = "This request would exceed your organization's rate limit of 30,000 input tokens per minute"
    body = json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": said}}).encode()
    assert type(read_error(429, {"retry-after": "30"}, body)) is RateLimited
