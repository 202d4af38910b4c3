"""Rates, budgets and how much at once, with clocks of the test's own."""

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
from modelplex.limits import agent_limits as room
from modelplex.limits.agent_limits import MERGED, MINUTE, AgentLimits, AgentUsage, Window

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


def test_the_request_above_the_rate_is_refused_and_served_after_the_wait_that_was_named(
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


def test_one_more_than_may_run_at_once_is_refused_until_one_has_ended(clocks: Clocks) -> None:
    of = limits(clocks, concurrent=1)
    ticket = of.admit(CODER)
    with pytest.raises(AgentLimited) as refused:
        of.admit(CODER)
    assert refused.value.code == "agent_concurrency_limited"
    assert refused.value.retry_after is None  # nobody knows when the other one ends
    of.settle(ticket)
    of.settle(ticket)  # the second time is nothing
    of.admit(CODER)
    with pytest.raises(AgentLimited):
        of.admit(CODER)


@pytest.mark.parametrize(("per", "later"), [("day", "2026-02-01"), ("month", "2026-02-01"), ("total", None)])
def test_a_budget_is_refused_until_its_period_is_over(clocks: Clocks, per: str, later: str | None) -> None:
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


def test_a_month_is_not_over_with_its_day(clocks: Clocks) -> None:
    clocks.wall -= DAY  # the 30th
    of = limits(clocks, budget=BudgetConfig(tokens=10, per="month"))
    use(of, tokens=10)
    clocks.wall += DAY
    with pytest.raises(BudgetExceeded):
        of.admit(CODER)


def test_a_clock_that_is_set_back_gives_no_second_budget(clocks: Clocks) -> None:
    of = limits(clocks, budget=BudgetConfig(tokens=10, per="day"))
    use(of, tokens=10)
    clocks.wall -= DAY
    with pytest.raises(BudgetExceeded):
        of.admit(CODER)


def test_what_was_spent_before_counts_and_what_is_spent_now_is_told(clocks: Clocks) -> None:
    of = limits(clocks, budget=BudgetConfig(tokens=100, per="total"))
    told: list[tuple[str, str, AgentUsage]] = []
    of.remember(
        {"coder": {"2025-12-31": AgentUsage(3, 60, 0.1)}, "gone": {"2025-12-31": AgentUsage(1, 1, 1.0)}},
        lambda agent, day, spent: told.append((agent, day, spent)),
    )
    use(of, tokens=40, usd=0.25)
    assert told == [("coder", "2026-01-31", AgentUsage(1, 40, 0.25))]
    with pytest.raises(BudgetExceeded):
        of.admit(CODER)


def test_an_agent_without_a_budget_is_not_written_down(clocks: Clocks) -> None:
    of = limits(clocks, rate=RateConfig(requests=5))
    told: list[tuple[str, str, AgentUsage]] = []
    of.remember({}, lambda agent, day, spent: told.append((agent, day, spent)))
    use(of, tokens=40)
    assert not told


def test_who_is_no_agent_has_no_limits(clocks: Clocks) -> None:
    of = limits(clocks, rate=RateConfig(requests=1), concurrent=1)
    for _ in range(5):
        of.settle(of.admit(NOBODY), tokens=1_000_000)
    use(of)


def test_a_new_config_changes_the_limits_and_not_what_was_used(clocks: Clocks) -> None:
    of = limits(clocks, budget=BudgetConfig(tokens=10))
    use(of, tokens=10)
    of.configure([])
    of.configure([AgentConfig(name="coder", budget=BudgetConfig(tokens=20))])
    use(of, tokens=10)
    with pytest.raises(BudgetExceeded):
        of.admit(CODER)


def test_the_view_tells_limits_and_what_was_used_of_them(clocks: Clocks) -> None:
    of = limits(
        clocks, rate=RateConfig(requests=2), budget=BudgetConfig(usd=5.0, per="day"), models=("gpt-*",)
    )
    use(of, tokens=7, usd=0.5)
    of.admit(CODER)
    with pytest.raises(AgentLimited):
        of.admit(CODER)
    (one,) = of.view()
    assert one == {
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
def test_a_window_forgets_nothing_early_and_its_wait_is_the_true_one(
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
        assert (
            least(now + wait - MERGED - 1e-6) >= limit
        )  # not longer than it has to be, but for what was merged
        assert window.sum(now=now + wait + 1e-6) < limit


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_the_limits_ask_nothing_of_the_world() -> None:
    assert room.__file__ is not None
    imported = set(_imported(ast.parse(Path(room.__file__).read_text())))
    assert imported <= {"__future__", "math", "collections", "datetime", "msgspec", "modelplex"}


def test_a_request_that_came_to_nothing_is_withdrawn(clocks: Clocks) -> None:
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


def test_what_is_withdrawn_after_its_minute_is_not_taken_from_the_next(clocks: Clocks) -> None:
    of = limits(clocks, rate=RateConfig(requests=2))
    ticket = of.admit(CODER)
    clocks.now += MINUTE + 1
    use(of)
    of.withdraw(ticket)
    assert of.view()[0]["last_minute"] == {"requests": 1, "tokens": 0}


def test_withdrawing_for_nobody_in_particular_does_nothing(clocks: Clocks) -> None:
    of = limits(clocks)
    of.withdraw(of.admit(NOBODY))
    assert of.view()[0]["running"] == 0


@pytest.mark.parametrize(
    ("budget", "each"),
    [(BudgetConfig(tokens=100), {"tokens": 20}), (BudgetConfig(usd=1.0, per="day"), {"usd": 0.2})],
)
def test_calls_that_run_reserve_what_calls_take_on_average(
    budget: BudgetConfig, each: dict[str, float], clocks: Clocks
) -> None:
    of = limits(clocks, budget=budget)
    # Nothing is known of the first ones.
    first = [of.admit(CODER) for _ in range(3)]
    for ticket in first:
        of.settle(ticket, **each)  # type: ignore[arg-type]
    # 60 of 100 are spent: two more of 20 fit, a third would not.
    running = [of.admit(CODER), of.admit(CODER)]
    with pytest.raises(AgentLimited, match="reserved by its 2 running requests") as refused:
        of.admit(CODER)
    assert (refused.value.status, refused.value.code) == (429, "agent_budget_reserved")
    # One that ends cheaper leaves room, and who is alone is never refused.
    of.settle(running.pop())
    of.withdraw(running.pop())
    assert of.view()[0]["running"] == 0
    use(of, **each)  # type: ignore[arg-type]
    last = of.admit(CODER)
    of.settle(last, **{name: 2 * value for name, value in each.items()})  # type: ignore[arg-type]
    with pytest.raises(BudgetExceeded):
        of.admit(CODER)


def test_reservations_hold_for_agents_with_a_budget_alone(clocks: Clocks) -> None:
    of = limits(clocks)
    use(of, tokens=10**9)
    for _ in range(10):
        of.admit(CODER)
