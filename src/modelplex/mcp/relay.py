"""Relays one call: converts the request for its server, sends it, answers what the server asks
meanwhile, and converts the reply for the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec

from modelplex.config.settings import McpConfig
from modelplex.mcp import era_translation
from modelplex.mcp.call_results import INPUT, to_client
from modelplex.mcp.call_route import CallRoute, may_be_task, scope_of, session_scope
from modelplex.mcp.checked_catalogs import RouteTarget
from modelplex.mcp.constants import (
    INVALID_PARAMS,
    META_LOG_LEVEL,
    META_RELATED,
    METHOD_NOT_FOUND,
    Json,
    McpClient,
    McpReply,
    Unavailable,
)
from modelplex.mcp.progress_sink import LEVELS, ProgressSink
from modelplex.mcp.request_state import RequestStateSealer
from modelplex.mcp.running_calls import RunningCalls
from modelplex.mcp.server_questions import (
    answer_questions,
    ask_client,
    questions_for_client,
    refuse_question,
)
from modelplex.mcp.tasks import EXTENSION, HeldTask, Tasks, related_to
from modelplex.mcp.tool_server import ToolServer

USUAL_LEVEL: Final = "info"
"""The log level of a legacy client that set none: servers of that era log as they like."""
MAX_ROUNDS: Final = 10
"""How many times a server may ask something during one call."""


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
        client: McpClient,
        method: str,
        params: Mapping[str, Any],
        *,
        target: RouteTarget,
        upstream: ToolServer,
        route: str | None = None,
        held: HeldTask | None = None,
        **members: Any,
    ) -> McpReply:
        """Send the call to the server and return its reply, converted. `members` replaces members
        of the params. `held` is the task that the request is about. Raises Unavailable.
        """
        catalog = upstream.catalog or await upstream.lists()
        allow = upstream.config.asks
        capabilities = era_translation.may_be_asked(allow, claimed=client.capabilities) if allow else {}
        if tasks := may_be_task(upstream, client):
            if catalog.era == "modern":
                capabilities["extensions"] = {EXTENSION: {}}
            elif method == "tools/call" and "task" in params:
                members["task"] = params["task"]
        scope = scope_of(upstream, client) if held is None else held.scope
        call = CallRoute(
            client, method, target, upstream, scope, catalog.era, capabilities, route, tasks, held
        )
        outgoing = era_translation.upwards(params, globs=self.config.meta, **members)
        if tasks and catalog.era == "legacy":
            self._translate_related(call, params, outgoing)
        sink = self._progress_sink(call, params, catalog.capabilities)
        if (legacy_server := self._legacy_server_of_call(call)) is not None:
            older = msgspec.structs.replace(
                call, upstream=legacy_server, scope=session_scope(client), era="legacy"
            )
            try:
                return await self._exchange(older, outgoing, sink)
            except Unavailable as error:
                if error.reason != "start_failed":  # nothing was sent yet
                    raise
                self._unstartable.add(legacy_server)
        if catalog.era == "modern" and client.era == "modern" and not self._resume(call, params, outgoing):
            return McpReply.failed(
                INVALID_PARAMS, "The requestState is not one that this caller was given.", reason="invalid"
            )
        return await self._exchange(call, outgoing, sink)

    def instance_of(self, upstream: ToolServer, client: McpClient) -> tuple[ToolServer, str]:
        """The server, and the scope of its instance, that serves this client's calls."""
        if upstream.catalog is not None and upstream.catalog.era == "modern":
            asks = era_translation.may_be_asked(upstream.config.asks, claimed=client.capabilities)
            if (legacy_server := self._legacy_server_of(upstream, client, asks)) is not None:
                return legacy_server, session_scope(client)
        return upstream, scope_of(upstream, client)

    def _legacy_server_of_call(self, call: CallRoute) -> ToolServer | None:
        return (
            None
            if call.era == "legacy"
            else self._legacy_server_of(call.upstream, call.client, call.capabilities)
        )

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
        answers = era_translation.answers(params.get("inputResponses"), call.capabilities)
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
            meta = params.get("_meta")
            wanted = cast("Json", meta).get(META_LOG_LEVEL) if isinstance(meta, dict) else None
            level = wanted if wanted in LEVELS else None
        else:
            level = self._level(call.client) or (USUAL_LEVEL if "logging" in offered else None)
        return ProgressSink(
            call.client,
            level=level,
            globs=self.config.meta,
            clock=self._clock,
            related=lambda meta: call.related(meta, self._tasks),
            plain=call.upstream.config.plain_text,
        )

    def _translate_related(self, call: CallRoute, params: Mapping[str, Any], outgoing: Json) -> None:
        """Replace the client's id of the related task in `_meta` by the server's."""
        meta: object = params.get("_meta")
        name = related_to(meta)
        held = self._tasks.find(name, client=call.client, route=call.route) if isinstance(name, str) else None
        if held is not None and held.upstream is call.upstream:
            outgoing["_meta"] = {
                **outgoing.get("_meta", {}),
                META_RELATED: {**cast("Json", meta)[META_RELATED], "taskId": held.own},
            }

    async def _exchange(self, call: CallRoute, params: Json, sink: ProgressSink) -> McpReply:
        reply = await self._request(call, params, sink)
        return to_client(call, reply, globs=self.config.meta, tasks=self._tasks)

    async def _request(self, call: CallRoute, params: Json, sink: ProgressSink) -> McpReply:
        """Send, and answer what the server asks, until it has answered or the client has to."""
        for _ in range(MAX_ROUNDS):
            reply = await self._send(call, params, sink)
            result = reply.result
            if call.method == "tasks/get" and call.era == "modern" and result is not None:
                return await self._answer_task_questions(call, result, sink)
            if call.era == "legacy" or result is None or result.get("resultType") != INPUT:
                return reply
            questions: object = result.get("inputRequests")
            answers, left = await answer_questions(
                call,
                cast("Json", questions) if isinstance(questions, dict) else {},
                limits=self.config,
                tasks=self._tasks,
            )
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
        questions: object = result.get("inputRequests")
        if not isinstance(questions, dict):
            return McpReply(result=result)
        answers, left = await answer_questions(
            call, cast("Json", questions), limits=self.config, tasks=self._tasks
        )
        if isinstance(left, McpReply):
            return left
        if answers:
            update = msgspec.structs.replace(call, method="tasks/update")
            answered = {"taskId": cast("HeldTask", call.held).own, "inputResponses": answers}
            if (reply := await self._send(update, answered, sink)).error is not None:
                return reply
        return McpReply(result={**result, "inputRequests": left})

    async def _send(self, call: CallRoute, params: Json, sink: ProgressSink) -> McpReply:
        """One request to the server. If a legacy server asks a modern client something, the request
        is cancelled: the answer could only come with another request of the client.
        """
        task = asyncio.current_task()
        wanted: list[str] = []

        async def on_request(method: str, question: Json) -> McpReply:
            if (
                call.client.era == "modern"
                and method in era_translation.FEATURES
                and task is not None
                and not wanted
            ):
                wanted.append(method)
                task.cancel()
            elif call.scope == session_scope(call.client):
                return await ask_client(call, method, question, globs=self.config.meta, tasks=self._tasks)
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
            if not wanted or task is None or task.uncancel() > 0:
                raise
            return refuse_question(call, era_translation.required(wanted[0]))


def _text_of(arguments: object) -> int:
    """Characters of the string arguments, not looking into lists and objects."""
    if not isinstance(arguments, dict):
        return 0
    return sum(len(value) for value in cast("Json", arguments).values() if isinstance(value, str))
