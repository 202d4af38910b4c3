"""Models that send data elsewhere on their own, and off switches (S13, S19, S20)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from modelplex.core.egress import EgressFacts
from modelplex.dialects.registry import DIALECTS
from modelplex.policy.model_names import refuse_model, required_switches
from modelplex.providers import all_specs


def facts_of(kind: str) -> EgressFacts:
    """Of a type of provider; none of a type that is not in the catalog."""
    row = all_specs().get(kind)
    return row.egress if row is not None else EgressFacts()


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
        ("perplexity", "sonar", "self-searching-model"),
        ("perplexity", "perplexity/sonar", "self-searching-model"),
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
        ("perplexity", "openai/gpt-5.5"),
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
