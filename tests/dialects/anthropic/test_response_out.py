"""Events as a Messages answer, streamed and whole: Anthropic's own client is the judge."""

import json
from typing import Any

import anthropic
import msgspec
import pytest

from modelplex.core.errors import Overloaded, UpstreamBroken, UpstreamReply
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
from modelplex.core.request import ChatRequest, OpaqueState, ToolCallPart, ToolResultPart
from modelplex.dialects.anthropic import dialect as anthropic_dialect
from modelplex.dialects.core.envelope import unwrap, wrap
from tests.dialects.anthropic.peer import (
    HELLO,
    accumulated,
    blocks,
    checked,
    joined,
    make_call,
    told,
    whole,
    written,
)

NATIVE = Usage(fresh=1, raw=b'{"input_tokens":1,"output_tokens":1}', raw_of="anthropic_messages")
GEMINI = OpaqueState("google-gemini-v1", "c2lnbg==", provider="gemini", account="g1", model="gemini-3")
CLAUDE = OpaqueState("anthropic-claude-v1", "EqQB", provider="anthropic", account="k1")


def _content(events: list[Event], call: ChatRequest | None = None) -> list[dict[str, Any]]:
    """The blocks that a client ends up with, the same streamed and whole."""
    data = written(events, call)
    checked(data)
    streamed = blocks(accumulated(data))
    answer: list[dict[str, Any]] = whole(events, call)["content"]
    assert streamed == answer
    return streamed


def _reason(events: list[Event]) -> str | None:
    streamed = accumulated(written(events)).stop_reason
    assert whole(events)["stop_reason"] == streamed
    return streamed


def test_text_thinking_and_calls_keep_their_order_and_have_a_block_each() -> None:
    content = _content(
        [
            ResponseStarted(id="chatcmpl-9", model="gpt"),
            ReasoningDelta(0, "First "),
            ReasoningDelta(0, "this."),
            TextDelta(1, "I "),
            TextDelta(1, "look."),
            ToolCallStarted(2, "call_a", "weather"),
            ToolArgumentsDelta(2, '{"city":'),
            ToolArgumentsDelta(2, '"Bern"}'),
            PartEnded(2),
            ToolCallStarted(3, "call_b", "clock"),
            PartEnded(3),
            ResponseEnded("tool_calls"),
        ]
    )
    assert content == [
        {"type": "thinking", "thinking": "First this.", "signature": wrap(OpaqueState("unknown", ""))},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Bern"}},
        {"type": "tool_use", "id": "call_b", "name": "clock", "input": {}},
    ]


def test_what_a_second_call_says_waits_until_the_first_is_closed() -> None:
    events: list[Event] = [
        ResponseStarted(),
        ToolCallStarted(0, "a", "one"),
        ToolArgumentsDelta(0, '{"x"'),
        ToolCallStarted(1, "b", "two"),
        ToolArgumentsDelta(1, '{"y"'),
        ToolArgumentsDelta(0, ":1}"),
        TextDelta(2, "and text"),
        ToolArgumentsDelta(1, ":2}"),
        ResponseEnded("tool_calls"),
    ]
    assert [(block["type"], block.get("input")) for block in _content(events)] == [
        ("tool_use", {"x": 1}),
        ("tool_use", {"y": 2}),
        ("text", None),
    ]


def test_a_call_is_told_while_it_is_being_written() -> None:
    writer = anthropic_dialect.AnthropicStreamWriter(make_call(stream=True), id="msg_1", created=1, model="m")
    writer.send(ResponseStarted())
    writer.send(ToolCallStarted(0, "a", "one"))
    assert b'"partial_json":"{\\"x"' in writer.send(ToolArgumentsDelta(0, '{"x'))


def test_a_call_whose_arguments_come_at_once_has_a_delta_of_them() -> None:
    events = checked(
        written(
            [
                ToolCallStarted(0, "a", "one"),
                ToolArgumentsDelta(0, '{"x":1}'),
                PartEnded(0),
                ResponseEnded("tool_calls"),
            ]
        )
    )
    assert joined(events, "partial_json") == '{"x":1}'


def test_a_call_without_arguments_has_an_empty_object_and_never_an_empty_text() -> None:
    events = checked(written([ToolCallStarted(0, "a", "one"), ResponseEnded("tool_calls")]))
    assert joined(events, "partial_json") == "{}"


