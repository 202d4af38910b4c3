"""One tool server as the hub sees it: asked, listed, listened to; started when it is needed and
stopped when it is not.

Above it stands the hub; below it a seat for each scope, whose link talks to one process or one
address.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final, Literal, cast

import msgspec

from modelplex.config.settings import McpConfig, McpServer
from modelplex.config.tools import credentials
from modelplex.http_client import HttpClient
from modelplex.mcp.constants import (
    HEADER_MISMATCH,
    META_SUBSCRIPTION,
    Catalog,
    Era,
    Json,
    McpReply,
    NotificationHandler,
    RequestHandler,
    Unavailable,
)
from modelplex.mcp.server_output import SHOWN, LastLines, LogAllowance
from modelplex.mcp.servers import lifecycle
from modelplex.mcp.servers.address import parse_address
from modelplex.mcp.servers.cache import CatalogCache, EraVerdict, fingerprint
from modelplex.mcp.servers.header_params import argument_headers
from modelplex.mcp.servers.instance import ServerInstance
from modelplex.mcp.servers.legacy_sse import SseChannel
from modelplex.mcp.servers.lifecycle import Life, State
from modelplex.mcp.servers.listing import CHANGES, METHODS, Kind, load
from modelplex.mcp.servers.processes import ERROR_LINE, ProcessTable, environment, resolved
from modelplex.mcp.servers.session import (
    Channel,
    ConnectionLost,
    HttpRefused,
    ServerSession,
    SessionGone,
    declared_by,
)
from modelplex.mcp.servers.stdio import StdioChannel
from modelplex.mcp.servers.streamable_http import ConnectionNotMade, HttpChannel, HttpEndpoint
from modelplex.records.log import Secrets

Level = Literal["debug", "info", "warning", "error"]
EventKind = Literal["state", "stderr", "stdout", "list", "warning"]

ALIVE: Final[tuple[State, ...]] = (
    "ready", "starting", "idle_stopped", "cataloged", "configured", "backoff", "crash_loop", "quarantined", "disabled",
)  # fmt: skip
"""From the most alive: of many scopes, the first of these is the server's state."""
REPEATABLE: Final = frozenset(
    "tools/list prompts/list resources/list resources/templates/list resources/read prompts/get completion/complete ping".split()
)
"""What may be asked again where a session was forgotten: it changes nothing."""
LISTEN: Final = "subscriptions/listen"
"""A request that lasts: no time bounds it, and it takes no place among those in flight."""
FRESH: Final = 60.0
"""Seconds that a loaded list is believed at the next start of a process; an older one is asked for
again beside the first calls.
"""
CHANGE_PAUSE: Final = 0.1
"""Seconds between two loads of lists that a server changes all the time; each in a row doubles it.
"""
MAX_CHANGE_PAUSE: Final = 30.0
HELD_LINES: Final = 100
"""Lines of a process's own that are held back until its era is known."""
LOGGED_LAST_LINES: Final = 3
"""Of its last lines, so many stand beside the reason of a failure in the log, where each line is
told too.
"""


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a server's handle tells of it, for the log. `text` holds no secret of its config.

    kind    "state" (`text` is the new one), "stderr" and "stdout" (a line of the server's own),
            "list" (a catalogue was loaded), "warning"
    """

    server: str
    kind: EventKind
    text: str
    level: Level = "info"
    scope: str = ""


class ServerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What `/_internal/mcp` shows. `uptime` in seconds, of the process that has run for longest;
    `retry_after` where it rests after failures. `last_words` are the last lines of stderr of a
    process that failed; only the host is told of them.
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
    """Belongs to one event loop. Nothing runs until it is needed.

    `environ` is the gateway's own environment, of which a process gets an allow-list. `children`
    bounds the processes of all servers together. `client` is the pool that remote servers are
    reached through; it is not closed here. `dice` gives numbers between 0 and 1, `clock` seconds.
    """

    def __init__(
        self,
        config: McpServer,
        *,
        limits: McpConfig,
        cache: CatalogCache | None = None,
        environ: Mapping[str, str] | None = None,
        children: ProcessTable | None = None,
        client: HttpClient | None = None,
        clock: Callable[[], float] | None = None,
        dice: Callable[[], float] | None = None,
        on_event: Callable[[ServerEvent], None] | None = None,
    ) -> None:
        self.config = config
        self.limits = limits
        self.name: str = config.name
        self.catalog: Catalog | None = None
        """What is known of its lists: from the disk after `load`, or from itself. Replaced whole,
        never changed.
        """
        self.children = ProcessTable(limits.max_processes) if children is None else children
        self.verdict: EraVerdict | None = None
        self.late = False
        """Whether it took long to tell its lists when it was last asked for them, in an earlier run
        too. Nobody waits for it then.
        """
        self.now = clock or time.monotonic
        self.dice = dice or random.random
        self._owns_children = children is None
        self._cache = cache
        self._environ = os.environ if environ is None else environ
        self._client = client
        self._own_client: HttpClient | None = None
        self._on_event = on_event or _discard_event
        self._instances: dict[str, ServerInstance] = {}
        self._default_life = Life()
        self._callbacks: dict[object, Callable[[str, Json], None]] = {}
        self._fingerprint = ""
        self._loading: asyncio.Task[None] | None = None
        self._live = False
        self._loaded_at = 0.0
        self._refreshing: asyncio.Task[None] | None = None
        self._pending_changes: dict[tuple[str, str], Json] = {}
        self._in_flight = 0
        self._closed = False
        self._storing = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()
        self._allowance = LogAllowance()
        self._last_lines: dict[str, LastLines] = {}
        self._voices: dict[str, _Voice] = {}
        self._secrets = Secrets(_secret_values(config))
        self._credentials = Secrets(credentials(config))

    def __repr__(self) -> str:
        return f"<Server {self.name} {self.state} in_flight={self._in_flight}>"

    @property
    def state(self) -> State:
        """Of all its scopes together: the most alive."""
        if self._default_life.state in {"disabled", "quarantined"} or not self._instances:
            return self._default_life.state
        states_of: list[State] = [instance.life.state for instance in self._instances.values()]
        return min(states_of, key=ALIVE.index)

    async def load(self) -> Catalog | None:
        """Look for what is kept on the disk; starts nothing. `lists` and `request` do it themselves
        where nobody did.
        """
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load())
        if not self._loading.done():
            await asyncio.shield(self._loading)
        return self.catalog

    async def _load(self) -> None:
        self._fingerprint = await asyncio.to_thread(fingerprint, self.config, environ=self._environ)
        if self._cache is not None and self.catalog is None:
            self.catalog, self.verdict = await self._cache.load(self._fingerprint)
            self.late = self.catalog is None and await self._cache.is_late(self._fingerprint)
            if self.catalog is not None:
                self._default_life = lifecycle.next(self._default_life, lifecycle.Cataloged(), self.now())

    async def lists(self, *, fresh: bool = False) -> Catalog:
        """The catalogue that is known; the server is started only where there is none, or `fresh`
        asks it again.

        Raises:
            Unavailable: it could not be started, or asked.
        """
        await self.load()
        if self.catalog is not None and not fresh:
            return self.catalog
        instance = next(
            (instance for instance in self._instances.values() if instance.session is not None), None
        ) or self._instance("")
        starts = instance.starts
        session = await instance.ready()
        if self.catalog is None or starts == instance.starts or not self._live:
            await self._reload(instance, session, tuple(METHODS))
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
        """Ask the process of that scope, which is started if need be. Cancelling the awaiting task
        cancels the request at the server.

        Never sent twice, except a `tools/call` of a tool that the config calls idempotent, once,
        where the server was lost. `params` are not changed.

        told            takes what the server says to this request: progress (with the caller's own
                        token), log messages
        asked           answers what a legacy server asks its client during this request; without it
                        such questions are refused (-32601)
        capabilities    what a modern server may ask for in its answer; a legacy server was told at
                        its start, from the config
        timeout         seconds without progress, in place of the config's; `max_call_time` bounds
                        the whole
        log_level       the least level of log messages that this request wants; None wants none
        client_version  the caller's revision: a modern server that speaks it is spoken to in it

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
        outgoing = _Request(
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
            return await self._request_with_retry(instance, outgoing)
        finally:
            self._in_flight -= not lasting
            instance.in_flight -= 1
            instance.touch()

    async def _request_with_retry(self, instance: ServerInstance, outgoing: _Request) -> McpReply:
        """Once; and once more only where that cannot do a thing twice."""
        again = self._is_idempotent(outgoing)
        while True:
            session = await instance.ready()
            try:
                reply = await self._request_once(instance, session, outgoing)
                if not (_mismatched(reply) and session.era == "modern" and self.config.command is None):
                    return reply
                # The server's schema is not the one that is known here; it refused before it did
                # anything.
                await self._reload(instance, session, ("tools",))
                return await self._request_once(instance, session, outgoing)
            except ConnectionNotMade as lost:
                raise instance.unavailable(f"could not be reached. {lost.sentence}", "start_failed") from None
            except ConnectionLost as lost:
                if not again:
                    raise instance.unavailable(f"was lost in mid-call. {lost.sentence}", "lost") from None
                again = False
            except SessionGone:
                instance.lose(session, "Its session was forgotten.")
                if not again and outgoing.method not in REPEATABLE:
                    raise instance.unavailable(
                        "has forgotten the session; the call was not repeated.", "lost"
                    ) from None
                if outgoing.forgotten:
                    raise instance.unavailable("forgets each session at once.", "lost") from None
                outgoing = msgspec.structs.replace(outgoing, forgotten=True)
            except HttpRefused as refused:
                reason = "unauthorized" if refused.status in {401, 403} else "refused"
                raise instance.unavailable(
                    f"refused. {refused.sentence}", reason, retry_after=refused.retry_after
                ) from None

    def _is_idempotent(self, outgoing: _Request) -> bool:
        if outgoing.method != "tools/call":
            return False
        name = outgoing.params.get("name")
        return isinstance(name, str) and any(fnmatchcase(name, glob) for glob in self.config.idempotent)

    async def _request_once(
        self, instance: ServerInstance, session: ServerSession, outgoing: _Request
    ) -> McpReply:
        loop = asyncio.get_running_loop()
        began = loop.time()
        last = began + self.limits.max_call_time
        running = True

        def renew(progress: bool) -> None:  # noqa: FBT001 - a callback of the link's
            if running:
                bound.reschedule(min(loop.time() + outgoing.timeout, last) if progress else last)

        try:
            async with asyncio.timeout_at(
                None if outgoing.method == LISTEN else min(began + outgoing.timeout, last)
            ) as bound:
                return await session.request(
                    outgoing.method,
                    outgoing.params,
                    on_notification=outgoing.on_notification,
                    on_request=outgoing.on_request,
                    capabilities=outgoing.capabilities,
                    log_level=outgoing.log_level,
                    version=outgoing.client_version,
                    renew=renew,
                    headers=self._argument_headers(session, outgoing),
                )
        except TimeoutError:
            waited = loop.time() - began
            raise instance.unavailable(
                f"did not answer {outgoing.method} within {waited:.0f} seconds.", "timeout"
            ) from None
        finally:
            running = False

    def _argument_headers(self, session: ServerSession, outgoing: _Request) -> dict[str, str] | None:
        if (
            session.era != "modern"
            or self.config.command is not None
            or outgoing.method != "tools/call"
            or self.catalog is None
        ):
            return None
        name = outgoing.params.get("name")
        tool = next((tool for tool in self.catalog.tools if tool.get("name") == name), None)
        return (
            None
            if tool is None
            else argument_headers(tool.get("inputSchema"), outgoing.params.get("arguments"))
        )

    async def notify(self, method: str, params: Json, *, scope: str = "") -> None:
        """Tell a running process of that scope; where none runs there is nobody to tell."""
        instance = self._instances.get(scope)
        if instance is not None and instance.session is not None:
            with contextlib.suppress(ConnectionLost, HttpRefused, SessionGone):
                await instance.session.notify(method, params)

    def listen(self, callback: Callable[[str, Json], None]) -> Callable[[], None]:
        """Have what belongs to no request: (scope, whole message). After a `list_changed` the
        catalogue is loaded anew first. Returns what ends it.
        """
        key = object()
        self._callbacks[key] = callback

        def end() -> None:
            self._callbacks.pop(key, None)

        return end

    async def watch(self, uris: frozenset[str], *, scope: str = "") -> None:
        """The resources whose updates are wanted in that scope, all of them. Subscribes in the
        server's own way, and again after each start.

        While anything is watched the process is not stopped for idleness. A server that refuses is
        warned of, and no error.

        Raises:
            Unavailable: as `request`, where something is wanted and it could not be started.
        """
        await self.load()
        if not uris and scope not in self._instances:
            return
        instance = self._instance(scope)
        if instance.watched == uris:
            return
        instance.watched = uris
        if uris:
            await instance.ready()
        try:
            await instance.subscribe()
        except (ConnectionLost, HttpRefused, SessionGone):
            raise instance.unavailable("was lost while it was subscribed to.", "lost") from None
        instance.touch()

    def status(self) -> ServerStatus:
        """What is so now; reads nothing and asks nobody."""
        instances = list(self._instances.values())
        links = [instance.session for instance in instances if instance.session is not None]
        times = [instance.started_at for instance in instances if instance.started_at is not None]
        errors = [instance.life.error for instance in instances if instance.life.error is not None]
        waits = [wait for instance in instances if (wait := instance.life.wait(self.now()))]
        known = self.catalog
        return ServerStatus(
            name=self.name,
            state=self.state,
            era=links[0].era if links else known.era if known else None,
            version=links[0].version if links else known.version if known else None,
            pids=tuple(session.channel.pid for session in links if session.channel.pid is not None),
            scopes=tuple(
                scope for scope, instance in self._instances.items() if instance.session is not None
            ),
            uptime=self.now() - min(times) if times else None,
            restarts=sum(max(0, instance.starts - 1) for instance in instances),
            in_flight=self._in_flight,
            tools=len(known.tools) if known is not None else None,
            last_error=errors[-1] if errors else None,
            last_words=next(
                (self.last_words(s) for s in instances if s.life.error and self.last_words(s)), ()
            ),
            retry_after=min(waits) if waits else None,
        )

    def revive(self) -> None:
        """Forget its failures, so that the next call starts it at once: the host's command."""
        for instance in self._instances.values():
            instance.live(lifecycle.Revived())

    def quarantine(self) -> None:
        """Refuse every call from now on, until `approve`. What is in flight goes on."""
        self._set_for_all(lifecycle.Quarantined())

    def approve(self) -> None:
        """The end of a quarantine."""
        self._set_for_all(lifecycle.Revived())

    def disable(self) -> None:
        """Refuse every call for good, as a config may ask."""
        self._set_for_all(lifecycle.Disabled())

    def _set_for_all(self, event: lifecycle.Event) -> None:
        self._default_life = lifecycle.next(self._default_life, event, self.now())
        for instance in self._instances.values():
            instance.live(event)
            if self._default_life.state in {"disabled", "quarantined"}:
                instance.aside(instance.stand_down())
            elif instance.session is not None:
                instance.live(lifecycle.Needed())
                instance.live(lifecycle.Ready())

    async def end_scope(self, scope: str) -> None:
        """Stop that scope's process and forget it. What is in flight there fails as lost."""
        instance = self._instances.pop(scope, None)
        if instance is not None:
            await instance.close()
        self._last_lines.pop(scope, None)

    async def close(self) -> None:
        """Stop everything. Nothing of any process tree is left when this returns."""
        self._closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})
        await asyncio.gather(*(self.end_scope(scope) for scope in list(self._instances)), *self._background)
        if self._own_client is not None:
            await self._own_client.aclose()
        if self._owns_children:
            await self.children.aclose()

    # What its seats need.

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
        """A link over a new channel, opened. Raises Lost or Turned."""
        channel = await self._channel(instance, sse=sse)
        session = ServerSession(
            channel,
            declared=declared_by(self.config.allow, self.config.roots),
            roots=self.config.roots,
            own=instance.scope != "",
            on_unassigned=lambda message: self._receive(instance, message),
        )
        try:
            await channel.open()
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(session.close()))
            raise
        return session

    async def _channel(self, instance: ServerInstance, *, sse: bool) -> Channel:
        config = self.config
        if config.command is None:
            return self._remote(sse=sse)
        env = environment(self._environ, {name: value.reveal() for name, value in config.env.items()})
        command = await asyncio.to_thread(resolved, config.command, environ=env)
        if command is None:
            raise ConnectionLost("There is no such program, or none that may be executed.")
        voice = self._new_voice(instance.scope)
        return StdioChannel(
            [command, *(arg.reveal() for arg in config.args)],
            env=env,
            cwd=config.cwd,
            network=config.network,
            children=self.children,
            max_result=self.limits.max_result,
            cuts=self.limits.oversized == "cut",
            hide=self._credentials.mask,
            say=lambda kind, text: self._heard_line(kind, text, scope=instance.scope, voice=voice),
        )

    def _remote(self, *, sse: bool) -> Channel:
        url = self.config.url
        try:
            address = parse_address("" if url is None else url.reveal())
        except ValueError as error:
            raise ConnectionLost(str(error)) from None
        if self._client is None:
            self._client = self._own_client = HttpClient()
        headers = {name: value.reveal() for name, value in self.config.headers.items()}
        limits = self.limits
        cuts = limits.oversized == "cut"
        wire = HttpEndpoint(
            self._client,
            address,
            headers=headers,
            max_result=limits.max_result,
            cuts=cuts,
            hide=self._credentials.mask,
        )
        return SseChannel(wire) if sse else HttpChannel(wire)

    async def store_verdict(self, verdict: EraVerdict) -> None:
        """Which era it speaks: kept where it is news."""
        if verdict != self.verdict:
            self.verdict = verdict
            await self._store()

    async def _store(self) -> None:
        if self._cache is not None:
            async with self._storing:  # of two that are written at once the older could stay
                await self._cache.store(self._fingerprint, self.catalog, self.verdict)
                await self._cache.set_late(self._fingerprint, self.late)

    def set_late(self) -> None:
        """Remember that its lists took long. Forgotten as soon as they come."""
        if not self.late and self.catalog is None:
            self.late = True
            task = asyncio.get_running_loop().create_task(self._store())
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def load_catalog(self, instance: ServerInstance, session: ServerSession) -> None:
        """Where nothing is known of its lists, they are loaded before anybody is served."""
        if self.catalog is None:
            await self._load_lists(instance, session, tuple(METHODS))

    async def refresh(
        self, instance: ServerInstance, session: ServerSession, *, missed: bool = False
    ) -> None:
        """What is only remembered is asked for again, beside the first calls; who listens is told
        of what is different.

        `missed`: changes may have been told while nobody heard them.
        """
        if self._live and not missed and self.now() - self._loaded_at < FRESH:
            return
        before = self.catalog
        await self._load_lists(instance, session, tuple(METHODS))
        for method, kinds in CHANGES.items():
            if before is not None and any(
                getattr(before, kind) != getattr(self.catalog, kind) for kind in kinds
            ):
                self._broadcast(instance.scope, {"jsonrpc": "2.0", "method": method})

    async def _reload(
        self, instance: ServerInstance, session: ServerSession, kinds: tuple[Kind, ...]
    ) -> None:
        try:
            await self._load_lists(instance, session, kinds)
        except ConnectionLost as lost:
            raise instance.unavailable(f"was lost while it listed. {lost.sentence}", "lost") from None
        except SessionGone:
            instance.lose(session, "Its session was forgotten.")
            raise instance.unavailable("has forgotten the session.", "lost") from None

    async def _load_lists(
        self, instance: ServerInstance, session: ServerSession, kinds: tuple[Kind, ...]
    ) -> None:
        catalog = await load(
            session,
            limits=self.limits,
            old=self.catalog,
            kinds=kinds,
            remote=self.config.command is None,
            warn=lambda text: self.warn(text, scope=instance.scope),
        )
        self._live = True
        self._loaded_at = self.now()
        if catalog != self.catalog:
            self.catalog = catalog
            self.late = False
            self._emit("list", f"{len(catalog.tools)} tools", scope=instance.scope, level="debug")
            await self._store()

    def changed(self, instance: ServerInstance, before: Life) -> None:
        if (
            instance.life.state != "starting"
            and (voice := self._voices.pop(instance.scope, None)) is not None
        ):
            probed = instance.session is not None and instance.session.era == "legacy"
            self._speak(voice, scope=instance.scope, level="debug" if probed else None)
        if before.state == "ready":
            self._count_left_out(scope=instance.scope, over=True)
        level: Level = "warning" if instance.life.state in {"backoff", "crash_loop"} else "debug"
        self._emit("state", instance.life.state, scope=instance.scope, level=level)

    def warn(self, text: str, *, scope: str) -> None:
        self._emit("warning", text, scope=scope, level="warning")

    def failed(self, instance: ServerInstance, text: str) -> None:
        """It could not be started, or was lost: told with what it said last."""
        last_lines = " / ".join(self.last_words(instance)[-LOGGED_LAST_LINES:])
        self.warn(f"{text} Its last words: {last_lines}" if last_lines else text, scope=instance.scope)

    def last_words(self, instance: ServerInstance) -> tuple[str, ...]:
        last_lines = self._last_lines.get(instance.scope)
        return last_lines.lines if last_lines is not None else ()

    # What the server says of its own accord.

    def _receive(self, instance: ServerInstance, message: Json) -> None:
        message = _without_subscription_id(message)
        method = str(message.get("method"))
        if method not in CHANGES:
            self._broadcast(instance.scope, message)
            return
        self._pending_changes[instance.scope, method] = message
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._follow_changes())

    async def _follow_changes(self) -> None:
        """Changes that come while lists are loaded are one more load, however many they are."""
        pause = CHANGE_PAUSE
        while self._pending_changes:
            pending, self._pending_changes = self._pending_changes, {}
            for scope in {scope for scope, _ in pending}:
                kinds: tuple[Kind, ...] = tuple(
                    kind for of, method in pending if of == scope for kind in CHANGES[method]
                )
                instance = self._instances.get(scope)
                # Before it is ready, the start itself loads the lists.
                if instance is None or instance.session is None:
                    continue
                with contextlib.suppress(ConnectionLost, SessionGone):
                    await self._load_lists(instance, instance.session, kinds)
            for (scope, _), message in pending.items():
                self._broadcast(scope, message)
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_CHANGE_PAUSE)

    def _broadcast(self, scope: str, message: Json) -> None:
        for callback in list(self._callbacks.values()):
            callback(scope, message)

    def _new_voice(self, scope: str) -> _Voice:
        """For the lines of a process that is being started. A probe makes older ones say much that
        matters to nobody: what they say until it is over is held back.
        """
        if (before := self._voices.pop(scope, None)) is not None:
            self._speak(before, scope=scope, level="debug")
        voice = _Voice()
        self._last_lines[scope] = LastLines()
        if self.config.protocol == "auto" and self.verdict is None:
            voice.held = []
            self._voices[scope] = voice
        return voice

    def _heard_line(
        self, kind: Literal["stderr", "stdout"], line: bytes, *, scope: str, voice: _Voice
    ) -> None:
        if kind == "stderr" and (last_lines := self._last_lines.get(scope)) is not None:
            last_lines.add(self._plain(line[:ERROR_LINE].strip().decode("utf-8", "replace")))
        if voice.held is None:
            self._say(kind, line, scope=scope, level=voice.level)
        elif len(voice.held) < HELD_LINES:
            voice.held.append((kind, line))

    def _speak(self, voice: _Voice, *, scope: str, level: Level | None) -> None:
        """Tell what was held back; of a process that has made way for another one, all at this
        level.
        """
        held, voice.held = voice.held or [], None
        for kind, line in held:
            self._say(kind, line, scope=scope, level=level)
        if scope not in self._instances or self._instances[scope].session is None:
            voice.level = level

    def _say(
        self, kind: Literal["stderr", "stdout"], line: bytes, *, scope: str, level: Level | None = None
    ) -> None:
        """A line of its own, for the log: so many in a while, and nothing that a terminal would
        obey.
        """
        text = self._plain(line.strip().decode("utf-8", "replace"))[:SHOWN]
        if text and self._allowance.allows(len(text), self.now()):
            self._count_left_out(scope=scope)
            usual: Level = "info" if kind == "stderr" else "warning"
            self._on_event(
                ServerEvent(server=self.name, kind=kind, text=text, level=level or usual, scope=scope)
            )

    def _count_left_out(self, *, scope: str, over: bool = False) -> None:
        if count := self._allowance.left_out(self.now(), over=over):
            self._emit(
                "warning", f"{count} more lines of its own were left out", scope=scope, level="warning"
            )

    def _plain(self, text: str) -> str:
        """Without the secrets of its config, and without what a terminal would obey."""
        shown = self._secrets.mask(text.encode("utf-8", "replace")).decode("utf-8", "replace")
        return (
            shown if shown.isprintable() else "".join(each if each.isprintable() else " " for each in shown)
        )

    def _emit(self, kind: EventKind, text: str, *, scope: str, level: Level) -> None:
        self._on_event(
            ServerEvent(server=self.name, kind=kind, text=self._plain(text), level=level, scope=scope)
        )


