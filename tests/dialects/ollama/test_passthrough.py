"""Observing Ollama responses that pass unchanged, however they are cut."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.core.errors import UpstreamBroken
from modelplex.core.request import RawRequest
from modelplex.dialects.dialect import PassthroughObserver
from modelplex.dialects.ollama import dialect as ollama
from modelplex.dialects.ollama.passthrough import OllamaObserver
from modelplex.dialects.raw_request import read_request

TRANSCRIPTS = Path(__file__).resolve().parents[2] / "transcripts"


def _ask(**fields: Any) -> RawRequest:
    return read_request(
        json.dumps({"model": "m", **fields}).encode(), endpoint="chat/completions", dialect="ollama"
    )


STREAM = (TRANSCRIPTS / "ollama" / "thinking_text_tool" / "response.ndjson").read_bytes()


def _watched(data: bytes, *, piece: int) -> tuple[bytes, PassthroughObserver]:
    observer = ollama.observer(_ask(messages=[]), withhold_usage=False)
    out = b"".join(observer.feed(data[start : start + piece]) for start in range(0, len(data), piece))
    return out + observer.end(), observer


@pytest.mark.parametrize("piece", [1, 13, 100_000])
def test_a_stream_passes_byte_for_byte_and_is_seen(piece: int) -> None:
    out, observer = _watched(STREAM, piece=piece)
    assert out == STREAM
    assert observer.failed is None
    assert observer.has_output
    assert observer.observed.finish == "stop"
    assert observer.observed.usage is not None


def test_a_first_line_without_output_commits_to_nothing() -> None:
    observer = ollama.observer(_ask(messages=[]), withhold_usage=False)
    observer.feed(b'{"model":"m","message":{"role":"assistant","content":""},"done":false}\n')
    assert not observer.has_output
    observer.feed(
        b'{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"a"}}]}}\n'
    )
    assert observer.has_output


@pytest.mark.parametrize("piece", [3, 1000])
def test_a_line_that_has_no_end_is_not_kept_for_ever(piece: int) -> None:
    observer = OllamaObserver(limit=64)
    data = b'{"response":"' + b"x" * 80 + b'"}\n'
    for start in range(0, len(data), piece):
        assert observer.feed(data[start : start + piece]) == b""
    assert isinstance(observer.failed, UpstreamBroken)


@pytest.mark.parametrize("begun", [True, False])
def test_an_error_line_is_a_failure_and_goes_on_only_behind_output(*, begun: bool) -> None:
    said = b'{"model":"m","message":{"content":"A"},"done":false}\n' if begun else b""
    out, observer = _watched(said + b'{"error":"out of memory"}\n{"done":true}\n', piece=9)
    assert observer.failed is not None
    assert "out of memory" in observer.failed.message
    assert observer.error_forwarded is begun
    assert out == said + (b'{"error":"out of memory"}\n' if begun else b"")


@pytest.mark.parametrize("data", [b'{"message":{"content":"A"}}\n', b"", b"not json\n", b"[]\n"])
def test_a_stream_without_its_last_line_is_broken(data: bytes) -> None:
    _, observer = _watched(data, piece=100)
    assert isinstance(observer.failed, UpstreamBroken)


def test_an_answer_that_was_not_counted_tells_its_length() -> None:
    _, observer = _watched(b'{"response":"four"}\n{"response":"","done":true}\n', piece=5)
    assert (observer.observed.usage, observer.observed.characters, observer.observed.finish) == (
        None,
        4,
        "stop",
    )


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        (b'{"model":"m","message":{"content":"A"},"done":true,"done_reason":"stop","eval_count":2}', False),
        (b'{"model":"m","response":"A","done":true}', False),
        (b'{"model":"m","message":{"content":"A"},"done":false}', True),
        (b'{"error":"no"}', True),
        (b"{", True),
        (b"[]", True),
    ],
)
def test_a_whole_answer_is_looked_at(body: bytes, *, broken: bool) -> None:
    seen = ollama.observe(body)
    assert (seen.error is not None) is broken
    assert (seen.finish is None) is broken


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        (b'{"model":"m","embeddings":[[1]],"prompt_eval_count":2}', False),
        (b'{"error":"no"}', True),
        (b"{}", True),
        (b"x", True),
    ],
)
def test_vectors_are_looked_at(body: bytes, *, broken: bool) -> None:
    seen = ollama.observe_embeddings(body)
    assert (seen.error is not None) is broken
    assert (seen.usage is None) is broken
