"""Counts what each agent uses, and admits or refuses its next request. Clocks are arguments.

`admit` is called before a request; `settle` after it, or `withdraw` if none came.

A rate is counted over the last minute: nothing is forgotten early, and the wait in a refusal is
exact. A budget is counted by UTC days. Tokens and dollars are known when a request ends, so each
running request reserves the average of the agent's requests; larger ones can exceed the budget.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from modelplex.config.settings import AgentConfig, BudgetConfig, TeamConfig
from modelplex.core.caller import Caller
from modelplex.core.errors import AgentLimited, BudgetExceeded, LimitsUnavailable
from modelplex.limits.agent_usage import NOTHING, AgentUsage, Days
from modelplex.limits.run_budgets import RunAccount, RunBudgets, check_run

if TYPE_CHECKING:
    from modelplex.limits.shared.shared_admission import SharedAdmission
    from modelplex.limits.shared.shared_limits import SharedLease

MINUTE = 60.0
"""Seconds over which a rate is counted."""
DAY = 86_400.0
"""Seconds of a UTC day."""
TEAM = "team:"
"""Before the name of a team, where it is counted like an agent. No agent's name has a colon."""
MERGED = 0.25
"""Seconds within which requests share an entry: at most so much longer than a minute they count."""


class Window:
    """A sum over the last minute. Amounts within MERGED seconds share one entry, so that a million
    requests take a few hundred.
    """

    __slots__ = ("_entries", "_sum")

    def __init__(self) -> None:
        self._entries: deque[LimitEntry] = deque()
        self._sum = 0

    def __repr__(self) -> str:
        return f"<Window {self._sum} in {len(self._entries)} entries>"

    def add(self, amount: int, *, now: float) -> LimitEntry:
        self._sum += amount
        if self._entries and now - self._entries[-1].first < MERGED:
            entry = self._entries[-1]
            entry.last, entry.amount = now, entry.amount + amount
        else:
            self.sum(now=now)  # which forgets old entries, also of an agent without a rate
            entry = LimitEntry(now, now, amount)
            self._entries.append(entry)
        return entry

    def take_back(self, amount: int, entry: LimitEntry) -> None:
        """Undo the `add` that returned this entry, unless the entry has expired."""
        if not entry.expired:
            entry.amount -= amount
            self._sum -= amount

    def sum(self, *, now: float) -> int:
        while self._entries and self._entries[0].last + MINUTE <= now:
            entry = self._entries.popleft()
            entry.expired = True
            self._sum -= entry.amount
        return self._sum

    def wait(self, limit: int, *, now: float) -> float:
        """Seconds until the sum is below `limit`; 0 if it is already."""
        left = self.sum(now=now)
        if left < limit:
            return 0.0
        for entry in self._entries:
            left -= entry.amount
            if left < limit:
                return entry.last + MINUTE - now
        raise AssertionError(self)


class LimitEntry(msgspec.Struct):
    """The amounts within MERGED seconds of `first`."""

    first: float
    last: float
    amount: int
    expired: bool = False


