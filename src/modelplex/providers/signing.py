"""Authentication of upstream requests: the `Signer` protocol, and static keys.

A signer sees the request as it is sent, after translation and policy, so that a signature over the
body (AWS SigV4) covers the bytes on the wire.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import msgspec


class UpstreamRequest(msgspec.Struct, frozen=True, gc=False):
    r"""One request to a provider, without its credential.

    host     the value of the Host header
    target   path and query
    headers  encoded lines, each ending in `\r\n`; without Host and Content-Length, which the HTTP
             client adds
    body     the final bytes
    """

    method: bytes
    host: str
    target: bytes
    headers: bytes
    body: bytes = b""


class Signer(Protocol):
    r"""Returns the header lines that authenticate a request, each ending in `\r\n`. A signer may
    wait, for a new token for example. It raises ModelplexError if it has no credential.
    """

    async def sign(self, request: UpstreamRequest, /) -> bytes: ...

    async def renew(self, signature: bytes, /) -> bool:
        """Whether there is another credential than the one of these lines, which was refused."""
        ...

    @property
    def secrets(self) -> tuple[str, ...]:
        """The credentials in use now, for masking them in a provider's error."""
        ...


class StaticKey:
    """The same header line for every request; none without a key."""

    def __init__(self, line: bytes) -> None:
        self.line = line

    def __repr__(self) -> str:
        return f"<StaticKey {'set' if self.line else 'none'}>"

    async def sign(self, request: UpstreamRequest, /) -> bytes:
        del request
        return self.line

    async def renew(self, signature: bytes, /) -> bool:
        del signature
        return False

    @property
    def secrets(self) -> tuple[str, ...]:
        """None: the config's own are known."""
        return ()


def account(key: str) -> str:
    """A short one-way hash of a key: the same for the same key, and useless for guessing it."""
    return hashlib.blake2s(key.encode(), digest_size=4, person=b"modelplx").hexdigest() if key else ""
