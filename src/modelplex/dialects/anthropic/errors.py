"""Reads and writes errors in Anthropic's format, as a response or inside a stream.

The types are those of docs/reference/wire-formats.md#errors-and-retry-headers, the mapping that of
docs/reference/translation.md#error-mapping. A rejected upstream key is the gateway's fault and
never a 401. 529 is only for a provider's own overload: agents tell their users that the service is
at capacity. Imports no other dialect.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.core.errors import (
    OVERFLOW,
    AgentLimited,
    BadRequest,
    BudgetExceeded,
    CircuitOpen,
    ClientError,
    ModelplexError,
    NotFound,
    Overloaded,
    PolicyDenied,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    TooLarge,
    Unauthorized,
    UnknownModel,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamReply,
    UpstreamTimeout,
)
from modelplex.dialects.core import sse
from modelplex.dialects.core.context_overflow import is_overflow
from modelplex.dialects.core.error_bodies import forwarded_body
from modelplex.dialects.core.json import ABSENT
from modelplex.dialects.core.retry_after import read_delay
from modelplex.dialects.core.usage_limits import is_usage_limit, seconds_to_reset

# --- read -----------------------------------------------------------------------------------------

_BY_TYPE: dict[str, type[ModelplexError]] = {
    "invalid_request_error": BadRequest,
    "authentication_error": UpstreamAuth,
    "billing_error": UpstreamAuth,
    "permission_error": UpstreamAuth,
    "not_found_error": UnknownModel,
    "conflict_error": UpstreamBroken,
    "request_too_large": TooLarge,
    "rate_limit_error": RateLimited,
    "api_error": UpstreamBroken,
    "timeout_error": UpstreamTimeout,
    "overloaded_error": Overloaded,
}
"""By `error.type` (docs/reference/wire-formats.md#errors-and-retry-headers)."""
_OWN_SENTENCES = ("prompt is too long", "exceed context limit")
"""The service's own messages about a conversation that is too long, which its clients act on. It
has no code for it.
"""
_OF_OUR_ACCOUNT = ("credit balance is too low", "organization has been disabled")
"""Messages of invalid_request_error that are about the gateway's account."""
_BY_STATUS: dict[int, type[ModelplexError]] = {
    400: BadRequest,
    401: UpstreamAuth,
    402: UpstreamAuth,
    403: UpstreamAuth,
    408: UpstreamTimeout,
    413: TooLarge,
    422: BadRequest,
    429: RateLimited,
    503: Overloaded,
    504: UpstreamTimeout,
    529: Overloaded,
}
"""Used where the body names no known type. Any other status is UpstreamBroken, a 404 too: without
`not_found_error` the path was not found, so the base URL is wrong and not the model's name.
"""
_DECIDING_STATUSES: dict[int, type[ModelplexError]] = {
    401: UpstreamAuth,
    402: UpstreamAuth,
    504: UpstreamTimeout,
}
"""Statuses that decide, whatever type the body names."""


class AnthropicErrorObject(msgspec.Struct, gc=False):
    """`error` of an error body or event. `details.error_code` names the cause where there
    is one.
    """

    type: str = ""
    message: str = ""
    details: msgspec.Raw = ABSENT


class AnthropicErrorBody(msgspec.Struct, gc=False):
    error: AnthropicErrorObject
    type: str | None = None


class _Details(msgspec.Struct, gc=False):
    error_code: str | None = None


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ModelplexError:
    """The error of a response with a status of 300 or more. The type in the body decides; without a
    body in Anthropic's format (a proxy's page) the status does.
    """
    kind = _BY_STATUS.get(status, UpstreamBroken)
    wait = read_delay(headers)
    try:
        error = msgspec.json.decode(body, type=AnthropicErrorBody).error
    except (msgspec.DecodeError, UnicodeError):
        message = f"The provider answered with status {status} and no error that can be read."
        return kind(message, upstream=UpstreamReply(status=status), retry_after=wait)
    made = error_of(error, kind=kind, status=status, body=body, retry_after=wait)
    if isinstance(made, QuotaExceeded) and made.retry_after is None:
        made.retry_after = seconds_to_reset(error.message, {}, headers)
    return made


def error_of(
    error: AnthropicErrorObject,
    *,
    kind: type[ModelplexError] | None = None,
    status: int | None = None,
    body: bytes | None = None,
    retry_after: float | None = None,
) -> ModelplexError:
    """The provider's error object as an error of our tree. `kind` is used for unknown types."""
    found = _BY_TYPE.get(error.type) or kind or UpstreamBroken
    found = _DECIDING_STATUSES.get(status or 0, found)
    lowered = error.message.lower()
    code = None
    if found is not UpstreamAuth and is_usage_limit(status or 0, error.message, error.type):
        found = QuotaExceeded
    elif found is BadRequest and any(phrase in lowered for phrase in _OF_OUR_ACCOUNT):
        found = UpstreamAuth
    elif found is not UpstreamAuth and is_overflow(status or 0, error.message, error.type):
        found, code, retry_after = BadRequest, OVERFLOW, None  # no wait helps
        if not any(phrase in lowered for phrase in _OWN_SENTENCES):
            body = None  # written anew, with the words that clients act on
    message = error.message or error.type or "no reason given"
    if found is UpstreamAuth:
        message = f"The provider rejected the gateway's key: {message}"
    return found(
        message,
        code=code,
        upstream=UpstreamReply(
            status=status, type=error.type or None, code=_error_code(error.details), body=body
        ),
        retry_after=retry_after,
    )


def _error_code(details: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(details, type=_Details).error_code
    except (msgspec.DecodeError, UnicodeError):
        return None  # absent, or of an unknown shape


# --- written --------------------------------------------------------------------------------------

OVERLOADED_STATUS = 529
"""The status of a service at capacity."""
_OVERLOADED = "overloaded_error"
_OVERLOAD_MARK = "overload"
"""In the type, code or message of a provider at capacity: `overloaded_error`,
`server_is_overloaded`, "The model is overloaded".
"""
_TYPES: dict[type[ModelplexError], str] = {
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
"""By class; the nearest base class of an error counts."""
_PROMPT_TOO_LONG = "prompt is too long"
"""Agents compact a conversation when a message has these words of the service."""


class _WrittenDetails(msgspec.Struct, omit_defaults=True, gc=False):
    error_code: str | None = None
    param: str | None = None


class _OwnError(msgspec.Struct, gc=False):
    type: str
    message: str


class _OwnBody(msgspec.Struct, gc=False):
    """A body that may be an error of this format: its own `type` says so."""

    type: str
    error: _OwnError


_encode = msgspec.json.Encoder().encode
_decode_own = msgspec.json.Decoder(_OwnBody).decode


def write_error(error: ModelplexError, *, request_id: str) -> tuple[int, bytes]:
    """Status and body. A provider's own error about the client passes unchanged."""
    status = OVERLOADED_STATUS if _is_overloaded(error) else error.status
    body = forwarded_body(error, is_own=_is_own)
    return status, _body(error, request_id=request_id) if body is None else body


def _is_overloaded(error: ModelplexError) -> bool:
    """Whether the provider said that it is at capacity. A bare 503 does not: proxies before a dead
    server answer it.
    """
    if not isinstance(error, Overloaded):
        return False
    text = f"{error.upstream.type} {error.upstream.code} {error.message}".lower()
    return error.upstream.status == OVERLOADED_STATUS or _OVERLOAD_MARK in text


def error_event(error: ModelplexError, *, request_id: str = "") -> bytes:
    """The in-stream error. Nothing may follow it."""
    return sse.event(_body(error, request_id=request_id), name=b"error")


def _body(error: ModelplexError, *, request_id: str) -> bytes:
    kind = (
        _OVERLOADED if _is_overloaded(error) else next(_TYPES[k] for k in type(error).__mro__ if k in _TYPES)
    )
    message = error.message
    if error.code == OVERFLOW and _PROMPT_TOO_LONG not in message.lower():
        message = f"{_PROMPT_TOO_LONG}: {message}"
    written: dict[str, object] = {"type": kind, "message": message}
    if error.code or error.param:
        written["details"] = _WrittenDetails(error.code, error.param)
    body: dict[str, object] = {"type": "error", "error": written}
    if request_id:
        body["request_id"] = request_id
    return _encode(body)


def _is_own(body: bytes) -> bool:
    try:
        return _decode_own(body).type == "error"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
