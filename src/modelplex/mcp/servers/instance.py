"""One scope of one server: the process or session that serves it, started once for all who wait,
stopped when idle, held to its life's states.

Above it stands the server's handle; below it the probing and the links. What it needs of the handle
is `InstanceHost`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final, Protocol

import msgspec

from modelplex.config.settings import McpConfig, McpServer
from modelplex.mcp.constants import Json, Unavailable
from modelplex.mcp.servers import era_probe, lifecycle
from modelplex.mcp.servers.cache import EraVerdict
from modelplex.mcp.servers.lifecycle import Life
from modelplex.mcp.servers.processes import NoRoom, ProcessTable
from modelplex.mcp.servers.session import ConnectionLost, HttpRefused, ServerSession, SessionGone

LISTEN_PAUSE: Final = 1.0
"""Seconds before a subscription stream that ended is opened again; each time in a row doubles it.
"""
MAX_LISTEN_PAUSE: Final = 60.0
STAND_DOWN: Final = 0.1
"""Seconds between two looks whether the last calls of a server that is stopped have ended."""
ACKNOWLEDGED: Final = 5.0
"""Seconds that a changed subscription is waited for; it may come true later."""


class InstanceHost(Protocol):
    """What a seat needs of its server's handle."""

    config: McpServer
    limits: McpConfig
    children: ProcessTable
    verdict: EraVerdict | None

    def now(self) -> float: ...
    def dice(self) -> float: ...
    async def connect(self, instance: ServerInstance, *, sse: bool = False) -> ServerSession: ...
    async def store_verdict(self, verdict: EraVerdict) -> None: ...
    async def load_catalog(self, instance: ServerInstance, session: ServerSession) -> None:
        """A link has come about: see to the catalogue. Raises Lost."""
        ...

    async def refresh(
        self, instance: ServerInstance, session: ServerSession, *, missed: bool = False
    ) -> None: ...
    def changed(self, instance: ServerInstance, before: Life) -> None: ...
    def warn(self, text: str, *, scope: str) -> None: ...
    def failed(self, instance: ServerInstance, text: str) -> None: ...


