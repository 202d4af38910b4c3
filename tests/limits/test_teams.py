"""A team's budget holds besides that of each of its agents."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelplex.config import ConfigError
from modelplex.config.settings import AgentConfig, BudgetConfig, TeamConfig
from modelplex.core.caller import Caller
from modelplex.core.errors import AgentLimited, BudgetExceeded
from modelplex.limits.agent_limits import AgentLimits
from modelplex.limits.agent_usage import AgentUsage
from tests.config.configs import DEMO, read
from tests.gateways import Answer, Running, gateway

TEAM = TeamConfig(name="t", budget=BudgetConfig(tokens=100))
A, B = (AgentConfig(name=name, team="t", budget=BudgetConfig(tokens=80)) for name in "ab")
ALONE = AgentConfig(name="alone", token=None)


def limits(*agents: AgentConfig) -> AgentLimits:
    return AgentLimits(agents, [TEAM], now=lambda: 0.0, wall=lambda: 0.0)


def caller(name: str) -> Caller:
    return Caller(listener="unix:/x", kind="unix", agent=name)


def test_the_budgets_of_the_agent_and_of_its_team_both_hold() -> None:
    found = limits(A, B, ALONE)
    found.settle(found.admit(caller("a")), tokens=80)
    with pytest.raises(BudgetExceeded, match="the agent 'a' is used up"):
        found.admit(caller("a"))
    found.settle(found.admit(caller("b")), tokens=30)
    with pytest.raises(BudgetExceeded, match=r"the team 't' is used up: 110 tokens of 100.*\[\[teams\]\]"):
        found.admit(caller("b"))
    found.settle(found.admit(caller("alone")), tokens=1000)
    assert {(owner, left) for owner, _, _, left, _ in found.budgets_left()} == {
        ("a", 0.0),
        ("b", 50.0),
        ("team:t", 0.0),
    }
    assert found.teams_view()[0]["spent"] == {"requests": 2, "tokens": 110, "usd": 0.0}


def test_running_requests_of_all_agents_are_reserved_of_the_teams_budget() -> None:
    found = limits(A, B)
    found.settle(found.admit(caller("a")), tokens=60)
    running = found.admit(caller("a"))
    with pytest.raises(AgentLimited, match="the team 't' is reserved"):
        found.admit(caller("b"))
    found.withdraw(running)
    found.settle(found.admit(caller("b")), tokens=1)


def test_a_request_is_admitted_alike_where_a_refusal_is_no_error() -> None:
    found = limits(A, B)
    found.settle(found.admit(caller("a")), tokens=60)
    running = found.try_admit(caller("a"))
    assert running is not None
    assert found.try_admit(caller("b")) is None
    found.withdraw(running)
    admitted = found.try_admit(caller("b"))
    assert admitted is not None
    found.settle(admitted, tokens=40)
    (view,) = found.teams_view()
    assert (view["running"], view["spent"]) == (0, {"requests": 2, "tokens": 100, "usd": 0.0})
    assert found.try_admit(caller("b")) is None


def test_what_a_team_has_spent_outlives_a_reload_and_is_kept() -> None:
    found, kept = limits(A), list[tuple[str, int]]()
    found.use_store(
        {"team:t": {"1970-01-01": AgentUsage(1, 90, 0.0)}}, lambda n, _, s: kept.append((n, s.tokens))
    )
    found.settle(found.admit(caller("a")), tokens=20)
    assert kept == [("a", 20), ("team:t", 20)]
    found.configure([A, B], [TEAM])
    with pytest.raises(BudgetExceeded, match="the team"):
        found.admit(caller("b"))
    found.configure([msgspec_without_team(A)], [TEAM])
    found.settle(found.admit(caller("a")), tokens=1)


def msgspec_without_team(agent: AgentConfig) -> AgentConfig:
    return AgentConfig(name=agent.name, budget=agent.budget)


def test_of_an_agent_that_is_gone_only_what_it_spent_of_a_budget_is_kept() -> None:
    found = limits(A, ALONE)
    found.settle(found.admit(caller("a")), tokens=80)
    running = found.admit(caller("alone"))
    found.configure([AgentConfig(name="a")], [TEAM])
    found.configure([], [TEAM])
    found.settle(running, tokens=1)
    found.configure([A], [TEAM])
    with pytest.raises(BudgetExceeded, match="the agent 'a' is used up"):
        found.admit(caller("a"))
    assert found._all.keys() == {"a", "team:t"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[[teams]]\nname = "t"\n', "budget: expected a budget"),
        ("[[teams]]\nbudget = { usd = 1 }\n", "name: expected a name"),
        ('[[teams]]\nname = "t"\nbudget = { usd = 1 }\n' * 2, "a name of its own"),
        (
            '[[agents]]\nname = "a"\nsocket = "/a"\nteam = "tt"\n[[teams]]\nname = "t"\nbudget = { usd = 1 }\n',
            'found "tt"',
        ),
    ],
)
def test_a_fault_of_a_team_is_named(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(DEMO + text)
    assert fault in refused.value.sentence


async def test_a_gateway_counts_for_both(tmp_path: Path) -> None:
    agents = "".join(f'[[agents]]\nname = "{n}"\ntoken = "the-token-of-{n}"\nteam = "t"\n' for n in "ab")
    team = '[[teams]]\nname = "t"\nbudget = { tokens = 1 }\n'
    async with gateway(DEMO + agents + team, folder=tmp_path) as running:
        assert (await ask(running, "a")).status == 200
        await running.record()
        refused = await ask(running, "b")
        assert (refused.status, refused.error["code"]) == (402, "agent_budget_exceeded")
        view = (await running.ask("GET", "/_internal/agents")).json
        assert view["teams"][0]["team"] == "t"
        assert view["teams"][0]["spent"]["requests"] == 1


async def ask(running: Running, name: str) -> Answer:
    headers = ((b"authorization", f"Bearer the-token-of-{name}".encode()),)
    body = b'{"model":"demo","messages":[{"role":"user","content":"Hi"}]}'
    return await running.ask("POST", "/v1/chat/completions", body, headers=headers)