def test_empty_text_opens_no_block() -> None:
    assert _content(
        [
            TextDelta(0, ""),
            ReasoningDelta(1, ""),
            ToolCallStarted(2, "a", "one"),
            PartEnded(2),
            ResponseEnded("tool_calls"),
        ]
    ) == [{"type": "tool_use", "id": "a", "name": "one", "input": {}}]


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("context", "model_context_window_exceeded"),
        ("refusal", "refusal"),
        ("filter", "refusal"),
        ("paused", "pause_turn"),
    ],
)
def test_each_reason_has_its_word(reason: Reason, word: str) -> None:
    assert _reason([TextDelta(0, "x"), ResponseEnded(reason)]) == word


@pytest.mark.parametrize("reason", ["stop", "stop_sequence", "tool_calls"])
def test_an_answer_with_a_call_ends_as_one(reason: Reason) -> None:
    assert (
        _reason([TextDelta(0, "x"), ToolCallStarted(1, "a", "one"), PartEnded(1), ResponseEnded(reason)])
        == "tool_use"
    )


def test_a_stop_sequence_is_named() -> None:
    message = accumulated(written([TextDelta(0, "x"), ResponseEnded("stop_sequence", sequence="END")]))
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")


def test_a_refusal_is_told_in_its_words_and_with_its_details() -> None:
    message = accumulated(written([RefusalDelta(0, "I can't."), ResponseEnded("refusal")]))
    assert message.stop_details is not None
    assert (blocks(message)[0]["text"], message.stop_details.explanation) == ("I can't.", "I can't.")
    detail = msgspec.Raw(b'{"type":"refusal","category":"cyber","explanation":null}')
    ended = accumulated(written([ResponseEnded("refusal", detail=detail)]))
    assert ended.stop_details is not None
    assert ended.stop_details.category == "cyber"


def test_arguments_that_the_limit_cut_are_no_finished_call() -> None:
    events: list[Event] = [
        ToolCallStarted(0, "a", "one"),
        ToolArgumentsDelta(0, '{"x":'),
        ResponseEnded("length"),
    ]
    assert _reason(events) == "max_tokens"
    assert whole(events)["content"][0]["input"] == {"_raw": '{"x":'}
    bare = checked(written([ToolCallStarted(0, "a", "one"), ResponseEnded("length")]))
    assert joined(bare, "partial_json") == ""


def test_a_failure_is_an_error_event_and_nothing_follows_it() -> None:
    writer = anthropic_dialect.AnthropicStreamWriter(make_call(stream=True), id="msg_1", created=1, model="m")
    data = writer.send(ResponseStarted()) + writer.send(TextDelta(0, "Half"))
    data += (
        writer.send(ResponseFailed(Overloaded("Busy.", upstream=UpstreamReply(type="overloaded_error"))))
        + writer.send(TextDelta(0, "more"))
        + writer.end()
    )
    *_, last = told(data)
    assert last.event == "error"
    assert json.loads(last.data)["error"]["type"] == "overloaded_error"
    assert b"message_stop" not in data
    with pytest.raises(anthropic.APIStatusError):
        accumulated(data)


def test_an_answer_that_never_ended_is_told_as_broken() -> None:
    data = written([ResponseStarted(), TextDelta(0, "Half")])
    assert told(data)[-1].event == "error"
    with pytest.raises(UpstreamBroken):
        anthropic_dialect.write_response(
            [ResponseFailed(UpstreamBroken("x"))], make_call(), id="msg_1", created=1, model="m"
        )


def test_a_ping_is_an_event_that_the_client_passes_over() -> None:
    writer = anthropic_dialect.AnthropicStreamWriter(make_call(stream=True), id="msg_1", created=1, model="m")
    data = writer.send(ResponseStarted()) + writer.ping() + writer.send(TextDelta(0, "x"))
    data += writer.ping() + writer.send(ResponseEnded("stop")) + writer.end()
    assert blocks(accumulated(data)) == [{"type": "text", "text": "x"}]


