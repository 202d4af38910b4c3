"""Events as a Gemini answer: what Google's own client reads of it, streamed and whole."""

import json
from typing import Any

import httpx2
import msgspec
import pytest
from google.genai import errors, types

from modelplex.core.errors import (
    BadRequest,
    GatewayFault,
    ModelplexError,
    PolicyDenied,
    RateLimited,
    StatePinned,
    UnknownModel,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamReply,
)
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
from modelplex.dialects.gemini import dialect as gemini
from modelplex.dialects.gemini.json import read_signature
from tests.dialects.gemini.peer import make_call, official_client, read_by_official_client, user, write_stream

CALL = make_call(user("Hi"), stream=True)
SEAL = OpaqueState("anthropic-claude-v1", "EqQBCgIYAhIM+sig/one==", "anthropic", "k1", "claude")
WHOLE: list[Event] = [
    ResponseStarted("resp_1", "claude", usage=Usage(fresh=10)),
    ReasoningDelta(0, "Two places, "),
    ReasoningDelta(0, "two tools."),
    OpaqueStateReceived(0, SEAL),
    PartEnded(0),
    TextDelta(1, "Ich schaue "),
    TextDelta(1, "nach. 🌦"),
    ToolCallStarted(2, "a", "get_weather"),
    ToolArgumentsDelta(2, '{"city": "Zür'),
    ToolCallStarted(3, "b", "get_time"),
    ToolArgumentsDelta(2, 'ich"}'),
    PartEnded(2),
    ResponseEnded("tool_calls"),
    UsageReported(Usage(fresh=10, cache_read=5, output=9, reasoning=4)),
]


def _parts(answer: types.GenerateContentResponse, candidate: int = 0) -> list[dict[str, Any]]:
    content = (answer.candidates or [])[candidate].content
    return [
        part.model_dump(mode="json", exclude_none=True) for part in (content.parts if content else None) or []
    ]


def _whole(events: list[Event]) -> types.GenerateContentResponse:
    body, _ = gemini.write_response(events, CALL, id="ours", created=7, model="asked-for")
    client = official_client(lambda _: httpx2.Response(200, content=body))
    return client.models.generate_content(model="m", contents="Hi")


def test_a_stream_is_read_by_the_official_client() -> None:
    chunks = read_by_official_client(write_stream(WHOLE, CALL))
    parts = [part for chunk in chunks for part in _parts(chunk)]
    assert [part for part in parts if part.get("text")] == [
        {"text": "Two places, ", "thought": True},
        {"text": "two tools.", "thought": True},
        {"text": "Ich schaue "},
        {"text": "nach. 🌦"},
    ]
    assert [part["function_call"] for part in parts if "function_call" in part] == [
        {"id": "a", "name": "get_weather", "args": {"city": "Zürich"}},
        {"id": "b", "name": "get_time", "args": {}},
    ]
    (signed,) = [part for part in parts if "thought_signature" in part]
    assert (signed["text"], signed["thought"]) == ("", True)
    assert read_signature(signed["thought_signature"]) == SEAL
    last = chunks[-1]
    assert {(chunk.response_id, chunk.model_version) for chunk in chunks} == {("resp_1", "claude")}
    assert (last.candidates or [])[0].finish_reason == types.FinishReason.STOP
    assert sum(bool((chunk.candidates or [])[0].finish_reason) for chunk in chunks) == 1
    usage = last.usage_metadata
    assert usage is not None
    counts = (usage.prompt_token_count, usage.cached_content_token_count, usage.candidates_token_count)
    assert counts == (15, 5, 5)
    assert (usage.thoughts_token_count, usage.total_token_count) == (4, 24)


def test_a_whole_answer_joins_the_pieces_and_keeps_the_order() -> None:
    answer = _whole(WHOLE)
    thought, text, first, second = _parts(answer)
    assert (thought["text"], thought["thought"]) == ("Two places, two tools.", True)
    assert read_signature(thought["thought_signature"]) == SEAL
    assert text == {"text": "Ich schaue nach. 🌦"}
    assert [part["function_call"]["id"] for part in (first, second)] == ["a", "b"]
    assert answer.text == "Ich schaue nach. 🌦"
    assert answer.usage_metadata is not None


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("stop", "STOP"),
        ("stop_sequence", "STOP"),
        ("length", "MAX_TOKENS"),
        ("context", "MAX_TOKENS"),
        ("refusal", "SAFETY"),
        ("filter", "SAFETY"),
        ("paused", "CONTINUATION"),
    ],
)
def test_every_reason_has_its_word(reason: Reason, word: str) -> None:
    events: list[Event] = [ResponseStarted("r", "m"), TextDelta(0, "x"), ResponseEnded(reason)]
    assert (_whole(events).candidates or [])[0].finish_reason == types.FinishReason(word)
    (*_, last) = read_by_official_client(write_stream(events, CALL))
    assert (last.candidates or [])[0].finish_reason == types.FinishReason(word)


