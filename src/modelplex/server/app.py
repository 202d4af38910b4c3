"""What every request goes through before and after the gateway.

Above it stand the listeners, below it the gateway. It knows methods, headers and statuses, and
nothing of providers. The order of the stages, each with its reason:

    who asks       the connection's caller, or the agent whose token came: those that may not
                   connect are refused before anything is looked at
    who may ask    Host and Origin, on TCP alone: a web page must not reach this port by a name of
                   its own
    the path       the allow-list
    how much       the agent's rate, requests at once and budget, and the length of the body: known
                   from the head, so asked before the body is read
    the body       only now, and within its limits
    the answer     the gateway's
    the Record     always, however it ended
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial
from time import perf_counter, time
from typing import Any, Protocol, cast

import msgspec
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from modelplex.core.caller import Caller
from modelplex.core.errors import (
    BadRequest,
    ClientClosed,
    MethodNotAllowed,
    ModelplexError,
    NotFound,
    UpgradeRefused,
    detached,
)
from modelplex.core.request import RawRequest
from modelplex.dialects.dialect import Dialect
from modelplex.dialects.raw_request import FORM, read_ask, read_form
from modelplex.dialects.registry import DEFAULT, DIALECTS, write_error
from modelplex.limits.agent_limits import AgentLimits, Ticket
from modelplex.mcp.clients.http import McpHttp
from modelplex.pipeline.gateway import Gateway
from modelplex.pipeline.response_output import ResponseHead
from modelplex.pipeline.stored_responses import answer_view
from modelplex.records.builder import RecordBuilder
from modelplex.records.record import Record
from modelplex.server.admin import AdminRoutes, View, may_ask, may_look_inside
from modelplex.server.admission import BodyMemory, Reservation
from modelplex.server.callers import CallerResolver
from modelplex.server.fair_start import FairStart
from modelplex.server.mcp_routes import answer_tools
from modelplex.server.origin import Hosts
from modelplex.server.response_writer import Headers, ResponseWriter, check_length
from modelplex.server.routes import (
    BASES,
    TOOLS,
    Operation,
    below_base,
    below_own_base,
    check_method,
    client_of_header,
    dialect_of,
    is_base,
    operation,
    plain,
)

INSIDE = "/_internal/"
"""For the host, and on TCP alone: an agent's socket does not have it."""
MAX_LENGTH_DIGITS = 20
"""Digits of a content-length: as many as the largest number of 64 bits has. The parser lets any
number of zeros stand before.
"""
MAX_MODEL_NAME = 512
"""Characters of a model's name. The longest known, a path to a file, is well below; it is put into
logs and headers.
"""


class Request(msgspec.Struct, frozen=True):
    """What of the head is looked at. Credentials of any form are accepted, ignored and never passed
    on.
    """

    method: str
    path: str
    caller: Caller
    host: str | None
    origin: str | None
    authorization: str | None
    content_type: str
    length: int | None
    upgrade: bool
    client: str
    """The dialect of the client, as its headers say: the paths of the models are shared."""
    detail: bool
    """The query says `detail`: only /health has one that matters."""


