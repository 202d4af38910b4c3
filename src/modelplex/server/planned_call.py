"""A model call by a plan (`pipeline/call_plans.py`), within the callbacks of its two connections.

It counts for the limits, the memory and the turns of its caller as any call. Where it is not of the
planned kind after all, or anything else happens than that its answer comes whole, it goes on in the
general path (`App.serve_call`), with what it holds: its place in the limits, its body, and the
connection on which it was sent. Nothing is decided here.
"""

from __future__ import annotations

import logging
from functools import partial
from time import perf_counter, time
from typing import TYPE_CHECKING

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.events import Usage
from modelplex.core.request import Attempt, RawRequest
from modelplex.dialects.core.sse import BOM
from modelplex.eager_task import EagerTask
from modelplex.limits.agent_limits import Ticket
from modelplex.pipeline.call_plans import PLANS, BegunPost, CallPlan
from modelplex.pipeline.offload import LARGE_FOR_C
from modelplex.pipeline.response_output import ResponseHead
from modelplex.pipeline.upstream import ReceivedHeaders, read_headers
from modelplex.records.record import AS_RECEIVED, AttemptRecord, Record, Times
from modelplex.server.fair_start import PLANNED_OVERHEAD
from modelplex.server.http_exchange import HttpExchange
from modelplex.server.response_headers import response_headers
from modelplex.server.response_writer import ResponseWriter

if TYPE_CHECKING:
    from modelplex.core.caller import Caller
    from modelplex.dialects.dialect import ObservedResponse
    from modelplex.http_client import UpstreamConnection
    from modelplex.pipeline.gateway import Gateway
    from modelplex.server.app import Admitted, App

log = logging.getLogger("modelplex.server")


