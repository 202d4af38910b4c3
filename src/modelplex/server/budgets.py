"""The budgets of agents across restarts and gateways: opens the file of what was spent, and
adds what other gateways with the same file spend. SQLite is loaded where an agent has a budget.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelplex.config import BudgetConfig, Config
from modelplex.config.state_folder import state_folder
from modelplex.limits.agent_limits import AgentLimits
from modelplex.limits.agent_usage import NOTHING, AgentUsage
from modelplex.records.log import EventLog
from modelplex.server.shared_gateways import SharedGateways

if TYPE_CHECKING:
    from modelplex.limits.budget_store import BudgetStore


class Budgets:
    """`report_error` gets a sentence. With [shared] the engine of `shared` keeps what was spent."""

    def __init__(
        self, limits: AgentLimits, *, shared: SharedGateways, report_error: Callable[[str], None]
    ) -> None:
        self._limits = limits
        self.shared = shared
        self._report_error = report_error
        self._store: BudgetStore | None = None
        self._opening: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def open(self, config: Config) -> None:
        """Open the file, if an agent has a budget. Raises BudgetStoreError and SharedError."""
        async with self._lock:
            if config.shared.url is not None:
                await self.shared.open(config)
                return
            needed = bool(config.teams) or any(agent.budget != BudgetConfig() for agent in config.agents)
            if self._store is not None or not needed:
                return
            from modelplex.limits.budget_store import BudgetStore

            folder = state_folder(config.server.state_folder, environ=os.environ)
            self._store = store = await asyncio.to_thread(
                BudgetStore, folder, report_error=self._report_error
            )
            self._limits.use_store(store.stored, store.add)
            loop = asyncio.get_running_loop()

            def on_foreign(agent: str, day: str, spent: AgentUsage) -> None:
                loop.call_soon_threadsafe(self._add_foreign, agent, day, spent)

            store.on_foreign = on_foreign

    def open_after_reload(self, config: Config) -> None:
        """Open the file in the background. A failure is reported."""
        self._opening = asyncio.create_task(self._open_or_report(config))

    async def _open_or_report(self, config: Config) -> None:
        from modelplex.limits.budget_store import BudgetStoreError

        try:
            await self.open(config)
        except BudgetStoreError as error:
            self._report_error(error.sentence)

    def _add_foreign(self, agent: str, day: str, spent: AgentUsage) -> None:
        if self._store is not None:
            days = self._store.stored.setdefault(agent, {})
            days[day] = days.get(day, NOTHING).plus(spent)
        self._limits.add_foreign(agent, day, spent)

    async def close(self) -> None:
        if self._opening is not None:
            await self._opening
        await self.shared.close()
        if self._store is not None and not await asyncio.to_thread(self._store.close):
            self._report_error(f"what agents spent last could not be written to {self._store.path}")

    def status(self) -> dict[str, object] | None:
        """For `/_internal/agents`. None if there is no file."""
        store = self._store
        if store is None:
            return None
        return {"path": str(store.path), "waiting": store.waiting, "failures": store.failures}


def new_budgets(limits: AgentLimits, events: EventLog) -> Budgets:
    return Budgets(limits, shared=SharedGateways(limits, events=events), report_error=events.error)