def test_a_refusal_in_words_is_no_natural_end_and_says_why() -> None:
    answer = _whole([ResponseStarted("r", "m"), RefusalDelta(0, "I will not."), ResponseEnded("stop")])
    assert _parts(answer) == [{"text": "I will not."}]
    assert (answer.candidates or [])[0].finish_reason == types.FinishReason.SAFETY
    detail = msgspec.Raw(b'{"category":"bio","explanation":"Not this."}')
    told, _ = gemini.write_response(
        [ResponseStarted("r", "m"), ResponseEnded("refusal", detail=detail)],
        CALL,
        id="i",
        created=1,
        model="m",
    )
    assert json.loads(told)["candidates"][0]["finishMessage"] == "Not this."


def test_the_usage_of_a_gemini_upstream_goes_back_as_it_came() -> None:
    raw = b'{"promptTokenCount":3,"totalTokenCount":9,"serviceTier":"X"}'
    body, _ = gemini.write_response(
        [
            ResponseStarted(),
            TextDelta(0, "x"),
            ResponseEnded("stop"),
            UsageReported(Usage(fresh=3, raw=raw, raw_of="gemini")),
        ],
        CALL,
        id="ours",
        created=7,
        model="asked-for",
    )
    assert bytes(raw) in body
    assert json.loads(body)["responseId"] == "ours"
    assert json.loads(body)["modelVersion"] == "asked-for"


def test_several_candidates_are_told_apart() -> None:
    events: list[Event] = [
        ResponseStarted("r", "m"),
        TextDelta(0, "a"),
        TextDelta(1, "b", choice=1),
        ResponseEnded("stop"),
        ResponseEnded("length", choice=1),
    ]
    whole = _whole(events)
    assert (_parts(whole), _parts(whole, 1)) == ([{"text": "a"}], [{"text": "b"}])
    (*_, last) = read_by_official_client(write_stream(events, CALL))
    assert [c.finish_reason for c in last.candidates or ()] == ["STOP", "MAX_TOKENS"]


def test_a_call_that_was_cut_off_is_never_passed_off_as_one() -> None:
    cut: list[Event] = [
        ResponseStarted("r", "m"),
        TextDelta(0, "x"),
        ToolCallStarted(1, "a", "f"),
        ToolArgumentsDelta(1, '{"city": "Zü'),
    ]
    body, changes = gemini.write_response([*cut, ResponseEnded("length")], CALL, id="i", created=1, model="m")
    assert b"functionCall" not in body
    assert [change.op for change in changes] == ["drop"]
    stream = write_stream([*cut, ResponseEnded("length")], CALL)
    assert b"functionCall" not in stream
    assert b"MAX_TOKENS" in stream


def test_arguments_that_are_not_json_are_handed_on_in_an_object() -> None:
    slip: list[Event] = [
        ResponseStarted("r", "m"),
        ToolCallStarted(1, "a", "f"),
        ToolArgumentsDelta(1, '{"city": Zü}'),
        PartEnded(1),
        ResponseEnded("tool_calls"),
    ]
    body, changes = gemini.write_response(slip, CALL, id="i", created=1, model="m")
    (part,) = json.loads(body)["candidates"][0]["content"]["parts"]
    assert part["functionCall"]["args"] == {"_raw": '{"city": Zü}'}
    assert [change.op for change in changes] == ["lower"]
    read_by_official_client(write_stream(slip, CALL))


def test_a_failure_ends_the_stream_with_an_error_and_no_success_mark() -> None:
    failed: list[Event] = [
        ResponseStarted("r", "m"),
        TextDelta(0, "x"),
        ResponseFailed(RateLimited("Slow down.", retry_after=30)),
        ResponseEnded("stop"),
    ]
    stream = write_stream(failed, CALL)
    assert b"finishReason" not in stream
    with pytest.raises(errors.APIError, match="Slow down") as raised:
        read_by_official_client(stream)
    assert (raised.value.code, raised.value.status) == (429, "RESOURCE_EXHAUSTED")
    with pytest.raises(RateLimited):
        gemini.write_response(failed, CALL, id="i", created=1, model="m")


@pytest.mark.parametrize(
    "events", [[], [ResponseStarted("r", "m")], [ResponseStarted("r", "m"), TextDelta(0, "x")]]
)
def test_an_answer_without_an_end_is_told_as_broken(events: list[Event]) -> None:
    stream = write_stream(events, CALL)
    assert b"finishReason" not in stream
    assert b'"error"' in stream
    with pytest.raises(UpstreamBroken):
        gemini.write_response(events, CALL, id="i", created=1, model="m")


