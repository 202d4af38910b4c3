"""The application: what each request passes before and after the gateway.

It knows methods, headers and statuses, and no provider. The stages, in this order:

1. caller: the connection's, or the agent whose token was sent; a caller that may not connect is
   refused before anything else is read
2. Host and Origin, on TCP only: guards against DNS rebinding
3. path: only those of the route table are served
4. rate limits, concurrency, budget, and the declared length: known from the head, and so checked
   before the body is read
5. body, within its limits
6. response of the gateway
7. Record, however the request ended
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter, time
from typing import TYPE_CHECKING, Protocol

import msgspec

from modelplex.core.caller import Caller
from modelplex.core.errors import (
    BadRequest,
    ClientClosed,
    InternalFault,
    MethodNotAllowed,
    ModelplexError,
    NotFound,
    UpgradeRefused,
    detached,
)
from modelplex.core.request import RawRequest
from modelplex.core.trace_context import TraceContext
from modelplex.dialects.raw_request import FORM, read_form, read_request
from modelplex.dialects.registry import DEFAULT, DIALECTS, load, write_error
from modelplex.eager_task import in_asyncio_task
from modelplex.limits.agent_limits import AgentLimits
from modelplex.pipeline.call_plans import CallPlan, Requester
from modelplex.pipeline.gateway import Gateway
from modelplex.pipeline.offload import is_large
from modelplex.pipeline.response_output import ResponseHead
from modelplex.pipeline.stored_responses import answer_view
from modelplex.pipeline.stream import stopped
from modelplex.records.builder import RecordBuilder
from modelplex.records.record import Record
from modelplex.server.admin import JSON, AdminRoutes, View, check_model_allowed
from modelplex.server.admission import BodyMemory
from modelplex.server.callers import CallerResolver, ClientConnection
from modelplex.server.fair_start import FairStart
from modelplex.server.http_exchange import HttpExchange
from modelplex.server.mcp_routes import refuse_stopped, serve_mcp
from modelplex.server.origin import Hosts
from modelplex.server.planned_call import PlannedCall, begin
from modelplex.server.readiness import PATHS as PROBES
from modelplex.server.readiness import READY
from modelplex.server.request_head import HttpHead, RequestHead
from modelplex.server.response_writer import ResponseWriter, check_length
from modelplex.server.routes import (
    BASES,
    MCP,
    TELEMETRY,
    Operation,
    below_base,
    below_own_base,
    check_method,
    dialect_of,
    find_operation,
    is_base,
)
from modelplex.server.telemetry import take_telemetry

if TYPE_CHECKING:
    from modelplex.dialects.dialect import Dialect
    from modelplex.mcp.clients.http import McpHttp
    from modelplex.telemetry.intake import TelemetryIntake

log = logging.getLogger("modelplex.server")

ADMIN = "/_internal/"
"""For the host, and so on TCP and the admin socket only: an agent's socket does not have it."""
HOST_KINDS = frozenset({"tcp", "admin"})
"""The kinds of listeners that have ADMIN."""
MAX_MODEL_NAME = 512
"""Characters of a model name, which is written to logs and headers. The longest known names, paths
of files, are well below.
"""


class BodySettings(msgspec.Struct):
    """Of request bodies: the largest size in bytes, how many bytes of each response a Record gets
    beside the request (None: neither), and the memory that all share.
    """

    max_size: int
    keep: int | None
    memory: BodyMemory


class Admitted(msgspec.Struct, frozen=True):
    """A model call whose head was accepted. Another one with the same head on the same connection
    is accepted as well, while the config has the same policies and hosts.

    caller        the connection's, or the agent of a token in the head
    owner         whose turn it is and whose limits apply
    memory_owner  whose share of memory its body counts for
    unread        the request as far as the path tells of it
    trace         of the client, if it has one
    requester     has the plans for such requests; None where no other has the same head
    records       what the Records of planned calls have in common, by plan
    """

    head: HttpHead
    policies: object
    hosts: Hosts
    caller: Caller
    owner: str
    memory_owner: str
    operation: Operation
    content_type: str
    unread: RawRequest
    trace: TraceContext | None
    requester: Requester | None
    records: dict[CallPlan, Record] = {}


