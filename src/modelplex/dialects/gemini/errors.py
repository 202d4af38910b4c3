"""Reads and writes errors in Gemini's format.

The format is Google's: `{"error": {code, message, status, details[]}}`, alone or in a list of one;
`details` holds google.rpc.ErrorInfo, RetryInfo and BadRequest. A rejected upstream key is the
gateway's fault: nothing of the provider's message reaches a client. Imports no other dialect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from modelplex.core.errors import (
    OVERFLOW,
    BadRequest,
    ClientError,
    ModelplexError,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    TooLarge,
    UnknownModel,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamReply,
    UpstreamTimeout,
)
from modelplex.dialects.core import sse
from modelplex.dialects.core.context_overflow import is_overflow
from modelplex.dialects.core.error_bodies import forwarded_body, message_with_id, provider_message
from modelplex.dialects.core.foreign_errors import QUOTED
from modelplex.dialects.core.json import ABSENT, as_list, as_object
from modelplex.dialects.core.retry_after import read_delay, read_seconds

BY_STATUS: dict[str, type[ModelplexError]] = {
    "INVALID_ARGUMENT": BadRequest,
    "OUT_OF_RANGE": BadRequest,
    "FAILED_PRECONDITION": UpstreamAuth,
    "UNAUTHENTICATED": UpstreamAuth,
    "PERMISSION_DENIED": UpstreamAuth,
    "NOT_FOUND": UnknownModel,
    "RESOURCE_EXHAUSTED": RateLimited,
    "ABORTED": UpstreamBroken,
    "CANCELLED": UpstreamBroken,
    "INTERNAL": UpstreamBroken,
    "UNKNOWN": UpstreamBroken,
    "UNIMPLEMENTED": UpstreamBroken,
    "UNAVAILABLE": Overloaded,
    "DEADLINE_EXCEEDED": UpstreamTimeout,
}
"""By `error.status`. FAILED_PRECONDITION is the error of a project without billing, or where the
free tier is not offered: a fault of the account, not of the caller.
"""

BY_CODE: dict[int, type[ModelplexError]] = {
    400: BadRequest,
    401: UpstreamAuth,
    402: UpstreamAuth,
    403: UpstreamAuth,
    408: UpstreamTimeout,
    413: TooLarge,
    429: RateLimited,
    503: Overloaded,
    504: UpstreamTimeout,
}
"""By HTTP status, where the body names none. A 404 is not among them: without NOT_FOUND the path
was not found, so the base URL is wrong.
"""

BAD_KEY = ("api key not valid", "api_key_invalid", "api key expired", "api key not found")

STATUS_OF: dict[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    421: "INVALID_ARGUMENT",
    426: "UNIMPLEMENTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


class GeminiErrorObject(msgspec.Struct, gc=False):
    code: int | None = None
    message: str | None = None
    status: str | None = None
    details: msgspec.Raw = ABSENT


class GeminiErrorBody(msgspec.Struct, gc=False):
    error: GeminiErrorObject


def _error_object(body: bytes) -> GeminiErrorObject | None:
    """The error object, or None where the body is not in Google's format."""
    try:
        found: GeminiErrorBody | list[GeminiErrorBody] = msgspec.json.decode(
            body, type=GeminiErrorBody | list[GeminiErrorBody]
        )
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if isinstance(found, list):
        return found[0].error if found else None
    return found.error


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ModelplexError:
    """The error of a response with a status of 300 or more. Header names are lower case."""
    if 300 <= status < 400:
        return UpstreamBroken(
            "The provider answered with a redirect; redirects are not followed. Check its base_url.",
            upstream=UpstreamReply(status=status),
        )
    wait = read_delay(headers)
    error = _error_object(body)
    if error is None:
        kind = BY_CODE.get(status, UpstreamBroken)
        # A page of a server that does not have this dialect.
        kind = UpstreamBroken if kind is BadRequest else kind
        return kind(
            f"The provider answered {status} and nothing that explains it.",
            upstream=UpstreamReply(status=status),
            retry_after=wait,
        )
    return error_of(error, status=status, body=body, retry_after=wait)


