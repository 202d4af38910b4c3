"""Rates, budgets and concurrency, with the test's own clocks."""

import ast
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.config import AgentConfig, BudgetConfig, RateConfig
from modelplex.core.caller import Caller
from modelplex.core.errors import AgentLimited, BudgetExceeded
from modelplex.limits import agent_limits
from modelplex.limits.agent_limits import MERGED, MINUTE, AgentLimits, Window
from modelplex.limits.agent_usage import AgentUsage

CODER = Caller(listener="unix:/c.sock", kind="unix", agent="coder")
NOBODY = Caller(listener="unix:/m.sock", kind="unix")
JANUARY_31 = 1769850000.0  # 2026-01-31T09:00:00Z
DAY = 86_400.0


class Clocks:
    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = JANUARY_31


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def limits(clocks: Clocks, **settings: object) -> AgentLimits:
    agent = AgentConfig(name="coder", **settings)  # type: ignore[arg-type]
    return AgentLimits([agent], now=lambda: clocks.now, wall=lambda: clocks.wall)


def use(of: AgentLimits, *, tokens: int = 0, usd: float = 0.0) -> None:
    of.settle(of.admit(CODER), tokens=tokens, usd=usd)


def test_a_request_above_the_rate_is_refused_and_admitted_after_the_wait_in_the_refusal(
    clocks: Clocks,
) -> None:
    of = limits(clocks, rate=RateConfig(requests=2))
    use(of)
    clocks.now += 20
    use(of)
    with pytest.raises(AgentLimited) as refused:
        of.admit(CODER)
    assert (refused.value.status, refused.value.code) == (429, "agent_rate_limited")
    assert refused.value.retry_after == 40.0
    clocks.now += 39.9
    with pytest.raises(AgentLimited):
        of.admit(CODER)
    clocks.now += 0.1
    use(of)


def test_a_refused_request_does_not_make_the_next_wait_longer(clocks: Clocks) -> None:
    of = limits(clocks, rate=RateConfig(requests=1))
    use(of)
    for _ in range(5):
        with pytest.raises(AgentLimited):
            of.admit(CODER)
    clocks.now += MINUTE
    use(of)


def test_tokens_are_counted_when_a_call_ends_and_the_next_one_waits_for_them(clocks: Clocks) -> None:
    of = limits(clocks, rate=RateConfig(tokens=100))
    first, second = of.admit(CODER), of.admit(CODER)
    of.settle(first, tokens=80)
    clocks.now += 10
    of.settle(second, tokens=80)
    with pytest.raises(AgentLimited) as refused:
        of.admit(CODER)
    assert "160 tokens" in refused.value.message
    assert refused.value.retry_after == 50.0


def test_a_request_above_the_concurrency_is_refused_until_one_has_ended(clocks: Clocks) -> None:
    of = limits(clocks, concurrent=1)
    ticket = of.admit(CODER)
    with pytest.raises(AgentLimited) as refused:
        of.admit(CODER)
    assert refused.value.code == "agent_concurrency_limited"
    assert refused.value.retry_after is None  # unknown: the other one may run for any time
    of.settle(ticket)
    of.settle(ticket)  # idempotent
    of.admit(CODER)
    with pytest.raises(AgentLimited):
        of.admit(CODER)


@pytest.mark.parametrize(("per", "later"), [("day", "2026-02-01"), ("month", "2026-02-01"), ("total", None)])
def test_a_used_up_budget_refuses_requests_until_its_period_ends(
    clocks: Clocks, per: str, later: str | None
) -> None:
    of = limits(clocks, budget=BudgetConfig(usd=1.0, per=per))  # type: ignore[arg-type]
    use(of, usd=0.6)
    use(of, usd=0.6)
    with pytest.raises(BudgetExceeded) as refused:
        of.admit(CODER)
    assert (refused.value.status, refused.value.code) == (402, "agent_budget_exceeded")
    assert not refused.value.sdk_may_retry
    assert "$1.2 of $1" in refused.value.message
    clocks.wall += DAY
    if later is None:
        with pytest.raises(BudgetExceeded):
            of.admit(CODER)
    else:
        of.admit(CODER)