def read_head(scope: Mapping[str, Any], caller: Caller) -> Request:
    host = origin = authorization = None
    content_type, length, upgrade = "", None, False
    client = DEFAULT
    for name, value in scope["headers"]:
        match name:
            case b"host":
                _once(name, host)
                host = value.decode("latin-1")
            case b"upgrade":
                upgrade = value.lower() == b"websocket"
            case b"content-type":
                # A media type has no case, its parameters may (RFC 9110 8.3.1).
                kind, *parameters = value.decode("latin-1").split(";", 1)
                content_type = ";".join((kind.lower(), *parameters))
            case b"content-length":
                length = _length(value)
            case b"origin":
                _once(name, origin)
                origin = value.decode("latin-1")
            case b"authorization":
                authorization = value.decode("latin-1")
            case b"content-encoding" if value.strip().lower() not in {b"", b"identity"}:
                raise BadRequest(
                    "The body of a request is read as it is, without any content-encoding.",
                    status=415,
                    code="unsupported_encoding",
                )
            case b"transfer-encoding" if value.strip().lower() != b"chunked":
                # The parser is content with "gzip, chunked", and would give us the zipped bytes.
                raise BadRequest("The only transfer-encoding that is served is chunked.")
            case _:
                client = client_of_header(name) or client
    if host is None and caller.kind == "tcp" and scope["http_version"] == "1.1":
        raise BadRequest("A request of HTTP/1.1 has the header 'Host' (RFC 9112 3.2).", code="host_missing")
    return Request(
        method=scope["method"],
        path=scope["path"],
        caller=caller,
        host=host,
        origin=origin,
        authorization=authorization,
        content_type=content_type,
        length=length,
        upgrade=upgrade,
        client=client,
        detail=b"detail" in scope["query_string"],
    )


def _length(value: bytes) -> int:
    if len(value) > MAX_LENGTH_DIGITS:
        raise BadRequest(
            f"The content-length has {len(value)} digits, and at most {MAX_LENGTH_DIGITS} are read."
        )
    return int(value)


def _once(name: bytes, known: str | None) -> None:
    """Of two, one could be what is checked here and the other what somebody meant (RFC
    9112 3.2).
    """
    if known is not None:
        raise BadRequest(f"The request has the header {name.decode()!r} twice.")


class BodySettings(msgspec.Struct):
    """Of request bodies: the largest size in bytes, how many bytes of each body and response are
    kept for the log, and the memory that is shared by all of them.
    """

    max_size: int
    keep: int
    memory: BodyMemory


class RequestObserver(Protocol):
    """Learns of each request's start and end."""

    def started(self, listener: str) -> None: ...
    def record(self, record: Record, /) -> None: ...


