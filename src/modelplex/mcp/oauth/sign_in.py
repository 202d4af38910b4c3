"""A sign-in: the tokens for one tool server, and what is needed to renew them.

PURE.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

FORMAT: Final = 1
EARLY_S: Final = 60.0
"""Seconds before its end at which a token is renewed; a fifth of its life where that is shorter."""
NEW_S: Final = 10.0
"""Seconds for which a token is new; a fifth of its life where that is shorter."""
Method = Literal["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]


class RegisteredClient(msgspec.Struct, frozen=True, kw_only=True):
    """A client of one authorization server. `redirect` is the address that was registered; ""
    accepts any. `secret_expires_at` in Unix seconds; 0 is never.
    """

    id: str
    issuer: str
    secret: str = ""
    secret_expires_at: float = 0.0
    method: Method = "none"
    redirect: str = ""

    def __repr__(self) -> str:
        return f"<RegisteredClient {self.id} of {self.issuer}>"


class SignIn(msgspec.Struct, frozen=True, kw_only=True):
    """server    the URL of the tool server that the tokens are for; no other gets them
    resource  its name at the authorization server
    scope     what was asked for, and `wanted` what a request needed besides
    ended     why the tokens cannot be renewed; "" while they can
    """

    format: int = FORMAT
    server: str
    resource: str
    token_endpoint: str
    revocation_endpoint: str = ""
    client: RegisteredClient
    access_token: str
    refresh_token: str = ""
    obtained_at: float
    expires_at: float | None = None
    scope: str = ""
    wanted: str = ""
    ended: str = ""

    def __repr__(self) -> str:
        return f"<SignIn for {self.server} until {self.expires_at}>"

    def holds(self, now: float) -> bool:
        """Whether the access token has not expired."""
        return not self.ended and (self.expires_at is None or now < self.expires_at)

    def is_fresh(self, now: float) -> bool:
        """Whether the access token need not be renewed yet."""
        if self.ended or self.expires_at is None:
            return not self.ended
        return now < self.expires_at - min(EARLY_S, (self.expires_at - self.obtained_at) / 5)

    def is_new(self, now: float) -> bool:
        """Whether the server that refuses this token would refuse another one too."""
        life = NEW_S if self.expires_at is None else (self.expires_at - self.obtained_at) / 5
        return now - self.obtained_at < min(NEW_S, life)

    def is_usable(self, now: float) -> bool:
        """Whether it gives a token without a person."""
        return not self.ended and (self.holds(now) or bool(self.refresh_token))
