"""Messages answers that pass untouched: every byte leaves as it came, and what is no answer does
not pass for one.
"""

import json
from typing import Any

import pytest

from modelplex.core.errors import Overloaded, UpstreamBroken
from modelplex.dialects.anthropic import dialect as anthropic
from modelplex.dialects.anthropic.passthrough import AnthropicObserver
from tests.dialects.anthropic.peer import TRANSCRIPTS, make_ask, sse_bytes

STREAMS = TRANSCRIPTS / "anthropic_messages"
CASES = sorted(path.name for path in STREAMS.iterdir() if (path / "stream.sse").exists())
FAILS = {
    "broken_off",
    "empty",
    "error_after_output",
    "overloaded_inside_200",
}


def _observer() -> AnthropicObserver:
    return anthropic.observer(make_ask(stream=True), withhold_usage=False)


def _passed(data: bytes, piece: int = 1 << 20) -> tuple[bytes, AnthropicObserver]:
    observer = _observer()
    out = b"".join([observer.feed(data[start : start + piece]) for start in range(0, len(data), piece)])
    return out + observer.end(), observer


def _stream(case: str) -> bytes:
    return (STREAMS / case / "stream.sse").read_bytes()


def _event(type_: str, **members: Any) -> dict[str, Any]:
    return {"type": type_, **members}


START = _event("message_start", message={"model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}})
TEXT = _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
WORD = _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"})
STOP = _event("content_block_stop", index=0)
ENDED = _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9})
OVER = _event("message_stop")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_every_stream_passes_byte_for_byte_or_fails_however_it_is_cut(case: str, newline: bytes) -> None:
    data = _stream(case).replace(b"\n", newline)
    for piece in (1, 7, 64, 1 << 20):
        out, observer = _passed(data, piece)
        assert (observer.failed is not None) == (case in FAILS)
        if observer.failed is None:
            assert out == data
        else:
            assert data.startswith(out)
            assert b"message_stop" not in out


@pytest.mark.parametrize("case", [case for case in CASES if (STREAMS / case / "answer.json").exists()])
def test_a_whole_answer_shows_what_its_stream_shows(case: str) -> None:
    _, observer = _passed(_stream(case))
    seen = anthropic.observe((STREAMS / case / "answer.json").read_bytes())
    if observer.failed is None and seen.error is None:
        assert (observer.observed.model, observer.observed.finish, observer.observed.opaque_states) == (
            seen.model,
            seen.finish,
            seen.opaque_states,
        )


def test_output_begins_with_what_a_block_says_and_not_with_its_frame() -> None:
    observer = _observer()
    for event, has_output in ((START, False), (_event("ping"), False), (TEXT, False), (WORD, True)):
        data = sse_bytes(event)
        assert observer.feed(data) == data
        assert observer.has_output is has_output


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_use", "id": "a", "name": "b", "input": {}},
        {"type": "redacted_thinking", "data": "EmwK"},
        {"type": "text", "text": "full"},
        {"type": "block_of_tomorrow"},
    ],
)
def test_a_block_that_says_something_by_beginning_is_output(block: dict[str, Any]) -> None:
    observer = _observer()
    observer.feed(sse_bytes(START, _event("content_block_start", index=0, content_block=block)))
    assert observer.has_output


def test_usage_is_what_was_said_last_of_each_count() -> None:
    _, observer = _passed(sse_bytes(START, TEXT, WORD, STOP, ENDED, OVER))
    usage = observer.observed.usage
    assert usage is not None
    assert (usage.fresh, usage.output) == (3, 9)
    assert (observer.observed.model, observer.observed.finish) == ("claude", "end_turn")


def test_the_length_of_an_answer_without_usage_is_told() -> None:
    start = _event("message_start", message={"model": "claude"})
    ended = _event("message_delta", delta={"stop_reason": "end_turn"})
    _, observer = _passed(sse_bytes(start, TEXT, WORD, WORD, STOP, ended, OVER))
    assert (observer.observed.usage, observer.observed.characters) == (None, 4)


