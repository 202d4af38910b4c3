"""Budgets of runs, alone and shared by the runs of an agent."""

from __future__ import annotations

import pytest

from modelplex.config import AgentConfig
from modelplex.core.caller import Caller, CallerRun
from modelplex.core.errors import AgentLimited, BudgetExceeded
from modelplex.limits.agent_limits import AgentLimits
from modelplex.limits.agent_usage import AgentUsage
from modelplex.limits.run_budgets import RunBudget


def limits(*agents: AgentConfig) -> AgentLimits:
    return AgentLimits(agents, now=lambda: 0.0, wall=lambda: 0.0)


def caller(run: str, agent: str = "") -> Caller:
    return Caller(listener="unix:/x", kind="unix", agent=agent, run=CallerRun(run))


def spend(found: AgentLimits, who: Caller, *, tokens: int = 0, usd: float = 0.0) -> None:
    found.settle(found.admit(who), tokens=tokens, usd=usd)


def test_a_run_is_refused_once_its_budget_is_used_up() -> None:
    found = limits()
    found.runs.open("r", agent="", budget=RunBudget(usd=5.0))
    spend(found, caller("r"), usd=4.99)
    spend(found, caller("r"), usd=0.02)
    with pytest.raises(BudgetExceeded) as caught:
        found.admit(caller("r"))
    assert caught.value.code == "run_budget_exceeded"
    assert "the budget of this run is used up: $5.01 of $5." in caught.value.message
    found.admit(caller("another"))


def test_tokens_are_a_budget_too() -> None:
    found = limits()
    found.runs.open("r", agent="", budget=RunBudget(usd=100.0, tokens=50))
    spend(found, caller("r"), tokens=60)
    with pytest.raises(BudgetExceeded, match="60 of 50 tokens"):
        found.admit(caller("r"))


def test_runs_of_an_agent_share_what_is_spent_and_each_has_its_limit() -> None:
    found = limits(AgentConfig(name="eval"))
    found.runs.open("a", agent="eval", budget=RunBudget(tokens=100))
    found.runs.open("b", agent="eval", budget=RunBudget(tokens=50))
    found.runs.open("c", agent="other", budget=RunBudget(tokens=50))
    spend(found, caller("a", "eval"), tokens=70)
    with pytest.raises(BudgetExceeded, match="that runs of the agent 'eval' share is used up"):
        found.admit(caller("b", "eval"))
    spend(found, caller("a", "eval"), tokens=40)
    spend(found, caller("c"), tokens=1)
    assert found.runs.close("a") == AgentUsage(2, 110, 0.0)
    assert found.runs.close("b") == AgentUsage(2, 110, 0.0)
    found.runs.open("d", agent="eval", budget=RunBudget(tokens=50))
    spend(found, caller("d", "eval"), tokens=1)
    assert found.runs.close("nobody") is None


def test_running_requests_reserve_the_average() -> None:
    found = limits()
    found.runs.open("r", agent="", budget=RunBudget(tokens=100))
    first, second = found.admit(caller("r")), found.admit(caller("r"))
    found.settle(first, tokens=60)
    with pytest.raises(AgentLimited, match="is reserved by 1 running requests") as caught:
        found.admit(caller("r"))
    assert caught.value.code == "run_budget_reserved"
    found.withdraw(second)
    found.withdraw(second)
    found.admit(caller("r"))


def test_the_limits_of_the_agent_hold_too() -> None:
    found = limits(AgentConfig(name="eval", concurrent=1))
    found.runs.open("r", agent="eval", budget=RunBudget(tokens=100))
    ticket = found.admit(caller("r", "eval"))
    with pytest.raises(AgentLimited) as caught:
        found.admit(caller("r", "eval"))
    assert caught.value.code == "agent_concurrency_limited"
    found.settle(ticket, tokens=7)
    assert found.view()[0]["running"] == 0
    assert found.runs.close("r") == AgentUsage(1, 7, 0.0)