def _discard_event(event: ServerEvent) -> None:
    """Where nobody keeps a log."""


class _Voice:
    """What a process says of its own. `held` are the lines that nobody was told of yet, None where
    each is told as it comes; `level` is theirs, None for the usual.
    """

    __slots__ = ("held", "level")

    def __init__(self) -> None:
        self.held: list[tuple[Literal["stderr", "stdout"], bytes]] | None = None
        self.level: Level | None = None


class _Request(msgspec.Struct, frozen=True):
    """One request of the hub's, as it may have to be sent again."""

    method: str
    params: Json
    on_notification: NotificationHandler | None
    on_request: RequestHandler | None
    capabilities: Json | None
    log_level: str | None
    client_version: str | None
    timeout: float
    forgotten: bool = False


def _mismatched(reply: McpReply) -> bool:
    return reply.error is not None and reply.error["code"] == HEADER_MISMATCH


def _without_subscription_id(message: Json) -> Json:
    """Without the id of our own subscription, which is nobody else's business."""
    params = message.get("params")
    inside = cast("Json", params) if isinstance(params, dict) else {}
    meta = inside.get("_meta")
    if not isinstance(meta, dict) or META_SUBSCRIPTION not in meta:
        return message
    rest = {key: value for key, value in cast("Json", meta).items() if key != META_SUBSCRIPTION}
    bare = {key: value for key, value in inside.items() if key != "_meta"}
    return {**message, "params": {**bare, **({"_meta": rest} if rest else {})}}


def _secret_values(config: McpServer) -> Iterator[str]:
    """What no line of a log may hold. An argument that is an option's name, a path or a package is
    no secret.
    """
    for secret in (*config.env.values(), *config.headers.values()):
        yield secret.reveal()
    if config.url is not None:
        yield config.url.reveal()
    for secret in config.args:
        arg = secret.reveal()
        if arg.startswith("-"):
            yield arg.partition("=")[2]
        elif not arg.startswith(("/", ".", "~", "@")):
            yield arg
