"""Errors in OpenAI's words, read and written."""

from __future__ import annotations

import json

import pytest

from modelplex.core.errors import BadRequest, ClientError, GatewayFault, Overloaded, RateLimited, UpstreamAuth
from modelplex.dialects.openai_chat import dialect as openai_chat

OPENAI = b'{"error":{"message":"No.","type":"invalid_request_error","param":"messages","code":"bad_thing"}}'

CLASSES = {
    301: "UpstreamBroken",
    400: "BadRequest",
    401: "UpstreamAuth",
    402: "UpstreamAuth",
    403: "UpstreamAuth",
    404: "UnknownModel",
    408: "UpstreamTimeout",
    409: "UpstreamBroken",
    413: "TooLarge",
    415: "BadRequest",
    422: "BadRequest",
    429: "RateLimited",
    500: "UpstreamBroken",
    502: "UpstreamBroken",
    503: "Overloaded",
    529: "Overloaded",
}


@pytest.mark.parametrize("status", CLASSES)
def test_a_status_says_whose_fault_it_is(status: int) -> None:
    error = openai_chat.read_error(status, {}, OPENAI)
    assert type(error).__name__ == CLASSES[status]
    assert error.upstream.status == status
    if isinstance(error, ClientError):
        assert (error.status, error.message, error.param) == (status, "No.", "messages")
        assert openai_chat.write_error(error, request_id="r") == (status, OPENAI)


SHAPES = {
    b'{"error":"text alone"}': "text alone",
    b'{"detail":"from FastAPI"}': "from FastAPI",
    b'{"detail":[{"loc":["body","messages"],"msg":"field required"}]}': "body.messages: field required",
    b'{"object":"error","message":"from vLLM","type":"BadRequestError","code":400}': "from vLLM",
    b'[{"error":{"code":400,"message":"from Gemini","status":"INVALID_ARGUMENT"}}]': "from Gemini",
    b'{"type":"error","error":{"type":"x","message":"from Anthropic"}}': "from Anthropic",
    b"plain words": "plain words",
    b'"a string"': "a string",
}


@pytest.mark.parametrize("body", SHAPES)
def test_every_shape_of_error_gives_its_sentence_and_is_told_in_our_own(body: bytes) -> None:
    error = openai_chat.read_error(400, {}, body)
    assert isinstance(error, BadRequest)
    assert error.message == SHAPES[body]
    assert error.upstream.body is None
    status, written = openai_chat.write_error(error, request_id="r")
    assert status == 400
    told = json.loads(written)["error"]
    assert set(told) == {"message", "type", "param", "code"}
    assert told["message"] == SHAPES[body]


def test_a_page_instead_of_json_is_not_quoted() -> None:
    error = openai_chat.read_error(502, {}, b"<html><body>Bad gateway</body></html>")
    assert error.message == "The provider answered 502: (a page, not JSON)"
    assert type(openai_chat.read_error(404, {}, b"<html>")).__name__ == "UpstreamBroken"
    assert openai_chat.read_error(500, {}, b"").message == "The provider answered 500."


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_rejected_key_is_the_gateways_trouble_and_its_words_stay_here(status: int) -> None:
    body = b'{"error":{"message":"Incorrect API key provided: sk-abc","type":"x","param":null,"code":"invalid_api_key"}}'
    error = openai_chat.read_error(status, {}, body)
    assert isinstance(error, UpstreamAuth)
    shown, written = openai_chat.write_error(error, request_id="r")
    assert shown == 502
    assert b"sk-abc" not in written
    assert json.loads(written)["error"]["code"] == "upstream_auth"


@pytest.mark.parametrize(
    "body",
    [
        b'[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]',
        b'{"code":"invalid","error":"Incorrect API key provided: xa***"}',
    ],
)
def test_a_rejected_key_is_known_in_a_400_too(body: bytes) -> None:
    assert isinstance(openai_chat.read_error(400, {}, body), UpstreamAuth)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "20"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry-after": "soon", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-3"}, None),
        ({}, None),
    ],
)
def test_the_delay_is_the_providers_and_never_invented(
    headers: dict[str, str], seconds: float | None
) -> None:
    error = openai_chat.read_error(429, headers, OPENAI)
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


def test_gemini_tells_its_delay_in_the_body() -> None:
    detail = '{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"30s"}'
    body = f'[{{"error":{{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED","details":[{detail}]}}}}]'
    assert openai_chat.read_error(429, {}, body.encode()).retry_after == 30.0


def test_a_full_quota_keeps_its_name() -> None:
    body = b'{"error":{"message":"You exceeded your quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}'
    error = openai_chat.read_error(429, {}, body)
    status, written = openai_chat.write_error(error, request_id="r")
    assert (status, json.loads(written)["error"]["code"]) == (429, "insufficient_quota")


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens",
        "context length exceeded",
        "it exceeds the context size",
    ],
)
def test_a_context_that_is_too_long_is_named(message: str) -> None:
    error = openai_chat.read_error(400, {}, json.dumps({"error": message}).encode())
    assert error.code == "context_length_exceeded"


def test_a_redirect_names_the_host_alone() -> None:
    error = openai_chat.read_error(302, {"location": "https://login.example.com/x?token=secret"}, b"")
    assert "login.example.com" in error.message
    assert "secret" not in error.message
    assert openai_chat.read_error(302, {"location": "http://[bad"}, b"").upstream.status == 302


def test_our_own_fault_names_the_request() -> None:
    status, written = openai_chat.write_error(GatewayFault("Something broke."), request_id="req-1")
    assert status == 500
    assert "req-1" in json.loads(written)["error"]["message"]
    status, written = openai_chat.write_error(Overloaded("Busy."), request_id="req-1")
    assert (status, json.loads(written)["error"]["type"]) == (503, "overloaded")
