"""One client's conversation: its running requests, the questions to it, and its message streams.

It knows no header and no socket. A `ClientConversation` is a legacy session or a connection, a
`RequestClient` one request in it. A client can resume a `MessageStream` whose messages have ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, cast
from weakref import WeakSet, WeakValueDictionary

import msgspec

from modelplex.core.caller import Caller
from modelplex.mcp.clients.checks import id_of, kind_of, malformed, meta_of, negotiated
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

REPLAY_MESSAGES: Final = 256
REPLAY_BYTES: Final = 1024 * 1024
"""What is kept of a stream for a client that resumes it: a burst of progress, and no more than a
thousand sessions can afford.
"""
UNREAD_MESSAGES: Final = 8192
UNREAD_BYTES: Final = 16 * 1024 * 1024
"""Unread messages of a slow client: room for four of the largest results. Beyond, the oldest are
dropped, and the stream ends.
"""
UNREAD_OF_CALLER: Final = 48 * 1024 * 1024
"""Bytes in all streams of one caller, finished ones included, so that unread results do not fill
the memory. Beyond, an error replaces a response, and notifications are dropped.
"""
LITTLE: Final = 65_536
"""Bytes of a stream below which the caller's other streams are not counted."""
KEPT_STREAMS: Final = 16
"""Finished streams of a session that can be resumed. A client that resumes does so
within seconds.
"""
KEPT_BYTES: Final = 4 * 1024 * 1024
"""Bytes of all finished streams of a session; the newest always stays."""
MOST_RUNNING: Final = 256
"""Running requests of one conversation, lists and subscriptions included. Calls are also limited by
caller.
"""
CANCELLED: Final = 0
"""The error code of a request that its client cancelled, as in the reference implementation."""
FAILED: Final = "The gateway failed while answering; its log says why."


class ToolBackend(Protocol):
    """The tool gateway as the transports use it."""

    def knows(self, server: str) -> bool: ...
    async def request(self, client: McpClient, message: Json, *, server: str | None = None) -> McpReply: ...
    async def notify(self, client: McpClient, message: Json, *, server: str | None = None) -> None: ...
    def open_session(
        self, client: McpClient, *, server: str | None = None, channel: Callable[[Json], None]
    ) -> None: ...
    def close_session(self, client: McpClient) -> None: ...
    async def tool_list(self, caller: Caller) -> list[Json]: ...
    async def call_tool(self, caller: Caller, name: str, arguments: Mapping[str, Any]) -> McpReply: ...
    def schema(self, caller: Caller, name: str, *, server: str | None = None) -> Json | None: ...


class CallerStreams:
    """The streams of one caller."""

    __slots__ = ("__weakref__", "streams")

    def __init__(self) -> None:
        self.streams: WeakSet[MessageStream] = WeakSet()

    def __repr__(self) -> str:
        return f"<CallerStreams {self.size} bytes in {len(self.streams)} streams>"

    @property
    def size(self) -> int:
        return sum(stream.size for stream in self.streams)


_UNREAD: Final[WeakValueDictionary[str, CallerStreams]] = WeakValueDictionary()
"""By owner. The memory is the process's, so this is too."""


