"""What no writer takes is reported at its place in the client's body, in every pair of dialects."""

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import Unsupported
from modelplex.core.request import (
    Attempt,
    CacheBreakpoint,
    Change,
    ChatRequest,
    FreeformTool,
    Message,
    ModelFacts,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    TextPart,
    Tool,
)
from modelplex.dialects.core.fields import Field, FieldTable
from modelplex.dialects.core.ledger import GROUPS, NO_PARAMETER, Ledger, client_path
from modelplex.dialects.openai_chat import fields as chat_fields
from modelplex.dialects.openai_chat import request_in as chat_request_in
from modelplex.dialects.openai_chat import request_out as chat_request_out
from modelplex.dialects.raw_request import read_request
from modelplex.dialects.registry import write_request
from modelplex.policy.leaves import NUMBER
from tests.dialects.sides import client_dialect

HI: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
BODIES: dict[str, dict[str, Any]] = {
    "openai_chat": HI,
    "openai_responses": {"input": "Hi"},
    "anthropic_messages": {"max_tokens": 64, **HI},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    "ollama": HI,
}
ENDPOINTS: dict[str, Any] = {
    "openai_chat": "chat/completions",
    "openai_responses": "responses",
    "anthropic_messages": "messages",
    "gemini": "generate_content",
    "ollama": "api/chat",
}
DIALECTS = tuple(BODIES)
PAIRS = [(client, provider) for client in DIALECTS for provider in DIALECTS if client != provider]


def read(dialect: str, **more: Any) -> ChatRequest:
    """A request as a client of this dialect sends it."""
    body = json.dumps({"model": "m", **BODIES[dialect], **more}).encode()
    asked = read_request(body, endpoint=ENDPOINTS[dialect], dialect=dialect)
    return client_dialect(dialect).read_call(asked)


def changes(call: ChatRequest, provider: str, facts: ModelFacts | None = None) -> dict[str, Change]:
    """What writing it for a provider of this dialect reports, by path."""
    attempt = Attempt(
        provider="p", model="m", dialect=provider, facts=facts or ModelFacts(thinking="adaptive")
    )
    return {each.path: each for each in write_request(call, attempt).changes}


class _SamplingOfTomorrow(Sampling, frozen=True):
    """A sampling member that no writer knows."""

    surprise: float | None = None


class _ReasoningOfTomorrow(ReasoningOptions, frozen=True):
    surprise: float | None = None


class _RequestOfTomorrow(ChatRequest, frozen=True, kw_only=True):
    surprise: msgspec.Raw | None = None


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize("client", DIALECTS)
def test_a_sampling_member_that_no_writer_knows_is_reported(client: str, provider: str) -> None:
    known = read(client)
    call = msgspec.structs.replace(known, sampling=_SamplingOfTomorrow(surprise=0.5))
    assert "surprise" not in changes(known, provider)
    assert changes(call, provider)["surprise"].op == "drop"


@pytest.mark.parametrize("provider", DIALECTS)
def test_so_is_a_member_of_a_group_and_of_the_request(provider: str) -> None:
    call = read("openai_chat")
    whole = _RequestOfTomorrow(
        **{name: getattr(call, name) for name in call.__struct_fields__}, surprise=msgspec.Raw(b"1")
    )
    assert changes(whole, provider)["surprise"].op == "drop"
    thinks = msgspec.structs.replace(call, reasoning=_ReasoningOfTomorrow(effort="low", surprise=1.0))
    assert changes(thinks, provider)["surprise"].op == "drop"


