"""One client connection: its requests in turn, its deadlines, and its end.

request_reader.py reads requests, http_exchange.py writes responses, and the app between them is a
coroutine function of the exchange. A connection knows no routes and no models.

- A head, a body and an idle connection each have a deadline; connection_registry.py checks them.
- Pipelined requests wait in turn; a disconnect reaches the running one.
- A refusal is never written into another response (`refuse`).
- A response that is sent before its request was read completely is not lost in a reset (`close`).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Any

from modelplex.eager_task import EagerTask
from modelplex.server.connection_input import ConnectionInput
from modelplex.server.connection_refusals import (
    SLOW_BODY,
    SLOW_HEAD,
    ConnectionRefusal,
    too_many_connections,
)
from modelplex.server.connection_registry import ConnectionRegistry
from modelplex.server.connection_shares import ConnectionPlace
from modelplex.server.http_exchange import App, HttpExchange
from modelplex.server.request_head import HttpHead, KnownHeads
from modelplex.server.request_reader import RequestReader

log = logging.getLogger("modelplex.server")

WRITE_LIMIT = 16 * 1024
"""Unsent bytes of a response above which no more of it is read: what a client that does not read
costs. The event loop's own limit is 64 KB.
"""


class Connection(ConnectionInput):
    """One accepted connection, from the accept to its loss."""

    def __init__(
        self,
        app: App,
        *,
        traffic: ConnectionRegistry,
        state: dict[str, Any],
        identify: Callable[[asyncio.Transport], tuple[object, str]],
    ) -> None:
        super().__init__(traffic)
        self.app = app
        self.begin: Callable[[HttpExchange], bool] = getattr(app, "begin", _never)
        self.limits = traffic.limits
        self.state = state
        self.identify = identify
        """Returns the `client` in the state of each request, and the owner of the share."""
        self.active: HttpExchange | None = None
        """The exchange that the app serves. Others wait in `queue`."""
        self.to_start: HttpExchange | None = None
        """`active`, until the input with its head is read: the app runs within `start`."""
        self.deadline = math.inf
        """On the loop's clock."""
        self.closing = False
        self.pending_refusal: ConnectionRefusal | None = None
        """Sent after the exchanges before it."""
        self.place = ConnectionPlace(traffic.shares)

    def __repr__(self) -> str:
        doing = "closing" if self.closing else "responding" if self.active else "waiting"
        queued = f", {len(self.queue)} queued" if self.queue else ""
        return f"<Connection {self.state['listener']} {self.reader.stage}, {doing}{queued}>"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        traffic = self.traffic
        self.transport = transport
        transport.set_write_buffer_limits(high=WRITE_LIMIT)
        # Before the first byte: later the pid may be another process's.
        client, caller = self.identify(transport)
        self.state = {**self.state, "client": client}
        self.reader = RequestReader(
            self, max_header_size=self.limits.max_header_size, heads=traffic.heads, known=KnownHeads()
        )
        self.deadline = self.loop.time() + self.limits.header_timeout
        traffic.add(self)
        if traffic.draining:
            transport.abort()
            return
        over_http = self.state["kind"] in {"tcp", "admin"}
        refused = self.place.take(
            self, caller=caller, listener=str(self.state["listener"]), over_http=over_http
        )
        if self.place.holder is not None:
            self.reader.known = self.place.holder.known_heads
        if refused is not None:
            traffic.refuse(self, too_many_connections(refused))

    # Flow control.

    def pause_writing(self) -> None:
        self.write_paused = True
        self.traffic.unread.add(self, now=self.loop.time())

    def resume_writing(self) -> None:
        self.traffic.unread.remove(self)
        self.wake_drains()

    def input_read(self) -> None:
        """The app runs here, and not within the reader or its parser."""
        exchange, self.to_start = self.to_start, None
        if exchange is not None:
            if not exchange.refused:
                self.start(exchange)
        elif self.active is not None:
            self.active.input_read()
        if self.reader.stage == "body" and not self.ignores_input:
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
        self.queue_changed()
        self.to_start = None
        if self.active is not None:
            self.active.disconnect()
        self.resume_writing()

    # Callbacks of the reader.

    def head_started(self) -> None:
        self.deadline = self.loop.time() + self.limits.header_timeout

    def request_started(self, head: HttpHead, *, length: int | None) -> None:
        exchange = self.latest = HttpExchange(head, self, length=length)
        self.place.mark_busy(self)
        self.body_pace.restart(self.loop.time())
        if self.active is None and not self.queue and not self.closing:
            self.active = self.to_start = exchange
        else:
            self.pause_reading()
            self.queue.append(exchange)
            self.queue_changed()

    def request_received(self, head: HttpHead, body: bytes) -> None:
        """A request has come in one piece."""
        if self.active is not None or self.queue or self.closing:
            self.request_started(head, length=len(body))
            self.body_received(body)
            self.request_complete()
            return
        self.active = self.to_start = self.latest = HttpExchange(
            head, self, length=len(body), whole_body=body
        )
        holder = self.place.holder
        if holder is not None:
            holder.idle.pop(self, None)

    def body_received(self, data: bytes) -> None:
        exchange = self.latest
        if exchange.response_complete:
            self.lingering.discard(len(data))
            return
        self.body_pace.size += len(data)
        exchange.body_received(data)

    def request_complete(self) -> None:
        exchange = self.latest
        if exchange.response_complete:
            # The rest of the request has been read: the connection can be used again.
            self.place.mark_idle(self)
            self.deadline = self.loop.time() + self.limits.keep_alive
        elif self.read_paused and not self.queue:
            # To notice a disconnect while the app works.
            self.resume_reading()
        exchange.body_complete = True

    def start(self, exchange: HttpExchange) -> None:
        self.active = exchange
        self.traffic.running.add(exchange)
        if self.read_paused and exchange.body_complete:
            # To notice a disconnect while the app works, with other requests in the queue too.
            self.resume_reading()
        if exchange.body_complete and self.begin(exchange):
            return
        exchange.task = EagerTask(exchange.run(self.app), loop=self.loop, on_end=exchange.ended)
        exchange.task.start()

    def start_next(self) -> None:
        if self.queue and self.active is None and not self.closing:
            exchange = self.queue.popleft()
            self.queue_changed()
            self.start(exchange)

    def exchange_complete(self) -> None:
        self.active = None
        reader = self.reader
        if reader.heads.size:
            reader.heads.release()
        if self.closing:
            return
        if self.read_paused:
            self.resume_reading()
        if self.queue:
            # Not at once: the app that has responded is still running.
            self.loop.call_soon(self.start_next)
        elif self.pending_refusal is not None:
            self.refuse(self.pending_refusal)
        elif reader.stage == "between":
            self.place.mark_idle(self)
            self.deadline = self.loop.time() + self.limits.keep_alive
        elif reader.stage == "body":
            # Keep reading for a client that reads only after it has sent everything. After
            # `Expect: 100-continue` the next byte may be body or another request.
            self.deadline = self.lingering.restart(unsent=0, now=self.loop.time())
            if self.reader.expects_100:
                self.close()
        else:
            self.place.mark_idle(self)

    def refuse(self, refusal: ConnectionRefusal) -> None:
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
            self.active = None
            active.disconnect()
            if active.response_started:
                self.transport.abort()
                return
        elif active is not None or self.queue:
            if reader.stage == "body" and self.queue:
                # The request was still queued; this is the response to it.
                self.queue.pop()
                self.queue_changed()
            reader.stage = "between"
            self.pending_refusal = refusal
            return
        if active is None or active.task is None:  # else the app records its end
            self.traffic.report_refusal(self.state["client"], refusal)
        self.transport.write(refusal.response)
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
            if self.read_paused or self.latest.waiting_for_100_continue:
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
        unread = self.ignores_input or self.reader.stage != "between" or self.read_paused
        self.ignores_input = self.closing = True
        # Only the client's reading is left, and it should not count as a running request.
        self.place.mark_idle(self)
        self.deadline = self.lingering.restart(
            unsent=self.transport.get_write_buffer_size(), now=self.loop.time()
        )
        if self.transport.is_closing():
            return
        if unread and self.transport.can_write_eof():  # TLS cannot close one half
            self.resume_reading()
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
        self.queue_changed()
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


def _never(exchange: HttpExchange) -> bool:
    del exchange
    return False
