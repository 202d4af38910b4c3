"""What a provider says that it does not take, and a body without it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from modelplex.core.errors import BadRequest, UpstreamBroken, UpstreamReply
from modelplex.core.request import Change
from modelplex.dialects.core.refused_parameters import (
    TEMPLATE_RULES,
    Refusal,
    may_take_out,
    refused_parameters,
    sayings,
    without,
)
from modelplex.dialects.registry import DIALECTS, provider_dialect

SAID = [(name, *pair) for name, table in sayings().items() for pair in table.said]


def said(message: str, status: int = 400, **more: Any) -> BadRequest:
    return BadRequest(message, upstream=UpstreamReply(status=status, code=more.pop("code", None)), **more)


@pytest.mark.parametrize(("service", "message", "name"), SAID)
def test_each_known_saying_names_its_parameter(service: str, message: str, name: str) -> None:
    assert sayings()[service].source
    found = refused_parameters(said(message), json.dumps({"model": "m", name: 1, "top_z": 2}).encode())
    assert [each.path for each in found] == ([name] if may_take_out(name) else [])


def test_a_code_names_it_by_param() -> None:
    body = b'{"reasoning":{"effort":"minimal","summary":"auto"},"temperature":0.2}'
    error = said("No.", code="unsupported_value", param="reasoning.effort")
    assert refused_parameters(error, body) == (Refusal("reasoning.effort", b'"minimal"'),)
    error = said("No.", code="unknown_parameter", param="temperature")
    assert refused_parameters(error, body) == (Refusal("temperature"),)


@pytest.mark.parametrize(
    "path",
    "model messages tools tools[0].strict tool_choice response_format text text.format stop n stream store "
    "output_config output_config.format generationConfig generation_config.responseSchema "
    "messages[1].name input[0] system parallel_tool_calls logit_bias options web_search_options".split(),
)
def test_what_changes_the_meaning_stays(path: str) -> None:
    assert not may_take_out(path)
    body = json.dumps({re.split(r"[.\[]", path, maxsplit=1)[0]: {"format": 1}}).encode()
    assert refused_parameters(said(f"Unsupported parameter: '{path}' is not supported."), body) == ()


@pytest.mark.parametrize("path", ["text.verbosity", "output_config.effort", "options.top_k", "reasoning"])
def test_hints_may_be_taken_out(path: str) -> None:
    assert may_take_out(path)


def test_the_name_is_found_in_the_bodys_own_spelling() -> None:
    body = b'{"generationConfig":{"presencePenalty":1},"frequency_penalty":0.5}'
    error = said("Unknown name \"presence_penalty\" at 'generation_config': Cannot find field.")
    assert refused_parameters(error, body) == (Refusal("generationConfig.presencePenalty"),)
    error = said("Argument not supported on this model: frequencyPenalty")
    assert refused_parameters(error, body) == (Refusal("frequency_penalty"),)


def test_a_name_that_was_not_sent_is_none() -> None:
    error = said("Unsupported parameter: 'seed' is not supported with this model.")
    assert refused_parameters(error, b"{}") == ()
    assert refused_parameters(error, b"not JSON") == ()
    assert refused_parameters(said(error.message, status=404), b'{"seed":1}') == ()
    broken = UpstreamBroken(error.message, upstream=UpstreamReply(status=400))
    assert refused_parameters(broken, b'{"seed":1}') == ()


def test_a_body_without_what_is_refused() -> None:
    body = b'{"model":"m","temperature":0.20,"max_tokens":5,"reasoning":{"effort":"low","summary":"auto"},"x":1e3}'
    rename = Refusal("max_tokens", instead="max_completion_tokens")
    left, changes = without(body, [Refusal("reasoning.summary"), rename, Refusal("temperature", b"0.7")])
    assert left == (
        b'{"model":"m","temperature":0.20,"reasoning":{"effort":"low"},"x":1e3,"max_completion_tokens":5}'
    )
    assert [(change.op, change.path) for change in changes] == [
        ("drop", "reasoning.summary"),
        ("rename", "max_tokens"),
    ]
    left, changes = without(body, [Refusal("temperature", b"0.20"), Refusal("top_p"), Refusal("x.y")])
    assert b"temperature" not in left
    assert changes == [Change("drop", "temperature", "the provider refused this value: asked again without")]
    assert without(b"[]", [rename]) == (b"[]", [])


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    ("message", "quirk"),
    [
        ("Jinja Exception: System message must be at the beginning.", "system_messages"),
        ("Conversation roles must alternate user/assistant/user/assistant/...", "roles"),
        ("After the optional system message, conversation roles must alternate", "roles"),
        # https://github.com/vllm-project/vllm/pull/2964, https://github.com/google/adk-python/issues/3900
        ("System role not supported", "system_messages"),
        ("Developer instruction is not enabled for models/gemma-3-27b-it", "system_messages"),
    ],
)
def test_a_strict_template_is_recognised(status: int, message: str, quirk: str) -> None:
    body = {"error": {"code": status, "message": message}}
    error = provider_dialect("openai_chat").read_error(status, {}, json.dumps(body).encode())
    assert quirk in {
        name for said, rule in TEMPLATE_RULES.items() if said.search(error.message) for name in rule
    }


@pytest.mark.parametrize(
    ("dialect", "path", "leaf"),
    [
        ("openai_chat", "reasoning_effort", "reasoning.effort"),
        ("openai_responses", "text.verbosity", "verbosity"),
        ("gemini", "generationConfig.topK", "sampling.top_k"),
        ("ollama", "options.top_k", "sampling.top_k"),
        ("anthropic_messages", "temperature", "sampling.temperature"),
        ("openai_chat", "no_such.member", ""),
        ("openai_embeddings", "model", ""),
    ],
)
def test_a_member_is_known_by_its_leaf(dialect: str, path: str, leaf: str) -> None:
    assert DIALECTS[dialect].leaf_of(path) == leaf
