"""Requests written for Responses providers, and those of Responses clients for other dialects."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types.responses import response_create_params
from pydantic import TypeAdapter

from modelplex.core.errors import ModelplexError, StatePinned, Unsupported
from modelplex.core.request import (
    Attempt,
    AudioPart,
    CacheBreakpoint,
    ChatRequest,
    DocumentPart,
    FileReference,
    ForeignPart,
    FreeformTool,
    HostedTool,
    ImagePart,
    InlineData,
    Message,
    ModelFacts,
    OpaqueState,
    PlainText,
    ProviderRequest,
    Quirks,
    ReasoningOptions,
    ReasoningPart,
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
from modelplex.dialects.anthropic import dialect as anthropic
from modelplex.dialects.ollama import dialect as ollama
from modelplex.dialects.openai_chat import dialect as openai_chat
from modelplex.dialects.openai_chat.fields import FIELDS as CHAT_FIELDS
from modelplex.dialects.registry import write_request
from tests.dialects.openai_responses.peer import ATTEMPT, make_call
from tests.dialects.sides import placed, usual_paths, with_places

_REQUEST: TypeAdapter[Any] = TypeAdapter(response_create_params.ResponseCreateParamsNonStreaming)

CUSTOM = msgspec.structs.replace(ATTEMPT, quirks=Quirks(custom_tools=True))
FOREIGN: dict[str, Any] = {
    "openai_chat": openai_chat,
    "anthropic_messages": anthropic,
    "ollama": ollama,
}
SEARCH = {"type": "web_search", "external_web_access": False}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
READ = {
    "type": "function",
    "name": "read",
    "description": "Read.",
    "parameters": {"type": "object"},
    "strict": False,
}
CODEX: dict[str, Any] = {
    "instructions": "You are Codex.",
    "tools": [
        {"type": "function", "name": "shell", "parameters": {"type": "object"}, "strict": False},
        {"type": "custom", "name": "apply_patch", "description": "Patch.", "format": GRAMMAR},
        SEARCH,
        {"type": "namespace", "name": "mcp__fs__", "description": "Files.", "tools": [READ]},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "k",
    "text": {"verbosity": "low"},
    "client_metadata": {"x": "y"},
    "stream": True,
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rules."}]},
        {"role": "user", "content": "Fix it."},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "gAAA",
        },
        {
            "type": "message",
            "role": "assistant",
            "phase": "commentary",
            "content": [{"type": "output_text", "text": "Looking.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "read", "namespace": "mcp__fs__", "arguments": ""},
        {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin"},
        {
            "type": "function_call_output",
            "call_id": "c1",
            "output": [
                {"type": "input_text", "text": "ok"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
            ],
        },
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "done"},
    ],
}


def sent(call: ChatRequest, attempt: Attempt = ATTEMPT) -> tuple[dict[str, Any], ProviderRequest]:
    """The body, which the official client's own type of a request takes as it is."""
    written = write_request(call, attempt)
    body: dict[str, Any] = json.loads(written.body)
    if call.dialect != "openai_responses":  # what came in this form goes on as it came, whatever it was
        _REQUEST.validate_python({name: value for name, value in body.items() if name != "stream"})
    return body, written


PATHS = usual_paths(CHAT_FIELDS)


def chat(**more: Any) -> ChatRequest:
    messages = more.pop("messages", (Message("user", (TextPart("Hi"),), path="messages[0]"),))
    tools = placed(more.pop("tools", ()))
    return with_places(
        ChatRequest(dialect="openai_chat", model="m", messages=messages, tools=tools, paths=PATHS, **more)
    )


def refused(call: ChatRequest, attempt: Attempt = ATTEMPT) -> ModelplexError:
    with pytest.raises(ModelplexError) as caught:
        write_request(call, attempt)
    return caught.value


# --- the same dialect -----------------------------------------------------------------------------


def test_what_codex_sends_goes_to_a_provider_of_the_same_form_as_it_came() -> None:
    body, written = sent(make_call(**CODEX))
    assert written.changes == ()
    said = {name: value for name, value in CODEX.items() if name != "input"}
    assert {name: body[name] for name in said} == said
    assert body["model"] == "m-up"
    given = json.loads(json.dumps(CODEX["input"]))
    given[1] = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}]}
    given[4]["arguments"] = "{}"
    assert body["input"] == given


