"""MCP over HTTP: both eras on every route, their checks, their streams.

Above it stands the app, which knows sockets and says who calls; below it the sessions and the hub.
What a request is and what is wrong with it `checks` says; this acts on it.

    modern    a POST is a request with all that it needs; its answer is one JSON object, or events
              from the first notification or 15 s of silence on. Who closes it cancels it
    legacy    `initialize` makes a session, named by a header. A stream that breaks off can be taken
              up again; only `notifications/cancelled` cancels
    2024-11-05    `GET .../sse` is a stream that begins with the address to which messages are
    posted; it ends with its connection
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, cast

import msgspec

from modelplex.config.settings import McpConfig
from modelplex.core.caller import Caller
from modelplex.core.errors import ClientClosed, ModelplexError, TooLarge
from modelplex.mcp.clients.checks import (
    STATUS_OF_CODE,
    Accepted,
    Headers,
    McpHeaders,
    ProtocolRefusal,
    accepted,
    era_of,
    id_of,
    kind_of,
    malformed,
    meta_of,
    modern_fault,
    no_era,
    not_acceptable,
    read_head,
    same_arguments,
)
from modelplex.mcp.clients.message_limits import read
from modelplex.mcp.clients.rest import RestRoutes
from modelplex.mcp.clients.session import (
    FAILED,
    MessageStream,
    SessionlessClient,
    ToolBackend,
    already_running,
    start_all,
)
from modelplex.mcp.clients.sessions import LegacySession, Sessions
from modelplex.mcp.clients.sse_response import (
    JSON,
    QUIET_SECONDS,
    HttpOutput,
    ResponseManner,
    SseResponder,
    cut_short,
    refuse,
)
from modelplex.mcp.constants import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    META_CAPABILITIES,
    META_VERSION,
    Json,
    McpReply,
)
from modelplex.pipeline.offload import Offload

log = logging.getLogger("modelplex.mcp")

BASE: Final = "/mcp/v1"
POLLING_SINCE: Final = "2025-11-25"
"""From here on clients take an event without data, whose id they can come back with."""
BATCHING: Final = "2025-03-26"
"""The one revision that has batches."""


class McpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request on a path of ours, its Host and Origin looked at already. `length` is the body's,
    where it is declared.
    """

    method: str
    path: str
    query: bytes
    headers: Headers
    caller: Caller
    length: int | None


class McpPlace(msgspec.Struct, frozen=True):
    """What a path means. `form` "mcp" is the endpoint, "sse" the older one, "tools" and "call" the
    plain form; `name` is the server or the tool.
    """

    form: str
    name: str | None = None


def place_of(path: str) -> McpPlace | None:
    parts = path.removeprefix(BASE).strip("/").split("/")
    match parts:
        case [""]:
            return McpPlace("mcp")
        case ["sse"]:
            return McpPlace("sse")
        case ["tools"]:
            return McpPlace("tools")
        case ["tools", *name, "call"] if name:
            return McpPlace("call", "/".join(name))
        case ["servers", name]:
            return McpPlace("mcp", name)
        case ["servers", name, "sse"]:
            return McpPlace("sse", name)
        case _:
            return None


async def refuse_path(path: str, status: int, sentence: str, output: HttpOutput) -> None:
    """Say no in the form that the path belongs to, before anything of the request was read."""
    place = place_of(path)
    if place is not None and place.form in {"tools", "call"}:
        await REST.refuse(status, sentence, output)
    else:
        await refuse(ProtocolRefusal(status, INVALID_REQUEST, sentence), output)


REST: Final = RestRoutes()


