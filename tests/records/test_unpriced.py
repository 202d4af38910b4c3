"""Models of unknown price under a budget in dollars."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.config import Config, parse, provider_types
from modelplex.core.events import Usage
from modelplex.records import unpriced
from modelplex.records.record import AttemptRecord, Record
from modelplex.records.unpriced import UnpricedModel, UnpricedWarnings, unpriced_models
from modelplex.routing.aliases import Directory, ServedModels
from tests.records.lines import record

PROVIDER = '[[providers]]\nname = "up"\ntype = "openai"\napi_key = "k"\nbase_url = "http://gpu:8000/v1"\n'
AGENT = '[[agents]]\nname = "coder"\ntoken = "a-token-of-16-ch"\nbudget = { usd = 1.0 }\n'
PRICE = '[[prices]]\nmodel = "m"\ninput = 1.0\noutput = 2.0\n'
EXACT = Directory((ServedModels("up", names=frozenset({"m", "n"})),))
GLOB = Directory((ServedModels("up", names=frozenset({"m"}), patterns=("x-*",)),))


def config(text: str) -> Config:
    return parse((PROVIDER + text).encode(), file="config.toml", environ={}, types=provider_types())


class Events:
    """Keeps the warnings of a log."""

    def __init__(self) -> None:
        self.warnings: list[dict[str, Any]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.warnings.append({"event": event, **fields})

    debug = info = error = warning


def unpriced_attempt(model: str, *, agent: str = "coder", charge: float | None = None) -> Record:
    attempt = AttemptRecord("up", model, 0, "ok", usage=Usage(fresh=1), charge=charge)
    return record(agent=agent, attempts=(attempt,))


def test_each_model_without_a_price_is_found_once() -> None:
    found = unpriced_models(config(AGENT + PRICE), EXACT)
    assert found == [UnpricedModel("coder", "up", "n", refused=False)]
    assert "no price is known of up/n: the budget counts no dollars for it" in found[0].message


def test_a_refused_model_is_reported_as_refused() -> None:
    (found,) = unpriced_models(config(AGENT + 'on_unpriced = "refuse"\n' + PRICE), EXACT)
    assert found.refused
    assert "it is refused" in found.message


def test_a_glob_stands_for_any_model_of_its_provider() -> None:
    found = unpriced_models(config(AGENT + PRICE), GLOB)
    assert found == [UnpricedModel("coder", "up", "", refused=False)]
    assert "the models of up" in found[0].message
    assert unpriced_models(config(AGENT + PRICE.replace('"m"', '"*"')), GLOB) == []


@pytest.mark.parametrize("agent", ["", AGENT.replace("usd = 1.0", "tokens = 5")])
def test_only_a_budget_in_dollars_needs_prices(agent: str) -> None:
    assert unpriced_models(config(agent), EXACT) == []


def test_models_that_an_agent_may_not_use_do_not_count() -> None:
    assert unpriced_models(config(AGENT + 'models = ["m"]\n' + PRICE), EXACT) == []


def test_a_model_is_warned_about_once_until_the_config_changes() -> None:
    log = Events()
    warnings = UnpricedWarnings(config(AGENT + PRICE), log)
    warnings.check(EXACT)
    warnings.check(EXACT)
    warnings.record(unpriced_attempt("n"))
    assert [(one["agent"], one["provider"], one["model"]) for one in log.warnings] == [("coder", "up", "n")]
    warnings.record(unpriced_attempt("x-1"))
    assert log.warnings[-1]["model"] == "x-1"
    warnings.configure(config(AGENT))
    warnings.check(EXACT)
    assert [one["model"] for one in log.warnings[2:]] == ["m", "n"]


def test_calls_that_cost_nothing_here_are_not_warned_about() -> None:
    log = Events()
    warnings = UnpricedWarnings(config(AGENT), log)
    warnings.record(unpriced_attempt("n", agent=""))
    warnings.record(unpriced_attempt("n", agent="other"))
    warnings.record(unpriced_attempt("n", charge=0.5))
    warnings.record(record(agent="coder", attempts=(AttemptRecord("up", "n", 0, "timeout"),)))
    assert log.warnings == []


def test_invented_names_do_not_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpriced, "WARNINGS_LIMIT", 3)
    log = Events()
    warnings = UnpricedWarnings(config(AGENT), log)
    for number in range(10):
        warnings.record(unpriced_attempt(f"x-{number}"))
    assert len(log.warnings) == 3
