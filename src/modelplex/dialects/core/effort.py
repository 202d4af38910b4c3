"""Converts between reasoning effort and token budgets, by one table for all dialects.

What a model or service takes beyond that is up to the writer.
"""

from __future__ import annotations

from modelplex.core.request import Effort

BUDGETS: dict[Effort, int] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 24576,
    "max": 32000,
}
"""Tokens of reasoning for each effort, least first."""


def budget_of(effort: Effort, *, most: int | None = None) -> int:
    """The budget for an effort, at most `most`. "none" has no budget: it is 0."""
    budget = BUDGETS.get(effort, 0)
    return budget if most is None else min(budget, most)


def effort_of(budget: int) -> Effort:
    """The highest effort whose budget is not above this one; "minimal" below all of them."""
    found: Effort = "minimal"
    for effort, tokens in BUDGETS.items():
        if tokens <= budget:
            found = effort
    return found