class RequestObserver(Protocol):
    """Gets each request's start and Record."""

    def started(self, listener: str) -> None: ...
    def record(self, record: Record, /) -> None: ...


class InternalPaths(Protocol):
    """Serves the paths below ADMIN."""

    def has(self, path: str) -> bool: ...
    async def serve(
        self, exchange: HttpExchange, response: ResponseWriter, caller: Caller, *, request_id: str
    ) -> None: ...
    async def may_read(self, caller: Caller, authorization: str | None) -> bool: ...


class App:
    """The app of the listeners. `gateway` may be replaced at run time: running requests keep
    theirs.
    """

    def __init__(
        self,
        gateway: Gateway,
        admin: AdminRoutes,
        *,
        callers: CallerResolver,
        limits: AgentLimits,
        hosts: Hosts,
        ids: Iterator[str],
        bodies: BodySettings,
        observer: RequestObserver,
    ) -> None:
        self.gateway = gateway
        self.admin = admin
        self.callers = callers
        self.limits = limits
        self.hosts = hosts
        self.max_body = bodies.max_size
        self.keep_bodies = bodies.keep
        self.bodies = bodies.memory
        self.ids = ids
        self.started = observer.started
        self.record = observer.record
        self.running: dict[ResponseWriter | PlannedCall, RecordBuilder | PlannedCall | None] = {}
        """The calls in flight; None is one of the tool routes."""
        self.fair_start = FairStart()
        self.telemetry: TelemetryIntake | None = None
        """Takes what agents export; None where it is discarded."""
        self.mcp: McpHttp | None = None
        """What is below /mcp/; None where it is not enabled."""
        self.begin: Callable[[HttpExchange], bool] = partial(begin, self)
        self.internal: InternalPaths | None = None

    def __repr__(self) -> str:
        return f"<App {self.gateway!r}, {len(self.running)} running>"

    async def __call__(self, exchange: HttpExchange) -> None:
        response = ResponseWriter(exchange, clock=perf_counter, keep=self.keep_bodies or 0)
        request_id = next(self.ids)
        http = exchange.head
        client = DEFAULT
        connection: ClientConnection = exchange.connection.state["client"]
        caller = connection.caller
        try:
            admitted = self.admitted_before(exchange)
            if admitted is None:
                caller = self.callers.resolve(connection, http.headers)
                client = http.facts.client
                admitted = await self._admit(exchange, response, request_id, caller=caller)
                if admitted is None:
                    return
                connection.admitted = admitted
            await self.serve_call(exchange, response, request_id, admitted)
        except ModelplexError as error:
            dialect = dialect_of(http.path, client=client)
            await _refuse(detached(error), response, request_id, dialect=dialect)
            _record_refused(self, error, exchange, response, request_id, caller=caller)
        finally:
            if response.reserved:
                response.release()

    def admitted_before(self, exchange: HttpExchange) -> Admitted | None:
        """What was decided about the same head on the same connection, if it still holds."""
        admitted = exchange.connection.state["client"].admitted
        if (
            not isinstance(admitted, Admitted)
            or admitted.head is not exchange.head
            or admitted.policies is not self.callers.policies
            or admitted.hosts is not self.hosts
        ):
            return None
        return admitted

    async def _admit(
        self, exchange: HttpExchange, response: ResponseWriter, request_id: str, *, caller: Caller
    ) -> Admitted | None:
        """Decide about a head. Returns None for a request that is no model call, and serves it.
        Raises ModelplexError.
        """
        http, head = exchange.head, exchange.head.facts
        if head.host is None and caller.kind == "tcp" and http.version == "1.1":
            raise BadRequest(
                "A request of HTTP/1.1 needs the header 'Host' (RFC 9112 3.2).", code="host_missing"
            )
        response.memory, response.owner = self.bodies, _memory_owner(caller)
        response.fair_start, response.starter = self.fair_start, caller.owner
        if head.path.startswith(MCP) and caller.kind != "admin":
            await self._mcp(exchange, response, caller)
            return None
        if caller.kind in HOST_KINDS:
            self.hosts.check(head.host, head.origin)
            if self.internal is not None and self.internal.has(head.path):
                await in_asyncio_task()
                await self.internal.serve(exchange, response, caller, request_id=request_id)
                return None
            check_admin_path(head, caller)
        operation = head.operation
        if operation is None:
            label, body = await self._other(exchange, response, caller)
            headers = [(b"content-type", label), (b"x-request-id", request_id.encode())]
            await response.respond(200, headers, body)
            return None
        if head.method != "POST":
            if head.upgrade:
                raise UpgradeRefused(
                    f'{head.path} is not served as a WebSocket; POST to it, with "stream": true for a stream.'
                )
            raise MethodNotAllowed(f"{head.path} takes POST, not {head.method}.")
        return Admitted(
            http,
            self.callers.policies,
            self.hosts,
            caller,
            owner=response.starter,
            memory_owner=response.owner,
            operation=operation,
            content_type=head.content_type,
            unread=_unread(operation),
            trace=head.trace,
            requester=self.gateway.plans.requester(http, caller) if http.is_known else None,
        )

    def stop(self) -> None:
        """End the requests that still run: the drain timeout is over."""
        for response in tuple(self.running):
            response.stop(stopped())

    async def _mcp(self, exchange: HttpExchange, response: ResponseWriter, caller: Caller) -> None:
        self.running[response] = None
        try:
            await in_asyncio_task()
            await serve_mcp(self.mcp, exchange, response, caller=caller, hosts=self.hosts)
        except asyncio.CancelledError:
            if response.stop_error is None or response.started:
                raise
            await refuse_stopped(exchange, response, response.stop_error)
        finally:
            self.running.pop(response, None)

    async def serve_call(
        self,
        exchange: HttpExchange,
        response: ResponseWriter,
        request_id: str,
        admitted: Admitted,
        *,
        planned: PlannedCall | None = None,
    ) -> None:
        """Serve a model call. `planned` is the one that began it, and what it holds."""
        length, caller, operation = exchange.length, admitted.caller, admitted.operation
        response.memory, response.owner = self.bodies, admitted.memory_owner
        response.fair_start, response.starter = self.fair_start, admitted.owner
        record = RecordBuilder(
            id=request_id, request=admitted.unread, caller=caller, started=perf_counter(), wall_time=time()
        )
        if admitted.trace is not None:
            record.trace = admitted.trace
        self.running[response] = record
        gateway, ticket, begun, dispatched = self.gateway, None, None, False
        if planned is None:
            self.started(caller.listener)
        else:
            self.running.pop(planned, None)
            gateway, ticket, begun = planned.gateway, planned.ticket, planned.begun
            record.started, record.wall_time = planned.started, planned.wall_time
        try:
            if planned is None:
                check_length(length, limit=self.max_body)
                shared = self.limits.shared
                if shared is None:
                    ticket = self.limits.admit(caller)
                else:
                    ticket = await self.limits.admit_shared(caller, shared, id=request_id)
                body = await response.body(limit=self.max_body, declared=length)
                record.started = perf_counter()
            else:
                body = planned.body
            record.received = body
            record.keeps_bodies = self.keep_bodies is not None
            if operation.dialect not in DIALECTS:
                await asyncio.to_thread(load, (operation.dialect,))  # others are served meanwhile
            content_type, headers = admitted.content_type, exchange.head.forwarded
            if is_large(body):
                parse = partial(_parse, operation, body, content_type, headers)
                raw = await gateway.offload.run(parse, body=body, owner=admitted.owner)
            else:
                raw = _parse(operation, body, content_type, headers)
            record.request = raw
            if caller.models:
                check_model_allowed(gateway, caller, raw.model)
            if begun is None:
                response.cancel_on_disconnect()
            else:  # a disconnect is that of a call that was sent
                assert exchange.task is not None
                exchange.on_disconnect = exchange.task.cancel
            dispatched = True
            await gateway.answer(raw, response, record, requester=admitted.requester, begun=begun)
        except ModelplexError as error:
            await _fail(error, record, response)
        except RecursionError:
            # Parsing JSON recurses for each level of nesting; no client needs a thousand of them.
            await _fail(BadRequest("The body is nested too deeply."), record, response)
        except asyncio.CancelledError:
            # Only a disconnect cancels this task, so it ends here.
            if record.failure is None:
                record.fail(ClientClosed("The client disconnected."))
        except Exception:
            log.exception("the call %s failed", request_id)
            await _fail(InternalFault(), record, response)
        finally:
            exchange.on_disconnect = None
            self.running.pop(response, None)
            if begun is not None:
                begun.close()
            if ticket is not None:
                if dispatched:
                    # Also for a call that the client or the provider broke off.
                    tokens, usd = record.budget_charge()
                    self.limits.settle(ticket, tokens=tokens, usd=usd)
                else:
                    self.limits.withdraw(ticket)
            _close_record(self, record, exchange, response)

    async def _other(
        self, exchange: HttpExchange, response: ResponseWriter, caller: Caller
    ) -> tuple[bytes, bytes]:
        """Content type and body for a path that is no model call. Raises NotFound,
        MethodNotAllowed, and what the view raises.
        """
        head = exchange.head.facts
        if head.method == "POST" and head.path in TELEMETRY:
            return await take_telemetry(self.telemetry, exchange, response, caller, limit=self.max_body)
        own = below_own_base(head.path)
        if head.method == "POST" and own is not None:
            write = DIALECTS[own[0]].model_views.get(own[1])
            if write is not None:
                body = await response.body(limit=self.max_body, declared=exchange.length)
                return await self.admin.show(self.gateway, body, caller, write=write)
        rest = below_base(head.path)
        if rest is not None:
            stored = await answer_view(self.gateway.responses, rest, method=head.method, owner=caller.owner)
            if stored is not None:
                return JSON, stored
        if head.method == "POST":
            check_method(head.path)
        view = self._view(head, caller)
        if view is None:
            raise NotFound(
                f"There is nothing at {head.path}. What is served: POST {BASES[0]}chat/completions, completions, embeddings and "
                f"others, GET {BASES[0]}models, GET /health."
            )
        if head.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed(f"{head.path} takes GET, not {head.method}.")
        return await view(self.gateway)

    def _view(self, head: RequestHead, caller: Caller) -> View | None:
        """The view at this path that this caller may read."""
        path = head.path
        if path in {"/health", "/health/"}:
            return partial(self.admin.health, detail=head.detail, caller=caller)
        if path in PROBES:
            return partial(self._probe, head=head, caller=caller)
        if path == "/" or is_base(path):  # some clients request their base URL first
            return partial(self.admin.health, detail=False)
        if (rest := below_base(path)) is not None:
            return _models_view(self.admin, rest, DIALECTS[head.client], caller)
        if (own := below_own_base(path)) is not None:
            dialect, rest = DIALECTS[own[0]], own[1]
            if rest in dialect.views:
                return partial(self.admin.dialect_view, caller=caller, write=dialect.views[rest])
            return _models_view(self.admin, rest, dialect, caller)
        return None

    async def _probe(self, gateway: Gateway, *, head: RequestHead, caller: Caller) -> tuple[bytes, bytes]:
        is_ready, in_detail = head.path == READY, False
        if is_ready and self.internal is not None and caller.kind in HOST_KINDS:
            await in_asyncio_task()
            in_detail = await self.internal.may_read(caller, head.authorization)
        return await self.admin.probe(gateway, is_ready=is_ready, in_detail=in_detail)