@pytest.mark.parametrize("provider", [dialect for dialect in DIALECTS if dialect != "openai_chat"])
def test_a_new_leaf_and_its_row_in_one_dialect_need_nothing_else(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Field("surprise_level", NUMBER, "sampling.surprise", float)
    table = FieldTable((*chat_fields.ROWS, row), kin=chat_fields.KIN)
    monkeypatch.setitem(GROUPS, "sampling", _SamplingOfTomorrow)
    monkeypatch.setattr(chat_request_in, "FIELDS", table)
    monkeypatch.setattr(chat_request_out, "FIELDS", table)
    call = read("openai_chat", surprise_level=0.5)
    assert changes(call, provider)["surprise_level"] == Change("drop", "surprise_level", NO_PARAMETER)
    home = write_request(call, Attempt(provider="p", model="m", dialect="openai_chat"))
    assert (json.loads(home.body)["surprise_level"], home.changes) == (0.5, ())
    assert table.policy.fields["surprise_level"] is NUMBER


class _ToolOfTomorrow(Tool, frozen=True):
    surprise: float | None = None


class _FreeformToolOfTomorrow(FreeformTool, frozen=True):
    surprise: float | None = None


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize("tool", [_ToolOfTomorrow, _FreeformToolOfTomorrow])
def test_a_member_of_a_tool_that_no_writer_knows_is_reported(provider: str, tool: Any) -> None:
    tools = (tool("plain"), tool("odd", path="functions[1]", surprise=0.5))
    found = changes(msgspec.structs.replace(read("openai_chat"), tools=tools), provider)
    assert found["functions[1].surprise"].op == "drop"


_SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
_TOOLS: list[tuple[str, dict[str, Any], str, set[str]]] = [
    (
        "openai_chat",
        {"tools": [{"type": "function", "function": {"name": "a b", "strict": True, "examples": [1]}}]},
        "gemini",
        {"tools[0].function.name", "tools[0].function.strict", "tools[0].function.examples"},
    ),
    (
        "openai_chat",
        {"functions": [{"name": "f"}, {"name": "a b", "strict": True}]},
        "ollama",
        {"functions[1].name", "functions[1].strict"},
    ),
    (
        "gemini",
        {"tools": [{"functionDeclarations": [{"name": "f"}, {"name": "a.b", "behavior": "BLOCKING"}]}]},
        "openai_chat",
        {"tools[0].functionDeclarations[1].name", "tools[0].functionDeclarations[1].behavior"},
    ),
    (
        "anthropic_messages",
        {"tools": [{"name": "f", "input_schema": _SCHEMA, "cache_control": {"type": "ephemeral"}}]},
        "openai_responses",
        {"tools[0].cache_control"},
    ),
    (
        "openai_responses",
        {
            "tools": [
                {
                    "type": "namespace",
                    "name": "n",
                    "tools": [{"type": "function", "name": "f", "async": True}],
                }
            ]
        },
        "anthropic_messages",
        {"tools[0]", "tools[0].tools[0].async"},
    ),
    (
        "ollama",
        {"tools": [{"type": "function", "function": {"name": "f", "new": 1}}]},
        "gemini",
        {"tools[0].function.new"},
    ),
]


@pytest.mark.parametrize(("client", "body", "provider", "paths"), _TOOLS)
def test_what_is_lost_of_a_tool_is_named_by_its_place_in_the_clients_body(
    client: str, body: dict[str, Any], provider: str, paths: set[str]
) -> None:
    assert set(changes(read(client, **body), provider)) == paths


@pytest.mark.parametrize("provider", ["openai_chat", "openai_responses"])
def test_thinking_without_a_level_is_reported_where_only_levels_turn_it_on(provider: str) -> None:
    assert changes(read("ollama", think=True), provider)["think"].op == "drop"


def test_an_error_of_a_writer_names_the_place_in_the_clients_body() -> None:
    part = {"fileData": {"fileUri": "https://a.example/x.mp4", "mimeType": "video/mp4"}}
    call = read("gemini", contents=[{"role": "user", "parts": [{"text": "Look"}, part]}])
    with pytest.raises(Unsupported) as caught:
        changes(call, "ollama")
    assert caught.value.param == "contents[0].parts[1]"
    assert ".content[" not in caught.value.message


CONTROLS: dict[str, dict[str, Any]] = {
    "openai_chat": {
        "max_completion_tokens": 2000,
        "stop": [" "],
        "seed": 7,
        "top_k": 3,
        "min_p": 0.5,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "logit_bias": {"1": 2},
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning": {"max_tokens": 1024, "summary": "concise"},
        "verbosity": "low",
        "prompt_cache_key": "k",
        "safety_identifier": "u",
        "metadata": {"a": "b"},
        "service_tier": "flex",
    },
    "openai_responses": {
        "top_logprobs": 2,
        "reasoning": {"effort": "minimal", "summary": "concise"},
        "text": {"verbosity": "low"},
        "prompt_cache_key": "k",
        "safety_identifier": "u",
        "metadata": {"a": "b"},
        "service_tier": "flex",
    },
    "anthropic_messages": {
        "max_tokens": 2000,
        "stop_sequences": [" ", "a", "b", "c", "d"],
        "top_k": 3,
        "temperature": 0.5,
        "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
        "cache_control": {"type": "ephemeral"},
        "metadata": {"user_id": "u"},
        "service_tier": "standard_only",
    },
    "gemini": {
        "generationConfig": {
            "stopSequences": [" ", "a", "b", "c", "d"],
            "topK": 3,
            "seed": 7,
            "presencePenalty": 0.5,
            "frequencyPenalty": 0.5,
            "responseLogprobs": True,
            "logprobs": 2,
            "temperature": 1.5,
            "thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": True},
        }
    },
    "ollama": {
        "options": {
            "stop": [" ", "a", "b", "c", "d"],
            "top_k": 3,
            "min_p": 0.5,
            "seed": 7,
            "presence_penalty": 0.5,
            "frequency_penalty": 0.5,
            "temperature": 1.5,
        },
        "logprobs": True,
        "top_logprobs": 2,
        "think": "max",
    },
}
"""What each client can say about its answer, most of which some provider has no word for."""


