"""A session with one server in its protocol era: ids, progress tokens, envelope or handshake, and
the owners of a server's questions.

Knows no transport and no time: callers set timeouts, and `renew` tells them of progress.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, cast

from modelplex import __version__
from modelplex.mcp.constants import (
    INTERNAL_ERROR,
    LEGACY_VERSIONS,
    META_CAPABILITIES,
    META_CLIENT,
    META_LOG_LEVEL,
    META_RELATED,
    META_SERVER,
    META_SUBSCRIPTION,
    META_VERSION,
    METHOD_NOT_FOUND,
    MODERN_VERSIONS,
    NEWEST,
    NEWEST_LEGACY,
    Era,
    Json,
    McpReply,
    NotificationHandler,
    RequestHandler,
)

CLIENT: Final[Json] = {"name": "modelplex", "version": __version__}
"""The gateway's client info, whoever its own clients are."""
QUESTIONS: Final = 32
"""Open questions of one server. More are refused."""
SPREADING: Final = frozenset(
    "notifications/tools/list_changed notifications/prompts/list_changed notifications/resources/list_changed"
    " notifications/resources/updated notifications/elicitation/complete notifications/tasks/status".split()
)
"""Notifications that belong to no request, on any stream."""


LASTING: Final = 256
"""Tasks whose progress is passed on after their call was answered; beyond, the oldest
are dropped.
"""


