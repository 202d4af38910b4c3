"""Betas, models that send data elsewhere on their own, and off switches (S13, S19, S20)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import pytest
from anthropic.types.anthropic_beta_param import AnthropicBetaParam

from modelplex.core.egress import EgressFacts
from modelplex.dialects.anthropic.policy_betas import DATE, KEPT, OPENED_BY, sealed_betas
from modelplex.dialects.registry import DIALECTS
from modelplex.policy.model_names import refuse_model, required_switches
from modelplex.providers import all_specs
from tests.policy.judging import amended, facts, messages

DROPPED = (
    "mcp-client-2025-04-04 mcp-tunnels-2026-01-01 code-execution-2025-05-22 files-api-2025-04-14 skills-2025-10-02 inline-tools-2026-09-15 "
    "mid-conversation-tool-changes-2026-07-01 message-threads-2026-06-01 message-batches-2024-09-24 server-side-fallback-2026-05-01 "
    "fallback-credit-2026-05-01 advisor-tool-2026-03-01 agent-memory-2026-01-01 managed-agents-2026-04-01 dreaming-2026-04-21 "
    "telemetry-destinations-2026-05-01 webhooks-2026-05-01 user-profiles-2026-03-24 fast-mode-2026-02-01 brand-new-2030-01-01 web-search-2025-03-05"
).split()


def facts_of(kind: str) -> EgressFacts:
    """Of a type of provider; none of a type that is not in the catalog."""
    row = all_specs().get(kind)
    return row.egress if row is not None else EgressFacts()


def allowed_beta(value: str) -> bool:
    """Whether this value alone goes on where no rule is open."""
    return sealed_betas(value, facts())[0] == (value,)


@pytest.mark.parametrize("beginning", KEPT)
def test_a_beta_that_only_shapes_the_answer_is_kept_at_any_date(beginning: str) -> None:
    assert allowed_beta(f"{beginning}2031-12-31")


@pytest.mark.parametrize(
    "value", [*DROPPED, "", "*", "Context-Management-2025-06-27", "x-context-management-2025"]
)
def test_every_other_beta_is_dropped(value: str) -> None:
    assert not allowed_beta(value)


@pytest.mark.parametrize("beginning", KEPT)
@pytest.mark.parametrize(
    "rest",
    [
        "",
        "my-secret-words-2025-01-01",
        "2025-13-01",
        "2025-01-32",
        "20250101-more",
        "1999-01-01",
        "2025-01-01 x",
        "soon",
    ],
)
def test_a_beta_that_is_kept_has_no_room_for_text(beginning: str, rest: str) -> None:
    assert not allowed_beta(beginning + rest)


def test_a_beta_goes_on_with_one_date() -> None:
    header = ",".join(f"claude-code-2025-01-{day:02}" for day in range(1, 29))
    kept, dropped = sealed_betas(header, facts())
    assert kept == ("claude-code-2025-01-01",)
    assert len(dropped) == 27


@pytest.mark.parametrize("value", ["words of mine", "x" * 65, "UPPER-2025-01-01", "a--b", "a_b", "caf\u00e9"])
def test_even_where_betas_are_open_none_has_room_for_text(value: str) -> None:
    assert sealed_betas(value, facts("beta")) == ((), (value,))
    body = messages(betas=[value, "brand-new-2030-01-01"])
    after, stripped = amended(body, "anthropic_messages", facts("beta"))
    assert after["betas"] == ["brand-new-2030-01-01"]
    assert stripped == {"/betas/0": "unknown-value"}


UNDECIDED = (
    "dev-full-thinking- message-batches- agent-memory- managed-agents- dreaming- ce-plugins- spend-limit-reads- telemetry-destinations- webhooks- "
    "admin-user-sign-out- analytics-usage-cost- experimental-claude-tag- cache-diagnosis- ce-user-management- ce-claude-code-managed-settings-"
).split()
"""Betas of the SDK's that are dropped whatever is open but `beta`: other endpoints, or state at the
provider.
"""


def test_every_beta_of_the_official_sdk_was_decided_on() -> None:
    """A new one fails here by its name."""
    literals = [
        each
        for kind in get_args(AnthropicBetaParam)
        if get_origin(kind) is Literal
        for each in get_args(kind)
    ]
    assert len(literals) > 30
    known = (*KEPT, *dict(OPENED_BY), *UNDECIDED)
    undecided = [beta for beta in literals if not any(re.fullmatch(name + DATE, beta) for name in known)]
    assert undecided == []


def test_betas_keep_their_order_and_say_which_are_gone() -> None:
    header = "claude-code-20250219, files-api-2025-04-14,interleaved-thinking-2025-05-14,,context-1m-2025-08-07,claude-code-20250219,mcp-client-2025-04-04"
    kept, dropped = sealed_betas(header, facts())
    assert kept == ("claude-code-20250219", "interleaved-thinking-2025-05-14", "context-1m-2025-08-07")
    assert dropped == ("files-api-2025-04-14", "mcp-client-2025-04-04")
    assert sealed_betas(" , ", facts()) == ((), ())
    assert sealed_betas("files-api-2025-04-14", facts())[0] == ()


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("mcp-client-2025-04-04", "remote-mcp"),
        ("code-execution-2025-08-25", "code-execution"),
        ("files-api-2025-04-14", "stored-file"),
        ("advisor-tool-2026-03-01", "second-model"),
        ("brand-new-2030-01-01", "beta"),
    ],
)
def test_a_beta_passes_where_what_it_is_for_is_open(value: str, rule: str) -> None:
    assert sealed_betas(value, facts(rule)) == ((value,), ())


@pytest.mark.parametrize(
    ("kind", "model", "rule"),
    [
        ("openai", "gpt-4o-search-preview", "self-searching-model"),
        ("openai", "gpt-4o-search-preview-2025-03-11", "self-searching-model"),
        ("openai", "gpt-4o-mini-search-preview", "self-searching-model"),
        ("openai", "o3-deep-research", "self-searching-model"),
        ("openai", "o4-mini-deep-research-2025-06-26", "self-searching-model"),
        ("azure", "o3-deep-research", "self-searching-model"),
        ("openrouter", "openai/gpt-4o-search-preview", "self-searching-model"),
        ("openrouter", "anthropic/claude-sonnet:online", "self-searching-model"),
        ("openrouter", "Anthropic/Claude:ONLINE", "self-searching-model"),
        ("openrouter", "perplexity/sonar-pro", "self-searching-model"),
        ("groq", "groq/compound", "self-searching-model"),
        ("groq", "groq/compound-mini", "self-searching-model"),
        ("groq", "compound-beta", "self-searching-model"),
        ("groq", "compound-beta-mini", "self-searching-model"),
        ("perplexity", "sonar-deep-research", "self-searching-model"),
        ("ollama", "gpt-oss:120b-cloud", "off-machine-model"),
        ("ollama", "glm-4.6:cloud", "off-machine-model"),
        ("ollama", "QWEN:CLOUD", "off-machine-model"),
        # issue 9: on a provider of any type, and however the name is dressed
        ("openai", "gpt-oss:120b-cloud", "off-machine-model"),
        ("vllm", "qwen3-coder:480b-cloud", "off-machine-model"),
        ("openai-compatible", "library/glm-4.6:cloud", "off-machine-model"),
        ("openai-compatible", "gpt-oss-cloud", "off-machine-model"),
        ("openai", "openai/gpt-4o:online", "self-searching-model"),
        ("openai-compatible", "sonar", "self-searching-model"),
        ("openai-compatible", "perplexity/sonar-pro", "self-searching-model"),
        ("groq", "perplexity/sonar-reasoning", "self-searching-model"),
        ("openai-compatible", "x/y/gpt-4o-search-preview", "self-searching-model"),
        ("openai-compatible", "gpt-7-search-api-2027-01-01", "self-searching-model"),
        ("openai-compatible", "gpt-9-search", "self-searching-model"),
        ("openai-compatible", "vendor/new-deep-research-2027", "self-searching-model"),
        ("openai-compatible", "alibaba/tongyi-deepresearch-30b", "self-searching-model"),
        ("openai-compatible", "jina-deepsearch-v1", "self-searching-model"),
        ("openai-compatible", "o9-deep_research", "self-searching-model"),
        ("openai-compatible", "groq/compound", "self-searching-model"),
        ("openai-compatible", "compound-beta-mini", "self-searching-model"),
        ("openai-compatible", "pplx-70b-online", "self-searching-model"),
        ("openai-compatible", "@preset/mine", "self-searching-model"),
        ("openai-compatible", "openai/gpt-5@preset/mine", "self-searching-model"),
        ("perplexity", "sonar:online", "self-searching-model"),
        ("openrouter", "openai/gpt-4o:online ", "self-searching-model"),
        ("openrouter", " openai/gpt-4o:online", "self-searching-model"),
        ("openrouter", "openai/gpt-4o:online/", "self-searching-model"),
        ("openrouter", "openai//gpt-4o:online:", "self-searching-model"),
        ("openrouter", "openai/gpt-4o:free:online", "self-searching-model"),
        ("openrouter", "openai/gpt-4o\uff1aonline", "self-searching-model"),
        ("openrouter", "openai/gpt-4o:\uff4fnline", "self-searching-model"),
        ("openrouter", "openai/gpt-4o: online", "self-searching-model"),
        ("openrouter", "openai/gpt-4o\u00a0:online", "self-searching-model"),
        ("ollama", "glm-4.6:cloud ", "off-machine-model"),
        ("ollama", "glm-4.6:cloud//", "off-machine-model"),
        ("ollama", "glm-4.6:CLOUD\t", "hidden-characters"),
        ("ollama", "glm-4.6:cl\u200boud", "hidden-characters"),
        ("ollama", "glm-4.6:cloud\ufeff", "hidden-characters"),
        ("openai", "gpt-4o\u0000", "hidden-characters"),
        ("openai", "gpt-4o\u2060", "hidden-characters"),
        ("openai", "gpt-4o\ufe0f", "hidden-characters"),
        ("openai", "gpt-4o\u2028", "hidden-characters"),
        ("openai", "gpt-4o\ud800", "hidden-characters"),
        ("openai", "gpt\u0301-4o", "hidden-characters"),
        ("openai", "m" * 257, "unknown-form"),
        ("vllm", "https://evil.example/m", "unknown-form"),
        ("vllm", "S3://bucket/m", "unknown-form"),
        ("vllm", "file:/etc/m", "unknown-form"),
        ("vllm", "https\uff1a\uff0f\uff0fevil.example/m", "unknown-form"),
    ],
)
def test_a_name_that_reaches_out_by_itself_is_refused(kind: str, model: str, rule: str) -> None:
    refusal = refuse_model(model, facts=facts_of(kind))
    assert refusal is not None
    assert (refusal.rule, refusal.path) == (rule, "model")
    assert model not in refusal.message


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("openai", "gpt-4o"),
        ("openai", "o3"),
        ("anthropic", "claude-sonnet-4-5"),
        ("groq", "llama-3.3-70b"),
        ("ollama", "llama3.2:1b"),
        ("ollama", "cloudy:7b"),
        ("openai", "gpt-oss:120b"),
        ("openai", "research-model"),
        ("openai", "cloud-native-coder"),
        ("openai", "searcher-7b"),
        ("openai", "example/sonarqube-7b"),
        ("openai", "exaone-4.0"),
        ("openai", "compounds-7b"),
        ("openai", "mod\u00e8le-7b"),
        ("openai", "\u6a21\u578b-7b"),
        ("perplexity", "sonar"),
        ("perplexity", "sonar-pro"),
        ("openrouter", "meta-llama/llama-3:free"),
        ("openrouter", "deepseek/deepseek-r1:free"),
        ("ollama", "hf.co/example/model:Q4_K_M"),
    ],
)
def test_other_names_are_none_of_this_rules_business(kind: str, model: str) -> None:
    assert refuse_model(model, facts=facts_of(kind)) is None


def switched(facts: EgressFacts, dialect: str, **more: Any) -> Mapping[str, bool]:
    return required_switches(facts, dialect, store=DIALECTS[dialect].policy.store, **more)


def test_a_provider_that_searches_by_default_is_told_not_to() -> None:
    assert switched(facts_of("perplexity"), "openai_chat") == {"disable_search": True}


@pytest.mark.parametrize(
    ("kind", "dialect"),
    [("openai", "openai_chat"), ("openai", "openai_responses"), ("xai", "openai_responses")],
)
def test_who_stores_by_default_is_told_to_store_nothing(kind: str, dialect: str) -> None:
    assert switched(facts_of(kind), dialect) == {"store": False}


def test_who_has_no_store_is_told_nothing_of_it() -> None:
    assert switched(facts_of("openai"), "openai_chat", at_own_address=False) == {}
    assert switched(facts_of("openai"), "openai_chat", refuses=("store",)) == {}
    assert switched(facts_of("openai"), "openai_responses", refuses=("store",)) == {}
    assert switched(facts_of("openrouter"), "openai_chat", stores_chat=True, refuses=("store",)) == {}
    assert switched(facts_of("openai"), "openai_chat", at_own_address=False, stores_chat=True) == {
        "store": False
    }
    assert switched(facts_of("openai"), "openai_responses", at_own_address=False) == {"store": False}


def test_a_quirk_opens_no_rule_but_that_of_storing() -> None:
    off = {"disable_search": True}
    assert switched(facts_of("perplexity"), "openai_chat", refuses=("disable_search",)) == off
    assert switched(facts_of("perplexity"), "openai_chat", at_own_address=False) == off


@pytest.mark.parametrize(
    ("kind", "dialect"),
    [
        ("openai", "openai_embeddings"),
        ("openai", "openai_count"),
        ("groq", "openai_chat"),
        ("ollama", "ollama"),
    ],
)
def test_nothing_is_added_where_there_is_no_such_switch(kind: str, dialect: str) -> None:
    assert switched(facts_of(kind), dialect) == {}