def test_what_has_no_form_here_is_named() -> None:
    picture = msgspec.Raw(b'{"inlineData":{"mimeType":"image/png","data":"aGVsbG8="}}')
    events: list[Event] = [
        ResponseStarted("r", "m"),
        TextDelta(0, "x"),
        CitationAdded(0, msgspec.Raw(b"{}"), "openai_chat"),
        MediaOutput(1, picture, "gemini"),
        MediaOutput(2, msgspec.Raw(b"{}"), "openai_chat"),
        ResponseEnded("stop"),
    ]
    body, changes = gemini.write_response(events, CALL, id="i", created=1, model="m")
    parts = json.loads(body)["candidates"][0]["content"]["parts"]
    assert parts == [{"text": "x"}, json.loads(bytes(picture))]
    assert [(change.op, change.path) for change in changes] == [
        ("drop", "candidates[].citationMetadata"),
        ("drop", "candidates[].content"),
    ]


def test_log_probabilities_go_both_ways() -> None:
    entries = msgspec.Raw(
        b'[{"token":"x","logprob":-0.5,"bytes":[120],"top_logprobs":[{"token":"y","logprob":-1.5,"bytes":[121]}]}]'
    )
    events: list[Event] = [
        ResponseStarted("r", "m"),
        TextDelta(0, "x", logprobs=entries),
        ResponseEnded("stop"),
    ]
    for answer in (_whole(events), read_by_official_client(write_stream(events, CALL))[0]):
        result = (answer.candidates or [])[0].logprobs_result
        assert result is not None
        assert [token.log_probability for token in result.chosen_candidates or ()] == [-0.5]
        assert [[t.token for t in top.candidates or ()] for top in result.top_candidates or ()] == [["y"]]


def test_a_ping_is_nothing_that_the_official_client_reads() -> None:
    writer = gemini.GeminiStreamWriter(CALL, id="i", created=1, model="m")
    stream = b"".join(
        (
            writer.ping(),
            writer.send(TextDelta(0, "a")),
            writer.ping(),
            writer.ping(),
            writer.send(ResponseEnded("stop")),
            writer.end(),
        )
    )
    assert [chunk.text for chunk in read_by_official_client(stream)] == ["a", ""]


def test_a_stream_without_sse_is_one_array() -> None:
    array = gemini.GeminiArrayFraming()
    writer = gemini.GeminiStreamWriter(CALL, id="i", created=1, model="m")
    out = b""
    for event in WHOLE:
        out += array.feed(writer.send(event)) + array.feed(writer.ping())
    out += array.feed(writer.end()) + array.end()
    chunks = json.loads(out)
    assert [
        part["text"]
        for chunk in chunks
        for part in chunk["candidates"][0]["content"]["parts"]
        if part.get("text")
    ] == [
        "Two places, ",
        "two tools.",
        "Ich schaue ",
        "nach. 🌦",
    ]
    assert gemini.GeminiArrayFraming().end() == b"[]"
    assert gemini.GeminiArrayFraming.media_type == "application/json"


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (BadRequest("No.", param="contents[0]"), 400, "INVALID_ARGUMENT"),
        (UnknownModel("No model."), 404, "NOT_FOUND"),
        (PolicyDenied("No."), 403, "PERMISSION_DENIED"),
        (UpstreamAuth("Rejected.", upstream=UpstreamReply(status=401)), 502, "UNAVAILABLE"),
        (RateLimited("Slow.", retry_after=1.5), 429, "RESOURCE_EXHAUSTED"),
        (StatePinned("Sealed."), 503, "UNAVAILABLE"),
        (GatewayFault("Ours."), 500, "INTERNAL"),
    ],
)
def test_an_error_is_raised_by_the_official_client_with_its_status(
    error: ModelplexError, status: int, word: str
) -> None:
    code, body = gemini.write_error(error, request_id="req_1")
    assert code == status
    client = official_client(lambda _: httpx2.Response(code, content=body))
    with pytest.raises(errors.APIError) as raised:
        client.models.generate_content(model="m", contents="Hi")
    assert (raised.value.code, raised.value.status) == (status, word)
    written: dict[str, Any] = json.loads(body)["error"]
    assert written["code"] == status
    assert error.message in written["message"]
    details = {each["@type"].rpartition(".")[2]: each for each in written.get("details", [])}
    if error.retry_after is not None:
        assert details["RetryInfo"]["retryDelay"] == "1.5s"
    if error.param is not None:
        assert details["BadRequest"]["fieldViolations"][0]["field"] == error.param
    if isinstance(error, GatewayFault):
        assert "req_1" in written["message"]


def test_what_a_gemini_provider_said_of_the_clients_fault_goes_on_as_it_came() -> None:
    body = b'{"error": {"code": 400, "message": "Bad schema.", "status": "INVALID_ARGUMENT", "details": [{"x": 1}]}}'
    error = gemini.read_error(400, {}, body)
    assert gemini.write_error(error, request_id="r") == (400, body)
    foreign = BadRequest("Bad.", upstream=UpstreamReply(body=b'{"type":"error","error":"x"}'))
    assert b'"message":"Bad."' in gemini.write_error(foreign, request_id="r")[1]
