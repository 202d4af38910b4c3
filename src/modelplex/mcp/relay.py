"""Relays one call: converts the request for its server, sends it, answers the server's questions,
and converts the reply for the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec

from modelplex.config.mcp_settings import McpConfig
from modelplex.dialects.core.json import as_object
from modelplex.mcp import era_translation
from modelplex.mcp.call_results import INPUT, reply_for_client
from modelplex.mcp.call_route import CallRoute, may_be_task, scope_of, session_scope
from modelplex.mcp.constants import (
    INVALID_PARAMS,
    META_LOG_LEVEL,
    META_RELATED,
    METHOD_NOT_FOUND,
    Era,
    Json,
    McpClient,
    McpReply,
    Unavailable,
)
from modelplex.mcp.progress_sink import LEVELS, ProgressSink
from modelplex.mcp.request_context import ToolRequestContext
from modelplex.mcp.request_state import RequestStateSealer
from modelplex.mcp.running_calls import RunningCalls
from modelplex.mcp.server_questions import (
    answer_questions,
    ask_client,
    questions_for_client,
    refuse_question,
)
from modelplex.mcp.tasks import EXTENSION, HeldTask, Tasks, related_task_id
from modelplex.mcp.tool_server import ToolServer

DEFAULT_LEVEL: Final = "info"
"""The log level of a legacy client that set none: servers of that era log as they like."""
MAX_ROUNDS: Final = 10
"""How many replies with input requests a server may give during one call."""


class Relay:
    """Calls on servers. `level` gives the log level that a legacy session has set, or None.
    `legacy_servers` are those of `ToolServers`; new tasks are added to `tasks`.
    """

    def __init__(
        self,
        running: RunningCalls,
        *,
        legacy_servers: Mapping[str, ToolServer],
        sealer: RequestStateSealer,
        tasks: Tasks,
        clock: Callable[[], float],
        level: Callable[[McpClient], str | None],
    ) -> None:
        self.running = running
        self._legacy_servers = legacy_servers
        self._unstartable: set[ToolServer] = set()
        self._sealer = sealer
        self._tasks = tasks
        self._clock = clock
        self._level = level

    def __repr__(self) -> str:
        return f"<Relay of {self.running!r}>"

    @property
    def config(self) -> McpConfig:
        return self.running.config

    @config.setter
    def config(self, config: McpConfig) -> None:
        self.running.config = config

    async def call(
        self,
        context: ToolRequestContext,
        upstream: ToolServer,
        *,
        params: Json | None = None,
        task: HeldTask | None = None,
        **members: Any,
    ) -> McpReply:
        """Send the call to the server and return its reply, converted. `params` replaces those of
        the request, and `members` single members of them. `task` is the task that the request is
        about. Raises Unavailable.
        """
        client = context.client
        params = context.params if params is None else params
        catalog = upstream.catalog or await upstream.lists()
        call = self._route(context, upstream, era=catalog.era, task=task)
        legacy_task = call.tasks is not None and call.era == "legacy"
        if legacy_task and call.method == "tools/call" and "task" in params:
            members["task"] = params["task"]
        outgoing = era_translation.params_for_server(params, globs=call.globs, **members)
        if legacy_task:
            self._translate_related(call, params, outgoing)
        sink = self._progress_sink(call, params, catalog.capabilities)
        legacy_server = None
        if call.era == "modern":
            legacy_server = self._legacy_server_of(upstream, client, call.capabilities)
        if legacy_server is not None:
            legacy = msgspec.structs.replace(
                call, upstream=legacy_server, scope=session_scope(client), era="legacy"
            )
            try:
                return await self._exchange(legacy, outgoing, sink)
            except Unavailable as error:
                if error.reason != "start_failed":  # else nothing was sent
                    raise
                self._unstartable.add(legacy_server)
        if call.era == "modern" and client.era == "modern" and not self._resume(call, params, outgoing):
            return McpReply.failed(
                INVALID_PARAMS, "The requestState is not one that this caller was given.", reason="invalid"
            )
        return await self._exchange(call, outgoing, sink)

    def _route(
        self, context: ToolRequestContext, upstream: ToolServer, *, era: Era, task: HeldTask | None
    ) -> CallRoute:
        client = context.client
        allow = upstream.config.client_requests
        capabilities = era_translation.announced_capabilities(allow, claimed=client.capabilities)
        as_task = may_be_task(upstream, client)
        if as_task and era == "modern":
            capabilities["extensions"] = {EXTENSION: {}}
        return CallRoute(
            client=client,
            method=context.method,
            upstream=upstream,
            scope=scope_of(upstream, client) if task is None else task.scope,
            era=era,
            capabilities=capabilities,
            globs=self.config.meta,
            route=context.route,
            tasks=self._tasks if as_task else None,
            task=task,
        )

    def instance_of(self, upstream: ToolServer, client: McpClient) -> tuple[ToolServer, str]:
        """The server, and the scope of its instance, that serves this client's calls."""
        if upstream.catalog is not None and upstream.catalog.era == "modern":
            asks = era_translation.announced_capabilities(
                upstream.config.client_requests, claimed=client.capabilities
            )
            if (legacy_server := self._legacy_server_of(upstream, client, asks)) is not None:
                return legacy_server, session_scope(client)
        return upstream, scope_of(upstream, client)

    def _legacy_server_of(
        self, upstream: ToolServer, client: McpClient, capabilities: Json
    ) -> ToolServer | None:
        """A server of both eras is spoken to in the legacy era for a legacy client that it may ask
        something: many tools ask only in the form of that era.
        """
        if client.era == "modern" or not capabilities or not client.session:
            return None
        legacy_server = self._legacy_servers.get(upstream.name)
        return legacy_server if legacy_server not in self._unstartable else None

    def _resume(self, call: CallRoute, params: Mapping[str, Any], outgoing: Json) -> bool:
        """Put a modern client's answers and request state into the request. False if the state was
        not given to this caller.
        """
        answers = era_translation.allowed_answers(params.get("inputResponses"), call.capabilities)
        if (state := params.get("requestState")) is not None:
            sealed = self._sealer.open(state, server=call.upstream.name, owner=call.client.caller.owner)
            if sealed is None:
                return False
            if sealed.state is not None:
                outgoing["requestState"] = sealed.state
            answers |= dict.fromkeys(sealed.roots, call.roots)
        if answers or "inputResponses" in params:
            outgoing["inputResponses"] = answers
        return True

    def _progress_sink(
        self, call: CallRoute, params: Mapping[str, Any], offered: Mapping[str, Any]
    ) -> ProgressSink:
        level: str | None
        if call.client.era == "modern":
            requested = (as_object(params.get("_meta")) or {}).get(META_LOG_LEVEL)
            level = requested if requested in LEVELS else None
        else:
            level = self._level(call.client) or (DEFAULT_LEVEL if "logging" in offered else None)
        return ProgressSink(
            call.client,
            level=level,
            globs=call.globs,
            clock=self._clock,
            related=call.related,
            plain=call.upstream.config.plain_text,
        )

    def _translate_related(self, call: CallRoute, params: Mapping[str, Any], outgoing: Json) -> None:
        """Replace the client's id of the related task in `_meta` by the server's."""
        meta: object = params.get("_meta")
        name = related_task_id(meta)
        task = self._tasks.find(name, client=call.client, route=call.route) if isinstance(name, str) else None
        if task is not None and task.upstream is call.upstream:
            outgoing["_meta"] = {
                **outgoing.get("_meta", {}),
                META_RELATED: {**cast("Json", meta)[META_RELATED], "taskId": task.own},
            }

    async def _exchange(self, call: CallRoute, params: Json, sink: ProgressSink) -> McpReply:
        return reply_for_client(call, await self._request(call, params, sink))

    async def _request(self, call: CallRoute, params: Json, sink: ProgressSink) -> McpReply:
        """Send, and answer the server's questions, until it gives a result or only the client can
        answer.
        """
        for _ in range(MAX_ROUNDS):
            reply = await self._send(call, params, sink)
            result = reply.result
            if call.method == "tasks/get" and call.era == "modern" and result is not None:
                return await self._answer_task_questions(call, result, sink)
            if call.era == "legacy" or result is None or result.get("resultType") != INPUT:
                return reply
            questions = as_object(result.get("inputRequests")) or {}
            answers, left = await answer_questions(call, questions, timeout=self.config.max_call_time)
            if isinstance(left, McpReply):
                return left
            if left or (call.client.era == "modern" and not answers):
                return questions_for_client(call, result, left, tuple(answers), sealer=self._sealer)
            params = {k: v for k, v in params.items() if k != "requestState"}
            params["inputResponses"] = answers
            if "requestState" in result:
                params["requestState"] = result["requestState"]
        return call.failed(
            f"{call.upstream.name} asked more than {MAX_ROUNDS} times during one call.", "policy"
        )

    async def _answer_task_questions(self, call: CallRoute, result: Json, sink: ProgressSink) -> McpReply:
        """Answer the input requests of a modern server's task that can be answered from the config;
        the rest is the client's.
        """
        questions = as_object(result.get("inputRequests"))
        if questions is None:
            return McpReply(result=result)
        answers, left = await answer_questions(call, questions, timeout=self.config.max_call_time)
        if isinstance(left, McpReply):
            return left
        if answers:
            update = msgspec.structs.replace(call, method="tasks/update")
            answered = {"taskId": cast("HeldTask", call.task).own, "inputResponses": answers}
            if (reply := await self._send(update, answered, sink)).error is not None:
                return reply
        return McpReply(result={**result, "inputRequests": left})

    async def _send(self, call: CallRoute, params: Json, sink: ProgressSink) -> McpReply:
        """One request to the server. If a legacy server asks a modern client something, the request
        is cancelled: the answer could only come with another request of the client.
        """
        task = asyncio.current_task()
        refused: list[str] = []

        async def on_request(method: str, question: Json) -> McpReply:
            if (
                call.client.era == "modern"
                and method in era_translation.FEATURES
                and task is not None
                and not refused
            ):
                refused.append(method)
                task.cancel()
            elif call.scope == session_scope(call.client):
                return await ask_client(call, method, question)
            return McpReply.failed(METHOD_NOT_FOUND, f"{method} is not answered here.")

        capabilities: Json = (
            {**call.capabilities, "roots": {}} if call.upstream.config.roots else call.capabilities
        )
        try:
            async with self.running.enter(call, sink, size=_text_of(params.get("arguments"))):
                return await call.upstream.request(
                    call.method,
                    params,
                    scope=call.scope,
                    on_notification=sink,
                    on_request=on_request,
                    capabilities=capabilities,
                    timeout=self.config.max_call_time
                    if call.method == "tasks/result"
                    else call.upstream.config.timeout,
                    log_level=sink.level,
                    client_version=call.client.version,
                )
        except asyncio.CancelledError:
            if not refused or task is None or task.uncancel() > 0:
                raise
            return refuse_question(call, era_translation.required_capabilities(refused[0]))


def _text_of(arguments: object) -> int:
    """Characters of the string arguments, not looking into lists and objects."""
    return sum(len(value) for value in (as_object(arguments) or {}).values() if isinstance(value, str))
