"""The response that comes in on a connection: parsed by httptools, its head bounded, its body in
`chunks`.

Source: RFC 9112 (HTTP/1.1 framing).
"""

from __future__ import annotations

import asyncio
import re
from abc import abstractmethod

import httptools

from modelplex.core.origin import Origin
from modelplex.http_client.errors import BadResponse, SendError, parser_reason

HEAD_LIMIT = 64 * 1024
"""Bytes of a response head with its interim (1xx) heads; real ones have a few KiB. Also bounds
chunk extensions and trailers, which carry no body either.
"""
MAX_LENGTH_DIGITS = 15
HEADER_COUNT_LIMIT = 256
"""Header lines of a response; a real head has 10 to 40, and each line costs an object."""


class IncomingResponse(asyncio.BufferedProtocol):
    """The incoming half of an UpstreamConnection.

    `idle`: no exchange; in the pool, or new. `started`: a byte of the response was received.
    `has_head`: the head was received. `complete`: the response was received whole. `fault`: why it
    will not be. `bodiless`: bytes since the last ones of a body.
    """

    __slots__ = (
        "bodiless", "buffered", "chunks", "complete", "fault", "has_head", "headers", "idle", "is_head_request",
        "keep_alive", "origin", "parser", "parsing", "read_paused", "started", "status",
    )  # fmt: skip

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.idle = True
        self.read_paused = self.parsing = False
        self.chunks: list[bytes] = []
        self.buffered = 0
        self.parser: httptools.HttpResponseParser | None = None
        self.is_head_request = False
        self.headers: list[tuple[bytes, bytes]] = []
        self.status = self.bodiless = 0
        self.started = self.has_head = self.complete = self.keep_alive = False
        self.fault: SendError | None = None

    def begin(self, *, is_head_request: bool) -> None:
        """A request is about to be sent."""
        self.is_head_request = is_head_request
        self.headers = []
        self.status = self.bodiless = 0
        self.started = self.has_head = self.complete = self.keep_alive = self.idle = False
        self.fault = None
        if self.parser is None:
            self.parser = httptools.HttpResponseParser(self)

    def end(self) -> None:
        """The response is complete and was read. The parser can read the next one."""
        self.idle = True
        if self.is_head_request:
            self.parser = None  # which waits for the body that a header announced

    @abstractmethod
    def fail(self, fault: SendError) -> None: ...

    @abstractmethod
    def body_buffered(self) -> None:
        """More of a body is in `chunks`: pause reading, if it is too much."""

    @abstractmethod
    def unexpected(self) -> None:
        """Bytes came in without a request."""

    def parse(self, data: memoryview) -> None:
        if self.idle or self.complete or self.fault is not None:
            # Unexpected bytes: more of them could be taken for the next response.
            self.keep_alive = False
            if self.idle:
                self.unexpected()
            return
        if not self.started and not self.is_head_request and (whole := read_whole(bytes(data))) is not None:
            self.headers, body = whole
            self.started = self.has_head = self.keep_alive = self.complete = True
            self.status = 200
            if body:
                self.chunks.append(body)
                self.buffered = len(body)
            return
        parser = self.parser
        assert parser is not None
        self.started = self.parsing = True
        self.bodiless += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.keep_alive = False
            self._fail_as_bad(f"sent a response that is not HTTP/1.1: {parser_reason(error)}.")
        else:
            if self.bodiless > HEAD_LIMIT and not self.complete:
                self._refuse_head()
        self.parsing = False

    # Called by the parser.

    def on_message_begin(self) -> None:
        if self.complete:
            self.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head or self.fault is not None:
            return  # a trailer, or above the limit
        self.headers.append((name.lower(), value))
        if len(self.headers) > HEADER_COUNT_LIMIT:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        if self.complete or self.fault is not None:
            return
        parser = self.parser
        assert parser is not None
        self.status = status = parser.get_status_code()
        if status < 200:
            self.headers.clear()
            if status == 101:
                self._fail_as_bad("switched to another protocol without a request for it.")
            return
        if self.bodiless > HEAD_LIMIT and _size(self.headers) > HEAD_LIMIT:  # body may follow at once
            self._refuse_head()
            return
        self.has_head = True
        self.bodiless = 0
        self.keep_alive = parser.should_keep_alive()
        if self.is_head_request or status in {204, 304}:
            self.complete = True  # RFC 9112 6.3: no body, even if a header gives a length

    def on_body(self, data: bytes) -> None:
        if self.complete or self.fault is not None:
            self.keep_alive = False
            return
        self.bodiless = 0
        self.chunks.append(data)
        self.buffered += len(data)
        if not self.read_paused:
            self.body_buffered()

    def on_message_complete(self) -> None:
        if self.has_head and self.fault is None:
            self.complete = True

    def _refuse_head(self) -> None:
        self._fail_as_bad(f"sent more headers than {HEAD_LIMIT} bytes or {HEADER_COUNT_LIMIT} lines.")

    def _fail_as_bad(self, reason: str) -> None:
        if not self.complete:
            self.fail(BadResponse(f"{self.origin} {reason}"))


_ALLOWED = bytes(byte for byte in range(256) if byte == 0x09 or 0x20 <= byte != 0x7F)
"""Bytes of a line (RFC 9110 5.5)."""
_STATUS_LINE = re.compile(rb"HTTP/1\.1 200(?: [^\r\n]*)?")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING = frozenset({b"connection", b"transfer-encoding", b"upgrade", b"proxy-connection"})
"""Headers that are for the parser, but for `connection: keep-alive`. Content-length is read here.
"""
_KEEPS = (b"connection", b"keep-alive")
_names: dict[bytes, bytes] = {}
"""Names of headers as servers write them, and in lower case."""
MAX_NAMES = 1024
Headers = list[tuple[bytes, bytes]]


def read_whole(data: bytes) -> tuple[Headers, bytes] | None:
    """The headers and the body of a response in the usual form, if `data` is all of one: status
    200, one content-length, no other framing, no odd character. None for any other, which the
    parser reads. What is read here, the parser reads alike (tests compare both).
    """
    end = data.find(b"\r\n\r\n", 0, HEAD_LIMIT)
    if end < 0:
        return None
    head = data[:end]
    first, *lines = head.split(b"\r\n")
    if (
        _STATUS_LINE.fullmatch(first) is None
        or not 0 < len(lines) <= HEADER_COUNT_LIMIT
        or head.translate(None, _ALLOWED) != b"\r\n" * len(lines)
    ):
        return None
    headers: Headers = []
    length = None
    for line in lines:
        written, colon, value = line.partition(b":")
        name = _names.get(written) or _new_name(written)
        value = value.lstrip(b" \t")
        if not colon or name is None or (name in _FRAMING and (name, value.lower()) != _KEEPS):
            return None
        if name == b"content-length":
            if length is not None or not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
                return None
            length = int(value)
        headers.append((name, value))
    body = data[end + 4 :]
    return (headers, body) if length == len(body) else None


def _new_name(written: bytes) -> bytes | None:
    if not _TOKEN.fullmatch(written):
        return None
    if len(_names) >= MAX_NAMES:
        _names.clear()
    name = _names[written] = written.lower()
    return name


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def ends_with_connection(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the body ends when the connection does (RFC 9112 6.3, rules 4 and 8)."""
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings:
        return not codings[-1].rstrip().lower().endswith(b"chunked")
    return all(name != b"content-length" for name, _ in headers)
