"""Agents with limits, admitted by an engine: the accounts that are asked for, and the errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modelplex.config.settings import AgentConfig, BudgetConfig, RateConfig, TeamConfig
from modelplex.core.caller import Caller
from modelplex.core.errors import AgentLimited, BudgetExceeded, LimitsUnavailable, ModelplexError
from modelplex.limits.agent_limits import AgentLimits
from modelplex.limits.agent_usage import AgentUsage
from modelplex.limits.shared.messages import SharedAccount
from modelplex.limits.shared.shared_admission import SharedAdmission
from modelplex.limits.shared.shared_limits import SharedLease, SharedRefusal
from tests.limits.shared.scripted import NOON, account

TEAM = TeamConfig(name="t", budget=BudgetConfig(usd=2.0))
AGENT = AgentConfig(name="x", team="t", concurrent=3, rate=RateConfig(requests=5, tokens=100))
FREE = AgentConfig(name="free")


class Answers:
    """Stands in for SharedLimits: says what the test says."""

    watched: Callable[[], list[str]]

    def __init__(self) -> None:
        self.answer: SharedRefusal | None = None
        self.asked: list[tuple[SharedAccount, ...]] = []
        self.ended: list[tuple[int, int, float]] = []

    async def reserve(self, id: str, accounts: tuple[SharedAccount, ...]) -> SharedLease | SharedRefusal:
        self.asked.append(accounts)
        return self.answer or self.lease(id, accounts)

    def lease(self, id: str, accounts: tuple[SharedAccount, ...]) -> SharedLease:
        return SharedLease(id, tuple(each.name for each in accounts))

    def end(self, lease: SharedLease, *, requests: int = 0, tokens: int = 0, usd: float = 0.0) -> None:
        self.ended.append((requests, tokens, usd))

    def spent(self, name: str, per: str) -> AgentUsage:
        return AgentUsage(9, 9, 2.5)

    def wall(self) -> float | None:
        return NOON


class Gateway:
    def __init__(self) -> None:
        self.engine = Answers()
        self.limits = AgentLimits([AGENT, FREE], [TEAM], now=lambda: 0.0, wall=lambda: 0.0)
        self.shared = SharedAdmission(self.engine)  # type: ignore[arg-type]
        self.limits.use_shared(self.shared)

    async def admit(self, agent: str = "x") -> object:
        caller = Caller(listener="unix:/x", kind="unix", agent=agent)
        return await self.limits.admit_shared(caller, self.shared, id="1")


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


async def test_an_agent_and_its_team_are_asked_for(gateway: Gateway) -> None:
    await gateway.admit()
    assert gateway.engine.asked == [
        (
            account("x", concurrent=3, requests=5, per_minute=100),
            account("team:t", nano=2_000_000_000),
        )
    ]
    assert sorted(gateway.engine.watched()) == ["team:t", "x"]


async def test_an_agent_without_limits_asks_nobody(gateway: Gateway) -> None:
    await gateway.admit("free")
    await gateway.admit("unknown")
    assert gateway.engine.asked == []
    caller = Caller(listener="unix:/x", kind="unix", agent="free")
    assert gateway.limits.try_admit(caller) is not None
    limited = Caller(listener="unix:/x", kind="unix", agent="x")
    assert gateway.limits.try_admit(limited) is None


async def test_what_a_request_used_is_told_once(gateway: Gateway) -> None:
    caller = Caller(listener="unix:/x", kind="unix", agent="x")
    ticket = await gateway.limits.admit_shared(caller, gateway.shared, id="1")
    gateway.limits.settle(ticket, tokens=7, usd=0.5)
    gateway.limits.settle(ticket, tokens=7, usd=0.5)
    gateway.limits.withdraw(ticket)
    gateway.limits.withdraw(await gateway.limits.admit_shared(caller, gateway.shared, id="2"))
    assert gateway.engine.ended == [(1, 7, 0.5), (0, 0, 0.0)]


@pytest.mark.parametrize(
    ("refusal", "kind", "code", "text"),
    [
        (SharedRefusal("concurrent", "x", ("3",)), AgentLimited, "agent_concurrency_limited", "3 requests"),
        (
            SharedRefusal("rate", "x", ("r", "5", "30200")),
            AgentLimited,
            "agent_rate_limited",
            "used 5 requests in the last minute, and may use 5. Try again in 31 seconds",
        ),
        (
            SharedRefusal("rate", "x", ("t", "101", "1000")),
            AgentLimited,
            "agent_rate_limited",
            "used 101 tokens in the last minute, and may use 100",
        ),
        (
            SharedRefusal("reserved", "team:t", ("4",)),
            AgentLimited,
            "agent_budget_reserved",
            "the team 't' is reserved by its 4 running",
        ),
        (
            SharedRefusal("budget", "team:t"),
            BudgetExceeded,
            "agent_budget_exceeded",
            r"the team 't' is used up: \$2.5 of \$2 in all",
        ),
        (SharedRefusal("away"), LimitsUnavailable, "shared_limits_unavailable", "does not answer"),
    ],
)
async def test_a_refusal_is_the_error_of_a_gateway_alone(
    gateway: Gateway, refusal: SharedRefusal, kind: type[ModelplexError], code: str, text: str
) -> None:
    gateway.engine.answer = refusal
    with pytest.raises(kind, match=text) as raised:
        await gateway.admit()
    assert raised.value.code == code
    assert gateway.limits.view()[0]["refused"] == 1
    assert gateway.limits.view()[0]["running"] == 0


async def test_open_asks_this_gateways_own_limits(gateway: Gateway) -> None:
    gateway.engine.answer = SharedRefusal("open")
    for _ in range(3):
        await gateway.admit()
    with pytest.raises(AgentLimited, match="3 requests running"):
        await gateway.admit()


def test_what_all_gateways_used_replaces_what_this_one_counted(gateway: Gateway) -> None:
    gateway.limits.adopt("team:t", {"2026-12-02": AgentUsage(1, 2, 0.5), "": AgentUsage(3, 4, 1.5)})
    gateway.limits.adopt("nobody", {"": AgentUsage(1, 1, 1.0)})
    assert list(gateway.limits.budgets_left()) == [("team:t", "usd", "total", 0.5, 2.0)]
