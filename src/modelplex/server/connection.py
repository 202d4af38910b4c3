"""One client connection: its requests in turn, its deadlines, and its end.

request_reader.py reads requests, http_exchange.py writes responses, and the app between them is an
ASGI callable. A connection knows no routes and no models.

- A head, a body and an idle connection each have a deadline; connection_registry.py checks them.
- Pipelined requests wait in turn; a disconnect reaches the running one.
- A refusal is never written into another response (`refuse`).
- A response that is sent before its request was read completely is not lost in a reset (`close`).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from uvicorn._types import ASGI3Application, HTTPScope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.utils import get_remote_addr

from modelplex.server.connection_limits import BodyPace, Lingering
from modelplex.server.connection_refusals import MAX_PIPELINED, SLOW_BODY, SLOW_HEAD, too_many_connections
from modelplex.server.connection_registry import ConnectionRegistry
from modelplex.server.connection_shares import ConnectionPlace
from modelplex.server.http_exchange import ExchangeTransport, HttpExchange
from modelplex.server.request_reader import RequestReader

log = logging.getLogger("modelplex.server")

WRITE_LIMIT = 16 * 1024
"""Unsent bytes of a response above which no more of it is read: what a client that does not read
costs. The event loop's own limit is 64 KB.
"""
MAX_OVER_LIMIT = 256
"""Connections above the limit that get a refusal. Further ones are aborted."""


class Connection(asyncio.Protocol):
    """One accepted connection, from the accept to its loss."""

    def __init__(
        self,
        app: ASGI3Application,
        *,
        traffic: ConnectionRegistry,
        state: dict[str, Any],
        server: tuple[str, int | None],
        identify: Callable[[asyncio.Transport], tuple[object, str]],
    ) -> None:
        self.app = app
        self.traffic = traffic
        self.limits = traffic.limits
        self.loop = traffic.loop
        self.state = state
        self.server = server
        self.identify = identify
        """Returns the `client` in the state of each request, and the owner of the share."""
        self.transport: asyncio.Transport
        self.flow: FlowControl
        self.reader: RequestReader
        self.latest: HttpExchange
        """The exchange of the request that was or is read last."""
        self.queue: deque[HttpExchange] = deque()
        self.active: HttpExchange | None = None
        """The exchange that the app serves. Others wait in `queue`."""
        self.deadline = math.inf
        """On the loop's clock."""
        self.ignores_input = False
        """Discard all input: the connection is ending."""
        self.closing = False
        self.pending_refusal: bytes | None = None
        """Sent after the exchanges before it."""
        self.lingering = Lingering()
        self.place = ConnectionPlace(traffic.shares)
        self.body_pace = BodyPace(traffic.limits)

    def __repr__(self) -> str:
        doing = "closing" if self.closing else "responding" if self.active else "waiting"
        queued = f", {len(self.queue)} queued" if self.queue else ""
        return f"<Connection {self.state['listener']} {self.reader.stage}, {doing}{queued}>"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        traffic = self.traffic
        self.transport = transport
        transport.set_write_buffer_limits(high=WRITE_LIMIT)
        self.flow = FlowControl(transport)
        # Before the first byte: later the pid may be another process's.
        client, caller = self.identify(transport)
        self.reader = RequestReader(
            self,
            facts=_scope_facts(transport, server=self.server, state={**self.state, "client": client}),
            max_header_size=self.limits.max_header_size,
            heads=traffic.heads,
        )
        self.deadline = self.loop.time() + self.limits.header_timeout
        traffic.add(self)
        if traffic.draining:
            transport.abort()
            return
        refused = self.place.take(
            self,
            caller=caller,
            listener=str(self.state["listener"]),
            over_http=self.state["kind"] in {"tcp", "admin"},
        )
        if refused is not None and len(traffic.refused) < MAX_OVER_LIMIT:
            traffic.refused.add(self)
            self.refuse(too_many_connections(refused))
        elif refused is not None:
            transport.abort()

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self.traffic.unread.add(self, now=self.loop.time())

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        self.traffic.unread.remove(self)

    def data_received(self, data: bytes) -> None:
        if self.ignores_input:
            self.lingering.discard(len(data))
            if self.lingering.is_too_much:
                self.transport.abort()
            return
        refusal = self.reader.feed(data)
        if refusal is not None:
            self.refuse(refusal)
        elif self.reader.stage == "body":
            if self.latest.response_complete:
                if self.lingering.is_too_much:
                    self.close()
            elif self.reader.unparsed == 0:
                self.deadline = self.body_pace.deadline(self.loop.time())

    def eof_received(self) -> None:
        # A half-close counts as a disconnect, which must be noticed at once. No HTTP client in use
        # half-closes and waits for the response.
        self.client_disconnected()

    def connection_lost(self, exc: Exception | None) -> None:
        self.traffic.unread.remove(self)
        self.deadline = math.inf
        self.ignores_input = self.closing = True
        self.client_disconnected()
        self.place.release(self)
        self.traffic.remove(self)
        # These refer to the connection; without the cycles it needs no garbage collector.
        self.active = None
        self.__dict__.pop("latest", None)
        self.reader.close()

    def client_disconnected(self) -> None:
        self.queue.clear()
        if self.active is not None:
            self.active.disconnected = True
            self.active.message_event.set()
            if self.active.on_disconnect is not None:
                self.active.on_disconnect()
        self.flow.resume_writing()

    # Callbacks of the reader.

    @property
    def queue_is_full(self) -> bool:
        return len(self.queue) >= MAX_PIPELINED

    def head_started(self) -> None:
        self.deadline = self.loop.time() + self.limits.header_timeout

    def request_started(self, scope: HTTPScope, *, expects_100: bool, keep_alive: bool) -> None:
        exchange = self.latest = HttpExchange(
            scope,
            transport=cast("asyncio.Transport", ExchangeTransport(self)),
            flow=self.flow,
            expects_100=expects_100,
            keep_alive=keep_alive,
            on_response=self.response_complete,
        )
        scope["exchange"] = exchange  # type: ignore[typeddict-unknown-key]
        self.place.mark_busy(self)
        self.body_pace.restart(self.loop.time())
        if self.active is None and not self.closing:
            self.start(exchange)
        else:
            self.flow.pause_reading()
            self.queue.append(exchange)

    def body_received(self, data: bytes) -> None:
        exchange = self.latest
        if exchange.response_complete:
            self.lingering.discard(len(data))
            return
        exchange.body += data
        self.body_pace.size += len(data)
        if len(exchange.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        exchange.message_event.set()

    def request_complete(self) -> None:
        exchange = self.latest
        exchange.more_body = False
        exchange.message_event.set()
        if exchange.response_complete:
            # The rest of the request has been read: the connection can be used again.
            self.place.mark_idle(self)
            self.deadline = self.loop.time() + self.limits.keep_alive
        elif self.flow.read_paused and not self.queue:
            # To notice a disconnect while the app works.
            self.flow.resume_reading()

    def start(self, exchange: HttpExchange) -> None:
        self.active = exchange
        running = self.traffic.running
        running.add(exchange)
        exchange.task = self.loop.create_task(exchange.run(self.app, running))

    def response_complete(self) -> None:
        self.active = None
        self.reader.heads.release()
        if self.closing:
            return
        self.flow.resume_reading()
        if self.queue:
            self.start(self.queue.popleft())
        elif self.pending_refusal is not None:
            self.refuse(self.pending_refusal)
        elif self.reader.stage == "between":
            self.place.mark_idle(self)
            self.deadline = self.loop.time() + self.limits.keep_alive
        elif self.reader.stage == "body":
            # Keep reading for a client that reads only after it has sent everything. After
            # `Expect: 100-continue` the next byte may be body or another request.
            self.deadline = self.lingering.restart(unsent=0, now=self.loop.time())
            if self.reader.expects_100:
                self.close()
        else:
            self.place.mark_idle(self)

    def refuse(self, refusal: bytes) -> None:
        """Send this in place of a response to the incoming request, and close. Earlier requests get
        their responses first.
        """
        self.ignores_input = True
        reader, active = self.reader, self.active
        if reader.stage == "body" and self.latest.response_complete:
            # The request has its response already.
            self.close()
            return
        if reader.stage == "body" and active is self.latest and active is not None:
            # The body of the running request is invalid or late: to the app, a disconnect.
            active.refused = True
            active.disconnected = True
            active.message_event.set()
            self.active = None
            if active.response_started:
                self.transport.abort()
                return
        elif active is not None:
            if reader.stage == "body" and self.queue:
                # The request was still queued; this is the response to it.
                self.queue.pop()
            reader.stage = "between"
            self.pending_refusal = refusal
            return
        self.transport.write(refusal)
        self.close()

    # Deadlines and the end.

    def expire(self, now: float) -> None:
        if self.closing:
            deadline = self.lingering.extend(unsent=self.transport.get_write_buffer_size(), now=now)
            if deadline is None:
                self.transport.abort()
            else:
                self.deadline = deadline
        elif self.reader.stage == "head":
            self.refuse(SLOW_HEAD)
        elif self.reader.stage == "body" and not self.latest.response_complete:
            if self.flow.read_paused or self.latest.waiting_for_100_continue:
                # The gateway does not read, or has not sent 100 Continue.
                self.deadline = now + self.limits.body_timeout
                self.body_pace.restart(now)
            else:
                self.refuse(SLOW_BODY)
        elif self.active is None:
            self.close()
        else:
            self.deadline = math.inf

    def close(self) -> None:
        """Close when everything is written. With unread input a close becomes a reset, which may
        overtake the response; then only the sending half is closed, and input is discarded for a
        while.
        """
        if self.closing:
            return
        unread = self.ignores_input or self.reader.stage != "between" or self.flow.read_paused
        self.ignores_input = self.closing = True
        # Only the client's reading is left, and it should not count as a running request.
        self.place.mark_idle(self)
        self.deadline = self.lingering.restart(
            unsent=self.transport.get_write_buffer_size(), now=self.loop.time()
        )
        if self.transport.is_closing():
            return
        if unread:
            self.flow.resume_reading()
            self.transport.write_eof()
        else:
            self.transport.close()

    def abort(self, reason: str) -> None:
        """Close at once, so that a response in progress is seen to be incomplete."""
        log.warning("aborted %r: %s", self, reason)
        self.traffic.unread.remove(self)
        self.transport.abort()

    def close_when_idle(self) -> None:
        """The gateway stops: close now or after the running response, and drop queued requests."""
        self.queue.clear()
        if self.active is None:
            self.close()
        else:
            self.active.keep_alive = False

    def make_room(self) -> bool:
        """Close for another connection, if the client has read its responses. It does not linger:
        the file descriptor is needed.
        """
        if self.transport.get_write_buffer_size():
            return False
        self.place.release(self)
        self.transport.abort()
        return True


def _scope_facts(
    transport: asyncio.Transport, *, server: tuple[str, int | None], state: dict[str, Any]
) -> dict[str, Any]:
    """The members that the scopes of all requests of a connection share."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "scheme": "http",
        "root_path": "",
        "client": get_remote_addr(transport),
        "server": server,
        "state": state,
    }
