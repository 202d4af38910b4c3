"""Ollama requests, written and checked against the official client's types."""

import base64
import json
from typing import Any

import msgspec
import pytest
from ollama._types import ChatRequest as OfficialChatRequest
from ollama._types import EmbedRequest, GenerateRequest

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    AnyTool,
    Attempt,
    AudioPart,
    CacheBreakpoint,
    Change,
    ChatRequest,
    CompletionRequest,
    DocumentPart,
    EmbeddingRequest,
    ForeignPart,
    FreeformTool,
    HostedTool,
    ImagePart,
    InlineData,
    Message,
    ModelFacts,
    OpaqueState,
    Part,
    PlainText,
    ProviderRequest,
    ReasoningOptions,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    Sampling,
    SearchResultPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.anthropic.fields import FIELDS as ANTHROPIC_FIELDS
from modelplex.dialects.core.freeform_tools import WRAPPED
from modelplex.dialects.core.ledger import NO_TOOL_MEMBER
from modelplex.dialects.ollama import dialect
from modelplex.dialects.openai_chat.fields import FIELDS
from modelplex.dialects.registry import write_request
from tests.dialects.sides import placed, usual_paths, with_places

ATTEMPT = Attempt(provider="local", model="llama3.2", dialect="ollama")
IMAGE = ImagePart(InlineData("image/png", "aGVsbG8="))
WEATHER = Tool(
    "weather", "Tells it", msgspec.Raw(b'{"type":"object","properties":{"city":{"type":"string"}}}')
)


def _call(
    *parts: Part,
    messages: tuple[Message, ...] = (),
    tools: tuple[AnyTool, ...] = (),
    choice: ToolChoice | None = None,
    **more: Any,
) -> ChatRequest:
    told = messages or (Message("user", parts or (TextPart("Hi"),), path="messages[0]"),)
    return with_places(
        ChatRequest(
            dialect="openai_chat",
            model="m",
            messages=told,
            tools=placed(tools),
            choice=choice,
            paths=usual_paths(FIELDS) | {"user": "user"},
            **more,
        )
    )


def _sent(call: ChatRequest, attempt: Attempt = ATTEMPT) -> tuple[dict[str, Any], ProviderRequest]:
    """The body, which the official client's own type of a request takes as it is."""
    written = write_request(call, attempt)
    body = json.loads(written.body)
    OfficialChatRequest.model_validate(body)
    return body, written


def _changes(written: ProviderRequest) -> list[str]:
    return [f"{change.op}={change.path}" for change in written.changes]


