"""Gemini, what comes back: answers and errors against transcripts that the official client's types
accept, read and passed however they are cut.
"""

import json
import os
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from google.genai.types import GenerateContentResponse

from modelplex.core.errors import (
    BadRequest,
    ModelplexError,
    Overloaded,
    RateLimited,
    UnknownModel,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamTimeout,
)
from modelplex.core.events import (
    Event,
    ListedModel,
    OpaqueStateReceived,
    ResponseEnded,
    ResponseFailed,
    UsageReported,
)
from modelplex.core.request import Attempt, ProviderRequest, RawRequest
from modelplex.dialects.core.sse import SseReader
from modelplex.dialects.gemini import dialect

TRANSCRIPTS = Path(__file__).resolve().parents[2] / "transcripts" / "gemini"
STREAMS = sorted(path.parent.name for path in TRANSCRIPTS.glob("*/stream.sse"))
ANSWERS = sorted(path.parent.name for path in TRANSCRIPTS.glob("*/answer.json"))
# `UPDATE_TRANSCRIPTS=1 pytest tests/dialects/gemini/test_response_in.py` writes what is read today;
# read the diff.
UPDATE = bool(os.environ.get("UPDATE_TRANSCRIPTS"))
FAILING = {"broken_off", "overloaded_inside_200", "error_after_output", "malformed_call", "empty"}

ATTEMPT = Attempt(provider="google", model="gemini-3-pro", dialect="gemini", account="k1")
NOTHING = ProviderRequest(body=b"")
ASK = RawRequest("generate_content", "gemini", "gemini-3-pro", b"{}", {}, stream=True)


def _told(event: Event) -> dict[str, Any]:
    """An event as JSON, without the fields that say nothing."""
    if isinstance(event, ResponseFailed):
        error = event.error
        told = {"code": error.code, "type": error.upstream.type, "message": error.message}
        return {"ResponseFailed": {type(error).__name__: told}}
    default = {field.name: field.default for field in msgspec.structs.fields(event)}
    fields = {name: value for name, value in msgspec.structs.asdict(event).items() if value != default[name]}
    return {type(event).__name__: cast("dict[str, Any]", json.loads(msgspec.json.encode(fields)))}


def _written(case: str) -> ProviderRequest:
    file = TRANSCRIPTS / case / "written.json"
    given: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return ProviderRequest(body=b"", aliases=given.get("aliases", {}), free=frozenset(given.get("free", [])))


def _read(data: bytes, *, piece: int, written: ProviderRequest = NOTHING) -> list[Event]:
    reader = dialect.GeminiStreamReader(ATTEMPT, written)
    events: list[Event] = []
    for start in range(0, len(data), piece):
        events += reader.feed(data[start : start + piece])
    return [*events, *reader.end()]


def _expect(told: list[dict[str, Any]], file: Path) -> None:
    if UPDATE:
        file.write_text("".join(json.dumps(event, ensure_ascii=False) + "\n" for event in told))
    assert told == [json.loads(line) for line in file.read_text().splitlines()]


def _stream(case: str) -> bytes:
    return (TRANSCRIPTS / case / "stream.sse").read_bytes()


def _sse(*chunks: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks)


