"""Efforts and budgets lead back to each other."""

import pytest

from modelplex.core.request import Effort
from modelplex.dialects.core.effort import BUDGETS, budget_of, effort_of


@pytest.mark.parametrize("effort", list(BUDGETS))
def test_efforts_and_budgets_lead_back_to_each_other(effort: Effort) -> None:
    assert effort_of(budget_of(effort)) == effort
    assert budget_of(effort, most=2000) == min(BUDGETS[effort], 2000)


@pytest.mark.parametrize(
    ("tokens", "effort"),
    [(-1, "minimal"), (0, "minimal"), (1023, "minimal"), (2047, "minimal"), (2048, "low"), (10**9, "max")],
)
def test_the_effort_is_the_highest_whose_budget_is_not_above(tokens: int, effort: Effort) -> None:
    assert effort_of(tokens) == effort


def test_no_effort_has_no_budget_and_budgets_grow() -> None:
    assert budget_of("none") == 0
    assert list(BUDGETS.values()) == sorted(BUDGETS.values())
