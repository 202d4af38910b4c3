"""Decodes a compressed response as it arrives; requests say `accept-encoding: identity`, and some
servers compress all the same.

gzip and deflate are decoded, which the standard library has. `br` and `zstd` would be two more
packages of compiled code in the process that holds the keys, for responses that no server should
send (RFC 9110 12.5.3); they are refused.

A small body can decode to any size. So decoded bytes are made only as they are read, a slice at a
time, and beyond a ratio that no text reaches the response counts as broken.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Protocol

from modelplex.core.errors import UpstreamEncoded, UpstreamReply
from modelplex.http_client import BadResponse, HttpResponse, ResponseTooLarge

SLICE = 64 * 1024
"""Bytes that are decoded at a time."""
MOST_ALIKE = 200
"""Decoded bytes for each one received, beyond `GRACE`. JSON and streams of events compress 3 to 30
times; zeros, 1,030 times.
"""
GRACE = 1024 * 1024
"""Decoded bytes that are accepted at any ratio."""
GZIP = frozenset({b"gzip", b"x-gzip"})
DEFLATE = b"deflate"


def decoded(reply: HttpResponse, *, provider: str) -> HttpResponse | DecodedResponse:
    """The response itself where it is not compressed. Raises UpstreamEncoded, with the response
    closed, for a coding that is not decoded here.
    """
    if reply.header(b"content-encoding") is None:
        return reply
    codings = [
        each.strip().lower()
        for name, value in reply.headers
        if name == b"content-encoding"
        for each in value.split(b",")
    ]
    codings = [each for each in codings if each not in {b"", b"identity"}]
    if not codings:
        return reply
    if len(codings) == 1 and (codings[0] in GZIP or codings[0] == DEFLATE):
        return DecodedResponse(reply, gzip=codings[0] in GZIP)
    reply.close()
    named = ", ".join(each[:20].decode("ascii", "replace") for each in codings[:3])
    raise UpstreamEncoded(
        f"{provider} answered with the content encoding {named!r}, though the request accepts none; gzip and deflate are decoded.",
        upstream=UpstreamReply(status=reply.status),
    )


class InflateStream(Protocol):
    """The type of `zlib.decompressobj`, which has no public name."""

    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class DecodedResponse:
    """A response whose body is decoded; it has the methods of HttpResponse that readers use."""

    def __init__(self, reply: HttpResponse, *, gzip: bool) -> None:
        self.status = reply.status
        self.headers = [
            (name, value)
            for name, value in reply.headers
            if name not in {b"content-encoding", b"content-length"}
        ]
        self._reply = reply
        self._gzip = gzip
        self._inflate: InflateStream | None = None
        self._taken = 0
        self._made = 0

    def __repr__(self) -> str:
        return f"<Decoded {self._made} bytes of {self._taken} from {self._reply!r}>"

    def header(self, name: bytes) -> bytes | None:
        return next((value for each, value in self.headers if each == name), None)

    async def chunk(self) -> bytes | None:
        """Like HttpResponse.chunk. Raises BadResponse too, where the compressed data is broken,
        cut, or beyond the ratio.
        """
        while True:
            if self._inflate is not None and (data := self._slice(b"")):
                return data
            received = await self._reply.chunk()
            if received is None:
                return None
            if not received:
                return self._ended()
            self._taken += len(received)
            if data := self._slice(received):
                return data

    async def deliver(self, take: Callable[[bytes], bool]) -> bool:
        """Nothing: `chunk` decodes."""
        del take
        return False

    async def body(self, *, limit: int) -> bytes:
        """Like HttpResponse.body, with the limit on decoded bytes."""
        parts: list[bytes] = []
        size = 0
        while (data := await self.chunk()) != b"":
            if data is None:
                continue
            size += len(data)
            if size > limit:
                self.close()
                raise ResponseTooLarge(f"The answer is larger than the limit of {limit} bytes.", limit=limit)
            parts.append(data)
        return b"".join(parts)

    def nudge(self) -> None:
        self._reply.nudge()

    def close(self) -> None:
        self._reply.close()

    def _slice(self, received: bytes) -> bytes:
        """Up to SLICE more bytes; b"" where more must be received first."""
        inflate = self._inflate
        if inflate is not None and inflate.eof:  # gzip may be several members in a row (RFC 1952 2.2)
            received = inflate.unused_data + received
            inflate = None
        if inflate is None:
            if not received:
                return b""
            inflate = self._inflate = zlib.decompressobj(self._window(received))
        try:
            data = inflate.decompress(inflate.unconsumed_tail + received, SLICE)
        except zlib.error:
            self.close()
            raise BadResponse("The answer's content encoding is broken.") from None
        self._made += len(data)
        if self._made > GRACE + MOST_ALIKE * self._taken:
            self.close()
            raise BadResponse(f"The answer decodes to more than {MOST_ALIKE} times its size.")
        return data

    def _window(self, received: bytes) -> int:
        """The window bits for zlib. Some servers send "deflate" without the two bytes of zlib's
        header (RFC 9110 8.4.1.2, note).
        """
        if self._gzip:
            return 16 + zlib.MAX_WBITS
        has_header = received[0] & 0x0F == 8 and (
            len(received) < 2 or (received[0] * 256 + received[1]) % 31 == 0
        )
        return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS

    def _ended(self) -> bytes:
        inflate = self._inflate
        if inflate is not None and not inflate.eof:
            raise BadResponse("The answer's content encoding was cut before its end.")
        return b""