# --- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["call_1", "toolu_01A", "functions.bash:0", "ü", "mpx_", "mpx_MTox", "-"])
def test_a_calls_id_fits_and_comes_back_as_its_provider_said_it(given: str) -> None:
    (block,) = _content([ToolCallStarted(0, given, "one"), PartEnded(0), ResponseEnded("tool_calls")])
    assert block["id"].isascii()
    assert block["id"].replace("-", "").replace("_", "").isalnum() or given == "-"
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block["id"]}]}
    call = make_call([*HELLO, {"role": "assistant", "content": [block]}, result])
    parts = [part for message in call.messages for part in message.parts]
    assert [part.id for part in parts if isinstance(part, ToolCallPart | ToolResultPart)] == [given, given]


def test_a_provider_that_numbers_its_calls_anew_gives_no_id_twice() -> None:
    (first,) = _content([ToolCallStarted(0, "call_0", "one"), PartEnded(0), ResponseEnded("tool_calls")])
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": first["id"]}]}
    again = make_call([*HELLO, {"role": "assistant", "content": [first]}, result])
    (second,) = _content(
        [ToolCallStarted(0, "call_0", "one"), PartEnded(0), ResponseEnded("tool_calls")], again
    )
    assert second["id"] != first["id"]
    third = make_call([*HELLO, {"role": "assistant", "content": [second]}])
    (part,) = third.messages[1].parts
    assert isinstance(part, ToolCallPart)
    assert part.id == "call_0"


@pytest.mark.parametrize(
    ("given", "sent"), [("", "msg_ours"), ("msg_7", "msg_7"), ("chatcmpl-7.x", "msg_chatcmpl-7_x")]
)
def test_an_answers_id_has_the_prefix_of_the_form(given: str, sent: str) -> None:
    events: list[Event] = [ResponseStarted(id=given), TextDelta(0, "x"), ResponseEnded("stop")]
    assert accumulated(written(events)).id == sent
    assert whole(events)["id"] == sent


# --- sealed state ---------------------------------------------------------------------------------


def test_anthropics_own_signature_stands_as_it_came() -> None:
    content = _content(
        [
            ResponseStarted(usage=NATIVE),
            ReasoningDelta(0, "hm"),
            OpaqueStateReceived(0, CLAUDE),
            TextDelta(1, "x"),
            ResponseEnded("stop"),
        ]
    )
    assert content[0] == {"type": "thinking", "thinking": "hm", "signature": "EqQB"}
    redacted = _content(
        [
            ResponseStarted(usage=NATIVE),
            OpaqueStateReceived(0, CLAUDE, redacted=True),
            TextDelta(1, "x"),
            ResponseEnded("stop"),
        ]
    )
    assert redacted[0] == {"type": "redacted_thinking", "data": "EqQB"}


def test_what_another_provider_sealed_stands_in_an_envelope() -> None:
    router = msgspec.structs.replace(CLAUDE, provider="openrouter")
    content = _content(
        [ReasoningDelta(0, "hm"), OpaqueStateReceived(0, router), TextDelta(1, "x"), ResponseEnded("stop")]
    )
    assert unwrap(content[0]["signature"]) == router
    content = _content(
        [OpaqueStateReceived(0, router, redacted=True), TextDelta(1, "x"), ResponseEnded("stop")]
    )
    assert unwrap(content[0]["data"]) == router


def test_a_signature_that_comes_after_its_text_is_told_on_its_own() -> None:
    content = blocks(
        accumulated(
            written(
                [
                    ReasoningDelta(0, "hm"),
                    TextDelta(1, "x"),
                    OpaqueStateReceived(0, GEMINI),
                    ResponseEnded("stop"),
                ]
            )
        )
    )
    assert [block["type"] for block in content] == ["thinking", "text", "thinking"]
    assert unwrap(content[2]["signature"]) == GEMINI


@pytest.mark.parametrize("is_late", [False, True])
def test_a_calls_signature_comes_back_on_that_call(*, is_late: bool) -> None:
    sealed = OpaqueStateReceived(1, GEMINI)
    argued = ToolArgumentsDelta(1, '{"x":1}')
    events: list[Event] = [
        TextDelta(0, "I look."),
        ToolCallStarted(1, "call.1", "one"),
        *((argued, sealed) if is_late else (sealed, argued)),
        PartEnded(1),
        ToolCallStarted(2, "call.2", "two"),
        PartEnded(2),
        ResponseEnded("tool_calls"),
    ]
    data = written(events)
    checked(data)
    for content in (blocks(accumulated(data)), whole(events)["content"]):
        call = make_call([*HELLO, {"role": "assistant", "content": content}])
        calls = [part for part in call.messages[1].parts if isinstance(part, ToolCallPart)]
        assert [(part.id, part.state) for part in calls] == [("call.1", GEMINI), ("call.2", None)]
        assert len(call.messages[1].parts) == 3