def _stands_in(path: str, body: Any) -> bool:
    """Whether a reported path leads to a member of the body."""
    for step in path.replace("[", ".[").split("."):
        try:
            body = body[int(step[1:-1])] if step.startswith("[") else body[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


@pytest.mark.parametrize("thinking", ["none", "manual", "adaptive"])
@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_what_is_reported_stands_in_the_clients_body(client: str, provider: str, thinking: Any) -> None:
    body = {"model": "m", **BODIES[client], **CONTROLS[client]}
    told = changes(read(client, **CONTROLS[client]), provider, ModelFacts(thinking=thinking))
    astray = [path for path in told if not _stands_in(path, body)]
    assert not astray


@pytest.mark.parametrize(
    ("client", "provider", "path"),
    [
        ("anthropic_messages", "openai_responses", "stop_sequences"),
        ("gemini", "openai_responses", "generationConfig.stopSequences"),
        ("ollama", "openai_responses", "options.stop"),
        ("anthropic_messages", "openai_chat", "stop_sequences"),
        ("gemini", "openai_chat", "generationConfig.stopSequences"),
        ("ollama", "openai_chat", "options.stop"),
        ("anthropic_messages", "openai_responses", "thinking.budget_tokens"),
        ("anthropic_messages", "openai_responses", "cache_control"),
        ("openai_chat", "anthropic_messages", "reasoning"),
    ],
)
def test_a_control_is_called_what_its_client_calls_it(client: str, provider: str, path: str) -> None:
    assert path in changes(read(client, **CONTROLS[client]), provider)


def test_a_leaf_that_is_taken_or_says_nothing_is_not_reported() -> None:
    call = ChatRequest(
        dialect="openai_chat",
        model="m",
        messages=(Message("user", (TextPart("Hi"),)),),
        max_tokens=1,
        sampling=Sampling(presence_penalty=0.0, logit_bias=msgspec.Raw(b"{ }"), temperature=0.0, seed=0),
        format=ResponseFormat("text"),
        cache=CacheBreakpoint(),
        tier="auto",
    )
    ledger = Ledger(call)
    assert ledger.take("max_tokens") == 1
    assert ledger.take("reasoning.effort") is None
    ledger.lower("cache", "why")
    assert [(each.op, each.path) for each in ledger.settle()] == [
        ("lower", "cache"),
        ("drop", "temperature"),
        ("drop", "seed"),
    ]


def test_a_group_that_is_dropped_is_reported_once() -> None:
    ledger = Ledger(
        ChatRequest(
            dialect="d",
            model="m",
            messages=(Message("user", (TextPart("Hi"),)),),
            reasoning=ReasoningOptions("low", 5),
        )
    )
    ledger.drop("reasoning", "why")
    assert ledger.settle() == (Change("drop", "reasoning", "why"),)


def test_a_leaf_that_there_is_not_is_an_error() -> None:
    with pytest.raises(KeyError):
        Ledger(ChatRequest(dialect="d", model="m", messages=(Message("user", (TextPart("Hi"),)),))).take(
            "sampling.nothing"
        )


def test_a_path_is_of_the_leaf_or_of_its_group() -> None:
    paths = {"reasoning": "thinking", "reasoning.budget": "thinking.budget_tokens"}
    assert client_path(paths, "reasoning.budget") == "thinking.budget_tokens"
    assert client_path(paths, "reasoning.effort") == "thinking.effort"
    assert client_path(paths, "sampling.seed") == "seed"


def test_a_cached_system_block_and_a_call_are_named_as_the_client_wrote_them() -> None:
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    found = changes(read("anthropic_messages", system=system), "openai_chat")
    assert "system[0].cache_control" in found


def _at(body: bytes, path: tuple[str, ...]) -> Any:
    value: Any = msgspec.json.decode(body)
    for member in path:
        value = value[member]
    return value


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("openai_chat", ("max_completion_tokens",)),
        ("openai_responses", ("max_output_tokens",)),
        ("gemini", ("generationConfig", "maxOutputTokens")),
        ("anthropic_messages", ("max_tokens",)),
    ],
)
def test_the_limit_of_output_is_at_most_what_the_model_takes(dialect: str, path: tuple[str, ...]) -> None:
    call = ChatRequest(
        dialect="elsewhere", model="m", messages=(Message("user", (TextPart("Hi"),)),), max_tokens=200_000
    )
    facts = ModelFacts(max_output=16_384)
    written = write_request(call, Attempt("acme", "m-up", dialect, facts=facts))
    assert _at(written.body, path) == 16_384
    assert [change.op for change in written.changes if change.path == "max_tokens"] == ["clamp"]
    unknown = write_request(call, Attempt("acme", "m-up", dialect))
    assert _at(unknown.body, path) == 200_000


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses"])
def test_a_model_that_reasons_gets_no_temperature_unless_it_does_not_reason(dialect: str) -> None:
    call = ChatRequest(
        dialect="elsewhere",
        model="m",
        messages=(Message("user", (TextPart("Hi"),)),),
        sampling=Sampling(temperature=0.5),
        reasoning=ReasoningOptions(effort="high"),
    )
    attempt = Attempt("acme", "m-up", dialect, facts=ModelFacts(sampling=False))
    written = write_request(call, attempt)
    assert b"temperature" not in written.body
    assert "temperature" in [change.path for change in written.changes if change.op == "drop"]
    plain = msgspec.structs.replace(call, reasoning=ReasoningOptions(effort="none"))
    assert b"temperature" in write_request(plain, attempt).body


def test_a_model_that_does_not_reason_gets_no_effort() -> None:
    call = ChatRequest(
        dialect="elsewhere",
        model="m",
        messages=(Message("user", (TextPart("Hi"),)),),
        reasoning=ReasoningOptions(effort="high"),
    )
    attempt = Attempt("acme", "m-up", "openai_chat", facts=ModelFacts(thinking="none"))
    written = write_request(call, attempt)
    assert b"effort" not in written.body
    assert [change.op for change in written.changes] == ["drop"]


@pytest.mark.parametrize("provider", ["openai_chat", "openai_responses", "ollama", "gemini"])
def test_thinking_between_calls_alone_is_never_lost_silently(provider: str) -> None:
    body = {"thinking": {"type": "between_tools"}, "output_config": {"effort": "high"}}
    found = changes(read("anthropic_messages", **body), provider)
    assert "thinking" in {path.partition(".")[0] for path in found}
    body["thinking"] = {"type": "adaptive"}
    assert not changes(read("anthropic_messages", **body), provider)