def test_items_that_only_this_form_has_go_back_to_the_last_byte() -> None:
    items = [
        {"type": "item_reference", "id": "msg_1"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
        {"type": "local_shell_call_output", "id": "x", "output": "{}"},
        {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"},
    ]
    body, _ = sent(make_call(input=items))
    assert body["input"] == items


def test_members_without_a_place_ride_along() -> None:
    more = {
        "truncation": "auto",
        "max_tool_calls": 2,
        "prompt_cache_retention": "24h",
        "reasoning": {"effort": "low", "context": "all_turns"},
        "stream_options": {"include_obfuscation": False},
        "stream": True,
    }
    body, _ = sent(make_call(**more))
    assert {name: body[name] for name in more} == more


def test_nothing_is_kept_at_a_provider() -> None:
    assert sent(make_call())[0]["store"] is False
    assert sent(make_call(store=True))[0]["store"] is False
    assert sent(chat())[0]["store"] is False


# --- from other dialects --------------------------------------------------------------------------


def test_leading_instructions_stand_before_the_conversation_and_later_ones_in_it() -> None:
    messages = (
        Message("system", (TextPart("One."),), path="messages[0]"),
        Message("developer", (TextPart("Two."),), path="messages[1]"),
        Message("user", (TextPart("Hi"),), path="messages[2]"),
        Message("system", (TextPart("Three."),), path="messages[3]"),
    )
    body, _ = sent(chat(messages=messages))
    assert body["instructions"] == "One.\n\nTwo."
    assert [item["role"] for item in body["input"]] == ["user", "system"]


def test_a_conversation_of_another_form_becomes_items() -> None:
    state = OpaqueState("openai-responses-v1", "gAAA", provider="acme", account="k1", id="rs_1")
    messages = (
        Message(
            "user",
            (
                TextPart("Hi"),
                ImagePart(InlineData("image/png", "AA==")),
                SearchResultPart("e.org", "E", ("x",)),
            ),
        ),
        Message(
            "assistant",
            (
                ReasoningPart("Hm.", state, summary=True),
                TextPart("Looking."),
                ToolCallPart("c1", "f", "{}"),
                ToolCallPart("c2", "p", "*** x", free=True),
            ),
        ),
        Message("tool", (ToolResultPart("c1", (TextPart("No."),), is_error=True), ToolResultPart("c2", ()))),
        Message(
            "user",
            (DocumentPart(PlainText("text"), title="T"), DocumentPart(UrlReference("https://e.org/a.pdf"))),
        ),
    )
    body, _ = sent(chat(messages=messages, tools=(Tool("f"), FreeformTool("p"))), CUSTOM)
    assert body["input"] == [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Hi"},
                {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,AA=="},
                {"type": "input_text", "text": "E\ne.org\nx"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "gAAA",
        },
        {
            "id": "msg_0",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Looking.", "annotations": []}],
            "status": "completed",
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "p", "input": "*** x"},
        {"type": "function_call_output", "call_id": "c1", "output": "[tool error] No."},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": ""},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "T\ntext"},
                {"type": "input_file", "file_url": "https://e.org/a.pdf"},
            ],
        },
    ]
    assert body["include"] == ["reasoning.encrypted_content"]
    assert body["tools"][0] == {
        "type": "function",
        "name": "f",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    }


def test_controls_of_another_form_are_said_in_this_ones_words() -> None:
    call = chat(
        max_tokens=9,
        sampling=Sampling(temperature=0.5, top_p=0.9, logprobs=True, top_logprobs=2),
        format=ResponseFormat("schema", msgspec.Raw(b'{"type":"object"}'), name="s", strict=True),
        verbosity="low",
        reasoning=ReasoningOptions(effort="high", show="summarized"),
        cache_key="k",
        user="u",
        tier="flex",
        metadata=msgspec.Raw(b'{"a":"b"}'),
        stream=True,
    )
    body, written = sent(call)
    assert written.changes == ()
    told: dict[str, Any] = {
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_logprobs": 2,
        "stream": True,
    }
    told |= {"reasoning": {"effort": "high", "summary": "auto"}, "prompt_cache_key": "k"}
    told |= {"safety_identifier": "u", "service_tier": "flex", "metadata": {"a": "b"}}
    told |= {"include": ["reasoning.encrypted_content", "message.output_text.logprobs"]}
    schema = {"type": "json_schema", "name": "s", "schema": {"type": "object"}, "strict": True}
    told |= {"text": {"format": schema, "verbosity": "low"}}
    assert {name: body[name] for name in told} == told
    assert "stream_options" not in body


def test_what_this_form_has_no_words_for_is_named() -> None:
    call = chat(
        sampling=Sampling(top_k=3, seed=1, presence_penalty=0.5, stop=("x",)),
        reasoning=ReasoningOptions(budget=8192),
        extra={"modalities": msgspec.Raw(b'["text"]'), "store": msgspec.Raw(b"true")},
        cache=CacheBreakpoint("5m"),
    )
    body, written = sent(call)
    assert body["reasoning"] == {"effort": "medium"}
    assert [(change.op, change.path) for change in written.changes] == [
        ("lower", "reasoning.max_tokens"),
        ("drop", "top_k"),
        ("drop", "seed"),
        ("drop", "presence_penalty"),
        ("drop", "stop"),
        ("drop", "cache_control"),
        ("drop", "modalities"),
        ("drop", "store"),
    ]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        (AudioPart("AA==", "wav"), "messages[0].content[0]"),
        (ImagePart(FileReference("f")), "messages[0].content[0]"),
        (DocumentPart(FileReference("f")), "messages[0].content[0]"),
        (ForeignPart("gemini", "x", msgspec.Raw(b"{}")), "messages[0].content[0]"),
    ],
)
def test_a_part_that_cannot_be_said_is_refused_by_its_place(part: Any, param: str) -> None:
    error = refused(chat(messages=(Message("user", (part,), path="messages[0]"),)))
    assert isinstance(error, Unsupported)
    assert error.param == param


