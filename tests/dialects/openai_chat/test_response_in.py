"""Providers' chat answers, read into Events: transcripts whole and one byte at a time, then the
rules one by one.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelplex.core.events import (
    PartEnded,
    ReasoningDelta,
    ResponseEnded,
    ResponseFailed,
    ResponseStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from modelplex.core.request import OpaqueState, ProviderRequest
from modelplex.dialects.openai_chat import dialect as openai_chat
from tests.dialects.openai_chat.peer import (
    ATTEMPT,
    PLAIN,
    STREAMED,
    WHOLE,
    chunk,
    each_byte,
    fold,
    pieces,
    read_stream,
    sse_bytes,
    transcript,
)


def _made(format_: str, data: str, id_: str | None = None) -> OpaqueState:
    return OpaqueState(format_, data, provider="acme", account="k1", model="m-up", id=id_)


def _weather(number: str, city: str, *, gap: str = " ") -> tuple[Any, ...]:
    return (0, "ToolCallStarted", number, "get_weather", False, f'{{"city":{gap}"{city}"}}')


SAID: dict[str, list[tuple[Any, ...]]] = {
    "text": [(0, "TextDelta", "Grüße 😀!"), ("ended", 0, "stop"), ("usage", 15, 4, 10, 2)],
    "tools_parallel": [_weather("call_a", "Bern"), _weather("call_b", "Basel"), ("ended", 0, "tool_calls")],
    "vllm_text_and_tool_in_one_chunk": [
        (0, "TextDelta", "Let me look."),
        _weather("chatcmpl-tool-1", "Bern", gap=""),
        ("ended", 0, "tool_calls"),
    ],
    "azure_filter_first": [(0, "TextDelta", "Hello"), ("ended", 0, "stop")],
    "llama_usage_everywhere_no_done": [
        (0, "TextDelta", "Hello"),
        ("ended", 0, "stop"),
        ("usage", 5, 0, 3, 0),
    ],
    "deepseek_reasoning_and_tool": [
        (0, "ReasoningDelta", "It is 12."),
        (0, "TextDelta", "12 degrees."),
        (0, "ToolCallStarted", "call_1", "get_weather", False, "{}"),
        ("ended", 0, "tool_calls"),
        ("usage", 20, 10, 9, 5),
    ],
    "openrouter_signed_reasoning": [
        (0, "ReasoningDelta", "Two plus two.", _made("anthropic-claude-v1", "EqRkc2Fm+/==")),
        (0, "Redacted", _made("anthropic-claude-v1", "Emwk\\n", "rs_1")),
        (0, "TextDelta", "4"),
        ("ended", 0, "stop"),
        ("usage", 15, 4, 10, 2),
    ],
    "old_function_call": [
        (0, "ToolCallStarted", "call_0", "get_weather", False, '{"city":"Bern"}'),
        ("ended", 0, "tool_calls"),
    ],
    "refusal": [(0, "RefusalDelta", "I cannot."), ("ended", 0, "refusal")],
    "two_choices_with_logprobs": [
        (0, "TextDelta", "A"),
        (1, "TextDelta", "B"),
        ("ended", 0, "stop"),
        ("ended", 1, "length"),
    ],
    "gemini_signature_and_index_zero": [
        (*_weather("f1", "Bern", gap=""), _made("google-gemini-v1", "CiQB+/==")),
        _weather("f2", "Basel", gap=""),
        ("ended", 0, "tool_calls"),
    ],
    "mistral_content_parts": [
        (0, "ReasoningDelta", "Hm."),
        (0, "TextDelta", "Hi."),
        ("ended", 0, "stop"),
        ("usage", 5, 0, 1, 0),
    ],
    "custom_tool": [
        (0, "ToolCallStarted", "call_c", "apply_patch", True, "*** Begin\n{not json"),
        ("ended", 0, "tool_calls"),
        ("usage", 15, 4, 10, 2),
    ],
}


def _without_order_of_calls(said: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """A state stands before the arguments or after them, as the bytes were cut."""
    return [tuple(sorted(map(str, each))) for each in said]


@pytest.mark.parametrize("case", STREAMED)
def test_a_stream_is_read_whole_and_byte_by_byte(case: str) -> None:
    stream = transcript(case, "stream.sse")
    assert _without_order_of_calls(fold(read_stream([stream]))) == _without_order_of_calls(SAID[case])
    assert _without_order_of_calls(fold(read_stream(each_byte(stream)))) == _without_order_of_calls(
        SAID[case]
    )


@pytest.mark.parametrize("case", STREAMED)
@given(st.data())
@settings(deadline=None)
def test_a_stream_is_read_however_it_is_cut(case: str, data: st.DataObject) -> None:
    stream = transcript(case, "stream.sse")
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    assert read_stream(pieces(stream, cuts)) == read_stream([stream])


@pytest.mark.parametrize("case", [case for case in WHOLE if case != "parts_of_every_kind"])
def test_a_whole_answer_says_what_its_stream_says(case: str) -> None:
    said = fold(openai_chat.read_response(transcript(case, "response.json"), ATTEMPT, PLAIN))
    assert said[: len(SAID[case])] == SAID[case]


def test_an_answer_begins_with_what_names_it() -> None:
    events = read_stream([transcript("text", "stream.sse")])
    assert events[0] == ResponseStarted(
        id="chatcmpl-AbC123", model="gpt-4o-mini-2024-07-18", created=1764700000
    )
    numeric = read_stream([transcript("llama_usage_everywhere_no_done", "stream.sse")])
    assert numeric[0] == ResponseStarted(id="42", model="gemma", created=1764700000)
    azure = read_stream([transcript("azure_filter_first", "stream.sse")])
    assert azure[0] == events[0]


def test_the_providers_own_usage_rides_along_to_the_last_digit() -> None:
    measured = [
        e
        for e in read_stream([transcript("openrouter_signed_reasoning", "stream.sse")])
        if isinstance(e, UsageReported)
    ]
    raw = measured[-1].usage.raw
    assert raw is not None
    assert json.loads(bytes(raw))["cost"] == 0.0012


def test_arguments_in_the_first_delta_are_read() -> None:
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    events = read_stream([sse_bytes(chunk({"tool_calls": [call]}), chunk({}, "stop"))])
    assert events[1:] == [
        ToolCallStarted(0, "a", "f"),
        ToolArgumentsDelta(0, '{"x":1}'),
        PartEnded(0),
        ResponseEnded("tool_calls"),
    ]


@pytest.mark.parametrize("none", [[], None])
def test_no_calls_beside_content_make_no_call(none: list[Any] | None) -> None:
    events = read_stream([sse_bytes(chunk({"content": "Hi", "tool_calls": none}), chunk({}, "stop"))])
    assert not any(isinstance(event, ToolCallStarted) for event in events)
    assert fold(events) == [(0, "TextDelta", "Hi"), ("ended", 0, "stop")]


def test_a_call_without_id_gets_one_and_without_arguments_an_empty_object() -> None:
    deltas = [{"index": n, "function": {"name": "f"}} for n in range(2)]
    events = read_stream([sse_bytes(chunk({"tool_calls": deltas}), chunk({}, "tool_calls"))])
    assert fold(events) == [
        (0, "ToolCallStarted", "call_0", "f", False, "{}"),
        (0, "ToolCallStarted", "call_1", "f", False, "{}"),
        ("ended", 0, "tool_calls"),
    ]


def test_interleaved_arguments_of_parallel_calls_are_kept_apart() -> None:
    def piece(index: int, text: str, **more: str) -> dict[str, Any]:
        function = {"arguments": text, **({"name": more["name"]} if more else {})}
        return {
            "tool_calls": [{"index": index, **({"id": more["id"]} if more else {}), "function": function}]
        }

    stream = sse_bytes(
        chunk(piece(0, "", id="a", name="f")),
        chunk(piece(1, "", id="b", name="g")),
        chunk(piece(0, '{"x"')),
        chunk(piece(1, '{"y"')),
        chunk(piece(0, ":1}")),
        chunk(piece(1, ":2}")),
        chunk({}, "tool_calls"),
    )
    assert fold(read_stream([stream]))[:2] == [
        (0, "ToolCallStarted", "a", "f", False, '{"x":1}'),
        (0, "ToolCallStarted", "b", "g", False, '{"y":2}'),
    ]


def test_an_id_and_a_name_that_are_repeated_in_every_delta_change_nothing() -> None:
    def piece(text: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": text}}]}

    events = read_stream([sse_bytes(chunk(piece('{"x"')), chunk(piece(":1}")), chunk({}, "stop"))])
    assert fold(events)[0] == (0, "ToolCallStarted", "a", "f", False, '{"x":1}')


def test_arguments_that_are_not_json_are_the_models_unless_a_limit_cut_them() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}}
    for word in ("tool_calls", "stop"):
        events = read_stream([sse_bytes(chunk({"tool_calls": [call]}), chunk({}, word), "[DONE]")])
        assert fold(events)[0] == (0, "ToolCallStarted", "a", "f", False, '{"x":')
        assert events[-1] == ResponseEnded("tool_calls")
    cut = read_stream([sse_bytes(chunk({"tool_calls": [call]}), chunk({}, "length"), "[DONE]")])
    assert cut[-1] == ResponseEnded("length")


def test_a_limit_that_is_hit_after_whole_calls_leaves_them_calls() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}}
    events = read_stream([sse_bytes(chunk({"tool_calls": [call]}), chunk({}, "length"))])
    assert events[-1] == ResponseEnded("tool_calls")


def test_aliases_and_wrapped_tools_are_undone() -> None:
    written = ProviderRequest(b"", aliases={"f_1": "f.1"}, free=frozenset({"patch"}))
    calls = [
        {"index": 0, "id": "a", "function": {"name": "f_1", "arguments": "{}"}},
        {"index": 1, "id": "b", "function": {"name": "patch", "arguments": '{"inp'}},
    ]
    rest = {"tool_calls": [{"index": 1, "function": {"arguments": 'ut":"line\\n"}'}}]}
    stream = sse_bytes(chunk({"tool_calls": calls}), chunk(rest), chunk({}, "tool_calls"))
    assert fold(read_stream([stream], written)) == [
        (0, "ToolCallStarted", "a", "f.1", False, "{}"),
        (0, "ToolCallStarted", "b", "patch", True, "line\n"),
        ("ended", 0, "tool_calls"),
    ]


def test_the_answer_tools_arguments_are_the_text() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "answer", "arguments": '{"x":1}'}}
    written = ProviderRequest(b"", answer_tool="answer")
    events = read_stream([sse_bytes(chunk({"tool_calls": [call]}), chunk({}, "tool_calls"))], written)
    assert fold(events) == [(0, "TextDelta", '{"x":1}'), ("ended", 0, "stop")]


def test_text_between_thoughts_is_a_part_of_its_own() -> None:
    deltas = [{"reasoning": "a"}, {"content": "b"}, {"reasoning": "c"}, {"content": "d"}]
    said = fold(read_stream([sse_bytes(*map(chunk, deltas), chunk({}, "stop"))]))
    assert [each[1:] for each in said[:4]] == [
        ("ReasoningDelta", "a"),
        ("TextDelta", "b"),
        ("ReasoningDelta", "c"),
        ("TextDelta", "d"),
    ]


BROKEN = {
    "an error event": sse_bytes(chunk({"content": "a"}), {"error": {"message": "busy", "code": 503}}),
    "an end before the finish reason": sse_bytes(chunk({"content": "a"})),
    "done before the finish reason": sse_bytes(chunk({"content": "a"}), "[DONE]"),
    "one choice that never finished": sse_bytes(
        chunk({"content": "a"}, "stop"), chunk({"content": "b"}, index=1), "[DONE]"
    ),
    "nothing": b"",
    "comments alone": b": hello\n\n",
    "half a chunk": b'data: {"choices":[{"ind',
    "something else": sse_bytes("hello"),
    "a finish word that says error": sse_bytes(chunk({"content": "a"}), chunk({}, "error")),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_stream_is_never_a_whole_answer(what: str) -> None:
    for chunks in ([BROKEN[what]], each_byte(BROKEN[what])):
        events = read_stream(chunks)
        assert isinstance(events[-1], ResponseFailed)
        assert events[-1].error.another_may_do_better
        assert sum(isinstance(event, ResponseFailed) for event in events) == 1


def test_nothing_is_read_after_the_end() -> None:
    reader = openai_chat.ChatReader(ATTEMPT, PLAIN)
    reader.feed(sse_bytes(chunk({"content": "a"}, "stop"), "[DONE]"))
    assert reader.feed(sse_bytes(chunk({"content": "b"}))) == []
    assert reader.end() == []


NO_ANSWERS = {
    b"": "UpstreamBroken",
    b'{"id":"x","choices":[{"index":0,"message":{"role"': "UpstreamBroken",
    b"<html>": "UpstreamBroken",
    b'{"id":"x","choices":[]}': "UpstreamBroken",
    b'{"error":{"message":"slow down","code":429}}': "RateLimited",
    b'{"error":{"message":"bad","type":"invalid_request_error","param":null,"code":null}}': "BadRequest",
}


@pytest.mark.parametrize("body", NO_ANSWERS)
def test_what_is_no_answer_fails_and_is_seen_to_fail(body: bytes) -> None:
    last = openai_chat.read_response(body, ATTEMPT, PLAIN)[-1]
    assert isinstance(last, ResponseFailed)
    assert type(last.error).__name__ == NO_ANSWERS[body]
    assert type(openai_chat.observe(body).error).__name__ == NO_ANSWERS[body]


def test_lone_surrogates_and_numbers_that_are_none_do_not_break_an_answer() -> None:
    odd = b'data: {"choices":[{"index":0,"delta":{"content":"a\\ud83d"},"logprob":NaN,"finish_reason":"stop"}]}\n\n'
    assert fold(read_stream([odd])) == [(0, "TextDelta", "a\ufffd"), ("ended", 0, "stop")]


def test_logprobs_stay_with_their_text() -> None:
    events = read_stream([transcript("two_choices_with_logprobs", "stream.sse")])
    said = [event for event in events if isinstance(event, TextDelta)]
    assert [json.loads(bytes(event.logprobs or b""))[0]["token"] for event in said] == ["A", "B"]


def test_a_reader_tells_its_state() -> None:
    reader = openai_chat.ChatReader(ATTEMPT, PLAIN)
    reader.feed(sse_bytes(chunk({"content": "a"})))
    assert repr(reader) == "<ChatReader 0 of 1 choices ended, 1 parts, over=False>"


def test_models_are_listed_from_an_object_or_from_the_list_alone() -> None:
    listed = b'[{"id":"a","created":1,"object":"model"},{"id":"b","created":null}]'
    for body in (listed, b'{"object":"list","data":' + listed + b"}"):
        assert [(model.id, model.created) for model in openai_chat.read_models(body)] == [("a", 1), ("b", 0)]
    with pytest.raises(Exception, match="list of models"):
        openai_chat.read_models(b"<html>")


# --- what compatible servers send beside the form

FLAT: list[tuple[dict[str, Any], str, int]] = [
    ({"object": "error", "message": "Too long", "type": "BadRequestError", "param": None, "code": 400}, "Too long", 400),
    ({"object": "error", "message": "Out of memory", "type": "InternalServerError", "code": 500}, "Out of memory", 502),
    ({"detail": "The engine died"}, "The engine died", 502),
    ({"error": {"message": "Overloaded now", "type": "overloaded_error"}}, "Overloaded now", 503),
    ({"error": "A plain sentence"}, "A plain sentence", 502),
]  # fmt: skip


@pytest.mark.parametrize(("said", "text", "status"), FLAT)
@pytest.mark.parametrize("is_whole", [True, False])
def test_an_error_in_any_place_keeps_its_text(
    said: dict[str, Any], text: str, status: int, is_whole: bool
) -> None:
    body = json.dumps(said).encode()
    events = openai_chat.read_response(body, ATTEMPT, PLAIN) if is_whole else read_stream([sse_bytes(said)])
    failed = events[-1]
    assert isinstance(failed, ResponseFailed)
    assert text in failed.error.message
    assert failed.error.status == status


def test_an_event_without_choices_is_no_error() -> None:
    ping: dict[str, Any] = {
        "object": "chat.completion.chunk",
        "choices": [],
        "message": "processing",
        "detail": None,
    }
    events = read_stream([sse_bytes(ping, chunk({"content": "Hi"}), chunk({}, "stop"))])
    assert [each.text for each in events if isinstance(each, TextDelta)] == ["Hi"]


@pytest.mark.parametrize(
    "thought",
    [
        {"reasoning": "Hm."},
        {"reasoning_content": "Hm."},
        {"reasoning": {"text": "Hm."}},
        {"reasoning": {"content": "Hm.", "effort": "low"}},
        {"reasoning": {"summary": [{"type": "summary_text", "text": "Hm."}]}},
        {"reasoning_content": [{"type": "text", "text": "H"}, {"type": "text", "text": "m."}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}], "reasoning": {"text": "Hm."}},
    ],
)
def test_reasoning_is_read_in_every_spelling_and_once(thought: dict[str, Any]) -> None:
    stream = sse_bytes(chunk(thought), chunk({"content": "So."}), chunk({}, "stop"))
    events = read_stream([stream])
    assert "".join(each.text for each in events if isinstance(each, ReasoningDelta)) == "Hm."
    assert isinstance(events[-1], ResponseEnded)


@pytest.mark.parametrize("place", ["choice", "chunk"])
def test_moonshots_usage_is_read_from_the_choice(place: str) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "cached_tokens": 4}
    last = chunk({}, "stop")
    (last["choices"][0] if place == "choice" else last)["usage"] = usage
    [found] = [each.usage for each in read_stream([sse_bytes(last)]) if isinstance(each, UsageReported)]
    assert (found.fresh, found.cache_read, found.output) == (5, 4, 2)
