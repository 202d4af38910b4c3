"""One tool server: started when needed, stopped when idle, one instance for each scope.

Requests go through `ManagedServer.request` to a `ServerInstance` and its session. Lists and
notifications are in `server_catalog`, log events in `events`, connections in `channels`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from modelplex.config.settings import McpConfig, McpServer
from modelplex.config.tools import credentials
from modelplex.http_client import HttpClient
from modelplex.mcp.constants import (
    Catalog,
    Era,
    Json,
    McpReply,
    NotificationHandler,
    RequestHandler,
    Unavailable,
)
from modelplex.mcp.servers import lifecycle
from modelplex.mcp.servers.cache import CatalogCache
from modelplex.mcp.servers.channels import http_channel, stdio_channel
from modelplex.mcp.servers.events import ServerEvent, ServerEvents
from modelplex.mcp.servers.instance import ServerInstance
from modelplex.mcp.servers.lifecycle import Life, State
from modelplex.mcp.servers.listing import METHODS
from modelplex.mcp.servers.processes import ProcessTable
from modelplex.mcp.servers.server_catalog import ServerCatalog
from modelplex.mcp.servers.server_request import LISTEN, ServerRequest, send
from modelplex.mcp.servers.session import (
    Channel,
    ConnectionLost,
    HttpRefused,
    ServerSession,
    SessionGone,
    declared_by,
)
from modelplex.records.log import Secrets

ALIVE: Final[tuple[State, ...]] = (
    "ready", "starting", "idle_stopped", "cataloged", "configured", "backoff", "crash_loop", "quarantined", "disabled",
)  # fmt: skip
"""States from the most to the least alive. A server with several scopes has the first of theirs."""


class ServerRuntime(msgspec.Struct, frozen=True, kw_only=True):
    """What a server gets from the process it runs in.

    environ    the gateway's environment; a tool server's process gets an allow-list of it
    children   bounds the processes of all servers together; None is a table of this server alone
    client     the HTTP client for remote servers, not closed by them; None makes one
    clock      seconds
    dice       random numbers between 0 and 1
    on_event   takes log events
    """

    environ: Mapping[str, str] = msgspec.field(default_factory=lambda: os.environ)
    children: ProcessTable | None = None
    client: HttpClient | None = None
    clock: Callable[[], float] = time.monotonic
    dice: Callable[[], float] = random.random
    on_event: Callable[[ServerEvent], None] = lambda _: None


class ServerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One server in `/_internal/mcp`. `uptime` in seconds, of the process that has run longest;
    `retry_after` is set while it waits after failures. `last_words` are the last lines of stderr of
    a process that failed; only the host sees them.
    """

    name: str
    state: State
    era: Era | None = None
    version: str | None = None
    pids: tuple[int, ...] = ()
    scopes: tuple[str, ...] = ()
    uptime: float | None = None
    restarts: int = 0
    in_flight: int = 0
    tools: int | None = None
    last_error: str | None = None
    last_words: tuple[str, ...] = ()
    retry_after: float | None = None


