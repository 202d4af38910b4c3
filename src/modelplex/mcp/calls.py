"""Answers calls of tools, prompts, resources, completions and tasks: finds the server, asks the
policy, relays, and records.

A name that a caller may not know gets the answer of an unknown name.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, cast

import msgspec

from modelplex.config.settings import McpConfig
from modelplex.core.caller import Caller
from modelplex.mcp import era_translation, results, search
from modelplex.mcp.catalog import BadCursor
from modelplex.mcp.checked_catalogs import RouteTarget
from modelplex.mcp.constants import INTERNAL_ERROR, INVALID_PARAMS, Json, McpReply, Unavailable
from modelplex.mcp.policy import decide
from modelplex.mcp.relay import Relay
from modelplex.mcp.request_context import (
    ToolRequestContext,
    invalid,
    tool_refused,
    unavailable,
    unknown,
    unlisted,
)
from modelplex.mcp.routing import ToolRoutes
from modelplex.mcp.tasks import HeldTask, Tasks, offered, only_as_task
from modelplex.mcp.tool_server import ToolServer
from modelplex.records.tool_call import ToolRecord, ToolRecordBuilder, measured

NAME_LIMIT: Final = 1_024
"""Characters of a name or URI in a record. The rest is cut in the record only."""
ERROR_LIMIT: Final = 4_096
"""Characters of a server's error in a record: a log keeps thousands of records in memory."""

TASKS_PAGE: Final = 100
"""Tasks per page."""
MOST_DIGITS: Final = 20
"""Digits of a cursor in a list of tasks."""

Admit = Callable[[Caller], AbstractContextManager[object]]
"""The limits of an agent, entered while one of its calls runs. Raises Unavailable with the reason
"limit".
"""


def admit_all(caller: Caller) -> AbstractContextManager[object]:
    """For agents without limits of their own."""
    del caller
    return nullcontext()


class CallRecording(msgspec.Struct, frozen=True, kw_only=True):
    """How calls become records.

    ids          request ids
    clock, wall  seconds: a monotonic clock, and Unix time
    on_record    takes the record of each call
    keep_bodies  bytes of each body that a record holds; 0 for none
    """

    ids: Iterator[str]
    clock: Callable[[], float]
    wall: Callable[[], float]
    on_record: Callable[[ToolRecord], None]
    keep_bodies: int = 0


