"""A config of a LiteLLM proxy."""

from __future__ import annotations

from typing import Any

from modelplex.imports.litellm import TYPES, WITHOUT_PREFIX, read
from modelplex.imports.notes import Notes
from modelplex.providers import all_specs


def tables(document: dict[str, Any]) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    notes = Notes(home="/home/me", folder="/work")
    found: dict[str, list[dict[str, Any]]] = {}
    for heading, members in read(document, notes):
        found.setdefault(heading, []).append({k: v for k, v in members.items() if v is not None})
    return found, notes.lines


def model(name: str, **params: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": params}


def test_services_have_types_here() -> None:
    assert {*TYPES.values(), *WITHOUT_PREFIX.values()} <= all_specs().keys()


def test_deployments_of_one_service_address_and_key_are_one_provider() -> None:
    found, lines = tables(
        {
            "model_list": [
                model("gpt-4o", model="openai/gpt-4o", api_key="os.environ/OPENAI_API_KEY"),
                model("mini", model="gpt-4o-mini", api_key="os.environ/OPENAI_API_KEY"),
                model("other", model="openai/gpt-4o", api_key="os.environ/TEAM_KEY"),
                model("local", model="openai/llama", api_base="http://h:8000/v1/", api_key="none"),
                model("gpu", model="hosted_vllm/llama", api_base="http://h:8001/v1"),
            ]
        }
    )
    assert found["[[providers]]"] == [
        {"name": "openai", "type": "openai", "models": ["gpt-4o", "gpt-4o-mini"]},
        {"name": "openai-2", "type": "openai", "api_key": "${TEAM_KEY}", "models": ["gpt-4o"]},
        {
            "name": "openai-3",
            "type": "openai",
            "base_url": "http://h:8000/v1",
            "api_key": "none",
            "models": ["llama"],
        },
        {"name": "vllm", "type": "vllm", "base_url": "http://h:8001/v1", "models": ["llama"]},
    ]
    assert found["[aliases]"] == [
        {
            "gpt-4o": "openai/gpt-4o",
            "mini": "openai/gpt-4o-mini",
            "other": "openai-2/gpt-4o",
            "local": "openai-3/llama",
            "gpu": "vllm/llama",
        }
    ]
    assert lines == []


def test_several_deployments_and_fallbacks_are_candidates_in_order() -> None:
    found, lines = tables(
        {
            "model_list": [
                model("gpt", model="openai/gpt-4o"),
                model("gpt", model="azure/mine", api_base="https://a", api_key="os.environ/A"),
                model("claude-x", model="anthropic/claude-x"),
            ],
            "litellm_settings": {"fallbacks": [{"gpt": ["claude-x", "none"]}], "num_retries": 4},
            "router_settings": {
                "model_group_alias": {"best": {"model": "gpt", "hidden": True}, "bad": "zzz"}
            },
        }
    )
    assert found["[aliases]"] == [
        {
            "gpt": ["openai/gpt-4o", "azure/mine", "anthropic/claude-x"],
            "best": ["openai/gpt-4o", "azure/mine"],
        }
    ]
    assert found["[failover]"] == [{"retries": 4}]
    assert "litellm_settings.fallbacks.gpt: the fallback none was not carried" in lines
    assert "model_group_alias.bad: not carried: zzz is no name of model_list" in lines
    assert lines[0].startswith("gpt: its deployments are tried in their order here")


def test_a_wildcard_serves_every_model() -> None:
    found, lines = tables(
        {
            "model_list": [
                model("groq/*", model="groq/*"),
                model("*", model="xai/*"),
                model("my-*", model="groq/*"),
            ]
        }
    )
    assert found == {"[[providers]]": [{"name": "groq", "type": "groq"}, {"name": "xai", "type": "xai"}]}
    assert lines == [
        "model_list[2] (my-*): the name my-* was not carried: an alias needs the name of a model"
    ]


def test_prices_are_per_million_tokens() -> None:
    entry = {
        **model("c", model="claude-x"),
        "model_info": {"input_cost_per_token": 3e-6, "output_cost_per_token": 15e-6},
    }
    found, _ = tables({"model_list": [entry]})
    (price,) = found["[[prices]]"]
    assert (round(price["input"], 6), round(price["output"], 6)) == (3.0, 15.0)
    assert (price["model"], price["provider"]) == ("claude-x", "anthropic")


def test_what_is_not_carried_is_named_and_no_key_is_shown() -> None:
    found, lines = tables(
        {
            "model_list": [
                model("n", model="bedrock/nova"),
                model("c", model="claude-x", api_key="sk-hidden-0123456789", rpm=5),
            ],
            "general_settings": {"master_key": "sk-hidden", "database_url": "postgres://u:hidden@h"},
            "router_settings": {"routing_strategy": "x"},
            "litellm_settings": {"cache": True, "drop_params": True},
            "environment_variables": {"FOO": "hidden"},
            "guardrails": [],
        }
    )
    assert found["[[providers]]"][0]["api_key"] == "${ANTHROPIC_API_KEY}"
    assert lines == [
        "model_list[0] (n): left out, since there is no provider for bedrock/nova",
        "model_list[1] (c): a secret stood here, and is $ANTHROPIC_API_KEY now",
        "model_list[1] (c): not carried: rpm",
        "router_settings: not carried: routing_strategy",
        "litellm_settings: not carried: cache",
        "general_settings.master_key: not carried: callers of a socket need no key; give each agent of HTTP a token in [[agents]]",
        "general_settings: not carried: database_url",
        "environment_variables.FOO: not carried: set it in the environment of the gateway",
        "guardrails: not carried",
    ]


def test_tool_servers_come_along() -> None:
    found, _ = tables(
        {"model_list": [], "mcp_servers": {"gh": {"url": "https://h/mcp", "transport": "http"}}}
    )
    assert found["[mcp]"] == [{"enabled": True}]
    assert found["[[mcp.servers]]"] == [{"name": "gh", "url": "https://h/mcp"}]
