"""A session with one server in its protocol era: ids, progress tokens, envelope or handshake, and
which request a message of the server belongs to.

Knows no transport and no time: callers set timeouts.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

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
)
from modelplex.mcp.servers.channel import Channel, PendingRequest, RequestOptions

CLIENT: Final[Json] = {"name": "modelplex", "version": __version__}
"""The gateway's own client info; that of its clients is not forwarded."""
MAX_SERVER_REQUESTS: Final = 32
"""Open requests of one server to its client. More are refused."""
MAX_TASK_TOKENS: Final = 256
"""Tasks whose progress is passed on after the response to their call; beyond, the oldest are
dropped.
"""
SERVER_WIDE: Final = frozenset(
    "notifications/tools/list_changed notifications/prompts/list_changed notifications/resources/list_changed"
    " notifications/resources/updated notifications/elicitation/complete notifications/tasks/status".split()
)
"""Notifications that belong to no request, on any stream."""


class ServerSession:
    """A session over an open channel; `era_probe` settles its era.

    declared       the client capabilities for a legacy server
    roots          folders for `roots/list`
    single_client  all requests come from one client's session, so that any of them may own a
                   request that the server makes on a shared stream
    on_unassigned  takes notifications that belong to no request
    """

    def __init__(
        self,
        channel: Channel,
        *,
        declared: Json,
        roots: tuple[str, ...],
        single_client: bool,
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
        self._single_client = single_client
        self._on_unassigned = on_unassigned
        self._ids = itertools.count(1)
        self._pending: dict[int, PendingRequest] = {}
        self._server_requests: dict[str | int, tuple[asyncio.Future[McpReply], PendingRequest]] = {}
        self._task_tokens: dict[int, tuple[object, str]] = {}
        channel.deliver = self._deliver

    def __repr__(self) -> str:
        return f"<ServerSession {self.era} {self.version or 'unsettled'} in_flight={len(self._pending)}>"

    # The era.

    async def discover(self, version: str, *, declare: bool) -> McpReply:
        meta = self._envelope({}, capabilities=self._declared if declare else {}, version=version)
        return await self._exchange(self._add_pending("server/discover"), {"_meta": meta})

    async def initialize(self) -> McpReply:
        """Offer the newest legacy revision. `finish_handshake` completes the handshake."""
        params = {"protocolVersion": NEWEST_LEGACY, "capabilities": self._declared, "clientInfo": CLIENT}
        return await self._exchange(self._add_pending("initialize"), params)

    async def finish_handshake(self, result: Json) -> None:
        """Take the result of `initialize` and complete the handshake."""
        self._settle("legacy", str(result["protocolVersion"]), result, info=result.get("serverInfo"))
        await self.notify("notifications/initialized", {})

    def adopt(self, version: str, result: Json) -> None:
        """Take the result of `server/discover`."""
        self._settle("modern", version, result, info=_object(result.get("_meta")).get(META_SERVER))

    def _settle(self, era: Era, version: str, result: Json, *, info: object) -> None:
        self.era, self.version = era, version
        self.info = _object(info)
        self.capabilities = _object(result.get("capabilities"))
        instructions = result.get("instructions")
        self.instructions = instructions if isinstance(instructions, str) else None
        self.channel.set_version(era, version)

    # Requests and notifications to the server.

    async def request(
        self,
        method: str,
        params: Json,
        options: RequestOptions | None = None,
        *,
        renew: Callable[[bool], None] = lambda _: None,
        headers: Mapping[str, str] | None = None,
    ) -> McpReply:
        """Raises ConnectionLost, HttpRefused or SessionGone. Cancelling it cancels the request at
        the server. `renew`: see PendingRequest.
        """
        options = options or RequestOptions()
        pending = self._add_pending(method, options=options, renew=renew, headers=headers or {})
        meta = dict(_object(params.get("_meta")))
        if "progressToken" in meta:
            pending.token = meta["progressToken"]
            meta["progressToken"] = pending.id
        if self.era == "modern":
            version = options.client_version
            if version not in MODERN_VERSIONS:
                version = self.version
            meta = self._envelope(meta, capabilities=options.capabilities or {}, version=version)
            if options.log_level is not None:
                meta[META_LOG_LEVEL] = options.log_level
        sent = {key: value for key, value in params.items() if key != "_meta"}
        return await self._exchange(pending, {**sent, "_meta": meta} if meta else sent)

    def _add_pending(self, method: str, **more: Any) -> PendingRequest:
        pending = PendingRequest(next(self._ids), method, **more)
        self._pending[pending.id] = pending
        return pending

    async def _exchange(self, pending: PendingRequest, params: Json) -> McpReply:
        message: Json = {"jsonrpc": "2.0", "id": pending.id, "method": pending.method, "params": params}
        try:
            response = await self.channel.request(message, pending)
        except asyncio.CancelledError:
            # `initialize` may not be cancelled; the server is ended instead.
            if self.channel.cancels_by_message and pending.method != "initialize":
                cancelled = {"requestId": pending.id, "reason": "The request was cancelled."}
                self.channel.send_soon(self._notification("notifications/cancelled", cancelled))
            raise
        finally:
            del self._pending[pending.id]
            for task, owner in list(self._server_requests.values()):
                if owner is pending:
                    task.cancel()
        if (error := response.get("error")) is not None:
            return McpReply(error=_complete_error(error))
        result = response.get("result")
        if not isinstance(result, dict):
            return McpReply.failed(INTERNAL_ERROR, "The server's response has neither a result nor an error.")
        self._keep_task_token(pending, cast("Json", result))
        return McpReply(result=cast("Json", result))

    def _keep_task_token(self, pending: PendingRequest, result: Json) -> None:
        """Keep the progress token of a call that became a task: its progress comes later."""
        task = _object(result.get("task")).get("taskId")
        if pending.token is not None and self.era == "legacy" and isinstance(task, str):
            self._task_tokens[pending.id] = pending.token, task
            if len(self._task_tokens) > MAX_TASK_TOKENS:
                del self._task_tokens[next(iter(self._task_tokens))]

    def _envelope(self, meta: Json, *, capabilities: Json, version: str) -> Json:
        version = version or NEWEST
        return {**meta, META_VERSION: version, META_CAPABILITIES: capabilities, META_CLIENT: CLIENT}

    async def notify(self, method: str, params: Json) -> None:
        """Raises ConnectionLost or HttpRefused."""
        await self.channel.send(self._notification(method, params))

    def _notification(self, method: str, params: Json) -> Json:
        if self.era == "modern":
            meta = self._envelope(_object(params.get("_meta")), capabilities={}, version=self.version)
            params = {**params, "_meta": meta}
        return {"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})}

    # Messages of the server.

    def _deliver(self, message: Json, pending: PendingRequest | None) -> None:
        if "id" in message:
            self._take_request(message, pending)
            return
        method = message.get("method")
        params = _object(message.get("params"))
        if method == "notifications/progress":
            self._take_progress(message, params)
        elif method == "notifications/cancelled":
            request = self._server_requests.pop(_id(params.get("requestId")), None)
            if request is not None:
                request[0].cancel()
        elif method in SERVER_WIDE:
            self._on_unassigned(message)
        elif pending is None and META_SUBSCRIPTION in (meta := _object(params.get("_meta"))):
            owner = self._pending.get(cast("int", _id(meta[META_SUBSCRIPTION])))
            if owner is not None:
                _notify(owner, message)
        else:
            if pending is None and method == "notifications/message":
                pending = self._log_owner()
            if pending is None:
                self._on_unassigned(message)
            else:
                _notify(pending, message)

    def _take_progress(self, message: Json, params: Json) -> None:
        """Pass progress on with the client's own token."""
        token = params.get("progressToken")
        if not isinstance(token, int):
            return
        pending = self._pending.get(token)
        if pending is None and token in self._task_tokens:
            own_token, task = self._task_tokens[token]
            meta = {**_object(params.get("_meta")), META_RELATED: {"taskId": task}}
            self._on_unassigned({**message, "params": {**params, "progressToken": own_token, "_meta": meta}})
        if pending is None or pending.token is None:
            return
        pending.renew(True)
        _notify(pending, {**message, "params": {**params, "progressToken": pending.token}})

    def _log_owner(self) -> PendingRequest | None:
        """The request that gets a log message on a shared stream: the only one that wants any."""
        wanting = [
            each for each in self._pending.values() if each.options.on_notification and each.options.log_level
        ]
        return wanting[-1] if wanting and (self._single_client or len(wanting) == 1) else None

    def _take_request(self, message: Json, pending: PendingRequest | None) -> None:
        """Answer a request that the server makes of its client, or let the owner of it answer."""
        id_, method = _id(message.get("id")), str(message.get("method"))
        if method == "ping":
            self._respond(id_, McpReply(result={}))
            return
        if method == "roots/list" and self._roots:
            roots = [{"uri": Path(root).as_uri(), "name": Path(root).name or "/"} for root in self._roots]
            self._respond(id_, McpReply(result={"roots": roots}))
            return
        owner = pending if pending is not None else self._request_owner()
        is_full = len(self._server_requests) >= MAX_SERVER_REQUESTS or id_ in self._server_requests
        if owner is None or owner.options.on_request is None or is_full:
            self._respond(id_, McpReply.failed(METHOD_NOT_FOUND, f"{method} is not answered here."))
            return
        owner.renew(False)
        task = asyncio.ensure_future(owner.options.on_request(method, _object(message.get("params"))))
        self._server_requests[id_] = task, owner
        task.add_done_callback(lambda _: self._request_done(id_, owner, task))

    def _request_owner(self) -> PendingRequest | None:
        """The pending request that a request of the server on a shared stream belongs to."""
        pending = list(self._pending.values())
        if len(pending) != 1 and not self._single_client:
            return None
        return next((each for each in reversed(pending) if each.options.on_request is not None), None)

    def _request_done(self, id_: str | int, owner: PendingRequest, task: asyncio.Future[McpReply]) -> None:
        """Respond to a request of the server, also if its task was cancelled before it began: the
        server must not wait forever.
        """
        owner.renew(True)
        reply = McpReply.failed(INTERNAL_ERROR, "The request was not answered.")
        if not task.cancelled():
            if (error := task.exception()) is None:
                reply = task.result()
            else:
                sentence = f"A request of a server during {owner.method} failed."
                asyncio.get_running_loop().call_exception_handler({"message": sentence, "exception": error})
        if self._server_requests.pop(id_, None) is not None:
            self._respond(id_, reply)

    def _respond(self, id_: str | int, reply: McpReply) -> None:
        self.channel.send_soon(reply.message(id_))

    async def close(self) -> None:
        requests, self._server_requests = self._server_requests, {}
        for task, _ in requests.values():
            task.cancel()
        await self.channel.close()


def client_capabilities(allow: tuple[str, ...], roots: tuple[str, ...]) -> Json:
    """The client capabilities for a legacy server: what the config allows, not what a client
    claims.
    """
    allowed = {*allow, *(["roots"] if roots else [])}
    return {name: {} for name in ("sampling", "elicitation", "roots") if name in allowed}


def is_supported(result: Json | None) -> bool:
    """Whether the result of `initialize` names a supported revision."""
    return result is not None and result.get("protocolVersion") in LEGACY_VERSIONS


def _notify(pending: PendingRequest, message: Json) -> None:
    if pending.options.on_notification is not None:
        pending.options.on_notification(message)


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _id(value: object) -> str | int:
    return value if isinstance(value, str | int) else ""


def _complete_error(value: object) -> Json:
    """The error of a server, completed if it is malformed."""
    error = _object(value)
    if isinstance(error.get("code"), int) and isinstance(error.get("message"), str):
        return error
    return {**error, "code": INTERNAL_ERROR, "message": "The server sent an error without a message."}
