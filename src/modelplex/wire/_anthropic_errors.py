"""Errors in Anthropic's words, for its clients: as an answer of their own, or inside a stream.

Above it stand `anthropic_messages` and the writer of answers; below it the error tree. The words are those of wires.md 2.7, and who gets which is in its 3.13: a
rejected upstream key is the gateway's trouble and never a 401, and busy is 529 here.
"""

from __future__ import annotations

import msgspec

from modelplex.errors import (
    AgentLimited,
    Busy,
    ClientError,
    ModelplexError,
    NotFound,
    Overloaded,
    PolicyDenied,
    RateLimited,
    RequestTimeout,
    Stopping,
    TooLarge,
    Unauthorized,
    UnknownModel,
    UpstreamTimeout,
)
from modelplex.wire import sse

BUSY = 529
"""The status that clients of this form take as a wish to come again later."""
WORDS: dict[type[ModelplexError], str] = {
    Unauthorized: "authentication_error",
    UnknownModel: "not_found_error",
    NotFound: "not_found_error",
    RequestTimeout: "timeout_error",
    TooLarge: "request_too_large",
    ClientError: "invalid_request_error",
    PolicyDenied: "permission_error",
    RateLimited: "rate_limit_error",
    AgentLimited: "rate_limit_error",
    Overloaded: "overloaded_error",
    Busy: "overloaded_error",
    Stopping: "overloaded_error",
    UpstreamTimeout: "timeout_error",
    ModelplexError: "api_error",
}
"""By class, the nearest in an error's own line of descent."""
TOO_LONG = "prompt is too long"
"""Agents know by these words, which are this service's own, that they have to compact a conversation."""


class _Details(msgspec.Struct, omit_defaults=True):
    error_code: str | None = None
    param: str | None = None


class _Named(msgspec.Struct):
    type: str
    message: str


class _Own(msgspec.Struct):
    """A body that may be an error of this form: its own `type` says so."""

    type: str
    error: _Named


_encode = msgspec.json.Encoder().encode
_decode_own = msgspec.json.Decoder(_Own).decode


def write_error(error: ModelplexError, *, request_id: str) -> tuple[int, bytes]:
    """Status and body. What a provider of this dialect said of a client's fault goes on as it came."""
    status = BUSY if isinstance(error, Overloaded | Stopping) else error.status
    if isinstance(error, ClientError) and error.upstream_body is not None and _is_own(error.upstream_body):
        return status, error.upstream_body
    return status, _body(error, request_id=request_id)


def error_event(error: ModelplexError, *, request_id: str = "") -> bytes:
    """The in-stream error. Nothing may follow it."""
    return sse.event(_body(error, request_id=request_id), name=b"error")


def _body(error: ModelplexError, *, request_id: str) -> bytes:
    word = next(WORDS[kind] for kind in type(error).__mro__ if kind in WORDS)
    message = error.message
    if error.code == "context_length_exceeded" and TOO_LONG not in message.lower():
        message = f"{TOO_LONG}: {message}"
    told: dict[str, object] = {"type": word, "message": message}
    if error.code or error.param:
        told["details"] = _Details(error.code, error.param)
    body: dict[str, object] = {"type": "error", "error": told}
    if request_id:
        body["request_id"] = request_id
    return _encode(body)


def _is_own(body: bytes) -> bool:
    try:
        return _decode_own(body).type == "error"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
