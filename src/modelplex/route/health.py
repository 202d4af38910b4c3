"""A circuit breaker as a table: one Health for each provider and key, and a function that says what the next one is.

Above it stand failover, which asks whether a key may be tried, and the gateway, which keeps the values. It knows no clock.

    state        a success      a failure                        time
    closed       closed         counted; open at the limit       -
    open         (not tried)    (not tried)                      half_open once the cooldown is over
    half_open    closed         open again                       -

In half_open one call at a time is let through, as a probe. What the caller did wrong is a success: the provider answered.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from modelplex.errors import ModelplexError, RateLimited, UpstreamAuth

State = Literal["closed", "open", "half_open"]


class BreakerRules(msgspec.Struct, frozen=True):
    """`failures` in a row, each within `window` seconds of the one before, open it for `cooldown` seconds."""

    failures: int = 5
    window: float = 60.0
    cooldown: float = 30.0


class Health(msgspec.Struct, frozen=True):
    """`since` is when the state was entered, `until` when an open one may be probed; seconds of the caller's clock.
    `probing` is when the probe left that is under way, None where none is.
    """

    state: State = "closed"
    failures: int = 0
    last_failure: float = 0.0
    since: float = 0.0
    until: float = 0.0
    probing: float | None = None
    reason: str = ""


WELL = Health()
LONGEST_REST = 86_400.0
"""Seconds for which a provider is left alone at most, whatever it asks for: limits are by the day at longest, and some send nonsense."""
FORBIDDEN = 403
"""Often one model that this key may not use: it says nothing of the key's other models, nor of the provider's health."""
PROBE_PATIENCE = 120.0
"""Seconds after which a probe that was never heard of again no longer keeps others away (its client hung up, say)."""


def may_try(health: Health, *, now: float) -> bool:
    if health.state == "closed":
        return True
    if now < health.until:
        return False
    return health.probing is None or now - health.probing > PROBE_PATIENCE


def before(health: Health, *, now: float) -> Health:
    """What it is once a call has been let through."""
    if health.state == "closed":
        return health
    return msgspec.structs.replace(
        health, state="half_open", since=now if health.state == "open" else health.since, probing=now
    )


def after(health: Health, error: ModelplexError | None, *, now: float, rules: BreakerRules) -> Health:
    """What it is once the call's outcome is known. `error` is None for an answer."""
    if error is not None and error.upstream_status == FORBIDDEN:
        return forgotten(health)
    if error is None or error.blame != "provider":
        return WELL if health.failures or health.state != "closed" else health
    wait = _rest(error, rules)
    in_a_row = health.failures + 1 if now - health.last_failure <= rules.window else 1
    if health.state != "closed" or in_a_row >= rules.failures or _opens_at_once(error):
        return Health("open", in_a_row, now, since=now, until=now + wait, reason=error.message)
    return Health("closed", in_a_row, now, since=health.since, reason=error.message)


def forgotten(health: Health) -> Health:
    """The call ended without saying anything of the provider: its caller hung up."""
    return msgspec.structs.replace(health, probing=None) if health.probing is not None else health


def _opens_at_once(error: ModelplexError) -> bool:
    """A rejected key stays rejected, and a provider that says how long to wait means it. A 429 without that is about one request (R29)."""
    return isinstance(error, UpstreamAuth) or (
        isinstance(error, RateLimited) and error.retry_after is not None
    )


def _rest(error: ModelplexError, rules: BreakerRules) -> float:
    if isinstance(error, RateLimited) and error.retry_after is not None:
        return min(error.retry_after, LONGEST_REST)
    return rules.cooldown
