"""Reads errors of Converse: responses, and exceptions inside a stream.

A response names its exception in the header `x-amzn-errortype`, with an address behind a colon, or
in the body as `__type`; a stream in `:exception-type`. Source: the exceptions of the service model
bedrock-runtime 2023-09-30 and `RestJSONParser` of botocore 1.44.8. Imports no other dialect.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.core.errors import (
    OVERFLOW,
    BadRequest,
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
from modelplex.dialects.core.error_bodies import provider_message
from modelplex.dialects.core.foreign_errors import quotable_text
from modelplex.dialects.core.json import MALFORMED
from modelplex.dialects.core.retry_after import read_delay
from modelplex.dialects.core.usage_limits import is_usage_limit

BY_NAME: dict[str, type[ModelplexError]] = {
    "AccessDeniedException": UpstreamAuth,
    "UnrecognizedClientException": UpstreamAuth,
    "InvalidSignatureException": UpstreamAuth,
    "IncompleteSignatureException": UpstreamAuth,
    "MissingAuthenticationTokenException": UpstreamAuth,
    "ExpiredTokenException": UpstreamAuth,
    "ThrottlingException": RateLimited,
    "ServiceQuotaExceededException": QuotaExceeded,
    "ResourceNotFoundException": UnknownModel,
    "ValidationException": BadRequest,
    "ConflictException": BadRequest,
    "ModelNotReadyException": Overloaded,
    "ServiceUnavailableException": Overloaded,
    "ModelTimeoutException": UpstreamTimeout,
    "ModelErrorException": UpstreamBroken,
    "ModelStreamErrorException": UpstreamBroken,
    "InternalServerException": UpstreamBroken,
    "InternalFailure": UpstreamBroken,
    "SerializationException": BadRequest,
}
"""ModelNotReadyException is a 429 that waiting solves: "The AWS SDK will automatically retry"."""
BY_STATUS: dict[int, type[ModelplexError]] = {
    400: BadRequest,
    401: UpstreamAuth,
    403: UpstreamAuth,
    408: UpstreamTimeout,
    413: TooLarge,
    429: RateLimited,
    503: Overloaded,
    504: UpstreamTimeout,
}
"""Where no exception is named. A 404 without a name is of a wrong address."""
_UNKNOWN_MODEL = "model identifier is invalid"
"""In a ValidationException: "The provided model identifier is invalid."
(https://github.com/GoogleCloudPlatform/kubectl-ai/issues/515).
"""


class _ErrorBody(msgspec.Struct, gc=False):
    message: str | None = None
    Message: str | None = None
    type: str | None = msgspec.field(default=None, name="__type")


_decode = msgspec.json.Decoder(_ErrorBody).decode


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ModelplexError:
    """The error of a response with a status of 300 or more. Header names are lower case."""
    if 300 <= status < 400:
        return UpstreamBroken(
            "The provider answered with a redirect; redirects are not followed. Check its base_url.",
            upstream=UpstreamReply(status=status),
        )
    name = plain_name(headers.get("x-amzn-errortype", ""))
    try:
        found = _decode(body)
    except MALFORMED:
        found = None
    message = quotable_text(status, body) if found is None else found.message or found.Message or ""
    if not name and found is not None:
        name = plain_name(found.type or "")
    return error_of(name, message, status=status, body=body, retry_after=read_delay(headers))


def exception_inside(name: str, payload: bytes) -> ModelplexError:
    """The error of an exception inside a stream. `name` is its member of ConverseStreamOutput,
    whose first letter is small.
    """
    try:
        found = _decode(payload)
    except MALFORMED:
        found = _ErrorBody()
    name = plain_name(name)
    return error_of(name, found.message or found.Message or "", status=0, body=payload, retry_after=None)


def plain_name(given: str) -> str:
    """An exception's name alone: of "ThrottlingException:http://...", of
    "com.amazon.coral#ThrottlingException" and of "throttlingException" it is ThrottlingException.
    """
    name = given.partition(":")[0].rpartition("#")[2].strip()
    return name[:1].upper() + name[1:]


def error_of(
    name: str, message: str, *, status: int, body: bytes, retry_after: float | None
) -> ModelplexError:
    """`status` is 0 inside a stream."""
    kind = BY_NAME.get(name) or BY_STATUS.get(status, UpstreamBroken)
    if kind is BadRequest and _UNKNOWN_MODEL in message.lower():
        kind = UnknownModel
    if kind is RateLimited and is_usage_limit(429, message, name):
        kind = QuotaExceeded
    too_long = kind is not UpstreamAuth and is_overflow(status, message, name)
    if too_long:
        kind = BadRequest
    return kind(
        provider_message(kind, status, message),
        code=OVERFLOW if too_long else None,
        upstream=UpstreamReply(status=status or None, type=name or None, body=body),
        retry_after=retry_after,
    )
