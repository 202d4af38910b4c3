"""A server's `requestState` on its way through a client: bound to that server and that caller, so
that nobody can give it to another.

Above it stands the hub; below it HMAC. The state itself is not read. A seal holds for as long as
the key does, which is made anew with each process.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

import msgspec

MARK = "mpx1."
"""What every sealed state begins with; another form will have another."""


class SealedRequestState(msgspec.Struct, frozen=True, array_like=True):
    """`state` is the server's, None where it gave none. `roots` are the questions of that answer
    which the gateway answers itself.
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
        """What was sealed; None where it was not here, not for this caller, or not of
        this server.
        """
        if not isinstance(text, str) or not text.startswith(MARK):
            return None
        try:
            said = text[len(MARK) :].encode("ascii")
            whole = urlsafe_b64decode(said)
            if urlsafe_b64encode(whole) != said:  # the decoder passes over what is no base64
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
