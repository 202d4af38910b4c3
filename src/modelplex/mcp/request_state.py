"""Seals a server's `requestState` for its way through a client: bound to that server and that
caller.

Uses HMAC and does not read the state. The key is made anew with each process.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

import msgspec

MARK = "mpx1."
"""Every sealed state begins so; another format gets another mark."""


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
        return "<Seals>"

    def seal(self, sealed: SealedRequestState) -> str:
        body = msgspec.json.encode(sealed)
        return MARK + urlsafe_b64encode(self._mac(body) + body).decode()

    def open(self, text: object, *, server: str, owner: str) -> SealedRequestState | None:
        """The sealed state; None if it was not sealed here for this caller and this server."""
        if not isinstance(text, str) or not text.startswith(MARK):
            return None
        try:
            said = text[len(MARK) :].encode("ascii")
            whole = urlsafe_b64decode(said)
            if urlsafe_b64encode(whole) != said:  # the decoder skips what is no base64
                return None
            mac, body = whole[: sha256().digest_size], whole[sha256().digest_size :]
            if not hmac.compare_digest(mac, self._mac(body)):
                return None
            sealed = _decoder.decode(body)
        except (ValueError, UnicodeEncodeError, msgspec.MsgspecError):
            return None
        return sealed if (sealed.server, sealed.owner) == (server, owner) else None

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")
