"""Reads the HTTP/1.1 requests of one connection, and bounds the size of their heads.

It hands each head and each piece of body to its receiver. It never writes and has no deadlines; it
returns the refusal of a request that it does not accept.

httptools parses. Two things are read without it, since they need no parser: a head whose bytes, but
for the digits of its content-length, are those of an earlier head of the same caller; and a body of
known length.
"""

from __future__ import annotations

import re
import urllib.parse
from contextlib import suppress
from typing import Literal, Protocol

import httptools

from modelplex.server.admission import USUAL_HEAD, USUAL_HEADERS, HeadMemory, HeadReservation
from modelplex.server.connection_refusals import (
    HEAD_TOO_LARGE,
    TOO_MANY_HEADS,
    TOO_MANY_PIPELINED,
    ConnectionRefusal,
    invalid_http,
)
from modelplex.server.request_head import HttpHead, KnownHeads

VERSIONS = {"1.0", "1.1"}
"""Versions of HTTP. The parser accepts 0.9 and 2.0 too, whose heads have another form or none."""

FOREIGN = re.compile(rb"[\r\n]*[^\r\n]* (?:RTSP|ICE)/")
"""The first line of a request in a protocol that the parser accepts as HTTP."""

UPGRADE_HEADERS = {b"connection", b"upgrade", b"http2-settings"}

MAX_LENGTH_DIGITS = 20
"""Digits of a content-length: as many as the largest 64-bit number has. The parser accepts any
number of leading zeros.
"""

MAX_CAUSE = 200
"""Characters of what the parser says, which may quote the target."""

ReadStage = Literal["between", "first bytes", "head", "body"]
"""How far the incoming request is read. "first bytes": of its head, before the deadline is set."""


class RequestReceiver(Protocol):
    """What a reader calls. `queue_is_full`: no further request can wait."""

    queue_is_full: bool

    def head_started(self) -> None:
        """The first bytes of a request have come, without its whole head."""
        ...

    def request_started(self, head: HttpHead, *, length: int | None) -> None: ...
    def body_received(self, data: bytes) -> None: ...
    def request_complete(self) -> None: ...
    def request_received(self, head: HttpHead, body: bytes) -> None:
        """The three calls above, for a request that came in one piece."""
        ...