class MessageStream:
    """Messages for one client in order, numbered from 1. With `keeps`, messages that were read stay
    for a while. `owner` is the caller whose streams are limited together; "" for a stream that
    holds little.

    `read_to` is the last number written to a connected client; `finished` says that no more
    messages come.
    """

    __slots__ = ("__weakref__", "_changed", "_items", "_reader", "_size", "_unread", "answers", "connected", "finished", "keeps", "key", "last", "mute", "read_to", "shown")  # fmt: skip

    def __init__(self, key: str = "", *, owner: str = "", keeps: bool = False, mute: bool = False) -> None:
        self.key = key
        self.keeps = keeps
        self.mute = mute
        """The client reads one JSON response: notifications are dropped."""
        self._reader = 0
        self._items: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._changed = asyncio.Event()
        self._unread: CallerStreams | None = None
        if owner:
            self._unread = _UNREAD.setdefault(owner, CallerStreams())
            self._unread.streams.add(self)
        self.last = 0
        self.read_to = 0
        self.finished = False
        self.connected = False
        self.shown = False
        """The client has seen the ids, so it can resume."""
        self.answers = 0
        """The number of responses among its messages."""

    def __repr__(self) -> str:
        state = "finished" if self.finished else "open"
        reader = ", read" if self.connected else ""
        return f"<MessageStream {self.key} {state}{reader} {self.read_to} of {self.last}>"

    def put(self, message: Json) -> None:
        if self.finished or (self.mute and "method" in message):
            return
        data = msgspec.json.encode(message)
        if self._unread is not None and self._size + len(data) > LITTLE and self._overfull(len(data)):
            if "method" in message:
                return
            data = msgspec.json.encode(_unread(message))
        self.last += 1
        self.answers += "method" not in message
        self._items.append((self.last, data))
        self._size += len(data)
        self._trim()
        self._changed.set()

    def _overfull(self, more: int) -> bool:
        return self._unread is not None and self._unread.size + more > UNREAD_OF_CALLER

    def finish(self) -> None:
        self.finished = True
        self._changed.set()

    def read(self, number: int) -> None:
        """Messages up to this number were written to the client."""
        self.read_to = max(self.read_to, number)
        self._trim()

    def after(self, number: int) -> list[tuple[int, bytes]]:
        """The messages above this number."""
        return [item for item in self._items if item[0] > number]

    def has_all_after(self, number: int) -> bool:
        """Whether no message after this number is lost, and the number was issued."""
        first = self._items[0][0] if self._items else self.last + 1
        return first - 1 <= number <= self.last

    @property
    def start(self) -> int:
        """The number after which no message is lost."""
        return self._items[0][0] - 1 if self._items else self.last

    def take(self) -> int:
        """Become the reader in place of another. Returns the reader's number for `more` and
        `leave`.
        """
        self._reader += 1
        self.connected = True
        self._changed.set()
        return self._reader

    def leave(self, reader: int) -> None:
        if reader == self._reader:
            self.connected = False
            self._trim()

    async def more(self, number: int, *, reader: int) -> bool:
        """Wait for a message above `number`, or the end. False if another reader has taken over."""
        while self.last <= number and not self.finished and reader == self._reader:
            self._changed.clear()
            await self._changed.wait()
        return reader == self._reader

    async def settled(self) -> None:
        """Wait until the form of the response is known: the end, or the first message that is no
        response.
        """
        while not self.finished and self.last == self.answers:
            self._changed.clear()
            await self._changed.wait()

    @property
    def size(self) -> int:
        return self._size

    def _trim(self) -> None:
        items = self._items
        while items and self._excess(items[0][0]):
            self._size -= len(items.popleft()[1])

    def _excess(self, oldest: int) -> bool:
        unread = oldest > self.read_to
        if unread and (self.connected or not self.keeps):
            return len(self._items) > 1 and (len(self._items) > UNREAD_MESSAGES or self._size > UNREAD_BYTES)
        if not self.keeps:
            return True
        # The last message stays, whatever its size: it may be the response.
        return len(self._items) > 1 and (len(self._items) > REPLAY_MESSAGES or self._size > REPLAY_BYTES)


class ClientQuestion(msgspec.Struct):
    """An open request to the client."""

    future: asyncio.Future[McpReply]
    stream: MessageStream