def test_several_choices_and_calls_without_results_are_refused() -> None:
    assert refused(chat(sampling=Sampling(n=2))).param == "n"
    open_call = Message("assistant", (ToolCallPart("c1", "f", "{}"),), path="messages[0]")
    assert "'c1'" in refused(chat(messages=(open_call,))).message


def test_sealed_state_goes_to_its_maker_alone() -> None:
    other = OpaqueState("openai-responses-v1", "gAAA", provider="acme", account="k2")
    message = Message("assistant", (ReasoningPart("Hm.", other),), path="messages[0]")
    assert isinstance(refused(chat(messages=(message,))), StatePinned)
    unknown = msgspec.structs.replace(
        message, parts=(ReasoningPart("Hm.", OpaqueState("anthropic-claude-v1", "x")),)
    )
    body, written = sent(chat(messages=(unknown,)))
    assert body["input"] == []
    assert [change.op for change in written.changes] == ["drop", "drop"]


def test_a_long_name_is_replaced_wherever_it_stands_and_a_long_id_too() -> None:
    long, id_ = "a.tool.with.dots", "c" * 80
    messages = (
        Message("assistant", (ToolCallPart(id_, long, "{}"),)),
        Message("tool", (ToolResultPart(id_, (TextPart("x"),)),)),
    )
    body, written = sent(chat(messages=messages, tools=(Tool(long),), choice=ToolChoice("named", (long,))))
    (alias,) = written.aliases
    assert [body["tools"][0]["name"], body["tool_choice"]["name"], body["input"][0]["name"]] == [alias] * 3
    assert body["input"][0]["call_id"] == body["input"][1]["call_id"]
    assert len(body["input"][0]["call_id"]) <= 64


def test_a_free_tool_is_a_function_where_the_service_knows_functions_only() -> None:
    messages = (
        Message("assistant", (ToolCallPart("c", "p", "*** x", free=True),)),
        Message("tool", (ToolResultPart("c", (TextPart("y"),), free=True),)),
    )
    body, written = sent(chat(messages=messages, tools=(FreeformTool("p", "P.", "lark", "x"),)))
    assert body["tools"][0]["type"] == "function"
    assert [item["type"] for item in body["input"]] == ["function_call", "function_call_output"]
    assert json.loads(body["input"][0]["arguments"]) == {"input": "*** x"}
    assert written.free == {"p"}


def test_a_schema_is_a_forced_tool_where_the_model_has_none() -> None:
    attempt = msgspec.structs.replace(ATTEMPT, facts=ModelFacts(schema=False))
    form = ResponseFormat("schema", msgspec.Raw(b'{"type":"object"}'))
    body, written = sent(chat(format=form), attempt)
    assert written.answer_tool == body["tool_choice"]["name"]
    assert refused(chat(format=form, tools=(Tool("f"),)), attempt).param == "response_format"


