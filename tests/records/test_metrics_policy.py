"""Counts by policy rule and agent, budgets, and what bounds the labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelplex.core.request import StrippedValue
from modelplex.records import metrics as module
from modelplex.records.metrics import OTHER, BudgetLeft, Metrics
from modelplex.records.record import AttemptRecord
from tests.gateways import gateway
from tests.records.scraping import record, value


def test_what_the_policy_takes_out_and_refuses_is_counted_by_rule_and_agent() -> None:
    counts = Metrics()
    stripped = (StrippedValue("/a", "web-search"), StrippedValue("/b", "web-search"))
    for _ in range(2):  # the second one takes the short way of a usual call
        counts.record(record(agent="a", stripped=stripped))
    counts.record(
        record(agent="a", outcome="error", blame="policy", code="policy_denied", rule="remote-data")
    )
    counts.record(record(agent="a", outcome="error", blame="policy", code="agent_rate_limited"))
    counts.record(record(agent="a", outcome="error", blame="provider", code="overloaded"))
    assert value(counts, "modelplex_policy_stripped_total", rule="web-search", agent="a") == 4
    assert value(counts, "modelplex_policy_refused_total", rule="remote-data", agent="a") == 1
    assert value(counts, "modelplex_policy_refused_total", rule="agent_rate_limited", agent="a") == 1


def test_agents_that_come_and_go_do_not_fill_the_memory(monkeypatch: object) -> None:
    counts = Metrics()
    for number in range(module.AGENTS_LIMIT + 3):
        counts.record(record(agent=f"a{number}", stripped=(StrippedValue("/a", "web-search"),)))
    assert len(counts.agents) == module.AGENTS_LIMIT + 1
    assert len({key[4] for key in counts.requests}) == module.AGENTS_LIMIT + 1
    assert counts.stripped["web-search", OTHER] == 3


def test_models_of_attempts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some providers serve any number of models, and an agent may ask for all of them."""
    monkeypatch.setattr(module, "ATTEMPTS_LIMIT", 3)
    counts = Metrics()
    for number in range(20):
        tried = (AttemptRecord("openai", f"m{number}", 0, "ok", 200, 2.0),)
        for _ in range(2):  # the second one takes the short way of a usual call
            counts.record(record(model=f"m{number}", attempts=tried))
    assert len(counts.attempts) == 4
    assert value(counts, "modelplex_attempts_total", provider=OTHER, model=OTHER, outcome=OTHER) == 34


def test_what_is_left_of_a_budget_is_rendered() -> None:
    counts = Metrics(budgets=lambda: [BudgetLeft("a", "usd", "day", 1.5, 5.0)])
    assert value(counts, "modelplex_budget_left", agent="a", unit="usd", per="day") == 1.5
    assert value(counts, "modelplex_budget", agent="a", unit="usd", per="day") == 5.0


async def test_a_gateway_shows_budgets_and_the_queue_of_the_store(tmp_path: Path) -> None:
    agent = '[[agents]]\nname = "a"\ntoken = "a-long-enough-token"\nbudget = { tokens = 1000 }\n'
    async with gateway(f'[[providers]]\ntype = "demo"\n{agent}', folder=tmp_path) as running:
        headers = ((b"authorization", b"Bearer a-long-enough-token"),)
        body = b'{"model":"demo","messages":[{"role":"user","content":"Hi"}]}'
        assert (await running.ask("POST", "/v1/chat/completions", body, headers=headers)).status == 200
        await running.record()
        text = (await running.ask("GET", "/_internal/metrics")).body.decode()
        (left,) = (row for row in text.splitlines() if row.startswith("modelplex_budget_left{"))
        assert 0 < float(left.rpartition(" ")[2]) < 1000
        assert "modelplex_records_waiting 0.0" in text