class PlannedCall:
    """One call from its admission to its Record, or until it goes on in the general path. It is in
    `App.running` meanwhile, as response and as record.
    """

    __slots__ = ("admitted", "app", "begun", "body", "exchange", "gateway", "id", "size", "started", "ticket", "wall_time")  # fmt: skip

    sent = 0
    """Bytes of the response: it is sent whole."""
    first: float | None = None
    attempts: tuple[AttemptRecord, ...] = ()

    def __init__(
        self,
        app: App,
        exchange: HttpExchange,
        admitted: Admitted,
        *,
        body: bytes,
        ticket: Ticket,
        id: str,
    ) -> None:
        self.app = app
        self.gateway: Gateway = app.gateway
        self.exchange = exchange
        self.admitted = admitted
        self.body = body
        self.size = len(body)
        """Bytes of memory that it holds in its owner's share."""
        self.ticket = ticket
        self.id = id
        self.begun: BegunPost | None = None
        self.wall_time = time()
        self.started = perf_counter()

    def __repr__(self) -> str:
        return f"<PlannedCall {self.id} {'sent' if self.begun is not None else 'not sent'}>"

    # As others see a running call.

    @property
    def caller(self) -> Caller:
        return self.admitted.caller

    @property
    def attempt(self) -> Attempt | None:
        return None if self.begun is None else self.begun.plan.attempt

    @property
    def request(self) -> RawRequest:
        unread, begun = self.admitted.unread, self.begun
        model = unread.model if begun is None else begun.plan.model
        return msgspec.structs.replace(unread, model=model, body=self.body)

    def stop(self, reason: ModelplexError) -> None:
        self.go_on().stop(reason)

    # The call.

    def start(self) -> None:
        """Send it, if there is a plan for it and a kept connection."""
        requester = self.admitted.requester
        assert requester is not None
        try:
            found = self.gateway.plans.find(requester, self.body)
        except (ModelplexError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = None  # which the general path explains
        if found is None or not self.gateway.circuits.have_none(found[0].circuits):
            self.go_on()
            return
        plan, body = found
        started = perf_counter()
        post = plan.post
        connection = post.client.post_at_once(
            post.origin, post.start, body, timeouts=post.timeouts, waiter=self
        )
        if connection is None:
            self.go_on()
            return
        self.begun = BegunPost(plan, body, connection, started)
        self.exchange.on_disconnect = self.disconnected

    def start_in_turn(self) -> bool:
        """The turn of its caller has come. False if it went on in the general path meanwhile."""
        if self not in self.app.running:
            return False
        self.exchange.on_disconnect = None
        self.wall_time, self.started = time(), perf_counter()
        try:
            self.start()
        except Exception:
            # Others wait for their turn after it.
            log.exception("the call %s could not be started by its plan", self.id)
            self.go_on()
        return True

    def disconnected(self) -> None:
        self.go_on()
        task = self.exchange.task
        if task is not None:
            task.cancel()

    def wake(self) -> None:
        """The head of the response was received, or all of it, or it will not be."""
        begun = self.begun
        assert begun is not None
        connection = begun.connection
        assert connection is not None
        if connection.fault is not None or connection.status != 200 or self.exchange.connection.write_paused:
            self.go_on()
            return
        plan = begun.plan
        limit = plan.post.upstream.max_response_size
        if not connection.complete:
            if connection.buffered > limit:
                self.go_on()
            else:
                connection.wait_for_rest(self, limit=limit)
            return
        chunks = connection.chunks
        body = (chunks[0] if len(chunks) == 1 else b"".join(chunks)).removeprefix(BOM)
        try:
            observed = None if len(body) > LARGE_FOR_C else plan.observe(body)
        except Exception:
            log.exception("the answer of %s could not be read", self.id)
            observed = None
        if observed is None or observed.error is not None or (usage := observed.usage) is None:
            self.go_on()
            return
        headers = read_headers(connection.headers)
        if observed.characters > observed.counted_at or headers.is_encoded:
            self.go_on()
            return
        self._respond(begun, connection, headers=headers, observed=observed, usage=usage, body=body)

    def _respond(
        self,
        begun: BegunPost,
        connection: UpstreamConnection,
        *,
        headers: ReceivedHeaders,
        observed: ObservedResponse,
        usage: Usage,
        body: bytes,
    ) -> None:
        """Nothing is left that could go another way."""
        exchange, gateway, app, plan = self.exchange, self.gateway, self.app, begun.plan
        attempt, upstream = plan.attempt, plan.post.upstream
        begun.connection = None
        connection.limit = 0
        connection.mark_read()
        connection.release()
        exchange.on_disconnect = None
        overhead = max(0.0, begun.started - self.started)
        head = ResponseHead(
            dialect=plan.dialect,
            request_id=self.id,
            provider=attempt.provider,
            model=attempt.model,
            attempts=1,
            overhead=overhead,
            upstream_headers=headers.forwarded,
        )
        lines = response_headers(head)
        first = perf_counter()
        exchange.respond(200, lines, body)
        if not gateway.circuits.all_closed:
            gateway.circuits.succeeded(attempt, self.admitted.owner)
        cost, charge = gateway.prices.amounts(
            upstream.seller, attempt.model, usage, conditions=plan.conditions.copy
        )
        if observed.opaque_states:
            gateway.origins.remember(observed.opaque_states, attempt)
        now = perf_counter()
        app.running.pop(self, None)
        if self.size:
            app.bodies.shrink(self.admitted.memory_owner, self.size)
        app.limits.settle(
            self.ticket,
            tokens=usage.fresh + usage.cache_read + usage.cache_write + usage.output,
            usd=charge or 0.0,
        )
        attempted = AttemptRecord(
            provider=attempt.provider,
            model=attempt.model,
            key=attempt.key,
            outcome="ok",
            status=200,
            started=begun.started - self.started,
            seconds=now - begun.started,
            upstream_request_id=headers.request_id,
            usage=usage,
            cost=cost,
            charge=charge,
            dialect=attempt.dialect,
            otel_name=attempt.otel_name,
            sent=None if app.keep_bodies is None else AS_RECEIVED if begun.body is self.body else begun.body,
            bytes_sent=len(begun.body),
        )
        app.record(self._record(plan, attempted, observed.finish, body, overhead=overhead, first=first))
        exchange.ended()

    def _record(
        self,
        plan: CallPlan,
        attempted: AttemptRecord,
        finish: str | None,
        body: bytes,
        *,
        overhead: float,
        first: float,
    ) -> Record:
        started, keep, known = self.started, self.app.keep_bodies, self.admitted.records
        return msgspec.structs.replace(
            known.get(plan) or self._new_record(plan),
            id=self.id,
            started=self.wall_time,
            finish_reason=finish,
            usage=attempted.usage,
            cost=attempted.cost,
            times=Times(overhead, 0.0, first - started if body else None, perf_counter() - started),
            attempts=(attempted,),
            bytes_in=len(self.body),
            bytes_out=len(body),
            headers=() if keep is None else self.exchange.head.shown,
            request_body=None if keep is None else self.body,
            response_body=None if keep is None else body[:keep],
        )

    def _new_record(self, plan: CallPlan) -> Record:
        """What the Records of such calls on this connection have in common: a struct of so many
        members takes less time to copy than to make.
        """
        caller, known = self.admitted.caller, self.admitted.records
        if len(known) >= PLANS:
            known.clear()
        record = known[plan] = Record(
            id="",
            started=0.0,
            listener=caller.listener,
            client=caller.client,
            agent=caller.agent,
            run=caller.run.id if caller.run is not None else "",
            peer=caller.peer,
            peer_network=caller.attested,
            endpoint=plan.endpoint,
            dialect=plan.dialect,
            requested_model=plan.model,
            model=plan.attempt.model,
            provider=plan.attempt.provider,
            passthrough=True,
            status=200,
        )
        return record

    def go_on(self) -> ResponseWriter:
        """Go on in the general path, which has its own entry in `App.running`."""
        app, exchange = self.app, self.exchange
        response = ResponseWriter(exchange, clock=perf_counter, keep=app.keep_bodies or 0)
        if exchange.task is not None:
            return response
        response.reserved = self.size
        exchange.task = EagerTask(
            exchange.run(partial(self._rest, response)),
            loop=exchange.connection.loop,
            on_end=exchange.ended,
        )
        exchange.task.start()
        return response

    async def _rest(self, response: ResponseWriter, exchange: HttpExchange) -> None:
        try:
            await self.app.serve_call(exchange, response, self.id, self.admitted, planned=self)
        finally:
            response.release()


def begin(app: App, exchange: HttpExchange) -> bool:
    """Serve a whole request by a plan. False, with nothing counted, where there is none for such
    requests, or where its caller's limits are reached: then the general path has to serve it, or to
    refuse it.
    """
    admitted = app.admitted_before(exchange)
    size = exchange.size
    if admitted is None or (of := admitted.requester) is None or not of.plans or size > app.max_body:
        return False
    ticket = app.limits.try_admit(admitted.caller)
    if ticket is None:
        return False
    bodies, owner = app.bodies, admitted.memory_owner
    try:
        if size:
            bodies.grow(owner, size)
    except ModelplexError:
        app.limits.withdraw(ticket)
        return False
    call = PlannedCall(app, exchange, admitted, body=exchange.take_body(), ticket=ticket, id=next(app.ids))
    app.running[call] = call
    app.started(admitted.caller.listener)
    turns, starter = app.fair_start, admitted.owner
    if turns.may_start(starter, size, overhead=PLANNED_OVERHEAD):
        call.start()
    else:
        exchange.on_disconnect = call.disconnected
        turns.start_in_turn(starter, size, call.start_in_turn, overhead=PLANNED_OVERHEAD)
    return True
