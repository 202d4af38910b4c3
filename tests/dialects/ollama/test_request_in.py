"""Ollama requests, read."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from ollama._types import ChatResponse, GenerateResponse

from modelplex.core.errors import BadRequest, ModelplexError, Unsupported
from modelplex.core.request import (
    Attempt,
    ChatRequest,
    CompletionRequest,
    HostedTool,
    ImagePart,
    InlineData,
    ModelFacts,
    RawRequest,
    ReasoningOptions,
    ReasoningPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from modelplex.dialects.gemini import fields as gemini_fields
from modelplex.dialects.ollama import dialect as ollama
from modelplex.dialects.ollama import fields as ollama_fields
from modelplex.dialects.openai_chat import fields as openai_chat_fields
from modelplex.dialects.raw_request import read_request
from modelplex.dialects.registry import write_request
from tests.dialects.sides import usual_paths

ATTEMPT = Attempt(provider="p", model="m", dialect="ollama")
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def _ask(**fields: Any) -> RawRequest:
    return read_request(
        json.dumps({"model": "m", **fields}).encode(), endpoint="chat/completions", dialect="ollama"
    )


def _call(messages: Sequence[Any] = ({"role": "user", "content": "Hi"},), **more: Any) -> ChatRequest:
    return ollama.read_call(_ask(messages=list(messages), **more))


def _generated(**fields: Any) -> ChatRequest:
    made = ollama.read_generate(_ask(**fields))
    assert isinstance(made, ChatRequest)
    return made


def test_a_chat_streams_unless_it_says_that_it_does_not() -> None:
    assert _call().stream
    assert _call(stream=True).stream
    assert not _call(stream=False).stream
    assert ollama.read_stream({})
    assert not ollama.read_stream({"stream": msgspec.Raw(b"false")})


def test_a_conversation_keeps_its_order_and_each_result_finds_its_call() -> None:
    call = _call(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look", "images": [PNG]},
            {
                "role": "assistant",
                "content": "",
                "thinking": "Two of them.",
                "tool_calls": [
                    {"function": {"name": "weather", "arguments": {"city": "Zürich"}}},
                    {"function": {"name": "time", "arguments": {}}},
                ],
            },
            {"role": "tool", "tool_name": "time", "content": "noon"},
            {"role": "tool", "tool_name": "weather", "content": "sun"},
        ]
    )
    system, user, assistant, results = call.messages
    assert system.parts == (TextPart("Be brief."),)
    assert user.parts == (ImagePart(InlineData("image/png", PNG)), TextPart("Look"))
    thinking, weather, time = assistant.parts
    assert thinking == ReasoningPart("Two of them.")
    assert isinstance(weather, ToolCallPart)
    assert json.loads(weather.arguments) == {"city": "Zürich"}
    assert (weather.id, time) == ("call_0", ToolCallPart("call_1", "time", "{}"))
    assert results.parts == (
        ToolResultPart("call_1", (TextPart("noon"),), name="time"),
        ToolResultPart("call_0", (TextPart("sun"),), name="weather"),
    )


@pytest.mark.parametrize("target", ["openai_chat", "anthropic_messages"])
def test_a_result_that_names_neither_tool_nor_call_answers_the_first_that_waits(target: str) -> None:
    call = _call(
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": {}}}]},
            {"role": "tool", "content": "one"},
        ],
        tools=[
            {
                "type": "function",
                "function": {"name": "a", "parameters": {"type": "object", "properties": {}}},
            }
        ],
    )
    written = write_request(call, Attempt(provider="p", model="m", dialect=target))
    assert b"call_0" in written.body
    assert not written.changes


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "x", "tool_name": "a"},
        {"role": "robot", "content": "x"},
        {"role": "user", "content": "x", "images": ["data:image/png;base64," + PNG]},
        {"role": "user", "content": "x", "images": ["https://example.org/cat.png"]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "{}"}}]},
        {"role": "user", "content": 7},
    ],
)
def test_a_message_that_is_wrong_is_named(message: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        _call([message])
    assert (refused.value.param or "").startswith("messages[0]")


def test_controls_are_read_and_what_only_ollama_has_rides_along_by_its_path() -> None:
    call = _call(
        options={"num_predict": 9, "temperature": 0, "top_k": 4, "seed": 3, "stop": ["a"], "num_ctx": 4096},
        keep_alive="5m",
        format={"type": "object"},
        think="high",
        logprobs=True,
        top_logprobs=2,
        tools=[
            {
                "type": "function",
                "function": {"name": "a", "description": "A", "parameters": {"type": "object"}},
            },
            {"type": "web_search"},
        ],
    )
    assert call.max_tokens == 9
    assert (call.sampling.temperature, call.sampling.top_k, call.sampling.seed, call.sampling.stop) == (
        0,
        4,
        3,
        ("a",),
    )
    assert (call.sampling.logprobs, call.sampling.top_logprobs) == (True, 2)
    assert call.format == ResponseFormat("schema", schema=msgspec.Raw(b'{"type": "object"}'))
    assert call.reasoning == ReasoningOptions(effort="high")
    assert isinstance(call.tools[0], Tool)
    assert isinstance(call.tools[1], HostedTool)
    assert set(call.extra) == {"options.num_ctx", "keep_alive"}
    told = write_request(
        msgspec.structs.replace(call, tools=call.tools[:1]),
        Attempt(provider="p", model="m", dialect="openai_chat"),
    )
    assert {"options.num_ctx", "keep_alive"} <= {change.path for change in told.changes}


def test_what_rode_along_returns_to_ollama() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "options": {"num_ctx": 4096, "temperature": 0.5},
        "keep_alive": "5m",
        "stream": False,
    }
    written = write_request(ollama.read_call(_ask(**body)), ATTEMPT)
    assert json.loads(written.body) == body
    assert not written.changes


def test_a_loss_is_told_in_the_clients_own_words() -> None:
    attempt = msgspec.structs.replace(ATTEMPT, facts=ModelFacts(thinking="none"))
    told = {
        dialect: write_request(
            msgspec.structs.replace(_call(think="high"), dialect=dialect, paths=paths), attempt
        )
        .changes[0]
        .path
        for dialect, paths in (
            ("ollama", usual_paths(ollama_fields.FIELDS)),
            ("gemini", usual_paths(gemini_fields.FIELDS)),
            ("openai_chat", usual_paths(openai_chat_fields.FIELDS)),
        )
    }
    assert told == {
        "ollama": "think",
        "gemini": "generationConfig.thinkingConfig",
        "openai_chat": "reasoning_effort",
    }


@pytest.mark.parametrize("limit", [-1, -2, 0])
def test_a_limit_that_is_none_and_a_seed_that_is_any_are_not_said(limit: int) -> None:
    call = _call(options={"num_predict": limit, "seed": -1})
    assert (call.max_tokens, call.sampling.seed) == (None, None)


@pytest.mark.parametrize(
    ("think", "asked"),
    [
        (True, ReasoningOptions(mode="enabled")),
        (False, ReasoningOptions(effort="none")),
        ("max", ReasoningOptions(effort="max")),
    ],
)
def test_thinking_is_on_off_or_a_level(think: Any, asked: ReasoningOptions) -> None:
    assert _call(think=think).reasoning == asked


@pytest.mark.parametrize(
    ("field", "value"),
    [("think", "much"), ("format", "yaml"), ("options", 7), ("tools", {}), ("options", {"seed": "x"})],
)
def test_a_control_that_is_wrong_is_named(field: str, value: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        _call(**{field: value})
    assert (refused.value.param or "").startswith(field)


@pytest.mark.parametrize("form", ["", None])
def test_no_format_is_free_text(form: str | None) -> None:
    assert _call(format=form).format is None
    assert _call(format="json").format == ResponseFormat("json")


def test_a_prompt_to_generate_is_a_conversation_of_one_turn() -> None:
    call = _generated(prompt="Hi", system="Be brief.", images=[PNG], options={"temperature": 1})
    assert [message.role for message in call.messages] == ["system", "user"]
    assert call.messages[1].parts == (ImagePart(InlineData("image/png", PNG)), TextPart("Hi"))
    assert (call.dialect, call.stream) == (ollama.GENERATE, True)


@pytest.mark.parametrize("more", [{"raw": True}, {"suffix": "}"}])
def test_a_raw_prompt_and_a_suffix_are_a_text_to_be_continued(more: dict[str, Any]) -> None:
    asked = ollama.read_generate(_ask(prompt="def f():", stream=False, **more))
    assert isinstance(asked, CompletionRequest)
    assert (asked.prompts, asked.suffix, asked.stream) == (("def f():",), more.get("suffix"), False)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"template": "{{.Prompt}}"}, Unsupported),
        ({"context": [1, 2]}, Unsupported),
        ({"suffix": "}", "images": [PNG]}, Unsupported),
        ({"suffix": "}", "system": "x"}, Unsupported),
        ({"raw": True, "system": "x"}, BadRequest),
        ({"raw": True, "template": "x"}, BadRequest),
        ({"images": ["nonsense"]}, BadRequest),
    ],
)
def test_what_generate_cannot_carry_over_is_refused_by_name(
    fields: dict[str, Any], error: type[ModelplexError]
) -> None:
    with pytest.raises(error) as refused:
        ollama.read_generate(_ask(prompt="Hi", **fields))
    assert (refused.value.param or "").split("[")[0] in fields


def test_an_empty_context_and_template_ask_for_nothing() -> None:
    assert (
        _generated(prompt="Hi", context=[], template="", suffix="", images=[], system="").messages[0].role
        == "user"
    )


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({"messages": []}, "load"),
        ({}, "load"),
        ({"prompt": ""}, "load"),
        ({"keep_alive": 0}, "unload"),
        ({"prompt": "Hi"}, None),
        ({"messages": [{"role": "user", "content": "x"}]}, None),
        ({"prompt": "", "images": [PNG]}, None),
    ],
)
def test_a_body_that_only_loads_a_model_is_told_apart(fields: dict[str, Any], meant: str | None) -> None:
    assert ollama.read_load(_ask(**fields)) == meant


def test_a_model_that_was_to_be_loaded_is_said_to_be() -> None:
    chat = ollama.write_loaded("m", reason="load", generate=False, created=0)
    assert ChatResponse.model_validate_json(chat).done_reason == "load"
    assert GenerateResponse.model_validate_json(
        ollama.write_loaded("m", reason="unload", generate=True, created=0)
    ).done


def test_an_embedding_is_understood() -> None:
    one, two = (
        ollama.read_embed(_ask(input="a")),
        ollama.read_embed(_ask(input=["a", "b"], dimensions=3, truncate=True)),
    )
    assert (one.inputs, two.inputs, two.dimensions, set(two.extra)) == (("a",), ("a", "b"), 3, {"truncate"})
    assert json.loads(ollama.write_embedding(two, ATTEMPT).body)["truncate"] is True
    with pytest.raises(BadRequest):
        ollama.read_embed(_ask())