def test_a_monthly_budget_does_not_end_with_the_day(clocks: Clocks) -> None:
    clocks.wall -= DAY  # the 30th
    of = limits(clocks, budget=BudgetConfig(tokens=10, per="month"))
    use(of, tokens=10)
    clocks.wall += DAY
    with pytest.raises(BudgetExceeded):
        of.admit(CODER)


def test_a_clock_that_is_set_back_does_not_renew_a_budget(clocks: Clocks) -> None:
    of = limits(clocks, budget=BudgetConfig(tokens=10, per="day"))
    use(of, tokens=10)
    clocks.wall -= DAY
    with pytest.raises(BudgetExceeded):
        of.admit(CODER)


def test_stored_spending_counts_and_new_spending_is_stored(clocks: Clocks) -> None:
    of = limits(clocks, budget=BudgetConfig(tokens=100, per="total"))
    stored: list[tuple[str, str, AgentUsage]] = []
    of.use_store(
        {"coder": {"2025-12-31": AgentUsage(3, 60, 0.1)}, "gone": {"2025-12-31": AgentUsage(1, 1, 1.0)}},
        lambda agent, day, spent: stored.append((agent, day, spent)),
    )
    use(of, tokens=40, usd=0.25)
    assert stored == [("coder", "2026-01-31", AgentUsage(1, 40, 0.25))]
    with pytest.raises(BudgetExceeded):
        of.admit(CODER)


def test_the_spending_of_an_agent_without_a_budget_is_not_stored(clocks: Clocks) -> None:
    of = limits(clocks, rate=RateConfig(requests=5))
    stored: list[tuple[str, str, AgentUsage]] = []
    of.use_store({}, lambda agent, day, spent: stored.append((agent, day, spent)))
    use(of, tokens=40)
    assert not stored


def test_a_caller_that_is_no_agent_has_no_limits(clocks: Clocks) -> None:
    of = limits(clocks, rate=RateConfig(requests=1), concurrent=1)
    for _ in range(5):
        of.settle(of.admit(NOBODY), tokens=1_000_000)
    use(of)


def test_a_new_config_changes_limits_and_keeps_what_was_used(clocks: Clocks) -> None:
    of = limits(clocks, budget=BudgetConfig(tokens=10))
    use(of, tokens=10)
    of.configure([])
    of.configure([AgentConfig(name="coder", budget=BudgetConfig(tokens=20))])
    use(of, tokens=10)
    with pytest.raises(BudgetExceeded):
        of.admit(CODER)


def test_the_view_has_limits_and_use(clocks: Clocks) -> None:
    of = limits(
        clocks, rate=RateConfig(requests=2), budget=BudgetConfig(usd=5.0, per="day"), models=("gpt-*",)
    )
    use(of, tokens=7, usd=0.5)
    of.admit(CODER)
    with pytest.raises(AgentLimited):
        of.admit(CODER)
    (one,) = of.view()
    assert one == {
        "team": None,
        "agent": "coder",
        "models": ["gpt-*"],
        "tools": [],
        "running": 1,
        "concurrent": None,
        "last_minute": {"requests": 2, "tokens": 7},
        "rate": {"requests": 2, "tokens": None},
        "spent": {"requests": 1, "tokens": 7, "usd": 0.5, "per": "day"},
        "budget": {"usd": 5.0, "tokens": None, "per": "day"},
        "refused": 1,
    }


gaps = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), min_size=1, max_size=60)


