"""Answers the task methods of both protocol eras: get, result, update, cancel and list."""

from __future__ import annotations

from typing import Final

from modelplex.dialects.core.json import as_list, as_object
from modelplex.mcp.catalog import BadCursor
from modelplex.mcp.constants import INVALID_PARAMS, Json, McpReply, Unavailable
from modelplex.mcp.gateway_parts import GatewayParts
from modelplex.mcp.request_context import ToolRequestContext, invalid, unknown
from modelplex.mcp.tasks import HeldTask, offered

PAGE_SIZE: Final = 100
"""Tasks per page."""
MAX_DIGITS: Final = 20
"""Digits of a cursor in a list of tasks."""


class TaskCalls:
    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts

    def __repr__(self) -> str:
        return f"<TaskCalls of {self._parts.tasks!r}>"

    async def call(self, context: ToolRequestContext) -> McpReply:
        """Relay a request about one of the caller's tasks to its server."""
        name = context.params.get("taskId")
        if not isinstance(name, str):
            return invalid(f"{context.method} takes a taskId")
        self._parts.recording.note_request(context, name, context.params.get("inputResponses"))
        task = self._parts.tasks.find(name, client=context.client, route=context.route)
        if task is None or self._parts.upstreams.get(task.upstream.name) is not task.upstream:
            return unknown("task", name)
        context.builder.server = task.upstream.name
        reply = await self._parts.relay.call(context, task.upstream, task=task, taskId=task.own)
        expired = reply.error is not None and reply.error.get("code") == INVALID_PARAMS and not reply.reason
        if expired and context.method == "tasks/get":  # or its process has ended
            self._parts.tasks.forget(task)
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
        self._parts.recording.note_request(context, "", None)
        listing = {
            upstream
            for upstream in self._parts.routes.reach(context.globs, context.route)
            if "list" in (offered(upstream, context.client.era) or {})
        }
        owner = context.client.caller.owner
        own = [
            task for task in self._parts.tasks.of(owner, after=int(cursor or 0)) if task.upstream in listing
        ]
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
        for _ in range(self._parts.relay.config.max_pages):
            try:
                reply = await self._parts.relay.call(context, upstream, params=params, task=any_task)
            except Unavailable:
                break
            result = reply.result or {}
            for each in map(as_object, as_list(result.get("tasks"))):
                task = self._parts.tasks.at(upstream, any_task.scope, (each or {}).get("taskId"))
                if each is not None and task is not None and task.owner == context.client.caller.owner:
                    found[task] = each
            if result.get("nextCursor") in (None, params.get("cursor")):
                break
            params = {"cursor": result["nextCursor"]}
        return found
