"""Budgets across restarts and gateways: when the file is opened, and what counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from modelplex.config import Config, parse, provider_types
from modelplex.core.caller import Caller
from modelplex.core.errors import BudgetExceeded
from modelplex.limits.agent_limits import AgentLimits
from modelplex.limits.agent_usage import AgentUsage
from modelplex.limits.budget_store import FILE, BudgetStore, BudgetStoreError
from modelplex.server.budgets import Budgets
from modelplex.server.shared_gateways import SharedGateways

WAIT_S = 20.0
CODER = Caller(listener="unix:/c.sock", kind="unix", agent="coder")


def read(folder: Path, *, budget: str = "budget = { tokens = 10 }") -> Config:
    text = (
        f'[server]\nstate_folder = "{folder}"\n[[providers]]\ntype = "demo"\n'
        f'[[agents]]\nname = "coder"\ntoken = "a-long-enough-token"\n{budget}\n'
    )
    return parse(text.encode(), file="c.toml", environ={}, types=provider_types())


class Made:
    """Budgets of a config, with the errors that they report."""

    def __init__(self, config: Config) -> None:
        self.errors: list[str] = []
        self.limits = AgentLimits(config.agents, now=lambda: 0.0, wall=lambda: 0.0)
        shared = SharedGateways(self.limits, events=None)  # type: ignore[arg-type]
        self.budgets = Budgets(self.limits, shared=shared, report_error=self.errors.append)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.sleep(0.005)


async def test_without_a_budget_there_is_no_file(tmp_path: Path) -> None:
    config = read(tmp_path / "state", budget="")
    made = Made(config)
    await made.budgets.open(config)
    assert made.budgets.status() is None
    await made.budgets.close()
    assert not (tmp_path / "state").exists()


async def test_what_was_spent_before_counts_again(tmp_path: Path) -> None:
    config = read(tmp_path)
    for _ in range(2):
        made = Made(config)
        await made.budgets.open(config)
        await made.budgets.open(config)  # opened once
        made.limits.settle(made.limits.admit(CODER), tokens=5)
        await made.budgets.close()
    made = Made(config)
    await made.budgets.open(config)
    with pytest.raises(BudgetExceeded):
        made.limits.admit(CODER)
    status = made.budgets.status()
    assert status == {"path": str(tmp_path / FILE), "waiting": 0, "failures": 0}
    await made.budgets.close()
    assert not made.errors


async def test_what_another_gateway_spends_counts_too(tmp_path: Path) -> None:
    config = read(tmp_path)
    made = Made(config)
    await made.budgets.open(config)
    other = await asyncio.to_thread(BudgetStore, tmp_path, report_error=made.errors.append)
    other.add("coder", "1970-01-01", AgentUsage(1, 10, 0.0))
    assert await asyncio.to_thread(other.close)
    await until(lambda: "'spent': {'requests': 1, 'tokens': 10" in str(made.limits.view()))
    with pytest.raises(BudgetExceeded):
        made.limits.admit(CODER)
    await made.budgets.close()


async def test_a_reload_that_adds_a_budget_opens_the_file(tmp_path: Path) -> None:
    without = read(tmp_path, budget="")
    made = Made(without)
    await made.budgets.open(without)
    made.budgets.open_after_reload(read(tmp_path))
    await until(lambda: made.budgets.status() is not None)
    await made.budgets.close()
    assert not made.errors


async def test_a_file_that_cannot_be_opened_is_an_error_at_the_start_and_a_report_after_a_reload(
    tmp_path: Path,
) -> None:
    (tmp_path / FILE).write_bytes(b"no database " * 100)
    config = read(tmp_path)
    made = Made(config)
    with pytest.raises(BudgetStoreError):
        await made.budgets.open(config)
    made.budgets.open_after_reload(config)
    await made.budgets.close()
    (error,) = made.errors
    assert str(tmp_path / FILE) in error
