"""Refusals that a connection sends itself are complete responses in OpenAI's error shape."""

from __future__ import annotations

import json

import pytest

from modelplex.server import connection_refusals
from modelplex.server.connection_refusals import APP_FAILED, invalid_http, refusal, too_many_connections
from modelplex.server.connection_shares import ShareRefused

CONSTANTS = {
    "INVALID_HTTP": (400, "invalid_http"),
    "TOO_MANY_PIPELINED": (400, "too_many_pipelined"),
    "SLOW_HEAD": (408, "request_timeout"),
    "SLOW_BODY": (408, "request_timeout"),
    "HEAD_TOO_LARGE": (431, "request_headers_too_large"),
    "TOO_MANY_HEADS": (503, "heads_full"),
}


def parsed(response: bytes) -> tuple[int, dict[str, str], dict[str, object]]:
    """Status, headers and error of a response; its length must be the declared one."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first.startswith("HTTP/1.1 ")
    assert int(headers["content-length"]) == len(body)
    return int(first.split()[1]), headers, json.loads(body)["error"]


@pytest.mark.parametrize("name", CONSTANTS)
def test_each_refusal_has_its_status_and_code_and_closes(name: str) -> None:
    status, headers, error = parsed(getattr(connection_refusals, name).response)
    assert (status, error["code"]) == CONSTANTS[name]
    refused = getattr(connection_refusals, name)
    assert (refused.status, refused.code, refused.message) == (status, error["code"], error["message"])
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/json"
    assert error["message"]
    assert error["param"] is None


def test_a_cause_is_for_the_record_alone() -> None:
    with_cause = invalid_http("HTTP/2.0")
    assert with_cause.cause == "HTTP/2.0"
    assert with_cause.response == connection_refusals.INVALID_HTTP.response


def test_text_that_is_not_ascii_keeps_its_length_in_bytes() -> None:
    _, _, error = parsed(refusal(400, message="größer", code="c").response)
    assert error["message"] == "größer"


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limit_exceeded"), (503, "overloaded")])
def test_a_refused_share_says_when_to_retry(status: int, kind: str) -> None:
    got, headers, error = parsed(too_many_connections(ShareRefused(status, "Too many.")).response)
    assert (got, error["type"], error["code"], error["message"]) == (
        status,
        kind,
        "too_many_connections",
        "Too many.",
    )
    assert headers["retry-after"] == "1"


def test_the_body_for_a_failed_app_has_the_same_shape() -> None:
    error = json.loads(APP_FAILED)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "gateway_error"