class ManagedServer:
    """Belongs to one event loop. Starts nothing until it is needed."""

    def __init__(
        self,
        config: McpServer,
        *,
        limits: McpConfig,
        cache: CatalogCache | None = None,
        runtime: ServerRuntime | None = None,
    ) -> None:
        runtime = runtime or ServerRuntime()
        self.config = config
        self.limits = limits
        self.name: str = config.name
        self.children = runtime.children or ProcessTable(limits.max_processes)
        self.now = runtime.clock
        self.dice = runtime.dice
        self.events = ServerEvents(config, on_event=runtime.on_event, clock=runtime.clock)
        self._owns_children = runtime.children is None
        self._environ = runtime.environ
        self._client = runtime.client
        self._own_client: HttpClient | None = None
        self._instances: dict[str, ServerInstance] = {}
        self._default_life = Life()
        self._in_flight = 0
        self._closed = False
        self._credentials = Secrets(credentials(config))
        self.server_catalog = ServerCatalog(
            config,
            cache=cache,
            events=self.events,
            clock=self.now,
            limits=lambda: self.limits,
            instance_of=self._instances.get,
            on_stored=self._catalog_stored,
        )

    def __repr__(self) -> str:
        return f"<ManagedServer {self.name} {self.state} in_flight={self._in_flight}>"

    @property
    def state(self) -> State:
        """The most alive state of its scopes."""
        if self._default_life.state in {"disabled", "quarantined"} or not self._instances:
            return self._default_life.state
        states_of: list[State] = [instance.life.state for instance in self._instances.values()]
        return min(states_of, key=ALIVE.index)

    @property
    def catalog(self) -> Catalog | None:
        """What is known of its lists, None if nothing is."""
        return self.server_catalog.current

    @property
    def late(self) -> bool:
        """Whether its lists took long to load, in an earlier run too."""
        return self.server_catalog.late

    async def load(self) -> Catalog | None:
        """Read the catalog that is stored on disk; starts nothing. `lists` and `request` do this
        first.
        """
        return await self.server_catalog.load_stored(self._environ)

    def _catalog_stored(self) -> None:
        self._default_life = lifecycle.next(self._default_life, lifecycle.Cataloged(), self.now())

    def set_late(self) -> None:
        self.server_catalog.set_late()

    async def lists(self, *, fresh: bool = False) -> Catalog:
        """The known catalog. Starts the server only if there is none, or to load it again if
        `fresh`.

        Raises: Unavailable
        """
        await self.load()
        if self.catalog is not None and not fresh:
            return self.catalog
        instance = next(
            (instance for instance in self._instances.values() if instance.session is not None), None
        ) or self._instance("")
        starts = instance.starts
        session = await instance.ready()
        if self.catalog is None or starts == instance.starts or not self.server_catalog.confirmed:
            await self.server_catalog.reload(instance, session, tuple(METHODS))
        assert self.catalog is not None
        return self.catalog

    async def request(
        self,
        method: str,
        params: Json,
        *,
        scope: str = "",
        on_notification: NotificationHandler | None = None,
        on_request: RequestHandler | None = None,
        capabilities: Json | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it is renewed by progress
        log_level: str | None = None,
        client_version: str | None = None,
    ) -> McpReply:
        """Send a request to the instance of a scope and start it if needed. Cancelling the task
        cancels the request at the server. `params` are not changed.

        A `tools/call` is never sent twice, except once more for a tool that the config calls
        idempotent when the server was lost.

        on_notification  takes the progress (with the caller's own token) and the log messages of
                         this request
        on_request       answers requests that a legacy server makes of its client during this
                         request; without it they are refused with -32601
        capabilities     what a modern server may ask for in its answer; a legacy server got the
                         config's at its start
        timeout          seconds without progress, in place of the config's; `max_call_time` bounds
                         the whole request
        log_level        the lowest level of log messages for this request; None is no messages
        client_version   the client's revision, used towards a modern server that speaks it

        Raises:
            Unavailable: it could not be started ("start_failed", "unauthorized", "crash_loop",
                "limit", "disabled", "quarantined"), did not answer in time ("timeout"), refuses for
                now ("refused"), or went away while it was asked ("lost"): then the call may or may
                not have happened.
        """
        await self.load()
        instance = self._instance(scope)
        lasting = method == LISTEN
        if self._in_flight >= self.limits.max_server_in_flight and not lasting:
            sentence = f"has {self._in_flight} requests in flight, which is the limit."
            raise instance.unavailable(sentence, "limit", retry_after=1.0)
        outgoing = ServerRequest(
            method,
            params,
            on_notification,
            on_request,
            capabilities,
            log_level,
            client_version,
            timeout or self.config.timeout,
        )
        self._in_flight += not lasting
        instance.in_flight += 1
        try:
            return await send(
                outgoing, instance, config=self.config, limits=self.limits, catalog=self.server_catalog
            )
        finally:
            self._in_flight -= not lasting
            instance.in_flight -= 1
            instance.touch()

    async def notify(self, method: str, params: Json, *, scope: str = "") -> None:
        """Send a notification to the running instance of that scope, if there is one."""
        instance = self._instances.get(scope)
        if instance is not None and instance.session is not None:
            with contextlib.suppress(ConnectionLost, HttpRefused, SessionGone):
                await instance.session.notify(method, params)

    def listen(self, callback: Callable[[str, Json], None]) -> Callable[[], None]:
        """Call back with what belongs to no request: (scope, whole message). Returns a function
        that ends it.
        """
        return self.server_catalog.listen(callback)

    async def watch(self, uris: frozenset[str], *, scope: str = "") -> None:
        """Watch these resources in that scope, and no others. Subscribes again after each start.

        An instance with watched resources is not stopped for idleness. A server that refuses is
        warned of.

        Raises: Unavailable as `request`, if something is wanted and it could not be started.
        """
        await self.load()
        if not uris and scope not in self._instances:
            return
        instance = self._instance(scope)
        if instance.subscriptions.wanted == uris:
            return
        instance.subscriptions.wanted = uris
        if uris:
            await instance.ready()
        try:
            await instance.subscriptions.apply()
        except (ConnectionLost, HttpRefused, SessionGone):
            raise instance.unavailable("was lost while it was subscribed to.", "lost") from None
        instance.touch()

    def status(self) -> ServerStatus:
        """The present state. Waits for nothing and starts nothing."""
        return _status(self, self._instances, self._in_flight)

    def revive(self) -> None:
        """Forget failures, so that the next call starts the server at once."""
        for instance in self._instances.values():
            instance.advance(lifecycle.Revived())

    def quarantine(self) -> None:
        """Refuse every call until `approve`. Running requests go on."""
        self._set_for_all(lifecycle.Quarantined())

    def approve(self) -> None:
        """End a quarantine."""
        self._set_for_all(lifecycle.Revived())

    def disable(self) -> None:
        """Refuse every call for good."""
        self._set_for_all(lifecycle.Disabled())

    def _set_for_all(self, event: lifecycle.Event) -> None:
        self._default_life = lifecycle.next(self._default_life, event, self.now())
        for instance in self._instances.values():
            instance.advance(event)
            if self._default_life.state in {"disabled", "quarantined"}:
                instance.run_in_background(instance.stop_when_idle())
            elif instance.session is not None:
                instance.advance(lifecycle.Needed())
                instance.advance(lifecycle.Ready())

    async def end_scope(self, scope: str) -> None:
        """Stop that scope's instance and forget it. Its running requests fail as lost."""
        instance = self._instances.pop(scope, None)
        if instance is not None:
            await instance.close()
        self.events.forget(scope)

    async def close(self) -> None:
        """Stop everything. No process is left when this returns."""
        self._closed = True
        await self.server_catalog.close()
        await asyncio.gather(*(self.end_scope(scope) for scope in list(self._instances)))
        if self._own_client is not None:
            await self._own_client.aclose()
        if self._owns_children:
            await self.children.aclose()

    def _instance(self, scope: str) -> ServerInstance:
        instance = self._instances.get(scope)
        if instance is None:
            if self._closed:
                raise Unavailable(
                    f"The tool server {self.name} was stopped.", server=self.name, reason="lost"
                )
            instance = self._instances[scope] = ServerInstance(self, scope=scope, life=self._default_life)
        return instance

    async def connect(self, instance: ServerInstance, *, sse: bool = False) -> ServerSession:
        """An open session over a new channel. Raises ConnectionLost or HttpRefused."""
        channel = await self._channel(instance.scope, sse=sse)
        session = ServerSession(
            channel,
            declared=declared_by(self.config.allow, self.config.roots),
            roots=self.config.roots,
            own=instance.scope != "",
            on_unassigned=lambda message: self.server_catalog.receive(instance, message),
        )
        try:
            await channel.open()
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(session.close()))
            raise
        return session

    async def _channel(self, scope: str, *, sse: bool) -> Channel:
        hide = self._credentials.mask
        if self.config.command is None:
            if self._client is None:
                self._client = self._own_client = HttpClient()
            return http_channel(self.config, self.limits, client=self._client, hide=hide, sse=sse)
        output = self.events.start_output(
            scope, hold=self.config.protocol == "auto" and self.server_catalog.verdict is None
        )
        return await stdio_channel(
            self.config,
            self.limits,
            environ=self._environ,
            children=self.children,
            hide=hide,
            write_line=lambda kind, line: self.events.add_line(kind, line, scope=scope, output=output),
        )


def _status(server: ManagedServer, instances: Mapping[str, ServerInstance], in_flight: int) -> ServerStatus:
    all_ = list(instances.values())
    sessions = [instance.session for instance in all_ if instance.session is not None]
    times = [instance.started_at for instance in all_ if instance.started_at is not None]
    errors = [instance.life.error for instance in all_ if instance.life.error is not None]
    waits = [wait for instance in all_ if (wait := instance.life.wait(server.now()))]
    failed = [server.events.last_lines(instance.scope) for instance in all_ if instance.life.error]
    known = server.catalog
    return ServerStatus(
        name=server.name,
        state=server.state,
        era=sessions[0].era if sessions else known.era if known else None,
        version=sessions[0].version if sessions else known.version if known else None,
        pids=tuple(session.channel.pid for session in sessions if session.channel.pid is not None),
        scopes=tuple(scope for scope, instance in instances.items() if instance.session is not None),
        uptime=server.now() - min(times) if times else None,
        restarts=sum(max(0, instance.starts - 1) for instance in all_),
        in_flight=in_flight,
        tools=len(known.tools) if known is not None else None,
        last_error=errors[-1] if errors else None,
        last_words=next(filter(None, failed), ()),
        retry_after=min(waits) if waits else None,
    )
