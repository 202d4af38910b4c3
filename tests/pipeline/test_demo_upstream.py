from __future__ import annotations

import json

import pytest

from modelplex.config import ProviderConfig
from modelplex.core.request import RawRequest
from modelplex.dialects.raw_request import read_request
from modelplex.pipeline.demo_upstream import CannedResponse, DemoUpstream
from modelplex.providers.demo import MODELS
from modelplex.providers.types import TYPES


@pytest.fixture
def demo() -> DemoUpstream:
    return DemoUpstream(ProviderConfig(name="demo", type="demo"), TYPES["demo"], lambda: 1_000.0)


def asked(**more: object) -> RawRequest:
    body = {"model": MODELS[0], "messages": [{"role": "user", "content": "Hi"}], **more}
    return read_request(json.dumps(body).encode(), endpoint="chat/completions", dialect="openai_chat")


async def test_it_answers_whole_and_as_a_stream(demo: DemoUpstream) -> None:
    (attempt,) = demo.attempts(MODELS[0], "chat/completions")
    for raw, kind in ((asked(), b"application/json"), (asked(stream=True), b"text/event-stream")):
        response = await demo.open(raw, attempt, raw.body)
        assert response.header(b"content-type") == kind
        assert b"1000" in await response.body(limit=1_000_000)
    assert demo.prepared(asked(), attempt) is None
    assert demo.usual(attempt) is None


async def test_another_body_is_read_again(demo: DemoUpstream) -> None:
    (attempt,) = demo.attempts(MODELS[0], "chat/completions")
    response = await demo.open(asked(), attempt, asked(stream=True).body)
    assert response.header(b"content-type") == b"text/event-stream"


async def test_it_lists_its_models_and_hides_nothing(demo: DemoUpstream) -> None:
    assert [each.id for each in await demo.models()] == list(MODELS)
    assert demo.hide(b"x") == b"x"
    assert repr(demo) == "<DemoUpstream demo>"


async def test_a_canned_response_has_its_pieces_and_then_its_end() -> None:
    response = CannedResponse(b"text/event-stream", [b"a", b"b"])
    assert response.header(b"content-type") == b"text/event-stream"
    assert response.header(b"other") is None
    assert [await response.chunk() for _ in range(3)] == [b"a", b"b", b""]
    assert await CannedResponse(b"application/json", [b"a", b"b"]).body(limit=1) == b"ab"
    closed = CannedResponse(b"application/json", [b"a"])
    closed.close()
    assert await closed.chunk() == b""
