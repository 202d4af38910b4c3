"""Budgets of runs of `modelplex run`: what a run may spend while its gateway serves it.

Runs of one agent with a budget share what is spent, as long as one of them is attached; a run
without an agent has its budget alone. Decides, and does no I/O.
"""

from __future__ import annotations

import msgspec

from modelplex.core.errors import AgentLimited, BudgetExceeded
from modelplex.limits.agent_usage import NOTHING, AgentUsage


class RunBudget(msgspec.Struct, frozen=True):
    """`usd` and `tokens` None: no limit."""

    usd: float | None = None
    tokens: int | None = None


class RunSpending(msgspec.Struct):
    """What runs that share a budget have spent, and how many requests of theirs run."""

    spent: AgentUsage = NOTHING
    running: int = 0
    runs: int = 0


class RunAccount(msgspec.Struct, frozen=True):
    """A run with a budget. `agent` is "" where the run has its budget alone."""

    agent: str
    budget: RunBudget
    spending: RunSpending


class RunBudgets:
    def __init__(self) -> None:
        self._accounts: dict[str, RunAccount] = {}
        self._shared: dict[str, RunSpending] = {}

    def __repr__(self) -> str:
        return f"<RunBudgets of {len(self._accounts)} runs>"

    def open(self, run: str, *, agent: str, budget: RunBudget) -> None:
        spending = self._shared.setdefault(agent, RunSpending()) if agent else RunSpending()
        spending.runs += 1
        self._accounts[run] = RunAccount(agent, budget, spending)

    def close(self, run: str) -> AgentUsage | None:
        """What the run, or the runs that share its budget, have spent; None for one without. The
        last one of an agent ends the shared budget.
        """
        account = self._accounts.pop(run, None)
        if account is None:
            return None
        account.spending.runs -= 1
        if account.agent and not account.spending.runs:
            del self._shared[account.agent]
        return account.spending.spent

    def find(self, run: str) -> RunAccount | None:
        return self._accounts.get(run)


def check_run(account: RunAccount) -> None:
    """Raises BudgetExceeded where the budget is used up, and AgentLimited where the running
    requests, each at the average, may use up the rest. A single request is always admitted.
    """
    spending, spent = account.spending, account.spending.spent
    whose = f"that runs of the agent {account.agent!r} share" if account.agent else "of this run"
    for limit, used, shown in (
        (account.budget.usd, spent.usd, f"${spent.usd:.6g} of ${account.budget.usd or 0:g}"),
        (account.budget.tokens, spent.tokens, f"{spent.tokens} of {account.budget.tokens} tokens"),
    ):
        if limit is None:
            continue
        if used >= limit:
            raise BudgetExceeded(
                f"Policy: the budget {whose} is used up: {shown}. It is the option --budget of `modelplex run`.",
                code="run_budget_exceeded",
            )
        if spending.running and spent.requests and used + spending.running * used / spent.requests >= limit:
            raise AgentLimited(
                f"What is left of the budget {whose} is reserved by {spending.running} running requests. Try again when one of them has ended.",
                code="run_budget_reserved",
            )
