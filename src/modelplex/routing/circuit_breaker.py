"""The circuit breaker as a table: the health signal of a failure, and the next state.

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

from modelplex.core.errors import ModelplexError, Overloaded, QuotaExceeded, RateLimited, UpstreamAuth

State = Literal["closed", "open", "half_open"]
Scope = Literal["provider", "key", "operation"]
"""What a failure concerns: the address, the account of a key, or one operation with one model."""


class BreakerRules(msgspec.Struct, frozen=True):
    """`failures` in a row, each within `window` seconds of the previous one, open the circuit for
    `cooldown` seconds.
    """

    failures: int = 5
    window: float = 60.0
    cooldown: float = 30.0


class CircuitState(msgspec.Struct, frozen=True):
    """Times are seconds of the caller's clock.

    since         when the state was entered
    until         when an open circuit may be probed
    probing       when the current probe began, None if there is none
    is_requested  the provider requested the wait
    at_once       one failure opened the circuit
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
"""The longest wait in seconds, whatever a provider requests: rate limits last a day at most, and
some providers send nonsense.
"""
PROBE_TIMEOUT = 120.0
"""Seconds after which a probe without an outcome no longer blocks the next one."""
FORBIDDEN = 403
"""Often this key may not use one model or one content: no signal about other models or the
provider.
"""
NO_SUCH_OPERATION = frozenset({404, 405, 501})
"""The endpoint does not exist, for any caller. No signal about the provider's other endpoints."""
KEY_REJECTED = frozenset({"invalid_api_key", "authentication_error", "UNAUTHENTICATED", "API_KEY_INVALID", "invalid_authentication_error", "account_deactivated"})  # fmt: skip
"""Codes and types that reject the key itself. A bare 401 may concern one operation (OpenAI's
`missing_scope`) or the backend of one model (at a router), and opens only that circuit.
"""
ACCOUNT_EXHAUSTED = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_error", "billing_not_active", "account_overdue", "access_terminated"})  # fmt: skip
"""Codes and types of an account without credit, for all models."""
PAYMENT_REQUIRED = 402
REQUEST_ERRORS = (
    *("request too large", "prompt is too long"),
    *("context length", "context_length", "context size", "context window", "exceeds the context"),
    *("content policy", "content_policy", "content_filter", "cyber_policy"),
)
"""Texts of errors about one request, whatever their status: it exceeds the limit of a minute (429)
or the context (500 from some servers), or its content is not allowed.
"""


class HealthSignal(msgspec.Struct, frozen=True):
    """What a failure says about the provider's health.

    at_once  one failure opens the circuit, since a retry within `wait` cannot succeed
    wait     seconds that the provider requested; None if it requested none
    """

    scope: Scope
    reason: str
    at_once: bool = False
    wait: float | None = None


def health_signal(error: ModelplexError) -> HealthSignal | None:
    """None if the error says nothing about the provider's health."""
    if error.blame != "provider" or error.signal == "none":
        return None
    if error.signal == "unsent":
        return HealthSignal("provider", error.message)
    if isinstance(error, UpstreamAuth):
        return _key_signal(error)
    message = f"{error.message} {error.upstream.code}".lower()
    if error.upstream.status in NO_SUCH_OPERATION or any(text in message for text in REQUEST_ERRORS):
        return None
    wait = None if error.retry_after is None else min(max(error.retry_after, 0.0), MAX_WAIT)
    if isinstance(error, QuotaExceeded):
        return HealthSignal("key", error.message, at_once=True, wait=wait)
    if isinstance(error, RateLimited) and {error.upstream.code, error.upstream.type} & ACCOUNT_EXHAUSTED:
        return HealthSignal("key", error.message, at_once=True, wait=wait)
    if wait is not None and isinstance(error, RateLimited | Overloaded):
        return HealthSignal("operation", error.message, at_once=True, wait=wait)
    return HealthSignal("operation", error.message)


def _key_signal(error: UpstreamAuth) -> HealthSignal | None:
    codes = {error.upstream.code, error.upstream.type}
    if error.upstream.status == PAYMENT_REQUIRED or codes & ACCOUNT_EXHAUSTED:
        return HealthSignal("key", error.message, at_once=True)
    if error.upstream.status == FORBIDDEN:
        return None
    return HealthSignal("key" if codes & KEY_REJECTED else "operation", error.message, at_once=True)


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