@given(gaps, st.integers(1, 200))
def test_a_window_forgets_nothing_early_and_its_wait_is_exact(
    steps: list[tuple[float, int]], limit: int
) -> None:
    window = Window()
    times = list(accumulate((gap for gap, _ in steps), initial=1000.0))[1:]
    for time, (_, amount) in zip(times, steps, strict=True):
        window.add(amount, now=time)
    now = times[-1]

    def least(at: float) -> int:
        return sum(
            amount for time, (_, amount) in zip(times, steps, strict=True) if time + MINUTE > at + 1e-6
        )

    assert window.sum(now=now) >= least(now)
    wait = window.wait(limit, now=now)
    assert wait <= MINUTE + 1e-6
    if wait == 0.0:
        assert window.sum(now=now) < limit
    else:
        assert least(now + wait - MERGED - 1e-6) >= limit  # no longer than needed, up to the merging
        assert window.sum(now=now + wait + 1e-6) < limit


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_the_module_does_no_io() -> None:
    assert agent_limits.__file__ is not None
    imported = set(_imported(ast.parse(Path(agent_limits.__file__).read_text())))
    assert imported <= {"__future__", "math", "collections", "datetime", "typing", "msgspec", "modelplex"}


def test_a_withdrawn_request_counts_nowhere(clocks: Clocks) -> None:
    of = limits(clocks, rate=RateConfig(requests=2), concurrent=2)
    use(of)
    ticket = of.admit(CODER)
    with pytest.raises(AgentLimited):
        of.admit(CODER)
    of.withdraw(ticket)
    of.withdraw(ticket)
    of.settle(ticket, tokens=5)
    assert of.view()[0]["last_minute"] == {"requests": 1, "tokens": 0}
    assert of.view()[0]["running"] == 0
    use(of)
    with pytest.raises(AgentLimited):
        of.admit(CODER)


def test_a_request_withdrawn_after_its_minute_changes_no_later_count(clocks: Clocks) -> None:
    of = limits(clocks, rate=RateConfig(requests=2))
    ticket = of.admit(CODER)
    clocks.now += MINUTE + 1
    use(of)
    of.withdraw(ticket)
    assert of.view()[0]["last_minute"] == {"requests": 1, "tokens": 0}


def test_withdrawing_for_a_caller_that_is_no_agent_does_nothing(clocks: Clocks) -> None:
    of = limits(clocks)
    of.withdraw(of.admit(NOBODY))
    assert of.view()[0]["running"] == 0


@pytest.mark.parametrize(
    ("budget", "each"),
    [(BudgetConfig(tokens=100), {"tokens": 20}), (BudgetConfig(usd=1.0, per="day"), {"usd": 0.2})],
)
def test_running_requests_reserve_the_average_of_earlier_ones(
    budget: BudgetConfig, each: dict[str, float], clocks: Clocks
) -> None:
    of = limits(clocks, budget=budget)
    # No average is known yet.
    first = [of.admit(CODER) for _ in range(3)]
    for ticket in first:
        of.settle(ticket, **each)  # type: ignore[arg-type]
    # 60 of 100 are spent: two more of 20 fit, a third would not.
    running = [of.admit(CODER), of.admit(CODER)]
    with pytest.raises(AgentLimited, match="reserved by its 2 running requests") as refused:
        of.admit(CODER)
    assert (refused.value.status, refused.value.code) == (429, "agent_budget_reserved")
    # One that ends cheaper frees budget, and a single request is never refused.
    of.settle(running.pop())
    of.withdraw(running.pop())
    assert of.view()[0]["running"] == 0
    use(of, **each)  # type: ignore[arg-type]
    last = of.admit(CODER)
    of.settle(last, **{name: 2 * value for name, value in each.items()})  # type: ignore[arg-type]
    with pytest.raises(BudgetExceeded):
        of.admit(CODER)


def test_without_a_budget_nothing_is_reserved(clocks: Clocks) -> None:
    of = limits(clocks)
    use(of, tokens=10**9)
    for _ in range(10):
        of.admit(CODER)


def test_an_agent_without_a_rate_keeps_the_entries_of_a_minute() -> None:
    now = 0.0
    window = Window()
    for _ in range(2_000):
        window.add(1, now=now)
        now += MERGED
    assert len(window._entries) <= MINUTE / MERGED + 1
