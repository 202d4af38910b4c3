"""Decides `thinking` and `output_config.effort` of a Messages request
(docs/reference/translation.md#reasoning-effort).
"""

from __future__ import annotations

from modelplex.core.request import ChatRequest, Effort, ModelFacts, ReasoningOptions
from modelplex.dialects.core.effort import BUDGETS, budget_of, effort_of
from modelplex.dialects.core.ledger import Ledger

LEAST_BUDGET = 1024
"""Tokens; the smallest `thinking.budget_tokens` that the service takes."""

Thinking = dict[str, object] | None


class ThinkingWriter:
    """Decides by what the request asks for and what the model has. Reports what it cannot have."""

    def __init__(self, call: ChatRequest, ledger: Ledger, facts: ModelFacts, *, native: bool) -> None:
        self._reasoning = call.reasoning
        self._ledger = ledger
        self._facts = facts
        self._native = native

    def write(
        self, *, max_tokens: int, is_prefill: bool, lacks_thinking: bool
    ) -> tuple[Thinking, str | None]:
        """`thinking` and the effort. `is_prefill`: the last message is to be continued;
        `lacks_thinking`: the turn that is continued has no thinking.
        """
        self._ledger.take_all(*(f"reasoning.{name}" for name in ("effort", "budget", "mode", "show")))
        if self._reasoning is None:
            return None, None
        thinking, effort = self._wanted(self._reasoning, max_tokens)
        if thinking is not None and thinking["type"] in {"enabled", "adaptive"} and is_prefill:
            self._ledger.drop(
                "reasoning", "a model that thinks does not continue an answer that was begun for it"
            )
            thinking = self._disabled()
        if thinking is not None and thinking["type"] == "enabled" and lacks_thinking:
            # Manual thinking wants the turn that is being continued to start with it; adaptive
            # thinking does not.
            self._ledger.drop(
                "reasoning", "the turn that is being continued has no thinking, so that none is accepted now"
            )
            thinking = self._disabled()
        show = self._show(self._reasoning.show)
        if show is not None and thinking is not None and thinking["type"] in {"enabled", "adaptive"}:
            thinking = {**thinking, "display": show}
        return thinking, self._beside(thinking, effort)

    def _beside(self, thinking: Thinking, effort: str | None) -> str | None:
        """The effort that the model takes beside this thinking."""
        most = self._facts.effort_without_thinking
        if thinking is None or thinking["type"] not in {"disabled", "between_tools"}:
            return effort
        if effort not in BUDGETS or BUDGETS[effort] <= BUDGETS[most]:
            return effort
        self._ledger.clamp("reasoning", f"without thinking this model takes an effort of {most} at most")
        return most

    def _disabled(self) -> Thinking:
        if self._facts.can_disable_thinking:
            return {"type": "disabled"}
        return {"type": "between_tools"} if self._facts.thinks_between_tools else None

    def _show(self, show: str | None) -> str | None:
        if show in {"concise", "detailed"}:
            self._ledger.lower("reasoning.show", "sent as summarized")
            return "summarized"
        return show if show in {"summarized", "omitted"} else None

    def _wanted(self, reasoning: ReasoningOptions, max_tokens: int) -> tuple[Thinking, str | None]:
        effort, budget, mode = reasoning.effort, reasoning.budget, reasoning.mode
        kind = self._facts.thinking
        if effort is None and budget is None and mode is None:
            return None, None
        if mode == "disabled" or budget == 0 or (mode is None and effort == "none"):
            return self._turn_off(), self._effort(effort)
        if kind == "none":
            self._ledger.drop("reasoning", "this model does not think")
            return None, None
        if mode == "between_tools":
            if kind == "manual":
                self._ledger.drop("reasoning", "this model does not think between tools")
                return None, None
            return {"type": "between_tools"}, self._effort(effort)
        if self._native and mode is None and budget is None:
            return None, self._effort(effort)  # output_config.effort alone turns nothing on
        wants_budget = budget is not None and mode != "adaptive"
        if kind == "manual" or (kind == "both" and wants_budget):
            if mode == "adaptive":
                self._ledger.lower("reasoning", "this model thinks within a budget, not adaptively")
            # Adaptive thinking without an effort is "high".
            tokens = budget if wants_budget else budget_of(effort if effort in BUDGETS else "high")
            return self._within(tokens or LEAST_BUDGET, max_tokens), None
        if wants_budget:
            self._ledger.lower("reasoning", "this model takes an effort instead of a budget")
            return {"type": "adaptive"}, self._effort(effort_of(budget or 0))
        return {"type": "adaptive"}, self._effort(effort)

    def _turn_off(self) -> Thinking:
        if self._facts.thinking == "none":
            return None  # nothing is lost: it does not think
        if self._facts.thinks_between_tools:
            self._ledger.lower("reasoning", "the least thinking of this model is between tools")
        elif not self._facts.can_disable_thinking:
            self._ledger.drop("reasoning", "this model always thinks")
        return self._disabled()

    def _effort(self, effort: Effort | None) -> str | None:
        if effort is None or effort == "none":
            return None
        if self._facts.thinking in {"none", "manual"}:
            self._ledger.drop("reasoning", "this model has no levels of effort")
            return None
        if effort == "minimal":
            self._ledger.clamp("reasoning", "the least effort is low here")
            return "low"
        return effort

    def _within(self, budget: int, max_tokens: int) -> Thinking:
        """Manual thinking, with a budget that leaves room for the answer: 1024 <= budget <
        max_tokens.
        """
        if max_tokens <= LEAST_BUDGET:
            self._ledger.drop(
                "reasoning", f"thinking takes at least {LEAST_BUDGET} tokens, and max_tokens is {max_tokens}"
            )
            return self._disabled()
        fitting = max(budget, LEAST_BUDGET)
        if fitting >= max_tokens:
            # Half for the answer: one token would be too few.
            fitting = max(LEAST_BUDGET, max_tokens // 2)
        if fitting != budget:
            self._ledger.clamp(
                "reasoning", f"the thinking budget is {fitting} tokens instead of {budget}, to fit max_tokens"
            )
        return {"type": "enabled", "budget_tokens": fitting}