def _chunk(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    return {"candidates": [{**candidate, **({"finishReason": finish} if finish else {})}], **more}


# --- reading


def test_there_are_transcripts() -> None:
    assert len(STREAMS) >= 20
    assert len(ANSWERS) >= 6


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_gives_the_same_events_whole_and_byte_by_byte(case: str) -> None:
    data, written = _stream(case), _written(case)
    events = [_told(event) for event in _read(data, piece=max(1, len(data)), written=written)]
    _expect(events, TRANSCRIPTS / case / "events.jsonl")
    for piece in (1, 7):
        assert [_told(event) for event in _read(data, piece=piece, written=written)] == events
    lines = data.replace(b"\r\n", b"\n")
    assert [_told(event) for event in _read(lines, piece=1, written=written)] == events


@pytest.mark.parametrize("case", ANSWERS)
def test_a_whole_answer_gives_its_events(case: str) -> None:
    body = (TRANSCRIPTS / case / "answer.json").read_bytes()
    GenerateContentResponse.model_validate_json(body)
    events = [_told(event) for event in dialect.read_response(body, ATTEMPT, _written(case))]
    _expect(events, TRANSCRIPTS / case / "answer.jsonl")


@pytest.mark.parametrize("case", [case for case in STREAMS if case != "empty"])
def test_the_streams_are_what_the_official_client_reads(case: str) -> None:
    for event in SseReader().feed(_stream(case)):
        if not event.data.startswith(b'{"error"'):
            GenerateContentResponse.model_validate_json(event.data)


@pytest.mark.parametrize("case", [case for case in STREAMS if case not in FAILING | {"two_candidates"}])
def test_a_stream_cut_anywhere_before_its_finish_reason_never_ends_well(case: str) -> None:
    data = _stream(case)
    mark = b'"finishReason"' if b'"finishReason"' in data else b'"blockReason"'
    for stop in range(0, data.index(mark), 5):
        events = _read(data[:stop], piece=max(1, stop), written=_written(case))
        assert isinstance(events[-1], ResponseFailed), stop
        assert not any(isinstance(event, ResponseEnded) for event in events)


@pytest.mark.parametrize("case", STREAMS)
def test_every_part_number_rises_and_nothing_follows_a_failure(case: str) -> None:
    events = _read(_stream(case), piece=5, written=_written(case))
    parts: list[int] = [part for event in events if isinstance(part := getattr(event, "part", None), int)]
    begun = list(dict.fromkeys(parts))
    assert begun == sorted(begun)
    failures = [n for n, event in enumerate(events) if isinstance(event, ResponseFailed)]
    assert failures in ([], [len(events) - 1])
    assert bool(failures) == (case in FAILING)


def test_usage_counts_cached_and_thought_tokens_once_and_keeps_the_providers_own_object() -> None:
    events = _read(_stream("thought_text_two_calls"), piece=50)
    usage = [event.usage for event in events if isinstance(event, UsageReported)][-1]
    assert (usage.fresh, usage.cache_read, usage.input) == (100, 2000, 2100)
    assert (usage.output, usage.reasoning) == (71, 40)
    assert usage.raw is not None
    assert json.loads(bytes(usage.raw))["candidatesTokenCount"] == 31
    assert usage.raw_of == "gemini"


def test_tokens_of_tools_that_the_provider_ran_are_input() -> None:
    events = _read(_stream("code_that_it_ran"), piece=50)
    usage = [event.usage for event in events if isinstance(event, UsageReported)][-1]
    assert (usage.input, usage.output) == (39, 14)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "filter"),
        ("RECITATION", "filter"),
        ("LANGUAGE", "filter"),
        ("BLOCKLIST", "filter"),
        ("PROHIBITED_CONTENT", "filter"),
        ("SPII", "filter"),
        ("IMAGE_SAFETY", "filter"),
        ("MODEL_ARMOR", "filter"),
        ("OTHER", "filter"),
        ("A_REASON_OF_NEXT_YEAR", "filter"),
        ("CONTINUATION", "paused"),
    ],
)
def test_a_finish_reason_is_told_and_no_cut_passes_for_a_natural_end(reason: str, told: str) -> None:
    (*_, ended) = _read(_sse(_chunk({"text": "x"}, finish=reason)), piece=9)
    assert isinstance(ended, ResponseEnded)
    assert ended.reason == told


@pytest.mark.parametrize(
    "reason",
    [
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "PUP_LIMITED_DISABLED",
    ],
)
def test_a_reason_that_means_no_answer_fails(reason: str) -> None:
    (*_, failed) = _read(_sse(_chunk({"text": "x"}, finish=reason)), piece=9)
    assert isinstance(failed, ResponseFailed)
    assert isinstance(failed.error, UpstreamAuth if reason == "PUP_LIMITED_DISABLED" else UpstreamBroken)
    assert failed.error.another_may_do_better


@pytest.mark.parametrize("finish", ["STOP", "MAX_TOKENS"])
def test_whole_calls_are_the_reason_of_the_end(finish: str) -> None:
    call: dict[str, Any] = {"functionCall": {"name": "f", "args": {}}}
    (*_, ended) = _read(_sse(_chunk(call, finish=finish)), piece=9)
    assert isinstance(ended, ResponseEnded)
    assert ended.reason == "tool_calls"


def test_a_seal_names_its_maker() -> None:
    (sealed,) = [e for e in _read(_stream("ids_given"), piece=99) if isinstance(e, OpaqueStateReceived)]
    assert (sealed.state.format, sealed.state.data) == ("google-gemini-v1", "c2ln")
    assert (sealed.state.provider, sealed.state.account) == ("google", "k1")