def test_a_plain_call_says_that_it_wants_no_stream() -> None:
    body, written = _sent(_call())
    plain = {"model": "llama3.2", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    assert body == {**plain, "truncate": False, "shift": False}
    assert written.changes == ()


@pytest.mark.parametrize("dialect", ["ollama", "ollama_generate"])
def test_a_client_of_ollama_itself_decides_about_truncation(dialect: str) -> None:
    body, _ = _sent(msgspec.structs.replace(_call(), dialect=dialect))
    assert "truncate" not in body
    assert "shift" not in body


def test_every_control_that_ollama_has_is_sent_and_every_other_one_named() -> None:
    sampling = Sampling(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        seed=7,
        presence_penalty=1.0,
        frequency_penalty=0.5,
        stop=("END",),
        logprobs=True,
        top_logprobs=2,
        logit_bias=msgspec.Raw(b'{"1":2}'),
    )
    body, written = _sent(
        _call(
            sampling=sampling,
            max_tokens=99,
            stream=True,
            verbosity="low",
            cache_key="k",
            user="u",
            tier="flex",
            metadata=msgspec.Raw(b'{"a": "b"}'),
            cache=CacheBreakpoint(),
            extra={"keep_alive": msgspec.Raw(b'"5m"'), "store": msgspec.Raw(b"true")},
        )
    )
    assert body["stream"] is True
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
    assert body["options"] == {
        "num_predict": 99,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "seed": 7,
        "presence_penalty": 1.0,
        "frequency_penalty": 0.5,
        "stop": ["END"],
    }
    assert _changes(written) == [
        "drop=logit_bias",
        "drop=verbosity",
        "drop=cache_control",
        "drop=prompt_cache_key",
        "drop=user",
        "drop=metadata",
        "drop=service_tier",
        "drop=keep_alive",
        "drop=store",
    ]


def test_several_choices_are_refused_and_not_reduced() -> None:
    with pytest.raises(Unsupported) as refused:
        _sent(_call(sampling=Sampling(n=2)))
    assert refused.value.param == "n"


@pytest.mark.parametrize(
    ("reasoning", "think", "changes"),
    [
        (ReasoningOptions(effort="none"), False, []),
        (ReasoningOptions(effort="minimal"), "low", ["clamp=reasoning_effort"]),
        (ReasoningOptions(effort="low"), "low", []),
        (ReasoningOptions(effort="medium"), "medium", []),
        (ReasoningOptions(effort="high"), "high", []),
        (ReasoningOptions(effort="xhigh"), "max", ["clamp=reasoning_effort"]),
        (ReasoningOptions(effort="max"), "max", []),
        (ReasoningOptions(budget=9000), "medium", ["lower=reasoning.max_tokens"]),
        (ReasoningOptions(budget=32000, mode="enabled"), "max", ["lower=reasoning.max_tokens"]),
        (ReasoningOptions(mode="disabled"), False, []),
        (ReasoningOptions(mode="adaptive"), True, []),
        (ReasoningOptions(effort="high", show="omitted"), "high", ["drop=reasoning.summary"]),
        (ReasoningOptions(), None, []),
        (None, None, []),
    ],
)
def test_effort_becomes_think(reasoning: ReasoningOptions | None, think: object, changes: list[str]) -> None:
    body, written = _sent(_call(reasoning=reasoning))
    assert body.get("think") == think
    assert _changes(written) == changes


def test_effort_is_left_out_where_the_model_cannot_follow() -> None:
    silent = msgspec.structs.replace(ATTEMPT, facts=ModelFacts(thinking="none"))
    always = msgspec.structs.replace(ATTEMPT, facts=ModelFacts(can_disable_thinking=False))
    for attempt, effort in ((silent, "high"), (always, "none")):
        body, written = _sent(_call(reasoning=ReasoningOptions(effort=effort)), attempt)  # type: ignore[arg-type]
        assert "think" not in body
        assert _changes(written) == ["drop=reasoning_effort"]


def test_a_form_of_answer_is_asked_for() -> None:
    schema = msgspec.Raw(b'{"type": "object", "properties": {"a": {"type": "integer"}}}')
    assert _sent(_call(format=ResponseFormat("schema", schema, name="x")))[0]["format"] == json.loads(
        bytes(schema)
    )
    assert _sent(_call(format=ResponseFormat("json")))[0]["format"] == "json"
    assert "format" not in _sent(_call(format=ResponseFormat("text")))[0]


def test_losses_are_named_in_the_words_of_the_client() -> None:
    call = msgspec.structs.replace(
        _call(parallel=False, reasoning=ReasoningOptions(effort="minimal"), user="u"),
        dialect="anthropic_messages",
        paths=usual_paths(ANTHROPIC_FIELDS) | {"parallel": "tool_choice.disable_parallel_tool_use"},
    )
    assert _changes(_sent(call)[1]) == [
        "clamp=thinking",
        "drop=tool_choice.disable_parallel_tool_use",
        "drop=metadata.user_id",
    ]


# --- tools


@pytest.mark.parametrize(
    ("choice", "offered", "changes"),
    [
        (None, ["weather", "now"], []),
        (ToolChoice("auto"), ["weather", "now"], []),
        (ToolChoice("none"), None, []),
        (ToolChoice("required"), ["weather", "now"], ["drop=tool_choice"]),
        (ToolChoice("named", ("now",)), ["weather", "now"], ["drop=tool_choice"]),
        (ToolChoice("subset", ("now",)), ["now"], []),
        (ToolChoice("subset", ("now",), required=True), ["now"], ["drop=tool_choice"]),
    ],
)
def test_a_choice_is_done_by_what_is_offered_or_named_as_lost(
    choice: ToolChoice | None, offered: list[str] | None, changes: list[str]
) -> None:
    body, written = _sent(_call(tools=(WEATHER, Tool("now")), choice=choice))
    tools = body.get("tools")
    assert (tools and [tool["function"]["name"] for tool in tools]) == offered
    assert _changes(written) == changes


def test_one_call_at_a_time_cannot_be_asked_for() -> None:
    assert _changes(_sent(_call(parallel=False))[1]) == ["drop=parallel_tool_calls"]
    assert _changes(_sent(_call(parallel=True))[1]) == []


def test_a_tool_keeps_its_schema_whole_and_names_what_ollama_will_drop_of_it_once() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "minimum": {"type": "integer", "minimum": 3},
            "b": {"anyOf": [{"type": "string", "pattern": "x"}, {"$ref": "#/$defs/d"}]},
            "c": {"type": "array", "items": {"type": "string", "maxLength": 3}},
        },
        "required": ["minimum"],
        "$defs": {"d": {"type": "object", "properties": {}, "title": "D"}},
    }
    tool = Tool("f", None, msgspec.Raw(json.dumps(schema).encode()), strict=True)
    body, written = _sent(_call(tools=(WEATHER, tool)))
    assert body["tools"][1] == {"type": "function", "function": {"name": "f", "parameters": schema}}
    lost = "$ref, additionalProperties, maxLength, minimum, pattern, title"
    assert written.changes == (
        Change("drop", "tools[1].strict", NO_TOOL_MEMBER),
        Change("lower", "tools[1]", f"Ollama drops from a tool: {lost}"),
    )


