"""A tool gateway in front of scripted servers, and clients that record what they get."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import Any

import msgspec

from modelplex.config.mcp_settings import McpConfig, McpServer
from modelplex.core.caller import Caller
from modelplex.mcp.approvals import Approvals, Lock
from modelplex.mcp.call_recording import CallRecording
from modelplex.mcp.calls import admit_all
from modelplex.mcp.constants import (
    META_CAPABILITIES,
    META_CLIENT,
    META_VERSION,
    METHOD_NOT_FOUND,
    Catalog,
    Era,
    Json,
    McpReply,
    NotificationHandler,
    RequestHandler,
    Unavailable,
)
from modelplex.mcp.gateway import ToolGateway
from modelplex.mcp.tool_server import ToolServers
from modelplex.records.tool_call import ToolRecord

WAIT = 5.0
"""Seconds that a test waits for what should come at once."""


def tool(name: str, **more: Any) -> Json:
    return {
        "name": name,
        "description": f"does {name}",
        "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
        **more,
    }


class Sent:
    """One request as a server got it."""

    def __init__(
        self,
        method: str,
        params: Json,
        scope: str,
        on_notification: NotificationHandler | None,
        on_request: RequestHandler | None,
        more: Json,
    ) -> None:
        self.method = method
        self.params = params
        self.scope = scope
        self.on_notification = on_notification
        self.on_request = on_request
        self.capabilities: Json = more.get("capabilities") or {}
        self.log_level: str | None = more.get("log_level")
        self.timeout: float | None = more.get("timeout")


Script = Callable[[Sent], Awaitable[McpReply]]


async def echo(sent: Sent) -> McpReply:
    """The usual script: the arguments come back."""
    return McpReply(result={"content": [{"type": "text", "text": str(sent.params.get("arguments"))}]})


class ScriptedServer:
    """A ToolServer; `script` answers its requests."""

    def __init__(
        self,
        name: str,
        *,
        era: Era = "legacy",
        tools: Iterable[Json] = (),
        prompts: Iterable[Json] = (),
        resources: Iterable[Json] = (),
        templates: Iterable[Json] = (),
        capabilities: Json | None = None,
        instructions: str | None = None,
        script: Script = echo,
        known: bool = True,
        fails: Unavailable | None = None,
        **config: Any,
    ) -> None:
        self.name = name
        self.config = McpServer(name=name, command="true", **config)
        self.offered = Catalog(
            era=era,
            version="2026-07-28" if era == "modern" else "2025-11-25",
            capabilities={"tools": {}, "logging": {}} if capabilities is None else capabilities,
            instructions=instructions,
            tools=tuple(tools),
            prompts=tuple(prompts),
            resources=tuple(resources),
            templates=tuple(templates),
        )
        self.catalog: Catalog | None = self.offered if known else None
        self.script = script
        self.fails = fails
        self.sent: list[Sent] = []
        self.listed = 0
        self.watched: dict[str, frozenset[str]] = {}
        self.ended: list[str] = []
        self.cancelled = 0
        self.closed = False
        self.late = False
        self._callbacks: list[Callable[[str, Json], None]] = []

    def set_late(self) -> None:
        self.late = True

    async def load(self) -> Catalog | None:
        return self.catalog

    async def lists(self, *, fresh: bool = False) -> Catalog:
        self.listed += 1
        if self.fails is not None:
            raise self.fails
        self.catalog = self.offered
        return self.offered

    async def request(
        self,
        method: str,
        params: Json,
        *,
        scope: str = "",
        on_notification: NotificationHandler | None = None,
        on_request: RequestHandler | None = None,
        **more: Any,
    ) -> McpReply:
        if self.fails is not None:
            raise self.fails
        sent = Sent(method, params, scope, on_notification, on_request, more)
        self.sent.append(sent)
        try:
            return await self.script(sent)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def watch(self, uris: frozenset[str], *, scope: str = "") -> None:
        self.watched[scope] = uris

    def listen(self, callback: Callable[[str, Json], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def says(self, method: str, params: Json | None = None, *, scope: str = "") -> None:
        """Send a message that belongs to no request."""
        message: Json = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        for callback in tuple(self._callbacks):
            callback(scope, message)

    def becomes(self, **catalog: Any) -> None:
        """Change the catalog and announce it."""
        self.catalog = self.offered = msgspec.structs.replace(self.offered, **catalog)
        self.says("notifications/tools/list_changed")

    def status(self) -> Mapping[str, Any]:
        return {"name": self.name, "state": "ready"}

    async def end_scope(self, scope: str) -> None:
        self.ended.append(scope)

    async def close(self) -> None:
        self.closed = True


class ScriptedClient:
    """An McpClient: a legacy session, or the requests of a modern client."""

    def __init__(
        self,
        era: Era = "modern",
        *,
        agent: str = "",
        tools: tuple[str, ...] = (),
        session: str = "",
        capabilities: Json | None = None,
        answers: Mapping[str, McpReply] | None = None,
    ) -> None:
        self.caller = Caller(listener="unix:/run/a.socket", kind="unix", agent=agent, tools=tools)
        self.era: Era = era
        self.version = "2026-07-28" if era == "modern" else "2025-11-25"
        self.capabilities: Json = capabilities or {}
        self.session = session or ("s1" if era == "legacy" else "")
        self.notifications: list[Json] = []
        self.channel: list[Json] = []
        self.questions: list[tuple[str, Json]] = []
        self.answers = answers or {}
        self.notified = asyncio.Event()

    def send(self, notification: Json) -> None:
        self.notifications.append(notification)
        self.notified.set()

    async def send_request(self, method: str, params: Json) -> McpReply:
        self.questions.append((method, params))
        return self.answers.get(method, McpReply.failed(METHOD_NOT_FOUND, "no"))

    def message(self, method: str, params: Json | None = None, *, id: str | int = 1) -> Json:
        body = dict(params or {})
        if self.era == "modern":
            body["_meta"] = {
                META_VERSION: self.version,
                META_CAPABILITIES: self.capabilities,
                META_CLIENT: {"name": "guest", "version": "1"},
                **body.get("_meta", {}),
            }
        return {"jsonrpc": "2.0", "id": id, "method": method, "params": body}


class Harness:
    """A gateway, its servers, its records and reports."""

    def __init__(
        self,
        *servers: ScriptedServer,
        approvals: Approvals | None = None,
        admit: Callable[[Caller], AbstractAsyncContextManager[object]] = admit_all,
        legacy_servers: Iterable[ScriptedServer] = (),
        **config: Any,
    ) -> None:
        self.servers = {server.name: server for server in servers}
        self.config = McpConfig(enabled=True, servers=tuple(server.config for server in servers), **config)
        self.calls: list[ToolRecord] = []
        self.reports: list[tuple[str, str]] = []
        self.seen: Lock = {}
        self.now = 100.0
        numbers = count(1)
        self.gateway = ToolGateway(
            self.config,
            self.tool_servers(legacy={server.name: server for server in legacy_servers}, approvals=approvals),
            recording=CallRecording(
                ids=(f"mpx-{number}" for number in numbers),
                clock=lambda: self.now,
                wall=lambda: 1_000.0,
                on_record=self.calls.append,
            ),
            key=b"k" * 32,
            report=lambda server, sentence: self.reports.append((server, sentence)),
            on_first_seen=self.seen.update,
            admit=admit,
        )

    def tool_servers(
        self,
        current: Mapping[str, ScriptedServer] | None = None,
        *,
        legacy: Mapping[str, ScriptedServer] | None = None,
        approvals: Approvals | None = None,
    ) -> ToolServers:
        servers = self.servers if current is None else current
        return ToolServers(
            current=servers,
            legacy=legacy or {},
            approvals=approvals or Approvals(mode="off"),
            launches=dict.fromkeys(self.servers, "sha256:launch"),
        )

    async def ask(
        self,
        guest: ScriptedClient,
        method: str,
        params: Json | None = None,
        *,
        server: str | None = None,
        id: str | int = 1,
    ) -> McpReply:
        message = guest.message(method, params, id=id)
        return await asyncio.wait_for(self.gateway.request(guest, message, server=server), WAIT)

    async def call(
        self,
        guest: ScriptedClient,
        name: str,
        arguments: Json | None = None,
        *,
        server: str | None = None,
        **more: Any,
    ) -> McpReply:
        return await self.ask(
            guest, "tools/call", {"name": name, "arguments": arguments or {}, **more}, server=server
        )

    async def names(self, guest: ScriptedClient, *, server: str | None = None) -> list[str]:
        reply = await self.ask(guest, "tools/list", server=server)
        assert reply.result is not None, reply.error
        return [each["name"] for each in reply.result["tools"]]

    def opened(self, guest: ScriptedClient, *, server: str | None = None) -> ScriptedClient:
        self.gateway.open_session(guest, server=server, channel=guest.channel.append)
        return guest


def text(reply: McpReply) -> str:
    assert reply.result is not None, reply.error
    return str(reply.result["content"][0]["text"])


def error(reply: McpReply) -> Json:
    assert reply.error is not None, reply.result
    return reply.error


def result(reply: McpReply) -> Json:
    assert reply.result is not None, reply.error
    return reply.result


def two_servers() -> Harness:
    return Harness(
        ScriptedServer("git", tools=[tool("log"), tool("status")]),
        ScriptedServer("web", era="modern", tools=[tool("fetch")]),
    )


class SlowServer(ScriptedServer):
    """A server whose lists come when `go_on` is set."""

    def __init__(self, name: str, *, allow: tuple[str, ...] = ()) -> None:
        super().__init__(name, known=False, tools=[tool("late")], allow=allow)
        self.go_on = asyncio.Event()

    async def lists(self, *, fresh: bool = False) -> Catalog:
        await self.go_on.wait()
        return await super().lists(fresh=fresh)


ELICIT: Json = {
    "method": "elicitation/create",
    "params": {"message": "who?", "requestedSchema": {"type": "object"}},
}
ANSWER: Json = {"action": "accept", "content": {"name": "x"}}


def asking_server(*questions: Json, state: str | None = None) -> ScriptedServer:
    """A modern server whose tool needs answers before it gives its result, which holds them."""

    async def script(sent: Sent) -> McpReply:
        answers = sent.params.get("inputResponses")
        if not answers:
            asked: Json = {"resultType": "input_required", "inputRequests": {}}
            asked["inputRequests"] = {f"q{number}": each for number, each in enumerate(questions)}
            if state is not None:
                asked["requestState"] = state
            return McpReply(result=asked)
        found = f"{answers} {sent.params.get('requestState')}"
        return McpReply(result={"resultType": "complete", "content": [{"type": "text", "text": found}]})

    return ScriptedServer("s", era="modern", tools=[tool("x")], script=script)


def allowing(server: ScriptedServer, *allow: str, roots: tuple[str, ...] = ()) -> ScriptedServer:
    made = ScriptedServer(
        server.name,
        era=server.offered.era,
        tools=server.offered.tools,
        script=server.script,
        allow=allow,
        roots=roots,
    )
    made.offered = server.offered
    return made


def asking_legacy_server() -> ScriptedServer:
    """A legacy server that asks during its call; the result holds the answer."""

    async def script(sent: Sent) -> McpReply:
        assert sent.on_request is not None
        answer = await sent.on_request("elicitation/create", dict(ELICIT["params"]))
        await asyncio.sleep(0)
        return McpReply(result={"content": [{"type": "text", "text": str(answer.result or answer.error)}]})

    return ScriptedServer("s", tools=[tool("x")], script=script)
