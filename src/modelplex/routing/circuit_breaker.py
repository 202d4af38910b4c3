"""The circuit breaker as a table: the health signal of a failure, and the next CircuitState.

The caller passes the time; `circuits` keeps one CircuitState for each circuit and caller.

    state        a success      a failure                        time
    closed       closed         counted; open at the limit       -
    open         (not tried)    (not tried)                      half_open once the cooldown is over
    half_open    closed         open again                       -

A failure without a health signal (the request was at fault, the operation does not exist, the
caller hung up) ends its probe and changes nothing else.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from modelplex.core.errors import ModelplexError, Overloaded, RateLimited, UpstreamAuth

State = Literal["closed", "open", "half_open"]
Scope = Literal["provider", "key", "operation"]
"""What a failure is about: the address, the account behind a key, or one operation with one model.
"""


class BreakerRules(msgspec.Struct, frozen=True):
    """`failures` in a row, each within `window` seconds of the one before, open it for `cooldown`
    seconds.
    """

    failures: int = 5
    window: float = 60.0
    cooldown: float = 30.0


class CircuitState(msgspec.Struct, frozen=True):
    """`since` is when the state was entered, `until` when an open one may be probed; seconds of the
    caller's clock. `probing` is when the probe left that is under way, None where none is.
    `is_requested`: the provider itself said how long to wait. `at_once`: one failure opened it.
    """

    state: State = "closed"
    failures: int = 0
    last_failure: float = 0.0
    since: float = 0.0
    until: float = 0.0
    probing: float | None = None
    reason: str = ""
    is_requested: bool = False
    at_once: bool = False


HEALTHY = CircuitState()
MAX_WAIT = 86_400.0
"""Seconds for which a provider is left alone at most, whatever it asks for: limits are by the day
at longest, and some send nonsense.
"""
PROBE_TIMEOUT = 120.0
"""Seconds after which a probe that was never heard of again no longer keeps others away."""
FORBIDDEN = 403
"""Often one model or one content that this key may not use: it says nothing of the key's other
models, nor of the provider's health.
"""
NO_SUCH_OPERATION = frozenset({404, 405, 501})
"""The endpoint or its route is missing. That is so for whoever asks for it, and the provider's
other endpoints are none the worse.
"""
KEY_REJECTED = frozenset({"invalid_api_key", "authentication_error", "UNAUTHENTICATED", "API_KEY_INVALID", "invalid_authentication_error", "account_deactivated"})  # fmt: skip
"""Codes and types by which a provider says that the key itself is refused. A bare 401 may be about
one operation (OpenAI's `missing_scope`) or one model's own backend (a router's), so that it closes
no more than that.
"""
ACCOUNT_EXHAUSTED = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_error", "billing_not_active", "account_overdue", "access_terminated"})  # fmt: skip
"""Codes and types of an account that has nothing left to spend, whatever the model."""
PAYMENT_REQUIRED = 402
REQUEST_ERRORS = (
    *("request too large", "prompt is too long"),
    *("context length", "context_length", "context size", "context window", "exceeds the context"),
    *("content policy", "content_policy", "content_filter", "cyber_policy"),
)
"""What is said of one request alone, whatever its status: it is larger than the limit of a whole
minute (429), or than the context (500 from some servers), or not allowed.
"""


class HealthSignal(msgspec.Struct, frozen=True):
    """What a failure says of the provider. `at_once`: one is enough, since asking again cannot help
    before `wait` is over. `wait` is the provider's own word, in seconds; None where it gave none.
    """

    scope: Scope
    reason: str
    at_once: bool = False
    wait: float | None = None


def health_signal(error: ModelplexError) -> HealthSignal | None:
    """None where it says nothing of the provider's health."""
    if error.blame != "provider" or error.signal == "none":
        return None
    if error.signal == "unsent":
        return HealthSignal("provider", error.message)
    if isinstance(error, UpstreamAuth):
        return _of_the_key(error)
    words = f"{error.message} {error.upstream_code}".lower()
    if error.upstream_status in NO_SUCH_OPERATION or any(said in words for said in REQUEST_ERRORS):
        return None
    wait = None if error.retry_after is None else min(max(error.retry_after, 0.0), MAX_WAIT)
    if isinstance(error, RateLimited) and {error.upstream_code, error.upstream_type} & ACCOUNT_EXHAUSTED:
        return HealthSignal("key", error.message, at_once=True, wait=wait)
    named = wait is not None and isinstance(error, RateLimited | Overloaded)
    return HealthSignal("operation", error.message, at_once=named, wait=wait if named else None)


def _of_the_key(error: UpstreamAuth) -> HealthSignal | None:
    said = {error.upstream_code, error.upstream_type}
    if error.upstream_status == PAYMENT_REQUIRED or said & ACCOUNT_EXHAUSTED:
        return HealthSignal("key", error.message, at_once=True)
    if error.upstream_status == FORBIDDEN:
        return None
    return HealthSignal("key" if said & KEY_REJECTED else "operation", error.message, at_once=True)


def after_failure(
    health: CircuitState, signal: HealthSignal, *, now: float, rules: BreakerRules
) -> CircuitState:
    """The state after a failure with this signal."""
    in_a_row = health.failures + 1 if now - health.last_failure <= rules.window else 1
    if health.state != "closed" or in_a_row >= rules.failures or signal.at_once:
        return opened(signal, failures=in_a_row, now=now, rules=rules)
    return CircuitState("closed", in_a_row, now, since=health.since, reason=signal.reason)


def opened(signal: HealthSignal, *, failures: int, now: float, rules: BreakerRules) -> CircuitState:
    wait = rules.cooldown if signal.wait is None else signal.wait
    return CircuitState(
        "open",
        failures,
        now,
        since=now,
        until=now + wait,
        reason=signal.reason,
        is_requested=signal.wait is not None,
        at_once=signal.at_once,
    )
