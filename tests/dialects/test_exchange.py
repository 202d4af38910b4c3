"""Exchanges: what passes, what is translated, and what is known of either at the end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelplex.core.errors import ModelplexError, UpstreamBroken
from modelplex.core.request import Attempt, Endpoint
from modelplex.dialects import exchange as exchange_module
from modelplex.dialects.exchange import Exchange, OpaquePassthrough
from modelplex.dialects.parsed_request import ParsedRequest
from modelplex.dialects.raw_request import read_request

HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}


def exchange_of(
    client: str,
    provider: str,
    *,
    stream: bool = True,
    endpoint: Endpoint = "chat/completions",
    body: dict[str, Any] = HELLO,
) -> Exchange:
    ask = read_request(
        json.dumps({**body, "stream": stream}).encode(), endpoint=endpoint, dialect=client, model="m"
    )
    return ParsedRequest(ask, id="mpx-1", created=1).exchange(Attempt("p", "m", provider))


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "model": "m1", "choices": [choice]}).encode() + b"\n\n"


TEXT = _chunk({"content": "abcd"})
END = _chunk({}, "stop")


@pytest.mark.parametrize("client", ["openai_chat", "anthropic_messages", "openai_responses"])
def test_output_is_the_commit_point_and_usage_is_estimated(client: str) -> None:
    body = {"model": "m", "input": "Hi"} if client == "openai_responses" else HELLO
    exchange = exchange_of(client, "openai_chat", body=body)
    assert exchange.is_passthrough == (client == "openai_chat")
    exchange.feed(_chunk({"role": "assistant"}))
    assert not exchange.has_output
    assert exchange.observed.usage is None
    exchange.feed(TEXT)
    assert exchange.has_output
    exchange.feed(END)
    exchange.end()
    observed = exchange.observed
    assert exchange.complete
    assert observed.usage is not None
    assert (observed.usage.output, observed.usage.estimated, observed.model) == (1, True, "m1")


@pytest.mark.parametrize("client", ["openai_chat", "anthropic_messages"])
def test_a_response_that_ends_early_fails(client: str) -> None:
    exchange = exchange_of(client, "openai_chat")
    exchange.feed(TEXT)
    exchange.end()
    assert isinstance(exchange.failed, UpstreamBroken)
    assert not exchange.complete
    error = exchange.in_stream_error(exchange.failed, "r1")
    assert b"error" in error
    assert exchange.feed(TEXT) == b"", "nothing follows a failure"


@pytest.mark.parametrize("client", ["openai_chat", "anthropic_messages"])
def test_an_error_instead_of_a_whole_response_is_raised(client: str) -> None:
    exchange = exchange_of(client, "openai_chat", stream=False)
    with pytest.raises(ModelplexError, match="Busy"):
        exchange.whole(b'{"error":{"message":"Busy","code":503}}')


def test_a_whole_response_is_translated_with_usage() -> None:
    exchange = exchange_of("anthropic_messages", "openai_chat", stream=False)
    choice = {"index": 0, "message": {"role": "assistant", "content": "abcd"}, "finish_reason": "stop"}
    told = json.loads(exchange.whole(json.dumps({"id": "c", "choices": [choice]}).encode()))
    assert told["content"] == [{"type": "text", "text": "abcd"}]
    assert told["usage"]["output_tokens"] == 1
    assert exchange.observed.finish == "stop"


def test_a_stream_without_events_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "MAX_SILENCE", 100)
    exchange = exchange_of("anthropic_messages", "openai_chat")
    for _ in range(10):
        exchange.feed(b": keep-alive\n\n")
    assert isinstance(exchange.failed, UpstreamBroken)


def test_a_loss_is_reported_once() -> None:
    exchange = exchange_of("anthropic_messages", "openai_chat")
    annotation = {"type": "file_citation", "file_id": "f"}
    for _ in range(3):
        exchange.feed(_chunk({"content": "a", "annotations": [annotation]}))
    lost = [change for change in exchange.changes if change.path == "content[].citations"]
    assert len(lost) == 1


def _opaque() -> OpaquePassthrough:
    ask = read_request(
        b'{"model":"m","prompt":"a cat"}', endpoint="images/generations", dialect="openai_json"
    )
    return OpaquePassthrough(ask, Attempt("p", "m", "openai_json"))


def test_an_opaque_response_passes_and_its_usage_is_found() -> None:
    exchange = _opaque()
    image = b'{"data":[{"b64_json":"' + b"A" * 9000 + b'"}],'
    assert exchange.feed(image) == image
    assert exchange.has_output
    exchange.feed(b'"usage":{"input_tokens":3,"output_tokens":70,"total_tokens":73}}')
    usage = exchange.observed.usage
    assert usage is not None
    assert (usage.input, usage.output) == (3, 70)
    assert not exchange.complete, "only its framing tells"
    assert exchange.in_stream_error(UpstreamBroken("x"), "r") == b""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"error":{"message":"No images."}}', "The provider's answer is an error: No images."),
        (b'{"error":"No images."}', "The provider's answer is an error: No images."),
        (b' {"type":"error","error":{}}', "The provider's answer is an error."),
        (b'{"error":{"mess', "The provider's answer is an error."),
    ],
)
def test_an_error_inside_a_200_is_seen_before_anything_is_sent(data: bytes, message: str) -> None:
    exchange = _opaque()
    assert exchange.feed(data) == b""
    assert not exchange.has_output
    assert exchange.failed is not None
    assert exchange.failed.message == message


def test_null_is_no_error() -> None:
    exchange = _opaque()
    assert exchange.feed(b'{"error":null,"data":[]}') != b""
    assert exchange.failed is None
