"""Decides how a Converse request asks for reasoning: a member of `additionalModelRequestFields`,
which differs by the maker of the model (families.py).

- Claude: `thinking` as on Messages, and `outputConfig.effort` beside adaptive thinking.
- Nova 2: `reasoningConfig`, with `maxReasoningEffort` low, medium or high.
- gpt-oss: `reasoning_effort`.
"""

from __future__ import annotations

from typing import Any

from modelplex.core.request import Effort, ModelFacts, ReasoningOptions
from modelplex.dialects.bedrock_converse.families import ModelFamily
from modelplex.dialects.core.effort import BUDGETS, budget_of, effort_of
from modelplex.dialects.core.ledger import Ledger

LEAST_BUDGET = 1024
"""Tokens; the smallest `thinking.budget_tokens`."""
_LEVELS: dict[Effort, str] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}


class Asked:
    """What a request asks for. `fields` are members of `additionalModelRequestFields`, `effort` is
    that of `outputConfig`; `thinks` where Claude's thinking is on. `is_high_nova`: the service
    takes no sampling parameter and no limit beside it
    (https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html was read in
    part; that the service refuses them is told by its clients alone).
    """

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.effort: str | None = None
        self.thinks = False
        self.is_high_nova = False

    def __repr__(self) -> str:
        return f"<Asked {self.fields} {self.effort}>"


def ask(
    reasoning: ReasoningOptions | None,
    ledger: Ledger,
    *,
    family: ModelFamily,
    facts: ModelFacts,
    max_tokens: int | None,
) -> Asked:
    """Reports what the model cannot be asked for."""
    asked = Asked()
    if reasoning is None:
        return asked
    ledger.take_mode()
    ledger.take_all("reasoning.effort", "reasoning.budget")
    is_off = reasoning.mode == "disabled" or reasoning.budget == 0 or reasoning.effort == "none"
    effort = reasoning.effort or (None if reasoning.budget is None else effort_of(reasoning.budget))
    if effort is None and reasoning.mode is not None:
        effort = "high"
    if family.reasoning == "":
        if not is_off or facts.thinking != "none":
            ledger.drop("reasoning", "this model's reasoning cannot be set here")
    elif is_off:
        _turn_off(asked, ledger, family, facts)
    elif effort is None:
        pass
    elif family.reasoning == "thinking":
        _claude(asked, reasoning, effort, ledger, facts=facts, max_tokens=max_tokens)
    else:
        _levels(asked, effort, ledger, family)
    return asked


def _turn_off(asked: Asked, ledger: Ledger, family: ModelFamily, facts: ModelFacts) -> None:
    """Claude and Nova do not reason unless they are asked to."""
    if family.reasoning == "reasoning_effort":
        ledger.clamp("reasoning", "this model always reasons: sent as low")
        asked.fields["reasoning_effort"] = "low"
    elif family.reasoning == "thinking" and facts.thinking == "adaptive" and not facts.can_disable_thinking:
        ledger.drop("reasoning", "this model always thinks")


def _levels(asked: Asked, effort: Effort, ledger: Ledger, family: ModelFamily) -> None:
    level = _LEVELS[effort]
    if level != effort:
        ledger.clamp("reasoning", f"this model's nearest level to {effort!r} is {level!r}")
    if family.reasoning == "reasoning_effort":
        asked.fields["reasoning_effort"] = level
    else:
        asked.fields["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": level}
        asked.is_high_nova = level == "high"


def _claude(
    asked: Asked,
    reasoning: ReasoningOptions,
    effort: Effort,
    ledger: Ledger,
    *,
    facts: ModelFacts,
    max_tokens: int | None,
) -> None:
    if facts.thinking == "none":
        ledger.drop("reasoning", "this model does not think")
        return
    if facts.thinking in {"adaptive", "both"} and reasoning.budget is None:
        asked.thinks = True
        asked.fields["thinking"] = {"type": "adaptive"}
        asked.effort = "low" if effort == "minimal" else effort
        if asked.effort != effort:
            ledger.clamp("reasoning", "the least effort is low here")
        return
    if facts.thinking == "adaptive":
        ledger.lower("reasoning", "this model takes an effort instead of a budget")
        asked.thinks = True
        asked.fields["thinking"] = {"type": "adaptive"}
        asked.effort = "low" if effort == "minimal" else effort
        return
    budget = max(reasoning.budget or budget_of(effort if effort in BUDGETS else "high"), LEAST_BUDGET)
    if max_tokens is not None and budget >= max_tokens:
        if max_tokens <= LEAST_BUDGET:
            ledger.drop(
                "reasoning", f"thinking takes at least {LEAST_BUDGET} tokens, and max_tokens is {max_tokens}"
            )
            return
        budget = max(LEAST_BUDGET, max_tokens // 2)
        ledger.clamp("reasoning", f"the thinking budget is {budget} tokens, to fit max_tokens")
    asked.thinks = True
    asked.fields["thinking"] = {"type": "enabled", "budget_tokens": budget}
