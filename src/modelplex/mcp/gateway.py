"""The data path of tools: a client sends a request; the catalog finds the server; the policy allows
or denies; the relay sends it in the protocol era of the server; a record is written.

`routing` and `catalog`, `policy`, `relay` and `calls` are these steps. `advertised` answers lists,
`streams` holds subscriptions. The gateway knows no HTTP and no process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, cast

import msgspec

from modelplex.config.mcp_settings import McpConfig
from modelplex.core.caller import Caller
from modelplex.mcp.advertised import LISTS, REST_LIST, AdvertisedCapabilities
from modelplex.mcp.approvals import Approvals, Judgement, Lock
from modelplex.mcp.call_recording import CallRecording
from modelplex.mcp.call_route import session_scope
from modelplex.mcp.calls import CALLS, Admit, ToolCalls, admit_all
from modelplex.mcp.catalog import BadCursor
from modelplex.mcp.checked_catalogs import Report
from modelplex.mcp.constants import (
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    NEWEST,
    Catalog,
    Era,
    Json,
    McpClient,
    McpReply,
    Unavailable,
)
from modelplex.mcp.definition_scan import printable
from modelplex.mcp.gateway_parts import GatewayParts
from modelplex.mcp.relay import Relay
from modelplex.mcp.replay import ToolReplay
from modelplex.mcp.request_context import ToolRequestContext, invalid, unavailable, unknown
from modelplex.mcp.request_state import RequestStateSealer
from modelplex.mcp.routing import ToolRoutes
from modelplex.mcp.running_calls import RunningCalls
from modelplex.mcp.server_messages import ServerMessages
from modelplex.mcp.streams import Channel, Streams
from modelplex.mcp.tasks import EXTENSION, METHODS, Tasks, declares_tasks
from modelplex.mcp.tool_server import ToolServer, ToolServers

MAX_WARNINGS: Final = 20
"""Sentences about one server's lists in the status, which people read."""

NOT_REPLAYED: Final = frozenset({"ping", "logging/setLevel", "subscriptions/listen"})
"""Methods that are answered by the gateway alone, or as long as the client listens."""

MethodHandler = Callable[[ToolRequestContext], Coroutine[Any, Any, McpReply]]


