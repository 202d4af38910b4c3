"""Events, written as a Responses answer: every event held to OpenAI's types and every stream to its
client's accumulator.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelplex.core.errors import BadRequest, ModelplexError, RateLimited, UpstreamBroken
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
from modelplex.dialects.core.envelope import unwrap
from modelplex.dialects.dialect import StoredContext
from modelplex.dialects.openai_responses import dialect as openai_responses
from tests.dialects.openai_chat.peer import fold, pieces
from tests.dialects.openai_chat.test_response_out import answers, unsealed
from tests.dialects.openai_responses.peer import (
    ATTEMPT,
    GOOD,
    PLAIN,
    accepted_by_the_official_client,
    final,
    make_call,
    read_stream,
    transcript,
    whole,
    write_stream,
)

CALL = make_call(stream=True)
SEAL = OpaqueState("anthropic-claude-v1", "EqRkc2Fm+/==", provider="anthropic", account="k1", model="claude")
ANSWER: list[Event] = [
    ResponseStarted(id="msg_01", model="claude", created=3),
    ReasoningDelta(0, "Two "),
    ReasoningDelta(0, "cities."),
    OpaqueStateReceived(0, SEAL),
    PartEnded(0),
    TextDelta(1, "Let me "),
    TextDelta(1, "look."),
    PartEnded(1),
    ToolCallStarted(2, "call_a", "get_weather"),
    ToolArgumentsDelta(2, '{"city":'),
    ToolCallStarted(3, "call_b", "get_weather"),
    ToolArgumentsDelta(3, '{"city":"Basel"}'),
    ToolArgumentsDelta(2, '"Bern"}'),
    PartEnded(2),
    PartEnded(3),
    UsageReported(Usage(fresh=15, cache_read=4, cache_write=2, output=10, reasoning=3)),
    ResponseEnded("tool_calls"),
]


def test_the_steps_of_a_stream_are_those_of_the_form() -> None:
    told = [event["type"] for event in accepted_by_the_official_client(write_stream(ANSWER, CALL))]
    assert told == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_a_stream_ends_with_all_that_it_said() -> None:
    answer = final(write_stream(ANSWER, CALL))
    thinking, message, first, second = answer["output"]
    assert answer["status"] == "completed"
    assert (answer["id"], answer["model"], answer["created_at"]) == ("resp_ours", "claude", 3)
    assert thinking["summary"] == [{"type": "summary_text", "text": "Two cities."}]
    assert unwrap(thinking["encrypted_content"]) == SEAL
    assert message["content"] == [
        {"type": "output_text", "text": "Let me look.", "annotations": [], "logprobs": []}
    ]
    assert (first["call_id"], first["name"], first["arguments"]) == (
        "call_a",
        "get_weather",
        '{"city":"Bern"}',
    )
    assert second["arguments"] == '{"city":"Basel"}'
    assert [item["status"] for item in answer["output"]] == ["completed"] * 4
    assert answer["usage"] == {
        "input_tokens": 21,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 31,
    }


def test_a_whole_answer_is_what_the_last_event_of_its_stream_holds() -> None:
    assert whole(ANSWER, CALL) == final(write_stream(ANSWER, CALL))


def test_the_same_id_gives_the_same_bytes() -> None:
    assert write_stream(ANSWER, CALL) == write_stream(ANSWER, CALL)
    assert write_stream(ANSWER, CALL) != write_stream(ANSWER, CALL, id="resp_other")


def test_an_answers_own_name_is_kept_where_it_is_one_of_this_form() -> None:
    assert whole([ResponseStarted(id="resp_theirs"), ResponseEnded("stop")], CALL)["id"] == "resp_theirs"
    assert whole([ResponseEnded("stop")], CALL)["id"] == "resp_ours"
    body, _ = openai_responses.write_response([ResponseEnded("stop")], CALL, id="req-1", created=1, model="m")
    assert json.loads(body)["id"] == "resp_req-1"


def test_a_writer_does_without_being_told_where_parts_end() -> None:
    silent = [event for event in ANSWER if not isinstance(event, PartEnded)]
    assert final(write_stream(silent, CALL))["output"] == final(write_stream(ANSWER, CALL))["output"]


def test_what_the_request_said_is_told_back() -> None:
    tools: list[dict[str, Any]] = [
        {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True},
        {"type": "custom", "name": "p"},
        {"type": "web_search", "external_web_access": False},
        {
            "type": "namespace",
            "name": "ns",
            "description": "Files.",
            "tools": [{"type": "function", "name": "read", "parameters": None, "strict": None}],
        },
    ]
    schema: dict[str, Any] = {
        "type": "json_schema",
        "name": "s",
        "schema": {"type": "object"},
        "strict": True,
    }
    call = make_call(
        instructions="Be brief.",
        tools=tools,
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=99,
        max_tool_calls=3,
        truncation="auto",
        text={"format": schema, "verbosity": "low"},
        reasoning={"effort": "low", "summary": "auto"},
        metadata={"a": "b"},
        service_tier="flex",
        safety_identifier="u",
        prompt_cache_key="k",
    )
    answer = whole(ANSWER, call)
    tools[0]["description"] = None  # strict clients want it (Open Responses)
    tools[3]["tools"][0]["description"] = None
    schema["description"] = None
    told = {"tools": tools, "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 99, "max_tool_calls": 3}
    told |= {"instructions": "Be brief.", "tool_choice": {"type": "function", "name": "f"}}
    told |= {"parallel_tool_calls": False, "truncation": "auto", "metadata": {"a": "b"}}
    told |= {"text": {"format": schema, "verbosity": "low"}, "service_tier": "flex"}
    told |= {
        "reasoning": {"effort": "low", "summary": "auto"},
        "safety_identifier": "u",
        "prompt_cache_key": "k",
    }
    assert {name: answer[name] for name in told} == told


def test_what_the_request_did_not_say_has_the_value_that_strict_clients_expect() -> None:
    answer = whole(ANSWER, make_call())
    told: dict[str, Any] = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "metadata": {}}
    told |= {"text": {"format": {"type": "text"}}, "temperature": 1, "top_p": 1, "presence_penalty": 0}
    told |= {"frequency_penalty": 0, "top_logprobs": 0, "truncation": "disabled", "store": False}
    told |= {"background": False, "service_tier": "default", "completed_at": None, "error": None}
    assert {name: answer[name] for name in told} == told


def test_what_the_gateway_keeps_is_told() -> None:
    kept = StoredContext(store=True, previous="resp_0")
    body, _ = openai_responses.write_response(ANSWER, CALL, id="resp_1", created=1, model="m", kept=kept)
    assert (json.loads(body)["store"], json.loads(body)["previous_response_id"]) == (True, "resp_0")


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        ("stop", "completed", None),
        ("stop_sequence", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("context", "incomplete", "max_output_tokens"),
        ("paused", "incomplete", "max_output_tokens"),
        ("refusal", "incomplete", "content_filter"),
        ("filter", "incomplete", "content_filter"),
    ],
)
def test_each_reason_has_its_status(reason: Reason, status: str, why: str | None) -> None:
    events: list[Event] = [TextDelta(0, "a"), ResponseEnded(reason)]
    answer = final(write_stream(events, CALL))
    assert answer["status"] == status
    assert answer["incomplete_details"] == (None if why is None else {"reason": why})
    assert answer["output"][0]["status"] == status
    assert whole(events, CALL) == answer


def test_a_paused_turn_is_named_as_a_loss() -> None:
    _, changes = openai_responses.write_response(
        [ResponseEnded("paused")], CALL, id="i", created=1, model="m"
    )
    assert [(change.op, change.path) for change in changes] == [("lower", "incomplete_details.reason")]


def test_a_refusal_in_the_models_own_words_completes_the_answer() -> None:
    answer = final(
        write_stream([RefusalDelta(0, "I "), RefusalDelta(0, "cannot."), ResponseEnded("refusal")], CALL)
    )
    assert answer["status"] == "completed"
    assert answer["output"][0]["content"] == [{"type": "refusal", "refusal": "I cannot."}]


def test_a_refusal_that_is_explained_beside_the_text_is_told_as_one() -> None:
    detail = msgspec.Raw(b'{"category":"x","explanation":"Not this."}')
    answer = final(write_stream([TextDelta(0, "Well"), ResponseEnded("refusal", detail=detail)], CALL))
    assert [part["type"] for part in answer["output"][0]["content"]] == ["output_text", "refusal"]
    assert answer["incomplete_details"] == {"reason": "content_filter"}


def test_a_call_that_was_cut_is_never_told_as_done() -> None:
    events: list[Event] = [
        ToolCallStarted(0, "a", "f"),
        ToolArgumentsDelta(0, '{"x":'),
        ResponseEnded("length"),
    ]
    told = accepted_by_the_official_client(write_stream(events, CALL))
    assert not any(event["type"].endswith("arguments.done") for event in told)
    (item,) = told[-1]["response"]["output"]
    assert (item["status"], item["arguments"]) == ("incomplete", '{"x":')


def test_a_call_without_arguments_has_an_empty_object() -> None:
    told = accepted_by_the_official_client(
        write_stream([ToolCallStarted(0, "a", "f"), ResponseEnded("tool_calls")], CALL)
    )
    assert [e["delta"] for e in told if e["type"].endswith("arguments.delta")] == ["{}"]
    assert told[-1]["response"]["output"][0]["arguments"] == "{}"


def test_a_free_call_is_a_custom_call() -> None:
    events: list[Event] = [
        ToolCallStarted(0, "a", "patch", free=True),
        ToolArgumentsDelta(0, "*** "),
        ToolArgumentsDelta(0, "Begin"),
        ResponseEnded("tool_calls"),
    ]
    told = accepted_by_the_official_client(write_stream(events, CALL))
    assert "response.custom_tool_call_input.done" in [event["type"] for event in told]
    (item,) = told[-1]["response"]["output"]
    assert (item["type"], item["call_id"], item["name"], item["input"]) == (
        "custom_tool_call",
        "a",
        "patch",
        "*** Begin",
    )


def test_a_tool_that_was_taken_out_of_its_namespace_is_called_in_it() -> None:
    read = {"type": "function", "name": "read", "parameters": {"type": "object"}}
    call = make_call(tools=[{"type": "namespace", "name": "mcp__fs", "description": "", "tools": [read]}])
    answer = whole([ToolCallStarted(0, "a", "mcp__fs__read"), ResponseEnded("tool_calls")], call)
    assert (answer["output"][0]["namespace"], answer["output"][0]["name"]) == ("mcp__fs", "read")


SEARCH = {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("given", "sent"), [('{"query":"git"}', {"query": "git"}), ("", {}), ("no", {"_raw": "no"})]
)
def test_a_call_of_the_clients_search_for_tools_is_an_item_of_its_own(
    given: str, sent: dict[str, str]
) -> None:
    events: list[Event] = [
        ToolCallStarted(0, "a", "tool_search"),
        ToolArgumentsDelta(0, given),
        ResponseEnded("tool_calls"),
    ]
    told = accepted_by_the_official_client(write_stream(events, make_call(stream=True, tools=[SEARCH])))
    assert not [event for event in told if "arguments" in event["type"]]
    (item,) = told[-1]["response"]["output"]
    assert item.pop("id").startswith("tsc_")
    assert item == {
        "type": "tool_search_call",
        "call_id": "a",
        "execution": "client",
        "arguments": sent,
        "status": "completed",
    }


def test_a_tool_of_an_item_is_called_in_its_namespace() -> None:
    tool = {"type": "custom", "name": "exec"}
    group = {"type": "namespace", "name": "functions", "description": "", "tools": [tool]}
    item = {"type": "additional_tools", "role": "developer", "tools": [group]}
    call = make_call(input=[item])
    answer = whole([ToolCallStarted(0, "a", "functions__exec", free=True), ResponseEnded("tool_calls")], call)
    (made,) = answer["output"]
    assert (made["type"], made["namespace"], made["name"]) == ("custom_tool_call", "functions", "exec")
    assert answer["tools"] == []


def test_text_that_follows_another_text_stays_in_its_message() -> None:
    events: list[Event] = [
        TextDelta(0, "a"),
        PartEnded(0),
        TextDelta(1, "b"),
        RefusalDelta(2, "c"),
        ResponseEnded("stop"),
    ]
    (message,) = final(write_stream(events, CALL))["output"]
    assert [part.get("text", part.get("refusal")) for part in message["content"]] == ["a", "b", "c"]


def test_text_after_a_call_is_another_message() -> None:
    events: list[Event] = [
        TextDelta(0, "a"),
        ToolCallStarted(1, "c", "f"),
        ToolArgumentsDelta(1, "{}"),
        TextDelta(2, "b"),
        ResponseEnded("tool_calls"),
    ]
    kinds = [item["type"] for item in final(write_stream(events, CALL))["output"]]
    assert kinds == ["message", "function_call", "message"]


def test_redacted_and_left_out_thinking_can_be_told_apart_when_they_come_back() -> None:
    events: list[Event] = [
        OpaqueStateReceived(0, SEAL, redacted=True),
        OpaqueStateReceived(1, SEAL),
        ResponseEnded("stop"),
    ]
    answer = final(write_stream(events, CALL))
    assert [item["summary"] for item in answer["output"]] == [[], [{"type": "summary_text", "text": ""}]]
    back = make_call(input=[{"role": "user", "content": "Hi"}, *answer["output"]]).messages[1].parts
    assert [getattr(part, "redacted", None) for part in back] == [True, False]
    assert [getattr(part, "state", None) for part in back] == [SEAL, SEAL]


def test_thinking_survives_the_client_byte_for_byte() -> None:
    text = 'Zwei \\ "Städte" 😀\n\n und mehr'
    answer = whole(
        [ReasoningDelta(0, text), OpaqueStateReceived(0, SEAL), TextDelta(1, "x"), ResponseEnded("stop")],
        CALL,
    )
    thinking = make_call(input=answer["output"]).messages[0].parts[0]
    assert (getattr(thinking, "text", None), getattr(thinking, "state", None)) == (text, SEAL)


def test_a_signature_of_a_call_comes_back_on_that_call() -> None:
    state = OpaqueState("google-gemini-v1", "CiQB", provider="gemini")
    events: list[Event] = [
        ToolCallStarted(0, "a", "f"),
        OpaqueStateReceived(0, state),
        ToolArgumentsDelta(0, "{}"),
        ToolCallStarted(1, "b", "f"),
        ToolArgumentsDelta(1, "{}"),
        ResponseEnded("tool_calls"),
    ]
    answer = final(write_stream(events, CALL))
    parts = make_call(input=answer["output"]).messages[0].parts
    assert [(getattr(part, "id", None), getattr(part, "state", None)) for part in parts] == [
        ("a", state),
        ("b", None),
    ]


def test_a_seal_that_comes_late_is_not_lost() -> None:
    events: list[Event] = [
        ReasoningDelta(0, "a"),
        TextDelta(1, "b"),
        OpaqueStateReceived(0, SEAL),
        ResponseEnded("stop"),
    ]
    kinds = [
        (item["type"], "encrypted_content" in item) for item in final(write_stream(events, CALL))["output"]
    ]
    assert kinds == [("reasoning", False), ("message", False), ("reasoning", True)]


def test_citations_of_pages_become_annotations_and_others_are_named_as_lost() -> None:
    page = {"url": "https://e.org", "title": "E"}
    events: list[Event] = [
        TextDelta(0, "a"),
        CitationAdded(
            0,
            msgspec.Raw(json.dumps({"type": "web_search_result_location", **page}).encode()),
            "anthropic_messages",
        ),
        CitationAdded(
            0, msgspec.Raw(json.dumps({"type": "url_citation", "url_citation": page}).encode()), "openai_chat"
        ),
        CitationAdded(0, msgspec.Raw(b'{"type":"char_location"}'), "anthropic_messages"),
        MediaOutput(1, msgspec.Raw(b"{}"), "gemini"),
        ResponseEnded("stop"),
    ]
    writer = openai_responses.ResponsesWriter(CALL, id="resp_i", created=1, model="m")
    stream = b"".join(writer.send(event) for event in events) + writer.end()
    annotations = final(stream)["output"][0]["content"][0]["annotations"]
    assert [(each["type"], each["url"]) for each in annotations] == [("url_citation", "https://e.org")] * 2
    assert [change.op for change in writer.changes] == ["drop", "drop"]


def test_log_probabilities_are_in_every_place_that_has_them() -> None:
    odds = msgspec.Raw(b'[{"token":"A","logprob":-0.1,"bytes":null,"top_logprobs":[]}]')
    told = accepted_by_the_official_client(
        write_stream([TextDelta(0, "A", logprobs=odds), ResponseEnded("stop")], CALL)
    )
    entry = {"token": "A", "logprob": -0.1, "bytes": [65], "top_logprobs": []}
    assert [e["logprobs"] for e in told if "output_text." in e["type"]] == [[entry], [entry]]
    assert told[-1]["response"]["output"][0]["content"][0]["logprobs"] == [entry]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RateLimited("Slow."), "rate_limit_exceeded"),
        (BadRequest("Wrong."), "invalid_prompt"),
        (UpstreamBroken("Cut."), "server_error"),
    ],
)
@pytest.mark.parametrize("before", [0, 1, 3, 7, 10])
def test_a_failure_tells_what_came_before_it_and_nothing_after(
    error: ModelplexError, code: str, before: int
) -> None:
    writer = openai_responses.ResponsesWriter(CALL, id="resp_ours", created=7, model="m")
    stream = b"".join(
        writer.send(event) for event in [*ANSWER[:before], ResponseFailed(error), *ANSWER[before:]]
    )
    assert writer.end() == b""
    told = accepted_by_the_official_client(stream)
    assert told[0]["type"] == "response.created"
    assert [event["type"] for event in told].count("response.failed") == 1
    answer = told[-1]["response"]
    assert (answer["status"], answer["error"]) == ("failed", {"code": code, "message": error.message})
    assert len(answer["output"]) == len([e for e in told if e["type"] == "response.output_item.added"])
    assert b"[DONE]" not in stream


def test_a_whole_answer_that_failed_raises_what_it_failed_of() -> None:
    with pytest.raises(RateLimited):
        openai_responses.write_response(
            [TextDelta(0, "a"), ResponseFailed(RateLimited("Slow."))], CALL, id="i", created=1, model="m"
        )


def test_a_stream_that_was_never_ended_is_not_passed_off_as_one() -> None:
    assert final(write_stream([TextDelta(0, "a")], CALL))["status"] == "failed"


def test_empty_text_begins_nothing() -> None:
    assert (
        final(write_stream([TextDelta(0, ""), ReasoningDelta(1, ""), ResponseEnded("stop")], CALL))["output"]
        == []
    )


def test_a_ping_is_a_comment_and_nothing_says_done() -> None:
    assert openai_responses.ResponsesWriter(CALL, id="i", created=1, model="m").ping() == b": ping\n\n"
    assert b"[DONE]" not in write_stream(ANSWER, CALL)


def test_an_error_of_an_answer_that_passed_is_the_flat_event() -> None:
    told = openai_responses.write_error_event(UpstreamBroken("Cut."), sequence_number=4)
    assert told.startswith(b"event: error\n")
    data = json.loads(told.split(b"data: ")[1])
    assert data == {
        "type": "error",
        "code": "upstream_error",
        "message": "Cut.",
        "param": None,
        "sequence_number": 4,
    }


@pytest.mark.parametrize("case", [case for case in GOOD if case != "sparse_server"])
def test_an_answer_of_the_same_dialect_survives_the_hub(case: str) -> None:
    events = read_stream([transcript(case)])
    again = write_stream(events, CALL)
    accepted_by_the_official_client(again)
    folded = _plain(fold(events))
    assert _plain(unsealed(fold(read_stream([again])))) == folded
    body, _ = openai_responses.write_response(events, CALL, id="resp_i", created=1, model="m")
    assert _plain(unsealed(fold(openai_responses.read_response(body, ATTEMPT, PLAIN)))) == folded
    assert openai_responses.observe(body).error is None


def _plain(said: list[tuple[Any, ...]]) -> list[str]:
    return [repr(part) for part in said]


def test_usage_of_the_same_dialect_comes_back_to_the_last_byte() -> None:
    stream = transcript("text").replace(b'"cached_tokens":4', b'"cached_tokens":4,"new_member":1.50')
    assert b'"new_member":1.50' in write_stream(read_stream([stream]), CALL)


@given(answers(), st.data())
@settings(deadline=None)
def test_what_is_written_is_read_back_and_the_official_client_agrees(
    events: list[Event], data: st.DataObject
) -> None:
    stream = write_stream(events, CALL)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    told = fold(read_stream(pieces(stream, cuts)))
    assert _as_summaries(unsealed(told)) == _as_summaries(fold(events))
    assert final(stream) == whole(events, CALL)


def _as_summaries(said: list[tuple[Any, ...]]) -> list[str]:
    """Thinking is told as a summary here."""
    return [repr(part).replace("'ReasoningDelta'", "'Summary'") for part in said]


def test_a_call_of_another_choice_is_not_written() -> None:
    assert (
        whole(
            [
                TextDelta(0, "a"),
                TextDelta(1, "b", choice=1),
                ResponseEnded("stop"),
                ResponseEnded("stop", choice=1),
            ],
            CALL,
        )["output"][0]["content"][0]["text"]
        == "a"
    )
