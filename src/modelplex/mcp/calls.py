"""Answers calls of tools, prompts, resources, completions and tasks: finds the server, asks the
policy, relays, and records.

A name that a caller may not know gets the answer of an unknown name.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, cast

import msgspec

from modelplex.core.caller import Caller
from modelplex.mcp import era_translation, results, search
from modelplex.mcp.checked_catalogs import RouteTarget
from modelplex.mcp.constants import INTERNAL_ERROR, INVALID_PARAMS, Json, McpReply, Unavailable
from modelplex.mcp.gateway_parts import GatewayParts
from modelplex.mcp.policy import decide
from modelplex.mcp.replay import named_arguments
from modelplex.mcp.request_context import (
    ToolRequestContext,
    invalid,
    tool_refused,
    unavailable,
    unknown,
    unlisted,
)
from modelplex.mcp.task_calls import TaskCalls
from modelplex.mcp.tasks import offered, only_as_task
from modelplex.mcp.tool_server import ToolServer

Admit = Callable[[Caller], AbstractAsyncContextManager[object]]
"""The limits of an agent, entered while one of its calls runs. Raises Unavailable with the reason
"limit".
"""


def admit_all(caller: Caller) -> AbstractAsyncContextManager[object]:
    """For agents without limits of their own."""
    del caller
    return nullcontext()


CALLS: Final = frozenset(
    {
        *("tools/call", "prompts/get", "resources/read", "completion/complete"),
        *("tasks/get", "tasks/result", "tasks/update", "tasks/cancel", "tasks/list"),
    }
)
"""The methods that count as calls."""


class ToolCalls:
    """Answers the requests that count as calls. `admit` enters the limits of an agent."""

    def __init__(self, parts: GatewayParts, *, admit: Admit) -> None:
        self._parts = parts
        self._admit = admit
        of_tasks = TaskCalls(parts)
        self.methods: Mapping[str, Callable[[ToolRequestContext], Coroutine[Any, Any, McpReply]]] = {
            "tools/call": self._call_tool,
            "prompts/get": self._get_prompt,
            "resources/read": self._read_resource,
            "completion/complete": self._complete,
            **dict.fromkeys(("tasks/get", "tasks/result", "tasks/update", "tasks/cancel"), of_tasks.call),
            "tasks/list": of_tasks.list,
        }

    def __repr__(self) -> str:
        return f"<ToolCalls by {self._parts.relay!r}>"

    async def answer(self, context: ToolRequestContext) -> McpReply:
        """Answer within the caller's limits and write a record, however the call ends."""
        self._parts.recording.begin(context)
        try:
            reply = self._limit_size(context, await self._answer_within_limits(context))
            self._parts.recording.note_reply(context, reply)
            return reply
        finally:
            self._parts.recording.finish(context)

    async def _answer_within_limits(self, context: ToolRequestContext) -> McpReply:
        caller = context.client.caller
        try:
            with self._parts.relay.running.count_request(caller.owner):
                async with self._admit(caller):
                    if self._parts.replay.sources and (reply := await self._recorded(context)) is not None:
                        return reply
                    return await self.methods[context.method](context)
        except Unavailable as error:
            if error.server:
                context.builder.server = error.server
            return unavailable(error)

    async def _recorded(self, context: ToolRequestContext) -> McpReply | None:
        note = self._parts.recording.note_request
        note(context, *named_arguments(context.method, context.params))
        reply = await self._parts.replay.answer(context)
        if reply is None and context.route is not None:
            is_here = self._parts.routes.reach(context.globs, context.route)
            return None if is_here else unknown("server", context.route)
        return reply

    def _limit_size(self, context: ToolRequestContext, reply: McpReply) -> McpReply:
        """The reply, or what replaces one that is too large."""
        size, body = results.size(reply.result if reply.result is not None else reply.error)
        self._parts.recording.note_size(context, size, body)
        config = self._parts.relay.config
        if size <= config.max_result:
            return reply
        sentence = f"The result has {size} bytes, and at most {config.max_result} are passed on."
        if reply.result is None or context.method not in ("tools/call", "tasks/result"):
            data = {"reason": "size", "server": context.builder.server}
            return McpReply.failed(INTERNAL_ERROR, sentence, data, reason="size")
        if config.oversized == "cut":
            shorter = results.truncate(reply.result, limit=config.max_result, size=size)
            if shorter is not None:
                return msgspec.structs.replace(reply, result=shorter)
        return tool_refused(sentence, reason="size", era=context.client.era)

    async def _call_tool(self, context: ToolRequestContext) -> McpReply:
        name, arguments = context.params.get("name"), cast("object", context.params.get("arguments"))
        if not isinstance(name, str) or not isinstance(arguments, dict | None):
            return invalid("tools/call takes a name and an object of arguments")
        self._parts.recording.note_request(context, name, cast("Json | None", arguments))
        view = await self._parts.routes.view_for_name(name, context.globs, context.route)
        params: Json = context.params
        if view.index is not None and name in search.NAMES:
            inner = view.index.answer(name, cast("Json | None", arguments))
            if isinstance(inner, McpReply):
                return _in_era_of_client(inner, context)
            name, params = inner.name, {**params, "arguments": inner.arguments}
            self._parts.recording.note_request(context, name, inner.arguments)
        target = view.tool(name)
        if target is None:
            return unknown("tool", name)
        entry = view.merged.tool(name)
        if entry is not None and only_as_task(entry.definition):
            refusal = _refuse_task_tool(context, target, self._parts.upstreams[target.server])
            if refusal is not None:
                return refusal
        return await self._relay_if_allowed(context, target, params, {"name": target.own})

    async def _get_prompt(self, context: ToolRequestContext) -> McpReply:
        name = context.params.get("name")
        if not isinstance(name, str):
            return invalid("prompts/get takes a name")
        self._parts.recording.note_request(context, name, context.params.get("arguments"))
        view = await self._parts.routes.view_for_name(name, context.globs, context.route)
        target = view.prompt(name)
        if target is None:
            return unknown("prompt", name)
        return await self._relay_if_allowed(context, target, context.params, {"name": target.own})

    async def _read_resource(self, context: ToolRequestContext) -> McpReply:
        uri = context.params.get("uri")
        if not isinstance(uri, str):
            return invalid("resources/read takes a uri")
        self._parts.recording.note_request(context, uri, None)
        owner = (await self._parts.routes.complete_view(context.globs, context.route)).merged.owner(uri)
        if owner is None:
            context.builder.decision, context.builder.rule = "deny", "unlisted"
            return unlisted(context, uri)
        return await self._relay_if_allowed(context, RouteTarget(owner, uri, uri), context.params, {})

    async def _complete(self, context: ToolRequestContext) -> McpReply:
        ref: object = context.params.get("ref")
        if not isinstance(ref, dict):
            return invalid("completion/complete takes a ref")
        reference = cast("Json", ref)
        name = str(reference.get("name", reference.get("uri", "")))
        self._parts.recording.note_request(context, name, context.params.get("argument"))
        view = await self._parts.routes.complete_view(context.globs, context.route)
        found = view.merged.complete_ref(reference)
        if found is None:
            return unknown("reference", name)
        server, own = found
        return await self._relay_call(context, RouteTarget(server, name, name), context.params, {"ref": own})

    async def _relay_if_allowed(
        self, context: ToolRequestContext, target: RouteTarget, params: Json, members: Json
    ) -> McpReply:
        """Ask the policy, then relay the call or refuse it."""
        upstream = self._parts.upstreams[target.server]
        decision = decide(
            context.client.caller,
            server=target.server,
            method=context.method,
            name=target.own,
            globs=upstream.config.tools,
            shown=target.name,
            state=target.state,
            locked=self._parts.routes.approvals.mode == "locked",
        )
        builder = context.builder
        builder.rule = decision.rule
        if decision.allowed:
            return await self._relay_call(context, target, params, members)
        builder.decision, builder.server, builder.definition = "deny", target.server, target.definition
        if decision.hidden:
            return unknown("tool" if context.method == "tools/call" else "prompt", target.name)
        sentence = f"Policy ({decision.rule}): {decision.reason}"
        if context.method == "tools/call":
            return tool_refused(sentence, reason="policy", era=context.client.era)
        data = {"reason": "policy", "server": target.server}
        return McpReply.failed(INVALID_PARAMS, sentence, data, reason="policy")

    async def _relay_call(
        self, context: ToolRequestContext, target: RouteTarget, params: Json, members: Json
    ) -> McpReply:
        context.builder.server, context.builder.definition = target.server, target.definition
        return await self._parts.relay.call(
            context, self._parts.upstreams[target.server], params=params, **members
        )


def _refuse_task_tool(
    context: ToolRequestContext, target: RouteTarget, upstream: ToolServer
) -> McpReply | None:
    """The refusal of a tool that runs only as a task, if it cannot run as one. If it can and the
    call does not ask for a task, the server refuses it.
    """
    if offered(upstream, context.client.era) is not None or upstream.catalog is None:
        return None
    context.builder.server, context.builder.definition = target.server, target.definition
    reason, sentence = (
        "policy",
        f"which the host does not allow of {target.server}, or which it does not offer.",
    )
    if upstream.config.tasks and upstream.catalog.era != context.client.era:
        reason, sentence = "capability", f"and {target.server} speaks another era of tasks than this client."
    sentence = f"{target.name} runs only as a task, {sentence}"
    return tool_refused(sentence, reason=reason, era=context.client.era)


def _in_era_of_client(reply: McpReply, context: ToolRequestContext) -> McpReply:
    """Convert an answer of the gateway itself to the client's protocol era."""
    if reply.result is None:
        return msgspec.structs.replace(reply, reason="unknown")
    return McpReply(result=era_translation.modern_result(dict(reply.result))) if context.modern else reply