def _close_record(app: App, record: RecordBuilder, exchange: HttpExchange, response: ResponseWriter) -> None:
    if record.received is None:
        record.read, record.declared = exchange.size, exchange.length
    record.output_started = response.started and response.status == 200
    record.status = response.status
    record.first_output = response.first
    record.bytes_out = response.sent
    if app.keep_bodies is not None:
        record.body_chunks = response.kept
        record.headers = exchange.head.shown
    app.record(record.record(now=perf_counter()))


def _record_refused(
    app: App,
    error: ModelplexError,
    exchange: HttpExchange,
    response: ResponseWriter,
    request_id: str,
    *,
    caller: Caller,
) -> None:
    """Record a model call that was refused for its caller or its head, before `_call`."""
    head = exchange.head
    operation = find_operation(head.path, head.query) if head.method == "POST" else None
    if operation is None or caller.kind == "admin":
        return
    record = RecordBuilder(
        id=request_id,
        request=_unread(operation),
        caller=caller,
        started=perf_counter(),
        wall_time=time(),
    )
    record.fail(error)
    app.started(caller.listener)
    _close_record(app, record, exchange, response)


def _models_view(admin: AdminRoutes, rest: str, dialect: Dialect, caller: Caller) -> View | None:
    """The list of models, or one model."""
    if rest in {"models", "models/"} and dialect.write_models is not None:
        return partial(admin.dialect_view, caller=caller, write=dialect.write_models)
    if rest.startswith("models/") and dialect.write_model is not None:
        name = rest.removeprefix("models/")
        return partial(admin.model, caller=caller, name=name, write=dialect.write_model)
    return None


