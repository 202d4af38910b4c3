"""The route table, and what every request goes through before and after it.

Above it stand the listeners, below it the gateway. It knows paths, methods, headers and statuses, and nothing of providers. What is not in the table is
a 404: there is no pass-through of whatever is asked. The order of the stages, each with its reason:

    who may ask    Host and Origin, on TCP alone: a web page must not reach this port by a name of its own
    the path       the allow-list
    the body       only now, and within its limit
    the answer     the gateway's
    the Record     always, however it ended
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from time import perf_counter, time
from typing import Any, cast

import msgspec
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from modelplex.call import Ask, Endpoint
from modelplex.errors import (
    BadRequest,
    ClientClosed,
    MethodNotAllowed,
    ModelplexError,
    NotFound,
)
from modelplex.gateway import Gateway
from modelplex.listen.door import Door
from modelplex.listen.inside import Inside, View, may_look_inside
from modelplex.listen.origin import Hosts
from modelplex.record.journal import Journal
from modelplex.record.record import Record
from modelplex.wire import openai_chat
from modelplex.wire.ask import FORM, read_ask, read_form

BASES = ("/models/v1/", "/v1/")
"""The OpenAI-compatible interface, and its alias for clients that cannot be told a longer base URL."""
INSIDE = "/_internal/"
"""For the host, and on TCP alone: an agent's socket does not have it."""
MAX_MODEL_NAME = 512
"""Characters of a model's name. The longest known, a path to a file, is well below; it is put into logs and headers."""

ENDPOINTS: Mapping[str, tuple[Endpoint, str]] = {
    "chat/completions": ("chat/completions", "openai_chat"),
    "completions": ("completions", "openai_completions"),
    "embeddings": ("embeddings", "openai_embeddings"),
    "moderations": ("moderations", "openai_json"),
    "rerank": ("rerank", "openai_json"),
    "images/generations": ("images/generations", "openai_json"),
    "images/edits": ("images/edits", "openai_form"),
    "images/variations": ("images/variations", "openai_form"),
    "audio/speech": ("audio/speech", "openai_json"),
    "audio/transcriptions": ("audio/transcriptions", "openai_form"),
    "audio/translations": ("audio/translations", "openai_form"),
}
"""What goes to a provider, by the path below a base: the operation, and the dialect that the caller speaks there."""


class Request(msgspec.Struct, frozen=True):
    """What of the head is looked at. Credentials of any form are accepted, ignored and never passed on."""

    method: str
    path: str
    kind: str
    listener: str
    client: str
    host: str | None
    origin: str | None
    authorization: str | None
    content_type: str
    length: int | None
    detail: bool
    """The query says `detail`: only /health has one that matters."""


def read_head(scope: Mapping[str, Any]) -> Request:
    host = origin = authorization = None
    content_type, length = "", None
    for name, value in scope["headers"]:
        match name:
            case b"host":
                _once(name, host)
                host = value.decode("latin-1")
            case b"content-type":
                content_type = value.decode("latin-1")
            case b"content-length":
                length = int(value)
            case b"origin":
                _once(name, origin)
                origin = value.decode("latin-1")
            case b"authorization":
                authorization = value.decode("latin-1")
            case b"transfer-encoding" if value.strip().lower() != b"chunked":
                # The parser is content with "gzip, chunked", and would give us the zipped bytes.
                raise BadRequest("The only transfer-encoding that is served is chunked.")
            case _:
                pass
    state = scope["state"]
    client = scope["client"]
    return Request(
        method=scope["method"],
        path=scope["path"],
        kind=state["kind"],
        listener=state["listener"],
        client=client[0] if client else "",
        host=host,
        origin=origin,
        authorization=authorization,
        content_type=content_type,
        length=length,
        detail=b"detail" in scope["query_string"],
    )


def _once(name: bytes, known: str | None) -> None:
    """Of two, one could be what is checked here and the other what somebody meant (RFC 9112 3.2)."""
    if known is not None:
        raise BadRequest(f"The request has the header {name.decode()!r} twice.")


