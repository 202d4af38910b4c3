"""One tool server: started when needed, stopped when idle, one instance for each scope.

`ManagedServer.request` sends a request by the `ServerInstance` of a scope and its session. Lists
and notifications are in `server_catalog`, log events in `events`, connections in `connect`.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from modelplex.config.mcp_settings import McpConfig, McpServer
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
from modelplex.mcp.oauth.source import ServerTokens, SignInState
from modelplex.mcp.oauth.store import SignInFiles
from modelplex.mcp.servers import lifecycle
from modelplex.mcp.servers.cache import DiskCache
from modelplex.mcp.servers.channel import Channel, RequestOptions, ServerError
from modelplex.mcp.servers.connect import http_channel, open_session, stdio_channel
from modelplex.mcp.servers.events import ServerEvent, ServerEvents
from modelplex.mcp.servers.instance import ServerInstance
from modelplex.mcp.servers.lifecycle import Life, State
from modelplex.mcp.servers.listing import METHODS
from modelplex.mcp.servers.messages import MessageReader
from modelplex.mcp.servers.process_table import ProcessTable
from modelplex.mcp.servers.server_catalog import ServerCatalog
from modelplex.mcp.servers.server_request import LISTEN, ServerRequest, send
from modelplex.mcp.servers.session import ServerSession
from modelplex.records.log import Secrets

AGENT_SCOPE: Final = "agent:"
"""Begins the scope of an agent: `Caller.owner`."""
ALIVE: Final[tuple[State, ...]] = (
    "ready", "starting", "idle_stopped", "cataloged", "configured", "backoff", "crash_loop",
)  # fmt: skip
"""A server with several scopes has the first of their states."""


class ServerRuntime(msgspec.Struct, frozen=True, kw_only=True):
    """What the servers of one process share.

    environ    the gateway's environment; a tool server's process gets an allow-list of it
    children   limits the processes of all servers; None makes a table for this server
    client     the HTTP client for remote servers, which they do not close; None makes one
    clock      seconds
    random     numbers between 0 and 1
    on_event   takes log events
    sign_ins   where the sign-ins of remote servers are; None for none
    """

    environ: Mapping[str, str] = msgspec.field(default_factory=lambda: os.environ)
    children: ProcessTable | None = None
    client: HttpClient | None = None
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    on_event: Callable[[ServerEvent], None] = lambda _: None
    sign_ins: SignInFiles | None = None


class ServerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One server in `/_internal/mcp`. `uptime` in seconds, of the process that has run longest;
    `retry_after` is set while it waits after failures. `last_words` are the last lines of stderr of
    a failed process; only the host sees them. `sign_ins` are those that were used, of a remote
    server.
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
    sign_ins: tuple[SignInState, ...] = ()


class ManagedServer:
    """Belongs to one event loop. Starts no process until it is needed."""

    def __init__(
        self,
        config: McpServer,
        *,
        limits: McpConfig,
        cache: DiskCache | None = None,
        runtime: ServerRuntime | None = None,
    ) -> None:
        runtime = runtime or ServerRuntime()
        self.config = config
        self.limits = limits
        self.name: str = config.name
        self.children = runtime.children or ProcessTable(limits.max_processes)
        self.now = runtime.clock
        self.random = runtime.random
        self.events = ServerEvents(config, on_event=runtime.on_event, clock=runtime.clock)
        self._owns_children = runtime.children is None
        self.environ = runtime.environ
        self._client = runtime.client
        self._own_client: HttpClient | None = None
        self.instances: dict[str, ServerInstance] = {}
        self._default_life = Life()
        self._in_flight = 0
        self._closed = False
        self._credentials = Secrets(credentials(config))
        self._sign_ins = runtime.sign_ins
        self._tokens: dict[str, ServerTokens] = {}
        self.server_catalog = ServerCatalog(self, cache=cache)

    def __repr__(self) -> str:
        return f"<ManagedServer {self.name} {self.state} in_flight={self._in_flight}>"

    @property
    def state(self) -> State:
        if not self.instances:
            return self._default_life.state
        states_of: list[State] = [instance.life.state for instance in self.instances.values()]
        return min(states_of, key=ALIVE.index)

    @property
    def catalog(self) -> Catalog | None:
        """The known lists, None if there are none."""
        return self.server_catalog.current

    @property
    def late(self) -> bool:
        """Whether its lists took long to load, also in an earlier run."""
        return self.server_catalog.late

    async def load(self) -> Catalog | None:
        """Read the stored catalog; starts no process. `lists` and `request` do this first."""
        return await self.server_catalog.load_stored()

    def mark_cataloged(self) -> None:
        self._default_life = lifecycle.next(self._default_life, "cataloged", self.now())

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
            (instance for instance in self.instances.values() if instance.session is not None), None
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
        """Send a request to the instance of a scope; starts it if needed. Cancelling the task
        cancels the request at the server. RequestOptions documents the arguments; `timeout` is in
        seconds without progress.

        A `tools/call` is sent once. Only a tool that the config calls idempotent is sent a second
        time, if the server was lost.

        Raises:
            Unavailable: it could not be started ("start_failed", "unauthorized", "crash_loop",
                "limit"), did not respond in time ("timeout"), refused
                ("refused"), or was lost during the request ("lost"): then the call may have had an
                effect.
        """
        await self.load()
        instance = self._instance(scope)
        counts = method != LISTEN
        if counts and self._in_flight >= self.limits.max_server_in_flight:
            sentence = f"has {self._in_flight} requests in flight, which is the limit."
            raise instance.unavailable(sentence, "limit", retry_after=1.0)
        options = RequestOptions(
            on_notification=on_notification,
            on_request=on_request,
            capabilities=capabilities,
            log_level=log_level,
            client_version=client_version,
        )
        request = ServerRequest(
            method=method, params=params, options=options, timeout=timeout or self.config.timeout
        )
        self._in_flight += counts
        instance.in_flight += 1
        try:
            return await send(request, instance)
        finally:
            self._in_flight -= counts
            instance.in_flight -= 1
            instance.touch()

    def listen(self, callback: Callable[[str, Json], None]) -> Callable[[], None]:
        """As `ServerCatalog.listen`."""
        return self.server_catalog.listen(callback)

    async def watch(self, uris: frozenset[str], *, scope: str = "") -> None:
        """Watch these resources in that scope, and no others. Subscribes again after each start.

        An instance with watched resources is not stopped when idle. A refusal is logged.

        Raises: Unavailable as `request`, if `uris` is not empty and it could not be started.
        """
        await self.load()
        if not uris and scope not in self.instances:
            return
        instance = self._instance(scope)
        if instance.subscriptions.wanted == uris:
            return
        instance.subscriptions.wanted = uris
        if uris:
            await instance.ready()
        try:
            await instance.subscriptions.apply()
        except ServerError:
            raise instance.unavailable("was lost during the subscription.", "lost") from None
        instance.touch()

    def status(self) -> ServerStatus:
        """The present state. Starts nothing."""
        instances = list(self.instances.values())
        sessions = [each.session for each in instances if each.session is not None]
        times = [each.started_at for each in instances if each.started_at is not None]
        failed = [each for each in instances if each.life.error is not None]
        outputs = [self.events.last_lines(each.scope) for each in failed]
        source = sessions[0] if sessions else self.catalog
        return ServerStatus(
            name=self.name,
            state=self.state,
            era=None if source is None else source.era,
            version=None if source is None else source.version,
            pids=tuple(each.channel.pid for each in sessions if each.channel.pid is not None),
            scopes=tuple(each.scope for each in instances if each.session is not None),
            uptime=self.now() - min(times) if times else None,
            restarts=sum(max(0, each.starts - 1) for each in instances),
            in_flight=self._in_flight,
            tools=None if self.catalog is None else len(self.catalog.tools),
            last_error=failed[-1].life.error if failed else None,
            last_words=next(filter(None, outputs), ()),
            sign_ins=tuple(each.state for each in self._tokens.values()),
            retry_after=min(filter(None, (each.life.wait(self.now()) for each in instances)), default=None),
        )

    async def end_scope(self, scope: str) -> None:
        """Stop that scope's instance and forget it. Its running requests fail as lost."""
        instance = self.instances.pop(scope, None)
        if instance is not None:
            await instance.close()
        self.events.forget(scope)

    async def close(self) -> None:
        """Stop everything. No process is left when this returns."""
        self._closed = True
        await self.server_catalog.close()
        await asyncio.gather(*(self.end_scope(scope) for scope in list(self.instances)))
        if self._own_client is not None:
            await self._own_client.aclose()
        if self._owns_children:
            await self.children.aclose()

    def _instance(self, scope: str) -> ServerInstance:
        instance = self.instances.get(scope)
        if instance is None:
            if self._closed:
                raise Unavailable(
                    f"The tool server {self.name} was stopped.", server=self.name, reason="lost"
                )
            instance = self.instances[scope] = ServerInstance(self, scope=scope, life=self._default_life)
        return instance

    async def connect(self, instance: ServerInstance, *, sse: bool = False) -> ServerSession:
        """An open session over a new channel. Raises ConnectionLost or HttpRefused."""
        return await open_session(
            await self._channel(instance.scope, sse=sse),
            self.config,
            single_client=instance.scope != "",
            on_unassigned=lambda message: self.server_catalog.receive(instance, message),
        )

    async def _channel(self, scope: str, *, sse: bool) -> Channel:
        if self.config.command is None:
            if self._client is None:
                self._client = self._own_client = HttpClient()
            tokens = self._tokens_of(scope, self._client)
            mask = self._credentials.mask
            messages = MessageReader(self.limits, hide=mask if tokens is None else tokens.masking(mask))
            return http_channel(self.config, messages, client=self._client, sse=sse, tokens=tokens)
        messages = MessageReader(self.limits, hide=self._credentials.mask)
        output = self.events.start_output(
            scope, hold=self.config.protocol == "auto" and self.server_catalog.known_era is None
        )
        return await stdio_channel(
            self.config,
            messages,
            environ=self.environ,
            children=self.children,
            write_line=lambda kind, line: self.events.add_line(kind, line, scope=scope, output=output),
        )

    def _tokens_of(self, scope: str, client: HttpClient) -> ServerTokens | None:
        """The tokens for an instance: of its agent where each has its own, else of the host."""
        if self._sign_ins is None or not self.config.may_sign_in:
            return None
        of_agents = self.config.auth is not None and self.config.auth.per_agent
        agent = scope.removeprefix(AGENT_SCOPE) if of_agents and scope.startswith(AGENT_SCOPE) else ""
        tokens = self._tokens.get(agent)
        if tokens is None:
            tokens = self._tokens[agent] = ServerTokens(
                self.config,
                self._sign_ins,
                client,
                agent=agent,
                warn=lambda text: self.events.warn(text, scope=scope),
            )
        return tokens