class McpHttp:
    """Everything below /mcp/v1. `ids` gives session ids of 128 random bits, `clock` seconds;
    `open_to_all` is [server] allow_unauthenticated.
    """

    def __init__(
        self,
        gateway: ToolBackend,
        config: McpConfig,
        *,
        ids: Callable[[], str],
        clock: Callable[[], float],
        open_to_all: bool = False,
        quiet: float = QUIET_SECONDS,
        offload: Offload | None = None,
    ) -> None:
        self.gateway = gateway
        self._offload = offload if offload is not None else Offload()
        self.open_to_all = open_to_all
        self._sessions = Sessions(config, ids=ids, clock=clock)
        self._responder = SseResponder(quiet)
        self._endless: set[MessageStream] = set()

    def __repr__(self) -> str:
        return f"<Front {self._sessions!r}, {len(self._endless)} endless streams>"

    @property
    def config(self) -> McpConfig:
        """May be replaced while it runs; sessions that there are stay."""
        return self._sessions.config

    @config.setter
    def config(self, config: McpConfig) -> None:
        self._sessions.config = config

    @property
    def sessions(self) -> int:
        """How many legacy clients have one."""
        return len(self._sessions)

    async def answer(self, request: McpRequest, output: HttpOutput) -> None:
        """The whole of one request."""
        place = place_of(request.path)
        try:
            fault = self._not_allowed_for(request.caller) or self._not_found(request.path, place)
            if fault is not None:
                await refuse_path(request.path, fault.status, fault.message, output)
            elif place is not None:
                await self._dispatch(place, request, output)
        except TooLarge:
            text = f"The message is larger than the {self.config.max_message} bytes of [mcp] max_message."
            await refuse_path(request.path, 413, text, output)
        except ClientClosed:
            return
        except ModelplexError as error:
            await refuse_path(request.path, error.status, error.message, output)

    def drain(self) -> None:
        """The gateway stops: streams that end by themselves never are ended now."""
        for stream in tuple(self._endless):
            stream.finish()

    async def close(self) -> None:
        """End every session, and what runs in it."""
        self.drain()
        await self._sessions.close()

    # --- who and where ---

    def _not_allowed_for(self, caller: Caller) -> ProtocolRefusal | None:
        if caller.kind != "tcp" or caller.agent or self.open_to_all or _is_loopback(caller.listener):
            return None
        return ProtocolRefusal(
            401,
            INVALID_REQUEST,
            "Beyond loopback tools are served to known agents alone: send the token of one of [[agents]] as 'Authorization: Bearer TOKEN', "
            "or let the host set [server] allow_unauthenticated = true.",
        )

    def _not_found(self, path: str, place: McpPlace | None) -> ProtocolRefusal | None:
        if place is None:
            return ProtocolRefusal(
                404,
                INVALID_REQUEST,
                f"There is nothing at {path}. Served are {BASE}, {BASE}/servers/NAME, {BASE}/sse and {BASE}/tools.",
            )
        if place.form in {"mcp", "sse"} and place.name is not None and not self.gateway.knows(place.name):
            return ProtocolRefusal(404, INVALID_REQUEST, f"There is no tool server {place.name!r}.")
        return None

    async def _dispatch(self, place: McpPlace, request: McpRequest, output: HttpOutput) -> None:
        match place.form, request.method:
            case "mcp", "POST":
                await self._post(request, output, server=place.name)
            case "mcp", "GET":
                await self._get(request, output, server=place.name)
            case "mcp", "DELETE":
                await self._delete(request, output, server=place.name)
            case "sse", "GET":
                await self._http_sse(request, output, server=place.name)
            case "sse", "POST":
                await self._http_sse_posted(request, output, server=place.name)
            case "tools", "GET" | "HEAD":
                await REST.list_tools(self.gateway, request.caller, output)
            case "call", "POST":
                body = await self._body(request, output)
                await REST.call_tool_route(
                    self.gateway,
                    request.caller,
                    place.name or "",
                    body,
                    output,
                    max_depth=self.config.max_depth,
                )
            case _:
                await self._not_allowed(place, request, output)

    async def _not_allowed(self, place: McpPlace, request: McpRequest, output: HttpOutput) -> None:
        allowed = {"tools": "GET", "sse": "GET, POST"}.get(place.form, "POST")
        text = f"{request.path} takes {allowed}, not {request.method}."
        if place.form in {"tools", "call"}:
            await REST.refuse(405, text, output, allow=allowed)
        else:
            await refuse(ProtocolRefusal(405, INVALID_REQUEST, text), output, allow=allowed)

    async def _body(self, request: McpRequest, output: HttpOutput) -> bytes:
        return await output.body(limit=self.config.max_message, declared=request.length)

    async def _message(self, request: McpRequest, output: HttpOutput) -> Any:
        """The JSON of the body, or a Refusal."""
        body = await self._body(request, output)
        return await self._offload.run(
            partial(read, body, max_depth=self.config.max_depth), body=body, owner=request.caller.owner
        )

    # --- POST ---

    async def _post(self, request: McpRequest, output: HttpOutput, *, server: str | None) -> None:
        head = read_head(request.headers)
        forms = accepted(head.accept)
        if head.says_modern and not (forms.json and forms.events):
            await refuse(not_acceptable(wanted="application/json and text/event-stream"), output)
            return
        value = await self._message(request, output)
        if isinstance(value, ProtocolRefusal):
            await refuse(value, output)
            return
        session = self._session_of(head, request.caller, server)
        message = cast("Json", value) if isinstance(value, dict) else {}
        era = era_of(message, head)
        if era == "modern":
            await self._modern(value, head, request, output, server=server)
            return
        if not forms.json and not forms.events:
            if head.accept:
                await refuse(not_acceptable(wanted="application/json or text/event-stream"), output)
                return
            forms = Accepted(json=True, events=True)
        if era == "legacy" and kind_of(value) == "request":
            await self._initialize(message, forms, request, output, server=server)
        elif session is not None:
            await self._in_session(session, value, forms, output)
        elif head.sessions:
            await refuse(_no_session(id_of(value)), output)
        elif kind_of(value) in {"none", "batch"}:
            await refuse(malformed(value), output)
        else:
            await refuse(no_era(id_of(value)), output)

    # --- the modern era ---

    async def _modern(
        self, value: Any, head: McpHeaders, request: McpRequest, output: HttpOutput, *, server: str | None
    ) -> None:
        message = cast("Json", value) if isinstance(value, dict) else {}
        forms = accepted(head.accept)
        if not (forms.json and forms.events):
            await refuse(not_acceptable(wanted="application/json and text/event-stream"), output)
            return
        if message and "id" not in message:
            # Nothing that a client of this era tells concerns us: a request is cancelled by closing
            # its answer.
            await output.whole(202, [], b"")
            return
        fault = malformed(value) if kind_of(value) != "request" else modern_fault(head, message)
        if fault is None and message["method"] == "tools/call":
            name = cast("Json", message.get("params", {})).get("name")
            schema = (
                self.gateway.schema(request.caller, name, server=server) if isinstance(name, str) else None
            )
            fault = same_arguments(head, message, schema) if schema is not None else None
        if fault is not None:
            await refuse(fault, output)
            return
        stream = MessageStream(owner=request.caller.owner)
        meta = meta_of(message)
        client = SessionlessClient(request.caller, meta[META_VERSION], meta[META_CAPABILITIES], stream)
        endless = message["method"] == "subscriptions/listen"
        if endless:
            self._endless.add(stream)
        task = asyncio.create_task(self._ask(client, message, server=server))
        try:
            output.mind_hang_up()
            await self._responder.carry(stream, output, ResponseManner(events=endless), status=task)
        except asyncio.CancelledError:
            # Its client is gone, which cancels it, or the gateway stops. Nobody else cancels this
            # task, so it ends here.
            output.no_longer()
            await cut_short(output)
        finally:
            output.no_longer()
            self._endless.discard(stream)
            task.cancel()
            await asyncio.wait((task,))

    async def _ask(self, client: SessionlessClient, message: Json, *, server: str | None) -> int:
        """Put the answer onto the party's stream. Returns the status that it would have
        of its own.
        """
        try:
            reply = await self.gateway.request(client, message, server=server)
        except Exception:
            # The outermost loop of a request: whatever the hub did not foresee ends here.
            log.exception("a request failed: %r", message["method"])
            reply = McpReply.failed(INTERNAL_ERROR, FAILED)
        client.stream.put(reply.message(message["id"]))
        client.stream.finish()
        code = None if reply.error is None else reply.error.get("code")
        return STATUS_OF_CODE.get(code, 200) if isinstance(code, int) else 200

    # --- sessions ---

    async def _initialize(
        self, message: Json, forms: Accepted, request: McpRequest, output: HttpOutput, *, server: str | None
    ) -> None:
        if not self._sessions.room(request.caller):
            data = {"reason": "limit", "retryAfterMs": 60_000}
            text = f"There are {self.config.max_sessions} sessions already, which is [mcp] max_sessions. End one with DELETE, or try again later."
            await refuse(ProtocolRefusal(200, INTERNAL_ERROR, text, data, id_of(message)), output)
            return
        session = self._sessions.add(self.gateway, request.caller, server=server, alone=False)
        stream = session.request_stream(mute=not forms.events)
        session.start(message, stream, done=self._on_finished(session, stream, output))
        names = ((b"mcp-session-id", session.session.encode()),)
        await self._respond(session, stream, output, ResponseManner(events=not forms.json, names=names))
        if stream.finished and not session.open:
            self._sessions.end(session)

    async def _in_session(
        self, session: LegacySession, value: Any, forms: Accepted, output: HttpOutput
    ) -> None:
        kind = kind_of(value)
        if kind == "batch":
            await self._batch(session, value, forms, output)
        elif kind == "request":
            stream = session.request_stream(mute=not forms.events)
            over = self._on_finished(session, stream, output)
            if session.start(value, stream, done=over):
                await self._respond(session, stream, output, ResponseManner(events=not forms.json))
            else:
                over()
                await output.whole(400, [JSON], msgspec.json.encode(already_running(value)))
        elif kind == "none":
            await refuse(malformed(value), output)
        else:
            session.receive(value)
            await output.whole(202, [], b"")

    async def _batch(
        self, session: LegacySession, value: list[Any], forms: Accepted, output: HttpOutput
    ) -> None:
        if session.version != BATCHING or not value or len(value) > self.config.max_in_flight:
            await refuse(malformed(value), output)
            return
        stream = session.request_stream(mute=not forms.events)
        over = self._on_finished(session, stream, output)
        if not start_all(session, value, stream, done=over):
            over()
            await output.whole(202, [], b"")
            return
        await self._respond(session, stream, output, ResponseManner(events=not forms.json, batch=True))

    def _on_finished(
        self, session: LegacySession, stream: MessageStream, output: HttpOutput
    ) -> Callable[[], None]:
        """What is done after a request that may run on when its client is gone, with its body in
        memory.
        """
        release = output.keep_body()

        def over() -> None:
            release()
            self._sessions.finished(session, stream)

        return over

    async def _respond(
        self,
        session: LegacySession,
        stream: MessageStream,
        output: HttpOutput,
        manner: ResponseManner,
        *,
        after: int | None = None,
    ) -> None:
        """Carry a stream of a session for as long as its client is there. What runs goes on without
        it. With `after`, events from that one on.
        """
        polling = session.version >= POLLING_SINCE
        manner = msgspec.structs.replace(manner, numbered=True, primed=polling)
        # Its reader is here from the first message on, and not only from the first that is written.
        reader = stream.take() if after is None else 0
        try:
            output.mind_hang_up()
            if after is None:
                await self._responder.carry(stream, output, manner)
            else:
                await self._responder.flow(stream, output, manner, after=after)
        except asyncio.CancelledError:
            output.no_longer()
            await cut_short(output)
        finally:
            output.no_longer()
            stream.leave(reader)
            session.used = self._sessions.clock()

    def _session_of(self, head: McpHeaders, caller: Caller, server: str | None) -> LegacySession | None:
        session = self._sessions.find(head.session, caller, server)
        return None if session is None or session.alone else session

    # --- GET and DELETE ---

    async def _get(self, request: McpRequest, output: HttpOutput, *, server: str | None) -> None:
        head = read_head(request.headers)
        session = self._session_of(head, request.caller, server)
        if session is None:
            await self._without_session(head, request, output)
            return
        if not accepted(head.accept).events:
            await refuse(not_acceptable(wanted="text/event-stream"), output)
            return
        stream, after = session.stream, session.stream.read_to
        if head.last_event:
            key, _, number = head.last_event.rpartition("-")
            found = session.find(key) if number.isascii() and number.isdigit() and len(number) < 12 else None
            if found is None or not (found is stream or found.has_all_after(int(number))):
                text = f"The stream of event {head.last_event[:100]!r} is not kept, or not from there on; ask again."
                await refuse(ProtocolRefusal(400, INVALID_REQUEST, text), output)
                return
            stream, after = found, int(number)
        elif stream.connected:
            text = "This session's stream is being read already: there is one for each."
            await refuse(ProtocolRefusal(409, INVALID_REQUEST, text), output)
            return
        if stream is session.stream and not stream.has_all_after(after):
            after = stream.start
        await self._follow(session, stream, after, output)

    async def _follow(
        self, session: LegacySession, stream: MessageStream, after: int, output: HttpOutput
    ) -> None:
        endless = stream is session.stream
        if endless:
            self._endless.add(stream)
        try:
            await self._respond(session, stream, output, ResponseManner(), after=after)
        finally:
            self._endless.discard(stream)

    async def _delete(self, request: McpRequest, output: HttpOutput, *, server: str | None) -> None:
        head = read_head(request.headers)
        session = self._session_of(head, request.caller, server)
        if session is None:
            await self._without_session(head, request, output)
            return
        self._sessions.end(session)
        await output.whole(200, [], b"")

    async def _without_session(self, head: McpHeaders, request: McpRequest, output: HttpOutput) -> None:
        """A client that never had one gets to know that this is for POST; one that had one, to
        begin anew.
        """
        if head.sessions and not head.says_modern:
            await refuse(_no_session(None), output)
        else:
            text = f"Without a session {request.path} takes POST, not {request.method}; the stream of 2024-11-05 is at {request.path.rstrip('/')}/sse."
            await refuse(ProtocolRefusal(405, INVALID_REQUEST, text), output, allow="POST")

    # --- the form of 2024-11-05 ---

    async def _http_sse(self, request: McpRequest, output: HttpOutput, *, server: str | None) -> None:
        if not self._sessions.room(request.caller):
            text = f"There are {self.config.max_sessions} sessions already, which is [mcp] max_sessions."
            await refuse(ProtocolRefusal(503, INTERNAL_ERROR, text), output)
            return
        session = self._sessions.add(self.gateway, request.caller, server=server, alone=True)
        self._endless.add(session.stream)
        path = request.path.rstrip("/").encode("utf-8", "replace")
        first = b"event: endpoint\ndata: %b?sessionId=%b\n\n" % (path, session.session.encode())
        try:
            output.mind_hang_up()
            await self._responder.flow(session.stream, output, ResponseManner(), first=first)
        except asyncio.CancelledError:
            output.no_longer()
            await cut_short(output)
        finally:
            output.no_longer()
            self._endless.discard(session.stream)
            self._sessions.end(session)

    async def _http_sse_posted(self, request: McpRequest, output: HttpOutput, *, server: str | None) -> None:
        pairs = (part.partition(b"=") for part in request.query.split(b"&"))
        name = next((value for key, _, value in pairs if key == b"sessionId"), b"")
        if not name:
            # Newer clients try their own form first, and GET when they read this.
            await self._not_allowed(
                McpPlace("sse"), msgspec.structs.replace(request, method="POST without a session"), output
            )
            return
        session = self._sessions.find(name.decode("latin-1"), request.caller, server)
        if session is None or not session.alone:
            await refuse(_no_session(None), output)
            return
        value = await self._message(request, output)
        if isinstance(value, ProtocolRefusal):
            await refuse(value, output)
            return
        if kind_of(value) in {"none", "batch"}:
            await refuse(malformed(value), output)
            return
        if kind_of(value) != "request":
            session.receive(value)
        else:
            release = output.keep_body()
            if not session.start(value, session.stream, done=release):
                release()
                session.stream.put(already_running(value))
        await output.whole(202, [(b"content-type", b"text/plain")], b"Accepted")


def _no_session(id: str | int | None) -> ProtocolRefusal:
    text = "There is no such session: it has ended, was idle for too long, or is not this caller's. Begin a new one with initialize."
    return ProtocolRefusal(404, INVALID_REQUEST, text, id=id)


def _is_loopback(listener: str) -> bool:
    host = listener.removeprefix("tcp:").rpartition(":")[0].strip("[]")
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
