"""Answers the task methods of both protocol eras: get, result, update, cancel and list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from modelplex.mcp.call_recording import CallRecording
from modelplex.mcp.catalog import BadCursor
from modelplex.mcp.constants import INVALID_PARAMS, Json, McpReply, Unavailable
from modelplex.mcp.relay import Relay
from modelplex.mcp.request_context import ToolRequestContext, invalid, unknown
from modelplex.mcp.routing import ToolRoutes
from modelplex.mcp.tasks import HeldTask, Tasks, offered
from modelplex.mcp.tool_server import ToolServer

PAGE_SIZE: Final = 100
"""Tasks per page."""
MAX_DIGITS: Final = 20
"""Digits of a cursor in a list of tasks."""


class TaskCalls:
    """Its arguments are those of `ToolGateway`."""

    def __init__(
        self,
        upstreams: Mapping[str, ToolServer],
        *,
        routes: ToolRoutes,
        relay: Relay,
        tasks: Tasks,
        recording: CallRecording,
    ) -> None:
        self._upstreams = upstreams
        self._routes = routes
        self._relay = relay
        self._tasks = tasks
        self._recording = recording

    def __repr__(self) -> str:
        return f"<TaskCalls of {self._tasks!r}>"

    async def call(self, context: ToolRequestContext) -> McpReply:
        """Relay a request about one of the caller's tasks to its server."""
        name = context.params.get("taskId")
        if not isinstance(name, str):
            return invalid(f"{context.method} takes a taskId")
        self._recording.note_request(context, name, context.params.get("inputResponses"))
        task = self._tasks.find(name, client=context.client, route=context.route)
        if task is None or self._upstreams.get(task.upstream.name) is not task.upstream:
            return unknown("task", name)
        context.builder.server = task.upstream.name
        reply = await self._relay.call(context, task.upstream, task=task, taskId=task.own)
        expired = reply.error is not None and reply.error.get("code") == INVALID_PARAMS and not reply.reason
        if expired and context.method == "tasks/get":  # or its process has ended
            self._tasks.forget(task)
        return reply

    async def list(self, context: ToolRequestContext) -> McpReply:
        """The caller's tasks of all servers that list tasks, oldest first. A server that fails does
        not affect others.
        """
        cursor = context.params.get("cursor")
        if cursor is not None and not (
            isinstance(cursor, str) and cursor.isdecimal() and len(cursor) < MAX_DIGITS
        ):
            return invalid(BadCursor.sentence)
        self._recording.note_request(context, "", None)
        listing = {
            upstream
            for upstream in self._routes.reach(context.globs, context.route)
            if "list" in (offered(upstream, context.client.era) or {})
        }
        owner = context.client.caller.owner
        own = [task for task in self._tasks.of(owner, after=int(cursor or 0)) if task.upstream in listing]
        page = own[:PAGE_SIZE]
        found: dict[HeldTask, Json] = {}
        for task in {(task.upstream, task.scope): task for task in page}.values():
            found |= await self._tasks_of_instance(context, task)
        tasks = [{**found[task], "taskId": task.id_on(context.route)} for task in page if task in found]
        more = {"nextCursor": str(page[-1].number)} if len(own) > len(page) else {}
        return McpReply(result={"tasks": tasks, **more})

    async def _tasks_of_instance(
        self, context: ToolRequestContext, any_task: HeldTask
    ) -> dict[HeldTask, Json]:
        """The caller's tasks as the instance of `any_task` lists them."""
        found: dict[HeldTask, Json] = {}
        params: Json = {}
        upstream = any_task.upstream
        for _ in range(self._relay.config.max_pages):
            try:
                reply = await self._relay.call(context, upstream, params=params, task=any_task)
            except Unavailable:
                break
            result = reply.result or {}
            listed: object = result.get("tasks")
            for each in cast("list[object]", listed) if isinstance(listed, list) else []:
                own: object = cast("Json", each).get("taskId") if isinstance(each, dict) else None
                task = self._tasks.at(upstream, any_task.scope, own)
                if task is not None and task.owner == context.client.caller.owner:
                    found[task] = cast("Json", each)
            if result.get("nextCursor") in (None, params.get("cursor")):
                break
            params = {"cursor": result["nextCursor"]}
        return found
