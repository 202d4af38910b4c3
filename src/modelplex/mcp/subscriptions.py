"""Subscribers to changes: legacy sessions and modern subscriptions, each notified of what it may
see.

A server is asked to watch the resources of all subscribers together. Notifying never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from modelplex.mcp.constants import META_SUBSCRIPTION, Json, NotificationHandler, Unavailable
from modelplex.mcp.tool_server import ToolServer

LIST_CHANGED: Final[Mapping[str, str]] = {
    "notifications/tools/list_changed": "toolsListChanged",
    "notifications/prompts/list_changed": "promptsListChanged",
    "notifications/resources/list_changed": "resourcesListChanged",
}
"""Each list notification and the name of its subscription."""
UPDATED: Final = "notifications/resources/updated"
MAX_URIS: Final = 1_000
"""Resources per subscriber: each is stored here and at its server."""

URIS_OF_CALLER: Final = 4_000
"""Resources of all subscribers of one caller: each change is looked up among all of them."""

Watched = tuple[ToolServer, str, str]
"""Server, scope, URI."""


class Subscriber:
    """`owner` is the caller's; `sees` tells whether a server's change is visible; `id` is a modern
    subscription's, None for a session.
    """

    def __init__(
        self,
        send: NotificationHandler,
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

    def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Send a notification; a modern one names its subscription."""
        message: Json = {"jsonrpc": "2.0", "method": method}
        body = dict(params or {})
        if self._id is not None:
            body["_meta"] = {**body.get("_meta", {}), META_SUBSCRIPTION: self._id}
        if body:
            message["params"] = body
        self._send(message)


class Subscriptions:
    """All subscribers. `on_failure` takes a server that could not be asked to watch, and the
    reason.
    """

    def __init__(self, *, on_failure: Callable[[str, str], None]) -> None:
        self._on_failure = on_failure
        self._all: dict[Subscriber, None] = {}
        self._watched_at: dict[tuple[ToolServer, str], frozenset[str]] = {}
        self._updating: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Subscriptions of {len(self._all)}>"

    def __len__(self) -> int:
        return len(self._all)

    def add(self, subscriber: Subscriber) -> None:
        self._all[subscriber] = None

    def watched_by(self, owner: str) -> int:
        """The number of resources that a caller watches."""
        return sum(len(each.watched) for each in self._all if each.owner == owner)

    def remove(self, subscriber: Subscriber) -> None:
        if self._all.pop(subscriber, True) is None:
            self._update_servers(subscriber.watched)

    def changed(self, server: str, method: str) -> None:
        """Announce a changed list of this server."""
        kind = LIST_CHANGED[method]
        for subscriber in tuple(self._all):
            if kind in subscriber.kinds and subscriber.sees(server, kind):
                subscriber.notify(method)

    def updated(self, upstream: ToolServer, scope: str, params: Mapping[str, Any]) -> None:
        """Announce a change of a watched resource, or of one below it."""
        uri = params.get("uri")
        if not isinstance(uri, str):
            return
        for subscriber in tuple(self._all):
            if any(
                upstream is b and scope == c and (uri == u or uri.startswith(u.rstrip("/") + "/"))
                for b, c, u in subscriber.watched
            ):
                subscriber.notify(UPDATED, params)

    async def watch(self, subscriber: Subscriber, wanted: Iterable[Watched]) -> None:
        """Watch more resources. Raises Unavailable if a server could not be asked; then nothing is
        added.
        """
        new = set(wanted) - subscriber.watched
        subscriber.watched |= new
        try:
            for key in {(upstream, scope) for upstream, scope, _ in new}:
                await self._watch_at_server(*key)
        except BaseException:
            subscriber.watched -= new
            raise

    async def unwatch(self, subscriber: Subscriber, watched: Watched) -> None:
        subscriber.watched.discard(watched)
        with suppress(Unavailable):  # it does not run, so it announces nothing
            await self._watch_at_server(*watched[:2])

    def _update_servers(self, watched: Iterable[Watched]) -> None:
        """Without waiting: the subscriber is gone."""
        for upstream, scope in {(upstream, scope) for upstream, scope, _ in watched}:
            task = asyncio.ensure_future(self._watch_at_server_quietly(upstream, scope))
            self._updating.add(task)
            task.add_done_callback(self._updating.discard)

    async def _watch_at_server_quietly(self, upstream: ToolServer, scope: str) -> None:
        try:
            await self._watch_at_server(upstream, scope)
        except Unavailable as error:
            self._on_failure(upstream.name, error.sentence)

    async def _watch_at_server(self, upstream: ToolServer, scope: str) -> None:
        """Have the server watch what all subscribers want, if that has changed."""
        key = (upstream, scope)
        uris = frozenset(uri for subscriber in self._all for b, c, uri in subscriber.watched if (b, c) == key)
        if uris == self._watched_at.get(key, frozenset()):
            return
        before = self._watched_at.get(key, frozenset())
        self._watched_at[key] = uris
        try:
            await upstream.watch(uris, scope=scope)
        except BaseException:
            self._watched_at[key] = before
            raise
        if not uris:
            del self._watched_at[key]

    def close(self) -> None:
        for task in tuple(self._updating):
            task.cancel()
