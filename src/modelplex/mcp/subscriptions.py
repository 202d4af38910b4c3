"""Who wants to hear of changes: legacy sessions and modern subscriptions, each told once of what
they may see.

Above it stands the hub; below it the servers, which are asked to watch the resources that anybody
wants, all of them together. A subscriber that cannot be told any more is its front's to drop:
telling never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from modelplex.mcp.constants import META_SUBSCRIPTION, Json, Told, Unavailable
from modelplex.mcp.tool_server import ToolServer

LIST_CHANGED: Final[Mapping[str, str]] = {
    "notifications/tools/list_changed": "toolsListChanged",
    "notifications/prompts/list_changed": "promptsListChanged",
    "notifications/resources/list_changed": "resourcesListChanged",
}
"""The notification of each kind of list, and the word that a subscription has for it."""
UPDATED: Final = "notifications/resources/updated"
MAX_URIS: Final = 1_000
"""Resources that one subscriber may watch: each is remembered here and at its server."""

URIS_OF_CALLER: Final = 4_000
"""Resources that all subscribers of one caller may watch together: each change is looked up among
those of everybody.
"""

Watched = tuple[ToolServer, str, str]
"""Server, scope, URI."""


class Subscriber:
    """One who is told. `owner` is the caller's; `sees` says whether what a server changed is any of
    theirs; `id` is a modern subscription's, None for a session.
    """

    def __init__(
        self,
        send: Told,
        *,
        kinds: Collection[str],
        sees: Callable[[str, str], bool],
        owner: str = "",
        id: str | int | None = None,
    ) -> None:
        self.owner = owner
        self._send = send
        self.kinds = frozenset(kinds)
        self.sees = sees
        self.watched: set[Watched] = set()
        self._id = id

    def __repr__(self) -> str:
        return f"<Subscriber {self._id!r} to {sorted(self.kinds)}, {len(self.watched)} resources>"

    def tell(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """A notification; on a modern subscription it names that."""
        message: Json = {"jsonrpc": "2.0", "method": method}
        body = dict(params or {})
        if self._id is not None:
            body["_meta"] = {**body.get("_meta", {}), META_SUBSCRIPTION: self._id}
        if body:
            message["params"] = body
        self._send(message)


class Subscriptions:
    """All subscribers. `failed` is told where a server could not be asked to watch."""

    def __init__(self, *, failed: Callable[[str, str], None]) -> None:
        self._failed = failed
        self._all: dict[Subscriber, None] = {}
        self._told: dict[tuple[ToolServer, str], frozenset[str]] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Subscriptions of {len(self._all)}>"

    def __len__(self) -> int:
        return len(self._all)

    def add(self, subscriber: Subscriber) -> None:
        self._all[subscriber] = None

    def watched_by(self, owner: str) -> int:
        """How many resources a caller watches, with all its subscribers."""
        return sum(len(each.watched) for each in self._all if each.owner == owner)

    def remove(self, subscriber: Subscriber) -> None:
        if self._all.pop(subscriber, True) is None:
            self._tell_servers(subscriber.watched)

    # --- what servers say -------------------------------------------------------------------------

    def changed(self, server: str, method: str) -> None:
        """A list of this server is another one now."""
        kind = LIST_CHANGED[method]
        for subscriber in tuple(self._all):
            if kind in subscriber.kinds and subscriber.sees(server, kind):
                subscriber.tell(method)

    def updated(self, back: ToolServer, scope: str, params: Mapping[str, Any]) -> None:
        """A resource that somebody watches changed, or one below it."""
        uri = params.get("uri")
        if not isinstance(uri, str):
            return
        for subscriber in tuple(self._all):
            if any(
                back is b and scope == c and (uri == u or uri.startswith(u.rstrip("/") + "/"))
                for b, c, u in subscriber.watched
            ):
                subscriber.tell(UPDATED, params)

    # --- what is watched --------------------------------------------------------------------------

    async def watch(self, subscriber: Subscriber, wanted: Iterable[Watched]) -> None:
        """Raises Unavailable where a server could not be asked; then nothing more is watched than
        before.
        """
        new = set(wanted) - subscriber.watched
        subscriber.watched |= new
        try:
            for key in {(back, scope) for back, scope, _ in new}:
                await self._ask(*key)
        except BaseException:
            subscriber.watched -= new
            raise

    async def unwatch(self, subscriber: Subscriber, watched: Watched) -> None:
        subscriber.watched.discard(watched)
        with suppress(Unavailable):  # it does not run, so it tells nobody anything
            await self._ask(*watched[:2])

    def _tell_servers(self, watched: Iterable[Watched]) -> None:
        """Without waiting: the one who watched is gone."""
        for back, scope in {(back, scope) for back, scope, _ in watched}:
            task = asyncio.ensure_future(self._ask_quietly(back, scope))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _ask_quietly(self, back: ToolServer, scope: str) -> None:
        try:
            await self._ask(back, scope)
        except Unavailable as error:
            self._failed(back.name, error.sentence)

    async def _ask(self, back: ToolServer, scope: str) -> None:
        """Have the server watch what is wanted by all, unless that is what it was asked last."""
        key = (back, scope)
        uris = frozenset(uri for subscriber in self._all for b, c, uri in subscriber.watched if (b, c) == key)
        if uris == self._told.get(key, frozenset()):
            return
        before = self._told.get(key, frozenset())
        self._told[key] = uris
        try:
            await back.watch(uris, scope=scope)
        except BaseException:
            self._told[key] = before
            raise
        if not uris:
            del self._told[key]

    def close(self) -> None:
        for task in tuple(self._telling):
            task.cancel()
