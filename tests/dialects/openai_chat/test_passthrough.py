"""Looking on: what passes untouched, what is held against it, and what is seen."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelplex.core.errors import ModelplexError
from modelplex.dialects.core import passthrough
from modelplex.dialects.openai_chat import dialect as openai_chat
from modelplex.dialects.openai_chat.passthrough import ChatObserver
from tests.dialects.openai_chat.peer import (
    STREAMED,
    WHOLE,
    chunk,
    each_byte,
    make_ask,
    pieces,
    sse_bytes,
    transcript,
)


def observer(*, withhold: bool = False, **body: Any) -> ChatObserver:
    return openai_chat.observer(make_ask({"model": "m", "stream": True, **body}), withhold_usage=withhold)


def forwarded(looking: ChatObserver, chunks: list[bytes]) -> bytes:
    return b"".join(looking.feed(each) for each in chunks) + looking.end()


@pytest.mark.parametrize("case", STREAMED)
@given(st.data())
@settings(deadline=None)
def test_a_stream_passes_byte_for_byte_however_it_is_cut(case: str, data: st.DataObject) -> None:
    stream = transcript(case, "stream.sse")
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    for chunks in ([stream], pieces(stream, cuts)):
        looking = observer()
        assert forwarded(looking, chunks) == stream
        assert looking.failed is None
        assert looking.has_output
        assert looking.observed.finish is not None


@pytest.mark.parametrize("case", STREAMED)
@pytest.mark.parametrize("ending", [b"\n", b"\r", b"\r\n"])
def test_a_stream_passes_one_byte_at_a_time_with_any_line_ending(case: str, ending: bytes) -> None:
    stream = transcript(case, "stream.sse").replace(b"\r\n", b"\n").replace(b"\n", ending)
    looking = observer()
    assert forwarded(looking, each_byte(stream)).rstrip() == stream.rstrip()
    assert looking.failed is None
    assert looking.observed == _seen(stream)


def _seen(stream: bytes) -> object:
    whole = observer()
    forwarded(whole, [stream])
    return whole.observed


def test_what_a_stream_holds_is_seen() -> None:
    looking = observer()
    forwarded(looking, [transcript("openrouter_signed_reasoning", "stream.sse")])
    seen = looking.observed
    assert (seen.model, seen.finish) == ("anthropic/claude-sonnet-4.5", "stop")
    assert seen.usage is not None
    assert (seen.usage.fresh, seen.usage.cache_read, seen.usage.output) == (15, 4, 10)
    assert seen.opaque_states == ("EqRkc2Fm+/==", "Emwk\\n")
    signed = observer()
    forwarded(signed, [transcript("gemini_signature_and_index_zero", "stream.sse")])
    assert signed.observed.opaque_states == ("CiQB+/==",)


def test_only_whole_events_leave() -> None:
    looking = observer()
    event = sse_bytes(chunk({"content": "a"}))
    assert looking.feed(event[:-1]) == b""
    assert looking.feed(event[-1:] + event[:9]) == event
    assert looking.feed(event[9:]) == event


def test_usage_that_only_the_gateway_asked_for_is_taken_out_and_still_seen() -> None:
    counts = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    usage: dict[str, object] = {"id": "x", "choices": (), "usage": counts}
    before, after = sse_bytes(chunk({"content": "a"}, "stop")), sse_bytes("[DONE]")
    for chunks in ([before + sse_bytes(usage) + after], [before, sse_bytes(usage), after]):
        looking = observer(withhold=True)
        assert forwarded(looking, chunks) == before + after
        assert looking.observed.usage is not None
        assert looking.observed.usage.input == 3
    assert forwarded(observer(), [before + sse_bytes(usage) + after]) == before + sse_bytes(usage) + after


@pytest.mark.parametrize(
    "silent",
    [
        sse_bytes(chunk({"role": "assistant", "content": ""})),
        sse_bytes(chunk({"role": "assistant", "content": None, "tool_calls": []})),
        sse_bytes({"choices": [], "prompt_filter_results": []}),
        b": ping\n\n",
    ],
)
def test_what_carries_no_output_commits_nothing(silent: bytes) -> None:
    looking = observer()
    assert looking.feed(silent) == silent
    assert not looking.has_output


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"content": [{"type": "thinking"}]},
        {"refusal": "no"},
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]},
        {"function_call": {"name": "f"}},
        {"audio": {"id": "a"}},
    ],
)
def test_the_first_output_is_the_point_of_no_return(delta: dict[str, Any]) -> None:
    looking = observer()
    looking.feed(sse_bytes(chunk(delta)))
    assert looking.has_output


def test_an_error_before_output_is_held_back_and_after_it_passed_on() -> None:
    role, said = sse_bytes(chunk({"role": "assistant", "content": ""})), sse_bytes(chunk({"content": "a"}))
    broken = sse_bytes({"error": {"message": "overloaded", "type": "server_error", "code": 503}})
    early = observer()
    assert early.feed(role + broken) == role
    assert (type(early.failed).__name__, early.error_forwarded) == ("Overloaded", False)
    late = observer()
    assert late.feed(role + said + broken + said) == role + said + broken
    assert (type(late.failed).__name__, late.error_forwarded) == ("Overloaded", True)
    assert late.feed(said) == b""
    assert late.end() == b""


BROKEN: dict[str, tuple[bytes, bytes]] = {
    "no event at all": (b"", b""),
    "end without finish": (sse_bytes(chunk({"content": "a"})), b""),
    "done without finish": (sse_bytes(chunk({"content": "a"})), sse_bytes("[DONE]")),
    "done without a choice": (b"", sse_bytes("[DONE]")),
    "a choice without finish": (
        sse_bytes(chunk({}, "stop"), chunk({"content": "b"}, index=1)),
        sse_bytes("[DONE]"),
    ),
    "no JSON": (sse_bytes(chunk({"content": "a"})), sse_bytes("{oops")),
    "half a JSON at the end": (sse_bytes(chunk({"content": "a"})), b'data: {"choices":[{'),
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_end_that_is_none_is_not_passed_off_as_one(what: str) -> None:
    good, bad = BROKEN[what]
    for chunks in ([good + bad], [good, bad], each_byte(good + bad)):
        looking = observer()
        assert forwarded(looking, chunks) == good
        assert looking.failed is not None
        assert looking.failed.another_may_do_better
        assert not looking.error_forwarded
        assert looking.observed.error is looking.failed


@pytest.mark.parametrize("finish", ["length", "tool_calls", "stop"])
def test_arguments_that_are_not_json_pass(finish: str) -> None:
    """A limit cut them, or the model wrote them so."""
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x'}}
    stream = sse_bytes(chunk({"tool_calls": [call]}), chunk({}, finish), "[DONE]")
    looking = observer()
    assert forwarded(looking, [stream]) == stream
    assert looking.failed is None


def test_choices_that_were_asked_for_must_come_unless_the_provider_says_done() -> None:
    one = sse_bytes(chunk({"content": "a"}, "stop"))
    cut = observer(n=2)
    forwarded(cut, [one])
    assert cut.failed is not None
    said_so = observer(n=2)
    forwarded(said_so, [one + sse_bytes("[DONE]")])
    assert said_so.failed is None


def test_an_empty_answer_that_ends_is_an_answer() -> None:
    stream = sse_bytes(chunk({}, "stop"))
    looking = observer()
    assert forwarded(looking, [stream]) == stream
    assert (looking.failed, looking.has_output) == (None, False)


def test_the_last_event_is_made_whole() -> None:
    stream = sse_bytes(chunk({"content": "a"}, "stop"), "[DONE]")
    looking = observer()
    assert forwarded(looking, [stream[:-2]]) == stream
    assert looking.failed is None


def test_shapes_that_nobody_knows_pass() -> None:
    odd = sse_bytes({"choices": "none"}, chunk({"content": "a"}, "stop"))
    looking = observer()
    assert forwarded(looking, [odd]) == odd
    assert looking.failed is None
    lone = b'data: {"choices":[{"delta":{"content":"\\ud83d"},"finish_reason":"stop"}]}\n\n'
    looking = observer()
    assert forwarded(looking, [lone]) == lone
    assert looking.failed is None


def test_an_event_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passthrough, "LINE_CAP", 50)
    looking = observer()
    for _ in range(10):
        looking.feed(b"data: xxxxx")
    assert isinstance(looking.failed, ModelplexError)


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_answer_is_seen(case: str) -> None:
    seen = openai_chat.observe(transcript(case, "response.json"))
    assert seen.error is None
    assert seen.finish in {"stop", "tool_calls"}
    assert seen.usage is not None
    assert seen.usage.input == 19


def test_arguments_in_a_whole_answer_that_are_not_json_pass() -> None:
    answer = b'{"choices":[{"index":0,"message":{"tool_calls":[{"function":{"arguments":"{"}}]},"finish_reason":"%s"}]}'
    assert openai_chat.observe(answer % b"tool_calls").error is None
    assert openai_chat.observe(answer % b"length").error is None


def test_seals_of_a_whole_answer_are_seen() -> None:
    message = '{"reasoning_details":[{"signature":"s"},{"data":"d"}],"tool_calls":[{"function":{"arguments":"{}"},"extra_content":{"google":{"thought_signature":"g"}}}]}'
    body = f'{{"choices":[{{"message":{message},"finish_reason":"stop"}}]}}'
    assert openai_chat.observe(body.encode()).opaque_states == ("s", "d", "g")


def test_a_watch_tells_its_state() -> None:
    looking = observer()
    looking.feed(sse_bytes(chunk({"content": "a"}), chunk({}, "stop", index=1)))
    assert repr(looking) == "<ChatObserver open=[0] finished=[1] failed=None>"


@pytest.mark.parametrize(
    "said",
    [
        {"object": "error", "message": "Out of memory", "type": "InternalServerError", "code": 500},
        {"error": "Out of memory"},
        {"detail": "Out of memory"},
    ],
)
@pytest.mark.parametrize("has_output", [True, False])
def test_an_error_in_any_place_ends_the_stream_with_its_text(said: dict[str, Any], has_output: bool) -> None:
    looking = observer()
    if has_output:
        looking.feed(sse_bytes(chunk({"content": "Hi"})))
    passed = looking.feed(sse_bytes(said))
    assert isinstance(looking.failed, ModelplexError)
    assert "Out of memory" in looking.failed.message
    assert bool(passed) == looking.error_forwarded == has_output
    assert openai_chat.observe(json.dumps(said).encode()).error is not None


def test_moonshots_usage_is_seen_in_the_choice() -> None:
    last = chunk({}, "stop")
    last["choices"][0]["usage"] = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    looking = observer()
    looking.feed(sse_bytes(chunk({"content": "Hi"}), last) + b"data: [DONE]\n\n")
    usage = looking.observed.usage
    assert usage is not None
    assert (usage.fresh, usage.output) == (9, 2)
