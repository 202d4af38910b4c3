"""One instance of a server: the process or HTTP session of one scope. Started once for all waiting
callers, stopped when idle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from modelplex.config.settings import McpConfig, McpServer
from modelplex.mcp.constants import Unavailable
from modelplex.mcp.servers import era_probe, lifecycle
from modelplex.mcp.servers.cache import EraVerdict
from modelplex.mcp.servers.events import ServerEvents
from modelplex.mcp.servers.instance_subscriptions import InstanceSubscriptions
from modelplex.mcp.servers.lifecycle import Life
from modelplex.mcp.servers.processes import NoRoom, ProcessTable
from modelplex.mcp.servers.session import ConnectionLost, HttpRefused, ServerSession, SessionGone

IDLE_POLL_SECONDS: Final = 0.1
"""Seconds between two checks whether the last calls of a stopping server have ended."""


class InstanceCatalog(Protocol):
    """The catalog of an instance's server."""

    verdict: EraVerdict | None

    async def ensure_loaded(self, instance: ServerInstance, session: ServerSession) -> None:
        """Load the lists if none are known. Raises ConnectionLost."""
        ...

    async def refresh(
        self, instance: ServerInstance, session: ServerSession, *, missed: bool = False
    ) -> None: ...
    async def store_verdict(self, verdict: EraVerdict) -> None: ...


class InstanceHost(Protocol):
    """What an instance needs of its server."""

    config: McpServer
    limits: McpConfig
    children: ProcessTable

    events: ServerEvents

    @property
    def server_catalog(self) -> InstanceCatalog: ...
    def now(self) -> float: ...
    def dice(self) -> float: ...
    async def connect(self, instance: ServerInstance, *, sse: bool = False) -> ServerSession: ...


