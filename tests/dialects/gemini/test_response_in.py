"""Gemini, what comes back: answers and errors against transcripts that the official client's types
accept, read and passed however they are cut.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from google.genai.types import GenerateContentResponse

from modelplex.core.errors import (
    ModelplexError,
    Overloaded,
    RateLimited,
    UpstreamAuth,
    UpstreamBroken,
)
from modelplex.core.events import (
    Event,
    OpaqueStateReceived,
    ResponseEnded,
    ResponseFailed,
    UsageReported,
)
from modelplex.core.request import Attempt, ProviderRequest
from modelplex.dialects.core.sse import SseReader
from modelplex.dialects.gemini import dialect
from tests.dialects.event_json import event_json, expect

TRANSCRIPTS = Path(__file__).resolve().parents[2] / "transcripts" / "gemini"
STREAMS = sorted(path.parent.name for path in TRANSCRIPTS.glob("*/stream.sse"))
ANSWERS = sorted(path.parent.name for path in TRANSCRIPTS.glob("*/answer.json"))
FAILING = {"broken_off", "overloaded_inside_200", "error_after_output", "malformed_call", "empty"}

ATTEMPT = Attempt(provider="google", model="gemini-3-pro", dialect="gemini", account="k1")
NOTHING = ProviderRequest(body=b"")


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
    events = [event_json(event) for event in _read(data, piece=max(1, len(data)), written=written)]
    expect(events, TRANSCRIPTS / case / "events.jsonl")
    for piece in (1, 7):
        assert [event_json(event) for event in _read(data, piece=piece, written=written)] == events
    lines = data.replace(b"\r\n", b"\n")
    assert [event_json(event) for event in _read(lines, piece=1, written=written)] == events


@pytest.mark.parametrize("case", ANSWERS)
def test_a_whole_answer_gives_its_events(case: str) -> None:
    body = (TRANSCRIPTS / case / "answer.json").read_bytes()
    GenerateContentResponse.model_validate_json(body)
    events = [event_json(event) for event in dialect.read_response(body, ATTEMPT, _written(case))]
    expect(events, TRANSCRIPTS / case / "answer.jsonl")


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
