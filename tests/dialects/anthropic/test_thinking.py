"""Which thinking a model is asked for."""

from typing import Any

import pytest

from modelplex.core.request import ChatRequest, ModelFacts, ReasoningOptions
from modelplex.dialects.anthropic.thinking import LEAST_BUDGET, ThinkingWriter
from modelplex.dialects.core.ledger import Ledger


def decided(
    reasoning: ReasoningOptions | None, *, max_tokens: int = 8000, native: bool = False, **facts: Any
) -> tuple[Any, list[str]]:
    call = ChatRequest(dialect="d", model="m", messages=(), reasoning=reasoning)
    ledger = Ledger(call)
    writer = ThinkingWriter(call, ledger, ModelFacts(**facts), native=native)
    found = writer.write(max_tokens=max_tokens, is_prefill=False, lacks_thinking=False)
    return found, [change.op for change in ledger.settle()]


@pytest.mark.parametrize(
    ("reasoning", "facts", "expected"),
    [
        (None, "manual", (None, None)),
        (ReasoningOptions(effort="low"), "manual", ({"type": "enabled", "budget_tokens": 2048}, None)),
        (ReasoningOptions(effort="low"), "adaptive", ({"type": "adaptive"}, "low")),
        (ReasoningOptions(effort="none"), "adaptive", ({"type": "disabled"}, None)),
        (ReasoningOptions(budget=3000), "both", ({"type": "enabled", "budget_tokens": 3000}, None)),
        (ReasoningOptions(mode="enabled"), "adaptive", ({"type": "adaptive"}, None)),
        (ReasoningOptions(mode="between_tools"), "adaptive", ({"type": "between_tools"}, None)),
        (
            ReasoningOptions(effort="low", show="omitted"),
            "adaptive",
            ({"type": "adaptive", "display": "omitted"}, "low"),
        ),
    ],
)
def test_a_model_gets_what_it_has(reasoning: Any, facts: Any, expected: Any) -> None:
    assert decided(reasoning, thinking=facts) == (expected, [])


@pytest.mark.parametrize(
    ("reasoning", "facts", "expected", "ops"),
    [
        (ReasoningOptions(effort="low"), {"thinking": "none"}, (None, None), ["drop"]),
        (ReasoningOptions(effort="none"), {"can_disable_thinking": False}, (None, None), ["drop"]),
        (
            ReasoningOptions(effort="minimal"),
            {"thinking": "adaptive"},
            ({"type": "adaptive"}, "low"),
            ["clamp"],
        ),
        (
            ReasoningOptions(budget=9000),
            {"thinking": "adaptive"},
            ({"type": "adaptive"}, "medium"),
            ["lower"],
        ),
        (ReasoningOptions(mode="between_tools"), {"thinking": "manual"}, (None, None), ["drop"]),
        (
            ReasoningOptions(mode="disabled", effort="xhigh"),
            {"thinking": "adaptive", "effort_without_thinking": "high"},
            ({"type": "disabled"}, "high"),
            ["clamp"],
        ),
        (
            ReasoningOptions(mode="between_tools", effort="max"),
            {"thinking": "adaptive", "effort_without_thinking": "high"},
            ({"type": "between_tools"}, "high"),
            ["clamp"],
        ),
        (
            ReasoningOptions(effort="none"),
            {"thinking": "adaptive", "can_disable_thinking": False, "thinks_between_tools": True},
            ({"type": "between_tools"}, None),
            ["lower"],
        ),
    ],
)
def test_what_it_does_not_have_is_reported(reasoning: Any, facts: Any, expected: Any, ops: Any) -> None:
    assert decided(reasoning, **facts) == (expected, ops)


@pytest.mark.parametrize(("mode", "effort"), [("disabled", "high"), ("adaptive", "max"), (None, "xhigh")])
def test_an_effort_stays_where_it_is_taken(mode: Any, effort: Any) -> None:
    reasoning = ReasoningOptions(mode=mode, effort=effort)
    (_, found), ops = decided(reasoning, thinking="adaptive", effort_without_thinking="high")
    assert (found, ops) == (effort, [])


@pytest.mark.parametrize("max_tokens", [LEAST_BUDGET + 1, 2000, 4000, 100_000])
@pytest.mark.parametrize("budget", [1, LEAST_BUDGET, 50_000])
def test_a_budget_fits_below_max_tokens(max_tokens: int, budget: int) -> None:
    (thinking, _), _ = decided(ReasoningOptions(budget=budget), max_tokens=max_tokens, thinking="manual")
    assert LEAST_BUDGET <= thinking["budget_tokens"] < max_tokens


def test_an_effort_alone_turns_nothing_on_for_a_client_of_the_same_dialect() -> None:
    found, _ = decided(ReasoningOptions(effort="high"), native=True, thinking="adaptive")
    assert found == (None, "high")
