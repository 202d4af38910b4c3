"""One connection: HTTP/1.1 read by httptools, spoken by uvicorn, and the limits that hold on it.

Above it `serve`, which opens and ends connections; below it the app, a bare ASGI callable. It knows
neither routes nor models, and of the app's errors only that there was one.

uvicorn gives the exchange (`send`, `receive`, flow control, keep-alive, 100-continue, chunked
bodies). Ours is what it leaves open:

- time and size: a head, a body and an idle connection are each given a deadline. It is a number on
  the connection, looked at by one sweep over all of them, so a request that is in time costs no
  timer;
- the end: an answer that comes before its request was read to the end is not lost in a reset
  (`hang_up`);
- refusals have OpenAI's error shape, and never land in the middle of another answer (`refuse`);
- pipelined requests wait in turn, and a hang-up reaches the one that runs, not the one that was
  read last.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import urllib.parse
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Literal, cast

import httptools
import msgspec
from uvicorn._types import ASGI3Application, HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState

from modelplex.server.connection_shares import ConnectionShares, ShareHolder, ShareRefused, bounds

log = logging.getLogger("modelplex.server")

LINGER_SECONDS = 2.0
"""How long an ended connection is still read from, so that a client in the middle of its body gets
to read our answer.
"""

LINGER_BYTES = 48 * 1024 * 1024
"""How much is read and thrown away meanwhile: a body somewhat above the usual request limit of 32
MiB, to its end.
"""

FLUSH_SECONDS = 30.0
"""How long the rest of a finished answer waits for a client that takes no byte of it."""

MAX_PIPELINED = 16
"""Requests that wait behind a running one. No client that we know pipelines; each one waiting costs
about 2 kB.
"""

MAX_OVER_LIMIT = 256
"""Connections for which there is no room that are told so. Those beyond are cut without a word."""

SPOKEN = {"1.0", "1.1"}
"""Versions of HTTP. The parser knows 0.9 and 2.0 too, which have no head or one of another form."""

FOREIGN = re.compile(rb"[\r\n]*[^\r\n]* (?:RTSP|ICE)/")
"""The first line of a request of protocols that the parser reads like HTTP, and does not tell from
it.
"""

UPGRADING = {b"connection", b"upgrade", b"http2-settings"}
"""Headers that ask for another protocol."""

USUAL_HEAD = 16_384
"""Bytes of a head that count nowhere, and so do USUAL_HEADERS headers: what clients send is well
below.
"""
USUAL_HEADERS = 256
HEADER_COST = 160
"""Bytes that a header takes beside its own: a short one is mostly that."""
MAX_HEADS = 16 * 1024 * 1024
"""Bytes of all larger heads together, unfinished or of running requests. At the largest size that
is usual, thousands of them would otherwise take hundreds of megabytes.
"""

JOIN_LIMIT = 65_536
"""Bytes of body up to which head and body are copied together: a copy costs less than a second
buffer below it.
"""

Stage = Literal["between", "head begun", "head", "body"]
"""How far the request is read that is coming in: none; its first bytes, no deadline set; its head;
its body.
"""


class ConnectionLimits(msgspec.Struct, frozen=True):
    """What a client may take of us. Times in seconds, sizes in bytes; each deadline is met within a
    quarter of itself or a second.
    """

    max_header_size: int = 65536
    """Request line and headers: room for a client's cookies and long paths."""
    header_timeout: float = 10
    """From the first byte of a request (or, before that, from the accept) to the end of its head.
    """
    body_timeout: float = 30
    """Without a byte of a body that is not complete, while we are ready to read it."""
    min_body_rate: int = 32_768
    """Bytes a second, on average from `body_timeout` after the head on: who sends a byte now and
    then holds memory for nothing. 0 is no bound.
    """
    keep_alive: float = 75
    """Between requests. Longer than the minute after which most clients' pools let go: they should
    be the ones to close.
    """
    max_connections: int = 2048
    max_connections_per_listener: int | None = None
    max_connections_per_caller: int | None = None
    reserved_connections: int | None = None
    """For HTTP. What is None is a part of `max_connections`, which `shares` knows."""
    unread_timeout: float = 120
    """Without a byte taken of an answer that waits to be sent: longer than a client pauses that
    still wants it.
    """
    unread_grace: float = 5
    """For so long a client's answers may wait, however many they are."""
    unread_connections: int = 64
    """Of one caller with an answer that has been waiting for longer than that. Each holds what was
    read of its provider in the meantime, about 2 MB.
    """
    unread_bytes: int = 134_217_728
    """Of such answers of one caller together: two whole ones of the largest usual size."""
    drain_timeout: float = 30
    """For running requests to end by themselves when the gateway stops."""


