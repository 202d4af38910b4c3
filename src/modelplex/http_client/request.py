"""One request as bytes, and its timeouts. Source: RFC 9110 and RFC 9112."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

_NEEDS_LENGTH = frozenset({b"POST", b"PUT", b"PATCH"})  # RFC 9110 8.6: a length even when the body is empty
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"[!-~]+")
_VALUE = re.compile(rb"[^\r\n\0]*")
# Only this module writes the headers that frame a message: a second length or host allows request
# smuggling.
_HEADER_LINES = re.compile(
    rb"(?:(?!(?:host|content-length|transfer-encoding):)[!#$%&'*+.^_`|~0-9a-z-]+:[^\r\n\0]*\r\n)*",
    re.IGNORECASE,
)
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding"})


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. Each limits one wait, not the exchange: a stream may last for hours."""

    connect: float = 10.0
    """Name resolution, TCP and TLS together."""
    first_byte: float = 300.0
    """From the written request to the end of the response head."""
    idle: float = 300.0
    """Between two reads of the body while the reader waits, and between two writes of an upload."""


class EncodedRequest(msgspec.Struct, frozen=True, gc=False):
    head: bytes
    body: bytes
    is_head_request: bool
    timeouts: Timeouts


def encode_head(
    host_line: bytes,
    method: bytes,
    target: bytes,
    headers: Sequence[tuple[bytes, bytes]] | bytes,
    size: int,
) -> bytes:
    """The head of a request with a body of `size` bytes, and its empty line. Errors quote no value,
    which may be a key.
    """
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise ValueError("A method or target holds a character that HTTP does not allow.")
    if not isinstance(headers, bytes):
        headers = _header_lines(headers)
    elif not _HEADER_LINES.fullmatch(headers):
        raise ValueError(
            r"Encoded headers must be lines that end in \r\n, without Host, Content-Length or an empty line."
        )
    if size or method in _NEEDS_LENGTH:
        return b"%b %b%b%bcontent-length: %d\r\n\r\n" % (method, target, host_line, headers, size)
    return b"%b %b%b%b\r\n" % (method, target, host_line, headers)


def post_start(host_line: bytes, target: bytes, headers: bytes) -> bytes:
    """The head of a POST up to the value of its content-length, checked like `encode_head`: what
    many requests have in common.
    """
    encode_head(host_line, b"POST", target, headers, 0)
    return b"POST %b%b%bcontent-length: " % (target, host_line, headers)


def _header_lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or name.lower() in _FRAMING:
            raise ValueError(
                "A header's name is not a token, or is Host, Content-Length or Transfer-Encoding."
            )
        if not _VALUE.fullmatch(value):
            raise ValueError(f"The value of the header {name.decode()} holds a line break or a NUL.")
    return b"".join(b"%b: %b\r\n" % header for header in headers)
