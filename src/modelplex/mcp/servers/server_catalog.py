"""The lists of one tool server: loaded, stored on disk, loaded again when the server changes them.

Also passes notifications that belong to no request to all listeners; a `list_changed` after the
list was loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from modelplex.mcp.constants import META_SUBSCRIPTION, Catalog, Json
from modelplex.mcp.servers.background import BackgroundTasks
from modelplex.mcp.servers.cache import DiskCache, ServerEra, fingerprint
from modelplex.mcp.servers.channel import ConnectionLost, SessionGone
from modelplex.mcp.servers.instance import ServerInstance
from modelplex.mcp.servers.listing import CHANGES, METHODS, Kind, load
from modelplex.mcp.servers.session import ServerSession

if TYPE_CHECKING:
    from modelplex.mcp.servers.server import ManagedServer

FRESH_SECONDS: Final = 60.0
"""Age of a list that is not loaded again at the next start of a process."""
CHANGE_PAUSE: Final = 0.1
"""Seconds between two loads for a server whose lists keep changing; doubles each time in a row."""
MAX_CHANGE_PAUSE: Final = 30.0


class ServerCatalog:
    """The catalog of one server and its protocol era, shared by all its instances."""

    def __init__(self, host: ManagedServer, *, cache: DiskCache | None) -> None:
        self.current: Catalog | None = None
        """From the disk or from the server. Replaced whole, never changed."""
        self.known_era: ServerEra | None = None
        self.late = False
        """Whether the last load of the lists took long, also in an earlier run. Callers do not wait
        for such a server.
        """
        self.confirmed = False
        """Whether `current` came from the server in this run."""
        self._host = host
        self._cache = cache
        self._callbacks: dict[object, Callable[[str, Json], None]] = {}
        self._fingerprint = ""
        self._loading: asyncio.Task[None] | None = None
        self._loaded_at = 0.0
        self._refreshing: asyncio.Task[None] | None = None
        self._pending_changes: dict[tuple[str, str], Json] = {}
        self._storing = asyncio.Lock()
        self._background = BackgroundTasks()

    def __repr__(self) -> str:
        state = "none" if self.current is None else "confirmed" if self.confirmed else "stored"
        return f"<ServerCatalog of {self._host.config.name}, {state}>"

    async def load_stored(self) -> Catalog | None:
        """Read the stored catalog, once. Starts nothing."""
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load_stored())
        if not self._loading.done():
            await asyncio.shield(self._loading)
        return self.current

    async def _load_stored(self) -> None:
        self._fingerprint = await asyncio.to_thread(
            fingerprint, self._host.config, environ=self._host.environ
        )
        if self._cache is not None and self.current is None:
            self.current, self.known_era = await self._cache.load(self._fingerprint)
            self.late = self.current is None and await self._cache.is_late(self._fingerprint)
            if self.current is not None:
                self._host.mark_cataloged()

    def listen(self, callback: Callable[[str, Json], None]) -> Callable[[], None]:
        """Call back with messages that belong to no request: (scope, whole message). After a
        `list_changed`, the catalog is loaded first. Returns a function that ends this.
        """
        key = object()
        self._callbacks[key] = callback

        def end() -> None:
            self._callbacks.pop(key, None)

        return end

    async def store_era(self, era: ServerEra) -> None:
        """Store the protocol era if it is new."""
        if era != self.known_era:
            self.known_era = era
            await self._store()

    async def _store(self) -> None:
        if self._cache is not None:
            async with self._storing:  # of two concurrent writes, the older could win
                await self._cache.store(self._fingerprint, self.current, self.known_era)
                await self._cache.set_late(self._fingerprint, late=self.late)

    def set_late(self) -> None:
        """Store that the lists take long, until they are loaded."""
        if not self.late and self.current is None:
            self.late = True
            self._background.start(self._store())

    async def ensure_loaded(self, instance: ServerInstance, session: ServerSession) -> None:
        """Load the lists before the first request if none are known."""
        if self.current is None:
            await self.load_lists(instance, session, tuple(METHODS))

    async def refresh(
        self, instance: ServerInstance, session: ServerSession, *, missed: bool = False
    ) -> None:
        """Load stored lists again, and announce differences. `missed`: changes may have been
        announced while no stream was open.
        """
        if self.confirmed and not missed and self._host.now() - self._loaded_at < FRESH_SECONDS:
            return
        before = self.current
        await self.load_lists(instance, session, tuple(METHODS))
        for method, kinds in CHANGES.items():
            if before is not None and any(
                getattr(before, kind) != getattr(self.current, kind) for kind in kinds
            ):
                self._broadcast(instance.scope, {"jsonrpc": "2.0", "method": method})

    async def reload(self, instance: ServerInstance, session: ServerSession, kinds: tuple[Kind, ...]) -> None:
        try:
            await self.load_lists(instance, session, kinds)
        except ConnectionLost as lost:
            raise instance.unavailable(f"was lost while it listed. {lost.sentence}", "lost") from None
        except SessionGone:
            instance.session_expired(session)
            raise instance.unavailable("has ended the session.", "lost") from None

    async def load_lists(
        self, instance: ServerInstance, session: ServerSession, kinds: tuple[Kind, ...]
    ) -> None:
        catalog = await load(
            session,
            limits=self._host.limits,
            old=self.current,
            kinds=kinds,
            warn=lambda text: self._host.events.warn(text, scope=instance.scope),
        )
        self.confirmed = True
        self._loaded_at = self._host.now()
        if catalog != self.current:
            self.current = catalog
            self.late = False
            self._host.events.emit("list", f"{len(catalog.tools)} tools", scope=instance.scope, level="debug")
            await self._store()

    def receive(self, instance: ServerInstance, message: Json) -> None:
        message = _without_subscription_id(message)
        method = str(message.get("method"))
        if method not in CHANGES:
            self._broadcast(instance.scope, message)
            return
        self._pending_changes[instance.scope, method] = message
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._follow_changes())

    async def _follow_changes(self) -> None:
        """Load changed lists. Changes during a load cause one more load."""
        pause = CHANGE_PAUSE
        while self._pending_changes:
            pending, self._pending_changes = self._pending_changes, {}
            for scope in {scope for scope, _ in pending}:
                kinds: tuple[Kind, ...] = tuple(
                    kind for of, method in pending if of == scope for kind in CHANGES[method]
                )
                instance = self._host.instances.get(scope)
                # A start loads the lists itself.
                if instance is None or instance.session is None:
                    continue
                with contextlib.suppress(ConnectionLost, SessionGone):
                    await self.load_lists(instance, instance.session, kinds)
            for (scope, _), message in pending.items():
                self._broadcast(scope, message)
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_CHANGE_PAUSE)

    def _broadcast(self, scope: str, message: Json) -> None:
        for callback in list(self._callbacks.values()):
            callback(scope, message)

    async def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})
        await self._background.wait()


def _without_subscription_id(message: Json) -> Json:
    """The message without the id of the gateway's own subscription."""
    params = message.get("params")
    inside = cast("Json", params) if isinstance(params, dict) else {}
    meta = inside.get("_meta")
    if not isinstance(meta, dict) or META_SUBSCRIPTION not in meta:
        return message
    rest = {key: value for key, value in cast("Json", meta).items() if key != META_SUBSCRIPTION}
    bare = {key: value for key, value in inside.items() if key != "_meta"}
    return {**message, "params": {**bare, **({"_meta": rest} if rest else {})}}
