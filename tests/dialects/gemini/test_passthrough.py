"""Observing Gemini responses that pass unchanged, however they are cut."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import UpstreamBroken
from modelplex.core.request import RawRequest
from modelplex.dialects.gemini import dialect

TRANSCRIPTS = Path(__file__).resolve().parents[2] / "transcripts" / "gemini"

STREAMS = sorted(path.parent.name for path in TRANSCRIPTS.glob("*/stream.sse"))

FAILING = {"broken_off", "overloaded_inside_200", "error_after_output", "malformed_call", "empty"}

ASK = RawRequest("generate_content", "gemini", "gemini-3-pro", b"{}", {}, stream=True)


def _stream(case: str) -> bytes:
    return (TRANSCRIPTS / case / "stream.sse").read_bytes()


def _sse(*chunks: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks)


def _chunk(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    return {"candidates": [{**candidate, **({"finishReason": finish} if finish else {})}], **more}


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