def refusal_of(
    status: int, *, message: str, code: str, kind: str = "invalid_request_error", headers: str = ""
) -> bytes:
    """A whole response in OpenAI's error shape, after which the connection ends."""
    body = msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{headers}connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def no_room(refused: ShareRefused) -> bytes:
    kind = "rate_limit_exceeded" if refused.status == 429 else "overloaded"
    return refusal_of(
        refused.status,
        code="too_many_connections",
        kind=kind,
        message=refused.message,
        headers="retry-after: 1\r\n",
    )


INVALID_HTTP = refusal_of(400, code="invalid_http", message="What came in is not a valid HTTP/1.1 request.")
TOO_MANY_PIPELINED = refusal_of(
    400,
    code="too_many_pipelined",
    message=f"More than {MAX_PIPELINED} requests were sent ahead on one connection.",
)
SLOW_HEAD = refusal_of(
    408, code="request_timeout", message="The head of the request took too long to arrive."
)
SLOW_BODY = refusal_of(
    408,
    code="request_timeout",
    message="The body of the request stopped arriving before it was complete, or came too slowly.",
)
HEAD_TOO_LARGE = refusal_of(
    431,
    code="request_headers_too_large",
    message="The request line and headers are larger than this gateway reads.",
)
TOO_MANY_HEADS = refusal_of(
    503,
    code="heads_full",
    kind="overloaded",
    message="Requests with unusually large heads take as much memory as they may; try again in a moment.",
    headers="retry-after: 1\r\n",
)
APP_FAILED = msgspec.json.encode(
    {
        "error": {
            "message": "The gateway failed while answering; its log says why.",
            "type": "gateway_error",
            "param": None,
            "code": "gateway_error",
        }
    }
)