class ToolGateway:
    """All permitted tool servers. `server=None` is the route of all servers with prefixed names;
    otherwise a route is one server with its own names.

    recording       how calls become records
    key             32 random bytes that sign the request state which clients hold between calls
    report          takes a server's name and a sentence about it, for the log
    on_first_seen   takes the definitions first seen of all servers, to be stored
    admit           the limits of an agent
    """

    def __init__(
        self,
        config: McpConfig,
        servers: ToolServers,
        *,
        recording: CallRecording,
        key: bytes,
        report: Report,
        on_first_seen: Callable[[Lock], None],
        admit: Admit = admit_all,
    ) -> None:
        self.replay = ToolReplay()
        self._recording = recording
        self._upstreams = dict(servers.current)
        self._legacy_servers = dict(servers.legacy)
        self._report = report
        self._unlisten: dict[ToolServer, Callable[[], None]] = {}
        self._leaving: set[ToolServer] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._routes = ToolRoutes(
            config,
            self._upstreams,
            approvals=servers.approvals,
            launches=servers.launches,
            report=report,
            on_first_seen=on_first_seen,
            on_catalog=self._on_catalog,
        )
        self._tasks = Tasks()
        self._relay = Relay(
            RunningCalls(config, on_idle=self._close_if_leaving),
            legacy_servers=self._legacy_servers,
            sealer=RequestStateSealer(key),
            tasks=self._tasks,
            clock=recording.clock,
            level=lambda client: self._streams.level_of(client),  # noqa: PLW0108 - `_streams` is set below
        )
        parts = GatewayParts(
            upstreams=self._upstreams,
            routes=self._routes,
            relay=self._relay,
            tasks=self._tasks,
            recording=recording,
            replay=self.replay,
            report=report,
        )
        self._advertised = AdvertisedCapabilities(self._routes)
        self._streams = Streams(parts, advertised=self._advertised)
        self._messages = ServerMessages(
            parts, subscriptions=self._streams.subscriptions, subscriber_of=self._streams.subscriber_of
        )
        self._calls = ToolCalls(parts, admit=admit)
        self._methods = self._handlers()
        self._listen()

    def _handlers(self) -> Mapping[Era, Mapping[str, MethodHandler]]:
        """The handler of each method, by protocol era."""
        both: dict[str, MethodHandler] = {
            **dict.fromkeys(LISTS, self._advertised.list),
            **dict.fromkeys(
                ("tools/call", "prompts/get", "resources/read", "completion/complete"), self._calls.answer
            ),
        }
        return {
            "legacy": {
                **both,
                **dict.fromkeys(METHODS["legacy"], self._task),
                "initialize": self._advertised.initialize,
                "ping": _ping,
                "logging/setLevel": self._streams.set_level,
                "resources/subscribe": self._streams.subscribe,
                "resources/unsubscribe": self._streams.unsubscribe,
            },
            "modern": {
                **both,
                REST_LIST: self._advertised.list_for_rest,
                **dict.fromkeys(METHODS["modern"], self._task),
                "server/discover": self._advertised.discover,
                "subscriptions/listen": self._streams.listen,
            },
        }

    def __repr__(self) -> str:
        return f"<ToolGateway {self._routes!r}, {self._relay!r}, {self._streams!r}>"

    def has_server(self, server: str) -> bool:
        """Whether there is a server of this name, or may be in a recording."""
        return server in self._upstreams or bool(self.replay.sources)

    async def request(self, client: McpClient, message: Json, *, server: str | None = None) -> McpReply:
        """Answer any JSON-RPC request; the reply's `message(id)` is the response. Raises only
        CancelledError.

        Cancelling the task cancels the call at the server. `subscriptions/listen` sends its
        notifications through `client.send` and runs until it is cancelled. Unknown methods are
        refused, since the gateway could not translate the names in them.
        """
        context = ToolRequestContext(client, message, route=server)
        handler = self._methods[client.era].get(context.method)
        if handler is None or (context.method == REST_LIST and not isinstance(client, RestClient)):
            return McpReply.failed(METHOD_NOT_FOUND, f"Method not found: {context.method[:100]}")
        if context.method in NOT_REPLAYED or context.method in CALLS:
            return await self._handled(handler, context)
        self._recording.begin_session_request(context)
        reply = await self.replay.answer(context)
        if reply is None:
            reply = await self._handled(handler, context)
        self._recording.finish_session_request(context, reply)
        return reply

    async def _handled(self, handler: MethodHandler, context: ToolRequestContext) -> McpReply:
        is_known = context.route is None or bool(self._routes.reach(context.globs, context.route))
        if not is_known and not (context.method in CALLS and self.replay.sources):
            return unknown("server", str(context.route))
        try:
            return await handler(context)
        except Unavailable as error:
            return unavailable(error)
        except BadCursor as error:
            return invalid(error.sentence)

    async def _task(self, context: ToolRequestContext) -> McpReply:
        """Answer a task method, if a server within the caller's reach offers tasks."""
        offer = self._advertised.tasks(context)
        if not offer or (context.method == "tasks/list" and "list" not in offer["tasks"]):
            return McpReply.failed(METHOD_NOT_FOUND, f"Method not found: {context.method}")
        if context.modern and not declares_tasks(context.client.capabilities):
            return McpReply.failed(
                MISSING_CAPABILITY,
                f"{context.method} is for clients that declare {EXTENSION}.",
                {"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
                reason="capability",
            )
        return await self._calls.answer(context)

    def open_session(self, client: McpClient, *, server: str | None = None, channel: Channel) -> None:
        """A legacy session has begun, after `initialize`. `channel` takes what belongs to no
        request, such as list_changed and resources/updated.
        """
        self._streams.open_session(client, route=server, channel=channel)

    def close_session(self, client: McpClient) -> None:
        """End a legacy session's subscriptions and instances. Returns at once."""
        self._streams.close_session(client)
        for upstream in self._all():
            if upstream.config.scope == "session" or upstream.config.client_requests:
                self._tasks.forget_server(upstream, session_scope(client))
                self._run_in_background(upstream.end_scope(session_scope(client)))

    async def tool_list(self, caller: Caller) -> McpReply:
        """The tools of the REST form, {"tools": [...]} in catalog order: {name, title?,
        description, inputSchema, outputSchema?, annotations?, server}.
        """
        return await self.request(RestClient(caller), {"method": REST_LIST})

    async def call_tool(self, caller: Caller, name: str, arguments: Mapping[str, Any]) -> McpReply:
        """Call a tool for the REST form. `McpReply.reason` is set if the gateway refused, also for
        a result with isError; an error without a reason is the server's own.
        """
        params = {"name": name, "arguments": dict(arguments)}
        return await self.request(RestClient(caller), {"method": "tools/call", "params": params})

    def schema(self, caller: Caller, name: str, *, server: str | None = None) -> Json | None:
        """The input schema of a tool that this caller may see, by its exposed name, to check
        headers that repeat arguments. Starts nothing.
        """
        entry = self._routes.view(caller.tools, server).merged.tool(name)
        return entry.definition["inputSchema"] if entry is not None else None

    def status(self) -> list[Json]:
        """Each server's state, for /_internal/mcp. Holds no secret."""
        rows: list[Json] = []
        for name, upstream in self._upstreams.items():
            row = cast("Json", msgspec.to_builtins(upstream.status()))
            if upstream.catalog is not None:
                judgement = self._routes.checks.judgement(name, upstream.catalog)
                row["pinning"] = judgement.mode
                row["changed"] = [each.name for each in judgement.changed]
                row["pending"] = [each.name for each in judgement.pending]
                warnings = self._routes.checks.checked(name, upstream.catalog).warnings
                row["left_out"] = sum(warning.count for warning in warnings)
                row["warnings"] = [
                    printable(warning.sentence, limit=400) for warning in warnings[:MAX_WARNINGS]
                ]
            rows.append(row)
        return rows

    def judged(self) -> list[tuple[Catalog, Judgement]]:
        """The known catalog of each server, and the state of its definitions."""
        known = [(name, each.catalog) for name, each in self._upstreams.items()]
        return [
            (catalog, self._routes.checks.judgement(name, catalog))
            for name, catalog in known
            if catalog is not None
        ]

    def left_out(self) -> dict[str, int]:
        """The number of unlisted entries by server. Safe on any thread."""
        return self._routes.checks.left_out()

    @property
    def approvals(self) -> Approvals:
        return self._routes.approvals

    @approvals.setter
    def approvals(self, approvals: Approvals) -> None:
        self._routes.approvals = approvals
        self._messages.all_changed(self._upstreams)

    def adopt(self, config: McpConfig, servers: ToolServers) -> None:
        """Go on with another config. A server that is the same object stays as it is; one that is
        gone ends with its last call.
        """
        stays = {*servers.current.values(), *servers.legacy.values()}
        gone = [upstream for upstream in self._all() if upstream not in stays]
        self._upstreams.clear()
        self._upstreams.update(servers.current)
        self._legacy_servers.clear()
        self._legacy_servers.update(servers.legacy)
        for upstream in gone:
            self._tasks.forget_server(upstream)
            self._unlisten.pop(upstream)()
            self._leaving.add(upstream)
            if not self._relay.running.runs(upstream):
                self._close_if_leaving(upstream)
        self._relay.config = config
        self._routes.adopt(config, approvals=servers.approvals, launches=servers.launches)
        self._listen()
        self._messages.all_changed(self._upstreams)

    def start(self) -> None:
        """Start the eager servers, and those without a stored catalog to learn their lists. Returns
        at once. Where a recording may answer, a server starts when it is asked.
        """
        if self.replay.sources:
            return
        for upstream in self._upstreams.values():
            self._run_in_background(self._start(upstream))

    async def close(self) -> None:
        """Stop every server and end every subscription."""
        self._streams.close()
        self._messages.close()
        self._routes.close()
        for unlisten in self._unlisten.values():
            unlisten()
        self._unlisten.clear()
        await asyncio.gather(
            *(upstream.close() for upstream in (*self._all(), *self._leaving)), return_exceptions=True
        )
        for task in tuple(self._background):
            task.cancel()

    def _all(self) -> list[ToolServer]:
        return [*self._upstreams.values(), *self._legacy_servers.values()]

    def _listen(self) -> None:
        for upstream in self._all():
            if upstream not in self._unlisten:
                self._unlisten[upstream] = upstream.listen(partial(self._messages.receive, upstream))

    async def _start(self, upstream: ToolServer) -> None:
        try:
            if upstream.config.start == "eager":
                await upstream.lists(fresh=True)
            else:
                await self._routes.load_unknown(upstream)
        except Unavailable as error:
            self._report(upstream.name, error.sentence)

    def _on_catalog(self, server: str) -> None:
        self._messages.all_changed([server])

    def _close_if_leaving(self, upstream: ToolServer) -> None:
        """Close a server that the config has dropped, once its last call has ended."""
        if upstream in self._leaving:
            self._leaving.discard(upstream)
            self._run_in_background(upstream.close())

    def _run_in_background(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(_await(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _ping(context: ToolRequestContext) -> McpReply:
    del context
    return McpReply(result={})


async def _await(work: Coroutine[Any, Any, object]) -> None:
    await work


class RestClient(msgspec.Struct, frozen=True):
    """The McpClient of a REST call: no session, no capabilities, no notifications."""

    caller: Caller
    era: Era = "modern"
    version: str = NEWEST
    capabilities: Mapping[str, Any] = {}
    session: str = ""

    def send(self, notification: Json) -> None:
        """The REST form has no place for progress."""

    async def send_request(self, method: str, params: Json) -> McpReply:
        del params
        return McpReply.failed(METHOD_NOT_FOUND, f"{method} is not answered here.")
