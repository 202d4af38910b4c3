"""Ollama's responses against transcripts, however they are cut."""

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from modelplex.core.errors import (
    BadRequest,
    ModelplexError,
    Overloaded,
    RateLimited,
    TooLarge,
    UnknownModel,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamTimeout,
)
from modelplex.core.events import (
    Event,
    ResponseEnded,
    ResponseFailed,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    Usage,
)
from modelplex.core.request import Attempt, ProviderRequest
from modelplex.dialects.ollama import dialect
from modelplex.dialects.ollama.response_in import OllamaStreamReader
from tests.dialects.event_json import event_json, expect

TRANSCRIPTS = Path(__file__).resolve().parents[2] / "transcripts" / "ollama"

CASES = sorted(path.parent.name for path in TRANSCRIPTS.glob("*/response.ndjson"))


ATTEMPT = Attempt(provider="local", model="llama3.2", dialect="ollama")

NOTHING = ProviderRequest(body=b"")


def _read(data: bytes, *, piece: int, written: ProviderRequest = NOTHING) -> list[dict[str, Any]]:
    reader = dialect.OllamaStreamReader(ATTEMPT, written)
    events: list[Event] = []
    for start in range(0, len(data), piece):
        events += reader.feed(data[start : start + piece])
    return [event_json(event) for event in [*events, *reader.end()]]


def test_there_are_transcripts() -> None:
    assert len(CASES) >= 9


@pytest.mark.parametrize("case", CASES)
def test_a_stream_gives_the_same_events_whole_and_byte_by_byte(case: str) -> None:
    data = (TRANSCRIPTS / case / "response.ndjson").read_bytes()
    events = _read(data, piece=len(data))
    expect(events, TRANSCRIPTS / case / "events.jsonl")
    assert _read(data, piece=1) == events
    assert _read(data, piece=7) == events


@pytest.mark.parametrize("case", [case for case in CASES if case not in {"error_line", "broken_off"}])
def test_a_stream_cut_anywhere_before_its_last_line_never_ends_well(case: str) -> None:
    data = (TRANSCRIPTS / case / "response.ndjson").read_bytes().rstrip(b"\n")
    for stop in range(len(data)):
        reader = dialect.OllamaStreamReader(ATTEMPT, NOTHING)
        events = [*reader.feed(data[:stop]), *reader.end()]
        assert isinstance(events[-1], ResponseFailed)
        assert not any(isinstance(event, ResponseEnded) for event in events)


