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
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a foreign body raises."""
SHORTEST_SECRET = 8
"""Characters; a shorter value is too likely a part of other words."""
PUBLIC = frozenset(
    "audience client_assertion_type client_id grant_type redirect_uri resource scope token_type_hint".split()
)
"""Fields of a form that an error may repeat."""
LOCAL_TIMEOUTS = Timeouts(connect=1.0, first_byte=5.0, idle=5.0)
"""Of a metadata service, which is on the same machine or nowhere."""
FORM = b"application/x-www-form-urlencoded"
JSON = b"application/json"


class Answered(msgspec.Struct, frozen=True):
    """A response: its status and its whole body."""

    status: int
    body: bytes

    def __repr__(self) -> str:
        return f"<Answered {self.status} with {len(self.body)} bytes>"


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
    """What a token endpoint answers to a form (RFC 6749 4.4.2, 6). Raises CredentialError, which
    repeats no secret of the form or of the headers.
    """
    answered = await ask(
        client,
        url,
        place=place,
        method=b"POST",
        headers=[(b"content-type", FORM), *headers],
        body=urlencode(fields).encode("ascii"),
    )
    sent = [value for name, value in fields.items() if name not in PUBLIC]
    sent += [value.decode("latin-1").rpartition(" ")[2] for _, value in headers]
    return read(answered, kind=kind, place=place, sent=sent)


def read(answered: Answered, *, kind: type[T], place: str, sent: Sequence[str] = ()) -> T:
    """The body as `kind`. Raises CredentialError with the service's own reason, in which the
    secrets that were `sent` are masked: some services name the token that they refuse.
    """
    if answered.status not in {200, 201}:
        code, reason = _reason(answered.body, sent)
        raise CredentialRefused(f"{place} answered {answered.status}{reason}", code=code)
    try:
        return msgspec.json.decode(answered.body, type=kind)
    except UNREADABLE:
        raise CredentialError(f"{place} answered with something other than the token expected") from None


def _reason(body: bytes, sent: Sequence[str]) -> tuple[str, str]:
    """The error code, and what is shown of the error."""
    try:
        refusal = msgspec.json.decode(body, type=_Refusal)
    except UNREADABLE:
        return "", ""
    error = refusal.error.message if isinstance(refusal.error, _Inner) else refusal.error
    told = (error, refusal.error_description or refusal.message)
    words = [_masked(word, sent)[:SHOWN] for word in told if word]
    return error, f": {': '.join(words)}" if words else ""


def _masked(text: str, secrets: Sequence[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "********")
    return text
