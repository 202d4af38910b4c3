"""Sessions with their log level and subscriptions, modern subscriptions, and server messages that
belong to no request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final, cast

from modelplex.mcp import era_translation
from modelplex.mcp.advertised import AdvertisedCapabilities
from modelplex.mcp.checked_catalogs import Report
from modelplex.mcp.constants import META_SUBSCRIPTION, Json, McpClient, McpReply, Unavailable
from modelplex.mcp.progress_sink import LEVELS, MESSAGE, PROGRESS
from modelplex.mcp.relay import Relay
from modelplex.mcp.request_context import ToolRequestContext, invalid, unlisted
from modelplex.mcp.routing import ToolRoutes
from modelplex.mcp.running_calls import RETRY_AFTER
from modelplex.mcp.server_output import LogAllowance
from modelplex.mcp.subscriptions import (
    LIST_CHANGED,
    MAX_URIS,
    UPDATED,
    URIS_OF_CALLER,
    Subscriber,
    Subscriptions,
)
from modelplex.mcp.tasks import EXTENSION, STATUS, HeldTask, Tasks, related_to
from modelplex.mcp.tool_server import ToolServer

MAX_SUBSCRIPTIONS: Final = 16
"""Modern subscriptions of one caller: a client needs one, and each is an open stream."""
LOGGED_CHARACTERS: Final = 500
"""Characters of a server's log message in the gateway's own log."""
CAPABILITY_OF_SUBSCRIPTION: Final = {
    "toolsListChanged": "tools",
    "promptsListChanged": "prompts",
    "resourcesListChanged": "resources",
}
"""The capability that each kind of subscription needs."""

Channel = Callable[[Json], None]
"""Takes messages that belong to no request: a legacy client's GET stream, or its one connection."""


class SessionSubscriptions:
    """The state of a legacy session."""

    def __init__(self) -> None:
        self.level: str | None = None
        self.subscriber: Subscriber | None = None


