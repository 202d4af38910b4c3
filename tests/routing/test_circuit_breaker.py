"""The breaker's table."""

from hypothesis import given
from hypothesis import strategies as st

from modelplex.core.errors import BadRequest, Overloaded, RateLimited, UpstreamAuth, UpstreamBroken
from modelplex.routing.circuit_breaker import (
    PROBE_PATIENCE,
    WELL,
    BreakerRules,
    CircuitState,
    after,
    before,
    forgotten,
    may_try,
)

RULES = BreakerRules(failures=3, window=60, cooldown=30)
BROKEN = UpstreamBroken("gone")


def broken(times: int, *, step: float = 1.0) -> tuple[CircuitState, float]:
    health, now = WELL, 100.0
    for _ in range(times):
        health = after(health, BROKEN, now=now, rules=RULES)
        now += step
    return health, now - step


def test_failures_in_a_row_open_it_and_the_reason_is_kept() -> None:
    health, now = broken(3)
    assert (health.state, health.reason) == ("open", "gone")
    assert not may_try(health, now=now + 29.9)
    assert may_try(health, now=now + 30)


def test_two_failures_leave_it_closed_and_a_success_forgets_them() -> None:
    health, now = broken(2)
    assert health.state == "closed"
    assert after(health, None, now=now, rules=RULES) == WELL


def test_failures_that_lie_far_apart_do_not_count_together() -> None:
    health, _ = broken(10, step=61)
    assert health.state == "closed"


def test_in_half_open_one_probe_is_let_through_and_decides() -> None:
    health, now = broken(3)
    probed = before(health, now=now + 31)
    assert probed.state == "half_open"
    assert not may_try(probed, now=now + 32)
    assert after(probed, None, now=now + 33, rules=RULES) == WELL
    assert after(probed, BROKEN, now=now + 33, rules=RULES).state == "open"


def test_a_probe_whose_caller_hung_up_lets_the_next_one_go() -> None:
    health, now = broken(3)
    probed = before(health, now=now + 31)
    assert may_try(forgotten(probed), now=now + 32)
    assert may_try(probed, now=now + 32 + PROBE_PATIENCE)


def test_what_the_caller_did_wrong_is_neither_failure_nor_success() -> None:
    health, now = broken(2)
    assert after(health, BadRequest("no"), now=now, rules=RULES) == health
    health, now = broken(3)
    probed = before(health, now=now + 31)
    assert after(probed, BadRequest("no"), now=now + 32, rules=RULES) == forgotten(probed)


def test_a_rejected_key_opens_at_once() -> None:
    assert after(WELL, UpstreamAuth("no"), now=1, rules=RULES).state == "open"


def test_a_limit_that_names_its_time_is_honoured_and_one_that_does_not_cools_nothing_down() -> None:
    told = after(WELL, RateLimited("slow", retry_after=7), now=1, rules=RULES)
    assert (told.state, told.until) == ("open", 8)
    assert after(WELL, RateLimited("slow"), now=1, rules=RULES).state == "closed"


def test_a_closed_breaker_is_not_touched_by_a_call() -> None:
    assert before(WELL, now=5) is WELL
    assert after(WELL, None, now=5, rules=RULES) is WELL


@given(
    st.lists(st.tuples(st.sampled_from([None, BROKEN, Overloaded("busy")]), st.floats(0, 40)), max_size=40)
)
def test_whatever_happens_it_is_tried_again_at_some_time(
    story: list[tuple[UpstreamBroken | None, float]],
) -> None:
    health, now = WELL, 0.0
    for error, wait in story:
        now += wait
        if may_try(health, now=now):
            health = after(before(health, now=now), error, now=now, rules=RULES)
    assert may_try(health, now=now + RULES.cooldown + PROBE_PATIENCE + 1)


def test_a_model_that_a_key_may_not_use_says_nothing_of_the_others() -> None:
    health, now = broken(2)
    assert after(health, UpstreamAuth("not this model", upstream_status=403), now=now, rules=RULES) == health
    assert after(WELL, UpstreamAuth("not this model", upstream_status=403), now=now, rules=RULES) is WELL
