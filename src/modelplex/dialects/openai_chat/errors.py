"""Reads and writes errors in OpenAI's format.

It reads the shapes of docs/reference/wire-formats.md#errors-and-retry-headers and those of
compatible servers, and knows no provider by name. A rejected upstream key is the gateway's fault:
nothing of the provider's message reaches a client. Imports no other dialect.
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
from modelplex.dialects.core.context_overflow import is_overflow
from modelplex.dialects.core.error_bodies import forwarded_body, message_with_id, provider_message
from modelplex.dialects.core.foreign_errors import quotable_text
from modelplex.dialects.core.json import as_list, as_object, as_text, decode_mended, encode
from modelplex.dialects.core.retry_after import read_delay, read_seconds
from modelplex.dialects.core.usage_limits import is_usage_limit, seconds_to_reset

_BY_STATUS: dict[int, type[ModelplexError]] = {
    401: UpstreamAuth,
    402: UpstreamAuth,
    403: UpstreamAuth,
    404: UnknownModel,
    408: UpstreamTimeout,
    409: UpstreamBroken,
    413: TooLarge,
    429: RateLimited,
    503: Overloaded,
    504: UpstreamTimeout,
    529: Overloaded,
}

_STATUS_OF: dict[str, int] = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "UNAUTHENTICATED": 401,
    "billing_error": 402,
    "permission_error": 403,
    "PERMISSION_DENIED": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "NOT_FOUND": 404,
    "request_too_large": 413,
    "invalid_prompt": 400,
    "cyber_policy": 400,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "usage_not_included": 429,
    "slow_down": 429,
    "RESOURCE_EXHAUSTED": 429,
    "overloaded": 503,
    "server_is_overloaded": 503,
    "overloaded_error": 529,
    "UNAVAILABLE": 503,
}
"""The status of an error inside a 200, by its type or code."""

_BAD_KEY = ("api key not valid", "api_key_invalid", "incorrect api key")
"""Some providers answer a wrong key with 400."""


class ErrorDetails(msgspec.Struct, frozen=True, gc=False):
    """A provider's error body. `own`: it has OpenAI's format, so a client may get it unchanged.
    `quoted` is the error of another provider that a router quotes.
    """

    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None
    delay: float | None = None
    own: bool = False
    quoted: str = ""


_decode_any = msgspec.json.Decoder().decode


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ModelplexError:
    """The error of a response with a status of 300 or more. Header names are lower case."""
    if 300 <= status < 400:
        return UpstreamBroken(
            f"The provider answered with a redirect{_redirected_to(headers)}; redirects are not followed. "
            "Set its base_url to the address that it names.",
            upstream=UpstreamReply(status=status),
        )
    document = decode_mended(body, _decode_any)
    details = (
        _read_document(document)
        if document is not None
        else ErrorDetails(message=quotable_text(status, body))
    )
    delay = read_delay(headers)
    error = _make_error(status, details, body=body, delay=details.delay if delay is None else delay)
    if isinstance(error, QuotaExceeded) and error.retry_after is None:
        members = as_object((as_object(document) or {}).get("error")) or {}
        error.retry_after = seconds_to_reset(details.message, members, headers)
    return error


def error_inside(error: Any, *, body: bytes | None = None) -> ModelplexError:
    """The error object inside a 200 or a stream. Its status is the one that it names, if any.
    Without `body`, which may be sent on as the body of an HTTP error, one is made.
    """
    details = _read_document({"error": error})
    if body is None:
        names = {"message": details.message, "type": details.type, "param": details.param}
        body = encode({"error": {**names, "code": details.code}})
    status = next((_STATUS_OF[name] for name in (details.code, details.type) if name in _STATUS_OF), 0)
    if details.code is not None and details.code.isdecimal() and 400 <= int(details.code) < 600:
        status = int(details.code)
    return _make_error(status, details, body=body, delay=details.delay)


def flat_error(data: bytes) -> ModelplexError | None:
    """The error whose members stand at the top of an event or a whole response, as SGLang and
    earlier versions of vLLM have it: {"object": "error", "message": ..., "code": 400}. FastAPI has
    {"detail": ...}. None for everything else.
    """
    members = as_object(decode_mended(data, _decode_any))
    if members is None or "choices" in members:
        return None
    if "error" in (members.get("object"), members.get("type")):
        return error_inside(members, body=None)
    return error_inside({"message": _read_detail(members["detail"])}) if members.get("detail") else None


def write_error(error: ModelplexError, *, request_id: str) -> tuple[int, bytes]:
    """Status and body. A provider's own error about the client passes unchanged."""
    body = forwarded_body(error, is_own=_is_own)
    return error.status, body or encode({"error": error_object(error, request_id=request_id)})