class App:
    """The ASGI callable. `gateway` may be replaced while it runs: requests that have begun keep theirs."""

    def __init__(
        self,
        gateway: Gateway,
        inside: Inside,
        *,
        hosts: Hosts,
        ids: Iterator[str],
        max_body: int,
        keep_bodies: int,
        started: Callable[[str], None],
        tell: Callable[[Record], None],
    ) -> None:
        self.gateway = gateway
        self.inside = inside
        self.hosts = hosts
        self.max_body = max_body
        self.keep_bodies = keep_bodies
        self._ids = ids
        self._started = started
        self.tell = tell
        self._running: set[Door] = set()

    def __repr__(self) -> str:
        return f"<App {self.gateway!r}, {len(self._running)} running>"

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        del send  # the door has a shorter way
        http = cast("dict[str, Any]", scope)
        door = Door(http["exchange"], receive, clock=perf_counter, keep=self.keep_bodies)
        request_id = next(self._ids)
        try:
            request = read_head(http)
            if request.kind == "tcp":
                self.hosts.check(request.host, request.origin)
            endpoint = self._endpoint(request)
            if endpoint is not None:
                await self._call(endpoint, request, door, request_id)
            else:
                await self._other(request, door, request_id)
        except ModelplexError as error:
            await _refuse(error, door, request_id)

    def stop(self) -> None:
        """End what still runs: the drain time is over."""
        for door in tuple(self._running):
            door.stop()

    def _endpoint(self, request: Request) -> tuple[Endpoint, str] | None:
        for base in BASES:
            if request.path.startswith(base):
                found = ENDPOINTS.get(request.path[len(base) :])
                if found is not None and request.method != "POST":
                    raise MethodNotAllowed(f"{request.path} takes POST, not {request.method}.")
                return found
        return None

    # --- model calls ---

    async def _call(
        self, endpoint: tuple[Endpoint, str], request: Request, door: Door, request_id: str
    ) -> None:
        started, wall = perf_counter(), time()
        operation, dialect = endpoint
        journal = Journal(
            id=request_id,
            ask=Ask(operation, dialect, "", b"", {}),
            listener=request.listener,
            client=request.client,
            started=started,
            wall=wall,
        )
        self._running.add(door)
        self._started(request.listener)
        try:
            body = await door.body(limit=self.max_body, declared=request.length)
            journal.started = perf_counter()
            journal.ask = ask = _read(operation, dialect, body, request.content_type)
            door.mind_hang_up()
            await self.gateway.answer(ask, door, journal)
        except ModelplexError as error:
            journal.error = error
            if not isinstance(error, ClientClosed):
                await _refuse(error, door, request_id)
        except RecursionError:
            # Reading JSON takes a level of the stack for a level of nesting; nobody means a thousand of them.
            too_deep = BadRequest("The body is nested deeper than is read.")
            journal.error = too_deep
            await _refuse(too_deep, door, request_id)
        except asyncio.CancelledError:
            # The caller is gone. The task was cancelled by that alone, so it ends here, and nobody is left to be told.
            journal.error = journal.error or ClientClosed("The caller hung up.")
        finally:
            door.no_longer()
            self._running.discard(door)
            self._close(journal, door)

    def _close(self, journal: Journal, door: Door) -> None:
        journal.answered = door.begun and door.status == 200
        journal.status = door.status
        journal.first = door.first
        journal.bytes_out = door.sent
        if self.keep_bodies:
            journal.kept_body = door.kept
        self.tell(journal.record(now=perf_counter()))

    # --- everything else ---

    async def _other(self, request: Request, door: Door, request_id: str) -> None:
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
            return partial(self.inside.health, detail=request.detail)
        for base in BASES:
            if path == base + "models":
                return self.inside.models
            if path.startswith(base + "models/"):
                return partial(self.inside.model, name=path.removeprefix(base + "models/"))
        if path.startswith(INSIDE) and request.kind == "tcp":
            may_look_inside(request.client, request.authorization, self.inside.token)
            return self.inside.view(path.removeprefix(INSIDE))
        return None


def _read(operation: Endpoint, dialect: str, body: bytes, content_type: str) -> Ask:
    if content_type.startswith(FORM):
        if dialect != "openai_form":
            raise BadRequest(f"{operation} takes application/json, not a form.")
        ask = read_form(body, endpoint=operation, dialect=dialect, content_type=content_type)
    else:
        ask = read_ask(body, endpoint=operation, dialect=dialect)
    if not ask.model or len(ask.model) > MAX_MODEL_NAME:
        raise BadRequest(f"'model' must have between 1 and {MAX_MODEL_NAME} characters.", param="model")
    return ask


async def _refuse(error: ModelplexError, door: Door, request_id: str) -> None:
    """An error that is ours to say, in OpenAI's form."""
    if door.begun:
        door.cut()
        return
    status, body = openai_chat.write_error(error, request_id=request_id)
    head = [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode())]
    if not error.sdk_may_retry:
        head.append((b"x-should-retry", b"false"))
    await door.whole(status, head, body)
