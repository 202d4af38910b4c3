"""Access tokens of an OAuth 2 client, by its secret or by a signed assertion from a file.

Sources: RFC 6749 4.4 (client credentials), RFC 7523 2.2 (an assertion in place of a secret).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import isnan
from time import time

import msgspec

from modelplex.credentials.key_file import read_key
from modelplex.credentials.source import Expiring
from modelplex.credentials.token_request import post_form
from modelplex.http_client import HttpClient

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
UNTOLD_S = 300.0
"""Seconds for which a token holds whose endpoint does not say (RFC 6749 5.1 recommends that it
does).
"""
LONGEST_S = 10 * 365 * 86_400.0
"""Seconds of the longest life that is believed, which still is a date."""


class Token(msgspec.Struct):
    """A token response (RFC 6749 5.1). Some services write the seconds as a string, or with a
    fraction.
    """

    access_token: str
    expires_in: float | str | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} for {self.expires_in} seconds>"

    def expiring(self, now: float) -> Expiring[str]:
        try:
            seconds = float(self.expires_in) if self.expires_in is not None else UNTOLD_S
        except ValueError:
            seconds = UNTOLD_S
        if isnan(seconds):
            seconds = UNTOLD_S
        return Expiring(self.access_token, now + min(max(0.0, seconds), LONGEST_S))


class OAuthClient(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a client. `secret` or `assertion_file` is set."""

    token_url: str
    client_id: str
    secret: str = ""
    assertion_file: str = ""
    scope: str = ""
    audience: str = ""

    def __repr__(self) -> str:
        return f"<OAuthClient {self.client_id} at {self.token_url}>"


class ClientCredentials:
    """Tokens for a client of its own, without a user."""

    def __init__(
        self, settings: OAuthClient, client: HttpClient, *, clock: Callable[[], float] = time
    ) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock

    def __repr__(self) -> str:
        return f"<ClientCredentials {self._settings!r}>"

    async def fetch(self) -> Expiring[str]:
        settings = self._settings
        fields = {"grant_type": "client_credentials", "client_id": settings.client_id}
        if settings.assertion_file:
            fields["client_assertion_type"] = ASSERTION_TYPE
            fields["client_assertion"] = await asyncio.to_thread(read_key, settings.assertion_file)
        else:
            fields["client_secret"] = settings.secret
        if settings.scope:
            fields["scope"] = settings.scope
        if settings.audience:
            fields["audience"] = settings.audience
        place = f"the token endpoint {settings.token_url}"
        token = await post_form(self._client, settings.token_url, fields, kind=Token, place=place)
        return token.expiring(self._clock())
