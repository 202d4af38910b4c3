"""Looking on while Responses answers pass: what leaves, what is held against them, and what is
seen.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelplex.core.errors import RateLimited, UpstreamBroken
from modelplex.dialects.openai_responses import dialect as openai_responses
from modelplex.dialects.openai_responses.dialect import ResponsesObserver
from tests.dialects.openai_chat.peer import each_byte, pieces
from tests.dialects.openai_responses.peer import GOOD, WHOLE, make_ask, sse_bytes, transcript


def observer() -> ResponsesObserver:
    return openai_responses.observer(make_ask(stream=True), withhold_usage=True)


def forwarded(looking: ResponsesObserver, chunks: list[bytes]) -> bytes:
    return b"".join(looking.feed(each) for each in chunks) + looking.end()


def at_once(stream: bytes) -> list[bytes]:
    return [stream]


@pytest.mark.parametrize("case", GOOD)
@given(st.data())
@settings(deadline=None, max_examples=20)
def test_a_stream_passes_byte_for_byte_however_it_is_cut(case: str, data: st.DataObject) -> None:
    stream = transcript(case)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    for chunks in ([stream], pieces(stream, cuts)):
        looking = observer()
        assert forwarded(looking, chunks) == stream
        assert looking.failed is None
        assert looking.has_output
        assert looking.observed.finish is not None


@pytest.mark.parametrize("case", ["text", "reasoning_text_two_calls"])
@pytest.mark.parametrize("ending", [b"\n", b"\r", b"\r\n"])
def test_a_stream_passes_one_byte_at_a_time_with_any_line_ending(case: str, ending: bytes) -> None:
    stream = transcript(case).replace(b"\n", ending)
    looking = observer()
    assert forwarded(looking, each_byte(stream)).rstrip() == stream.rstrip()
    assert looking.failed is None
    assert (looking.observed.finish, looking.observed.opaque_states) == (
        "completed",
        _seen(stream).opaque_states,
    )


def _seen(stream: bytes) -> Any:
    looking = observer()
    forwarded(looking, [stream])
    return looking.observed


def test_what_a_stream_holds_is_seen() -> None:
    seen = _seen(transcript("reasoning_text_two_calls"))
    assert (seen.model, seen.finish, seen.error) == ("gpt-5.1-2025-11-13", "completed", None)
    assert (seen.usage.fresh, seen.usage.cache_read, seen.usage.output, seen.usage.reasoning) == (
        20,
        100,
        60,
        30,
    )
    assert seen.opaque_states == ("gAAAAABo-enc+/==",)
    assert _seen(transcript("cut_at_the_limit")).finish == "max_output_tokens"


def test_what_was_not_counted_is_told_by_its_length() -> None:
    stream = sse_bytes(
        {"type": "response.output_text.delta", "delta": "four"},
        {"type": "response.function_call_arguments.delta", "delta": "{}"},
        {"type": "response.completed", "response": {"model": "m", "status": "completed", "output": []}},
    )
    seen = _seen(stream)
    assert (seen.usage, seen.characters) == (None, 6)


def test_only_whole_events_leave() -> None:
    looking = observer()
    event = sse_bytes({"type": "response.output_text.delta", "delta": "a"})
    assert looking.feed(event[:-1]) == b""
    assert looking.feed(event[-1:] + event[:9]) == event
    assert looking.feed(event[9:]) == event


@pytest.mark.parametrize(
    "silent",
    [
        {"type": "response.created", "response": {"id": "r", "output": []}},
        {"type": "response.in_progress", "response": {"id": "r"}},
        {"type": "response.queued", "response": {"id": "r"}},
        {"type": "response.output_item.added", "item": {"type": "reasoning", "summary": []}},
        {"type": "response.output_item.added", "item": {"type": "message", "content": []}},
        {"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}},
        {"type": "response.reasoning_summary_part.added", "part": {"type": "summary_text", "text": ""}},
    ],
)
def test_what_carries_no_output_commits_nothing(silent: dict[str, Any]) -> None:
    looking = observer()
    assert looking.feed(sse_bytes(silent)) == sse_bytes(silent)
    assert not looking.has_output
    assert looking.feed(b": ping\n\n") == b": ping\n\n"
    assert not looking.has_output


@pytest.mark.parametrize(
    "said",
    [
        {"type": "response.output_text.delta", "delta": "a"},
        {"type": "response.refusal.delta", "delta": "a"},
        {"type": "response.reasoning_summary_text.delta", "delta": "a"},
        {"type": "response.function_call_arguments.delta", "delta": "{"},
        {"type": "response.output_item.added", "item": {"type": "function_call", "name": "f"}},
        {"type": "response.output_item.added", "item": {"type": "web_search_call", "id": "ws"}},
        {"type": "response.output_item.done", "item": {"type": "reasoning", "encrypted_content": "x"}},
        {"type": "response.web_search_call.in_progress", "item_id": "ws"},
        {"type": "response.something_new", "data": 1},
    ],
)
def test_the_first_output_is_the_point_of_no_return(said: dict[str, Any]) -> None:
    looking = observer()
    looking.feed(sse_bytes(said))
    assert looking.has_output


@pytest.mark.parametrize("cut", [each_byte, at_once])
def test_a_failure_before_any_output_is_not_forwarded(cut: Any) -> None:
    looking = observer()
    out = forwarded(looking, cut(transcript("failed_before_output")))
    assert isinstance(looking.failed, RateLimited)
    assert not looking.error_forwarded
    assert b"response.failed" not in out
    assert looking.feed(transcript("text")) == b""


@pytest.mark.parametrize("cut", [each_byte, at_once])
def test_a_failure_after_output_is_forwarded_and_ends_it(cut: Any) -> None:
    stream = transcript("failed_after_output")
    looking = observer()
    assert (
        forwarded(looking, cut(stream + sse_bytes({"type": "response.completed", "response": {}}))) == stream
    )
    assert isinstance(looking.failed, RateLimited)
    assert looking.error_forwarded


def test_an_error_event_is_a_failure() -> None:
    looking = observer()
    forwarded(looking, [transcript("error_event")])
    assert isinstance(looking.failed, UpstreamBroken)
    assert "The server had an error." in looking.failed.message


def test_a_stream_without_its_last_event_is_no_whole_answer() -> None:
    stream = transcript("broken_off")
    looking = observer()
    assert forwarded(looking, [stream]) == stream
    assert isinstance(looking.failed, UpstreamBroken)
    assert not looking.error_forwarded
    assert looking.observed.error is looking.failed


def test_arguments_that_are_not_json_pass() -> None:
    """The model wrote them so; its agent tells it."""
    looking = observer()
    assert forwarded(looking, [transcript("half_arguments")]) == transcript("half_arguments")
    assert looking.failed is None


def test_what_is_not_json_stops_the_stream_and_what_is_unknown_passes() -> None:
    broken = observer()
    assert broken.feed(b"data: <html>\n\n") == b""
    assert isinstance(broken.failed, UpstreamBroken)
    odd = b'data: {"type":["x"]}\n\n'
    unknown = observer()
    assert unknown.feed(odd) == odd
    assert unknown.failed is None


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_answer_is_looked_at(case: str) -> None:
    seen = openai_responses.observe(transcript(case, "response.json"))
    stream = _seen(transcript(case))
    assert seen.error is None
    assert (seen.model, seen.finish, seen.opaque_states) == (
        stream.model,
        stream.finish,
        stream.opaque_states,
    )
    assert seen.usage == stream.usage or (seen.usage is not None and stream.usage.input == seen.usage.input)


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"output":null}', b'{"status":"failed","output":[]}', b'{"error":{"message":"No."}}'],
)
def test_what_is_no_answer_is_told(body: bytes) -> None:
    assert openai_responses.observe(body).error is not None


def test_a_whole_answer_that_was_not_counted_is_told_by_its_length() -> None:
    answer = json.loads(transcript("text", "response.json"))
    answer["usage"] = None
    seen = openai_responses.observe(json.dumps(answer).encode())
    assert (seen.usage, seen.characters) == (None, len("Grüße 😀!"))