class _Total(msgspec.Struct):
    """What an agent used in one period."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0


class Account:
    """One agent's counters. `days` is what it spent before this process. `has_limits` and
    `has_budget` say which of them decide about a request.
    """

    def __init__(self, agent: AgentConfig, days: Days) -> None:
        self.had_budget = False
        """Now or earlier."""
        self.team: Account | None = None
        """Of its team, which is counted like an agent."""
        self.configure(agent)
        self.requests = Window()
        self.tokens = Window()
        self.running = 0
        self.refused = 0
        self._totals: dict[str, _Total] = {}
        self.add_days(days)

    def __repr__(self) -> str:
        return f"<Account {self.agent.name} {self.running} running, {self.spent('total', day='')}>"

    def configure(self, agent: AgentConfig) -> None:
        self.agent = agent
        self.has_budget = agent.budget.usd is not None or agent.budget.tokens is not None
        self.had_budget = self.had_budget or self.has_budget
        self.has_limits = (
            self.has_budget
            or agent.concurrent is not None
            or agent.rate.requests is not None
            or agent.rate.tokens is not None
        )

    def add_days(self, days: Days) -> None:
        for day, spent in days.items():
            self.use(spent.requests, spent.tokens, spent.usd, day=day)

    def use(self, requests: int, tokens: int, usd: float, *, day: str) -> None:
        totals = self._totals
        for period in (day, day[:7], ""):
            total = totals.get(period)
            if total is None:
                total = totals[period] = _Total()
            total.requests += requests
            total.tokens += tokens
            total.usd += usd

    def spent(self, per: str, *, day: str) -> AgentUsage:
        period = {"day": day, "month": day[:7], "total": ""}[per]
        total = self._totals.get(period)
        return NOTHING if total is None else AgentUsage(total.requests, total.tokens, total.usd)

    def adopt(self, totals: Mapping[str, AgentUsage]) -> None:
        """What all gateways used, by period: a day, a month, "" for all."""
        for period, used in totals.items():
            self._totals[period] = _Total(used.requests, used.tokens, used.usd)

    def forget_before(self, day: str) -> None:
        """Drop past days and months. The total includes them."""
        for period in [one for one in self._totals if one and not day.startswith(one)]:
            del self._totals[period]


class Ticket(msgspec.Struct):
    """One admitted request, from `admit` to `settle`. `entry` counts it for the rate, `run` for the
    budget of a run.
    """

    account: Account | None
    entry: LimitEntry | None = None
    run: RunAccount | None = None
    settled: bool = False
    team: Account | None = None
    lease: SharedLease | None = None
    """Of a request that is counted over all gateways."""


class AgentLimits:
    """All agents of a config. `now` is a monotonic clock, in seconds; `wall` gives Unix seconds."""

    def __init__(
        self,
        agents: Iterable[AgentConfig],
        teams: Iterable[TeamConfig] = (),
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._now = now
        self._wall = wall
        self._stored: Mapping[str, Days] = {}
        self._store: Callable[[str, str, AgentUsage], None] | None = None
        self._all: dict[str, Account] = {}
        """With those of agents that are no longer configured."""
        self._accounts: dict[str, Account] = {}
        self._teams: dict[str, Account] = {}
        self._today = ""
        self._today_ends = 0.0
        """In Unix seconds."""
        self.runs = RunBudgets()
        self.shared: SharedAdmission | None = None
        """Where the limits hold over several gateways: `admit_shared` is to be called instead."""
        self.configure(agents, teams)

    def __repr__(self) -> str:
        return f"<AgentLimits of {len(self._accounts)} agents>"

    def configure(self, agents: Iterable[AgentConfig], teams: Iterable[TeamConfig] = ()) -> None:
        """Use these limits from now on. What was used still counts."""
        self._teams = {}
        for team in teams:
            counted = AgentConfig(name=f"{TEAM}{team.name}", budget=team.budget)
            self._teams[team.name] = self._account(counted)
        self._accounts = {}
        for agent in agents:
            account = self._accounts[agent.name] = self._account(agent)
            account.team = self._teams.get(agent.team) if agent.team is not None else None
            account.has_limits = account.has_limits or account.team is not None
        for name in self._all.keys() - self._accounts.keys():
            # Agents may come and go by the thousand: only what was spent of a budget is kept.
            if not self._all[name].had_budget and not self._all[name].running:
                del self._all[name]

    def _account(self, agent: AgentConfig) -> Account:
        account = self._all.get(agent.name) or Account(agent, self._stored.get(agent.name, {}))
        account.configure(agent)
        self._all[agent.name] = account
        return account

    def use_store(self, stored: Mapping[str, Days], store: Callable[[str, str, AgentUsage], None]) -> None:
        """`stored` is what each agent spent before this process. `store(agent, day, spent)` is
        called for what an agent with a budget spends from now on.
        """
        self._stored, self._store = stored, store
        for name, account in self._all.items():
            account.add_days(stored.get(name, {}))

    def use_shared(self, shared: SharedAdmission) -> None:
        """Ask `shared` about agents with limits. Its clock tells the day."""
        own = self._wall
        self._wall = lambda: shared.wall() or own()
        self._today, self._today_ends = "", 0.0
        self.shared = shared
        shared.limits.watched = lambda: [
            each.agent.name for each in (*self._accounts.values(), *self._teams.values()) if each.has_limits
        ]

    def adopt(self, name: str, totals: Mapping[str, AgentUsage]) -> None:
        """What all gateways used for an agent or a team, by period."""
        if (account := self._all.get(name)) is not None:
            account.adopt(totals)

    def add_foreign(self, agent: str, day: str, spent: AgentUsage) -> None:
        """Count what another process spent for this agent."""
        if (account := self._all.get(agent)) is not None:
            account.use(spent.requests, spent.tokens, spent.usd, day=day)

    def admit(self, caller: Caller) -> Ticket:
        """Count a request; `settle` ends it. Callers that are no agent, and of no run with a
        budget, have no limits.

        Raises:
            AgentLimited: too many requests or tokens in the last minute, with the exact wait; or
                too many at once, also for the rest of the budget.
            BudgetExceeded: the budget is used up.
        """
        account = self._accounts.get(caller.agent)
        run = self.runs.find(caller.run.id) if caller.run is not None else None
        if account is None and run is None:
            return Ticket(None)
        try:
            if run is not None:
                check_run(run)
            if account is not None and account.has_limits:
                self._check(account)
        except (AgentLimited, BudgetExceeded):
            if account is not None:
                account.refused += 1
            raise
        return self._admitted(account, run)

    async def admit_shared(self, caller: Caller, shared: SharedAdmission, *, id: str) -> Ticket:
        """As `admit`, over all gateways of `shared`. Raises LimitsUnavailable too."""
        account = self._accounts.get(caller.agent)
        if account is None or not account.has_limits:
            return self.admit(caller)
        run = self.runs.find(caller.run.id) if caller.run is not None else None
        try:
            if run is not None:
                check_run(run)
            lease = await shared.reserve(id, account, check=self._check)
        except (AgentLimited, BudgetExceeded, LimitsUnavailable):
            account.refused += 1
            raise
        ticket = self._admitted(account, run)
        ticket.lease = lease
        return ticket

    def try_admit(self, caller: Caller) -> Ticket | None:
        """As `admit`; None, with nothing counted, where that would raise or wait."""
        account = self._accounts.get(caller.agent)
        if caller.run is None and (account is None or not account.has_limits):
            return Ticket(None) if account is None else self._admitted(account, None)
        if self.shared is not None:
            return None
        run = self.runs.find(caller.run.id) if caller.run is not None else None
        try:
            if run is not None:
                check_run(run)
            if account is not None and account.has_limits:
                self._check(account)
        except (AgentLimited, BudgetExceeded):
            return None
        return self._admitted(account, run)

    def _admitted(self, account: Account | None, run: RunAccount | None) -> Ticket:
        if run is not None:
            run.spending.running += 1
        if account is None:
            return Ticket(None, run=run)
        entry = account.requests.add(1, now=self._now())
        account.running += 1
        if account.team is not None:
            account.team.running += 1
        return Ticket(account, entry, run, team=account.team)

    def withdraw(self, ticket: Ticket) -> None:
        """Undo `admit` for a request without a valid body. It counts nowhere."""
        if ticket.settled:
            return
        ticket.settled = True
        if ticket.lease is not None and self.shared is not None:
            self.shared.withdraw(ticket.lease)
        if ticket.run is not None:
            ticket.run.spending.running -= 1
        if ticket.account is not None:
            ticket.account.running -= 1
            if ticket.team is not None:
                ticket.team.running -= 1
            if ticket.entry is not None:
                ticket.account.requests.take_back(1, ticket.entry)

    def settle(self, ticket: Ticket, *, tokens: int = 0, usd: float = 0.0) -> None:
        """An admitted request has ended and used so much. Idempotent."""
        account = ticket.account
        if ticket.settled:
            return
        ticket.settled = True
        if ticket.run is not None:
            spending = ticket.run.spending
            spending.running -= 1
            spending.spent = spending.spent.plus(AgentUsage(1, tokens, usd))
        if account is None:
            return
        account.running -= 1
        if ticket.lease is not None and self.shared is not None:
            self.shared.settle(ticket.lease, tokens=tokens, usd=usd)
        if tokens:
            account.tokens.add(tokens, now=self._now())
        day = self._day()
        self._spend(account, tokens, usd, day=day)
        if (team := ticket.team) is not None:
            team.running -= 1
            self._spend(team, tokens, usd, day=day)

    def _spend(self, account: Account, tokens: int, usd: float, *, day: str) -> None:
        account.use(1, tokens, usd, day=day)
        if account.has_budget and self._store is not None:
            self._store(account.agent.name, day, AgentUsage(1, tokens, usd))

    def view(self) -> list[dict[str, object]]:
        """What each agent may use and has used, as JSON values."""
        now, day = self._now(), self._day()
        return [_view(account, now=now, day=day) for account in self._accounts.values()]

    def teams_view(self) -> list[dict[str, object]]:
        """What each team may spend and has spent, as JSON values."""
        day, found = self._day(), list[dict[str, object]]()
        for name, account in self._teams.items():
            budget = account.agent.budget
            spent = account.spent(budget.per, day=day)
            found.append(
                {
                    "team": name,
                    "running": account.running,
                    "spent": {"requests": spent.requests, "tokens": spent.tokens, "usd": round(spent.usd, 9)},
                    "budget": {"usd": budget.usd, "tokens": budget.tokens, "per": budget.per},
                }
            )
        return found

    def budgets_left(self) -> Iterator[tuple[str, str, str, float, float]]:
        """Agent, unit, period, what is left, and the whole of each budget. It changes nothing, so
        another thread may call it.
        """
        day = datetime.fromtimestamp(self._wall(), UTC).date().isoformat()
        for account in (*tuple(self._accounts.values()), *tuple(self._teams.values())):
            budget = account.agent.budget
            spent = account.spent(budget.per, day=day)
            for unit, limit, used in (
                ("usd", budget.usd, spent.usd),
                ("tokens", budget.tokens, spent.tokens),
            ):
                if limit is not None:
                    yield account.agent.name, unit, budget.per, max(0.0, limit - used), float(limit)

    def _check(self, account: Account) -> None:
        agent, now = account.agent, self._now()
        for each in (account, account.team):
            if each is not None and each.has_budget:
                spent = each.spent(each.agent.budget.per, day=self._day())
                if _is_used_up(each.agent.budget, spent):
                    raise budget_used_up(each.agent.name, each.agent.budget, spent)
                _check_reserved(each, spent)
        if agent.concurrent is not None and account.running >= agent.concurrent:
            raise too_many_at_once(agent, account.running)
        rate = agent.rate
        for limit, window, what in (
            (rate.requests, account.requests, "requests"),
            (rate.tokens, account.tokens, "tokens"),
        ):
            if limit is not None and (wait := window.wait(limit, now=now)) > 0:
                raise too_fast(agent, window.sum(now=now), limit, what, wait)

    def _day(self) -> str:
        """Today in UTC. A clock that is set back does not reset a day."""
        now = self._wall()
        if now < self._today_ends:
            return self._today
        day = datetime.fromtimestamp(now, UTC).date().isoformat()
        if day > self._today:
            self._today = day
            self._today_ends = (now // DAY + 1) * DAY
            for account in self._all.values():
                account.forget_before(day)
        return self._today


def too_many_at_once(agent: AgentConfig, running: int) -> AgentLimited:
    return AgentLimited(
        f"The agent {agent.name!r} has {running} requests running, and may have {agent.concurrent} at once.",
        code="agent_concurrency_limited",
    )


def too_fast(agent: AgentConfig, used: int, limit: int | None, what: str, wait: float) -> AgentLimited:
    """`wait` is in seconds."""
    return AgentLimited(
        f"The agent {agent.name!r} used {used} {what} in the last minute, and may use {limit}. "
        f"Try again in {math.ceil(wait)} seconds.",
        retry_after=float(math.ceil(wait)),
    )


def reserved(name: str, running: int) -> AgentLimited:
    return AgentLimited(
        f"What is left of the budget of {_whose(name)[0]} is reserved by its {running} running requests. Try again when one of them has ended.",
        code="agent_budget_reserved",
    )


def budget_used_up(name: str, budget: BudgetConfig, spent: AgentUsage) -> BudgetExceeded:
    per = {"day": "today (UTC)", "month": "this month (UTC)", "total": "in all"}[budget.per]
    if budget.tokens is not None and spent.tokens >= budget.tokens:
        used, limit = f"{spent.tokens} tokens", str(budget.tokens)
    else:
        used, limit = f"${spent.usd:.6g}", f"${budget.usd or 0:g}"
    whose, table = _whose(name)
    return BudgetExceeded(
        f"Policy: the budget of {whose} is used up: {used} of {limit} {per}. Its setting is budget under [[{table}]]."
    )


def _is_used_up(budget: BudgetConfig, spent: AgentUsage) -> bool:
    return (budget.usd is not None and spent.usd >= budget.usd) or (
        budget.tokens is not None and spent.tokens >= budget.tokens
    )


def _whose(name: str) -> tuple[str, str]:
    """An account's owner in words, and its table of the config."""
    if name.startswith(TEAM):
        return f"the team {name.removeprefix(TEAM)!r}", "teams"
    return f"the agent {name!r}", "agents"


