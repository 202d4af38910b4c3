"""Signs a server's `requestState` while a client holds it, bound to that server and that caller.

Uses HMAC over the state, which stays readable. Each process has a new key.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

import msgspec

PREFIX = "mpx1."
"""The prefix of every signed state. A new format gets a new prefix."""


class SealedRequestState(msgspec.Struct, frozen=True, array_like=True):
    """`state` is the server's, None if it gave none. `roots` are the questions of that reply which
    the gateway answers itself.
    """

    server: str
    owner: str
    state: str | None
    roots: tuple[str, ...] = ()


_decoder = msgspec.json.Decoder(SealedRequestState)


class RequestStateSealer:
    """`key` is at least 32 random bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "<RequestStateSealer>"

    def seal(self, sealed: SealedRequestState) -> str:
        body = msgspec.json.encode(sealed)
        return PREFIX + urlsafe_b64encode(self._mac(body) + body).decode()

    def open(self, text: object, *, server: str, owner: str) -> SealedRequestState | None:
        """The sealed state; None if it was not sealed here for this caller and this server."""
        if not isinstance(text, str) or not text.startswith(PREFIX):
            return None
        try:
            encoded = text[len(PREFIX) :].encode("ascii")
            content = urlsafe_b64decode(encoded)
            if urlsafe_b64encode(content) != encoded:  # the decoder skips what is no base64
                return None
            mac, body = content[: sha256().digest_size], content[sha256().digest_size :]
            if not hmac.compare_digest(mac, self._mac(body)):
                return None
            sealed = _decoder.decode(body)
        except (ValueError, UnicodeEncodeError, msgspec.MsgspecError):
            return None
        return sealed if (sealed.server, sealed.owner) == (server, owner) else None

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")