class ToolCalls:
    """Answers the requests that count as calls. Its arguments are those of `ToolGateway`."""

    def __init__(
        self,
        config: McpConfig,
        upstreams: Mapping[str, ToolServer],
        *,
        routes: ToolRoutes,
        relay: Relay,
        tasks: Tasks,
        recording: CallRecording,
        admit: Admit,
    ) -> None:
        self.config = config
        self._upstreams = upstreams
        self._routes = routes
        self._relay = relay
        self._tasks = tasks
        self._recording = recording
        self._admit = admit
        self.methods: Mapping[str, Callable[[ToolRequestContext], Coroutine[Any, Any, McpReply]]] = {
            "tools/call": self._tool,
            "prompts/get": self._prompt,
            "resources/read": self._read,
            "completion/complete": self._complete,
            **dict.fromkeys(("tasks/get", "tasks/result", "tasks/update", "tasks/cancel"), self._task),
            "tasks/list": self._task_list,
        }

    def __repr__(self) -> str:
        return f"<ToolCalls by {self._relay!r}>"

    async def answer(self, context: ToolRequestContext) -> McpReply:
        """Answer within the caller's limits and write a record, however the call ends."""
        caller = context.client.caller
        builder = context.builder = ToolRecordBuilder(
            id=next(self._recording.ids),
            method=context.method,
            era=context.client.era,
            listener=caller.listener,
            client=caller.client,
            agent=caller.agent,
            started=self._recording.clock(),
            wall=self._recording.wall(),
        )
        try:
            reply = self._limit_size(context, await self._answer_within_limits(context), builder)
            _note(builder, reply)
            return reply
        finally:
            self._recording.on_record(builder.record(now=self._recording.clock()))

    async def _answer_within_limits(self, context: ToolRequestContext) -> McpReply:
        try:
            with (
                self._relay.running.count_request(context.client.caller.owner),
                self._admit(context.client.caller),
            ):
                return await self.methods[context.method](context)
        except Unavailable as error:
            if error.server:
                context.builder.server = error.server
            return unavailable(error)

    def _limit_size(
        self, context: ToolRequestContext, reply: McpReply, builder: ToolRecordBuilder
    ) -> McpReply:
        """The reply, or what replaces one that is too large."""
        builder.bytes_out, body = results.size(reply.result if reply.result is not None else reply.error)
        if self._recording.keep_bodies:
            builder.response_body = body[: self._recording.keep_bodies]
        if builder.bytes_out <= self.config.max_result:
            return reply
        sentence = (
            f"The result has {builder.bytes_out} bytes, and at most {self.config.max_result} are passed on."
        )
        of_tool = reply.result is not None and context.method in ("tools/call", "tasks/result")
        if reply.result is not None and of_tool and self.config.oversized == "cut":
            shorter = results.cut(reply.result, limit=self.config.max_result, size=builder.bytes_out)
            if shorter is not None:
                return msgspec.structs.replace(reply, result=shorter)
        if of_tool:
            return tool_refused(sentence, reason="size", era=context.client.era)
        return McpReply.failed(
            INTERNAL_ERROR, sentence, {"reason": "size", "server": builder.server}, reason="size"
        )

    async def _tool(self, context: ToolRequestContext) -> McpReply:
        name, arguments = context.params.get("name"), context.params.get("arguments")
        if not isinstance(name, str) or (arguments is not None and not isinstance(arguments, dict)):
            return invalid("tools/call takes a name and an object of arguments")
        self._note_request(context, name, cast("Json | None", arguments))
        view = await self._routes.of_name(name, context.globs, context.route)
        params: Json = context.params
        if view.index is not None and name in search.NAMES:
            inner = view.index.answer(name, cast("Json | None", arguments))
            if isinstance(inner, McpReply):
                return _in_era_of_client(inner, context)
            name, params = inner.name, {**params, "arguments": inner.arguments}
            self._note_request(context, name, inner.arguments)
        target = view.tool(name)
        if target is None:
            return unknown("tool", name)
        seen = view.merged.tool(name)
        if (
            seen is not None
            and only_as_task(seen.definition)
            and (refusal := _no_task(context, target, self._upstreams[target.server]))
        ):
            return refusal
        return await self._relay_if_allowed(context, target, params, {"name": target.own})

    async def _task(self, context: ToolRequestContext) -> McpReply:
        """Ask the server about one of the caller's tasks."""
        name = context.params.get("taskId")
        if not isinstance(name, str):
            return invalid(f"{context.method} takes a taskId")
        self._note_request(context, name, context.params.get("inputResponses"))
        held = self._tasks.find(name, client=context.client, route=context.route)
        if held is None or self._upstreams.get(held.upstream.name) is not held.upstream:
            return unknown("task", name)
        context.builder.server = held.upstream.name
        reply = await self._relay.call(
            context.client,
            context.method,
            context.params,
            target=RouteTarget(held.upstream.name, held.own, name),
            upstream=held.upstream,
            route=context.route,
            held=held,
            taskId=held.own,
        )
        expired = reply.error is not None and reply.error.get("code") == INVALID_PARAMS and not reply.reason
        if expired and context.method == "tasks/get":  # or its process has ended
            self._tasks.forget(held)
        return reply

    async def _task_list(self, context: ToolRequestContext) -> McpReply:
        """The caller's tasks of all servers that list tasks, oldest first. A server that fails does
        not affect others.
        """
        cursor = context.params.get("cursor")
        if cursor is not None and not (
            isinstance(cursor, str) and cursor.isdecimal() and len(cursor) < MOST_DIGITS
        ):
            return invalid(BadCursor.sentence)
        self._note_request(context, "", None)
        listing = {
            upstream
            for upstream in self._routes.reach(context.globs, context.route)
            if "list" in (offered(upstream, context.client.era) or {})
        }
        mine = [
            held
            for held in self._tasks.of(context.client.caller.owner, after=int(cursor or 0))
            if held.upstream in listing
        ]
        page = mine[:TASKS_PAGE]
        places = {(held.upstream, held.scope): held for held in page}
        found: dict[HeldTask, Json] = {}
        for held in places.values():
            found |= await self._list_tasks_of(context, held)
        tasks = [{**found[held], "taskId": held.shown(context.route)} for held in page if held in found]
        more = {"nextCursor": str(page[-1].number)} if len(mine) > len(page) else {}
        return McpReply(result={"tasks": tasks, **more})

    async def _list_tasks_of(self, context: ToolRequestContext, place: HeldTask) -> dict[HeldTask, Json]:
        """The caller's tasks as one instance of a server lists them."""
        found: dict[HeldTask, Json] = {}
        params: Json = {}
        for _ in range(self.config.max_pages):
            try:
                reply = await self._relay.call(
                    context.client,
                    context.method,
                    params,
                    target=RouteTarget(place.upstream.name, "", ""),
                    upstream=place.upstream,
                    route=context.route,
                    held=place,
                )
            except Unavailable:
                break
            described = reply.result or {}
            listed: object = described.get("tasks")
            for task in cast("list[object]", listed) if isinstance(listed, list) else []:
                own: object = cast("Json", task).get("taskId") if isinstance(task, dict) else None
                held = self._tasks.at(place.upstream, place.scope, own)
                if held is not None and held.owner == context.client.caller.owner:
                    found[held] = cast("Json", task)
            if described.get("nextCursor") in (None, params.get("cursor")):
                break
            params = {"cursor": described["nextCursor"]}
        return found

    async def _prompt(self, context: ToolRequestContext) -> McpReply:
        name = context.params.get("name")
        if not isinstance(name, str):
            return invalid("prompts/get takes a name")
        self._note_request(context, name, context.params.get("arguments"))
        view = await self._routes.of_name(name, context.globs, context.route)
        target = view.prompt(name)
        if target is None:
            return unknown("prompt", name)
        return await self._relay_if_allowed(context, target, context.params, {"name": target.own})

    async def _read(self, context: ToolRequestContext) -> McpReply:
        uri = context.params.get("uri")
        if not isinstance(uri, str):
            return invalid("resources/read takes a uri")
        self._note_request(context, uri, None)
        owner = (await self._routes.loaded(context.globs, context.route)).merged.owner(uri)
        if owner is None:
            context.builder.decision, context.builder.rule = "deny", "unlisted"
            return unlisted(context, uri)
        return await self._relay_if_allowed(context, RouteTarget(owner, uri, uri), context.params, {})

    async def _complete(self, context: ToolRequestContext) -> McpReply:
        ref: object = context.params.get("ref")
        if not isinstance(ref, dict):
            return invalid("completion/complete takes a ref")
        described = cast("Json", ref)
        name = str(described.get("name", described.get("uri", "")))
        self._note_request(context, name, context.params.get("argument"))
        view = await self._routes.loaded(context.globs, context.route)
        found = view.merged.completed(described)
        if found is None:
            return unknown("reference", name)
        server, own = found
        return await self._relay_call(context, RouteTarget(server, name, name), context.params, {"ref": own})

    async def _relay_if_allowed(
        self, context: ToolRequestContext, target: RouteTarget, params: Json, members: Json
    ) -> McpReply:
        """Ask the policy, then relay the call or refuse it."""
        upstream = self._upstreams[target.server]
        decision = decide(
            context.client.caller,
            server=target.server,
            method=context.method,
            name=target.own,
            globs=upstream.config.tools,
            shown=target.name,
            pinned=target.pinned,
            locked=self._routes.approvals.mode == "locked",
        )
        builder = context.builder
        builder.rule = decision.rule
        if decision.allowed:
            return await self._relay_call(context, target, params, members)
        builder.decision, builder.server, builder.definition = "deny", target.server, target.definition
        if decision.hidden:
            return unknown("tool" if context.method == "tools/call" else "prompt", target.name)
        if context.method == "tools/call":
            sentence = f"Policy ({decision.rule}): {decision.reason}"
            return tool_refused(sentence, reason="policy", era=context.client.era)
        return McpReply.failed(
            INVALID_PARAMS,
            f"Policy ({decision.rule}): {decision.reason}",
            {"reason": "policy", "server": target.server},
            reason="policy",
        )

    async def _relay_call(
        self, context: ToolRequestContext, target: RouteTarget, params: Json, members: Json
    ) -> McpReply:
        builder = context.builder
        builder.server, builder.definition = target.server, target.definition
        upstream = self._upstreams[target.server]
        return await self._relay.call(
            context.client,
            context.method,
            params,
            target=target,
            upstream=upstream,
            route=context.route,
            **members,
        )

    def _note_request(self, context: ToolRequestContext, name: str, arguments: object) -> None:
        """Record what the client asked for."""
        builder = context.builder
        builder.tool = name[:NAME_LIMIT]
        builder.arguments, body = measured({} if arguments is None else arguments)
        builder.bytes_in = len(body)
        if self._recording.keep_bodies:
            builder.request_body = body[: self._recording.keep_bodies]