class App:
    """The ASGI callable. `gateway` may be replaced while it runs: requests that have begun keep
    theirs.
    """

    def __init__(
        self,
        gateway: Gateway,
        inside: AdminRoutes,
        *,
        callers: CallerResolver,
        limits: AgentLimits,
        hosts: Hosts,
        ids: Iterator[str],
        bodies: BodySettings,
        observer: RequestObserver,
    ) -> None:
        self.gateway = gateway
        self.inside = inside
        self.callers = callers
        self.limits = limits
        self.hosts = hosts
        self.max_body = bodies.max_size
        self.keep_bodies = bodies.keep
        self.bodies = bodies.memory
        self._ids = ids
        self._started = observer.started
        self._record = observer.record
        self._running: set[ResponseWriter] = set()
        self._turns = FairStart()
        self.front: McpHttp | None = None
        """What is below /mcp/; None where it is not enabled."""

    def __repr__(self) -> str:
        return f"<App {self.gateway!r}, {len(self._running)} running>"

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        del send  # the door has a shorter way
        http = cast("dict[str, Any]", scope)
        door = ResponseWriter(http["exchange"], receive, clock=perf_counter, keep=self.keep_bodies)
        request_id = next(self._ids)
        client = DEFAULT
        try:
            request = read_head(http, self.callers.of(http["state"]["client"], http["headers"]))
            client = request.client
            door.reservation = Reservation(self.bodies, _payer(request.caller))
            door.turn = partial(self._turns.take, request.caller.owner)
            plain(http["raw_path"], method=request.method)
            if request.path.startswith(TOOLS):
                await self._tools(request, door, http)
                return
            if request.caller.kind == "tcp":
                self.hosts.check(request.host, request.origin)
            asked = operation(request.path, http["query_string"])
            if asked is None:
                await self._other(request, door, request_id)
            elif request.method == "POST":
                await self._call(asked, request, door, request_id, headers=http["headers"])
            elif request.upgrade:
                raise UpgradeRefused(
                    f'{request.path} is not served as a WebSocket; POST to it, with "stream": true for a stream.'
                )
            else:
                raise MethodNotAllowed(f"{request.path} takes POST, not {request.method}.")
        except ModelplexError as error:
            await _refuse(detached(error), door, request_id, dialect=dialect_of(http["path"], client=client))
        finally:
            door.release()

    def stop(self) -> None:
        """End what still runs: the drain time is over."""
        for door in tuple(self._running):
            door.stop()

    async def _tools(self, request: Request, door: ResponseWriter, scope: Mapping[str, Any]) -> None:
        self._running.add(door)
        try:
            await answer_tools(
                self.front,
                scope,
                door,
                caller=request.caller,
                hosts=self.hosts,
                host=request.host,
                origin=request.origin,
                length=request.length,
            )
        finally:
            self._running.discard(door)

    # --- model calls ---

    async def _call(
        self, asked: Operation, request: Request, door: ResponseWriter, request_id: str, *, headers: Headers
    ) -> None:
        started, wall = perf_counter(), time()
        journal = RecordBuilder(
            id=request_id,
            ask=RawRequest(asked.endpoint, asked.dialect, "", b"", {}),
            caller=request.caller,
            started=started,
            wall=wall,
        )
        self._running.add(door)
        self._started(request.caller.listener)
        gateway, ticket, asked_gateway = self.gateway, None, False
        try:
            check_length(request.length, limit=self.max_body)
            ticket = self.limits.admit(request.caller)
            body = await door.body(limit=self.max_body, declared=request.length)
            journal.started = perf_counter()
            ask = await gateway.offload.run(
                partial(_read, asked, body, request.content_type), body=body, owner=request.caller.owner
            )
            if (own := DIALECTS[asked.dialect].request_headers) is not None:
                ask = msgspec.structs.replace(ask, headers=own(headers))
            journal.ask = ask
            may_ask(gateway, request.caller, ask.model)
            door.mind_hang_up()
            asked_gateway = True
            await gateway.answer(ask, door, journal)
        except ModelplexError as error:
            journal.failed(detached(error))
            if not isinstance(error, ClientClosed):
                await _refuse(error, door, request_id, dialect=asked.dialect)
        except RecursionError:
            # Reading JSON takes a level of the stack for a level of nesting; nobody means a
            # thousand of them.
            too_deep = BadRequest("The body is nested deeper than is read.")
            journal.failed(too_deep)
            await _refuse(too_deep, door, request_id, dialect=asked.dialect)
        except asyncio.CancelledError:
            # The caller is gone. The task was cancelled by that alone, so it ends here, and nobody
            # is left to be told.
            if journal.failure is None:
                journal.failed(ClientClosed("The caller hung up."))
        finally:
            door.no_longer()
            self._running.discard(door)
            if ticket is not None and asked_gateway:
                self._settle(ticket, journal)
            elif ticket is not None:
                self.limits.withdraw(ticket)
            self._close(journal, door)

    def _settle(self, ticket: Ticket, journal: RecordBuilder) -> None:
        """What a call took of its agent's limits: also one whose caller hung up, or that
        broke off.
        """
        tokens, usd = journal.charged()
        self.limits.settle(ticket, tokens=tokens, usd=usd)

    def _close(self, journal: RecordBuilder, door: ResponseWriter) -> None:
        journal.answered = door.begun and door.status == 200
        journal.status = door.status
        journal.first = door.first
        journal.bytes_out = door.sent
        if self.keep_bodies:
            journal.kept_body = door.kept
        self._record(journal.record(now=perf_counter()))

    # --- everything else ---

    async def _other(self, request: Request, door: ResponseWriter, request_id: str) -> None:
        own = below_own_base(request.path)
        if request.method == "POST" and own is not None and own[1] in own[0].model_views:
            label, body = await self.inside.show(
                self.gateway,
                await door.body(limit=self.max_body, declared=request.length),
                request.caller,
                write=own[0].model_views[own[1]],
            )
            await door.whole(200, [(b"content-type", label), (b"x-request-id", request_id.encode())], body)
            return
        rest = below_base(request.path)
        if rest is not None and rest.startswith("responses/"):
            kept = await answer_view(
                self.gateway.responses,
                rest.removeprefix("responses/"),
                method=request.method,
                owner=request.caller.owner,
            )
            if kept is not None:
                await door.whole(
                    200,
                    [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode())],
                    kept,
                )
                return
        if request.method == "POST":
            check_method(request.path)
        view = self._view(request)
        if view is None:
            raise NotFound(
                f"There is nothing at {request.path}. What is served: POST {BASES[0]}chat/completions, completions, embeddings and "
                f"others, GET {BASES[0]}models, GET /health."
            )
        if request.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed(f"{request.path} takes GET, not {request.method}.")
        label, body = await view(self.gateway)
        await door.whole(200, [(b"content-type", label), (b"x-request-id", request_id.encode())], body)

    def _view(self, request: Request) -> View | None:
        """What can be looked at under this path, by this caller."""
        path = request.path
        if path in {"/health", "/health/"}:
            return partial(self.inside.health, detail=request.detail, caller=request.caller)
        if path == "/" or is_base(path):  # what clients knock at before they begin
            return partial(self.inside.health, detail=False)
        if (rest := below_base(path)) is not None:
            return self._models_view(rest, DIALECTS[request.client], request.caller)
        if (own := below_own_base(path)) is not None:
            dialect, rest = own
            if rest in dialect.views:
                return partial(self.inside.own_view, caller=request.caller, write=dialect.views[rest])
            return self._models_view(rest, dialect, request.caller)
        if path.startswith(INSIDE) and request.caller.kind == "tcp":
            may_look_inside(request.caller.client, request.authorization, self.inside.token)
            return self.inside.view(path.removeprefix(INSIDE))
        return None

    def _models_view(self, rest: str, dialect: Dialect, caller: Caller) -> View | None:
        """The list of models, or one of it."""
        if rest in {"models", "models/"} and dialect.write_models is not None:
            return partial(self.inside.models, caller=caller, write=dialect.write_models)
        if rest.startswith("models/") and dialect.write_model is not None:
            name = rest.removeprefix("models/")
            return partial(self.inside.model, caller=caller, name=name, write=dialect.write_model)
        return None


