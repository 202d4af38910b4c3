"""Errors of Gemini providers become errors of our tree."""

import json
from typing import Any

import pytest

from modelplex.core.errors import (
    BadRequest,
    ModelplexError,
    Overloaded,
    RateLimited,
    UnknownModel,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamTimeout,
)
from modelplex.dialects.gemini import dialect


def _error(code: int, message: str, status: str, *details: dict[str, Any]) -> bytes:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    return json.dumps({"error": {**error, "details": list(details)} if details else error}).encode()


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.074824224s"}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
BAD_FIELD = {
    "@type": "type.googleapis.com/google.rpc.BadRequest",
    "fieldViolations": [{"field": "contents[0].parts", "description": "empty"}],
}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, _error(400, "Request contains an invalid argument.", "INVALID_ARGUMENT"), BadRequest),
        (400, _error(400, "API key not valid.", "INVALID_ARGUMENT", BAD_KEY), UpstreamAuth),
        (400, _error(400, "User location is not supported.", "FAILED_PRECONDITION"), UpstreamAuth),
        (401, _error(401, "No.", "UNAUTHENTICATED"), UpstreamAuth),
        (402, _error(402, "Credit is used up.", "RESOURCE_EXHAUSTED"), UpstreamAuth),
        (403, _error(403, "No.", "PERMISSION_DENIED"), UpstreamAuth),
        (404, _error(404, "models/x is not found.", "NOT_FOUND"), UnknownModel),
        (404, b"<html>Not Found</html>", UpstreamBroken),
        (400, b"Bad Request", UpstreamBroken),
        (429, _error(429, "Quota.", "RESOURCE_EXHAUSTED", RETRY), RateLimited),
        (429, b"", RateLimited),
        (500, _error(500, "Internal.", "INTERNAL"), UpstreamBroken),
        (503, _error(503, "Overloaded.", "UNAVAILABLE"), Overloaded),
        (504, _error(504, "Late.", "DEADLINE_EXCEEDED"), UpstreamTimeout),
        (302, b"", UpstreamBroken),
    ],
)
def test_an_error_is_told_by_its_status_word(status: int, body: bytes, kind: type[ModelplexError]) -> None:
    error = dialect.read_error(status, {}, body)
    assert type(error) is kind
    assert error.upstream.status == status
    if body.startswith(b'{"error"'):
        assert error.upstream.body == body
        listed = dialect.read_error(status, {}, b"[" + body + b"]")
        assert (type(listed), listed.message) == (kind, error.message)
    if kind is UpstreamAuth:
        assert error.status == 502
        assert "API key that the gateway has" in error.message


def test_a_delay_is_taken_from_the_header_or_the_body_and_never_invented() -> None:
    body = _error(429, "Quota.", "RESOURCE_EXHAUSTED", RETRY)
    assert dialect.read_error(429, {}, body).retry_after == pytest.approx(34.074824224)
    assert dialect.read_error(429, {"retry-after": "7"}, body).retry_after == 7
    assert dialect.read_error(429, {}, _error(429, "Quota.", "RESOURCE_EXHAUSTED")).retry_after is None
    assert dialect.read_error(429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"").retry_after is None


def test_a_context_that_is_too_long_and_a_field_at_fault_are_named() -> None:
    long = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
    assert (
        dialect.read_error(400, {}, _error(400, long, "INVALID_ARGUMENT")).code == "context_length_exceeded"
    )
    assert (
        dialect.read_error(400, {}, _error(400, "No.", "INVALID_ARGUMENT", BAD_FIELD)).param
        == "contents[0].parts"
    )