def check_admin_path(head: RequestHead, caller: Caller) -> None:
    """Raises NotFound for a path that the admin socket does not have: it is no agent's way to a
    model.
    """
    if caller.kind == "admin" and not head.path.startswith((ADMIN, "/health")):
        raise NotFound(
            "This is the admin socket: it has /_internal/ and /health. Models are on the other listeners."
        )


def _unread(operation: Operation) -> RawRequest:
    """What the path tells of a request."""
    endpoint, dialect, model = operation.endpoint, operation.dialect, operation.model or ""
    return RawRequest(endpoint, dialect, model, b"", {}, stream=operation.stream or False)


def _memory_owner(caller: Caller) -> str:
    """Whose share of memory a body counts for: its agent's; without an agent, that of the client's
    address or of the listener.
    """
    return f"{caller.owner} {caller.client}" if caller.client and not caller.agent else caller.owner


def _parse(
    operation: Operation, body: bytes, content_type: str, headers: tuple[tuple[bytes, bytes], ...]
) -> RawRequest:
    endpoint, dialect = operation.endpoint, operation.dialect
    if not content_type.startswith(FORM):
        raw = read_request(
            body,
            endpoint=endpoint,
            dialect=dialect,
            model=operation.model,
            stream=operation.stream,
            headers=headers,
        )
    elif operation.form:
        raw = read_form(body, endpoint=endpoint, dialect=dialect, content_type=content_type, headers=headers)
    else:
        raise BadRequest(f"{endpoint} takes application/json, not a form.")
    if not raw.model or len(raw.model) > MAX_MODEL_NAME:
        raise BadRequest(f"'model' must have between 1 and {MAX_MODEL_NAME} characters.", param="model")
    return raw


async def _fail(error: ModelplexError, record: RecordBuilder, response: ResponseWriter) -> None:
    record.fail(detached(error))
    if not isinstance(error, ClientClosed):
        await _refuse(error, response, record.id, dialect=record.request.dialect)


async def _refuse(error: ModelplexError, response: ResponseWriter, request_id: str, *, dialect: str) -> None:
    """Send an error of the gateway in the client's dialect."""
    if response.started:
        response.abort()
        return
    status, body = write_error(dialect, error, request_id=request_id)
    head = ResponseHead(
        dialect=dialect,
        request_id=request_id,
        may_retry=error.sdk_may_retry,
        retry_after=error.retry_after,
    )
    await response.respond(status, head, body)
