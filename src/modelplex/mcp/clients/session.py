"""One client's conversation: its running requests, and the requests of servers to it.

Imports no transport. A `ClientConversation` is a legacy session or a stdio connection, a
`RequestClient` is one request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, cast

import msgspec

from modelplex.core.caller import Caller
from modelplex.dialects.core.json import as_object
from modelplex.mcp.clients.checks import id_of, kind_of, malformed, meta_of, negotiated
from modelplex.mcp.clients.message_stream import MessageStream
from modelplex.mcp.constants import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    META_CAPABILITIES,
    META_VERSION,
    METHOD_NOT_FOUND,
    NEWEST_LEGACY,
    Era,
    Json,
    McpClient,
    McpReply,
)

log = logging.getLogger("modelplex.mcp")

MAX_RUNNING: Final = 256
"""Running requests of one conversation, lists and subscriptions included. Calls are also limited by
caller.
"""
CANCELLED: Final = 0
"""The error code of a request that its client cancelled, as in the reference implementation."""
FAILED: Final = "The gateway failed while answering; its log says why."
BATCHING: Final = "2025-03-26"
"""The only revision with batches."""


class ToolBackend(Protocol):
    """The tool gateway as the transports use it."""

    def has_server(self, server: str) -> bool: ...
    async def request(self, client: McpClient, message: Json, *, server: str | None = None) -> McpReply: ...
    def open_session(
        self, client: McpClient, *, server: str | None = None, channel: Callable[[Json], None]
    ) -> None: ...
    def close_session(self, client: McpClient) -> None: ...
    async def tool_list(self, caller: Caller) -> McpReply: ...
    async def call_tool(self, caller: Caller, name: str, arguments: Mapping[str, Any]) -> McpReply: ...
    def schema(self, caller: Caller, name: str, *, server: str | None = None) -> Json | None: ...


class RequestClient(msgspec.Struct, frozen=True):
    """The McpClient of one request: notifications go onto the request's stream. A modern request
    belongs to no conversation and no session.
    """

    caller: Caller
    era: Era
    version: str
    capabilities: Mapping[str, Any]
    stream: MessageStream
    conversation: ClientConversation | None = None
    session: str = ""

    def send(self, notification: Json) -> None:
        self.stream.put(notification)

    async def send_request(self, method: str, params: Json) -> McpReply:
        if self.conversation is None or self.era == "modern":
            return McpReply.failed(METHOD_NOT_FOUND, "A client of this revision takes no requests.")
        return await self.conversation.send_request_on(self.stream, method, params)


def modern_client(
    caller: Caller, message: Json, stream: MessageStream, *, session: str = ""
) -> RequestClient:
    """The client of a modern request, whose `_meta` has been checked."""
    meta = meta_of(message)
    return RequestClient(
        caller, "modern", meta[META_VERSION], meta[META_CAPABILITIES], stream, session=session
    )


async def answer(gateway: ToolBackend, client: McpClient, message: Json, *, server: str | None) -> McpReply:
    """The gateway's reply. This is the outermost loop of a request: unforeseen errors end here."""
    try:
        return await gateway.request(client, message, server=server)
    except Exception:
        log.exception("a request failed: %r", message["method"])
        return McpReply.failed(INTERNAL_ERROR, FAILED)


