"""How reasoning is asked for, by the maker of the model."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.core.request import Message, ReasoningOptions, Sampling, TextPart
from modelplex.dialects.bedrock_converse.reasoning import Asked
from tests.dialects.bedrock_converse.writing import (
    ADAPTIVE,
    CLAUDE,
    GPT_OSS,
    LLAMA,
    NOVA,
    OLD_CLAUDE,
    attempt,
    request,
    write,
)

HI = Message("user", (TextPart("Hi"),))
ENABLED = {"type": "enabled"}


def asked(model: str, *, max_tokens: int | None = None, **options: Any) -> tuple[Any, Any, list[str]]:
    """`additionalModelRequestFields`, `outputConfig` and the operations of the report."""
    call = request(HI, reasoning=ReasoningOptions(**options), max_tokens=max_tokens)
    body, written = write(call, attempt(model))
    return (
        body.get("additionalModelRequestFields"),
        body.get("outputConfig"),
        [change.op for change in written.changes],
    )


@pytest.mark.parametrize(
    ("model", "options", "fields", "output", "lost"),
    [
        (CLAUDE, {"effort": "low"}, {"thinking": {**ENABLED, "budget_tokens": 2048}}, None, []),
        (CLAUDE, {"budget": 4000}, {"thinking": {**ENABLED, "budget_tokens": 4000}}, None, []),
        (CLAUDE, {"budget": 10}, {"thinking": {**ENABLED, "budget_tokens": 1024}}, None, []),
        (CLAUDE, {"mode": "disabled"}, None, None, []),
        (CLAUDE, {"mode": "enabled"}, {"thinking": {**ENABLED, "budget_tokens": 16384}}, None, []),
        (ADAPTIVE, {"effort": "high"}, {"thinking": {"type": "adaptive"}}, {"effort": "high"}, []),
        (ADAPTIVE, {"effort": "minimal"}, {"thinking": {"type": "adaptive"}}, {"effort": "low"}, ["clamp"]),
        (ADAPTIVE, {"budget": 2000}, {"thinking": {**ENABLED, "budget_tokens": 2000}}, None, []),
        ("us.anthropic.claude-opus-4-8", {"budget": 9000}, {"thinking": {"type": "adaptive"}}, {"effort": "medium"}, ["lower"]),
        ("us.anthropic.claude-opus-5-5", {"effort": "none"}, None, None, ["drop"]),
        (OLD_CLAUDE, {"effort": "high"}, None, None, ["drop"]),
        (NOVA, {"effort": "low"}, {"reasoningConfig": {**ENABLED, "maxReasoningEffort": "low"}}, None, []),
        (NOVA, {"effort": "max"}, {"reasoningConfig": {**ENABLED, "maxReasoningEffort": "high"}}, None, ["clamp"]),
        (NOVA, {"budget": 9000}, {"reasoningConfig": {**ENABLED, "maxReasoningEffort": "medium"}}, None, []),
        (NOVA, {"effort": "none"}, None, None, []),
        (GPT_OSS, {"effort": "medium"}, {"reasoning_effort": "medium"}, None, []),
        (GPT_OSS, {"effort": "none"}, {"reasoning_effort": "low"}, None, ["clamp"]),
        (LLAMA, {"effort": "high"}, None, None, ["drop"]),
        (NOVA, {"show": "summarized"}, None, None, ["drop"]),
    ],
)  # fmt: skip
def test_reasoning_is_asked_for_in_the_models_own_words(
    model: str, options: dict[str, Any], fields: Any, output: Any, lost: list[str]
) -> None:
    assert asked(model, **options) == (fields, output, lost)


def test_a_budget_fits_the_limit_or_there_is_none() -> None:
    fields, _, lost = asked(CLAUDE, effort="high", max_tokens=4000)
    assert fields == {"thinking": {**ENABLED, "budget_tokens": 2000}}
    assert lost == ["clamp"]
    assert asked(CLAUDE, effort="high", max_tokens=1000) == (None, None, ["drop"])


def test_sampling_parameters_are_not_sent_beside_thinking() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.5, top_k=5)
    for model in (CLAUDE, NOVA):
        call = request(HI, reasoning=ReasoningOptions(effort="high"), sampling=sampling)
        body, written = write(call, attempt(model))
        assert "inferenceConfig" not in body
        assert [change.op for change in written.changes] == ["drop", "drop", "drop"]


def test_nova_takes_no_limit_at_high_effort() -> None:
    call = request(HI, reasoning=ReasoningOptions(effort="high"), max_tokens=100)
    body, written = write(call, attempt(NOVA))
    assert "inferenceConfig" not in body
    assert [(change.op, change.path) for change in written.changes] == [("drop", "max_tokens")]


def test_what_is_shown_for_debugging() -> None:
    assert repr(Asked()) == "<Asked {} None>"
