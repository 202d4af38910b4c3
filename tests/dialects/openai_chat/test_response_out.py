"""Events, written for chat clients: judged by OpenAI's own library, and read back by our own
reader.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from modelplex.core.errors import Overloaded
from modelplex.core.events import (
    CitationAdded,
    Event,
    MediaOutput,
    OpaqueStateReceived,
    PartEnded,
    Reason,
    ReasoningDelta,
    RefusalDelta,
    ResponseEnded,
    ResponseFailed,
    ResponseStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    Usage,
    UsageReported,
)
from modelplex.core.request import OpaqueState
from modelplex.dialects.core.envelope import unwrap, wrap
from modelplex.dialects.openai_chat import dialect as openai_chat
from tests.dialects.openai_chat.peer import (
    ATTEMPT,
    PLAIN,
    STREAMED,
    accepted_by_the_official_client,
    chunks_of,
    fold,
    make_call,
    pieces,
    read_stream,
    transcript,
    write_stream,
)

SEAL = OpaqueState("anthropic-claude-v1", "EqRkc2Fm+/==", provider="claude", account="k2", model="opus")
USAGE = Usage(fresh=10, cache_read=4, cache_write=2, output=8, reasoning=3)
ANSWER: list[Event] = [
    ResponseStarted(id="msg_1", model="opus", created=5),
    ReasoningDelta(0, "Let me "),
    ReasoningDelta(0, "see."),
    OpaqueStateReceived(0, SEAL),
    PartEnded(0),
    TextDelta(1, "Look: "),
    TextDelta(1, "two calls."),
    PartEnded(1),
    ToolCallStarted(2, "toolu_1", "f"),
    ToolArgumentsDelta(2, '{"x"'),
    ToolArgumentsDelta(2, ":1}"),
    ToolCallStarted(3, "toolu_2", "g"),
    PartEnded(3),
    UsageReported(USAGE),
    ResponseEnded("tool_calls"),
]
STREAMING = make_call(stream=True)
COUNTING = make_call(stream=True, stream_options={"include_usage": True})


def test_the_official_client_accepts_a_stream_and_puts_it_together() -> None:
    answer = accepted_by_the_official_client(write_stream(ANSWER, COUNTING))
    choice = answer.choices[0]
    assert (answer.id, answer.model, answer.created) == ("msg_1", "opus", 5)
    assert (choice.finish_reason, choice.message.role, choice.message.content) == (
        "tool_calls",
        "assistant",
        "Look: two calls.",
    )
    calls = choice.message.tool_calls or []
    assert [call.model_dump(include={"id", "type", "function"}, exclude_none=True) for call in calls] == [
        {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "toolu_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        16,
        8,
        24,
    )
    extra = choice.message.model_extra or {}
    assert extra["reasoning_content"] == "Let me see."
    assert extra["reasoning_details"] == [
        {
            "type": "reasoning.text",
            "text": "Let me see.",
            "signature": wrap(SEAL),
            "format": SEAL.format,
            "index": 0,
        }
    ]


def test_the_steps_of_a_stream_are_openais() -> None:
    stream = write_stream(ANSWER, COUNTING)
    chunks = chunks_of(stream)
    assert stream.endswith(b"data: [DONE]\n\n")
    assert {(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks} == {
        ("msg_1", "chat.completion.chunk", 5, "opus")
    }
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert not any("role" in delta for delta in deltas[1:])
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(deltas) - 1) + [
        "tool_calls"
    ]
    assert deltas[-1] == {}
    assert chunks[-1]["choices"] == []
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    tools = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert [tool["index"] for tool in tools] == [0, 0, 0, 1, 1]
    assert [sorted(tool) for tool in tools[1:3]] == [["function", "index"]] * 2


def test_without_include_usage_no_chunk_has_usage() -> None:
    assert not any("usage" in chunk for chunk in chunks_of(write_stream(ANSWER, STREAMING)))


def test_measured_and_ended_come_in_either_order() -> None:
    swapped = [*ANSWER[:-2], ANSWER[-1], ANSWER[-2]]
    assert write_stream(swapped, COUNTING) == write_stream(ANSWER, COUNTING)


def test_each_event_is_written_whole() -> None:
    writer = openai_chat.ChatWriter(COUNTING, id="i", created=1, model="m")
    for event in ANSWER:
        written = writer.send(event)
        assert written == b"" or (written.startswith(b"data: ") and written.endswith(b"\n\n"))


def test_an_answer_that_nobody_named_gets_our_names() -> None:
    chunks = chunks_of(write_stream([TextDelta(0, "Hi"), ResponseEnded("stop")], STREAMING))
    assert {(chunk["id"], chunk["model"], chunk["created"]) for chunk in chunks} == {
        ("chatcmpl-ours", "asked-for", 7)
    }


def test_choices_open_in_order() -> None:
    events: list[Event] = [
        ResponseStarted(),
        TextDelta(0, "b", choice=1),
        ResponseEnded("stop", 1),
        TextDelta(1, "a"),
        ResponseEnded("length"),
    ]
    answer = accepted_by_the_official_client(write_stream(events, STREAMING))
    assert [(choice.index, choice.message.content, choice.finish_reason) for choice in answer.choices] == [
        (0, "a", "length"),
        (1, "b", "stop"),
    ]


WORDS: dict[Reason, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "context": "length",
    "tool_calls": "tool_calls",
    "refusal": "content_filter",
    "filter": "content_filter",
    "paused": "length",
}


@pytest.mark.parametrize("reason", WORDS)
def test_a_reason_has_its_word(reason: Reason) -> None:
    events: list[Event] = [ResponseStarted(), TextDelta(0, "a"), ResponseEnded(reason)]
    assert (
        accepted_by_the_official_client(write_stream(events, STREAMING)).choices[0].finish_reason
        == WORDS[reason]
    )
    body, changes = openai_chat.write_response(events, STREAMING, id="i", created=1, model="m")
    assert json.loads(body)["choices"][0]["finish_reason"] == WORDS[reason]
    assert [change.op for change in changes] == (["lower"] if reason == "paused" else [])


def test_a_refusal_in_the_models_own_words_is_told_by_its_field() -> None:
    own: list[Event] = [ResponseStarted(), RefusalDelta(0, "No."), ResponseEnded("refusal")]
    explained: list[Event] = [
        ResponseStarted(),
        ResponseEnded("refusal", detail=msgspec.Raw(b'{"explanation":"Not that."}')),
    ]
    for events, word, said in ((own, "stop", "No."), (explained, "content_filter", "Not that.")):
        choice = accepted_by_the_official_client(write_stream(events, STREAMING)).choices[0]
        assert (choice.finish_reason, choice.message.refusal) == (word, said)
        whole = json.loads(openai_chat.write_response(events, STREAMING, id="i", created=1, model="m")[0])[
            "choices"
        ][0]
        assert (whole["finish_reason"], whole["message"]["refusal"], whole["message"]["content"]) == (
            word,
            said,
            None,
        )


def test_a_failure_is_the_last_thing_and_no_success_mark_follows() -> None:
    writer = openai_chat.ChatWriter(COUNTING, id="i", created=1, model="m")
    writer.send(TextDelta(0, "a"))
    broken = writer.send(ResponseFailed(Overloaded("Busy.")))
    assert json.loads(broken.removeprefix(b"data: ")) == {
        "error": {"message": "Busy.", "type": "overloaded", "param": None, "code": "overloaded"}
    }
    assert writer.send(TextDelta(0, "b")) == b""
    assert writer.end() == b""
    with pytest.raises(Overloaded):
        openai_chat.write_response(
            [TextDelta(0, "a"), ResponseFailed(Overloaded("Busy."))], COUNTING, id="i", created=1, model="m"
        )


def test_a_stream_that_was_never_ended_is_not_passed_off_as_one() -> None:
    writer = openai_chat.ChatWriter(COUNTING, id="i", created=1, model="m")
    writer.send(TextDelta(0, "a"))
    assert b'"error"' in writer.end()


def test_a_ping_is_a_comment() -> None:
    assert openai_chat.ChatWriter(COUNTING, id="i", created=1, model="m").ping() == b": ping\n\n"


def test_the_old_form_is_answered_in_the_old_form() -> None:
    old = make_call(functions=[{"name": "f"}], stream=True)
    events: list[Event] = [
        ResponseStarted(),
        ToolCallStarted(0, "a", "f"),
        ToolArgumentsDelta(0, '{"x":1}'),
        ResponseEnded("tool_calls"),
    ]
    choice = accepted_by_the_official_client(write_stream(events, old)).choices[0]
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call is not None
    assert (choice.message.function_call.name, choice.message.function_call.arguments) == ("f", '{"x":1}')
    message = json.loads(openai_chat.write_response(events, old, id="i", created=1, model="m")[0])["choices"][
        0
    ]["message"]
    assert message["function_call"] == {"name": "f", "arguments": '{"x":1}'}


def test_citations_of_pages_become_annotations_and_others_are_named_as_lost() -> None:
    page = msgspec.Raw(
        b'{"type":"web_search_result_location","url":"https://e.org","title":"E","cited_text":"x"}'
    )
    passage = msgspec.Raw(b'{"type":"char_location","document_index":0}')
    events: list[Event] = [
        TextDelta(0, "a"),
        CitationAdded(0, page, "anthropic_messages"),
        CitationAdded(0, page, "anthropic_messages"),
        CitationAdded(0, passage, "anthropic_messages"),
        MediaOutput(1, msgspec.Raw(b"{}"), "gemini"),
        ResponseEnded("stop"),
    ]
    writer = openai_chat.ChatWriter(STREAMING, id="i", created=1, model="m")
    stream = b"".join(writer.send(event) for event in events) + writer.end()
    annotations = accepted_by_the_official_client(stream).choices[0].message.annotations or []
    assert [each.url_citation.url for each in annotations] == ["https://e.org"] * 2
    body, changes = openai_chat.write_response(events, STREAMING, id="i", created=1, model="m")
    assert len(json.loads(body)["choices"][0]["message"]["annotations"]) == 2
    assert changes == writer.changes
    assert [change.op for change in changes] == ["drop", "drop"]


def test_a_free_call_is_a_custom_call() -> None:
    events: list[Event] = [
        ToolCallStarted(0, "a", "patch", free=True),
        ToolArgumentsDelta(0, "*** "),
        ToolArgumentsDelta(0, "Begin"),
        ResponseEnded("tool_calls"),
    ]
    call = {"id": "a", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}}
    body = openai_chat.write_response(events, STREAMING, id="i", created=1, model="m")[0]
    assert json.loads(body)["choices"][0]["message"]["tool_calls"] == [call]
    deltas = [
        each["choices"][0]["delta"].get("tool_calls") for each in chunks_of(write_stream(events, STREAMING))
    ]
    assert [delta[0]["custom"] for delta in deltas if delta] == [
        {"name": "patch", "input": ""},
        {"input": "*** "},
        {"input": "Begin"},
    ]


def test_a_signature_of_a_call_stays_on_the_call() -> None:
    state = OpaqueState("google-gemini-v1", "CiQB", provider="gemini")
    events: list[Event] = [
        ToolCallStarted(0, "a", "f"),
        OpaqueStateReceived(0, state),
        ToolArgumentsDelta(0, "{}"),
        ResponseEnded("tool_calls"),
    ]
    calls = (
        accepted_by_the_official_client(write_stream(events, STREAMING)).choices[0].message.tool_calls or []
    )
    extra = {"google": {"thought_signature": wrap(state)}}
    assert (calls[0].model_extra or {})["extra_content"] == extra
    body = openai_chat.write_response(events, STREAMING, id="i", created=1, model="m")[0]
    assert json.loads(body)["choices"][0]["message"]["tool_calls"][0]["extra_content"] == extra


@pytest.mark.parametrize("case", STREAMED)
def test_an_answer_of_the_same_dialect_survives_the_hub(case: str) -> None:
    events = read_stream([transcript(case, "stream.sse")])
    again = write_stream(events, COUNTING)
    if case != "custom_tool":
        accepted_by_the_official_client(again)
    assert unsealed(fold(read_stream([again]))) == fold(events)
    body, _ = openai_chat.write_response(events, COUNTING, id="i", created=1, model="m")
    answer = json.loads(body)
    answer.setdefault("usage", None)
    ChatCompletion.model_validate(answer)
    assert set(answer["choices"][0]["message"]) >= {"role", "content", "refusal"}
    assert "logprobs" in answer["choices"][0]
    assert openai_chat.observe(body).error is None


def unsealed(said: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Seals out of the envelopes in which a client holds them."""
    return [tuple(unwrap(x.data) if isinstance(x, OpaqueState) else x for x in part) for part in said]