class ClientConversation:
    """An McpClient for a legacy session or a connection. Messages that belong to no request go to
    `stream`.
    """

    def __init__(
        self,
        gateway: ToolBackend,
        caller: Caller,
        *,
        server: str | None,
        session: str,
        stream: MessageStream,
        era: Era = "legacy",
        version: str = NEWEST_LEGACY,
        capabilities: Mapping[str, Any] | None = None,
    ) -> None:
        self.gateway = gateway
        self.caller = caller
        self.server = server
        self.session = session
        self.stream = stream
        self.era: Era = era
        self.version = version
        self.capabilities: Mapping[str, Any] = capabilities or {}
        self.open = False
        self.ended = False
        self._running: dict[str | int, asyncio.Task[None]] = {}
        self._questions: dict[str, ClientQuestion] = {}
        self._question_count = 0
        self._notifying: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        state = "ended" if self.ended else "open" if self.open else "new"
        return f"<ClientConversation {self.era} {self.version} {state}, {len(self._running)} running, {len(self._questions)} asked>"

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def send(self, notification: Json) -> None:
        self.stream.put(notification)

    async def ask(self, method: str, params: Json) -> McpReply:
        return await self.ask_on(self.stream, method, params)

    def start(self, message: Json, stream: MessageStream, *, done: Callable[[], None] | None = None) -> bool:
        """Answer a request on this stream, in a task of its own. False if a request with that id is
        running.
        """
        name: str | int = message["id"]
        if name in self._running:
            return False
        if len(self._running) >= MOST_RUNNING:
            stream.put(too_many_running(message))
            if done is not None:
                asyncio.get_running_loop().call_soon(done)
            return True
        task = asyncio.create_task(self._answer(message, stream))
        self._running[name] = task

        def over(_: asyncio.Task[None]) -> None:
            self._running.pop(name, None)
            if done is not None:
                done()

        task.add_done_callback(over)
        return True

    async def _answer(self, message: Json, stream: MessageStream) -> None:
        client = RequestClient(self, stream, message)
        name: str | int = message["id"]
        begins = self.era == "legacy" and message["method"] == "initialize"
        if begins:
            if self.open:
                stream.put(already_initialized(message))
                return
            client = RequestClient(self.negotiate(cast("Json", message.get("params", {}))), stream, message)
        try:
            reply = await self.gateway.request(client, message, server=self.server)
        except asyncio.CancelledError:
            # A modern client expects no answer; a legacy one may wait for the end of a stream.
            if self.era == "legacy" and not self.ended:
                stream.put(McpReply.failed(CANCELLED, "Request cancelled").message(name))
            raise
        except Exception:
            # The outermost loop of a request: unforeseen errors end here.
            log.exception("a request failed: %r", message.get("method"))
            reply = McpReply.failed(INTERNAL_ERROR, FAILED)
        if begins and reply.error is None:
            self.begin(reply)
        stream.put(reply.message(name))

    def receive(self, message: Json) -> None:
        """Take a notification or a response of the client."""
        if "method" not in message:
            self._receive_response(message)
        elif message["method"] == "notifications/cancelled":
            self.cancel(cast("Json", message.get("params", {})).get("requestId"))
        else:
            task = asyncio.create_task(self._forward(message))
            self._notifying.add(task)
            task.add_done_callback(self._notifying.discard)

    def cancel(self, id: Any) -> None:
        """Cancel a running request. An unknown id is no error: the response may be on its way."""
        if isinstance(id, str | int) and (task := self._running.get(id)) is not None:
            task.cancel()

    async def _forward(self, message: Json) -> None:
        try:
            await self.gateway.notify(self, message, server=self.server)
        except Exception:
            log.exception("a notification failed: %r", message.get("method"))

    def _receive_response(self, message: Json) -> None:
        question = self._questions.pop(str(message["id"]), None)
        if question is not None and not question.future.done():
            error = message.get("error")
            question.future.set_result(
                McpReply(error=cast("Json", error))
                if isinstance(error, dict)
                else McpReply(result=message.get("result"))
            )

    async def ask_on(self, stream: MessageStream, method: str, params: Json) -> McpReply:
        """Ask the client and wait for the answer without a time limit."""
        if self.era == "modern":
            return McpReply.failed(METHOD_NOT_FOUND, "A client of this revision takes no requests.")
        if self.ended or stream.finished or stream.mute:
            return McpReply.failed(INTERNAL_ERROR, "The client is gone, or reads no requests.")
        self._question_count += 1
        name = f"gateway-{self._question_count}"
        question = self._questions[name] = ClientQuestion(asyncio.get_running_loop().create_future(), stream)
        stream.put({"jsonrpc": "2.0", "id": name, "method": method, "params": params})
        try:
            return await question.future
        except asyncio.CancelledError:
            stream.put({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": name}})
            raise
        finally:
            self._questions.pop(name, None)

    def negotiate(self, params: Json) -> ClientConversation:
        """Take the version and the capabilities of `initialize`."""
        self.version = negotiated(params)
        capabilities = params.get("capabilities")
        self.capabilities = cast("Json", capabilities) if isinstance(capabilities, dict) else {}
        return self

    def begin(self, reply: McpReply) -> None:
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
        for question in tuple(self._questions.values()):
            if not question.future.done():
                question.future.set_result(McpReply.failed(INTERNAL_ERROR, "The client is gone."))
        tasks = [*self._running.values(), *self._notifying]
        for task in tasks:
            task.cancel()
        if self.open:
            self.gateway.close_session(self)
        self.stream.finish()
        if tasks:
            await asyncio.wait(tasks)

    async def settle(self, seconds: float) -> None:
        """Wait for running requests, at most so long."""
        if self._running:
            await asyncio.wait(tuple(self._running.values()), timeout=seconds)


class RequestClient:
    """The McpClient of one request: notifications go onto the request's stream."""

    __slots__ = ("_conversation", "_stream", "capabilities", "era", "version")

    def __init__(
        self,
        conversation: ClientConversation,
        stream: MessageStream,
        message: Json,
    ) -> None:
        self._conversation = conversation
        self._stream = stream
        self.era: Era = conversation.era
        self.version = conversation.version
        self.capabilities = conversation.capabilities
        if self.era == "modern":  # each modern request has its own
            meta = meta_of(message)
            self.version, self.capabilities = meta[META_VERSION], meta[META_CAPABILITIES]

    def __repr__(self) -> str:
        return f"<RequestClient of {self._conversation!r} on {self._stream!r}>"

    @property
    def caller(self) -> Caller:
        return self._conversation.caller

    @property
    def session(self) -> str:
        return self._conversation.session

    def send(self, notification: Json) -> None:
        self._stream.put(notification)

    async def ask(self, method: str, params: Json) -> McpReply:
        return await self._conversation.ask_on(self._stream, method, params)


class SessionlessClient(msgspec.Struct, frozen=True):
    """The McpClient of a modern request, which has no session."""

    caller: Caller
    version: str
    capabilities: Mapping[str, Any]
    stream: MessageStream
    era: Literal["modern"] = "modern"
    session: str = ""

    def send(self, notification: Json) -> None:
        self.stream.put(notification)

    async def ask(self, method: str, params: Json) -> McpReply:
        return McpReply.failed(METHOD_NOT_FOUND, "A client of this revision takes no requests.")


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
            stream.put(malformed(message).body() if kind == "none" else already_initialized(message))
    if requests and not left:
        done()
    return requests


def already_running(message: Json) -> Json:
    return McpReply.failed(
        INVALID_REQUEST, "Invalid request: a request with this id is still running."
    ).message(id_of(message))


def _unread(message: object) -> object:
    """The error that replaces a response, or those of a batch, for which there is no room."""
    if isinstance(message, list):
        return [_unread(each) for each in cast("list[object]", message)]
    text = (
        f"More than {UNREAD_OF_CALLER} bytes for this client wait to be read; this answer is not among them."
    )
    return McpReply.failed(INTERNAL_ERROR, text, {"reason": "limit", "retryAfterMs": 1000}).message(
        id_of(cast("Json", message))
    )


def too_many_running(message: Json) -> Json:
    text = f"{MOST_RUNNING} requests of this client are being answered, which is the limit."
    data = {"reason": "limit", "retryAfterMs": 1000}
    return McpReply.failed(INTERNAL_ERROR, text, data).message(id_of(message))


def already_initialized(message: Json) -> Json:
    return McpReply.failed(
        INVALID_REQUEST, "Invalid request: initialize comes once, first, and in no batch."
    ).message(id_of(message))


def answers_of(items: Sequence[tuple[int, bytes]]) -> bytes:
    """The responses of a batch as one JSON array."""
    return b"[" + b",".join(data for _, data in items) + b"]"