def test_a_tool_without_parameters_gets_an_empty_object() -> None:
    (tool,) = _sent(_call(tools=(Tool("now", "Tells the time"),)))[0]["tools"]
    assert tool["function"] == {
        "name": "now",
        "description": "Tells the time",
        "parameters": {"type": "object", "properties": {}},
    }


def test_a_free_form_tool_is_lowered_to_one_string_and_its_history_with_it() -> None:
    free = FreeformTool("sh", "Runs it", syntax="lark", definition="start: WORD")
    history = (
        Message("assistant", (ToolCallPart("c1", "sh", 'ls "x"', free=True),), path="messages[0]"),
        Message("tool", (ToolResultPart("c1", (TextPart("x"),), free=True),), path="messages[1]"),
    )
    body, written = _sent(_call(messages=history, tools=(free,)))
    function = body["tools"][0]["function"]
    assert function["parameters"] == json.loads(bytes(WRAPPED))
    assert function["description"] == "Runs it\n\nThe input must match this lark grammar:\nstart: WORD"
    assert body["messages"][0]["tool_calls"][0]["function"]["arguments"] == {"input": 'ls "x"'}
    assert written.free == {"sh"}
    assert _changes(written) == ["lower=tools[0]"]


def test_a_hosted_tool_stays_behind_and_is_named() -> None:
    search = HostedTool("anthropic_messages", "web_search_20250305", msgspec.Raw(b"{}"))
    body, written = _sent(_call(tools=(WEATHER, search)))
    assert len(body["tools"]) == 1
    assert [(change.op, change.path) for change in written.changes] == [("drop", "tools[1]")]
    bash = HostedTool("anthropic_messages", "bash_20250124", msgspec.Raw(b"{}"), name="bash")
    with pytest.raises(Unsupported) as refused:
        _sent(_call(tools=(WEATHER, bash)))
    assert refused.value.param == "tools[1]"


def test_a_tools_schema_that_is_no_json_is_the_callers_fault() -> None:
    nested = b'{"items":' * 200_000 + b"{}" + b"}" * 200_000  # beyond what any version of Python recurses
    for parameters in (b"{", nested):
        with pytest.raises(BadRequest) as refused:
            _sent(_call(tools=(Tool("f", None, msgspec.Raw(parameters)),)))
        assert refused.value.param == "tools[0].parameters"


# --- messages