class ServerInstance:
    def __init__(self, host: InstanceHost, *, scope: str, life: Life) -> None:
        self.scope = scope
        self.life = life
        self.session: ServerSession | None = None
        self.started_at: float | None = None
        self.starts = 0
        self.in_flight = 0
        self.watched: frozenset[str] = frozenset()
        self.closed = False
        self._host = host
        self._last_used = host.now()
        self._starting: asyncio.Task[ServerSession | Unavailable] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._asides: set[asyncio.Task[None]] = set()
        self._subscribed: frozenset[str] = frozenset()
        self._listening: asyncio.Task[None] | None = None
        self._watch_lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Seat {self.scope!r} {self.life.state} in_flight={self.in_flight}>"

    # Its life.

    def live(self, event: lifecycle.Event) -> None:
        before, self.life = self.life, lifecycle.next(self.life, event, self._host.now())
        if before.state != self.life.state:
            self._host.changed(self, before)

    def unavailable(self, sentence: str, reason: str, *, retry_after: float | None = None) -> Unavailable:
        name = self._host.config.name
        return Unavailable(
            f"The tool server {name} {sentence}", server=name, reason=reason, retry_after=retry_after
        )

    async def ready(self) -> ServerSession:
        """The link, after a start if need be: one start, whoever waits for it.

        Raises:
            Unavailable
        """
        while True:
            if self.closed:
                raise self.unavailable("was stopped.", "lost")
            self._refuse_at_once()
            if self.session is not None:
                return self.session
            if self._starting is None:
                await self._rested()
                if self._busy():
                    continue
                self._starting = asyncio.get_running_loop().create_task(self._start())
                self._starting.add_done_callback(self._start_ended)
            outcome = await asyncio.shield(self._starting)
            if isinstance(outcome, Unavailable):
                raise Unavailable(
                    outcome.sentence,
                    server=outcome.server,
                    reason=outcome.reason,
                    retry_after=outcome.retry_after,
                )

    def _busy(self) -> bool:
        """Whether another who waited was first, or what was waited for is over."""
        return self._starting is not None or self.session is not None or self.closed

    def _refuse_at_once(self) -> None:
        """What will not be started, or not for long."""
        match self.life.state:
            case "disabled":
                raise self.unavailable("is disabled.", "disabled")
            case "quarantined":
                raise self.unavailable("waits for the host's approval of what it offers.", "quarantined")
            case "crash_loop" if wait := self.life.wait(self._host.now()):
                sentence = f"has failed {lifecycle.CRASHES} times in a row and rests. {self.life.error or ''}".rstrip()
                raise self.unavailable(sentence, "crash_loop", retry_after=wait)
            case _:
                pass

    async def _rested(self) -> None:
        """Wait out a backoff."""
        if wait := self.life.wait(self._host.now()):
            await asyncio.sleep(wait)

    def _start_ended(self, task: asyncio.Task[ServerSession | Unavailable]) -> None:
        if self._starting is task:
            self._starting = None

    async def _start(self) -> ServerSession | Unavailable:
        host = self._host
        self.live(lifecycle.Needed())
        if self._ending:
            await asyncio.wait(set(self._ending))
        session: ServerSession | None = None
        try:
            local = host.config.command is not None
            if local:
                await host.children.take(self)
            async with host.children.turn() if local else contextlib.nullcontext():
                async with asyncio.timeout(host.limits.start_timeout):
                    session, verdict = await era_probe.connect_session(
                        self._connect,
                        protocol=host.config.protocol,
                        known=host.verdict,
                        remote=not local,
                        probe_timeout=host.limits.probe_timeout,
                    )
                    await host.load_catalog(self, session)
            if session.channel.lost.done():
                raise ConnectionLost(session.channel.lost.result())
        except (
            ConnectionLost,
            HttpRefused,
            era_probe.NoCommonEra,
            SessionGone,
            TimeoutError,
            NoRoom,
        ) as error:
            await self._give_way(session)
            return self._start_failed(error)
        except BaseException:
            await self._give_way(session)
            self.live(lifecycle.StoppedIdle())
            raise
        self._settle(session)
        await host.store_verdict(verdict)
        return session

    async def _connect(self, *, sse: bool = False) -> ServerSession:
        return await self._host.connect(self, sse=sse)

    async def _give_way(self, session: ServerSession | None) -> None:
        if session is not None:
            await asyncio.shield(asyncio.ensure_future(session.close()))
        self._host.children.free(self)

    def _start_failed(self, error: Exception) -> Unavailable:
        host = self._host
        match error:
            case NoRoom():
                self.live(lifecycle.StoppedIdle())
                sentence = f"cannot be started: {host.children.limit} processes run, which is the limit."
                return self.unavailable(sentence, "limit", retry_after=1.0)
            case ConnectionLost() | HttpRefused() | era_probe.NoCommonEra():
                on_notification = error.sentence
            case TimeoutError():
                on_notification = f"It was not ready within {host.limits.start_timeout:g} seconds."
            case _:
                on_notification = "Its session ended at once."
        self.live(lifecycle.StartFailed(on_notification, host.dice()))
        host.failed(self, f"could not be started: {on_notification}")
        unauthorized = isinstance(error, HttpRefused) and error.status in {401, 403}
        return self.unavailable(
            f"could not be started. {on_notification}",
            "unauthorized" if unauthorized else "start_failed",
            retry_after=self.life.wait(host.now()) or None,
        )

    def _settle(self, session: ServerSession) -> None:
        self.session = session
        self.starts += 1
        self.started_at = self._host.now()
        self._subscribed = frozenset()
        self.live(lifecycle.Ready())
        session.channel.lost.add_done_callback(
            lambda on_notification: self._lost(session, on_notification.result())
        )
        self.touch()
        self.aside(self._resume(session))

    def _lost(self, session: ServerSession, sentence: str) -> None:
        """It exited by itself, or its stream broke."""
        if self.session is not session:
            return
        self.session = None
        self.started_at = None
        self.live(lifecycle.StartFailed(sentence, self._host.dice()))
        self._host.failed(self, f"was lost: {sentence}")
        self._end(session)
        if self.watched and not self.closed:
            self.aside(self._return())

    async def _return(self) -> None:
        """Somebody waits for its news, who will not call: it is started again without being asked,
        as long as that is no crash loop.
        """
        while self.watched and self.session is None:
            try:
                await self.ready()
            except Unavailable:
                if self.life.state != "backoff":
                    return

    def lose(self, session: ServerSession, sentence: str) -> None:
        """An older HTTP server has forgotten its session: no failure, but what comes next begins
        anew.
        """
        if self.session is session:
            self.session = None
            self.started_at = None
            self.live(lifecycle.StoppedIdle())
            self._end(session)

    def _end(self, session: ServerSession) -> asyncio.Task[None]:
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
        task = asyncio.get_running_loop().create_task(self._close(session))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def _close(self, session: ServerSession) -> None:
        try:
            await session.close()
        finally:
            if self._starting is None and self.session is None:
                self._host.children.free(self)

    # Use and idleness.

    @property
    def idle_since(self) -> float | None:
        return None if self.in_flight or self.watched or self._starting is not None else self._last_used

    async def give_up(self) -> None:
        """Stop it without a fault of anybody's; the next call starts it."""
        session, self.session = self.session, None
        self.started_at = None
        self.live(lifecycle.StoppedIdle())
        if session is not None:
            await asyncio.shield(self._end(session))

    async def stand_down(self) -> None:
        """Let what is in flight end, then stop: the state stays what it is."""
        while self.in_flight:  # noqa: ASYNC110 - once in a server's life
            await asyncio.sleep(STAND_DOWN)
        await self.give_up()

    def touch(self) -> None:
        """It was used now."""
        self._last_used = self._host.now()
        if self._timer is None and self._host.config.idle_stop > 0 and self.session is not None:
            self._arm(self._host.config.idle_stop)

    def _arm(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self.session is None or self.closed:
            return
        since = self.idle_since
        stop_after = self._host.config.idle_stop
        left = stop_after if since is None else since + stop_after - self._host.now()
        if left > 0:
            self._arm(left)
        else:
            self.aside(self.give_up())

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Something that nobody waits for; it ends with the seat."""
        task = asyncio.get_running_loop().create_task(work)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    async def close(self) -> None:
        """For good. What is in flight fails as lost."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
            await asyncio.sleep(0)
        await self.give_up()
        if self._ending:
            await asyncio.wait(set(self._ending))
        for task in list(self._asides):
            task.cancel()
        if self._asides:
            await asyncio.wait(set(self._asides))

    # Subscriptions.

    async def _resume(self, session: ServerSession) -> None:
        """After a start: the lists anew, if they were only remembered, and the subscriptions that
        were held before.
        """
        with contextlib.suppress(ConnectionLost, HttpRefused, SessionGone):
            await self.subscribe()
            await self._host.refresh(self, session)

    async def subscribe(self) -> None:
        """Make what is watched so at the server that runs, in its own way. Raises Lost, Turned or
        Gone.
        """
        async with self._watch_lock:
            session = self.session
            if session is None:
                return
            wanted = self.watched  # it may change while we wait, and whoever changes it comes here next
            if session.era == "modern":
                await self._listen(session, wanted)
                return
            for method, uris in (
                ("resources/subscribe", wanted - self._subscribed),
                ("resources/unsubscribe", self._subscribed - wanted),
            ):
                for uri in sorted(uris):
                    reply = await session.request(method, {"uri": uri})
                    if reply.error is not None:
                        self._host.warn(
                            f"{method} was answered with error {reply.error['code']}.", scope=self.scope
                        )
            self._subscribed = wanted

    async def _listen(self, session: ServerSession, wanted: frozenset[str]) -> None:
        """One stream holds all: a changed wish is a new stream, and the old one ends when the new
        one stands.
        """
        wish = _wish(session.capabilities, wanted)
        if self._listening is not None and self._subscribed == wanted and not self._listening.done():
            return
        old, self._listening = self._listening, None
        if wish:
            acknowledged = asyncio.get_running_loop().create_future()
            self._listening = asyncio.get_running_loop().create_task(self._hold(session, wish, acknowledged))
            self._asides.add(self._listening)
            self._listening.add_done_callback(self._asides.discard)
            await asyncio.wait([acknowledged], timeout=ACKNOWLEDGED)
        self._subscribed = wanted
        if old is not None:
            old.cancel()

    async def _hold(self, session: ServerSession, wish: Json, acknowledged: asyncio.Future[None]) -> None:
        """Keep the stream open for as long as the link is."""

        def on_notification(message: Json) -> None:
            if (
                message.get("method") == "notifications/subscriptions/acknowledged"
                and not acknowledged.done()
            ):
                acknowledged.set_result(None)

        pause = LISTEN_PAUSE
        try:
            while not session.channel.lost.done():
                with contextlib.suppress(ConnectionLost, HttpRefused):
                    reply = await session.request(
                        "subscriptions/listen", {"notifications": wish}, on_notification=on_notification
                    )
                    if reply.error is not None:
                        code = reply.error["code"]
                        self._host.warn(
                            f"subscriptions/listen was answered with error {code}.", scope=self.scope
                        )
                        return
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_LISTEN_PAUSE)
                # What changed meanwhile was told to nobody.
                with contextlib.suppress(ConnectionLost, HttpRefused):
                    await self._host.refresh(self, session, missed=True)
        finally:
            if not acknowledged.done():
                acknowledged.set_result(None)


def _wish(capabilities: Json, uris: frozenset[str]) -> Json:
    """The filter of a `subscriptions/listen`: what the server says that it tells, and the resources
    that are wanted.
    """
    wish: Json = {}
    for name in ("tools", "prompts", "resources"):
        offered = capabilities.get(name)
        if isinstance(offered, dict) and msgspec.to_builtins(offered).get("listChanged") is True:
            wish[f"{name}ListChanged"] = True
    if uris:
        wish["resourceSubscriptions"] = sorted(uris)
    return wish
