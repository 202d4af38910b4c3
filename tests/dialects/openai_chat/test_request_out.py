"""Chat requests: read into a Call, and written for a provider."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest, Unsupported
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
    ReasoningOptions,
    ReasoningPart,
    RefusalPart,
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
from modelplex.dialects.core.envelope import wrap
from modelplex.dialects.core.tool_names import alias
from modelplex.dialects.openai_chat import dialect as openai_chat
from modelplex.dialects.registry import write_request
from tests.dialects.openai_chat.peer import ATTEMPT, CASES, attempt_with, make_ask, make_call, transcript
from tests.dialects.sides import placed, usual_paths


def read(**body: Any) -> ChatRequest:
    return openai_chat.read_call(make_ask({"model": "m", "messages": [], **body}))


def write(call: ChatRequest, attempt: Attempt = ATTEMPT) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(write_request(call, attempt).body)
    return body


PATHS = usual_paths(ANTHROPIC_FIELDS)


def foreign(*messages: Message, **more: Any) -> ChatRequest:
    """A call of a client of another dialect."""
    tools = placed(more.pop("tools", ()))
    return ChatRequest(
        dialect="anthropic_messages", model="m", messages=messages, tools=tools, paths=PATHS, **more
    )


def test_every_kind_of_part_is_understood() -> None:
    call = openai_chat.read_call(make_ask(transcript("parts_of_every_kind", "request.json")))
    system, user, assistant, last = call.messages
    assert (system.role, system.parts) == ("developer", (TextPart("Rules.", CacheBreakpoint("12h")),))
    assert user.name == "eva"
    assert user.parts[:6] == (
        TextPart("Look"),
        ImagePart(InlineData("image/png", "iVBORw0KGgo="), detail="low"),
        ImagePart(UrlReference("https://example.com/a.png")),
        AudioPart("UklGRg==", "wav"),
        DocumentPart(InlineData("application/pdf", "JVBERi0="), filename="a.pdf"),
        DocumentPart(FileReference("file-1")),
    )
    assert isinstance(user.parts[6], ForeignPart)
    assert user.parts[6].type == "video_url"
    assert assistant.parts == (TextPart("I see."), RefusalPart("No."))
    assert set(assistant.extra) == {"prefix"}
    assert last.path == "messages[3]"
    assert call.choice == ToolChoice("subset", ("get_weather",), required=True)
    assert isinstance(call.tools[1], HostedTool)
    assert (call.user, call.paths["user"], call.tier, call.cache_key) == (
        "s1",
        "safety_identifier",
        "flex",
        "pk",
    )
    assert call.sampling.stop == ("a", "b")
    assert set(call.extra) == {"user", "store", "prediction", "big"}


@pytest.mark.parametrize("case", [case for case in CASES if case != "old_function_call"])
def test_a_request_of_the_same_dialect_survives_the_hub(case: str) -> None:
    asked = json.loads(transcript(case, "request.json"))
    effort = (
        "reasoning" if "reasoning" in asked else "thinking" if "thinking" in asked else "reasoning_effort"
    )
    limit = "max_tokens" if "max_tokens" in asked else "max_completion_tokens"
    attempt = attempt_with(effort=effort, output_limit=limit, reasoning_back="reasoning_content")
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


def test_the_old_form_is_read_as_tools() -> None:
    call = openai_chat.read_call(make_ask(transcript("old_function_call", "request.json")))
    assert call.old_functions
    assert [tool.name for tool in call.tools] == ["get_weather"]
    assert call.choice == ToolChoice("named", ("get_weather",))
    assert call.messages[1].parts == (ToolCallPart("call_1", "get_weather", '{"city":"Basel"}'),)
    assert call.messages[2].parts == (ToolResultPart("call_1", (TextPart("9 degrees"),), name="get_weather"),)
    assert call.max_tokens == 20


def test_a_run_of_results_is_one_message() -> None:
    calls = [{"id": name, "type": "function", "function": {"name": "f", "arguments": ""}} for name in "ab"]
    results = [{"role": "tool", "tool_call_id": name, "content": name} for name in "ab"]
    call = read(
        messages=[
            {"role": "assistant", "content": "", "tool_calls": calls},
            *results,
            {"role": "user", "content": "x"},
        ]
    )
    assert [message.role for message in call.messages] == ["assistant", "tool", "user"]
    assert call.messages[0].parts == (ToolCallPart("a", "f", "{}"), ToolCallPart("b", "f", "{}"))
    assert [part.id for part in call.messages[1].parts if isinstance(part, ToolResultPart)] == ["a", "b"]


THOUGHTS: dict[str, tuple[dict[str, Any], tuple[ReasoningPart, ...]]] = {
    "content": ({"reasoning_content": "a", "reasoning": "b"}, (ReasoningPart("a"),)),
    "reasoning": ({"reasoning": "b"}, (ReasoningPart("b"),)),
    "details before all": (
        {"reasoning_content": "a", "reasoning_details": [{"type": "reasoning.text", "text": "c"}]},
        (ReasoningPart("c"),),
    ),
    "a signature of unknown origin": (
        {"reasoning_details": [{"type": "reasoning.text", "text": "c", "signature": "s", "format": "f"}]},
        (ReasoningPart("c", OpaqueState("f", "s")),),
    ),
    "pieces of a stream": (
        {
            "reasoning_details": [
                {"type": "reasoning.text", "text": "c", "index": 0},
                {"type": "reasoning.text", "text": "d", "index": 0},
                {"type": "reasoning.text", "signature": "s", "format": "f", "index": 0},
                {"type": "reasoning.encrypted", "data": "e", "index": 1},
            ]
        },
        (
            ReasoningPart("cd", OpaqueState("f", "s")),
            ReasoningPart("", OpaqueState("unknown", "e"), redacted=True),
        ),
    ),
    "a summary": (
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "s"}]},
        (ReasoningPart("s", summary=True),),
    ),
}


@pytest.mark.parametrize("what", THOUGHTS)
def test_reasoning_that_is_sent_back_is_read_once(what: str) -> None:
    message, thoughts = THOUGHTS[what]
    assert read(messages=[{"role": "assistant", "content": "x", **message}]).messages[0].parts == (
        *thoughts,
        TextPart("x"),
    )


def test_an_envelope_gives_back_the_seal_with_its_origin() -> None:
    state = OpaqueState("anthropic-claude-v1", "EqRk+/==", provider="claude", account="k", model="opus")
    details = [
        {
            "type": "reasoning.text",
            "text": "t",
            "signature": wrap(state),
            "format": "anthropic-claude-v1",
            "index": 0,
        }
    ]
    extra = {"google": {"thought_signature": wrap(state)}}
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra}
    ]
    message = {"role": "assistant", "content": None, "reasoning_details": details, "tool_calls": calls}
    thinking, call = read(messages=[message]).messages[0].parts
    assert thinking == ReasoningPart("t", state)
    assert call == ToolCallPart("a", "f", "{}", state=state)


REASONINGS: list[tuple[dict[str, Any], ReasoningOptions | None]] = [
    ({}, None),
    ({"reasoning_effort": "high"}, ReasoningOptions(effort="high")),
    ({"reasoning": {"effort": "low", "exclude": True}}, ReasoningOptions(effort="low", show="omitted")),
    ({"reasoning": {"max_tokens": 99}}, ReasoningOptions(budget=99)),
    ({"reasoning": {"enabled": False}}, ReasoningOptions(mode="disabled")),
    ({"thinking": {"type": "enabled", "budget_tokens": 5}}, ReasoningOptions(mode="enabled", budget=5)),
    (
        {"thinking": {"type": "enabled"}, "reasoning_effort": "max"},
        ReasoningOptions(mode="enabled", effort="max"),
    ),
]


@pytest.mark.parametrize(("asked", "reasoning"), REASONINGS)
def test_reasoning_is_asked_for_in_many_ways(
    asked: dict[str, Any], reasoning: ReasoningOptions | None
) -> None:
    assert read(**asked).reasoning == reasoning


def test_images_by_data_urls_of_any_kind_are_inline() -> None:
    urls = {
        "data:image/png;base64,AAAA": InlineData("image/png", "AAAA"),
        "data:;base64,AAAA": InlineData("text/plain", "AAAA"),
        "data:image/svg+xml,%3Csvg%3E": InlineData("image/svg+xml", "PHN2Zz4="),
    }
    for url, source in urls.items():
        for part in ({"url": url}, url):
            content = [{"type": "image_url", "image_url": part}]
            assert read(messages=[{"role": "user", "content": content}]).messages[0].parts == (
                ImagePart(source),
            )


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"messages": None}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": [3]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
        "messages[0].content[0].text",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]},
        "messages[0].content[0].image_url",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 5}}]}]},
        "messages[0].content[0].image_url.url",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
        "messages[0].content[0].file",
    ),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].name"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
        "messages[0].tool_calls[0].function",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
        "messages[0].tool_calls[0].id",
    ),
    ({"temperature": "hot"}, "temperature"),
    ({"n": 0}, "n"),
    ({"stop": [1]}, "stop[0]"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function"),
    ({"tool_choice": "some"}, "tool_choice"),
    ({"tool_choice": {"type": "function"}}, "tool_choice"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"reasoning_effort": "much"}, "reasoning_effort"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_a_wrong_request_is_refused_with_the_place_that_is_wrong(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**body)
    assert caught.value.param == param


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
    assert [(change.op, change.path) for change in dropped.changes] == [
        ("drop", "messages[0].reasoning_content")
    ]


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
    assert ("drop", "messages[0].reasoning_details") in [
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
    assert sent("30m", keeps)[0][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert sent("12h", ATTEMPT)[0][0]["prompt_cache_breakpoint"] == {"mode": "explicit", "ttl": "12h"}
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
    assert [part["text"] for part in sent] == ["T\nbody", "E (https://e.org)\none\ntwo"]


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
