"""MCP over HTTP in both protocol eras: routes, access, POST requests and the REST form.
`session_http` serves legacy sessions.

A modern POST is self-contained. Its response is one JSON object, or events from the first
notification or after 15 seconds of silence. A client that closes it cancels it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, cast

import msgspec

from modelplex.config.mcp_settings import McpConfig
from modelplex.core.caller import Caller
from modelplex.core.errors import ClientClosed, ModelplexError, TooLarge
from modelplex.dialects.core.json import as_object
from modelplex.mcp.clients.checks import (
    STATUS_OF_CODE,
    ProtocolRefusal,
    era_of,
    id_of,
    kind_of,
    malformed,
    modern_fault,
    no_era,
    not_acceptable,
    read,
    same_arguments,
)
from modelplex.mcp.clients.http_request import (
    BASE,
    Accepted,
    McpHeaders,
    McpRequest,
    McpRoute,
    accepted,
    read_head,
    route_of,
)
from modelplex.mcp.clients.message_stream import MessageStream
from modelplex.mcp.clients.rest import RestRoutes
from modelplex.mcp.clients.session import RequestClient, ToolBackend, answer, modern_client
from modelplex.mcp.clients.session_http import SessionHttp, no_session, session_parameter
from modelplex.mcp.clients.sessions import Sessions
from modelplex.mcp.clients.sse_response import (
    SILENCE_SECONDS,
    HttpOutput,
    ResponseOptions,
    SseResponder,
    refuse,
    until_disconnect,
)
from modelplex.mcp.constants import INVALID_REQUEST, Json
from modelplex.pipeline.offload import Offload


async def refuse_path(path: str, status: int, sentence: str, output: HttpOutput) -> None:
    """Refuse a request in the form of its path, before the body is read."""
    route = route_of(path)
    if route is not None and route.form in {"tools", "call"}:
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
        silence: float = SILENCE_SECONDS,
        offload: Offload | None = None,
    ) -> None:
        self.gateway = gateway
        self._offload = offload if offload is not None else Offload()
        self.open_to_all = open_to_all
        self._responder = SseResponder(silence)
        self._sessions = Sessions(config, ids=ids, clock=clock)
        self._legacy = SessionHttp(gateway, self._sessions, responder=self._responder)

    def __repr__(self) -> str:
        return f"<McpHttp {self._legacy!r}>"

    @property
    def config(self) -> McpConfig:
        """May be replaced at run time; existing sessions stay."""
        return self._sessions.config

    @config.setter
    def config(self, config: McpConfig) -> None:
        self._sessions.config = config

    @property
    def sessions(self) -> int:
        """The number of legacy sessions."""
        return len(self._sessions)

    async def answer(self, request: McpRequest, output: HttpOutput) -> None:
        """Serve one request."""
        route = route_of(request.path)
        try:
            fault = self._not_allowed_for(request.caller) or self._not_found(request.path, route)
            if fault is not None:
                await refuse_path(request.path, fault.status, fault.message, output)
            elif route is not None:
                await self._dispatch(route, request, output)
        except TooLarge:
            text = f"The message is larger than the {self.config.max_message} bytes of [mcp] max_message."
            await refuse_path(request.path, 413, text, output)
        except ClientClosed:
            return
        except ModelplexError as error:
            await refuse_path(request.path, error.status, error.message, output)

    def drain(self) -> None:
        """End the streams that would not end by themselves."""
        for stream in tuple(self._legacy.endless):
            stream.finish()

    async def close(self) -> None:
        """End every session and its requests."""
        self.drain()
        await self._sessions.close()

    def _not_allowed_for(self, caller: Caller) -> ProtocolRefusal | None:
        if caller.kind != "tcp" or caller.agent or self.open_to_all or _is_loopback(caller.listener):
            return None
        return ProtocolRefusal(
            401,
            INVALID_REQUEST,
            "Beyond loopback, tools are served to known agents only: send the token of one of [[agents]] as 'Authorization: Bearer TOKEN', "
            "or let the host set [server] allow_unauthenticated = true.",
        )

    def _not_found(self, path: str, route: McpRoute | None) -> ProtocolRefusal | None:
        if route is None:
            return ProtocolRefusal(
                404,
                INVALID_REQUEST,
                f"There is nothing at {path}. Served are {BASE}, {BASE}/servers/NAME, {BASE}/sse and {BASE}/tools.",
            )
        if (
            route.form in {"mcp", "sse"}
            and route.name is not None
            and not self.gateway.has_server(route.name)
        ):
            return ProtocolRefusal(404, INVALID_REQUEST, f"There is no tool server {route.name!r}.")
        return None

    async def _dispatch(self, route: McpRoute, request: McpRequest, output: HttpOutput) -> None:
        match route.form, request.method:
            case "mcp", "POST":
                await self._post(request, output, server=route.name)
            case "mcp", "GET":
                await self._legacy.get(request, output, server=route.name)
            case "mcp", "DELETE":
                await self._legacy.delete(request, output, server=route.name)
            case "sse", "GET":
                await self._legacy.http_sse(request, output, server=route.name)
            case "sse", "POST":
                await self._http_sse_posted(route, request, output)
            case "tools", "GET" | "HEAD":
                await REST.list_tools(self.gateway, request.caller, output)
            case "call", "POST":
                value = await self._message(request, output, empty={})
                await REST.call_tool_route(
                    self.gateway,
                    request.caller,
                    route.name or "",
                    value,
                    output,
                )
            case _:
                await self._not_allowed(route, request, output)

    async def _http_sse_posted(self, route: McpRoute, request: McpRequest, output: HttpOutput) -> None:
        if not session_parameter(request):
            # Newer clients try a POST without a session first, and GET after this status.
            request = msgspec.structs.replace(request, method="POST without a session")
            await self._not_allowed(McpRoute("sse"), request, output)
            return
        session = self._legacy.http_sse_session(request, route.name)
        if session is None:
            await refuse(no_session(None), output)
            return
        value = await self._message(request, output)
        if isinstance(value, ProtocolRefusal):
            await refuse(value, output)
        else:
            await self._legacy.http_sse_post(session, value, output)

    async def _not_allowed(self, route: McpRoute, request: McpRequest, output: HttpOutput) -> None:
        allowed = {"tools": "GET", "sse": "GET, POST"}.get(route.form, "POST")
        text = f"{request.path} takes {allowed}, not {request.method}."
        if route.form in {"tools", "call"}:
            await REST.refuse(405, text, output, allow=allowed)
        else:
            await refuse(ProtocolRefusal(405, INVALID_REQUEST, text), output, allow=allowed)

    async def _body(self, request: McpRequest, output: HttpOutput) -> bytes:
        return await output.body(limit=self.config.max_message, declared=request.length)

    async def _message(self, request: McpRequest, output: HttpOutput, *, empty: Any = None) -> Any:
        """The JSON of the body, or a ProtocolRefusal; `empty` for no body, unless it is None."""
        body = await self._body(request, output)
        if not body and empty is not None:
            return empty
        return await self._offload.run(
            partial(read, body, max_depth=self.config.max_depth), body=body, owner=request.caller.owner
        )

    async def _post(self, request: McpRequest, output: HttpOutput, *, server: str | None) -> None:
        head = read_head(request.headers)
        forms = accepted(head.accept)
        if head.is_modern and not (forms.json and forms.events):
            await refuse(not_acceptable(wanted="application/json and text/event-stream"), output)
            return
        value = await self._message(request, output)
        if isinstance(value, ProtocolRefusal):
            await refuse(value, output)
            return
        session = self._legacy.session_of(head, request.caller, server)
        message = as_object(value) or {}
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
            await self._legacy.initialize(message, forms, request, output, server=server)
        elif session is not None:
            await self._legacy.in_session(session, value, forms, output)
        elif head.sessions:
            await refuse(no_session(id_of(value)), output)
        elif kind_of(value) in {"none", "batch"}:
            await refuse(malformed(value), output)
        else:
            await refuse(no_era(id_of(value)), output)

    async def _modern(
        self, value: Any, head: McpHeaders, request: McpRequest, output: HttpOutput, *, server: str | None
    ) -> None:
        message = as_object(value) or {}
        forms = accepted(head.accept)
        if not (forms.json and forms.events):
            await refuse(not_acceptable(wanted="application/json and text/event-stream"), output)
            return
        if message and "id" not in message:
            # No notification of a modern client has an effect. It cancels a request by closing the
            # response.
            await output.respond(202, [], b"")
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
        client = modern_client(request.caller, message, stream)
        endless = message["method"] == "subscriptions/listen"
        if endless:
            self._legacy.endless.add(stream)
        try:
            async with until_disconnect(output):
                answer = self._answer(client, message, server=server)
                options = ResponseOptions(events=endless)
                await self._responder.write_response_of(answer, stream, output, options)
        finally:
            self._legacy.endless.discard(stream)

    async def _answer(self, client: RequestClient, message: Json, *, server: str | None) -> int:
        """Put the response onto the client's stream. Returns its HTTP status."""
        reply = await answer(self.gateway, client, message, server=server)
        client.stream.put(reply.message(message["id"]))
        client.stream.finish()
        code = None if reply.error is None else reply.error.get("code")
        return STATUS_OF_CODE.get(code, 200) if isinstance(code, int) else 200


def _is_loopback(listener: str) -> bool:
    host = listener.removeprefix("tcp:").rpartition(":")[0].strip("[]")
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