def test_a_whole_dialogue_with_thinking_calls_and_results_is_told() -> None:
    state = OpaqueState("anthropic-claude-v1", "c2ln")
    messages = (
        Message("developer", (TextPart("Be brief."),), path="messages[0]"),
        Message("user", (TextPart("Look:"), IMAGE, TextPart("what is it?")), name="Ann", path="messages[1]"),
        Message(
            "assistant",
            (
                ReasoningPart("Hm.", state),
                TextPart("I look."),
                ToolCallPart("a", "look", '{"x": 1.0}'),
                ToolCallPart("b", "weather", "oops"),
            ),
            path="messages[2]",
        ),
        Message(
            "tool",
            (
                ToolResultPart("b", (TextPart("no"), TextPart("way")), is_error=True),
                ToolResultPart("a", (TextPart("a cat"), IMAGE)),
            ),
            path="messages[3]",
        ),
        Message("system", (TextPart("Hurry."),), path="messages[4]"),
        Message("assistant", (TextPart("It is"),), path="messages[5]"),
    )
    body, written = _sent(_call(messages=messages))
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look:\n\nwhat is it?", "images": ["aGVsbG8="]},
        {
            "role": "assistant",
            "content": "I look.",
            "thinking": "Hm.",
            "tool_calls": [
                {"id": "a", "function": {"name": "look", "arguments": {"x": 1.0}}},
                {"id": "b", "function": {"name": "weather", "arguments": {"_raw": "oops"}}},
            ],
        },
        {
            "role": "tool",
            "content": "a cat",
            "images": ["aGVsbG8="],
            "tool_name": "look",
            "tool_call_id": "a",
        },
        {"role": "tool", "content": "[tool error] no\n\nway", "tool_name": "weather", "tool_call_id": "b"},
        {"role": "system", "content": "Hurry."},
        {"role": "assistant", "content": "It is"},
    ]
    assert b'{"x": 1.0}' in written.body
    assert _changes(written) == [
        "drop=messages[1].name",
        "drop=messages[2].content[0].state",
        "lower=messages[2].content[3].arguments",
    ]


def test_what_only_another_dialect_has_on_calls_and_results_is_named() -> None:
    own = {"caller": msgspec.Raw(b'{"type":"x"}')}
    messages = (
        Message("assistant", (ToolCallPart("a", "now", "{}", extra=own),), path="messages[0]"),
        Message("tool", (ToolResultPart("a", (), extra=own),), path="messages[1]"),
    )
    body, written = _sent(_call(messages=messages))
    assert body["messages"][1]["tool_name"] == "now"
    assert _changes(written) == ["drop=messages[0].content[0].caller", "drop=messages[1].content[0].caller"]


@pytest.mark.parametrize("arguments", ["", "  ", "{}"])
def test_a_call_without_arguments_has_an_empty_object(arguments: str) -> None:
    messages = (
        Message("assistant", (ToolCallPart("a", "now", arguments),), path="messages[0]"),
        Message("tool", (ToolResultPart("a", (TextPart("noon"),)),), path="messages[1]"),
    )
    body, _ = _sent(_call(messages=messages))
    assert body["messages"][0]["tool_calls"][0]["function"]["arguments"] == {}


def test_a_call_without_a_result_and_a_result_without_a_call_are_refused_by_id() -> None:
    asked = Message(
        "assistant", (ToolCallPart("a", "f", "{}"), ToolCallPart("b", "f", "{}")), path="messages[0]"
    )
    answered = Message("tool", (ToolResultPart("a", ()),), path="messages[1]")
    more = Message("user", (TextPart("Well?"),), path="messages[2]")
    stray = Message("tool", (ToolResultPart("z", ()),), path="messages[3]")
    for messages, told, param in (
        ((asked, answered), "missing: b", "messages[0].content[1]"),
        ((asked, answered, more), "missing: b", "messages[0].content[1]"),
        ((stray,), "'z'", "messages[3].content[0]"),
    ):
        with pytest.raises(BadRequest) as refused:
            _sent(_call(messages=messages))
        assert told in refused.value.message
        assert refused.value.param == param


