"""Chat completions requests, written for providers of all kinds."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    Attempt,
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
    ReasoningOptions,
    ReasoningPart,
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
from modelplex.dialects.core.tool_names import alias
from modelplex.dialects.openai_chat import dialect as openai_chat
from modelplex.dialects.registry import write_request
from tests.dialects.openai_chat.peer import ATTEMPT, CASES, attempt_with, make_ask, make_call, transcript
from tests.dialects.sides import placed, usual_paths, with_places


def read(**body: Any) -> ChatRequest:
    return openai_chat.read_call(make_ask({"model": "m", "messages": [], **body}))


def write(call: ChatRequest, attempt: Attempt = ATTEMPT) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(write_request(call, attempt).body)
    return body


PATHS = usual_paths(ANTHROPIC_FIELDS)


def foreign(*messages: Message, **more: Any) -> ChatRequest:
    """A call of a client of another dialect."""
    tools = placed(more.pop("tools", ()))
    return with_places(
        ChatRequest(
            dialect="anthropic_messages", model="m", messages=messages, tools=tools, paths=PATHS, **more
        )
    )


@pytest.mark.parametrize("case", [case for case in CASES if case != "old_function_call"])
def test_a_request_of_the_same_dialect_survives_the_hub(case: str) -> None:
    asked = json.loads(transcript(case, "request.json"))
    effort = (
        "reasoning" if "reasoning" in asked else "thinking" if "thinking" in asked else "reasoning_effort"
    )
    limit = "max_tokens" if "max_tokens" in asked else "max_completion_tokens"
    attempt = attempt_with(
        effort=effort, output_limit=limit, reasoning_back="reasoning_content", developer_role=True
    )
    sent = write(openai_chat.read_call(make_ask(transcript(case, "request.json"))), attempt)
    asked["model"] = "m-up"
    if asked.get("stream"):
        asked["stream_options"] = {"include_usage": True}
    if case == "openrouter_signed_reasoning":
        asked["reasoning"] = {"max_tokens": 2000}
    if case == "deepseek_reasoning_and_tool":
        asked["messages"][1]["content"] = None
    if case == "parts_of_every_kind":
        asked["messages"][2] = {"role": "assistant", "content": "I see.", "refusal": "No.", "prefix": True}
    assert sent == asked


def test_big_numbers_and_unknown_members_keep_their_bytes() -> None:
    call = openai_chat.read_call(
        make_ask(b'{"model":"m","messages":[],"x":[1.50,1e3,123456789012345678901234567890]}')
    )
    assert b'"x":[1.50,1e3,123456789012345678901234567890]' in write_request(call, ATTEMPT).body


CHOICES: list[tuple[Any, ToolChoice]] = [
    ("none", ToolChoice("none")),
    ("auto", ToolChoice("auto")),
    ("required", ToolChoice("required")),
    ({"type": "function", "function": {"name": "f"}}, ToolChoice("named", ("f",))),
    ({"type": "custom", "custom": {"name": "p"}}, ToolChoice("named", ("p",))),
    (
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
        },
        ToolChoice("subset", ("f",)),
    ),
]


@pytest.mark.parametrize(("asked", "choice"), CHOICES)
def test_every_form_of_choice_is_read_and_written(asked: Any, choice: ToolChoice) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "p"}}]
    call = read(tool_choice=asked, tools=tools)
    assert call.choice == choice
    assert write(call)["tool_choice"] == asked


# --- quirks ---------------------------------------------------------------------------------------


def test_the_output_limit_goes_under_one_name() -> None:
    call = make_call(max_tokens=5, max_completion_tokens=9)
    for name in ("max_tokens", "max_completion_tokens"):
        sent = write(call, attempt_with(output_limit=name))
        assert {key: value for key, value in sent.items() if key.startswith("max_")} == {name: 9}


def test_what_a_service_refuses_is_dropped_and_named() -> None:
    written = write_request(make_call(top_k=5, seed=1), attempt_with(refuses=("top_k", "logit_bias")))
    assert "top_k" not in json.loads(written.body)
    assert [(change.op, change.path) for change in written.changes] == [("drop", "top_k")]


@pytest.mark.parametrize(
    ("effort", "sent"),
    [
        ("reasoning_effort", {"reasoning_effort": "high"}),
        ("reasoning", {"reasoning": {"effort": "high"}}),
        ("thinking", {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}),
        ("", {}),
    ],
)
def test_effort_goes_where_the_service_reads_it(effort: str, sent: dict[str, Any]) -> None:
    body = write(make_call(reasoning_effort="high"), attempt_with(effort=effort))
    assert {key: body[key] for key in ("reasoning_effort", "reasoning", "thinking") if key in body} == sent


def test_a_budget_is_told_as_the_effort_that_it_stands_for() -> None:
    for budget, effort in ((1024, "minimal"), (2048, "low"), (10000, "medium"), (32000, "max")):
        written = write_request(foreign(reasoning=ReasoningOptions(budget=budget, mode="enabled")), ATTEMPT)
        assert json.loads(written.body)["reasoning_effort"] == effort
        assert [change.op for change in written.changes] == ["lower"]
    assert write(foreign(reasoning=ReasoningOptions(mode="disabled")))["reasoning_effort"] == "none"


THINKING_TURN = Message("assistant", (ReasoningPart("hm"), TextPart("a")), path="messages[0]")
CALLING_TURN = Message("assistant", (ReasoningPart("hm"), ToolCallPart("a", "f", "{}")), path="messages[0]")


def test_reasoning_goes_back_in_the_field_that_the_service_reads() -> None:
    only_for_tools = attempt_with(reasoning_back="reasoning_content", reasoning_back_for_tools_only=True)
    result = Message("tool", (ToolResultPart("a", (TextPart("r"),)),))
    assert (
        "reasoning_content"
        not in write(foreign(THINKING_TURN, Message("user", (TextPart("x"),))), only_for_tools)["messages"][0]
    )
    assert write(foreign(CALLING_TURN, result), only_for_tools)["messages"][0]["reasoning_content"] == "hm"
    assert (
        write(foreign(CALLING_TURN, result), attempt_with(reasoning_back="reasoning"))["messages"][0][
            "reasoning"
        ]
        == "hm"
    )
    details = write(foreign(CALLING_TURN, result), attempt_with(reasoning_back="reasoning_details"))[
        "messages"
    ][0]
    assert details["reasoning_details"] == [{"type": "reasoning.text", "text": "hm", "index": 0}]
    dropped = write_request(foreign(CALLING_TURN, result), ATTEMPT)
    assert [(change.op, change.path) for change in dropped.changes] == [("drop", "messages[0].content[0]")]


def test_sealed_state_goes_to_its_maker_and_to_nobody_else() -> None:
    state = OpaqueState("anthropic-claude-v1", "EqRk+/==", provider="acme", account="k1")
    other = OpaqueState("anthropic-claude-v1", "XXX", provider="claude", account="k1")
    turn = Message(
        "assistant",
        (ReasoningPart("t", state), ReasoningPart("", other), ToolCallPart("a", "f", "{}", state=state)),
        path="messages[0]",
    )
    written = write_request(foreign(turn, Message("tool", (ToolResultPart("a", (TextPart("r"),)),))), ATTEMPT)
    message = json.loads(written.body)["messages"][0]
    assert message["reasoning_details"] == [
        {
            "type": "reasoning.text",
            "text": "t",
            "signature": "EqRk+/==",
            "format": "anthropic-claude-v1",
            "index": 0,
        }
    ]
    assert message["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "EqRk+/=="}}
    assert b"XXX" not in written.body
    assert ("drop", "messages[0].content[1].state") in [
        (change.op, change.path) for change in written.changes
    ]
    elsewhere = msgspec.structs.replace(ATTEMPT, account="k2")
    result = Message("tool", (ToolResultPart("a", (TextPart("r"),)),))
    assert b"EqRk" not in write_request(foreign(turn, result), elsewhere).body


def test_cache_markers_are_kept_translated_or_named_as_lost() -> None:
    def sent(ttl: str | None, attempt: Attempt) -> tuple[Any, list[str]]:
        written = write_request(
            foreign(Message("user", (TextPart("a", CacheBreakpoint(ttl)),), path="messages[0]")), attempt
        )
        return json.loads(written.body)["messages"][0]["content"], [change.path for change in written.changes]

    keeps = attempt_with(cache_control=True)
    assert sent("1h", keeps)[0][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert sent("30m", keeps)[0][0]["cache_control"] == {"type": "ephemeral", "ttl": "5m"}
    newest = msgspec.structs.replace(attempt_with(cache_breakpoints=True), model="gpt-5.6-sol")
    assert sent("12h", newest)[0][0]["prompt_cache_breakpoint"] == {"mode": "explicit", "ttl": "12h"}
    assert sent(None, newest)[0][0]["prompt_cache_breakpoint"] == {"mode": "explicit"}
    assert sent("12h", ATTEMPT) == ("a", ["messages[0].content[0].cache_control"])
    assert sent("5m", ATTEMPT) == ("a", ["messages[0].content[0].cache_control"])


# --- translation ----------------------------------------------------------------------------------


def test_an_image_in_a_result_follows_in_the_next_user_message() -> None:
    calling = Message("assistant", (ToolCallPart("a", "f", "{}"), ToolCallPart("b", "f", "{}")))
    picture = ImagePart(InlineData("image/png", "AAAA"))
    results = Message(
        "tool",
        (
            ToolResultPart("a", (TextPart("seen"), picture), is_error=True),
            ToolResultPart("b", (TextPart("r"),)),
        ),
        path="messages[1]",
    )
    for after in ((Message("user", (TextPart("Go on"),)),), ()):
        written = write_request(foreign(calling, results, *after), ATTEMPT)
        messages = json.loads(written.body)["messages"]
        assert [message["role"] for message in messages] == ["assistant", "tool", "tool", "user"]
        assert messages[1]["content"] == "[tool error] seen\n[image 1 of call a follows]"
        assert messages[3]["content"][0] == {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64,AAAA"},
        }
        assert [part["type"] for part in messages[3]["content"]] == ["image_url"] + ["text"] * len(after)
        assert "move" in [change.op for change in written.changes]


def test_documents_and_passages_become_text_with_their_titles() -> None:
    parts = (
        DocumentPart(PlainText("body"), title="T"),
        SearchResultPart("https://e.org", "E", ("one", "two")),
    )
    sent = write(foreign(Message("user", parts)))["messages"][0]["content"]
    assert [part["text"] for part in sent] == ["T\nbody", "E\nhttps://e.org\none\ntwo"]


def test_long_names_get_the_same_alias_everywhere_and_are_told() -> None:
    name = "mcp.server/" + "x" * 80
    calling = Message("assistant", (ToolCallPart("a", name, "{}"),))
    result = Message("tool", (ToolResultPart("a", (TextPart("r"),)),))
    call = foreign(calling, result, tools=(Tool(name),), choice=ToolChoice("named", (name,)))
    written = write_request(call, ATTEMPT)
    body = json.loads(written.body)
    assert written.aliases == {alias(name): name}
    assert name not in written.body.decode()
    assert body["tool_choice"]["function"]["name"] == body["tools"][0]["function"]["name"] == alias(name)
    assert body["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert body["messages"][0]["tool_calls"][0]["function"]["name"] == alias(name)
    assert [change.op for change in written.changes] == ["rename"]
    assert write_request(call, ATTEMPT) == written


def test_a_free_tool_is_wrapped_where_only_functions_are_known() -> None:
    history = (
        Message("assistant", (ToolCallPart("a", "p", "text", free=True),)),
        Message("tool", (ToolResultPart("a", ()),)),
    )
    call = foreign(
        *history,
        tools=(FreeformTool("p", syntax="lark", definition="x"),),
        choice=ToolChoice("named", ("p",)),
    )
    wrapped = write_request(call, ATTEMPT)
    body = json.loads(wrapped.body)
    assert wrapped.free == {"p"}
    assert body["messages"][0]["tool_calls"][0]["function"] == {"name": "p", "arguments": '{"input":"text"}'}
    assert body["tool_choice"] == {"type": "function", "function": {"name": "p"}}
    assert "lark grammar:\nx" in body["tools"][0]["function"]["description"]
    assert write_request(call, attempt_with(refuses=("tools.custom",))).free == {"p"}
    plain = json.loads(write_request(call, attempt_with(custom_tools=True)).body)
    assert plain["tool_choice"] == {"type": "custom", "custom": {"name": "p"}}
    assert plain["tools"][0]["custom"]["format"]["grammar"] == {"definition": "x", "syntax": "lark"}


def test_a_free_call_of_a_tool_that_is_not_offered_any_more_is_wrapped_too() -> None:
    history = (
        Message("assistant", (ToolCallPart("a", "p", "text", free=True),)),
        Message("tool", (ToolResultPart("a", ()),)),
    )
    call = write(foreign(*history))["messages"][0]["tool_calls"][0]
    assert call["function"] == {"name": "p", "arguments": '{"input":"text"}'}


UNSAYABLE: list[tuple[Message, str]] = [
    (
        Message("user", (DocumentPart(UrlReference("https://e.org/a.pdf")),), path="messages[0]"),
        "messages[0].content[0]",
    ),
    (Message("user", (DocumentPart(FileReference("file")),), path="messages[0]"), "messages[0].content[0]"),
    (Message("user", (ImagePart(FileReference("file")),), path="messages[0]"), "messages[0].content[0]"),
    (
        Message(
            "user",
            (ForeignPart("anthropic_messages", "server_tool_use", msgspec.Raw(b"{}")),),
            path="messages[0]",
        ),
        "messages[0].content[0]",
    ),
]


@pytest.mark.parametrize(("message", "param"), UNSAYABLE)
def test_what_cannot_be_said_is_refused_with_its_place(message: Message, param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        write_request(foreign(message), ATTEMPT)
    assert caught.value.param == param


def test_a_tool_that_only_its_own_models_know_is_refused_elsewhere() -> None:
    tool = HostedTool("anthropic_messages", "computer_20251124", msgspec.Raw(b"{}"))
    with pytest.raises(Unsupported, match="tools\\[0\\]"):
        write_request(foreign(tools=(tool,)), ATTEMPT)


@pytest.mark.parametrize(
    "messages",
    [
        (Message("assistant", (ToolCallPart("lost", "f", "{}"),)),),
        (Message("tool", (ToolResultPart("lost", (TextPart("r"),)),)),),
    ],
)
def test_calls_and_results_come_in_pairs(messages: tuple[Message, ...]) -> None:
    with pytest.raises(BadRequest, match="'lost'"):
        write_request(foreign(*messages), ATTEMPT)


def test_what_has_no_place_here_is_named_as_lost() -> None:
    call = foreign(
        Message("assistant", (TextPart("begun"),), path="messages[0]"),
        metadata=msgspec.Raw(b'{"a":"b"}'),
        tier="priority",
        cache=CacheBreakpoint(),
        sampling=Sampling(stop=("a", "b", "c", "d", "e")),
        extra={"inference_geo": msgspec.Raw(b"1")},
    )
    written = write_request(call, ATTEMPT)
    assert [(change.op, change.path) for change in written.changes] == [
        ("lower", "messages[0]"),
        ("clamp", "stop_sequences"),
        ("drop", "cache_control"),
        ("drop", "metadata"),
        ("drop", "service_tier"),
        ("drop", "inference_geo"),
    ]
    assert write(foreign(tier="standard_only"))["service_tier"] == "default"


def test_a_forced_tool_stands_in_for_a_schema_only_where_nothing_else_is_asked() -> None:
    asked = make_call(
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    )
    attempt = msgspec.structs.replace(ATTEMPT, facts=ModelFacts(schema=False))
    assert "response_format" in write(asked, attempt)
    call = msgspec.structs.replace(asked, dialect="anthropic_messages")
    written = write_request(call, attempt)
    assert written.answer_tool == "answer"
    assert json.loads(written.body)["tool_choice"]["function"]["name"] == "answer"
    with pytest.raises(Unsupported):
        write_request(msgspec.structs.replace(call, tools=(Tool("f"),)), attempt)


def test_usage_is_asked_for_where_the_service_understands_it() -> None:
    call = make_call(stream=True, stream_options={"include_obfuscation": False})
    assert write(call)["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert write(call, attempt_with(stream_usage=False))["stream_options"] == {"include_obfuscation": False}
    assert "stream_options" not in write(make_call())