def _check_reserved(account: Account, spent: AgentUsage) -> None:
    """Raises AgentLimited if the running requests, each at the average, may use up the budget. A
    single request is always admitted.
    """
    budget, whole = account.agent.budget, account.spent("total", day="")
    if not account.running or not whole.requests:
        return
    for limit, used, total in (
        (budget.usd, spent.usd, whole.usd),
        (budget.tokens, spent.tokens, whole.tokens),
    ):
        if limit is not None and used + account.running * total / whole.requests >= limit:
            raise reserved(account.agent.name, account.running)


def _view(account: Account, *, now: float, day: str) -> dict[str, object]:
    agent = account.agent
    budget, rate = agent.budget, agent.rate
    spent = account.spent(budget.per, day=day)
    return {
        "agent": agent.name,
        "team": agent.team,
        "models": list(agent.models),
        "tools": list(agent.tools),
        "running": account.running,
        "concurrent": agent.concurrent,
        "last_minute": {
            "requests": account.requests.sum(now=now),
            "tokens": account.tokens.sum(now=now),
        },
        "rate": {"requests": rate.requests, "tokens": rate.tokens},
        "spent": {
            "requests": spent.requests,
            "tokens": spent.tokens,
            "usd": round(spent.usd, 9),
            "per": budget.per,
        },
        "budget": {"usd": budget.usd, "tokens": budget.tokens, "per": budget.per},
        "refused": account.refused,
    }
