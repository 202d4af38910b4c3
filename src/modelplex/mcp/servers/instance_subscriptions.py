"""Subscribes one instance of a server to resource updates and list changes, in either era."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, cast

from modelplex.mcp.constants import Json
from modelplex.mcp.servers.background import BackgroundTasks
from modelplex.mcp.servers.channel import ConnectionLost, HttpRefused, RequestOptions
from modelplex.mcp.servers.session import ServerSession

if TYPE_CHECKING:
    from modelplex.mcp.servers.instance import ServerInstance

LISTEN_PAUSE: Final = 1.0
"""Seconds before an ended subscription stream is opened again; doubles each time in a row."""
MAX_LISTEN_PAUSE: Final = 60.0
ACKNOWLEDGE_SECONDS: Final = 5.0
"""Seconds to wait for the acknowledgement of a changed subscription, which may come later."""


class InstanceSubscriptions:
    """`wanted` are the URIs of the resources to watch."""

    def __init__(self, instance: ServerInstance) -> None:
        self.wanted: frozenset[str] = frozenset()
        self._instance = instance
        self._subscribed: frozenset[str] = frozenset()
        self._listening: asyncio.Task[None] | None = None
        self._tasks = BackgroundTasks()
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<InstanceSubscriptions to {len(self._subscribed)} of {len(self.wanted)}>"

    def reset(self) -> None:
        """A new session has begun: the server knows no subscription."""
        self._subscribed = frozenset()

    def stop(self) -> None:
        """The session has ended."""
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None

    async def apply(self) -> None:
        """Subscribe to what is wanted now. Raises ConnectionLost, HttpRefused or SessionGone."""
        async with self._lock:
            session = self._instance.session
            if session is None:
                return
            wanted = self.wanted  # it may change while this waits; the next `apply` sees that
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
                        self._warn(method, reply.error)
            self._subscribed = wanted

    def _warn(self, method: str, error: Json) -> None:
        text = f"{method} failed with error {error['code']}."
        self._instance.host.events.warn(text, scope=self._instance.scope)

    async def close(self) -> None:
        await self._tasks.cancel()

    async def _listen(self, session: ServerSession, wanted: frozenset[str]) -> None:
        """One stream has all subscriptions. A change opens a new one, then closes the old."""
        notifications = _notification_filter(session.capabilities, wanted)
        if self._listening is not None and self._subscribed == wanted and not self._listening.done():
            return
        old, self._listening = self._listening, None
        if notifications:
            acknowledged = asyncio.get_running_loop().create_future()
            self._listening = self._tasks.start(self._hold_stream(session, notifications, acknowledged))
            await asyncio.wait([acknowledged], timeout=ACKNOWLEDGE_SECONDS)
        self._subscribed = wanted
        if old is not None:
            old.cancel()

    async def _hold_stream(
        self, session: ServerSession, notifications: Json, acknowledged: asyncio.Future[None]
    ) -> None:
        """Keep the stream open while the session lasts."""

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
                    options = RequestOptions(on_notification=on_notification)
                    reply = await session.request(
                        "subscriptions/listen", {"notifications": notifications}, options
                    )
                    if reply.error is not None:
                        self._warn("subscriptions/listen", reply.error)
                        return
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_LISTEN_PAUSE)
                # Changes during the gap were not announced.
                with contextlib.suppress(ConnectionLost, HttpRefused):
                    await self._instance.host.server_catalog.refresh(self._instance, session, missed=True)
        finally:
            if not acknowledged.done():
                acknowledged.set_result(None)


def _notification_filter(capabilities: Json, uris: frozenset[str]) -> Json:
    """The filter of `subscriptions/listen`: the list changes that the server announces, and the
    wanted resources.
    """
    wanted: Json = {}
    for name in ("tools", "prompts", "resources"):
        offered = capabilities.get(name)
        if isinstance(offered, dict) and cast("Json", offered).get("listChanged") is True:
            wanted[f"{name}ListChanged"] = True
    if uris:
        wanted["resourceSubscriptions"] = sorted(uris)
    return wanted
