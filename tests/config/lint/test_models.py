"""Targets of aliases, models of agents, and prices of budgets."""

from __future__ import annotations

import pytest

from tests.config.lint.findings import DEMO, OPENAI, Found, findings, found


@pytest.mark.parametrize(
    ("aliases", "expected", "words"),
    [
        ('a = "a"', [("alias-loop", 6, "aliases.a")], "a -> a"),
        (
            'a = ["b"]\nb = "a"',
            [("alias-loop", 6, "aliases.a[0]"), ("alias-loop", 7, "aliases.b")],
            "a -> b -> a",
        ),
        ('a = "b"\nb = "gpt-4o"', [("alias-of-alias", 6, "aliases.a")], '"gpt-4o"'),
        ('a = ["gpt-4o", "gpt-5"]', [("unknown-target", 6, "aliases.a[1]")], 'did you mean "gpt-4o"'),
        ('a = "opnai/gpt-4o"', [("unknown-target", 6, "aliases.a")], 'did you mean "openai/gpt-4o"'),
        ('a = "openai/gpt-9"', [("unknown-target", 6, "aliases.a")], "add the model"),
    ],
)
def test_an_alias_with_a_wrong_target(aliases: str, expected: list[tuple[str, int, str]], words: str) -> None:
    text = OPENAI + "[aliases]\n" + aliases
    assert found(text) == [Found("error", *each) for each in expected]
    assert words in str(findings(text)[0])


def test_a_target_that_a_provider_may_list_is_no_finding() -> None:
    lists = '[[providers]]\ntype = "openrouter"\napi_key = "${GOOD_KEY}"\n'
    assert found(lists + '[aliases]\na = "meta/llama"\nb = "openrouter/x"\nc = "plain"\n') == []
    assert [each.code for each in found(lists + '[aliases]\na = "openroutr/x"\n')] == ["unknown-target"]


def test_models_of_an_agent_that_no_provider_serves() -> None:
    text = (
        OPENAI + DEMO + '[[agents]]\nname = "a"\ntoken = "a-long-token-1"\nmodels = ["gpt-*", "claude-*"]\n'
    )
    assert found(text) == [Found("warning", "unknown-model", 10, "agents[0].models[1]")]
    assert found(text.replace('"gpt-*", ', "")) == [
        Found("error", "unknown-model", 10, "agents[0].models[0]")
    ]
    for known in ('"openai/*"', '"demo"', '"*"'):
        assert found(text.replace('"claude-*"', known)) == []
    assert found(text.replace('models = ["gpt-4o"]\n', "")) == []


def test_a_budget_in_dollars_without_prices() -> None:
    own = '[[providers]]\nname = "vllm"\ntype = "openai"\nbase_url = "http://gpu:8000/v1"\nmodels = ["llama", "qwen"]\n'
    agent = '[[agents]]\nname = "a"\ntoken = "a-long-token-1"\nbudget = { usd = 5 }\n'
    (one,) = findings(OPENAI + own + agent)
    assert (one.code, one.severity, one.key) == ("unpriced-budget", "warning", "agents[0].budget")
    assert "vllm/llama, vllm/qwen: the budget counts no dollars" in one.message
    (one,) = findings(OPENAI + own + agent + 'on_unpriced = "refuse"\n')
    assert "refused" in one.message
    price = '[[prices]]\nmodel = "*"\nprovider = "vllm"\ninput = 0\noutput = 0\n'
    assert found(OPENAI + own + agent + price) == []
    assert found(OPENAI + own + agent.replace("usd", "tokens")) == []
    assert found(OPENAI + own + agent + 'models = ["openai/*"]\n') == []
