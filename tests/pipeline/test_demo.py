"""The demo's responses in its dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import Endpoint, RawRequest
from modelplex.pipeline import demo

DIALECTS: dict[Endpoint, str] = {
    "chat/completions": "openai_chat",
    "completions": "openai_completions",
    "embeddings": "openai_embeddings",
    "moderations": "openai_json",
}


def _ask(endpoint: Endpoint, **body: Any) -> RawRequest:
    raw = json.dumps({"model": "demo", **body}).encode()
    return RawRequest(endpoint=endpoint, dialect=DIALECTS[endpoint], model="demo", body=raw, fields={})


def test_each_endpoint_has_its_own_response() -> None:
    chat = _ask("chat/completions", messages=[{"role": "user", "content": "Hi"}])
    status, body = demo.answer(chat, created=7)
    assert (status, json.loads(body)["object"], json.loads(body)["created"]) == (200, "chat.completion", 7)
    assert json.loads(body)["usage"]["estimated"] is True, "the usage object of the demo itself"
    status, body = demo.answer(_ask("completions", prompt="Hi"), created=7)
    assert (status, json.loads(body)["object"]) == (200, "text_completion")
    status, body = demo.answer(_ask("embeddings", input="Hi"), created=7)
    assert (status, json.loads(body)["object"]) == (200, "list")


@pytest.mark.parametrize(
    "ask",
    [_ask("chat/completions", messages=[]), _ask("embeddings", input=[]), _ask("moderations", input="x")],
)
def test_an_invalid_request_gets_an_error_of_the_dialect(ask: RawRequest) -> None:
    status, body = demo.answer(ask, created=7)
    assert status == 400
    assert json.loads(body)["error"].keys() == {"message", "type", "param", "code"}


def test_a_stream_ends_with_its_mark_and_usage_on_request() -> None:
    chat = _ask("chat/completions", messages=[{"role": "user", "content": "Hi"}])
    pieces = demo.stream(chat, created=7)
    assert pieces[-1] == b"data: [DONE]\n\n"
    assert b'"usage"' not in b"".join(pieces)
    counting = _ask("completions", prompt="Hi", stream_options={"include_usage": True})
    assert b'"usage":{' in b"".join(demo.stream(counting, created=7))


def test_what_has_no_stream_is_refused() -> None:
    with pytest.raises(BadRequest, match="does not stream embeddings"):
        demo.stream(_ask("embeddings", input="x"), created=7)
