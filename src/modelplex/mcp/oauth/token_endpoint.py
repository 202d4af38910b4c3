"""Requests to a token endpoint, and how a client proves who it is.

Source: RFC 6749 2.3.1, 4.1.3, 4.4.2 and 6, RFC 7523 2.2, RFC 7636 4.5, RFC 8628 3.4, RFC 8707 2.2.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from modelplex.credentials.key_file import MAX_SIZE
from modelplex.credentials.oauth import ASSERTION_TYPE, Token
from modelplex.credentials.signed_jwt import load_key, signed_jwt
from modelplex.credentials.source import CredentialError
from modelplex.credentials.token_request import SHOWN, post_form
from modelplex.http_client import HttpClient
from modelplex.mcp.oauth.sign_in import Method, RegisteredClient

ASSERTION_LIFE_S: Final = 300
"""Seconds for which a client's assertion holds."""


class GrantedToken(Token):
    """A token response (RFC 6749 5.1)."""

    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme
    refresh_token: str | None = None
    scope: str | None = None

    def expires_at(self, now: float) -> float | None:
        """None where the response does not say, which is until the token is refused."""
        return None if self.expires_in is None else self.expiring(now).expires_at


class TokenEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """`resource` names the tool server. `key_file` has the key of a client with `private_key_jwt`,
    in PEM; `key_id` is its name at the authorization server.
    """

    url: str
    resource: str
    client: RegisteredClient
    key_file: str = ""
    key_id: str = ""

    async def ask(self, client: HttpClient, fields: Mapping[str, str], *, now: float) -> GrantedToken:
        """The token for a grant. Raises CredentialRefused and CredentialError."""
        headers, proof = await self._authentication(now)
        token = await post_form(
            client,
            self.url,
            {**fields, "resource": self.resource, **proof},
            kind=GrantedToken,
            place=f"the token endpoint {self.url}",
            headers=headers,
        )
        if token.token_type.lower() != "bearer":
            raise CredentialError(
                f"the token endpoint {self.url} gave a token of the type {token.token_type[:SHOWN]!r}"
            )
        if not (token.access_token and token.access_token.isascii() and token.access_token.isprintable()):
            raise CredentialError(f"the token endpoint {self.url} gave a token that no header can hold")
        return token

    async def _authentication(self, now: float) -> tuple[list[tuple[bytes, bytes]], dict[str, str]]:
        return await authentication(self.client, key_file=self.key_file, key_id=self.key_id, now=now)


async def authentication(
    client: RegisteredClient, *, key_file: str = "", key_id: str = "", now: float
) -> tuple[list[tuple[bytes, bytes]], dict[str, str]]:
    """The header lines and the fields that authenticate a client. Raises CredentialError."""
    match client.method:
        case "none":
            return [], {"client_id": client.id} if client.id else {}
        case "client_secret_post":
            return [], {"client_id": client.id, "client_secret": client.secret}
        case "client_secret_basic":
            pair = f"{quote(client.id, safe='')}:{quote(client.secret, safe='')}".encode()
            return [(b"authorization", b"Basic " + base64.b64encode(pair))], {}
        case "private_key_jwt":
            claims: dict[str, str | int] = {
                "iss": client.id,
                "sub": client.id,
                "aud": client.issuer,
                "iat": int(now),
                "exp": int(now) + ASSERTION_LIFE_S,
                "jti": secrets.token_urlsafe(16),
            }
            assertion = await asyncio.to_thread(_assertion, key_file, claims, key_id)
            return [], {
                "client_id": client.id,
                "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": assertion,
            }


def method_of(supported: tuple[str, ...] | None, *, secret: str) -> Method:
    """How a client authenticates. Without a list it is `client_secret_basic` (RFC 8414 2)."""
    if secret:
        if supported is None or "client_secret_basic" in supported:
            return "client_secret_basic"
        if "client_secret_post" in supported:
            return "client_secret_post"
    return "none"


def _assertion(file: str, claims: Mapping[str, str | int], key_id: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            pem = opened.read(MAX_SIZE).decode("ascii", "replace")
    except OSError as error:
        raise CredentialError(f"the key file {file}: {os.strerror(error.errno or 0).lower()}") from None
    return signed_jwt(load_key(pem, f"the key file {file}"), claims, key_id=key_id)