@pytest.mark.parametrize(
    "part",
    [
        ImagePart(UrlReference("https://example.com/a.png")),
        DocumentPart(InlineData("application/pdf", "JVBERi0=")),
        DocumentPart(UrlReference("https://example.com/a.pdf")),
        AudioPart("UklGRg==", "wav"),
        ForeignPart("anthropic_messages", "server_tool_use", msgspec.Raw(b"{}")),
    ],
)
def test_what_ollama_cannot_be_shown_is_refused_by_its_path(part: Part) -> None:
    with pytest.raises(Unsupported) as refused:
        _sent(_call(TextPart("See"), part))
    assert refused.value.param == "messages[0].content[1]"


def test_an_image_by_url_in_a_tools_result_is_refused_by_its_path() -> None:
    messages = (
        Message("assistant", (ToolCallPart("a", "f", "{}"),), path="messages[0]"),
        Message(
            "tool",
            (ToolResultPart("a", (TextPart("x"), ImagePart(UrlReference("http://h/i.png")))),),
            path="messages[1]",
        ),
    )
    with pytest.raises(Unsupported) as refused:
        _sent(_call(messages=messages))
    assert refused.value.param == "messages[1].content[0].content[1]"


def test_texts_of_all_kinds_are_told_as_text() -> None:
    data = base64.b64encode("grün".encode()).decode()
    body, written = _sent(
        _call(
            DocumentPart(PlainText("Text."), title="Title", context="From a book", citations=True),
            DocumentPart(InlineData("text/plain", data), filename="a.txt"),
            SearchResultPart("https://h/", "Found", ("one", "two"), cache=CacheBreakpoint("5m")),
            RefusalPart("I will not."),
            TextPart("So?", cache=CacheBreakpoint()),
        )
    )
    assert body["messages"][0]["content"] == (
        "Title\n\nFrom a book\n\nText.\n\na.txt\n\ngrün\n\nFound\nhttps://h/\n\none\n\ntwo\n\nI will not.\n\nSo?"
    )
    assert _changes(written) == [
        "drop=messages[0].content[0].citations",
        "drop=messages[0].content[2].cache_control",
        "lower=messages[0].content[3]",
        "drop=messages[0].content[4].cache_control",
    ]


def test_a_text_document_that_is_not_base64_is_the_callers_fault() -> None:
    with pytest.raises(BadRequest):
        _sent(_call(DocumentPart(InlineData("text/plain", "%%%"))))


# --- completions and embeddings


def _completion(*prompts: str | tuple[int, ...], **more: Any) -> ProviderRequest:
    return dialect.write_completion(
        CompletionRequest(dialect="openai_completions", model="m", prompts=prompts, **more), ATTEMPT
    )


def test_a_completion_is_one_prompt_with_its_options() -> None:
    written = _completion(
        "def f(",
        suffix=")",
        max_tokens=5,
        sampling=Sampling(stop=("\n",)),
        echo=True,
        extra={"best_of": msgspec.Raw(b"1")},
    )
    body = json.loads(written.body)
    GenerateRequest.model_validate(body)
    assert body == {
        "model": "llama3.2",
        "prompt": "def f(",
        "suffix": ")",
        "stream": False,
        "options": {"num_predict": 5, "stop": ["\n"]},
    }
    assert _changes(written) == ["drop=echo", "drop=best_of"]


@pytest.mark.parametrize("prompts", [("a", "b"), ((1, 2),), ()])
def test_other_prompts_than_one_text_are_refused(prompts: tuple[str | tuple[int, ...], ...]) -> None:
    with pytest.raises(Unsupported) as refused:
        _completion(*prompts)
    assert refused.value.param == "prompt"


def test_an_embedding_takes_texts_and_is_never_cut_in_silence() -> None:
    asked = EmbeddingRequest(
        dialect="openai_embeddings", model="m", inputs=("a", "b"), dimensions=8, encoding="base64"
    )
    body = json.loads(dialect.write_embedding(asked, ATTEMPT).body)
    EmbedRequest.model_validate(body)
    assert body == {"model": "llama3.2", "input": ["a", "b"], "truncate": False, "dimensions": 8}
    with pytest.raises(Unsupported) as refused:
        dialect.write_embedding(msgspec.structs.replace(asked, inputs=("a", (1, 2))), ATTEMPT)
    assert refused.value.param == "input[1]"