# --- the rest -------------------------------------------------------------------------------------


def test_usage_that_comes_last_overrides_what_the_start_said() -> None:
    usage = Usage(fresh=10, cache_read=20, cache_write=30, cache_write_1h=5, output=7, reasoning=3)
    events: list[Event] = [
        ResponseStarted(tier="default"),
        TextDelta(0, "x"),
        ResponseEnded("stop"),
        UsageReported(usage),
    ]
    start, *_, delta, stop = checked(written(events))
    assert start["message"]["usage"]["input_tokens"] == 0
    assert start["message"]["usage"]["service_tier"] == "standard"
    assert stop == {"type": "message_stop"}
    assert delta["usage"] == whole(events)["usage"]
    assert delta["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 20,
        "output_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 25, "ephemeral_1h_input_tokens": 5},
        "output_tokens_details": {"thinking_tokens": 3},
        "service_tier": "standard",
    }


def test_a_hosted_tools_blocks_and_citations_of_this_form_go_on() -> None:
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "moon"}}
    cited = {
        "type": "web_search_result_location",
        "url": "https://example.org",
        "title": "A",
        "encrypted_index": "E",
        "cited_text": "moon",
    }
    events: list[Event] = [
        ResponseStarted(usage=NATIVE),
        MediaOutput(0, msgspec.Raw(json.dumps(use).encode()), "anthropic_messages"),
        CitationAdded(1, msgspec.Raw(json.dumps(cited).encode()), "anthropic_messages"),
        TextDelta(1, "It is."),
        ResponseEnded("stop"),
    ]
    assert _content(events) == [use, {"type": "text", "text": "It is.", "citations": [cited]}]


def test_outputs_of_other_forms_are_named_as_lost() -> None:
    events: list[Event] = [
        MediaOutput(0, msgspec.Raw(b"{}"), "openai_chat"),
        CitationAdded(1, msgspec.Raw(b"{}"), "openai_chat"),
        TextDelta(1, "x"),
        ResponseEnded("stop"),
    ]
    writer = anthropic_dialect.AnthropicStreamWriter(make_call(stream=True), id="msg_1", created=1, model="m")
    for event in events:
        writer.send(event)
    _, changes = anthropic_dialect.write_response(events, make_call(), id="msg_1", created=1, model="m")
    assert [change.path for change in changes] == ["content[]", "content[].citations"]
    assert writer.changes == changes


def test_a_free_form_call_is_told_as_an_object_with_its_text() -> None:
    content = _content(
        [
            ToolCallStarted(0, "a", "patch", free=True),
            ToolArgumentsDelta(0, 'a "b"'),
            ToolArgumentsDelta(0, "\n"),
            PartEnded(0),
            ResponseEnded("tool_calls"),
        ]
    )
    assert content[0]["input"] == {"input": 'a "b"\n'}


CHECKED = [{"type": "dangerous_tool_use", "classifier_context": {"v": 1}}]


def test_a_provider_without_checks_of_calls_says_that_it_has_none() -> None:
    """Claude Code takes it for a result that was lost on the way otherwise."""
    call = msgspec.structs.replace(
        make_call(), extra={"safeguards": msgspec.Raw(msgspec.json.encode(CHECKED))}
    )
    events: list[Event] = [ResponseStarted(), TextDelta(0, "Hi"), ResponseEnded("stop")]
    none = [{"type": "dangerous_tool_use", "status": {"type": "unsupported"}}]
    assert whole(events, call)["safeguard_results"] == none
    (delta,) = [each for each in checked(written(events, call)) if each["type"] == "message_delta"]
    assert delta["delta"]["safeguard_results"] == none


@pytest.mark.parametrize("given", [b"null", b"[]", b"7", b"[7]", b"[{}]", None])
def test_without_a_check_that_is_asked_for_none_is_answered(given: bytes | None) -> None:
    extra = {} if given is None else {"safeguards": msgspec.Raw(given)}
    call = msgspec.structs.replace(make_call(), extra=extra)
    assert "safeguard_results" not in whole([TextDelta(0, "Hi"), ResponseEnded("stop")], call)
