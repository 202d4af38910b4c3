"""Providers' Responses answers, read into Events: transcripts whole and one byte at a time, then
the rules one by one.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelplex.core.errors import Overloaded, RateLimited, UpstreamBroken
from modelplex.core.events import (
    OpaqueStateReceived,
    PartEnded,
    ReasoningDelta,
    ResponseEnded,
    ResponseFailed,
    ResponseStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from modelplex.core.request import OpaqueState, ProviderRequest
from modelplex.dialects.openai_responses import dialect as openai_responses
from tests.dialects.openai_chat.peer import each_byte, fold, pieces
from tests.dialects.openai_responses.peer import (
    ATTEMPT,
    CASES,
    GOOD,
    PLAIN,
    WHOLE,
    read_stream,
    sse_bytes,
    transcript,
)


def _made(data: str, id_: str) -> OpaqueState:
    return OpaqueState("openai-responses-v1", data, provider="acme", account="k1", model="m-up", id=id_)


def _weather(number: str, city: str) -> tuple[Any, ...]:
    return (0, "ToolCallStarted", number, "get_weather", False, f'{{"city": "{city}"}}')


RATE = ("failed", "RateLimited", "The provider answered 429: Rate limit reached for gpt-5.1.")
SEARCH = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search", "query": "bern weather"},
}
PAGE = {
    "type": "url_citation",
    "start_index": 0,
    "end_index": 5,
    "url": "https://example.org/bern",
    "title": "Bern",
}

SAID: dict[str, list[tuple[Any, ...]]] = {
    "text": [(0, "TextDelta", "Grüße 😀!"), ("ended", 0, "stop"), ("usage", 15, 4, 10, 2)],
    "text_crlf": [(0, "TextDelta", "Grüße 😀!"), ("ended", 0, "stop"), ("usage", 15, 4, 10, 2)],
    "reasoning_text_two_calls": [
        (0, "Summary", "**Plan**\n\nTwo cities.\n\n**Call**", _made("gAAAAABo-enc+/==", "rs_1")),
        (0, "TextDelta", "Let me look."),
        _weather("call_a", "Bern"),
        _weather("call_b", "Basel"),
        ("ended", 0, "tool_calls"),
        ("usage", 20, 100, 60, 30),
    ],
    "encrypted_reasoning_and_namespace": [
        (0, "Redacted", _made("gAAAAABo-only", "rs_1")),
        (0, "ToolCallStarted", "call_n", "read", False, "{}"),
        ("ended", 0, "tool_calls"),
        ("usage", 12, 0, 3, 0),
    ],
    "refusal": [(0, "RefusalDelta", "I cannot."), ("ended", 0, "refusal"), ("usage", 9, 0, 3, 0)],
    "custom_tool": [
        (0, "ToolCallStarted", "call_c", "apply_patch", True, "*** Begin\n{not json"),
        ("ended", 0, "tool_calls"),
        ("usage", 19, 0, 10, 0),
    ],
    "hosted_search_with_citations": [
        (0, "TextDelta", "", SEARCH),
        (0, "TextDelta", "Sunny.", PAGE),
        ("ended", 0, "stop"),
        ("usage", 300, 0, 12, 0),
    ],
    "arguments_only_when_done": [
        _weather("call_a", "Bern"),
        ("ended", 0, "tool_calls"),
        ("usage", 9, 0, 9, 0),
    ],
    "sparse_server": [
        (0, "ReasoningDelta", "Hm."),
        (0, "TextDelta", "Hi."),
        ("ended", 0, "stop"),
        ("usage", 5, 0, 2, 0),
    ],
    "only_the_final_output": [
        (0, "TextDelta", "Hello"),
        (0, "ToolCallStarted", "call_a", "get_weather", False, "{}"),
        ("ended", 0, "tool_calls"),
        ("usage", 5, 0, 3, 0),
    ],
    "cut_at_the_limit": [(0, "TextDelta", "It is long"), ("ended", 0, "length"), ("usage", 5, 0, 16, 0)],
    "cut_inside_arguments": [
        (0, "ToolCallStarted", "call_a", "get_weather", False, '{"city": "Be'),
        ("ended", 0, "length"),
        ("usage", 5, 0, 16, 0),
    ],
    "filtered": [(0, "TextDelta", "I th"), ("ended", 0, "filter"), ("usage", 5, 0, 3, 0)],
    "logprobs": [(0, "TextDelta", "A"), ("ended", 0, "stop"), ("usage", 5, 0, 1, 0)],
    "failed_after_output": [(0, "TextDelta", "Hel"), RATE],
    "failed_before_output": [RATE],
    "error_event": [
        ("failed", "UpstreamBroken", "The provider's answer is an error: The server had an error.")
    ],
    "broken_off": [
        (0, "TextDelta", "Hel"),
        (
            "failed",
            "UpstreamBroken",
            "The provider's stream ended before its end: no response.completed came.",
        ),
    ],
    "half_arguments": [
        (0, "ToolCallStarted", "call_a", "get_weather", False, '{"city": "Be'),
        ("ended", 0, "tool_calls"),
        ("usage", 5, 0, 16, 0),
    ],
}


@pytest.mark.parametrize("case", CASES)
def test_a_stream_is_read_whole_and_byte_by_byte(case: str) -> None:
    stream = transcript(case)
    assert fold(read_stream([stream])) == SAID[case]
    assert fold(read_stream(each_byte(stream))) == SAID[case]


@pytest.mark.parametrize("case", CASES)
@given(st.data())
@settings(deadline=None, max_examples=20)
def test_a_stream_is_read_however_it_is_cut(case: str, data: st.DataObject) -> None:
    stream = transcript(case)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    told, whole = read_stream(pieces(stream, cuts)), read_stream([stream])
    assert fold(told) == fold(whole)
    assert len(told) == len(whole)


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_answer_says_what_its_stream_says(case: str) -> None:
    events = openai_responses.read_response(transcript(case, "response.json"), ATTEMPT, PLAIN)
    assert fold(events) == SAID[case]


def test_an_answer_begins_with_what_names_it() -> None:
    (began, *_) = read_stream([transcript("text")])
    assert began == ResponseStarted(
        id="resp_68af4030592c81938ec0a5fbab4a3e9f",
        model="gpt-5.1-2025-11-13",
        created=1764700000,
        tier="default",
    )


def test_a_seal_stands_in_its_part_before_the_part_closes() -> None:
    events = read_stream([transcript("reasoning_text_two_calls")])
    of_reasoning = [
        event
        for event in events
        if isinstance(event, ReasoningDelta | OpaqueStateReceived | PartEnded) and event.part == 0
    ]
    assert [type(event).__name__ for event in of_reasoning][-2:] == ["OpaqueStateReceived", "PartEnded"]


def test_arguments_in_deltas_and_in_the_done_event_are_told_once() -> None:
    events = read_stream([transcript("reasoning_text_two_calls")])
    assert (
        "".join(e.text for e in events if isinstance(e, ToolArgumentsDelta) and e.part == 2)
        == '{"city": "Bern"}'
    )


def test_parallel_calls_may_interleave() -> None:
    argued = [
        e.part
        for e in read_stream([transcript("reasoning_text_two_calls")])
        if isinstance(e, ToolArgumentsDelta)
    ]
    assert argued == [2, 3, 2, 3]


def test_a_namespace_comes_with_its_call() -> None:
    (called,) = [
        e
        for e in read_stream([transcript("encrypted_reasoning_and_namespace")])
        if isinstance(e, ToolCallStarted)
    ]
    assert called.namespace == "files"


def test_log_probabilities_come_in_chats_form() -> None:
    (said,) = [e for e in read_stream([transcript("logprobs")]) if isinstance(e, TextDelta)]
    assert said.logprobs is not None
    assert json.loads(bytes(said.logprobs)) == [
        {
            "token": "A",
            "logprob": -0.1,
            "bytes": None,
            "top_logprobs": [{"token": "A", "logprob": -0.1, "bytes": None}],
        }
    ]


def _call_stream(name: str, arguments: str, *, free: bool = False) -> bytes:
    kind, member = ("custom_tool_call", "input") if free else ("function_call", "arguments")
    item = {"type": kind, "id": "x_1", "call_id": "c", "name": name, member: arguments, "status": "completed"}
    return sse_bytes(
        {"type": "response.created", "response": {"id": "resp_1"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": [item]}},
    )


def test_aliases_and_wrapped_tools_are_undone() -> None:
    written = ProviderRequest(b"", aliases={"f_1": "f.1"}, free=frozenset({"patch"}))
    assert fold(read_stream([_call_stream("f_1", "{}")], written))[0][3] == "f.1"
    told = fold(read_stream([_call_stream("patch", '{"input": "*** x"}')], written))
    assert told[0] == (0, "ToolCallStarted", "c", "patch", True, "*** x")


def test_an_answer_that_was_asked_for_as_a_tool_is_text() -> None:
    written = ProviderRequest(b"", answer_tool="answer")
    told = fold(read_stream([_call_stream("answer", '{"a": 1}')], written))
    assert told == [(0, "TextDelta", '{"a": 1}'), ("ended", 0, "stop")]


def test_no_arguments_are_an_empty_object() -> None:
    assert fold(read_stream([_call_stream("f", "")]))[0] == (0, "ToolCallStarted", "c", "f", False, "{}")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("rate_limit_exceeded", RateLimited),
        ("server_is_overloaded", Overloaded),
        ("server_error", UpstreamBroken),
    ],
)
def test_a_failure_is_what_its_code_says(code: str, kind: type[Exception]) -> None:
    failed = {"type": "response.failed", "response": {"error": {"code": code, "message": "No."}}}
    flat = {"type": "error", "code": code, "message": "No.", "param": None}
    for told in (failed, flat, {"type": "error", "error": {"code": code, "message": "No."}}):
        (event,) = read_stream([sse_bytes(told)])
        assert isinstance(event, ResponseFailed)
        assert type(event.error) is kind
        assert "No." in event.error.message


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"output":null}',
        b'{"status":"failed","output":[]}',
        b'{"status":"in_progress","output":[]}',
        b'{"error":{"code":"server_error","message":"No."},"output":[]}',
        b'{"error":{"message":"No."}}',
    ],
)
def test_what_is_no_answer_is_a_failure(body: bytes) -> None:
    (event,) = openai_responses.read_response(body, ATTEMPT, PLAIN)
    assert isinstance(event, ResponseFailed)


def test_a_stream_of_something_else_is_a_failure() -> None:
    (event,) = read_stream([b"data: <html>\n\n"])
    assert isinstance(event, ResponseFailed)


def test_after_a_failure_nothing_more_is_read() -> None:
    reader = openai_responses.ResponsesReader(ATTEMPT, PLAIN)
    reader.feed(transcript("failed_before_output"))
    assert reader.feed(transcript("text")) == []
    assert reader.end() == []


@pytest.mark.parametrize("case", [case for case in GOOD if case.startswith("cut") or case == "filtered"])
def test_what_was_cut_never_ends_as_if_it_were_whole(case: str) -> None:
    (ended,) = [e for e in read_stream([transcript(case)]) if isinstance(e, ResponseEnded)]
    assert ended.reason in {"length", "filter"}


def _message(id_: str | None, text: str) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "output_text", "text": text, "annotations": []}]
    named = {"id": id_} if id_ else {}
    return {"type": "message", **named, "role": "assistant", "status": "completed", "content": content}


@pytest.mark.parametrize(
    ("texts", "final"),
    [
        (["hello"], [_message("m0", "hello")]),
        (["hello"], [_message("other", "hello")]),
        (["hello"], [_message(None, "hello")]),
        (["one ", "two"], [_message("other", "one two")]),
        (["one ", "two"], [_message("x", "one "), _message("y", "two")]),
    ],
)
@pytest.mark.parametrize("has_indexes", [True, False])
def test_text_comes_once_whatever_the_final_output_calls_its_items(
    texts: list[str], final: list[dict[str, Any]], has_indexes: bool
) -> None:
    """https://github.com/vercel/ai/issues/18548, https://github.com/BerriAI/litellm/issues/30071"""
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {"id": "r", "model": "m"}}]
    for n, text in enumerate(texts):
        at: dict[str, Any] = {"output_index": n} if has_indexes else {}
        events.append({"type": "response.output_text.delta", "item_id": f"m{n}", **at, "delta": text})
        events.append({"type": "response.output_item.done", **at, "item": _message(f"m{n}", text)})
    events.append({"type": "response.completed", "response": {"status": "completed", "output": final}})
    said = read_stream([sse_bytes(*events)])
    assert "".join(event.text for event in said if isinstance(event, TextDelta)) == "".join(texts)
    assert said[-1] == ResponseEnded("stop")


def test_what_only_the_final_output_has_is_read() -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    events: list[dict[str, Any]] = [
        {"type": "response.output_text.delta", "output_index": 0, "delta": "hello"},
        {"type": "response.completed", "response": {"output": [thought, _message(None, "hello")]}},
    ]
    said = read_stream([sse_bytes(*events)])
    assert [event.text for event in said if isinstance(event, TextDelta)] == ["hello"]
    assert [event.text for event in said if isinstance(event, ReasoningDelta)] == ["hm"]
