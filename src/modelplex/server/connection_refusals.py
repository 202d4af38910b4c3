"""Complete error responses, in OpenAI's error shape, that a connection sends itself for requests
that do not reach the app.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from modelplex.server.connection_shares import ShareRefused

MAX_PIPELINED = 16
"""Requests that wait behind a running one, about 2 kB each. No known client pipelines."""


def error_response(
    status: int, *, message: str, code: str, kind: str = "invalid_request_error", headers: str = ""
) -> bytes:
    """A response after which the connection closes."""
    body = msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{headers}connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def too_many_connections(refused: ShareRefused) -> bytes:
    kind = "rate_limit_exceeded" if refused.status == 429 else "overloaded"
    return error_response(
        refused.status,
        code="too_many_connections",
        kind=kind,
        message=refused.message,
        headers="retry-after: 1\r\n",
    )


INVALID_HTTP = error_response(400, code="invalid_http", message="This is not a valid HTTP/1.1 request.")
TOO_MANY_PIPELINED = error_response(
    400,
    code="too_many_pipelined",
    message=f"More than {MAX_PIPELINED} requests were pipelined on one connection.",
)
SLOW_HEAD = error_response(
    408, code="request_timeout", message="The head of the request took too long to arrive."
)
SLOW_BODY = error_response(
    408,
    code="request_timeout",
    message="The body of the request stopped arriving before it was complete, or arrived too slowly.",
)
HEAD_TOO_LARGE = error_response(
    431,
    code="request_headers_too_large",
    message="The request line and headers are larger than this gateway reads.",
)
TOO_MANY_HEADS = error_response(
    503,
    code="heads_full",
    kind="overloaded",
    message="Requests with large heads take all the memory that they may have; try again in a moment.",
    headers="retry-after: 1\r\n",
)
APP_FAILED = msgspec.json.encode(
    {
        "error": {
            "message": "The gateway failed; its log has the reason.",
            "type": "gateway_error",
            "param": None,
            "code": "gateway_error",
        }
    }
)