def test_usage_of_the_same_dialect_comes_back_to_the_last_byte() -> None:
    events = read_stream([transcript("openrouter_signed_reasoning", "stream.sse")])
    usage = chunks_of(write_stream(events, COUNTING))[-1]["usage"]
    assert usage["cost"] == 0.0012
    assert usage["completion_tokens_details"]["accepted_prediction_tokens"] == 0


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
some_json = st.dictionaries(st.text(max_size=3), st.integers(), max_size=3).map(json.dumps)
states = st.builds(
    OpaqueState, format=st.just("anthropic-claude-v1"), data=texts, provider=st.just("p"), account=st.none()
)


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """One choice's parts in an order that a model makes: thinking and text in turns, then calls."""
    events: list[Event] = [ResponseStarted(id="x", model="m", created=1)]
    kinds = draw(st.lists(st.sampled_from(["thought", "said"]), max_size=4))
    part = 0
    for n, kind in enumerate(kinds):
        if n and kinds[n - 1] == kind == "said":
            continue  # two texts in a row are one text here
        if kind == "said":
            events += [TextDelta(part, text) for text in draw(st.lists(texts, min_size=1, max_size=3))]
        else:
            events += [ReasoningDelta(part, text) for text in draw(st.lists(texts, min_size=1, max_size=3))]
            events.append(OpaqueStateReceived(part, draw(states)))
        part += 1
    calls = draw(st.lists(some_json, max_size=3))
    for n, arguments in enumerate(calls):
        events.append(ToolCallStarted(part, f"id{n}", draw(st.sampled_from(["f", "g"]))))
        cut = draw(st.integers(0, len(arguments)))
        events += [ToolArgumentsDelta(part, text) for text in (arguments[:cut], arguments[cut:]) if text]
        part += 1
    ended = ResponseEnded("tool_calls" if calls else draw(st.sampled_from(["stop", "length", "filter"])))
    return [*events, UsageReported(Usage(fresh=draw(st.integers(0, 99)), output=3)), ended]


@given(answers(), st.data())
@settings(deadline=None)
def test_what_is_written_is_read_back_and_the_official_client_agrees(
    events: list[Event], data: st.DataObject
) -> None:
    stream = write_stream(events, COUNTING)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    assert unsealed(fold(read_stream(pieces(stream, cuts)))) == fold(events)
    answer = accepted_by_the_official_client(stream)
    body, _ = openai_chat.write_response(events, COUNTING, id="i", created=1, model="m")
    whole = ChatCompletion.model_validate(json.loads(body))
    assert (answer.choices[0].message.content or "") == (whole.choices[0].message.content or "")
    read = fold(openai_chat.read_response(body, ATTEMPT, PLAIN))
    assert [part for part in read if part[0] == "ended"] == [
        part for part in fold(events) if part[0] == "ended"
    ]


def test_chunks_have_no_key_that_the_official_types_lack_but_those_of_reasoning() -> None:
    for each in chunks_of(write_stream(ANSWER, COUNTING)):
        chunk = ChatCompletionChunk.model_validate(each)
        assert not chunk.model_extra
        for choice in chunk.choices:
            assert set(choice.delta.model_extra or {}) <= {"reasoning_content", "reasoning_details"}