def error_inside(raw: msgspec.Raw, *, body: bytes) -> ModelplexError:
    """The error object inside a 200 or a stream."""
    try:
        error = msgspec.json.decode(raw, type=GeminiErrorObject)
    except (msgspec.DecodeError, UnicodeError):
        error = GeminiErrorObject(message=bytes(raw)[:QUOTED].decode("utf-8", "replace"))
    return error_of(error, status=None, body=body, retry_after=None)


def error_of(
    error: GeminiErrorObject, *, status: int | None, body: bytes, retry_after: float | None
) -> ModelplexError:
    """Google's error object as an error of our tree. Its `status` is more precise; the HTTP status
    decides where it is unknown.
    """
    code = status or error.code or 0
    details = _details(error.details)
    reason = next((given for each in details if isinstance(given := each.get("reason"), str)), None)
    kind = BY_STATUS.get(error.status or "") or BY_CODE.get(code) or UpstreamBroken
    text = f"{(error.message or '')[:QUOTED]} {reason}".lower()
    if kind is BadRequest and any(phrase in text for phrase in BAD_KEY):
        kind = UpstreamAuth
    if kind is RateLimited and _is_daily(details):
        kind = QuotaExceeded
    if code == 504:
        kind = UpstreamTimeout
    if code in {401, 402}:
        kind = UpstreamAuth  # 402: prepaid credit is used up; its status is RESOURCE_EXHAUSTED, but waiting does not help
    too_long = kind is not UpstreamAuth and is_overflow(code, error.message or "", error.status, reason)
    if too_long:
        kind = BadRequest
    return kind(
        provider_message(kind, code, error.message or ""),
        code=OVERFLOW if too_long else None,
        param=_field(details) if issubclass(kind, ClientError) else None,
        upstream=UpstreamReply(status=code or None, type=error.status, code=reason, body=body),
        retry_after=_retry_delay(details) if retry_after is None else retry_after,
    )


def _details(raw: msgspec.Raw) -> list[dict[str, Any]]:
    try:
        given: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return []
    return [found for each in as_list(given) if (found := as_object(each)) is not None]


def _is_daily(details: list[dict[str, Any]]) -> bool:
    """Whether google.rpc.QuotaFailure names a quota of a day
    (https://ai.google.dev/gemini-api/docs/rate-limits): "GenerateRequestsPerDayPerProjectPerModel".
    """
    named = [as_object(each) or {} for one in details for each in as_list(one.get("violations"))]
    return any("PerDay" in str(each.get("quotaId", "")) for each in named)


def _field(details: list[dict[str, Any]]) -> str | None:
    """The first field of google.rpc.BadRequest."""
    for each in details:
        for violation in as_list(each.get("fieldViolations")):
            field = (as_object(violation) or {}).get("field")
            if isinstance(field, str) and field:
                return field
    return None


def _retry_delay(details: list[dict[str, Any]]) -> float | None:
    """google.rpc.RetryInfo: `{"retryDelay": "30s"}`, in seconds."""
    for each in details:
        delay = each.get("retryDelay")
        if isinstance(delay, str) and (seconds := read_seconds(delay.removesuffix("s"))) is not None:
            return seconds
    return None


def write_error(error: ModelplexError, *, request_id: str) -> tuple[int, bytes]:
    """Status and body. A provider's own error about the client passes unchanged."""
    body = forwarded_body(error, is_own=lambda body: _error_object(body) is not None)
    return error.status, body or msgspec.json.encode({"error": error_object(error, request_id=request_id)})


def write_error_event(error: ModelplexError, *, request_id: str = "") -> bytes:
    """The in-stream error: official clients raise for a `data:` object that begins with `error`.
    Nothing may follow it.
    """
    return sse.event(msgspec.json.encode({"error": error_object(error, request_id=request_id)}))


def error_object(error: ModelplexError, *, request_id: str = "") -> dict[str, Any]:
    details: list[dict[str, Any]] = []
    if error.code:
        details.append({"@type": _ERROR_INFO, "reason": error.code.upper(), "domain": "modelplex"})
    if error.param:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": _BAD_REQUEST, "fieldViolations": [violation]})
    if error.retry_after is not None:
        details.append({"@type": _RETRY_INFO, "retryDelay": f"{error.retry_after:.9g}s"})
    written: dict[str, Any] = {
        "code": error.status,
        "message": message_with_id(error, request_id),
        "status": STATUS_OF.get(error.status, "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL"),
    }
    return {**written, "details": details} if details else written
