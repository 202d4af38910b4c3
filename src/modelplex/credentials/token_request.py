"""Requests to token endpoints and metadata services, by the gateway's own HTTP client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from modelplex.credentials.source import CredentialError, CredentialRefused
from modelplex.http_client import HttpClient, SendError, Timeouts, parse_origin

T = TypeVar("T")

MAX_BODY = 262_144
"""Bytes of a response. A token is a few kilobytes."""
SHOWN = 200
"""Characters of an error description."""
TIMEOUTS = Timeouts(connect=5.0, first_byte=20.0, idle=20.0)
LOCAL_TIMEOUTS = Timeouts(connect=1.0, first_byte=5.0, idle=5.0)
"""Of a metadata service, which is on the same machine or nowhere."""
FORM = b"application/x-www-form-urlencoded"
JSON = b"application/json"


class Answered(msgspec.Struct, frozen=True):
    """A response: its status and its whole body."""

    status: int
    body: bytes


class _Inner(msgspec.Struct):
    """`error` of Google's services."""

    message: str = ""


class _Refusal(msgspec.Struct):
    """An error of OAuth 2 (RFC 6749 5.2), or of a service that has `message`."""

    error: str | _Inner = ""
    error_description: str = ""
    message: str = ""


async def ask(
    client: HttpClient,
    url: str,
    *,
    place: str,
    method: bytes = b"GET",
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: bytes = b"",
    timeouts: Timeouts = TIMEOUTS,
) -> Answered:
    """Send one request. `url` may have a query. Raises CredentialError, in which `place` names the
    service.
    """
    base, mark, query = url.partition("?")
    try:
        origin, path = parse_origin(base)
    except ValueError as error:
        raise CredentialError(f"the address of {place}: {error}") from None
    path += "/" if base.endswith("/") or not path else ""
    try:
        response = await client.send(
            origin,
            method=method,
            target=f"{path}{mark}{query}".encode("ascii"),
            headers=[(b"accept", b"application/json"), (b"accept-encoding", b"identity"), *headers],
            body=body,
            timeouts=timeouts,
        )
        try:
            return Answered(response.status, await response.body(limit=MAX_BODY))
        finally:
            response.close()
    except (SendError, ValueError) as error:
        sentence = error.sentence if isinstance(error, SendError) else "the address or a header is not valid"
        raise CredentialError(f"{place}: {sentence}") from None


async def post_form(
    client: HttpClient,
    url: str,
    fields: Mapping[str, str],
    *,
    kind: type[T],
    place: str,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> T:
    """What a token endpoint answers to a form (RFC 6749 4.4.2, 6). Raises CredentialError."""
    answered = await ask(
        client,
        url,
        place=place,
        method=b"POST",
        headers=[(b"content-type", FORM), *headers],
        body=urlencode(fields).encode("ascii"),
    )
    return read(answered, kind=kind, place=place)


def read(answered: Answered, *, kind: type[T], place: str) -> T:
    """The body as `kind`. Raises CredentialError with the service's own reason."""
    if answered.status not in {200, 201}:
        code, reason = _reason(answered.body)
        raise CredentialRefused(f"{place} answered {answered.status}{reason}", code=code)
    try:
        return msgspec.json.decode(answered.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise CredentialError(f"{place} answered with something other than the token expected") from None


def _reason(body: bytes) -> tuple[str, str]:
    """The error code, and what is shown of the error."""
    try:
        refusal = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", ""
    error = refusal.error.message if isinstance(refusal.error, _Inner) else refusal.error
    words = [word[:SHOWN] for word in (error, refusal.error_description or refusal.message) if word]
    return error, f": {': '.join(words)}" if words else ""
