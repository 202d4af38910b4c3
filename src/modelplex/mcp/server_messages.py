"""Messages of servers that belong to no request: changed lists and resources, task notifications,
log messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final, cast

from modelplex.dialects.core.json import as_object
from modelplex.mcp import era_translation
from modelplex.mcp.constants import Json, Unavailable
from modelplex.mcp.gateway_parts import GatewayParts
from modelplex.mcp.progress_sink import MESSAGE, PROGRESS
from modelplex.mcp.server_output import LogAllowance
from modelplex.mcp.subscriptions import LIST_CHANGED, UPDATED, Subscriber, Subscriptions
from modelplex.mcp.tasks import STATUS, related_task_id
from modelplex.mcp.tool_server import ToolServer

MAX_LOG_TEXT: Final = 500
"""Characters of a server's log message in the gateway's own log."""


class ServerMessages:
    """`subscriber_of` gives the subscriber of a legacy session."""

    def __init__(
        self,
        parts: GatewayParts,
        *,
        subscriptions: Subscriptions,
        subscriber_of: Callable[[str], Subscriber | None],
    ) -> None:
        self._parts = parts
        self._subscriptions = subscriptions
        self._subscriber_of = subscriber_of
        self._log_allowances: dict[str, LogAllowance] = {}
        self._changed_lists: dict[str, set[str]] = {}
        self._refreshing: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<ServerMessages of {len(self._parts.upstreams)} servers>"

    def receive(self, upstream: ToolServer, scope: str, message: Json) -> None:
        """Take a server's message that belongs to no request."""
        method = message.get("method")
        params: object = message.get("params")
        if isinstance(method, str) and method in LIST_CHANGED:
            self._list_changed(upstream, method)
        elif method == UPDATED and isinstance(params, dict):
            notification = era_translation.notification_for_client(
                message, globs=self._parts.relay.config.meta
            )
            self._subscriptions.updated(upstream, scope, notification["params"])
        elif method in (STATUS["legacy"], PROGRESS) and isinstance(params, dict):
            self._task_notification(upstream, scope, method, cast("Json", params))
        elif method == MESSAGE and not self._parts.relay.running.deliver_log(upstream.name, scope, message):
            self._log_message(upstream.name, (as_object(params) or {}).get("data"))

    def _log_message(self, server: str, data: object) -> None:
        """Log a server's message, within a rate limit."""
        now = asyncio.get_running_loop().time()
        allowance = self._log_allowances.setdefault(server, LogAllowance())
        text = str(data)[:MAX_LOG_TEXT]
        if allowance.allows(len(text), now):
            self._parts.report(server, f"log message: {text}")
        elif count := allowance.left_out(now):
            self._parts.report(server, f"{count} log messages were left out")

    def _task_notification(self, upstream: ToolServer, scope: str, method: str, params: Json) -> None:
        """Pass a legacy server's task notification to the session that made the task."""
        status = method == STATUS["legacy"]
        meta: object = params.get("_meta")
        task = self._parts.tasks.at(
            upstream, scope, params.get("taskId") if status else related_task_id(meta)
        )
        subscriber = self._subscriber_of(task.session) if task is not None else None
        if task is None or subscriber is None:
            return
        related = self._parts.tasks.related(
            meta, upstream=upstream, scope=scope, owner=task.owner, route=task.route
        )
        down = era_translation.inner_result(params, globs=self._parts.relay.config.meta)
        if related:
            down = {**down, "_meta": {**down.get("_meta", {}), **related}}
        if status:
            down = {**down, "taskId": task.id_on(task.route)}
        subscriber.notify(method, down)

    def _list_changed(self, upstream: ToolServer, method: str) -> None:
        """Announce a changed list. If the instance of a legacy session announces it, the shared
        catalog is loaded first.
        """
        main = self._parts.upstreams.get(upstream.name)
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
        for task in tuple(self._refreshing.values()):
            task.cancel()