@pytest.mark.parametrize(
    ("body", "error", "told"),
    [
        (b'{"error":{"code":503,"message":"Busy","status":"UNAVAILABLE"}}', Overloaded, "Busy"),
        (b'[{"error":{"code":429,"message":"Slow","status":"RESOURCE_EXHAUSTED"}}]', RateLimited, "Slow"),
        (b'{"candidates":[{"content":', UpstreamBroken, "unexpected form"),
        (b"<html>", UpstreamBroken, "unexpected form"),
        (b"{}", UpstreamBroken, "no candidates"),
        (b'{"candidates":[{"content":{"parts":[{"text":"x"}]}}]}', UpstreamBroken, "no finish reason"),
        (
            b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":[1]}}]},"finishReason":"STOP"}]}',
            UpstreamBroken,
            "unexpected form",
        ),
    ],
)
def test_what_is_no_answer_fails(body: bytes, error: type[ModelplexError], told: str) -> None:
    (*_, failed) = dialect.read_response(body, ATTEMPT, NOTHING)
    assert isinstance(failed, ResponseFailed)
    assert type(failed.error) is error
    assert told in failed.error.message
    seen = dialect.observe(body.removeprefix(b"[").removesuffix(b"]") if body.startswith(b"[") else body)
    assert (seen.error is None) == (b"functionCall" in body), "what passes is not taken apart"


# --- passing


def _pass(data: bytes, *, piece: int) -> tuple[bytes, Any]:
    observer = dialect.observer(ASK, withhold_usage=False)
    out = b"".join(observer.feed(data[start : start + piece]) for start in range(0, len(data), piece))
    return out + observer.end(), observer


@pytest.mark.parametrize("case", STREAMS)
@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_a_stream_passes_byte_for_byte_and_what_failed_is_known(case: str, piece: int) -> None:
    data = _stream(case)
    out, observer = _pass(data, piece=piece)
    assert (observer.failed is not None) == (case in FAILING)
    if case in FAILING and not observer.has_output:
        assert out == b""
    elif case == "last_blank_line_missing":
        assert out == data + b"\n\n"
    else:
        # A line that ends with CR LF may leave its LF behind, where nothing is to follow.
        assert out == data or (case in FAILING and out + b"\n" == data)
    assert observer.error_forwarded == (case in {"error_after_output", "malformed_call"})


def test_what_passed_is_seen() -> None:
    _, observer = _pass(_stream("thought_text_two_calls"), piece=30)
    seen = observer.observed
    assert (seen.model, seen.finish, seen.error) == ("gemini-3-pro", "STOP", None)
    assert seen.opaque_states == ("EuYBCuMBAb4+9vv/",)
    assert (seen.usage.input, seen.usage.output) == (2100, 71)
    whole = dialect.observe((TRANSCRIPTS / "thought_text_two_calls" / "answer.json").read_bytes())
    assert whole == msgspec.structs.replace(seen, usage=whole.usage)


def test_a_blocked_prompt_is_an_answer_without_output() -> None:
    _, observer = _pass(_stream("prompt_blocked"), piece=30)
    assert observer.observed.finish == "PROHIBITED_CONTENT"
    assert (observer.has_output, observer.failed) == (False, None)


def test_an_answer_that_broke_before_any_output_may_fail_over() -> None:
    data = _sse(_chunk({"text": ""}), _chunk(finish="MALFORMED_FUNCTION_CALL"))
    out, observer = _pass(data, piece=11)
    assert (out, observer.has_output, observer.error_forwarded) == (_sse(_chunk({"text": ""})), False, False)
    assert isinstance(observer.failed, UpstreamBroken)


def test_characters_are_told_where_nobody_counted() -> None:
    _, observer = _pass(_sse(_chunk({"text": "four"}, finish="STOP")), piece=8)
    assert (observer.observed.usage, observer.observed.characters) == (None, 4)


# --- errors, models, vectors, counts