class Streams:
    """`report` takes a server's name and a sentence, for the log."""

    def __init__(
        self,
        upstreams: Mapping[str, ToolServer],
        *,
        routes: ToolRoutes,
        surface: AdvertisedCapabilities,
        relay: Relay,
        tasks: Tasks,
        report: Report,
    ) -> None:
        self._upstreams = upstreams
        self._routes = routes
        self._surface = surface
        self._relay = relay
        self._tasks = tasks
        self._report = report
        self._subscriptions = Subscriptions(on_failure=report)
        self._sessions: dict[str, SessionSubscriptions] = {}
        self._listeners: dict[str, int] = {}
        self._log_allowances: dict[str, LogAllowance] = {}
        self._ended = asyncio.Event()
        self._changed_lists: dict[str, set[str]] = {}
        self._refreshing: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Streams of {len(self._sessions)} sessions, {self._subscriptions!r}>"

    def open_session(self, client: McpClient, *, route: str | None, channel: Channel) -> None:
        session = self._session(client)
        globs = client.caller.tools
        session.subscriber = Subscriber(
            channel,
            owner=client.caller.owner,
            kinds=LIST_CHANGED.values(),
            sees=lambda name, kind: self._is_visible(globs, route, name, kind),
        )
        self._subscriptions.add(session.subscriber)

    def close_session(self, client: McpClient) -> None:
        session = self._sessions.pop(client.session, None)
        if session is not None and session.subscriber is not None:
            self._subscriptions.remove(session.subscriber)

    def level_of(self, client: McpClient) -> str | None:
        """The log level that a session has set, or None."""
        session = self._sessions.get(client.session)
        return session.level if session is not None else None

    async def set_level(self, context: ToolRequestContext) -> McpReply:
        level = context.params.get("level")
        if level not in LEVELS:
            return invalid(f"level must be one of {', '.join(LEVELS)}")
        self._session(context.client).level = level
        return McpReply(result={})

    def _session(self, client: McpClient) -> SessionSubscriptions:
        return self._sessions.setdefault(client.session, SessionSubscriptions())

    async def subscribe(self, context: ToolRequestContext) -> McpReply:
        uri = context.params.get("uri")
        if not isinstance(uri, str):
            return invalid("resources/subscribe takes a uri")
        subscriber = self._session(context.client).subscriber
        if subscriber is None:
            return invalid("resources/subscribe comes after notifications/initialized")
        if len(subscriber.watched) >= MAX_URIS:
            raise Unavailable(f"A session watches at most {MAX_URIS} resources.", server="", reason="limit")
        if not self._uris_left(context.client.caller.owner):
            sentence = f"A caller watches at most {URIS_OF_CALLER} resources."
            raise Unavailable(sentence, server="", reason="limit")
        owner = (await self._routes.loaded(context.globs, context.route)).merged.owner(uri)
        if owner is None:
            return unlisted(context, uri)
        await self._subscriptions.watch(
            subscriber, [(*self._relay.instance_of(self._upstreams[owner], context.client), uri)]
        )
        return McpReply(result={})

    def _uris_left(self, owner: str) -> int:
        """The number of resources that a caller may still watch."""
        return max(0, URIS_OF_CALLER - self._subscriptions.watched_by(owner))

    async def unsubscribe(self, context: ToolRequestContext) -> McpReply:
        uri = context.params.get("uri")
        subscriber = self._session(context.client).subscriber
        for watched in tuple(subscriber.watched) if subscriber is not None else ():
            if watched[2] == uri and subscriber is not None:
                await self._subscriptions.unwatch(subscriber, watched)
        return McpReply(result={})

    async def listen(self, context: ToolRequestContext) -> McpReply:
        """Runs until the client is gone or the gateway ends."""
        wanted: object = context.params.get("notifications")
        if not isinstance(wanted, dict):
            return invalid("subscriptions/listen takes an object of notifications")
        owner = context.client.caller.owner
        if self._listeners.get(owner, 0) >= MAX_SUBSCRIPTIONS:
            raise Unavailable(
                f"A caller has at most {MAX_SUBSCRIPTIONS} subscriptions.",
                server="",
                reason="limit",
                retry_after=RETRY_AFTER,
            )
        self._listeners[owner] = self._listeners.get(owner, 0) + 1
        try:
            return await self._subscribe_until_closed(context, cast("Json", wanted))
        finally:
            self._listeners[owner] -= 1
            if not self._listeners[owner]:
                del self._listeners[owner]

    async def _subscribe_until_closed(self, context: ToolRequestContext, wanted: Json) -> McpReply:
        view = await self._routes.known_soon(context.globs, context.route)
        offered = self._surface.capabilities(context, view)
        kinds = [
            word
            for word, kind in CAPABILITY_OF_SUBSCRIPTION.items()
            if wanted.get(word) is True and kind in offered
        ]
        granted: Json = dict.fromkeys(kinds, True)
        uris: object = wanted.get("resourceSubscriptions")
        owners = {
            uri: owner
            for uri in cast("list[object]", uris if isinstance(uris, list) else [])[
                : min(MAX_URIS, self._uris_left(context.client.caller.owner))
            ]
            if isinstance(uri, str) and (owner := view.merged.owner(uri)) is not None
        }
        if owners:
            granted["resourceSubscriptions"] = list(owners)
        wished = wanted.get("taskIds")
        held: dict[str, HeldTask] = {
            name: found
            for name in cast("list[object]", wished if isinstance(wished, list) else [])[:MAX_URIS]
            if isinstance(name, str)
            and (found := self._tasks.find(name, client=context.client, route=context.route)) is not None
            and self._upstreams.get(found.upstream.name) is found.upstream
        }
        if held:
            granted["taskIds"] = list(held)
        globs, route = context.globs, context.route
        subscriber = Subscriber(
            context.client.send,
            owner=context.client.caller.owner,
            kinds=kinds,
            sees=lambda name, kind: self._is_visible(globs, route, name, kind),
            id=context.id,
        )
        subscriber.notify("notifications/subscriptions/acknowledged", {"notifications": granted})
        self._subscriptions.add(subscriber)
        following = [
            asyncio.create_task(
                self._follow(
                    context, subscriber, [each for each in held.values() if each.upstream is upstream]
                )
            )
            for upstream in {each.upstream for each in held.values()}
        ]
        try:
            for uri, owner in owners.items():
                watched = (*self._relay.instance_of(self._upstreams[owner], context.client), uri)
                try:
                    await self._subscriptions.watch(subscriber, [watched])
                except Unavailable as error:
                    self._report(owner, error.sentence)
            await self._ended.wait()
        finally:
            for task in following:
                task.cancel()
            self._subscriptions.remove(subscriber)
        return McpReply(result=era_translation.modern({}, meta={META_SUBSCRIPTION: context.id}))

    async def _follow(
        self, context: ToolRequestContext, subscriber: Subscriber, held: Sequence[HeldTask]
    ) -> None:
        """Subscribe to the tasks at one modern server, as long as it allows. A client that polls a
        task learns the same.
        """
        known = {each.own: each for each in held}
        globs = self._relay.config.meta

        def notification(message: Json) -> None:
            params = cast("Json", message.get("params") or {})
            task = known.get(str(params.get("taskId")))
            if message.get("method") != STATUS["modern"] or task is None:
                return
            down = {**era_translation.inner(params, globs=globs), "taskId": task.shown(context.route)}
            if isinstance(result := params.get("result"), dict):
                down["result"] = era_translation.inner(cast("Json", result), globs=globs)
            subscriber.notify(STATUS["modern"], down)

        wish: Json = {"notifications": {"taskIds": list(known)}}
        capabilities: Json = {"extensions": {EXTENSION: {}}}
        try:
            await held[0].upstream.request(
                "subscriptions/listen",
                wish,
                scope=held[0].scope,
                on_notification=notification,
                capabilities=capabilities,
            )
        except Unavailable as error:
            self._report(held[0].upstream.name, error.sentence)

    def _is_visible(self, globs: Sequence[str], route: str | None, server: str, kind: str) -> bool:
        """Whether this caller sees a change at this server. The tools of search mode
        never change.
        """
        if not any(upstream.name == server for upstream in self._routes.reach(globs, route)):
            return False
        return kind != "toolsListChanged" or self._routes.view(tuple(globs), route).index is None

    def receive(self, upstream: ToolServer, scope: str, message: Json) -> None:
        """Take a server's message that belongs to no request."""
        method = message.get("method")
        params: object = message.get("params")
        if isinstance(method, str) and method in LIST_CHANGED:
            self._list_changed(upstream, method)
        elif method == UPDATED and isinstance(params, dict):
            notification = era_translation.notification(message, globs=self._relay.config.meta)
            self._subscriptions.updated(upstream, scope, notification["params"])
        elif method in (STATUS["legacy"], PROGRESS) and isinstance(params, dict):
            self._task_notification(upstream, scope, method, cast("Json", params))
        elif method == MESSAGE and not self._relay.running.deliver_log(upstream.name, scope, message):
            self._log_message(
                upstream.name, cast("Json", params).get("data") if isinstance(params, dict) else None
            )

    def _log_message(self, server: str, data: object) -> None:
        """Log a server's message, within a rate limit."""
        now = asyncio.get_running_loop().time()
        allowance = self._log_allowances.setdefault(server, LogAllowance())
        text = str(data)[:LOGGED_CHARACTERS]
        if allowance.allows(len(text), now):
            self._report(server, f"says: {text}")
        elif count := allowance.left_out(now):
            self._report(server, f"says more than is told here: {count} lines were left out")

    def _task_notification(self, upstream: ToolServer, scope: str, method: str, params: Json) -> None:
        """Pass a legacy server's task notification to the session that made the task."""
        status = method == STATUS["legacy"]
        meta: object = params.get("_meta")
        held = self._tasks.at(upstream, scope, params.get("taskId") if status else related_to(meta))
        session = self._sessions.get(held.session) if held is not None else None
        if held is None or session is None or session.subscriber is None:
            return
        related = self._tasks.related(
            meta, upstream=upstream, scope=scope, owner=held.owner, route=held.route
        )
        down = era_translation.inner(params, globs=self._relay.config.meta)
        if related:
            down = {**down, "_meta": {**down.get("_meta", {}), **related}}
        if status:
            down = {**down, "taskId": held.shown(held.route)}
        session.subscriber.notify(method, down)

    def _list_changed(self, upstream: ToolServer, method: str) -> None:
        """Announce a changed list. If the instance of a legacy session announces it, the shared
        catalog is loaded first.
        """
        main = self._upstreams.get(upstream.name)
        if main is None or main is upstream:
            self._subscriptions.changed(upstream.name, method)
            return
        waiting = self._changed_lists.setdefault(upstream.name, set())
        waiting.add(method)
        if upstream.name not in self._refreshing:
            self._refreshing[upstream.name] = asyncio.create_task(self._refresh(main, waiting))

    async def _refresh(self, main: ToolServer, waiting: set[str]) -> None:
        """Changes during a load cause one more load."""
        try:
            while waiting:
                methods = tuple(waiting)
                waiting.clear()
                with suppress(Unavailable):  # the list stays, and the next start loads it
                    await main.lists(fresh=True)
                for method in methods:
                    self._subscriptions.changed(main.name, method)
        finally:
            self._refreshing.pop(main.name, None)

    def all_changed(self, servers: Collection[str]) -> None:
        """Announce all lists of these servers as changed."""
        for name in tuple(servers):
            for method in LIST_CHANGED:
                self._subscriptions.changed(name, method)

    def close(self) -> None:
        """End every subscription with its result."""
        self._ended.set()
        for task in tuple(self._refreshing.values()):
            task.cancel()
        self._subscriptions.close()
