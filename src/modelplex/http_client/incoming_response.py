"""The response that comes in on a connection: parsed by httptools, its head bounded, its body in
`chunks`.

Source: RFC 9112 (HTTP/1.1 framing).
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

import httptools

from modelplex.http_client.errors import BadResponse, SendError, parser_reason
from modelplex.http_client.origin import Origin

HEAD_LIMIT = 64 * 1024
"""Bytes of a response head with its interim (1xx) heads; real ones have a few KiB. Also bounds
chunk extensions and trailers, which carry no body either.
"""
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
        self._reset(is_head_request=False)

    def _reset(self, *, is_head_request: bool) -> None:
        self.is_head_request = is_head_request
        self.headers: list[tuple[bytes, bytes]] = []
        self.status = self.bodiless = 0
        self.started = self.has_head = self.complete = self.keep_alive = False
        self.fault: SendError | None = None

    def begin(self, *, is_head_request: bool) -> None:
        """A request is about to be sent."""
        self._reset(is_head_request=is_head_request)
        self.idle = False
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


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def ends_with_connection(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the body ends when the connection does (RFC 9112 6.3, rules 4 and 8)."""
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings:
        return not codings[-1].rstrip().lower().endswith(b"chunked")
    return all(name != b"content-length" for name, _ in headers)