@pytest.mark.parametrize(
    "line",
    [
        b"<html>",
        b"[]",
        b"null",
        b'{"message":{"content":7},"done":true}',
        b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":[1]}}]},"done":true}',
        b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":"{\\"a\\":"}}]},"done":true}',
        b"\xff\xfe",
        b'{"error":"boom"}',
        b'{"error":{"message":"boom"}}',
    ],
)
def test_what_is_no_answer_fails_streamed_and_whole(line: bytes) -> None:
    for events in (
        dialect.OllamaStreamReader(ATTEMPT, NOTHING).feed(line + b"\n"),
        dialect.read_response(line, ATTEMPT, NOTHING),
    ):
        (failed,) = [event for event in events if isinstance(event, ResponseFailed)]
        assert (b"boom" in line) == (failed.error.message == "Ollama: boom")
        assert isinstance(failed.error, UpstreamBroken)
        assert events[-1] is failed
        assert not any(isinstance(event, ToolCallStarted | ResponseEnded) for event in events)


def test_an_endless_line_fails_and_is_not_kept() -> None:
    reader = OllamaStreamReader(ATTEMPT, NOTHING, limit=50)
    assert reader.feed(b'{"message":{"content":"') == []
    (event,) = reader.feed(b"a" * 60)
    assert isinstance(event, ResponseFailed)
    assert reader.feed(b"a" * 60) == reader.end() == []
    assert repr(reader) == "<OllamaStreamReader 0 parts, over=True calls=0>"


def test_an_empty_stream_fails() -> None:
    (event,) = dialect.OllamaStreamReader(ATTEMPT, NOTHING).end()
    assert isinstance(event, ResponseFailed)


def test_a_whole_answer_is_the_same_events() -> None:
    body = b"""{
      "model": "qwen3", "created_at": "2026-08-21T10:00:00Z", "done": true, "done_reason": "stop",
      "message": {"role": "assistant", "content": "Hi", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
      "prompt_eval_count": 3, "eval_count": 2
    }"""
    told = [event_json(event) for event in dialect.read_response(body, ATTEMPT, NOTHING)]
    assert told == [
        {"ResponseStarted": {"model": "qwen3", "created": 1787306400}},
        {"TextDelta": {"part": 0, "text": "Hi"}},
        {"PartEnded": {"part": 0}},
        {"ToolCallStarted": {"part": 1, "id": "call_0", "name": "f"}},
        {"ToolArgumentsDelta": {"part": 1, "text": "{}"}},
        {"PartEnded": {"part": 1}},
        {"UsageReported": {"usage": _usage(fresh=3, output=2)}},
        {"ResponseEnded": {"reason": "tool_calls"}},
    ]


def _usage(*, fresh: int, output: int) -> dict[str, Any]:
    return cast("dict[str, Any]", msgspec.json.decode(msgspec.json.encode(Usage(fresh=fresh, output=output))))


def test_a_whole_answer_that_is_not_done_fails() -> None:
    events = dialect.read_response(b'{"message":{"content":"Hi"},"done":false}', ATTEMPT, NOTHING)
    assert isinstance(events[-1], ResponseFailed)


@pytest.mark.parametrize(
    ("arguments", "read"), [("null", "{}"), ('""', "{}"), ('"{\\"a\\": 1}"', '{"a": 1}'), ("{ }", "{ }")]
)
def test_arguments_are_always_the_text_of_an_object(arguments: str, read: str) -> None:
    body = (
        f'{{"message":{{"tool_calls":[{{"function":{{"name":"f","arguments":{arguments}}}}}]}},"done":true}}'
    )
    events = dialect.read_response(body.encode(), ATTEMPT, NOTHING)
    assert [event.text for event in events if isinstance(event, ToolArgumentsDelta)] == [read]


def test_a_free_form_tools_input_is_taken_out_of_its_wrapping() -> None:
    written = ProviderRequest(body=b"", aliases={"sh": "shell"}, free=frozenset({"sh"}))
    body = b'{"message":{"tool_calls":[{"function":{"name":"sh","arguments":{"input":"ls \\"a\\""}}}]},"done":true}'
    events = dialect.read_response(body, ATTEMPT, written)
    assert ToolCallStarted(0, "call_0", "shell", free=True) in events
    assert ToolArgumentsDelta(0, 'ls "a"') in events


def test_a_completion_is_read_like_a_chat() -> None:
    body = b'{"model":"m","response":"blue","done":true,"done_reason":"length","eval_count":1}'
    events = dialect.read_response(body, ATTEMPT, NOTHING)
    assert TextDelta(0, "blue") in events
    assert events[-1] == ResponseEnded("length")


def test_embeddings_keep_their_order_and_values() -> None:
    embedded = dialect.read_embedded(
        b'{"model":"all-minilm","embeddings":[[0.5,-1.25],[1,2]],"total_duration":1,"prompt_eval_count":8}'
    )
    assert embedded.vectors == ((0.5, -1.25), (1.0, 2.0))
    assert (embedded.model, embedded.usage.fresh, embedded.usage.estimated) == ("all-minilm", 8, False)
    with pytest.raises(UpstreamBroken):
        dialect.read_embedded(b'{"embedding":[1]}')


def test_models_are_listed_with_their_time() -> None:
    body = b'{"models":[{"name":"a:latest","model":"a:latest","modified_at":"2026-08-21T12:00:00.5+02:00"},{"name":"b"}]}'
    assert [(model.id, model.created) for model in dialect.read_models(body)] == [
        ("a:latest", 1787306400),
        ("b", 0),
    ]
    assert dialect.read_models(b'{"models":null}') == []
    with pytest.raises(UpstreamBroken):
        dialect.read_models(b"<html>")


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, b'{"error":"model is required"}', BadRequest, None),
        (
            400,
            b'{"error":"the input length exceeds the context length"}',
            BadRequest,
            "context_length_exceeded",
        ),
        (401, b'{"error":"unauthorized"}', UpstreamAuth, "upstream_auth"),
        (404, b'{"error":"model \'x\' not found"}', UnknownModel, "model_not_found"),
        (404, b"404 page not found", UpstreamBroken, "upstream_error"),
        (408, b"", UpstreamTimeout, "upstream_timeout"),
        (413, b'{"error":"too large"}', TooLarge, "request_too_large"),
        (429, b'{"error":"too many"}', RateLimited, "rate_limit_exceeded"),
        (500, b'{"error":"out of memory"}', UpstreamBroken, "upstream_error"),
        (502, b"\xff", UpstreamBroken, "upstream_error"),
        (
            503,
            b'{"error":"server busy, please try again.  maximum pending requests exceeded"}',
            Overloaded,
            "overloaded",
        ),
        (302, b"", UpstreamBroken, "upstream_error"),
    ],
)
def test_each_status_becomes_the_error_that_says_whose_fault_it_is(
    status: int, body: bytes, kind: type[ModelplexError], code: str | None
) -> None:
    error = dialect.read_error(status, {}, body)
    assert (type(error), error.code, error.upstream.status, error.upstream.body) == (kind, code, status, body)


def test_retry_after_is_as_given_and_never_made_up() -> None:
    busy = b'{"error":"busy"}'
    assert dialect.read_error(429, {"retry-after": "7"}, busy).retry_after == 7
    assert dialect.read_error(429, {"retry-after": "7", "retry-after-ms": "1500"}, busy).retry_after == 1.5
    assert dialect.read_error(429, {"retry-after": "soon"}, busy).retry_after is None
    assert dialect.read_error(429, {}, busy).retry_after is None
