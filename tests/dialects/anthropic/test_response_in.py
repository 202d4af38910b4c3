"""Anthropic Messages, what comes back: answers and errors, against transcripts that the official
SDK's types accept.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message as SdkMessage
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

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
    ListedModel,
    ResponseEnded,
    ResponseFailed,
    ToolArgumentsDelta,
    UsageReported,
)
from modelplex.core.request import Attempt, ProviderRequest
from modelplex.dialects.anthropic import dialect
from tests.dialects.event_json import event_json, expect

TRANSCRIPTS = Path(__file__).resolve().parents[2] / "transcripts" / "anthropic_messages"
STREAMS = sorted(path.parent.name for path in TRANSCRIPTS.glob("*/stream.sse"))
ANSWERS = sorted(path.parent.name for path in TRANSCRIPTS.glob("*/answer.json"))

# What these streams hold is no answer, or not one that the official SDK has types for.
STRANGE = {"unknown_things", "empty"}
FAILING = {
    "broken_off",
    "overloaded_inside_200",
    "error_after_output",
    "empty",
}

ATTEMPT = Attempt(provider="anthropic", model="claude-sonnet-4-5", dialect="anthropic_messages", account="k1")
NOTHING = ProviderRequest(body=b"")


# --- what comes back


def _written(case: str) -> ProviderRequest:
    file = TRANSCRIPTS / case / "written.json"
    given: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return ProviderRequest(
        body=b"",
        aliases=given.get("aliases", {}),
        free=frozenset(given.get("free", [])),
        answer_tool=given.get("answer_tool"),
    )


def _read(data: bytes, *, piece: int, written: ProviderRequest = NOTHING) -> list[Event]:
    reader = dialect.AnthropicStreamReader(ATTEMPT, written)
    events: list[Event] = []
    for start in range(0, len(data), piece):
        events += reader.feed(data[start : start + piece])
    return [*events, *reader.end()]


def _stream(case: str) -> bytes:
    return (TRANSCRIPTS / case / "stream.sse").read_bytes()


def test_there_are_transcripts() -> None:
    assert len(STREAMS) >= 22
    assert len(ANSWERS) >= 7


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_gives_the_same_events_whole_and_byte_by_byte(case: str) -> None:
    data, written = _stream(case), _written(case)
    events = [event_json(event) for event in _read(data, piece=len(data), written=written)]
    expect(events, TRANSCRIPTS / case / "events.jsonl")
    for piece in (1, 7):
        assert [event_json(event) for event in _read(data, piece=piece, written=written)] == events
    crlf = data.replace(b"\n", b"\r\n")
    assert [event_json(event) for event in _read(crlf, piece=1, written=written)] == events


@pytest.mark.parametrize("case", ANSWERS)
def test_a_whole_answer_gives_its_events(case: str) -> None:
    body = (TRANSCRIPTS / case / "answer.json").read_bytes()
    SdkMessage.model_validate_json(body)
    events = [event_json(event) for event in dialect.read_response(body, ATTEMPT, _written(case))]
    expect(events, TRANSCRIPTS / case / "answer.jsonl")


@pytest.mark.parametrize("case", [case for case in STREAMS if case not in STRANGE])
def test_the_streams_are_what_the_official_client_reads(case: str) -> None:
    event_type: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    for line in _stream(case).decode().splitlines():
        data: dict[str, Any] = json.loads(line[6:]) if line.startswith("data: ") else {"type": "ping"}
        if data["type"] not in {"ping", "error"}:
            event_type.validate_python(data)


@pytest.mark.parametrize("case", [case for case in STREAMS if case not in FAILING])
def test_a_stream_cut_anywhere_before_its_end_mark_never_ends_well(case: str) -> None:
    data = _stream(case)
    end = data.index(b'{"type": "message_stop"}') + len(b'{"type": "message_stop"}')
    for stop in range(0, end, 3):
        events = _read(data[:stop], piece=max(1, stop), written=_written(case))
        assert isinstance(events[-1], ResponseFailed), stop
        assert not any(isinstance(event, ResponseEnded) for event in events)


@pytest.mark.parametrize("case", STREAMS)
def test_every_part_number_rises_and_nothing_follows_a_failure(case: str) -> None:
    events = _read(_stream(case), piece=5, written=_written(case))
    parts: list[int] = [part for event in events if isinstance(part := getattr(event, "part", None), int)]
    begun = list(dict.fromkeys(parts))
    assert begun == sorted(begun)
    ends = [i for i, event in enumerate(events) if isinstance(event, ResponseFailed | ResponseEnded)]
    assert ends == [len(events) - 1]


def test_usage_counts_every_cached_token_once_and_keeps_the_providers_own_object() -> None:
    events = _read(_stream("thinking_text_two_tools"), piece=50)
    (usage,) = [event.usage for event in events if isinstance(event, UsageReported)]
    assert (usage.fresh, usage.cache_read, usage.cache_write, usage.cache_write_1h) == (12, 2000, 300, 200)
    assert (usage.input, usage.output, usage.reasoning) == (2312, 89, 40)
    assert usage.raw is not None
    assert usage.raw_of == "anthropic_messages"
    assert json.loads(bytes(usage.raw))["cache_creation"] == {
        "ephemeral_5m_input_tokens": 100,
        "ephemeral_1h_input_tokens": 200,
    }


@pytest.mark.parametrize(
    ("body", "error", "told"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Busy"}}', Overloaded, "Busy"),
        (b'{"type":"message","content":[', UpstreamBroken, "unexpected form"),
        (b"<html>", UpstreamBroken, "unexpected form"),
        (b'{"type":"message"}', UpstreamBroken, "unexpected form"),
        (b'{"type":"message","content":[]}', UpstreamBroken, "no reason for its end"),
        (b'{"type":"message","content":[5],"stop_reason":"end_turn"}', UpstreamBroken, "unexpected form"),
    ],
)
def test_what_is_no_answer_fails(body: bytes, error: type[ModelplexError], told: str) -> None:
    (*_, failed) = dialect.read_response(body, ATTEMPT, NOTHING)
    assert isinstance(failed, ResponseFailed)
    assert type(failed.error) is error
    assert told in failed.error.message


@pytest.mark.parametrize(
    "data",
    [
        b"event: content_block_delta\ndata: {\n\n",
        b'event: content_block_delta\ndata: {"index":3,"delta":{"type":"text_delta","text":"x"}}\n\n',
        b"data: nonsense\n\n",
        b"data: \xff\xfe\n\n",
    ],
)
def test_a_stream_that_is_no_stream_of_messages_fails_at_once(data: bytes) -> None:
    (failed,) = dialect.AnthropicStreamReader(ATTEMPT, NOTHING).feed(data)
    assert isinstance(failed, ResponseFailed)
    assert isinstance(failed.error, UpstreamBroken)


def _blocks(reason: str, *blocks: tuple[dict[str, Any], list[dict[str, Any]]]) -> bytes:
    """A stream of these blocks, each its start and its deltas."""
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 1}}}
    ]
    for index, (start, deltas) in enumerate(blocks):
        told.append({"type": "content_block_start", "index": index, "content_block": start})
        told += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        told.append({"type": "content_block_stop", "index": index})
    told += [{"type": "message_delta", "delta": {"stop_reason": reason}}, {"type": "message_stop"}]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in told)


def _tool_use(*pieces: str, **start: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    deltas: list[dict[str, Any]] = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return {"type": "tool_use", "id": "t", "name": "patch", "input": {}, **start}, deltas


TEXT: tuple[dict[str, Any], list[dict[str, Any]]] = (
    {"type": "text", "text": ""},
    [{"type": "text_delta", "text": "Hi"}],
)


@pytest.mark.parametrize(
    ("reason", "blocks", "end"),
    [
        ("tool_use", (_tool_use('{"a":'), _tool_use("{}")), "tool_calls"),
        ("max_tokens", (_tool_use('{"a":'), _tool_use("{}")), "length"),
        ("max_tokens", (_tool_use(), TEXT), "tool_calls"),
        ("max_tokens", (TEXT, _tool_use()), "length"),
        ("tool_use", (_tool_use("[1]"),), "tool_calls"),
        ("end_turn", (TEXT, _tool_use()), "tool_calls"),
        ("stop_sequence", (TEXT, _tool_use("{}")), "tool_calls"),
        ("tool_use", (TEXT,), "stop"),
        ("refusal", (_tool_use('{"a":'),), "refusal"),
    ],
)
def test_the_end_is_told_by_the_whole_stream(reason: str, blocks: Any, end: str | None) -> None:
    last = _read(_blocks(reason, *blocks), piece=1000)[-1]
    assert (last.reason if isinstance(last, ResponseEnded) else None) == end
    assert isinstance(last, ResponseEnded if end else ResponseFailed)


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (_tool_use('{"input":', '"x"}'), ["x"]),
        (_tool_use("{}"), []),
        (_tool_use('{"input": "x'), []),
        (_tool_use('{"other": "x"}'), ['{"other": "x"}']),
        (_tool_use('{"input": 5}'), ['{"input": 5}']),
        (_tool_use(input={"input": "x"}), ["x"]),
    ],
)
def test_a_free_form_tools_text_is_unwrapped(block: Any, text: list[str]) -> None:
    events = _read(
        _blocks("max_tokens", block), piece=1000, written=ProviderRequest(body=b"", free=frozenset({"patch"}))
    )
    assert [event.text for event in events if isinstance(event, ToolArgumentsDelta)] == text


def test_input_in_the_start_yields_to_deltas() -> None:
    events = _read(_blocks("tool_use", _tool_use('{"b":2}', input={"a": 1})), piece=1000)
    assert [event.text for event in events if isinstance(event, ToolArgumentsDelta)] == ['{"b":2}']


# --- errors and models


def _error(type_: str, message: str = "Told.", **more: Any) -> bytes:
    error = {"type": type_, "message": message, **more}
    return json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, _error("invalid_request_error"), BadRequest, None),
        (
            400,
            _error("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
            BadRequest,
            "context_length_exceeded",
        ),
        (
            400,
            _error("invalid_request_error", "input length and `max_tokens` exceed context limit: 9"),
            BadRequest,
            "context_length_exceeded",
        ),
        (
            400,
            _error("invalid_request_error", "Your credit balance is too low to access the API"),
            UpstreamAuth,
            "upstream_auth",
        ),
        (401, _error("authentication_error"), UpstreamAuth, "upstream_auth"),
        (402, _error("billing_error"), UpstreamAuth, "upstream_auth"),
        (403, _error("permission_error"), UpstreamAuth, "upstream_auth"),
        (404, _error("not_found_error", "model: x"), UnknownModel, "model_not_found"),
        (404, b"<html>not found</html>", UpstreamBroken, "upstream_error"),
        (409, _error("conflict_error"), UpstreamBroken, "upstream_error"),
        (413, _error("request_too_large"), TooLarge, "request_too_large"),
        (413, b"<html>413</html>", TooLarge, "request_too_large"),
        (429, _error("rate_limit_error"), RateLimited, "rate_limit_exceeded"),
        (500, _error("api_error"), UpstreamBroken, "upstream_error"),
        (502, b"<html>bad gateway</html>", UpstreamBroken, "upstream_error"),
        (503, b"", Overloaded, "overloaded"),
        (504, _error("timeout_error"), UpstreamTimeout, "upstream_timeout"),
        (529, _error("overloaded_error"), Overloaded, "overloaded"),
        (529, _error("a_new_error"), Overloaded, "overloaded"),
        (302, b"", UpstreamBroken, "upstream_error"),
    ],
)
def test_an_error_becomes_one_of_ours(
    status: int, body: bytes, kind: type[ModelplexError], code: str | None
) -> None:
    error = dialect.read_error(status, {}, body)
    assert type(error) is kind
    assert error.code == code
    assert error.upstream.status == status
    assert error.upstream.body == (body if body.startswith(b"{") else None)
    assert error.retry_after is None
    assert "<html>" not in error.message


def test_an_errors_cause_and_waiting_time_are_kept() -> None:
    body = _error("rate_limit_error", details={"error_code": "spend_cap"})
    error = dialect.read_error(429, {"retry-after": "12.5"}, body)
    assert (error.upstream.type, error.upstream.code, error.retry_after) == (
        "rate_limit_error",
        "spend_cap",
        12.5,
    )
    assert dialect.read_error(429, {"retry-after-ms": "250", "retry-after": "9"}, body).retry_after == 0.25
    for unread in ("soon", "-1", "inf", "Wed, 21 Oct 2026 07:28:00 GMT"):
        assert dialect.read_error(429, {"retry-after": unread}, body).retry_after is None
    assert dialect.read_error(429, {}, _error("rate_limit_error", details="odd")).upstream.code is None


def test_the_models_are_listed_with_their_age() -> None:
    body = b'{"data":[{"type":"model","id":"a","display_name":"A","created_at":"2025-02-19T00:00:00Z"},{"id":"b","created_at":"odd"}],"has_more":false}'
    assert dialect.read_models(body) == [ListedModel("a", 1739923200), ListedModel("b", 0)]
    with pytest.raises(UpstreamBroken):
        dialect.read_models(b'{"models":[]}')
