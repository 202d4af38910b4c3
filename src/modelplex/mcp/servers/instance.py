"""One instance of a server: the process or HTTP session of one scope. Started once for all waiting
callers, stopped when idle.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from modelplex.mcp.constants import Unavailable
from modelplex.mcp.servers import era_probe, lifecycle
from modelplex.mcp.servers.background import BackgroundTasks
from modelplex.mcp.servers.channel import ConnectionLost, HttpRefused, ServerError, SignInNeeded
from modelplex.mcp.servers.instance_subscriptions import InstanceSubscriptions
from modelplex.mcp.servers.lifecycle import Life
from modelplex.mcp.servers.process_table import NoRoom
from modelplex.mcp.servers.session import ServerSession

if TYPE_CHECKING:
    from modelplex.mcp.servers.server import ManagedServer


class ServerInstance:
    def __init__(self, host: ManagedServer, *, scope: str, life: Life) -> None:
        self.scope = scope
        self.life = life
        self.session: ServerSession | None = None
        self.started_at: float | None = None
        self.starts = 0
        self.in_flight = 0
        self.subscriptions = InstanceSubscriptions(self)
        self.closed = False
        self.background = BackgroundTasks()
        """Tasks that are cancelled when the instance is closed."""
        self.host = host
        self._last_used = host.now()
        self._starting: asyncio.Task[ServerSession | Unavailable] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing = BackgroundTasks()

    def __repr__(self) -> str:
        return f"<ServerInstance {self.scope!r} {self.life.state} in_flight={self.in_flight}>"

    def advance(self, event: lifecycle.Event) -> None:
        before, self.life = self.life, lifecycle.next(self.life, event, self.host.now())
        if before.state != self.life.state:
            probed = self.session is not None and self.session.era == "legacy"
            self.host.events.state_changed(
                self.scope, self.life.state, before=before.state, probed_legacy=probed
            )

    def unavailable(self, sentence: str, reason: str, *, retry_after: float | None = None) -> Unavailable:
        name = self.host.config.name
        return Unavailable(
            f"The tool server {name} {sentence}", server=name, reason=reason, retry_after=retry_after
        )

    # Start.

    async def ready(self) -> ServerSession:
        """The session; starts the instance if needed, once for all who wait.

        Raises: Unavailable
        """
        while True:
            self._refuse_at_once()
            if self.session is not None:
                return self.session
            if self._starting is None:
                if wait := self.life.wait(self.host.now()):
                    await asyncio.sleep(wait)
                    continue  # another caller may have started it, or it was closed
                self._starting = asyncio.get_running_loop().create_task(self._start())
                self._starting.add_done_callback(self._start_ended)
            outcome = await asyncio.shield(self._starting)
            if isinstance(outcome, Unavailable):
                # Each waiter raises an exception of its own: a shared one would collect tracebacks.
                raise Unavailable(
                    outcome.sentence,
                    server=outcome.server,
                    reason=outcome.reason,
                    retry_after=outcome.retry_after,
                )

    def _refuse_at_once(self) -> None:
        """Raise Unavailable if the instance may not be started."""
        if self.closed:
            raise self.unavailable("was stopped.", "lost")
        if self.life.state == "crash_loop" and (wait := self.life.wait(self.host.now())):
            sentence = f"has failed {lifecycle.CRASHES} times in a row and is not started for now."
            if self.life.error:
                sentence += f" {self.life.error}"
            raise self.unavailable(sentence, "crash_loop", retry_after=wait)

    def _start_ended(self, task: asyncio.Task[ServerSession | Unavailable]) -> None:
        if self._starting is task:
            self._starting = None

    async def _start(self) -> ServerSession | Unavailable:
        host = self.host
        self.advance("needed")
        await self._closing.wait()
        session: ServerSession | None = None
        try:
            local = host.config.command is not None
            if local:
                await host.children.take(self)
            async with host.children.start_slot() if local else contextlib.nullcontext():
                async with asyncio.timeout(host.limits.start_timeout):
                    session, era = await era_probe.connect_session(
                        partial(host.connect, self),
                        protocol=host.config.protocol,
                        stored=host.server_catalog.known_era,
                        remote=not local,
                        probe_timeout=host.limits.probe_timeout,
                    )
                    await host.server_catalog.ensure_loaded(self, session)
            if session.channel.lost.done():
                raise ConnectionLost(session.channel.lost.result())
        except BaseException as error:
            if session is not None:
                await asyncio.shield(asyncio.ensure_future(session.close()))
            host.children.free(self)
            if not isinstance(error, ServerError | TimeoutError | NoRoom):
                self.advance("stopped")
                raise
            return self._start_failed(error)
        self._started(session)
        await host.server_catalog.store_era(era)
        return session

    def _start_failed(self, error: ServerError | TimeoutError | NoRoom) -> Unavailable:
        host = self.host
        if isinstance(error, NoRoom):
            self.advance("stopped")
            sentence = f"cannot be started: {host.children.limit} processes run, which is the limit."
            return self.unavailable(sentence, "limit", retry_after=1.0)
        if isinstance(error, ServerError):
            reason = error.sentence
        else:
            reason = f"It was not ready within {host.limits.start_timeout:g} seconds."
        if isinstance(error, SignInNeeded):
            self.advance(lifecycle.SignInMissing(reason))
        else:
            self.advance(lifecycle.StartFailed(reason, host.random()))
        host.events.failed(self.scope, f"could not be started: {reason}")
        unauthorized = isinstance(error, HttpRefused) and error.status in {401, 403}
        return self.unavailable(
            f"could not be started. {reason}",
            "unauthorized" if unauthorized else "start_failed",
            retry_after=self.life.wait(host.now()) or None,
        )

    def _started(self, session: ServerSession) -> None:
        self.session = session
        self.starts += 1
        self.started_at = self.host.now()
        self.subscriptions.reset()
        self.advance("ready")
        session.channel.lost.add_done_callback(lambda lost: self._connection_lost(session, lost.result()))
        self.touch()
        self.background.start(self._resume(session))

    async def _resume(self, session: ServerSession) -> None:
        """After a start, renew the subscriptions and load lists that were only stored."""
        with contextlib.suppress(ServerError):
            await self.subscriptions.apply()
            await self.host.server_catalog.refresh(self, session)

    # End.

    def _connection_lost(self, session: ServerSession, sentence: str) -> None:
        """The process exited, or the stream broke."""
        if self._end_session(session, lifecycle.StartFailed(sentence, self.host.random())):
            self.host.events.failed(self.scope, f"was lost: {sentence}")
            if self.subscriptions.wanted and not self.closed:
                self.background.start(self._restart())

    def session_expired(self, session: ServerSession) -> None:
        """A legacy HTTP server ended its session. This is no failure; the next call starts a new
        one.
        """
        self._end_session(session, "stopped")

    def _end_session(self, session: ServerSession, event: lifecycle.Event) -> bool:
        """Close a session; False if it is not the present one."""
        if self.session is not session:
            return False
        self.session = self.started_at = None
        self.advance(event)
        self._close_session(session)
        return True

    async def _restart(self) -> None:
        """Start again without a call, for subscribers, unless it is in a crash loop."""
        while self.subscriptions.wanted and self.session is None:
            try:
                await self.ready()
            except Unavailable:
                if self.life.state != "backoff":
                    return

    def _close_session(self, session: ServerSession) -> asyncio.Task[None]:
        self.subscriptions.stop()
        return self._closing.start(self._close_and_free(session))

    async def _close_and_free(self, session: ServerSession) -> None:
        try:
            await session.close()
        finally:
            if self._starting is None and self.session is None:
                self.host.children.free(self)

    async def stop(self) -> None:
        """Stop the instance; the next call starts it."""
        session, self.session = self.session, None
        self.started_at = None
        self.advance("stopped")
        if session is not None:
            await asyncio.shield(self._close_session(session))

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
        await self._closing.wait()
        await self.subscriptions.close()
        await self.background.cancel()

    # Idleness.

    @property
    def idle_since(self) -> float | None:
        """The time of the last use; None while it is in use."""
        in_use = self.in_flight or self.subscriptions.wanted or self._starting is not None
        return None if in_use else self._last_used

    def touch(self) -> None:
        """Note that the instance was used now."""
        self._last_used = self.host.now()
        if self._timer is None and self.host.config.idle_stop > 0 and self.session is not None:
            self._start_idle_timer(self.host.config.idle_stop)

    def _start_idle_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_idle_timer)

    def _on_idle_timer(self) -> None:
        self._timer = None
        if self.session is None or self.closed:
            return
        since = self.idle_since
        stop_after = self.host.config.idle_stop
        left = stop_after if since is None else since + stop_after - self.host.now()
        if left > 0:
            self._start_idle_timer(left)
        else:
            self.background.start(self.stop())
