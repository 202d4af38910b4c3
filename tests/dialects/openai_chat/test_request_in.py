"""Chat completions requests, read."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    AudioPart,
    CacheBreakpoint,
    ChatRequest,
    DocumentPart,
    FileReference,
    ForeignPart,
    HostedTool,
    ImagePart,
    InlineData,
    OpaqueState,
    ReasoningOptions,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.core.envelope import wrap
from modelplex.dialects.openai_chat import dialect as openai_chat
from tests.dialects.openai_chat.peer import make_ask, transcript


def read(**body: Any) -> ChatRequest:
    return openai_chat.read_call(make_ask({"model": "m", "messages": [], **body}))


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
