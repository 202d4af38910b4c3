"""Legacy MCP sessions on_finished HTTP: their requests, their streams, and the HTTP+SSE form of
2024-11-05.

A client that closes a connection does not cancel its requests; it can resume a stream with the id
of the last event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from modelplex.core.caller import Caller
from modelplex.mcp.clients.checks import ProtocolRefusal, id_of, kind_of, malformed, not_acceptable
from modelplex.mcp.clients.http_request import Accepted, McpHeaders, McpRequest, accepted, read_head
from modelplex.mcp.clients.message_stream import MessageStream
from modelplex.mcp.clients.session import ToolBackend, already_running, start_all
from modelplex.mcp.clients.sessions import LegacySession, Sessions
from modelplex.mcp.clients.sse_response import (
    JSON,
    HttpOutput,
    ResponseOptions,
    SseResponder,
    refuse,
    until_disconnect,
)
from modelplex.mcp.constants import INTERNAL_ERROR, INVALID_REQUEST, Json

POLLING_SINCE: Final = "2025-11-25"
"""From this revision on, clients accept an event without data whose id they can resume from."""


class SessionHttp:
    """`endless` are the streams that end only with their session or the gateway."""

    def __init__(self, gateway: ToolBackend, sessions: Sessions, *, responder: SseResponder) -> None:
        self.gateway = gateway
        self.sessions = sessions
        self.endless: set[MessageStream] = set()
        self._responder = responder

    def __repr__(self) -> str:
        return f"<SessionHttp {self.sessions!r}, {len(self.endless)} endless streams>"

    async def initialize(
        self, message: Json, forms: Accepted, request: McpRequest, output: HttpOutput, *, server: str | None
    ) -> None:
        if not self.sessions.make_room(request.caller):
            data = {"reason": "limit", "retryAfterMs": 60_000}
            text = f"{self._no_room()} End one with DELETE, or try again later."
            await refuse(ProtocolRefusal(200, INTERNAL_ERROR, text, data, id_of(message)), output)
            return
        session = self.sessions.add(self.gateway, request.caller, server=server, single_stream=False)
        stream = session.request_stream(json_only=not forms.events)
        session.start(message, stream, done=self._on_finished(session, stream, output))
        headers = ((b"mcp-session-id", session.session.encode()),)
        await self._respond(session, stream, output, ResponseOptions(events=not forms.json, headers=headers))
        if stream.finished and not session.open:
            self.sessions.end(session)

    async def in_session(
        self, session: LegacySession, value: Any, forms: Accepted, output: HttpOutput
    ) -> None:
        kind = kind_of(value)
        if kind == "batch":
            await self._batch(session, value, forms, output)
        elif kind == "request":
            stream = session.request_stream(json_only=not forms.events)
            on_finished = self._on_finished(session, stream, output)
            if session.start(value, stream, done=on_finished):
                await self._respond(session, stream, output, ResponseOptions(events=not forms.json))
            else:
                on_finished()
                await output.respond(400, [JSON], msgspec.json.encode(already_running(value)))
        elif kind == "none":
            await refuse(malformed(value), output)
        else:
            session.receive(value)
            await output.respond(202, [], b"")

    async def _batch(
        self, session: LegacySession, value: list[Any], forms: Accepted, output: HttpOutput
    ) -> None:
        if not session.takes_batch(value, limit=self.sessions.config.max_in_flight):
            await refuse(malformed(value), output)
            return
        stream = session.request_stream(json_only=not forms.events)
        on_finished = self._on_finished(session, stream, output)
        if not start_all(session, value, stream, done=on_finished):
            on_finished()
            await output.respond(202, [], b"")
            return
        await self._respond(session, stream, output, ResponseOptions(events=not forms.json, batch=True))

    def _on_finished(
        self, session: LegacySession, stream: MessageStream, output: HttpOutput
    ) -> Callable[[], None]:
        """Keep the body's memory reserved, and finish the stream, when a request ends that may
        outlast its client.
        """
        release = output.keep_body()

        def on_finished() -> None:
            release()
            self.sessions.finish_stream(session, stream)

        return on_finished

    async def _respond(
        self,
        session: LegacySession,
        stream: MessageStream,
        output: HttpOutput,
        options: ResponseOptions,
        *,
        after: int | None = None,
    ) -> None:
        """Write a session's stream while its client is connected. Its requests go on without it.
        With `after`, events from that one on.
        """
        id_first = session.version >= POLLING_SINCE
        options = msgspec.structs.replace(options, numbered=True, id_first=id_first)
        # Be the reader from the first message on.
        reader = stream.attach() if after is None else 0
        try:
            async with until_disconnect(output):
                if after is None:
                    await self._responder.write_response(stream, output, options)
                else:
                    await self._responder.write_events(stream, output, options, after=after)
        finally:
            stream.detach(reader)
            session.last_used = self.sessions.clock()

    def _no_room(self) -> str:
        limit = self.sessions.config.max_sessions
        return f"There are {limit} sessions already, which is [mcp] max_sessions."

    def session_of(self, head: McpHeaders, caller: Caller, server: str | None) -> LegacySession | None:
        session = self.sessions.find(head.session, caller, server)
        return None if session is None or session.single_stream else session

    async def get(self, request: McpRequest, output: HttpOutput, *, server: str | None) -> None:
        head = read_head(request.headers)
        session = self.session_of(head, request.caller, server)
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
            self.endless.add(stream)
        try:
            await self._respond(session, stream, output, ResponseOptions(), after=after)
        finally:
            self.endless.discard(stream)

    async def delete(self, request: McpRequest, output: HttpOutput, *, server: str | None) -> None:
        head = read_head(request.headers)
        session = self.session_of(head, request.caller, server)
        if session is None:
            await self._without_session(head, request, output)
            return
        self.sessions.end(session)
        await output.respond(200, [], b"")

    async def _without_session(self, head: McpHeaders, request: McpRequest, output: HttpOutput) -> None:
        """405 for a client that never had a session, 404 for one whose session has ended."""
        if head.sessions and not head.is_modern:
            await refuse(no_session(None), output)
        else:
            text = f"Without a session {request.path} takes POST, not {request.method}; the stream of 2024-11-05 is at {request.path.rstrip('/')}/sse."
            await refuse(ProtocolRefusal(405, INVALID_REQUEST, text), output, allow="POST")

    async def http_sse(self, request: McpRequest, output: HttpOutput, *, server: str | None) -> None:
        if not self.sessions.make_room(request.caller):
            await refuse(ProtocolRefusal(503, INTERNAL_ERROR, self._no_room()), output)
            return
        session = self.sessions.add(self.gateway, request.caller, server=server, single_stream=True)
        self.endless.add(session.stream)
        path = request.path.rstrip("/").encode("utf-8", "replace")
        first = b"event: endpoint\ndata: %b?sessionId=%b\n\n" % (path, session.session.encode())
        try:
            async with until_disconnect(output):
                await self._responder.write_events(session.stream, output, ResponseOptions(), first=first)
        finally:
            self.endless.discard(session.stream)
            self.sessions.end(session)

    def http_sse_session(self, request: McpRequest, server: str | None) -> LegacySession | None:
        """The session that a POST to the HTTP+SSE endpoint names."""
        session = self.sessions.find(session_parameter(request), request.caller, server)
        return session if session is not None and session.single_stream else None

    async def http_sse_post(self, session: LegacySession, value: Any, output: HttpOutput) -> None:
        """Take a message that was posted to an HTTP+SSE session. Responses go onto its stream."""
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
        await output.respond(202, [(b"content-type", b"text/plain")], b"Accepted")


def no_session(id: str | int | None) -> ProtocolRefusal:
    text = "There is no such session: it has ended, was idle for too long, or is not this caller's. Begin a new one with initialize."
    return ProtocolRefusal(404, INVALID_REQUEST, text, id=id)


def session_parameter(request: McpRequest) -> str:
    """The session id in the query of an HTTP+SSE request, or ""."""
    pairs = (part.partition(b"=") for part in request.query.split(b"&"))
    return next((value for key, _, value in pairs if key == b"sessionId"), b"").decode("latin-1")
