"""Writes errors in Anthropic's format, as a response or inside a stream.

The types are those of docs/reference/wire-formats.md#errors-and-retry-headers, the mapping that of
docs/reference/translation.md#error-mapping. A rejected upstream key is the gateway's fault and
never a 401. 529 is only for a provider's own overload: agents tell their users that the service is
at capacity. Imports no other dialect.
"""

from __future__ import annotations

import msgspec

from modelplex.core.errors import (
    AgentLimited,
    BudgetExceeded,
    CircuitOpen,
    ClientError,
    ModelplexError,
    NotFound,
    Overloaded,
    PolicyDenied,
    RateLimited,
    RequestTimeout,
    TooLarge,
    Unauthorized,
    UnknownModel,
    UpstreamTimeout,
)
from modelplex.dialects.core import sse

BUSY = 529
"""The status of a service that is at capacity."""
BUSY_WORD = "overloaded_error"
SAID_BUSY = "overload"
"""How a provider says that it is at capacity, in whatever form: `overloaded_error`,
`server_is_overloaded`, "The model is overloaded".
"""
WORDS: dict[type[ModelplexError], str] = {
    Unauthorized: "authentication_error",
    UnknownModel: "not_found_error",
    NotFound: "not_found_error",
    RequestTimeout: "timeout_error",
    TooLarge: "request_too_large",
    ClientError: "invalid_request_error",
    PolicyDenied: "permission_error",
    BudgetExceeded: "billing_error",
    RateLimited: "rate_limit_error",
    AgentLimited: "rate_limit_error",
    CircuitOpen: "rate_limit_error",
    UpstreamTimeout: "timeout_error",
    ModelplexError: "api_error",
}
"""By class, the nearest in an error's own line of descent."""
TOO_LONG = "prompt is too long"
"""Agents know by these words, which are this service's own, that they have to compact a
conversation.
"""


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
    """Status and body. What a provider of this dialect said of a client's fault goes on
    as it came.
    """
    status = BUSY if is_busy(error) else error.status
    if isinstance(error, ClientError) and error.upstream_body is not None and _is_own(error.upstream_body):
        return status, error.upstream_body
    return status, _body(error, request_id=request_id)


def is_busy(error: ModelplexError) -> bool:
    """Whether the provider said that it is at capacity. A bare 503 says no such thing: a proxy
    before a dead server answers it.
    """
    if not isinstance(error, Overloaded):
        return False
    said = f"{error.upstream_type} {error.upstream_code} {error.message}".lower()
    return error.upstream_status == BUSY or SAID_BUSY in said


def error_event(error: ModelplexError, *, request_id: str = "") -> bytes:
    """The in-stream error. Nothing may follow it."""
    return sse.event(_body(error, request_id=request_id), name=b"error")


def _body(error: ModelplexError, *, request_id: str) -> bytes:
    word = BUSY_WORD if is_busy(error) else next(WORDS[k] for k in type(error).__mro__ if k in WORDS)
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