class ConnectionRegistry(ServerState):
    """What is going on in a process: its open connections and running exchanges, and the sweep that
    holds them to their deadlines.
    """

    def __init__(self, *, limits: ConnectionLimits, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.limits = limits
        self.loop = loop
        self.open: set[Connection] = set()
        self.shares = ConnectionShares(
            bounds(
                limits.max_connections,
                per_listener=limits.max_connections_per_listener,
                per_caller=limits.max_connections_per_caller,
                reserved=limits.reserved_connections,
            )
        )
        self.heads = 0
        """Bytes of unusually large heads in memory."""
        self.unread: dict[Connection, UnreadResponse] = {}
        """Connections whose client has not taken what was written, in the order in which they came
        to it.
        """
        self.refused = 0
        """Open connections for which there was no room, and which are told so."""
        self.running: set[HttpExchange] = set()
        self.draining = False
        self.quiet = asyncio.Event()
        """Set when the last connection has gone while draining."""
        shortest = min(
            limits.header_timeout, limits.body_timeout, limits.keep_alive, limits.unread_grace, LINGER_SECONDS
        )
        self.pace = min(1.0, shortest / 4)
        self.sweeper: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        draining = ", draining" if self.draining else ""
        return f"<Traffic {len(self.open)} open, {len(self.running)} running{draining}>"

    def opened(self, connection: Connection) -> None:
        self.open.add(connection)
        # Without connections nothing ticks: an idle process sleeps.
        if self.sweeper is None:
            self.sweeper = self.loop.call_later(self.pace, self.sweep)

    def lost(self, connection: Connection) -> None:
        self.open.discard(connection)
        if self.draining and not self.open:
            self.quiet.set()

    def sweep(self) -> None:
        now = self.loop.time()
        for late in [each for each in self.open if each.deadline <= now]:
            late.expire(now)
        if self.unread:
            self.cut_unread(now)
        self.sweeper = self.loop.call_later(self.pace, self.sweep) if self.open else None

    def cut_unread(self, now: float) -> None:
        """End connections whose clients take nothing, and the oldest of a caller that leaves too
        much unread: answers that wait are memory that nobody else can have.
        """
        limits = self.limits
        late: dict[str, list[Connection]] = {}
        for connection, unread in tuple(self.unread.items()):
            size = connection.transport.get_write_buffer_size()
            if size < unread.size:
                unread.moved = now
            unread.size = size
            if now - unread.moved >= limits.unread_timeout:
                connection.cut(f"its client took nothing of an answer for {limits.unread_timeout:g} s")
            elif now - unread.since >= limits.unread_grace and connection.holder is not None:
                late.setdefault(connection.holder.caller, []).append(connection)
        for connections in late.values():
            held = sum(self.unread[each].size for each in connections)
            for left, each in zip(range(len(connections), 0, -1), connections, strict=True):
                if left <= limits.unread_connections and held <= limits.unread_bytes:
                    break
                held -= self.unread[each].size
                each.cut("its caller leaves too many answers unread")


class UnreadResponse:
    """What waits for a client: `size` bytes, `since` it was too much, of which some were last taken
    at `moved`; on the loop's clock.
    """

    __slots__ = ("moved", "since", "size")

    def __init__(self, size: int, *, now: float) -> None:
        self.size = size
        self.since = self.moved = now


class ExchangeTransport:
    """The transport as an exchange sees it: it may write, and its `close` is our `hang_up`."""

    __slots__ = ("close", "is_closing", "write", "writelines")

    def __init__(self, connection: Connection) -> None:
        self.write = connection.transport.write
        self.writelines = connection.transport.writelines
        self.is_closing = connection.transport.is_closing
        self.close = connection.hang_up


class HttpExchange(RequestResponseCycle):
    """One request and its answer. The app's own end is the exchange's: it fails in a way that the
    client can see.
    """

    task: asyncio.Task[None] | None = None
    refused = False
    """The connection itself has answered, since the body did not come or was none."""
    unwritten = b""
    """A head that waits for the first piece."""
    on_hang_up: Callable[[], object] | None = None
    """Called when the client is gone and this exchange is still running. The app finds the exchange
    in `scope["exchange"]` and may set it.
    """

    def __repr__(self) -> str:
        answer = "answered" if self.response_complete else "answering" if self.response_started else "asked"
        gone = ", client gone" if self.disconnected else ""
        return f"<Exchange {self.scope.get('method', '')} {self.scope.get('path', '')} {answer}{gone}>"

    async def run(self, app: ASGI3Application, running: set[HttpExchange]) -> None:
        try:
            await app(self.scope, self.receive, self.send)
            if not self.response_complete and not self.disconnected:
                log.error("the app returned before its answer was complete: %r", self)
                await self.fail()
        except Exception:
            # The outermost loop of the process: whatever the app did not foresee ends here.
            log.exception("the app failed: %r", self)
            await self.fail()
        except asyncio.CancelledError:
            self.transport.close()
            raise
        finally:
            running.discard(self)
            self.task = self.on_hang_up = None
            # The scope knows the exchange, and the exchange the scope; and an idle connection keeps
            # its last exchange, but not the head.
            self.scope.clear()  # type: ignore[attr-defined]
            self.body = bytearray()

    # The short way for our own app. ASGI's `send` takes a dictionary for each piece, looks at every
    # header twice and writes the head alone; these write what is there in one go. What they leave
    # behind is what `send` would.

    async def room(self) -> None:
        """Wait while the client has not taken what was written before."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()

    def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole answer. Raises ValueError where a header would break the head."""
        if self.disconnected:
            return
        head = self.head(status, headers, framing=b"content-length: %d\r\n" % len(body))
        self.response_started = True
        if self.scope["method"] == "HEAD":
            body = b""
        if len(body) > JOIN_LIMIT:
            self.transport.writelines((head, body))
        else:
            self.transport.write(head + body)
        self.complete()

    def begin(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Status 200 and the headers of an answer whose end is not known yet. They are written with
        the first piece.
        """
        # A client of HTTP/1.0 (nginx's proxy, unless told otherwise) knows no chunks: its answer
        # ends with the connection.
        self.chunked_encoding = self.scope["http_version"] != "1.0"
        framing = b"transfer-encoding: chunked\r\n" if self.chunked_encoding else b""
        self.unwritten = self.head(200, headers, framing=framing)
        self.response_started = True

    def piece(self, data: bytes, *, last: bool = False) -> None:
        """More of an answer that was begun; an empty one that is not the last writes nothing but a
        head that waits.
        """
        if self.disconnected:
            return
        if self.scope["method"] != "HEAD":
            if self.chunked_encoding:
                end = b"0\r\n\r\n" if last else b""
                data = b"%x\r\n%b\r\n%b" % (len(data), data, end) if data else end
            if self.unwritten:
                data = self.unwritten + data
                self.unwritten = b""
            if data:
                self.transport.write(data)
        if last:
            self.complete()

    def head(self, status: int, headers: list[tuple[bytes, bytes]], *, framing: bytes) -> bytes:
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        lines.extend(b"%b: %b\r\n" % header for header in headers)
        lines.append(framing)
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        head = b"".join(lines)
        # One look at all of it: as many lines as were meant, and nothing that ends one otherwise.
        if head.count(b"\n") != len(headers) + 2 + bool(framing) + (not self.keep_alive) or head.count(
            b"\r"
        ) != head.count(b"\n"):
            raise ValueError("a response header holds a line break")
        return head

    def complete(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    async def fail(self) -> None:
        if self.response_complete or self.disconnected:
            return
        if self.response_started:
            # What is written goes out, the end of the body does not: the client sees an answer that
            # was cut.
            self.transport.close()
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(APP_FAILED)),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": APP_FAILED, "more_body": False})


class Connection(HttpToolsProtocol):
    """One accepted connection, from the accept to its loss."""

    def __init__(
        self,
        app: ASGI3Application,
        *,
        config: Config,
        traffic: ConnectionRegistry,
        state: dict[str, Any],
        server: tuple[str, int | None],
        meet: Callable[[asyncio.Transport], tuple[object, str]],
    ) -> None:
        super().__init__(config, traffic, state, traffic.loop)
        self.meet = meet
        """Called once, with the accepted connection: it gives what is `met` in the state of each
        request, and whose share of connections it takes.
        """
        self.traffic = traffic
        self.limits = traffic.limits
        self.server = server
        self.asgi = app
        self.http = cast("httptools.HttpRequestParser", self.parser)  # type: ignore[redundant-cast]  # not to pyright
        self.line: asyncio.Transport
        self.latest: HttpExchange
        """The exchange whose request is being read, or was read last."""
        self.queue: deque[HttpExchange] = deque()
        self.active: HttpExchange | None = None
        """The exchange that the app is answering. Others wait in `queue`, the next one first."""
        self.stage: Stage = "between"
        self.deadline = math.inf
        """On the loop's clock."""
        self.unparsed = 0
        """Bytes since the last that told us something: a finished head, a piece of body, a finished
        request.
        """
        self.deaf = False
        """What comes in is thrown away: the connection is ending."""
        self.closing = False
        self.verdict: bytes | None = None
        """A refusal that waits until the exchanges before it are answered."""
        self.upgrade = False
        """The request that is being read asks for another protocol."""
        self.discarded = 0
        self.unsent = 0
        self.holder: ShareHolder | None = None
        """Whose share of connections this one takes; None for one that was refused."""
        self.over_limit = False
        self.head_weight = 0
        """What this connection has of `traffic.heads`."""
        self.body_since = 0.0
        """When we began to read the body that is coming in, or went on after a pause of ours."""
        self.body_bytes = 0
        """What has come of it since."""

    def __repr__(self) -> str:
        doing = "closing" if self.closing else "answering" if self.active else "waiting"
        queued = f", {len(self.queue)} queued" if self.queue else ""
        return f"<Connection {self.app_state['listener']} {self.stage}, {doing}{queued}>"

    # What the transport tells.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        traffic = self.traffic
        self.transport = transport
        self.flow = FlowControl(transport)
        self.client = get_remote_addr(transport)
        # Now, before the first byte: later the pid at the other end may be another's.
        met, caller = self.meet(transport)
        self.app_state = {**self.app_state, "met": met}
        self.scheme = "http"
        self.line = cast("asyncio.Transport", ExchangeTransport(self))
        self.deadline = self.loop.time() + self.limits.header_timeout
        traffic.opened(self)
        if traffic.draining:
            transport.abort()
            return
        place = traffic.shares.enter(
            caller, listener=str(self.app_state["listener"]), over_http=self.app_state["kind"] == "tcp"
        )
        if isinstance(place, ShareHolder):
            self.holder = place
            place.idle[self] = None
        elif traffic.refused >= MAX_OVER_LIMIT:
            transport.abort()
        else:
            self.over_limit = True
            traffic.refused += 1
            self.refuse(no_room(place))

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self.traffic.unread[self] = UnreadResponse(
            self.transport.get_write_buffer_size(), now=self.loop.time()
        )

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        self.traffic.unread.pop(self, None)

    def cut(self, reason: str) -> None:
        """End at once, in the middle of an answer, so that nobody takes it for a whole one."""
        log.warning("cut %r: %s", self, reason)
        self.traffic.unread.pop(self, None)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.traffic.unread.pop(self, None)
        self.deadline = math.inf
        self.deaf = self.closing = True
        self.client_left()
        self.forget_head()
        self.give_back()
        self.traffic.lost(self)
        # Each of these holds us in turn; let go, they need no garbage collector.
        self.active = None
        self.__dict__.pop("latest", None)
        del self.line, self.parser, self.http

    def give_back(self) -> None:
        """Its place is free for another connection, once."""
        holder, self.holder = self.holder, None
        if holder is not None:
            self.traffic.shares.leave(holder, self)
        elif self.over_limit:
            self.over_limit = False
            self.traffic.refused -= 1

    def make_room(self) -> bool:
        """Close for another connection, where the client has read all that it was answered. Without
        lingering: the descriptor is wanted.
        """
        if self.transport.get_write_buffer_size():
            return False
        self.give_back()
        self.transport.abort()
        return True

    def be_idle(self) -> None:
        """No request is in progress: where there are too many connections, this is one that may be
        closed.
        """
        if self.holder is not None:
            self.holder.idle[self] = None

    def be_busy(self) -> None:
        if self.holder is not None:
            self.holder.idle.pop(self, None)

    def eof_received(self) -> None:
        # Half a close is taken for a whole one: no HTTP client in use half-closes and waits, and a
        # hang-up must show at once.
        self.client_left()

    def client_left(self) -> None:
        self.queue.clear()
        if self.active is not None:
            self.active.disconnected = True
            self.active.message_event.set()
            if self.active.on_hang_up is not None:
                self.active.on_hang_up()
        self.flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            self.discard(len(data))
            return
        self.unparsed += len(data)
        if self.stage == "between" and FOREIGN.match(data):
            self.refuse(INVALID_HTTP)
            return
        try:
            self.http.feed_data(data)
        except httptools.HttpParserError:
            self.refuse(self.verdict or INVALID_HTTP)
        except httptools.HttpParserUpgrade as pause:
            self.read_plainly(data[pause.args[0] :])
        else:
            if self.stage != "between":
                self.still_reading()

    # What the parser tells.

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self.stage = "head begun"

    def on_headers_complete(self) -> None:
        if self.unparsed > self.limits.max_header_size and self.head_size() > self.limits.max_header_size:
            self.verdict = HEAD_TOO_LARGE
            raise ValueError("head too large")
        if self.head_is_too_much():
            self.verdict = TOO_MANY_HEADS
            raise ValueError("too much memory for heads")
        if len(self.queue) >= MAX_PIPELINED:
            self.verdict = TOO_MANY_PIPELINED
            raise ValueError("too many pipelined requests")
        if self.http.get_http_version() not in SPOKEN:
            raise ValueError("another version of HTTP")
        if self.http.should_upgrade():
            if self.http.get_method() == b"CONNECT":
                raise ValueError("no tunnels")
            self.upgrade = True
            return
        exchange = self.latest = self.exchange()
        self.url = b""
        self.be_busy()
        self.unparsed = 0
        self.stage = "body"
        self.body_since, self.body_bytes = self.loop.time(), 0
        # Trailers arrive as headers too; a new list keeps them out of the scope that the app is
        # reading.
        self.headers = []
        if self.active is None and not self.closing:
            self.begin(exchange)
        else:
            self.flow.pause_reading()
            self.queue.append(exchange)

    def on_body(self, body: bytes) -> None:
        self.unparsed = 0
        exchange = self.latest
        if exchange.response_complete:
            self.discarded += len(body)
            return
        exchange.body += body
        self.body_bytes += len(body)
        if len(exchange.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        exchange.message_event.set()

    def on_message_complete(self) -> None:
        if self.upgrade:
            return
        self.unparsed = 0
        self.stage = "between"
        exchange = self.latest
        exchange.more_body = False
        exchange.message_event.set()
        if exchange.response_complete:
            # It was answered before it was read, and has now been read after all: the connection is
            # good for another.
            self.be_idle()
            self.deadline = self.loop.time() + self.limits.keep_alive
        elif self.flow.read_paused and not self.queue:
            # Nothing more is to come but the next request or the hang-up, and that must be seen
            # while the app works.
            self.flow.resume_reading()

    def read_plainly(self, rest: bytes) -> None:
        """A request with `Upgrade`, read again without it, as RFC 9110 (7.8) lets a server do. The
        parser ends such a request at its head and would take its body for another protocol; Java's
        client asks so for h2c on a plain POST.
        """
        method, version, asked = self.http.get_method(), self.http.get_http_version(), self.headers
        lines = [b"%b: %b\r\n" % (name, value) for name, value in asked if name not in UPGRADING]
        head = b"%b %b HTTP/%b\r\n%bconnection: close\r\n\r\n" % (
            method,
            self.url,
            version.encode(),
            b"".join(lines),
        )
        self.upgrade = False
        self.http = httptools.HttpRequestParser(self)
        self.data_received(head)
        if not self.deaf:
            # The app sees what was asked for.
            self.latest.scope["headers"] = asked
            if rest:
                self.data_received(rest)

    def exchange(self) -> HttpExchange:
        """The request whose head is complete, as an exchange. Raises what a target that is no path
        raises: the parser reports it.
        """
        parser = self.http
        version = parser.get_http_version()
        target = httptools.parse_url(self.url)
        if target.schema and target.schema.lower() != b"http":  # None too, whatever its type says
            raise ValueError("a target of another scheme")
        if target.userinfo:
            raise ValueError("a target with a user's name")
        if target.host:
            # As for a proxy, "GET http://host/path". Then that host is the one that is asked for
            # (RFC 9112 3.2.2).
            port = b":%d" % target.port if target.port else b""
            others = [(name, value) for name, value in self.headers if name != b"host"]
            self.headers = [(b"host", target.host + port), *others]
        raw_path = target.path
        path = raw_path.decode("ascii")
        scope: HTTPScope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": "http",
            "path": urllib.parse.unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": target.query or b"",
            "root_path": "",
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
            "state": self.app_state,
        }
        exchange = HttpExchange(
            scope=scope,
            transport=self.line,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        scope["exchange"] = exchange  # type: ignore[typeddict-unknown-key]
        return exchange

    def head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def head_is_too_much(self) -> bool:
        """Count a head where it is unusually large. True where there is no memory for it."""
        if self.unparsed <= USUAL_HEAD and len(self.headers) <= USUAL_HEADERS:
            return False
        weight = self.head_size() + HEADER_COST * len(self.headers)
        if self.stage == "head":
            weight += self.unparsed  # of which some may be of a header that is not complete
        if weight > USUAL_HEAD + HEADER_COST * USUAL_HEADERS:
            self.traffic.heads += weight - self.head_weight
            self.head_weight = weight
        return self.traffic.heads > MAX_HEADS

    def forget_head(self) -> None:
        self.traffic.heads -= self.head_weight
        self.head_weight = 0

    # What we do about it.

    def begin(self, exchange: HttpExchange) -> None:
        self.active = exchange
        running = self.traffic.running
        running.add(exchange)
        exchange.task = self.loop.create_task(exchange.run(self.asgi, running))

    def on_response_complete(self) -> None:
        self.active = None
        self.forget_head()
        if self.closing:
            return
        self.flow.resume_reading()
        if self.queue:
            self.begin(self.queue.popleft())
        elif self.verdict is not None:
            self.refuse(self.verdict)
        elif self.stage == "between":
            self.be_idle()
            self.deadline = self.loop.time() + self.limits.keep_alive
        elif self.stage == "body":
            self.answered_early()
        else:
            self.be_idle()

    def answered_early(self) -> None:
        """The rest of the body is read for a while, for a client that reads only when it has sent
        all. After `Expect: 100-continue` nobody can tell whether the next byte is body or another
        request.
        """
        self.discarded = 0
        self.deadline = self.loop.time() + LINGER_SECONDS
        if self.expect_100_continue:
            self.hang_up()

    def still_reading(self) -> None:
        """After each piece of a request that is not complete: what it may yet take in bytes and
        time.
        """
        if self.unparsed > self.limits.max_header_size:
            # A head; or trailers and chunk headers, which are bounded by the same measure.
            self.refuse(HEAD_TOO_LARGE)
        elif self.stage == "head begun":
            self.stage = "head"
            self.deadline = self.loop.time() + self.limits.header_timeout
            if self.head_is_too_much():
                self.refuse(TOO_MANY_HEADS)
        elif self.stage == "head":
            if self.head_is_too_much():
                self.refuse(TOO_MANY_HEADS)
        elif self.stage == "body":
            if self.latest.response_complete:
                if self.discarded > LINGER_BYTES:
                    self.hang_up()
            elif self.unparsed == 0:
                self.deadline = self.body_deadline()

    def body_deadline(self) -> float:
        """When the body that is coming in is too late: nothing came for `body_timeout`, or all in
        all too little.
        """
        limits = self.limits
        silent = self.loop.time() + limits.body_timeout
        if not limits.min_body_rate:
            return silent
        return min(silent, self.body_since + limits.body_timeout + self.body_bytes / limits.min_body_rate)

    def discard(self, count: int) -> None:
        self.discarded += count
        if self.discarded > LINGER_BYTES:
            self.transport.abort()

    def refuse(self, refusal: bytes) -> None:
        """Answer so in place of the request that is coming in, and end. Earlier requests are
        answered first.
        """
        self.deaf = True
        active = self.active
        if self.stage == "body" and self.latest.response_complete:
            # Answered already; what is wrong with the rest of it has nobody to be told to.
            self.hang_up()
            return
        if self.stage == "body" and active is self.latest and active is not None:
            # Its own body is at fault, and the app is told that nothing more will come.
            active.refused = True
            active.disconnected = True
            active.message_event.set()
            self.active = None
            if active.response_started:
                self.transport.abort()
                return
        elif active is not None:
            if self.stage == "body" and self.queue:
                # Its request was still waiting, and is answered with this.
                self.queue.pop()
            self.stage = "between"
            self.verdict = refusal
            return
        self.transport.write(refusal)
        self.hang_up()

    def hang_up(self) -> None:
        """End the connection once all is written. Unread input would turn a close into a reset that
        may overtake the answer, so in that case only our half is closed, and the rest is read and
        dropped for a while.
        """
        if self.closing:
            return
        unread = self.deaf or self.stage != "between" or self.flow.read_paused
        self.deaf = self.closing = True
        # All that is left is that the client reads our answer, and that others do not wait for.
        self.be_idle()
        self.discarded = 0
        self.unsent = self.transport.get_write_buffer_size()
        self.deadline = self.loop.time() + (FLUSH_SECONDS if self.unsent else LINGER_SECONDS)
        if self.transport.is_closing():
            return
        if unread:
            self.flow.resume_reading()
            self.transport.write_eof()
        else:
            self.transport.close()

    def expire(self, now: float) -> None:
        """The deadline has passed."""
        if self.closing:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self.unsent:
                # The client is slow, not gone.
                self.unsent = unsent
                self.deadline = now + (FLUSH_SECONDS if unsent else LINGER_SECONDS)
            else:
                self.transport.abort()
        elif self.stage == "head":
            self.refuse(SLOW_HEAD)
        elif self.stage == "body" and not self.latest.response_complete:
            if self.flow.read_paused or self.latest.waiting_for_100_continue:
                # It is we who are not reading, or have not asked.
                self.deadline = now + self.limits.body_timeout
                self.body_since, self.body_bytes = now, 0
            else:
                self.refuse(SLOW_BODY)
        elif self.active is None:
            self.hang_up()
        else:
            self.deadline = math.inf

    def retire(self) -> None:
        """The gateway stops: end now, or after the answer that is on its way. Requests behind it
        are not begun.
        """
        self.queue.clear()
        if self.active is None:
            self.hang_up()
        else:
            self.active.keep_alive = False