class ClientConversation:
    """An McpClient for a legacy session or a stdio connection. Messages that belong to no request
    go to `stream`.
    """

    def __init__(
        self,
        gateway: ToolBackend,
        caller: Caller,
        *,
        server: str | None,
        session: str,
        stream: MessageStream,
    ) -> None:
        self.gateway = gateway
        self.caller = caller
        self.server = server
        self.session = session
        self.stream = stream
        self.era: Era = "legacy"
        self.version = NEWEST_LEGACY
        self.capabilities: Mapping[str, Any] = {}
        self.open = False
        self.ended = False
        self._running: dict[str | int, asyncio.Task[None]] = {}
        self._questions: dict[str, asyncio.Future[McpReply]] = {}
        self._question_count = 0

    def __repr__(self) -> str:
        state = "ended" if self.ended else "open" if self.open else "new"
        return f"<ClientConversation {self.era} {self.version} {state}, {len(self._running)} running, {len(self._questions)} questions>"

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def send(self, notification: Json) -> None:
        self.stream.put(notification)

    async def send_request(self, method: str, params: Json) -> McpReply:
        return await self.send_request_on(self.stream, method, params)

    def takes_batch(self, batch: list[Any], *, limit: int) -> bool:
        """Whether a batch of so many messages is served here."""
        return self.open and self.version == BATCHING and 0 < len(batch) <= limit

    def start(self, message: Json, stream: MessageStream, *, done: Callable[[], None]) -> bool:
        """Answer a request on this stream, in a task of its own, and call `done` after it. False if
        a request with that id is running.
        """
        name: str | int = message["id"]
        if name in self._running:
            return False
        if len(self._running) >= MAX_RUNNING:
            stream.put(_too_many_running(message))
            asyncio.get_running_loop().call_soon(done)
            return True
        task = asyncio.create_task(self._answer(message, stream))
        self._running[name] = task

        def on_end(_: asyncio.Task[None]) -> None:
            self._running.pop(name, None)
            done()

        task.add_done_callback(on_end)
        return True

    async def _answer(self, message: Json, stream: MessageStream) -> None:
        initializes = self.era == "legacy" and message["method"] == "initialize"
        if initializes and self.open:
            stream.put(_already_initialized(message))
            return
        if initializes:
            self._negotiate(cast("Json", message.get("params", {})))
        try:
            reply = await answer(self.gateway, self._client_of(message, stream), message, server=self.server)
        except asyncio.CancelledError:
            # A modern client expects no answer; a legacy one may wait for the end of a stream.
            if self.era == "legacy" and not self.ended:
                stream.put(McpReply.failed(CANCELLED, "Request cancelled").message(message["id"]))
            raise
        if initializes and reply.error is None:
            self._begin(reply)
        stream.put(reply.message(message["id"]))

    def _client_of(self, message: Json, stream: MessageStream) -> RequestClient:
        if self.era == "modern":  # each modern request has its own version and capabilities
            return modern_client(self.caller, message, stream, session=self.session)
        return RequestClient(
            self.caller, "legacy", self.version, self.capabilities, stream, self, self.session
        )

    def receive(self, message: Json) -> None:
        """Take a notification or a response of the client. No notification is passed on: they
        belong to requests that were answered here, and a server must not learn of a client's
        roots.
        """
        if "method" not in message:
            self._receive_response(message)
        elif message["method"] == "notifications/cancelled":
            self._cancel(cast("Json", message.get("params", {})).get("requestId"))

    def _cancel(self, id: Any) -> None:
        """An unknown id is no error: the response may be on its way."""
        if isinstance(id, str | int) and (task := self._running.get(id)) is not None:
            task.cancel()

    def _receive_response(self, message: Json) -> None:
        future = self._questions.pop(str(message["id"]), None)
        if future is not None and not future.done():
            error = as_object(message.get("error"))
            future.set_result(McpReply(result=None if error else message.get("result"), error=error))

    async def send_request_on(self, stream: MessageStream, method: str, params: Json) -> McpReply:
        """Send a request to the client and wait for the answer without a time limit."""
        if self.ended or stream.finished or stream.json_only:
            return McpReply.failed(INTERNAL_ERROR, "The client is gone, or reads no requests.")
        self._question_count += 1
        name = f"gateway-{self._question_count}"
        future: asyncio.Future[McpReply] = asyncio.get_running_loop().create_future()
        self._questions[name] = future
        stream.put({"jsonrpc": "2.0", "id": name, "method": method, "params": params})
        try:
            return await future
        except asyncio.CancelledError:
            stream.put({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": name}})
            raise
        finally:
            self._questions.pop(name, None)

    def _negotiate(self, params: Json) -> None:
        """Take the version and the capabilities of `initialize`."""
        self.version = negotiated(params)
        self.capabilities = as_object(params.get("capabilities")) or {}

    def _begin(self, reply: McpReply) -> None:
        """`initialize` was answered."""
        version = (reply.result or {}).get("protocolVersion")
        if isinstance(version, str):
            self.version = version
        self.open = True
        self.gateway.open_session(self, server=self.server, channel=self.stream.put)

    async def end(self) -> None:
        """Cancel running requests, fail open questions, close the session at the gateway. Safe to
        call twice.
        """
        if self.ended:
            return
        self.ended = True
        for future in tuple(self._questions.values()):
            if not future.done():
                future.set_result(McpReply.failed(INTERNAL_ERROR, "The client is gone."))
        tasks = tuple(self._running.values())
        for task in tasks:
            task.cancel()
        if self.open:
            self.gateway.close_session(self)
        self.stream.finish()
        if tasks:
            await asyncio.wait(tasks)

    async def wait_for_requests(self, seconds: float) -> None:
        """Wait for running requests, at most so long."""
        if self._running:
            await asyncio.wait(tuple(self._running.values()), timeout=seconds)


def start_all(
    conversation: ClientConversation,
    messages: Iterable[Json],
    stream: MessageStream,
    *,
    done: Callable[[], None],
) -> int:
    """Start the requests of a batch and take its other messages. Returns the number of requests;
    `done` is called after the last of them.
    """
    requests = 0
    left = 0

    def one_less() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done()

    for message in messages:
        kind = kind_of(message)
        if kind == "request" and message["method"] != "initialize":
            requests += 1
            if conversation.start(message, stream, done=one_less):
                left += 1
            else:
                stream.put(already_running(message))
        elif kind in {"notification", "response"}:
            conversation.receive(message)
        else:
            requests += 1
            stream.put(malformed(message).body() if kind == "none" else _already_initialized(message))
    if requests and not left:
        done()
    return requests


def already_running(message: Json) -> Json:
    text = "Invalid request: a request with this id is still running."
    return McpReply.failed(INVALID_REQUEST, text).message(id_of(message))


def _too_many_running(message: Json) -> Json:
    text = f"{MAX_RUNNING} requests of this client are being answered, which is the limit."
    data = {"reason": "limit", "retryAfterMs": 1000}
    return McpReply.failed(INTERNAL_ERROR, text, data).message(id_of(message))


def _already_initialized(message: Json) -> Json:
    text = "Invalid request: initialize comes once, first, and in no batch."
    return McpReply.failed(INVALID_REQUEST, text).message(id_of(message))