def _payer(caller: Caller) -> str:
    """Whose share of memory a body takes: its agent's, or that of one address or listener, where
    nobody in particular calls.
    """
    return f"{caller.owner} {caller.client}" if caller.client and not caller.agent else caller.owner


def _read(asked: Operation, body: bytes, content_type: str) -> RawRequest:
    if content_type.startswith(FORM):
        if not asked.form:
            raise BadRequest(f"{asked.endpoint} takes application/json, not a form.")
        ask = read_form(body, endpoint=asked.endpoint, dialect=asked.dialect, content_type=content_type)
    else:
        ask = read_ask(
            body, endpoint=asked.endpoint, dialect=asked.dialect, model=asked.model, stream=asked.stream
        )
    if not ask.model or len(ask.model) > MAX_MODEL_NAME:
        raise BadRequest(f"'model' must have between 1 and {MAX_MODEL_NAME} characters.", param="model")
    return ask


async def _refuse(error: ModelplexError, door: ResponseWriter, request_id: str, *, dialect: str) -> None:
    """An error that is ours to say, in the caller's dialect."""
    if door.begun:
        door.cut()
        return
    status, body = write_error(dialect, error, request_id=request_id)
    head = ResponseHead(
        dialect=dialect,
        request_id=request_id,
        may_retry=error.sdk_may_retry,
        retry_after=error.retry_after,
    )
    await door.whole(status, head, body)