class RequestReader:
    """The requests of one connection. `known` has heads that its caller sent before."""

    def __init__(
        self, receiver: RequestReceiver, *, max_header_size: int, heads: HeadMemory, known: KnownHeads
    ) -> None:
        self.receiver = receiver
        self.max_header_size = max_header_size
        self.heads = HeadReservation(heads)
        self.known = known
        self.parser = self.new_parser()
        self.stage: ReadStage = "between"
        self.remaining = 0
        """Bytes of a body that are read without the parser."""
        self.unparsed = 0
        """Bytes since the last complete head, piece of body or complete request."""
        self.fed = b""
        """What the parser is fed, while its first request may begin with it."""
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.length: int | None = None
        """The content-length of the request, less what was read of its body."""
        self.expects_100 = False
        self.upgrade = False
        """The request has `Upgrade`."""
        self.upgraded: list[tuple[bytes, bytes]] | None = None
        """The headers of such a request, while its head is parsed again without it."""
        self.fault: ConnectionRefusal | None = None
        """The refusal for which a callback stopped the parser."""

    def new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        with suppress(AttributeError):  # httptools < 0.6.3
            # Accept data after `connection: close`: a pipelined request gets its response.
            parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def close(self) -> None:
        """The connection is closed. The parser and the reader refer to each other; without the
        cycle they need no garbage collector.
        """
        self.heads.release()
        del self.parser, self.receiver

    def feed(self, data: bytes) -> ConnectionRefusal | None:
        """Read input. Returns a refusal for input that is not accepted; do not feed the reader
        after that.
        """
        while data:
            if self.remaining:
                piece = data[: self.remaining]
                data = data[len(piece) :]
                self.receiver.body_received(piece)
                self.body_read(len(piece))
                continue
            found = self.known.find(data) if self.stage == "between" else None
            if found is None or self.receiver.queue_is_full:
                return self.parse(data)
            head, length, start = found
            end = start + length
            if end > len(data):
                self.start_known(head, data[start:], length=length)
                return None
            self.unparsed = 0  # line breaks before this head
            self.receiver.request_received(head, data[start:end])
            data = data[end:]
        return None

    def start_known(self, head: HttpHead, data: bytes, *, length: int) -> None:
        """A head that is known was read, and the beginning of its body."""
        self.unparsed = 0
        self.receiver.request_started(head, length=length)
        if data:
            self.receiver.body_received(data)
        self.stage = "body"
        self.remaining = length - len(data)

    def body_read(self, size: int) -> None:
        """So many of the remaining bytes of a body were received."""
        self.remaining -= size
        if not self.remaining:
            self.stage = "between"
            self.receiver.request_complete()

    def parse(self, data: bytes) -> ConnectionRefusal | None:
        self.unparsed += len(data)
        if self.stage == "between":
            if FOREIGN.match(data):
                return invalid_http("another protocol")
            self.fed = data
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            return self.fault or invalid_http(str(error.__context__ or error)[:MAX_CAUSE])
        except httptools.HttpParserUpgrade as pause:
            return self.parse_without_upgrade(data[pause.args[0] :])
        finally:
            self.fed = b""
        if self.stage == "between":
            return None
        if self.stage == "body" and self.length:
            # The rest needs no parser.
            self.remaining, self.length = self.length, None
            self.parser = self.new_parser()
            return None
        if self.unparsed > self.max_header_size:
            # Of a head, or of trailers and chunk headers, which have the same bound.
            return HEAD_TOO_LARGE
        if self.stage == "first bytes":
            self.stage = "head"
            self.receiver.head_started()
        if self.stage == "head" and not self.head_fits():
            return TOO_MANY_HEADS
        return None

    def parse_without_upgrade(self, rest: bytes) -> ConnectionRefusal | None:
        """Parse a request with `Upgrade` again without it, as RFC 9110 7.8 allows. The parser stops
        after its head, since the body might be of another protocol; Java's client asks for h2c on a
        plain POST.
        """
        method, version, headers = self.parser.get_method(), self.parser.get_http_version(), self.headers
        lines = [b"%b: %b\r\n" % (name, value) for name, value in headers if name not in UPGRADE_HEADERS]
        if self.length is not None:
            lines.append(b"content-length: %d\r\n" % self.length)
        head = b"%b %b HTTP/%b\r\n%bconnection: close\r\n\r\n" % (
            method,
            self.url,
            version.encode(),
            b"".join(lines),
        )
        self.upgrade = False
        self.upgraded = headers  # what the app gets
        self.parser = self.new_parser()
        refusal = self.parse(head)
        if refusal is None and rest:
            refusal = self.feed(rest)
        return refusal

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        self.url = b""
        self.expects_100 = False
        self.headers = []
        self.length = None
        self.stage = "first bytes"

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expects_100 = True
        elif name == b"content-length":
            if len(value) > MAX_LENGTH_DIGITS:
                self.stop(invalid_http("a content-length of too many digits"))
            self.length = int(value)
            return
        elif name == b"transfer-encoding":
            self.length = None
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.unparsed > self.max_header_size and self.head_size() > self.max_header_size:
            self.stop(HEAD_TOO_LARGE)
        if not self.head_fits():
            self.stop(TOO_MANY_HEADS)
        if self.receiver.queue_is_full:
            self.stop(TOO_MANY_PIPELINED)
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            self.stop(invalid_http(f"HTTP/{version}"))
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self.stop(invalid_http("CONNECT"))
            self.upgrade = True
            return
        head = self.complete_head(version)
        if self.fed and self.upgraded is None:
            self.known.remember(self.fed, head)
        self.fed = b""
        self.upgraded = None
        self.url = b""
        self.unparsed = 0
        self.stage = "body"
        # Trailers arrive as headers too; a new list keeps them out of the head.
        self.headers = []
        self.receiver.request_started(head, length=self.length)

    def on_body(self, body: bytes) -> None:
        self.unparsed = 0
        if self.length is not None:
            self.length -= len(body)
        self.receiver.body_received(body)

    def on_message_complete(self) -> None:
        if self.upgrade:
            return
        self.unparsed = 0
        self.length = None
        self.stage = "between"
        self.receiver.request_complete()

    def stop(self, refusal: ConnectionRefusal) -> None:
        """Stop the parser, by an exception from its callback."""
        self.fault = refusal
        raise ValueError("the request is refused")

    def complete_head(self, version: str) -> HttpHead:
        """Raises ValueError or an error of httptools for a target that is no path; the parser
        reports both.
        """
        target = httptools.parse_url(self.url)
        if target.schema and target.schema.lower() != b"http":  # None too, whatever its type says
            raise ValueError("a target of another scheme")
        if target.userinfo:
            raise ValueError("a target with a user's name")
        if target.host:
            # "GET http://host/path", as sent to a proxy: this host counts (RFC 9112 3.2.2).
            port = b":%d" % target.port if target.port else b""
            others = [(name, value) for name, value in self.headers if name != b"host"]
            self.headers = [(b"host", target.host + port), *others]
        raw_path = target.path
        path = raw_path.decode("ascii")
        return HttpHead(
            version=version,
            method=self.parser.get_method().decode("ascii"),
            path=urllib.parse.unquote(path) if "%" in path else path,
            raw_path=raw_path,
            query=target.query or b"",
            headers=self.headers if self.upgraded is None else self.upgraded,
            expects_100=self.expects_100,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
        )

    def head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def head_fits(self) -> bool:
        """Count a large head. False if there is no memory for it."""
        if self.unparsed <= USUAL_HEAD and len(self.headers) <= USUAL_HEADERS:
            return True
        size = self.head_size()
        if self.stage == "head":
            size += self.unparsed  # which may hold an incomplete header
        return self.heads.fits(size, headers=len(self.headers))