def test_a_foreign_hosted_tool_stays_behind() -> None:
    tool = HostedTool("anthropic_messages", "web_search_20250305", msgspec.Raw(b"{}"), name="web_search")
    body, written = sent(chat(tools=(Tool("f"), tool)))
    assert [each["name"] for each in body["tools"]] == ["f"]
    assert [(change.op, change.path) for change in written.changes] == [("drop", "tools[1]")]
    assert refused(chat(tools=(tool,), choice=ToolChoice("named", ("web_search",)))).param == "tool_choice"
    assert refused(chat(tools=(tool,), choice=ToolChoice("required"))).param == "tool_choice"


# --- to other dialects ----------------------------------------------------------------------------


def left(dialect: str, **body: Any) -> tuple[dict[str, Any], ProviderRequest]:
    facts = ModelFacts(thinking="adaptive")
    attempt = Attempt(provider="other", model="m-up", dialect=dialect, account="k9", facts=facts)
    written: ProviderRequest = write_request(make_call(**body), attempt)
    return json.loads(written.body), written


def _names(body: dict[str, Any]) -> list[str]:
    inner = [tool.get("function") or tool.get("custom") or tool for tool in body["tools"]]
    return [tool["name"] for tool in inner]


@pytest.mark.parametrize("dialect", FOREIGN)
def test_a_turn_of_codex_runs_on_a_provider_of_any_form(dialect: str) -> None:
    body, written = left(dialect, **CODEX)
    assert _names(body) == ["shell", "apply_patch", "mcp__fs__read"]
    assert "mcp__fs__read" in json.dumps(body["messages"])
    changes = {(change.op, change.path) for change in written.changes}
    assert ("drop", "tools[2]") in changes
    assert ("rename", "tools[3]") in changes
    assert not {path for _, path in changes} & {"store", "include", "stream_options", "input[3].phase"}


@pytest.mark.parametrize("dialect", FOREIGN)
def test_a_hosted_tool_that_is_forced_or_that_the_client_runs_is_refused(dialect: str) -> None:
    for body, param in (
        ({"tools": [READ, SEARCH], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tools": [READ, {"type": "computer"}]}, "tools[1]"),
    ):
        with pytest.raises(Unsupported) as caught:
            left(dialect, **body)
        assert caught.value.param == param


@pytest.mark.parametrize("dialect", FOREIGN)
def test_what_is_kept_elsewhere_is_refused(dialect: str) -> None:
    for body in (
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"background": True},
        {"prompt": {"id": "p"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"type": "compaction", "encrypted_content": "gAAA"}]},
    ):
        with pytest.raises(Unsupported):
            left(dialect, **body)


@pytest.mark.parametrize("dialect", FOREIGN)
def test_a_record_of_an_earlier_search_is_left_out_and_named(dialect: str) -> None:
    search = {"type": "web_search_call", "id": "ws", "status": "completed"}
    said = {"role": "assistant", "content": "Sunny."}
    items = [{"role": "user", "content": "Hi"}, search, said, {"role": "user", "content": "And?"}]
    body, written = left(dialect, input=items)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert ("drop", "input[1]") in {(change.op, change.path) for change in written.changes}


def test_a_choice_among_tools_loses_those_that_stay_behind() -> None:
    allowed = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "web_search"}, {"type": "function", "name": "read"}],
    }
    body, _ = left("openai_chat", tools=[READ, SEARCH], tool_choice=allowed)
    assert [tool["function"]["name"] for tool in body["tool_choice"]["allowed_tools"]["tools"]] == ["read"]
    only = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}
    with pytest.raises(Unsupported):
        left("openai_chat", tools=[READ, SEARCH], tool_choice=only)


def test_a_choice_of_a_tool_in_a_namespace_finds_it_outside() -> None:
    space = {"type": "namespace", "name": "fs", "description": "", "tools": [READ]}
    body, _ = left("openai_chat", tools=[space], tool_choice={"type": "function", "name": "read"})
    assert body["tool_choice"]["function"]["name"] == "fs__read"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"truncation": "auto"}, "truncation"),
        ({"truncation": "disabled"}, None),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"background": False}, None),
        ({"store": True}, None),
        ({"include": ["reasoning.encrypted_content"]}, None),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"reasoning": {"effort": "low", "context": "auto"}}, "reasoning.context"),
        ({"stream_options": {"include_obfuscation": False}}, None),
    ],
)
def test_members_that_say_nothing_elsewhere_go_in_silence_and_others_by_name(
    body: dict[str, Any], path: str | None
) -> None:
    _, written = left("openai_chat", **body)
    assert [change.path for change in written.changes] == ([] if path is None else [path])
