"""Channels: how a session and a tool server exchange messages, whatever the transport.

Knows no protocol era and no time: callers set timeouts.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import msgspec

from modelplex.mcp.constants import Era, Json, NotificationHandler, RequestHandler


class ServerError(Exception):
    """A server cannot be used. `sentence` is for people."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class ConnectionLost(ServerError):
    """The connection has ended, or the server sends invalid messages."""


class SessionGone(ServerError):
    """The session of a legacy HTTP server has expired; the last message was not processed."""

    def __init__(self) -> None:
        super().__init__("It has ended the session.")


class HttpRefused(ServerError):
    """An HTTP server responded with a status and no message. This alone does not tell the era."""

    def __init__(self, sentence: str, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after


class SignInNeeded(HttpRefused):
    """The server wants a token that only a person on the host can get."""


class RequestOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller may add to a request.

    on_notification  takes the progress (with the caller's own token) and the log messages of the
                     request
    on_request       answers requests that a legacy server makes of its client meanwhile; None
                     refuses them with -32601
    capabilities     what a modern server may request in its response; a legacy server got the
                     config's at its start
    log_level        the lowest level of log messages; None is no messages
    client_version   the client's revision, used for a modern server that supports it
    """

    on_notification: NotificationHandler | None = None
    on_request: RequestHandler | None = None
    capabilities: Json | None = None
    log_level: str | None = None
    client_version: str | None = None


class PendingRequest(msgspec.Struct, eq=False):
    """One request in flight.

    token    the caller's progress token
    renew    extends the timeout: `renew(True)` at progress, `renew(False)` while a request of the
             server is open
    headers  for a modern HTTP server
    """

    id: int
    method: str
    options: RequestOptions = RequestOptions()
    renew: Callable[[bool], None] = lambda _: None
    headers: Mapping[str, str] = {}
    token: object = None


Deliver = Callable[[Json, "PendingRequest | None"], None]
"""Takes a notification or a request of the server, and the pending request on whose own stream it
arrived, if any.
"""


class Channel(ABC):
    """Carries messages.

    deliver             takes messages of the server; a session sets it
    lost                done, with a sentence, once the connection has ended
    pid                 of the server's process, if there is one
    cancels_by_message  whether a notification cancels a request; otherwise closing its stream does
    """

    def __init__(self) -> None:
        self.deliver: Deliver = lambda _message, _pending: None
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.pid: int | None = None
        self.cancels_by_message = True
        self.era: Era | None = None
        self.version = ""

    @abstractmethod
    async def open(self) -> None:
        """Raises ConnectionLost or HttpRefused."""

    def set_version(self, era: Era, version: str) -> None:
        """Use this era and revision from now on."""
        self.era, self.version = era, version

    @abstractmethod
    async def request(self, message: Json, pending: PendingRequest) -> Json:
        """Send a request and return its response. Raises ConnectionLost, HttpRefused or
        SessionGone. Cancelling it forgets the request on this side.
        """

    @abstractmethod
    async def send(self, message: Json) -> None:
        """Send a notification or a response. Raises ConnectionLost or HttpRefused."""

    @abstractmethod
    def send_soon(self, message: Json) -> None:
        """Send without waiting; dropped if that is not possible."""

    @abstractmethod
    async def close(self) -> None: ...

    def fail(self, sentence: str) -> None:
        """End the connection. Only the first sentence counts."""
        if not self.lost.done():
            self.lost.set_result(sentence)


class DuplexChannel(Channel):
    """A channel with one stream for all messages: responses are matched by id."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[int, asyncio.Future[Json]] = {}

    def receive(self, message: Json) -> None:
        """Take a message of the server."""
        if "method" in message:
            self.deliver(message, None)
            return
        id_ = message.get("id")
        response = self._waiting.pop(id_, None) if isinstance(id_, int) else None
        if response is not None and not response.done():
            response.set_result(message)

    async def request(self, message: Json, pending: PendingRequest) -> Json:
        if self.lost.done():
            raise ConnectionLost(self.lost.result())
        response: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[pending.id] = response
        try:
            await self.send(message)
            return await response
        finally:
            self._waiting.pop(pending.id, None)
            if response.done() and not response.cancelled():
                response.exception()  # mark as retrieved

    def fail(self, sentence: str) -> None:
        super().fail(sentence)
        waiting, self._waiting = self._waiting, {}
        for response in waiting.values():
            if not response.done():
                response.set_exception(ConnectionLost(sentence))
