"""The health signal of a failure, and the state after it."""

import pytest

from modelplex.core.errors import (
    BadRequest,
    ModelplexError,
    QuotaExceeded,
    RateLimited,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamReply,
)
from modelplex.routing.circuit_breaker import (
    HEALTHY,
    MAX_WAIT,
    BreakerRules,
    CircuitState,
    HealthSignal,
    after_failure,
    health_signal,
)

RULES = BreakerRules(failures=3, window=60, cooldown=30)
BROKEN = UpstreamBroken("gone")


def after(error: ModelplexError, health: CircuitState = HEALTHY, *, now: float = 1.0) -> CircuitState:
    signal = health_signal(error)
    assert signal is not None
    return after_failure(health, signal, now=now, rules=RULES)


def broken(times: int, *, step: float = 1.0) -> CircuitState:
    health = HEALTHY
    for number in range(times):
        health = after(BROKEN, health, now=100.0 + number * step)
    return health


def test_failures_in_a_row_open_it_for_the_cooldown_and_the_reason_is_kept() -> None:
    assert broken(2).state == "closed"
    health = broken(3)
    assert (health.state, health.reason, health.since, health.until) == ("open", "gone", 102.0, 132.0)


def test_failures_that_lie_far_apart_do_not_count_together() -> None:
    health = broken(10, step=61)
    assert (health.state, health.failures) == ("closed", 1)


def test_a_failure_in_half_open_opens_it_again() -> None:
    probed = CircuitState("half_open", failures=3, since=131.0, probing=131.0)
    again = after(BROKEN, probed, now=200.0)
    assert (again.state, again.until, again.probing) == ("open", 230.0, None)


@pytest.mark.parametrize(
    "error",
    [BadRequest("no"), UpstreamAuth("not this model", upstream=UpstreamReply(status=403)), UpstreamBroken("no", upstream=UpstreamReply(status=404))],
)  # fmt: skip
def test_a_failure_that_is_not_the_providers_has_no_signal(error: ModelplexError) -> None:
    assert health_signal(error) is None


def test_a_rejected_key_opens_at_once() -> None:
    assert after(UpstreamAuth("no")).state == "open"
    assert health_signal(UpstreamAuth("no", upstream=UpstreamReply(code="invalid_api_key"))) == HealthSignal(
        "key", "no", at_once=True
    )


def test_a_used_up_quota_closes_the_key_until_its_reset() -> None:
    health = after(QuotaExceeded("used up", retry_after=3600.0), now=10.0)
    assert (health.state, health.until, health.is_requested) == ("open", 3610.0, True)
    signal = health_signal(QuotaExceeded("used up"))
    assert signal is not None
    assert (signal.scope, signal.at_once) == ("key", True)


def test_a_rate_limit_with_a_wait_opens_for_that_wait_and_one_without_counts_as_a_failure() -> None:
    limited = after(RateLimited("slow", retry_after=7))
    assert (limited.state, limited.until, limited.is_requested) == ("open", 8.0, True)
    assert after(RateLimited("slow", retry_after=1e9)).until == 1.0 + MAX_WAIT
    assert after(RateLimited("slow")).state == "closed"
