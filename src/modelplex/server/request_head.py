"""The head of a request: as it was read, the facts in it that the server acts on, and heads that
are known already.
"""

from __future__ import annotations

import re

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.trace_context import TraceContext, read_trace_context
from modelplex.dialects.registry import DEFAULT, DIALECTS
from modelplex.records.request_headers import ShownHeaders, shown_headers
from modelplex.server.routes import (
    MCP,
    TELEMETRY,
    Operation,
    check_unambiguous,
    client_headers,
    find_operation,
)

CONTENT_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ?(\d{1,15})\r\n")
"""The one line of a known head that may differ, as clients write it."""
KNOWN_SIZE = 4096
"""Bytes of a head that is remembered; those of agents have about 1,000."""
_NOT_REMEMBERED = frozenset({b"transfer-encoding", b"upgrade", b"traceparent"})
"""Another framing, or another one with each request."""
KNOWN_HEADS = 4
"""Heads that are remembered for one caller: agents send one or two, but for their content-length.
"""


Headers = tuple[tuple[bytes, bytes], ...]


class RequestHead(msgspec.Struct, frozen=True):
    """What the server acts on. API keys in any header are accepted, ignored and never forwarded.

    operation  that of a POST to this path, if it is a model call
    client     dialect of the client by its headers, for paths that several dialects share
    gzip       the body is compressed, which only telemetry may be
    trace      that the request belongs to, if it has a valid traceparent
    detail     whether the query holds `detail`; only /health reads it
    """

    method: str
    path: str
    host: str | None
    origin: str | None
    authorization: str | None
    content_type: str
    upgrade: bool
    operation: Operation | None
    client: str
    detail: bool
    gzip: bool = False
    trace: TraceContext | None = None


class HttpHead:
    """A head as it was read, without its content-length. Heads of equal bytes share one, so nothing
    in it changes.
    """

    __slots__ = ("_facts", "_forwarded", "_shown", "expects_100", "headers", "is_known", "keep_alive", "method", "path", "query", "raw_path", "version")  # fmt: skip

    def __init__(
        self,
        *,
        method: str,
        raw_path: bytes,
        path: str,
        query: bytes = b"",
        version: str = "1.1",
        headers: list[tuple[bytes, bytes]],
        expects_100: bool = False,
        keep_alive: bool = True,
    ) -> None:
        self.method = method
        self.raw_path = raw_path
        self.path = path
        self.query = query
        self.version = version
        self.headers = headers
        self.expects_100 = expects_100
        self.keep_alive = keep_alive
        self.is_known = False
        """Later requests with equal bytes get this one."""
        self._facts: RequestHead | None = None
        self._forwarded: Headers | None = None
        self._shown: ShownHeaders | None = None

    def __repr__(self) -> str:
        return f"<HttpHead {self.method} {self.path}, {len(self.headers)} headers>"

    @property
    def facts(self) -> RequestHead:
        """Raises BadRequest for headers or a path that are ambiguous or not served."""
        if self._facts is None:
            self._facts = read_head(self)
        return self._facts

    @property
    def forwarded(self) -> Headers:
        """Headers that the client's dialect passes on. Loads the dialect of the operation."""
        if self._forwarded is None:
            operation = self.facts.operation
            assert operation is not None
            select = DIALECTS[operation.dialect].request_headers
            self._forwarded = select(self.headers) if select is not None else ()
        return self._forwarded

    @property
    def shown(self) -> ShownHeaders:
        """The headers for the record."""
        if self._shown is None:
            self._shown = shown_headers(self.headers)
        return self._shown


class KnownHeads:
    """The heads that a caller sent last, by their bytes without the digits of the content-length:
    equal bytes are read alike.
    """

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, HttpHead] = {}

    def __repr__(self) -> str:
        return f"<KnownHeads {list(self._heads.values())}>"

    def find(self, data: bytes) -> tuple[HttpHead, int, int] | None:
        """The head that begins `data`, its content-length, and where its body begins."""
        end = data.find(b"\r\n\r\n", 0, KNOWN_SIZE)
        if end < 0 or (length := CONTENT_LENGTH.search(data, 0, end + 2)) is None:
            return None
        start, stop = length.span(1)
        head = self._heads.get(data[:start] + data[stop:end])
        return None if head is None else (head, int(length[1]), end + 4)

    def remember(self, data: bytes, head: HttpHead) -> None:
        """`data` begins with the bytes of this head. One with another framing than a
        content-length, with a folded line or with bytes before it is not remembered.
        """
        end = data.find(b"\r\n\r\n", 0, KNOWN_SIZE)
        lines = 2 + len(head.headers)  # with that of the content-length
        if (
            head.expects_100
            or end < 0
            or data.count(b"\r\n", 0, end + 2) != lines
            or data.count(b"\n", 0, end + 2) != lines
            or any(name in _NOT_REMEMBERED for name, _ in head.headers)
            or (length := CONTENT_LENGTH.search(data, 0, end + 2)) is None
        ):
            return
        if len(self._heads) >= KNOWN_HEADS:
            self._heads.clear()
        start, stop = length.span(1)
        self._heads[data[:start] + data[stop:end]] = head
        head.is_known = True


def read_head(http: HttpHead) -> RequestHead:
    """Raises BadRequest for headers that are ambiguous or not served, and for such a path."""
    host = origin = authorization = None
    content_type, upgrade, gzip = "", False, False
    parents: list[str] = []
    states: list[str] = []
    client, clients = DEFAULT, client_headers()
    for name, value in http.headers:
        match name:
            case b"host":
                _check_single(name, host)
                host = value.decode("latin-1")
            case b"upgrade":
                upgrade = value.lower() == b"websocket"
            case b"content-type":
                # A media type is case-insensitive, its parameters may not be (RFC 9110 8.3.1).
                kind, *parameters = value.decode("latin-1").split(";", 1)
                content_type = ";".join((kind.lower(), *parameters))
            case b"origin":
                _check_single(name, origin)
                origin = value.decode("latin-1")
            case b"authorization":
                authorization = value.decode("latin-1")
            case b"content-encoding" if value.strip().lower() == b"gzip" and http.path in TELEMETRY:
                gzip = True
            case b"content-encoding" if value.strip().lower() not in {b"", b"identity"}:
                raise BadRequest(
                    "Request bodies with a content-encoding are not supported.",
                    status=415,
                    code="unsupported_encoding",
                )
            case b"transfer-encoding" if value.strip().lower() != b"chunked":
                # The parser accepts "gzip, chunked" and would hand over compressed bytes.
                raise BadRequest("The only supported transfer-encoding is chunked.")
            case b"traceparent":
                parents.append(value.decode("latin-1"))
            case b"tracestate":
                states.append(value.decode("latin-1"))
            case _:
                client = clients.get(name, client)
    check_unambiguous(http.raw_path, method=http.method)
    operation = None if http.path.startswith(MCP) else find_operation(http.path, http.query)
    return RequestHead(
        method=http.method,
        path=http.path,
        host=host,
        origin=origin,
        authorization=authorization,
        content_type=content_type,
        upgrade=upgrade,
        operation=operation,
        client=client,
        detail=b"detail" in http.query,
        gzip=gzip,
        trace=read_trace_context(parents, states) if parents else None,
    )


def _check_single(name: bytes, previous: str | None) -> None:
    """Raises BadRequest for a second header of this name: one could pass the check here while
    another reader acts on the other (RFC 9112 3.2).
    """
    if previous is not None:
        raise BadRequest(f"The request has the header {name.decode()!r} twice.")