def _no_task(context: ToolRequestContext, target: RouteTarget, upstream: ToolServer) -> McpReply | None:
    """The refusal of a tool that runs only as a task, if it cannot run as one. If it can and the
    call does not ask for a task, the server refuses it.
    """
    if offered(upstream, context.client.era) is not None or upstream.catalog is None:
        return None
    context.builder.server, context.builder.definition = target.server, target.definition
    if upstream.config.tasks and upstream.catalog.era != context.client.era:
        sentence = f"{target.name} runs only as a task, and {target.server} speaks another era of tasks than this client."
        return tool_refused(sentence, reason="capability", era=context.client.era)
    sentence = f"{target.name} runs only as a task, which the host does not allow of {target.server}, or which it does not offer."
    return tool_refused(sentence, reason="policy", era=context.client.era)


def _in_era_of_client(reply: McpReply, context: ToolRequestContext) -> McpReply:
    """Convert an answer of the gateway itself to the client's protocol era."""
    if reply.result is None:
        return msgspec.structs.replace(reply, reason="unknown")
    return McpReply(result=era_translation.modern(dict(reply.result))) if context.modern else reply


_REFUSED: Final = frozenset({"unknown", "policy", "limit", "invalid", "capability"})
"""Reasons that are decisions of the gateway, not failures of a server."""


def _note(builder: ToolRecordBuilder, reply: McpReply) -> None:
    """Record the outcome."""
    builder.reason = reply.reason
    if reply.error is not None:
        code: object = reply.error.get("code")
        builder.code = code if isinstance(code, int) else None
        builder.error = str(reply.error.get("message", ""))[:ERROR_LIMIT]
    else:
        builder.is_error = (reply.result or {}).get("isError") is True
        if reply.reason:
            builder.error = reply.sentence
    if reply.reason in _REFUSED:
        builder.outcome = "refused"
    elif reply.error is not None or reply.reason:
        builder.outcome = "error"
    else:
        builder.outcome = "tool_error" if builder.is_error else "ok"
