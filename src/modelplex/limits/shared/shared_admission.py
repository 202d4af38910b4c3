"""Between the limits of agents and the engine: which accounts a request has, and the errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from modelplex.config.settings import AgentConfig
from modelplex.core.errors import AgentLimited, BudgetExceeded, LimitsUnavailable
from modelplex.limits.agent_limits import Account, budget_used_up, reserved, too_fast, too_many_at_once
from modelplex.limits.shared.messages import account_of
from modelplex.limits.shared.shared_limits import SharedLease, SharedLimits, SharedRefusal

KINDS: Final = {"r": "requests", "t": "tokens"}


class SharedAdmission:
    def __init__(self, limits: SharedLimits) -> None:
        self.limits = limits

    def __repr__(self) -> str:
        return f"<SharedAdmission {self.limits!r}>"

    def wall(self) -> float | None:
        return self.limits.wall()

    async def reserve(self, id: str, account: Account, *, check: Callable[[Account], None]) -> SharedLease:
        """Count a request over all gateways. `check` decides by this gateway alone, and raises.

        Raises:
            AgentLimited, BudgetExceeded: as for a gateway alone.
            LimitsUnavailable: the engine does not answer, and the config says refuse.
        """
        accounts = [account] if account.team is None else [account, account.team]
        wanted = tuple(account_of(each.agent) for each in accounts)
        answer = await self.limits.reserve(id, wanted)
        if isinstance(answer, SharedLease):
            return answer
        if answer.why == "open":
            check(account)
            return self.limits.lease(id, wanted)
        raise self._error(answer, {each.agent.name: each.agent for each in accounts})

    def settle(self, lease: SharedLease, *, tokens: int, usd: float) -> None:
        self.limits.end(lease, requests=1, tokens=tokens, usd=usd)

    def withdraw(self, lease: SharedLease) -> None:
        self.limits.end(lease)

    def _error(
        self, refusal: SharedRefusal, agents: dict[str, AgentConfig]
    ) -> AgentLimited | BudgetExceeded | LimitsUnavailable:
        if refusal.why == "away":
            return LimitsUnavailable(
                "The limits of this agent are shared by several gateways, and the engine that counts them does not answer. Try again later."
            )
        agent, numbers = agents[refusal.name], refusal.numbers
        match refusal.why:
            case "concurrent":
                return too_many_at_once(agent, int(numbers[0]))
            case "rate":
                limit = agent.rate.requests if numbers[0] == "r" else agent.rate.tokens
                return too_fast(agent, int(numbers[1]), limit, KINDS[numbers[0]], int(numbers[2]) / 1000)
            case "reserved":
                return reserved(agent.name, int(numbers[0]))
            case _:
                return budget_used_up(
                    agent.name, agent.budget, self.limits.spent(agent.name, agent.budget.per)
                )