def test_an_error_before_any_output_is_withheld_and_one_after_it_goes_on() -> None:
    error = _event("error", error={"type": "overloaded_error", "message": "Busy"})
    out, observer = _passed(sse_bytes(START, error, OVER))
    assert (out, observer.error_forwarded) == (sse_bytes(START), False)
    assert isinstance(observer.failed, Overloaded)
    out, observer = _passed(sse_bytes(START, TEXT, WORD, error, OVER))
    assert (out, observer.error_forwarded) == (sse_bytes(START, TEXT, WORD, error), True)
    assert isinstance(observer.failed, Overloaded)


def _call(pieces: list[str], reason: str) -> bytes:
    start: dict[str, Any] = {"type": "tool_use", "id": "a", "name": "b", "input": {}}
    return sse_bytes(
        START,
        _event("content_block_start", index=0, content_block=start),
        *(
            _event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": piece})
            for piece in pieces
        ),
        STOP,
        _event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 2}),
        OVER,
    )


def test_arguments_pass_whether_they_are_json_or_not() -> None:
    _, observer = _passed(_call(['{"x":', "1}"], "tool_use"))
    assert observer.failed is None
    _, observer = _passed(_call([], "tool_use"))
    assert observer.failed is None
    _, observer = _passed(_call(['{"x":'], "max_tokens"))
    assert observer.failed is None
    out, observer = _passed(_call(['{"x":'], "tool_use"))
    assert observer.failed is None
    assert b"message_delta" in out


def test_a_stream_without_its_end_mark_is_broken() -> None:
    for events in (
        (START, TEXT, WORD, STOP, ENDED),
        (START, TEXT, WORD),
        (),
        (START, TEXT, WORD, STOP, OVER),
    ):
        _, observer = _passed(sse_bytes(*events))
        assert isinstance(observer.failed, UpstreamBroken)


def test_an_end_without_its_blank_line_is_an_end() -> None:
    data = sse_bytes(START, TEXT, WORD, STOP, ENDED, OVER)
    out, observer = _passed(data[:-2])
    assert (out, observer.failed) == (data, None)


def test_what_is_not_json_is_no_stream_and_what_is_not_known_passes() -> None:
    _, observer = _passed(sse_bytes(START, TEXT, WORD) + b"data: <html>\n\n")
    assert isinstance(observer.failed, UpstreamBroken)
    odd = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":"zero"}\n\n'
    data = sse_bytes(START) + odd + sse_bytes(_event("thing_of_tomorrow", index=None), ENDED, OVER)
    out, observer = _passed(data)
    assert (out, observer.failed) == (data, None)


def test_half_of_a_surrogate_pair_passes() -> None:
    odd = sse_bytes(_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "X"}))
    data = sse_bytes(START, TEXT) + odd.replace(b"X", b"\\ud83d") + sse_bytes(STOP, ENDED, OVER)
    out, observer = _passed(data, piece=300)
    assert (out, observer.failed, observer.has_output) == (data, None, True)


# --- whole answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Busy"}}', Overloaded),
        (b'{"type":"message","content":[', UpstreamBroken),
        (b"<html>", UpstreamBroken),
        (b"{}", UpstreamBroken),
        (b'{"content":[]}', UpstreamBroken),
    ],
)
def test_what_is_no_whole_answer_says_why(body: bytes, error: type[Exception]) -> None:
    assert isinstance(anthropic.observe(body).error, error)


def test_a_whole_answer_shows_its_seals_and_its_length() -> None:
    body = {
        "model": "claude",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "EqQB"},
            {"type": "redacted_thinking", "data": "EmwK"},
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "a", "name": "b", "input": {"x": 1}},
        ],
        "stop_reason": "tool_use",
    }
    seen = anthropic.observe(json.dumps(body).encode())
    assert (seen.error, seen.opaque_states, seen.characters) == (None, ("EqQB", "EmwK"), 11)