def _error(code: int, message: str, status: str, *details: dict[str, Any]) -> bytes:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    return json.dumps({"error": {**error, "details": list(details)} if details else error}).encode()


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.074824224s"}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
BAD_FIELD = {
    "@type": "type.googleapis.com/google.rpc.BadRequest",
    "fieldViolations": [{"field": "contents[0].parts", "description": "empty"}],
}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, _error(400, "Request contains an invalid argument.", "INVALID_ARGUMENT"), BadRequest),
        (400, _error(400, "API key not valid.", "INVALID_ARGUMENT", BAD_KEY), UpstreamAuth),
        (400, _error(400, "User location is not supported.", "FAILED_PRECONDITION"), UpstreamAuth),
        (401, _error(401, "No.", "UNAUTHENTICATED"), UpstreamAuth),
        (402, _error(402, "Credit is used up.", "RESOURCE_EXHAUSTED"), UpstreamAuth),
        (403, _error(403, "No.", "PERMISSION_DENIED"), UpstreamAuth),
        (404, _error(404, "models/x is not found.", "NOT_FOUND"), UnknownModel),
        (404, b"<html>Not Found</html>", UpstreamBroken),
        (400, b"Bad Request", UpstreamBroken),
        (429, _error(429, "Quota.", "RESOURCE_EXHAUSTED", RETRY), RateLimited),
        (429, b"", RateLimited),
        (500, _error(500, "Internal.", "INTERNAL"), UpstreamBroken),
        (503, _error(503, "Overloaded.", "UNAVAILABLE"), Overloaded),
        (504, _error(504, "Late.", "DEADLINE_EXCEEDED"), UpstreamTimeout),
        (302, b"", UpstreamBroken),
    ],
)
def test_an_error_is_told_by_its_status_word(status: int, body: bytes, kind: type[ModelplexError]) -> None:
    error = dialect.read_error(status, {}, body)
    assert type(error) is kind
    assert error.upstream.status == status
    if body.startswith(b'{"error"'):
        assert error.upstream.body == body
        listed = dialect.read_error(status, {}, b"[" + body + b"]")
        assert (type(listed), listed.message) == (kind, error.message)
    if kind is UpstreamAuth:
        assert error.status == 502
        assert "API key that the gateway has" in error.message


def test_a_delay_is_taken_from_the_header_or_the_body_and_never_invented() -> None:
    body = _error(429, "Quota.", "RESOURCE_EXHAUSTED", RETRY)
    assert dialect.read_error(429, {}, body).retry_after == pytest.approx(34.074824224)
    assert dialect.read_error(429, {"retry-after": "7"}, body).retry_after == 7
    assert dialect.read_error(429, {}, _error(429, "Quota.", "RESOURCE_EXHAUSTED")).retry_after is None
    assert dialect.read_error(429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"").retry_after is None


def test_a_context_that_is_too_long_and_a_field_at_fault_are_named() -> None:
    long = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
    assert (
        dialect.read_error(400, {}, _error(400, long, "INVALID_ARGUMENT")).code == "context_length_exceeded"
    )
    assert (
        dialect.read_error(400, {}, _error(400, "No.", "INVALID_ARGUMENT", BAD_FIELD)).param
        == "contents[0].parts"
    )


def test_models_are_those_that_can_be_of_use() -> None:
    body = {
        "models": [
            {"name": "models/gemini-3-pro", "supportedGenerationMethods": ["generateContent", "countTokens"]},
            {"name": "models/gemini-embedding-001", "supportedGenerationMethods": ["embedContent"]},
            {"name": "models/veo-3", "supportedGenerationMethods": ["predictLongRunning"]},
            {"name": "models/new"},
        ]
    }
    found = dialect.read_models(json.dumps(body).encode())
    assert found == [
        ListedModel("models/gemini-3-pro"),
        ListedModel("models/gemini-embedding-001"),
        ListedModel("models/new"),
    ]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>", b'{"models":[{}]}'])
def test_what_is_no_list_of_models_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        dialect.read_models(body)


def test_vectors_are_read_in_order_from_both_forms() -> None:
    batch = b'{"embeddings":[{"values":[0.5,-1]},{"values":[2]}],"usageMetadata":{"promptTokenCount":6}}'
    found = dialect.read_embedded(batch)
    assert found.vectors == ((0.5, -1.0), (2.0,))
    assert (found.usage.input, found.usage.estimated) == (6, False)
    single = dialect.read_embedded(b'{"embedding":{"values":[1]}}')
    assert (single.vectors, single.usage.estimated) == (((1.0,),), True)
    assert dialect.observe_embeddings(batch).error is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{}", UpstreamBroken),
        (b"<html>", UpstreamBroken),
        (b'{"embedding":{"values":["x"]}}', UpstreamBroken),
        (b'{"error":{"code":429,"message":"Slow","status":"RESOURCE_EXHAUSTED"}}', RateLimited),
    ],
)
def test_what_holds_no_vectors_is_refused(body: bytes, error: type[ModelplexError]) -> None:
    with pytest.raises(error):
        dialect.read_embedded(body)


def test_a_count_is_read() -> None:
    assert dialect.read_count(b'{"totalTokens":31,"promptTokensDetails":[]}') == 31
    with pytest.raises(UpstreamBroken):
        dialect.read_count(b"{}")