def error_object(error: ModelplexError, *, request_id: str = "") -> dict[str, str | None]:
    """All four keys, as strict clients want them."""
    message = message_with_id(error, request_id)
    return {"message": message, "type": error.type, "param": error.param, "code": error.code}


def _make_error(status: int, details: ErrorDetails, *, body: bytes, delay: float | None) -> ModelplexError:
    kind = _kind_of(status, details)
    answered = status
    too_long = kind is not UpstreamAuth and is_overflow(
        status, f"{details.message} {details.quoted}", details.code, details.type
    )
    if too_long:
        kind = BadRequest
        status = status if 400 <= status < 500 and status != 429 else 400
        delay = None  # no wait helps
        body = _with_code(body, OVERFLOW)
    blamed = issubclass(kind, (ClientError, RateLimited))
    return kind(
        provider_message(kind, status, details.message),
        status=status if kind is BadRequest and status else None,
        type=details.type if blamed else None,
        code=OVERFLOW if too_long else _code_of(kind, details),
        param=details.param if blamed else None,
        upstream=UpstreamReply(
            status=answered or None, type=details.type, code=details.code, body=body if details.own else None
        ),
        retry_after=delay,
    )


def _kind_of(status: int, details: ErrorDetails) -> type[ModelplexError]:
    text = f"{details.message} {details.code}".lower()
    if is_usage_limit(status, details.message, details.code, details.type):
        return QuotaExceeded
    if status in {0, 400} and any(phrase in text for phrase in _BAD_KEY):
        return UpstreamAuth
    if status == 404 and not details.own and details.type is None:
        return UpstreamBroken  # no error object: rather a wrong base_url than an unknown model
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return BadRequest if 400 <= status < 500 else UpstreamBroken


def _code_of(kind: type[ModelplexError], details: ErrorDetails) -> str | None:
    if kind is not UpstreamAuth and details.code and not details.code.isdecimal():
        return details.code
    return None


def _with_code(body: bytes, code: str) -> bytes:
    """The error body with this code, which clients act on; its other members stay as they are."""
    document = as_object(decode_mended(body, _decode_any))
    error = as_object(document.get("error")) if document is not None else None
    if document is None or error is None or error.get("code") == code:
        return body
    return encode({**document, "error": {**error, "code": code}})


def _read_document(document: object) -> ErrorDetails:
    """The formats of OpenAI, Gemini (in a list), FastAPI, Ollama, Mistral, and of servers that send
    a sentence only.
    """
    if several := as_list(document):
        details = _read_document(several[0])
        return msgspec.structs.replace(details, own=False)
    if isinstance(document, str):
        return ErrorDetails(message=document)
    members = as_object(document)
    if members is None:
        return ErrorDetails()
    error = as_object(members.get("error"))
    if error is not None:
        message = as_text(error.get("message"))
        return ErrorDetails(
            message=message or "",
            type=as_text(error.get("type")) or as_text(error.get("status")),
            code=as_text(error.get("code")),
            param=as_text(error.get("param")),
            delay=_read_retry_info(error.get("details")),
            own=message is not None and members.get("type") != "error",
            quoted=as_text((as_object(error.get("metadata")) or {}).get("raw")) or "",
        )
    sentence = as_text(members.get("error"))
    if sentence:
        return ErrorDetails(message=sentence, code=as_text(members.get("code")))
    if members.get("detail") is not None:
        return ErrorDetails(message=_read_detail(members["detail"]))
    return ErrorDetails(
        message=as_text(members.get("message")) or "",
        type=as_text(members.get("type")),
        code=as_text(members.get("code")),
        param=as_text(members.get("param")),
    )


def _read_detail(detail: object) -> str:
    """FastAPI: a sentence, or a list of {"loc": [...], "msg": "..."}."""
    faults = as_list(detail)
    if not faults:
        return as_text(detail) or encode(detail).decode()
    details: list[str] = []
    for each in faults:
        fault = as_object(each)
        if fault is None:
            details.append(str(each))
            continue
        place = ".".join(str(step) for step in as_list(fault.get("loc")))
        message = str(fault.get("msg", fault))
        details.append(f"{place}: {message}" if place else message)
    return "; ".join(details)


def _read_retry_info(details: object) -> float | None:
    """Google's RetryInfo: {"retryDelay": "30s"}."""
    for each in as_list(details):
        delay = (as_object(each) or {}).get("retryDelay")
        if isinstance(delay, str):
            return read_seconds(delay.removesuffix("s"))
    return None


def _redirected_to(headers: Mapping[str, str]) -> str:
    """The host only: path or query may have what must not be logged."""
    from urllib.parse import urlsplit

    try:
        host = urlsplit(headers.get("location", "")).hostname
    except ValueError:
        return ""
    return f" to {host}" if host else ""


def _is_own(body: bytes) -> bool:
    document = decode_mended(body, _decode_any)
    return _read_document(document).own
