"""Sessions with their log level and subscriptions, modern subscriptions, and server messages that
belong to no request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, cast

from modelplex.dialects.core.json import as_list
from modelplex.mcp import era_translation
from modelplex.mcp.advertised import AdvertisedCapabilities
from modelplex.mcp.constants import META_SUBSCRIPTION, Json, McpClient, McpReply, Unavailable
from modelplex.mcp.gateway_parts import GatewayParts
from modelplex.mcp.progress_sink import LEVELS
from modelplex.mcp.request_context import ToolRequestContext, invalid, unlisted
from modelplex.mcp.routing import CatalogView
from modelplex.mcp.running_calls import limit_reached
from modelplex.mcp.subscriptions import (
    LIST_CHANGED,
    MAX_URIS,
    URIS_OF_CALLER,
    Subscriber,
    Subscriptions,
)
from modelplex.mcp.tasks import EXTENSION, STATUS, HeldTask

MAX_SUBSCRIPTIONS: Final = 16
"""Modern subscriptions of one caller: a client needs one, and each is an open stream."""
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
    def __init__(self, parts: GatewayParts, *, advertised: AdvertisedCapabilities) -> None:
        self._parts = parts
        self._advertised = advertised
        self.subscriptions = Subscriptions(on_failure=parts.report)
        self._sessions: dict[str, SessionSubscriptions] = {}
        self._listeners: dict[str, int] = {}
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Streams of {len(self._sessions)} sessions, {self.subscriptions!r}>"

    def open_session(self, client: McpClient, *, route: str | None, channel: Channel) -> None:
        session = self._session(client)
        session.subscriber = Subscriber(
            channel,
            owner=client.caller.owner,
            kinds=LIST_CHANGED.values(),
            sees=self._visibility(client.caller.tools, route),
        )
        self.subscriptions.add(session.subscriber)

    def close_session(self, client: McpClient) -> None:
        session = self._sessions.pop(client.session, None)
        if session is not None and session.subscriber is not None:
            self.subscriptions.remove(session.subscriber)

    def subscriber_of(self, session: str) -> Subscriber | None:
        found = self._sessions.get(session)
        return found.subscriber if found is not None else None

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
            raise limit_reached(f"A session watches at most {MAX_URIS} resources.", retry_after=None)
        if not self._uris_left(context.client.caller.owner):
            raise limit_reached(f"A caller watches at most {URIS_OF_CALLER} resources.", retry_after=None)
        owner = (await self._parts.routes.complete_view(context.globs, context.route)).merged.owner(uri)
        if owner is None:
            return unlisted(context, uri)
        await self.subscriptions.watch(
            subscriber, [(*self._parts.relay.instance_of(self._parts.upstreams[owner], context.client), uri)]
        )
        return McpReply(result={})

    def _uris_left(self, owner: str) -> int:
        """The number of resources that a caller may still watch."""
        return max(0, URIS_OF_CALLER - self.subscriptions.watched_by(owner))

    async def unsubscribe(self, context: ToolRequestContext) -> McpReply:
        uri = context.params.get("uri")
        subscriber = self._session(context.client).subscriber
        for watched in tuple(subscriber.watched) if subscriber is not None else ():
            if watched[2] == uri and subscriber is not None:
                await self.subscriptions.unwatch(subscriber, watched)
        return McpReply(result={})

    async def listen(self, context: ToolRequestContext) -> McpReply:
        """Runs until the client is gone or the gateway ends."""
        wanted: object = context.params.get("notifications")
        if not isinstance(wanted, dict):
            return invalid("subscriptions/listen takes an object of notifications")
        owner = context.client.caller.owner
        if self._listeners.get(owner, 0) >= MAX_SUBSCRIPTIONS:
            raise limit_reached(f"A caller has at most {MAX_SUBSCRIPTIONS} subscriptions.")
        self._listeners[owner] = self._listeners.get(owner, 0) + 1
        try:
            return await self._subscribe_until_closed(context, cast("Json", wanted))
        finally:
            self._listeners[owner] -= 1
            if not self._listeners[owner]:
                del self._listeners[owner]

    async def _subscribe_until_closed(self, context: ToolRequestContext, wanted: Json) -> McpReply:
        view = await self._parts.routes.view_soon(context.globs, context.route)
        offered = self._advertised.capabilities(context, view)
        kinds = [
            name
            for name, capability in CAPABILITY_OF_SUBSCRIPTION.items()
            if wanted.get(name) is True and capability in offered
        ]
        owners = self._owners_of(wanted.get("resourceSubscriptions"), context, view)
        tasks = self._tasks_of(wanted.get("taskIds"), context)
        granted: Json = dict.fromkeys(kinds, True)
        if owners:
            granted["resourceSubscriptions"] = list(owners)
        if tasks:
            granted["taskIds"] = list(tasks)
        subscriber = Subscriber(
            context.client.send,
            owner=context.client.caller.owner,
            kinds=kinds,
            sees=self._visibility(context.globs, context.route),
            id=context.id,
        )
        subscriber.notify("notifications/subscriptions/acknowledged", {"notifications": granted})
        self.subscriptions.add(subscriber)
        following = [
            asyncio.create_task(
                self._follow(
                    context, subscriber, [each for each in tasks.values() if each.upstream is upstream]
                )
            )
            for upstream in {each.upstream for each in tasks.values()}
        ]
        try:
            for uri, owner in owners.items():
                watched = (*self._parts.relay.instance_of(self._parts.upstreams[owner], context.client), uri)
                try:
                    await self.subscriptions.watch(subscriber, [watched])
                except Unavailable as error:
                    self._parts.report(owner, error.sentence)
            await self._ended.wait()
        finally:
            for task in following:
                task.cancel()
            self.subscriptions.remove(subscriber)
        return McpReply(result=era_translation.modern_result({}, meta={META_SUBSCRIPTION: context.id}))

    def _owners_of(self, uris: object, context: ToolRequestContext, view: CatalogView) -> dict[str, str]:
        """The server of each resource that the caller may watch."""
        limit = min(MAX_URIS, self._uris_left(context.client.caller.owner))
        return {
            uri: owner
            for uri in as_list(uris)[:limit]
            if isinstance(uri, str) and (owner := view.merged.owner(uri)) is not None
        }

    def _tasks_of(self, ids: object, context: ToolRequestContext) -> dict[str, HeldTask]:
        """The caller's tasks with these ids, as far as their servers are still in the config."""
        return {
            name: task
            for name in as_list(ids)[:MAX_URIS]
            if isinstance(name, str)
            and (task := self._parts.tasks.find(name, client=context.client, route=context.route)) is not None
            and self._parts.upstreams.get(task.upstream.name) is task.upstream
        }

    async def _follow(
        self, context: ToolRequestContext, subscriber: Subscriber, tasks: Sequence[HeldTask]
    ) -> None:
        """Subscribe to tasks at one modern server, as long as it allows. A client gets the same by
        polling a task.
        """
        upstream, scope = tasks[0].upstream, tasks[0].scope
        own_ids = {each.own: each for each in tasks}
        globs = self._parts.relay.config.meta

        def notification(message: Json) -> None:
            params = cast("Json", message.get("params") or {})
            task = own_ids.get(str(params.get("taskId")))
            if message.get("method") != STATUS["modern"] or task is None:
                return
            down = {**era_translation.inner_result(params, globs=globs), "taskId": task.id_on(context.route)}
            if isinstance(result := params.get("result"), dict):
                down["result"] = era_translation.inner_result(cast("Json", result), globs=globs)
            subscriber.notify(STATUS["modern"], down)

        try:
            await upstream.request(
                "subscriptions/listen",
                {"notifications": {"taskIds": list(own_ids)}},
                scope=scope,
                on_notification=notification,
                capabilities={"extensions": {EXTENSION: {}}},
            )
        except Unavailable as error:
            self._parts.report(upstream.name, error.sentence)

    def _visibility(self, globs: tuple[str, ...], route: str | None) -> Callable[[str, str], bool]:
        """Whether such a caller sees a change of this kind at this server. The tools of search mode
        never change.
        """

        def sees(server: str, kind: str) -> bool:
            if not any(upstream.name == server for upstream in self._parts.routes.reach(globs, route)):
                return False
            return kind != "toolsListChanged" or self._parts.routes.view(globs, route).index is None

        return sees

    def close(self) -> None:
        """End every subscription with its result."""
        self._ended.set()
        self.subscriptions.close()