class ConnectionLost(Exception):
    """The other side is gone, or sends invalid JSON-RPC. `sentence` is for people."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class HttpRefused(Exception):
    """An HTTP server answered with a status and no message. This alone says nothing of the era."""

    def __init__(self, sentence: str, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status
        self.retry_after = retry_after


class SessionGone(Exception):
    """The session of a legacy HTTP server has ended; the last message did not reach it."""


class PendingRequest:
    """One request in flight."""

    __slots__ = ("headers", "id", "log_level", "method", "on_notification", "on_request", "renew", "token")

    def __init__(
        self,
        id: int,
        method: str,
        *,
        on_notification: NotificationHandler | None = None,
        on_request: RequestHandler | None = None,
        log_level: str | None = None,
        renew: Callable[[bool], None] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.id = id
        self.method = method
        self.on_notification = on_notification
        self.on_request = on_request
        self.log_level = log_level
        self.renew = renew
        self.headers = headers
        self.token: object = None

    def __repr__(self) -> str:
        return f"<PendingRequest {self.id} {self.method}>"


Deliver = Callable[[Json, "PendingRequest | None"], None]
"""Takes a notification or a request of the server, with the pending request on whose own stream it
came, if any.
"""


class Channel(Protocol):
    """Carries messages. `cancels_by_message`: a notification cancels a request; otherwise its
    closed stream does.
    """

    deliver: Deliver

    @property
    def cancels_by_message(self) -> bool: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def lost(self) -> asyncio.Future[str]:
        """Done, with a sentence, when the other side is gone."""
        ...

    async def open(self) -> None:
        """Raises ConnectionLost or HttpRefused."""
        ...

    def settle(self, era: Era, version: str) -> None:
        """Use this era and version from now on."""
        ...

    async def carry(self, message: Json, call: PendingRequest) -> Json:
        """Send a request and return its response. Raises ConnectionLost, HttpRefused or
        SessionGone. Cancelling it forgets the request on this side.
        """
        ...

    async def send(self, message: Json) -> None:
        """Send a notification or a response. Raises ConnectionLost."""
        ...

    def send_soon(self, message: Json) -> None:
        """Send without waiting; dropped if that is not possible."""
        ...

    async def close(self) -> None: ...


class DuplexChannel:
    """Channels with one stream for all messages: responses are matched by id."""

    def __init__(self) -> None:
        self.deliver: Deliver = _nobody
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting: dict[int, asyncio.Future[Json]] = {}

    def receive(self, message: Json) -> None:
        """Take one message of the other side."""
        if "method" in message:
            self.deliver(message, None)
            return
        of = message.get("id")
        waiting = self._waiting.pop(of, None) if isinstance(of, int) else None
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def fail(self, sentence: str) -> None:
        """The other side is gone: fail all pending requests."""
        if not self.lost.done():
            self.lost.set_result(sentence)
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost(sentence))

    def wait(self, id: int) -> asyncio.Future[Json]:
        if self.lost.done():
            raise ConnectionLost(self.lost.result())
        future = self._waiting[id] = asyncio.get_running_loop().create_future()
        return future

    def forget(self, id: int, future: asyncio.Future[Json]) -> None:
        """Forget a request; `future` is what `wait` returned for it."""
        self._waiting.pop(id, None)
        if future.done() and not future.cancelled():
            future.exception()  # mark as retrieved


def _nobody(message: Json, call: PendingRequest | None) -> None:
    """Default until a session takes the messages."""


class ServerSession:
    """`declared` are the client capabilities for a legacy server. `on_unassigned` takes
    notifications that belong to no request. `own` is true if all requests come from one client's
    session, so that a question on a shared stream has a certain owner.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        declared: Json,
        roots: tuple[str, ...],
        own: bool,
        on_unassigned: Callable[[Json], None],
    ) -> None:
        self.channel = channel
        self.era: Era = "legacy"
        self.version = ""
        self.info: Json = {}
        self.capabilities: Json = {}
        self.instructions: str | None = None
        self._declared = declared
        self._roots = roots
        self._own = own
        self._on_unassigned = on_unassigned
        self._ids = itertools.count(1)
        self._calls: dict[int, PendingRequest] = {}
        self._questions: dict[str | int, tuple[asyncio.Future[McpReply], PendingRequest]] = {}
        self._lasting: dict[int, tuple[object, str]] = {}
        channel.deliver = self._deliver

    def __repr__(self) -> str:
        return f"<ServerSession {self.era} {self.version or 'unsettled'} in_flight={len(self._calls)}>"

    # `era_probe` decides which of these is used.

    async def discover(self, version: str, *, declare: bool) -> McpReply:
        capabilities = self._declared if declare else {}
        params: Json = {
            "_meta": self._envelope({}, capabilities=capabilities, version=version, log_level=None)
        }
        return await self._exchange(self._call("server/discover"), params)

    async def initialize(self) -> McpReply:
        """Offer the newest legacy revision. `finish_handshake` completes it."""
        params: Json = {
            "protocolVersion": NEWEST_LEGACY,
            "capabilities": self._declared,
            "clientInfo": CLIENT,
        }
        return await self._exchange(self._call("initialize"), params)

    async def finish_handshake(self, result: Json) -> None:
        """Take an `initialize` result and complete the handshake."""
        self.era = "legacy"
        self.version = str(result["protocolVersion"])
        self.info = _object(result.get("serverInfo"))
        self._learn(result)
        self.channel.settle(self.era, self.version)
        await self.notify("notifications/initialized", {})

    def adopt(self, version: str, result: Json) -> None:
        """Take a `server/discover` result."""
        self.era = "modern"
        self.version = version
        self.info = _object(_object(result.get("_meta")).get(META_SERVER))
        self._learn(result)
        self.channel.settle(self.era, self.version)

    def _learn(self, result: Json) -> None:
        self.capabilities = _object(result.get("capabilities"))
        instructions = result.get("instructions")
        self.instructions = instructions if isinstance(instructions, str) else None

    async def request(
        self,
        method: str,
        params: Json,
        *,
        on_notification: NotificationHandler | None = None,
        on_request: RequestHandler | None = None,
        capabilities: Json | None = None,
        log_level: str | None = None,
        version: str | None = None,
        renew: Callable[[bool], None] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> McpReply:
        """Raises ConnectionLost, HttpRefused or SessionGone. Calls `renew(True)` at progress and
        `renew(False)` while a question is open. Cancelling it cancels the request at the server.
        """
        call = self._call(
            method,
            on_notification=on_notification,
            on_request=on_request,
            log_level=log_level,
            renew=renew,
            headers=headers,
        )
        meta = dict(_object(params.get("_meta")))
        if "progressToken" in meta:
            call.token = meta["progressToken"]
            meta["progressToken"] = call.id
        if self.era == "modern":
            spoken = version if version in MODERN_VERSIONS else self.version
            meta = self._envelope(meta, capabilities=capabilities or {}, version=spoken, log_level=log_level)
        sent = {key: value for key, value in params.items() if key != "_meta"}
        if meta:
            sent["_meta"] = meta
        return await self._exchange(call, sent)

    def _call(self, method: str, **more: Any) -> PendingRequest:
        call = PendingRequest(next(self._ids), method, **more)
        self._calls[call.id] = call
        return call

    async def _exchange(self, call: PendingRequest, params: Json) -> McpReply:
        message: Json = {"jsonrpc": "2.0", "id": call.id, "method": call.method, "params": params}
        try:
            answer = await self.channel.carry(message, call)
        except asyncio.CancelledError:
            # `initialize` may not be cancelled; the server is ended instead.
            if self.channel.cancels_by_message and call.method != "initialize":
                cancelled: Json = {"requestId": call.id, "reason": "The request was given up."}
                self.channel.send_soon(
                    {
                        "jsonrpc": "2.0",
                        "method": "notifications/cancelled",
                        "params": self._notification_params(cancelled),
                    }
                )
            raise
        finally:
            del self._calls[call.id]
            for task, asker in list(self._questions.values()):
                if asker is call:
                    task.cancel()
        error = answer.get("error")
        if error is not None:
            return McpReply(error=_error(error))
        result = answer.get("result")
        if not isinstance(result, dict):
            return McpReply.failed(INTERNAL_ERROR, "The server's answer holds neither a result nor an error.")
        own = _object(cast("Json", result).get("task")).get("taskId")
        if call.token is not None and self.era == "legacy" and isinstance(own, str):
            self._lasting[call.id] = call.token, own
            if len(self._lasting) > LASTING:
                del self._lasting[next(iter(self._lasting))]
        return McpReply(result=cast("Json", result))

    def _envelope(self, meta: Json, *, capabilities: Json, version: str, log_level: str | None) -> Json:
        return {
            **meta,
            META_VERSION: version or NEWEST,
            META_CAPABILITIES: capabilities,
            META_CLIENT: CLIENT,
            **({META_LOG_LEVEL: log_level} if log_level is not None else {}),
        }

    async def notify(self, method: str, params: Json) -> None:
        """Raises ConnectionLost."""
        message: Json = {"jsonrpc": "2.0", "method": method}
        if sent := self._notification_params(params):
            message["params"] = sent
        await self.channel.send(message)

    def _notification_params(self, params: Json) -> Json:
        if self.era == "legacy":
            return params
        meta = self._envelope(
            _object(params.get("_meta")), capabilities={}, version=self.version, log_level=None
        )
        return {**params, "_meta": meta}

    def _deliver(self, message: Json, call: PendingRequest | None) -> None:
        if "id" in message:
            self._question(message, call)
            return
        method = message.get("method")
        params = _object(message.get("params"))
        if method == "notifications/progress":
            self._progress(message, params)
        elif method == "notifications/cancelled":
            # The server does not want an answer any more.
            if (question := self._questions.pop(_id(params.get("requestId")), None)) is not None:
                question[0].cancel()
        elif method in SPREADING:
            self._on_unassigned(message)
        elif call is None and META_SUBSCRIPTION in (meta := _object(params.get("_meta"))):
            owner = self._calls.get(cast("int", _id(meta[META_SUBSCRIPTION])))
            if owner is not None and owner.on_notification is not None:
                owner.on_notification(message)
        else:
            owner = call or self._logs_for() if method == "notifications/message" else call
            if owner is None:
                self._on_unassigned(message)
            elif owner.on_notification is not None:
                owner.on_notification(message)

    def _progress(self, message: Json, params: Json) -> None:
        token = params.get("progressToken")
        call = self._calls.get(token) if isinstance(token, int) else None
        if call is None and isinstance(token, int) and token in self._lasting:
            own_token, task = self._lasting[token]
            meta = {**_object(params.get("_meta")), META_RELATED: {"taskId": task}}
            self._on_unassigned({**message, "params": {**params, "progressToken": own_token, "_meta": meta}})
            return
        if call is None or call.token is None:
            return
        if call.renew is not None:
            call.renew(True)
        if call.on_notification is not None:
            call.on_notification({**message, "params": {**params, "progressToken": call.token}})

    def _logs_for(self) -> PendingRequest | None:
        """The request that gets a log message on a shared stream: the only one that wants log
        messages, else none.
        """
        asking = [
            call
            for call in self._calls.values()
            if call.on_notification is not None and call.log_level is not None
        ]
        return asking[-1] if asking and (self._own or len(asking) == 1) else None

    def _question(self, message: Json, call: PendingRequest | None) -> None:
        of, method = _id(message.get("id")), str(message.get("method"))
        if method == "ping":
            self._answer(of, McpReply(result={}))
        elif method == "roots/list" and self._roots:
            roots = [{"uri": Path(root).as_uri(), "name": Path(root).name or "/"} for root in self._roots]
            self._answer(of, McpReply(result={"roots": roots}))
        else:
            owner = call if call is not None else self._owner()
            if (
                owner is None
                or owner.on_request is None
                or len(self._questions) >= QUESTIONS
                or of in self._questions
            ):
                self._answer(of, McpReply.failed(METHOD_NOT_FOUND, f"{method} is not answered here."))
                return
            if owner.renew is not None:
                owner.renew(False)
            asking = owner.on_request(method, _object(message.get("params")))
            task = asyncio.ensure_future(asking)
            self._questions[of] = task, owner
            task.add_done_callback(lambda _: self._question_answered(of, owner, task))

    def _owner(self) -> PendingRequest | None:
        """The request that a question on a shared stream belongs to."""
        calls = list(self._calls.values())
        if len(calls) != 1 and not self._own:
            return None
        return next((call for call in reversed(calls) if call.on_request is not None), None)

    def _question_answered(self, of: str | int, call: PendingRequest, task: asyncio.Future[McpReply]) -> None:
        """Answer a question, also if its task was cancelled before it began: the server must not
        wait forever.
        """
        if call.renew is not None:
            call.renew(True)
        reply = McpReply.failed(INTERNAL_ERROR, "The question was not answered.")
        if not task.cancelled():
            if (error := task.exception()) is None:
                reply = task.result()
            else:
                on_notification = {
                    "message": f"A question of a server ({call.method}) failed.",
                    "exception": error,
                }
                asyncio.get_running_loop().call_exception_handler(on_notification)
        if self._questions.pop(of, None) is not None:
            self._answer(of, reply)

    def _answer(self, id: str | int, reply: McpReply) -> None:
        self.channel.send_soon(reply.message(id))

    async def close(self) -> None:
        questions, self._questions = self._questions, {}
        for task, _ in questions.values():
            task.cancel()
        await self.channel.close()


def declared_by(allow: tuple[str, ...], roots: tuple[str, ...]) -> Json:
    """The client capabilities for a legacy server: what the config allows, not what a client
    claims.
    """
    return {
        **({"sampling": {}} if "sampling" in allow else {}),
        **({"elicitation": {}} if "elicitation" in allow else {}),
        **({"roots": {}} if roots or "roots" in allow else {}),
    }


def understood(result: Json | None) -> bool:
    """Whether an `initialize` result names a supported revision."""
    return result is not None and result.get("protocolVersion") in LEGACY_VERSIONS


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _id(value: object) -> str | int:
    return value if isinstance(value, str | int) else ""


def _error(value: object) -> Json:
    """The error of a server, completed if it is malformed."""
    error = _object(value)
    if isinstance(error.get("code"), int) and isinstance(error.get("message"), str):
        return error
    return {
        **error,
        "code": INTERNAL_ERROR,
        "message": "The server answered with an error that says nothing.",
    }
