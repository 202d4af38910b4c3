"""The tables of limits over several gateways, and the model of docs/why/scale.md."""

from pathlib import Path

import pytest

from benchmarks.scale import Costs, Overspend, computed, cost_table, model_table

COSTS = Costs(alone=250.0, shared=500.0, engine=73.0, script=66.0, messages=0.25)
PAGE = Path(__file__).resolve().parent.parent / "docs" / "why" / "scale.md"


def test_costs_are_requests_per_cpu_second() -> None:
    (row,) = cost_table({4: (COSTS, Overspend(400, 402, 32))}).splitlines()[2:]
    assert row == "| 4 | 4,000 | 2,000 | 250 | 73 | 66 | 0.25 | 402 | 32 |"


def test_an_engine_is_a_queue() -> None:
    at = computed(100, requests=20.0, script=66.0, messages=0.25)
    assert at.requests == 2000.0
    assert at.messages == 520.0
    assert at.used == pytest.approx(0.13728)
    assert at.wait == pytest.approx(264 * 0.13728 / (2 * 0.86272))
    assert computed(1000, requests=20.0, script=66.0, messages=0.25).wait == float("inf")


def test_the_page_has_the_figures_of_the_model() -> None:
    page = PAGE.read_text()
    for row in model_table(COSTS, requests=20.0).splitlines()[2:]:
        hosts, agents, requests = row.split(" | ")[:3]
        assert f"{hosts} | {agents} | {requests} |" in page
    assert f"({computed(1000, requests=14.0, script=66.0, messages=0.25).used:.0%} of a core)" in page