class ServerInstance:
    def __init__(self, host: InstanceHost, *, scope: str, life: Life) -> None:
        self.scope = scope
        self.life = life
        self.session: ServerSession | None = None
        self.started_at: float | None = None
        self.starts = 0
        self.in_flight = 0
        self.subscriptions = InstanceSubscriptions(
            lambda: self.session,
            warn=lambda text: host.events.warn(text, scope=scope),
            reload=self._reload_missed,
        )
        self.closed = False
        self._host = host
        self._last_used = host.now()
        self._starting: asyncio.Task[ServerSession | Unavailable] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<ServerInstance {self.scope!r} {self.life.state} in_flight={self.in_flight}>"

    def advance(self, event: lifecycle.Event) -> None:
        before, self.life = self.life, lifecycle.next(self.life, event, self._host.now())
        if before.state != self.life.state:
            probed = self.session is not None and self.session.era == "legacy"
            self._host.events.state_changed(
                self.scope, self.life.state, before=before.state, probed_legacy=probed
            )

    def unavailable(self, sentence: str, reason: str, *, retry_after: float | None = None) -> Unavailable:
        name = self._host.config.name
        return Unavailable(
            f"The tool server {name} {sentence}", server=name, reason=reason, retry_after=retry_after
        )

    async def ready(self) -> ServerSession:
        """The session; starts the instance if needed, once for all who wait.

        Raises: Unavailable
        """
        while True:
            if self.closed:
                raise self.unavailable("was stopped.", "lost")
            self._refuse_at_once()
            if self.session is not None:
                return self.session
            if self._starting is None:
                await self._wait_for_backoff()
                if self._is_settled():
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

    def _is_settled(self) -> bool:
        """Whether another waiter started it, or it was closed."""
        return self._starting is not None or self.session is not None or self.closed

    def _refuse_at_once(self) -> None:
        """Raise Unavailable in states in which the instance is not started."""
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

    async def _wait_for_backoff(self) -> None:
        """Wait until the backoff is over."""
        if wait := self.life.wait(self._host.now()):
            await asyncio.sleep(wait)

    def _start_ended(self, task: asyncio.Task[ServerSession | Unavailable]) -> None:
        if self._starting is task:
            self._starting = None

    async def _start(self) -> ServerSession | Unavailable:
        host = self._host
        self.advance(lifecycle.Needed())
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
                        known=host.server_catalog.verdict,
                        remote=not local,
                        probe_timeout=host.limits.probe_timeout,
                    )
                    await host.server_catalog.ensure_loaded(self, session)
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
            await self._abandon(session)
            return self._start_failed(error)
        except BaseException:
            await self._abandon(session)
            self.advance(lifecycle.StoppedIdle())
            raise
        self._settle(session)
        await host.server_catalog.store_verdict(verdict)
        return session

    async def _connect(self, *, sse: bool = False) -> ServerSession:
        return await self._host.connect(self, sse=sse)

    async def _abandon(self, session: ServerSession | None) -> None:
        if session is not None:
            await asyncio.shield(asyncio.ensure_future(session.close()))
        self._host.children.free(self)

    def _start_failed(self, error: Exception) -> Unavailable:
        host = self._host
        match error:
            case NoRoom():
                self.advance(lifecycle.StoppedIdle())
                sentence = f"cannot be started: {host.children.limit} processes run, which is the limit."
                return self.unavailable(sentence, "limit", retry_after=1.0)
            case ConnectionLost() | HttpRefused() | era_probe.NoCommonEra():
                reason = error.sentence
            case TimeoutError():
                reason = f"It was not ready within {host.limits.start_timeout:g} seconds."
            case _:
                reason = "Its session ended at once."
        self.advance(lifecycle.StartFailed(reason, host.dice()))
        host.events.failed(self.scope, f"could not be started: {reason}")
        unauthorized = isinstance(error, HttpRefused) and error.status in {401, 403}
        return self.unavailable(
            f"could not be started. {reason}",
            "unauthorized" if unauthorized else "start_failed",
            retry_after=self.life.wait(host.now()) or None,
        )

    def _settle(self, session: ServerSession) -> None:
        self.session = session
        self.starts += 1
        self.started_at = self._host.now()
        self.subscriptions.reset()
        self.advance(lifecycle.Ready())
        session.channel.lost.add_done_callback(lambda lost: self._lost(session, lost.result()))
        self.touch()
        self.run_in_background(self._resume(session))

    def _lost(self, session: ServerSession, sentence: str) -> None:
        """The process exited, or the stream broke."""
        if self.session is not session:
            return
        self.session = None
        self.started_at = None
        self.advance(lifecycle.StartFailed(sentence, self._host.dice()))
        self._host.events.failed(self.scope, f"was lost: {sentence}")
        self._close_session(session)
        if self.subscriptions.wanted and not self.closed:
            self.run_in_background(self._restart())

    async def _restart(self) -> None:
        """Start again without a call, for subscribers, unless it is in a crash loop."""
        while self.subscriptions.wanted and self.session is None:
            try:
                await self.ready()
            except Unavailable:
                if self.life.state != "backoff":
                    return

    def lose(self, session: ServerSession) -> None:
        """A legacy HTTP server forgot its session. This is no failure; the next call starts a new
        one.
        """
        if self.session is session:
            self.session = None
            self.started_at = None
            self.advance(lifecycle.StoppedIdle())
            self._close_session(session)

    def _close_session(self, session: ServerSession) -> asyncio.Task[None]:
        self.subscriptions.stop()
        task = asyncio.get_running_loop().create_task(self._close_and_free(session))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def _close_and_free(self, session: ServerSession) -> None:
        try:
            await session.close()
        finally:
            if self._starting is None and self.session is None:
                self._host.children.free(self)

    @property
    def idle_since(self) -> float | None:
        return (
            None
            if self.in_flight or self.subscriptions.wanted or self._starting is not None
            else self._last_used
        )

    async def stop(self) -> None:
        """Stop the instance; the next call starts it."""
        session, self.session = self.session, None
        self.started_at = None
        self.advance(lifecycle.StoppedIdle())
        if session is not None:
            await asyncio.shield(self._close_session(session))

    async def stop_when_idle(self) -> None:
        """Stop once the running requests have ended. The state stays."""
        while self.in_flight:  # noqa: ASYNC110 - once in a server's life
            await asyncio.sleep(IDLE_POLL_SECONDS)
        await self.stop()

    def touch(self) -> None:
        """Note that the instance was used now."""
        self._last_used = self._host.now()
        if self._timer is None and self._host.config.idle_stop > 0 and self.session is not None:
            self._start_idle_timer(self._host.config.idle_stop)

    def _start_idle_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_idle_timer)

    def _on_idle_timer(self) -> None:
        self._timer = None
        if self.session is None or self.closed:
            return
        since = self.idle_since
        stop_after = self._host.config.idle_stop
        left = stop_after if since is None else since + stop_after - self._host.now()
        if left > 0:
            self._start_idle_timer(left)
        else:
            self.run_in_background(self.stop())

    def run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task that ends with the instance."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """Stop for good. Running requests fail as lost."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
            await asyncio.sleep(0)
        await self.stop()
        if self._ending:
            await asyncio.wait(set(self._ending))
        await self.subscriptions.close()
        for task in list(self._background):
            task.cancel()
        if self._background:
            await asyncio.wait(set(self._background))

    async def _resume(self, session: ServerSession) -> None:
        """After a start, renew the subscriptions and load lists that were only stored."""
        with contextlib.suppress(ConnectionLost, HttpRefused, SessionGone):
            await self.subscriptions.apply()
            await self._host.server_catalog.refresh(self, session)

    async def _reload_missed(self, session: ServerSession) -> None:
        await self._host.server_catalog.refresh(self, session, missed=True)
