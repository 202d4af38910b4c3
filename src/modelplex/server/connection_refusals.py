"""What a connection answers itself to requests that do not reach the app: complete responses, in
OpenAI's error shape.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from modelplex.server.connection_shares import ShareRefused

MAX_PIPELINED = 16
"""Requests that wait behind a running one, about 2 kB each. No known client pipelines."""


class ConnectionRefusal(msgspec.Struct, frozen=True):
    """A response after which the connection closes. `cause` is what the parser found, for the
    record.
    """

    response: bytes
    status: int
    code: str
    message: str
    cause: str = ""


def refusal(
    status: int, *, message: str, code: str, kind: str = "invalid_request_error", headers: str = ""
) -> ConnectionRefusal:
    body = msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{headers}connection: close\r\n\r\n"
    )
    return ConnectionRefusal(head.encode("ascii") + body, status, code, message)


def invalid_http(cause: str) -> ConnectionRefusal:
    return msgspec.structs.replace(INVALID_HTTP, cause=cause)


def too_many_connections(refused: ShareRefused) -> ConnectionRefusal:
    kind = "rate_limit_exceeded" if refused.status == 429 else "overloaded"
    return refusal(
        refused.status,
        code="too_many_connections",
        kind=kind,
        message=refused.message,
        headers="retry-after: 1\r\n",
    )


INVALID_HTTP = refusal(400, code="invalid_http", message="This is not a valid HTTP/1.1 request.")
TOO_MANY_PIPELINED = refusal(
    400,
    code="too_many_pipelined",
    message=f"More than {MAX_PIPELINED} requests were pipelined on one connection.",
)
SLOW_HEAD = refusal(408, code="request_timeout", message="The head of the request took too long to arrive.")
SLOW_BODY = refusal(
    408,
    code="request_timeout",
    message="The body of the request stopped arriving before it was complete, or arrived too slowly.",
)
HEAD_TOO_LARGE = refusal(
    431,
    code="request_headers_too_large",
    message="The request line and headers are larger than this gateway reads.",
)
TOO_MANY_HEADS = refusal(
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
