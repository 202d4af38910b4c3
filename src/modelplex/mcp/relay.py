"""One call on its way: within the limits, in the form that its server speaks, with what the server
asks in between, and back in the form that the client reads.

Above it stands the hub, which has found the server and asked the policy; below it the cells, the
seals and the server. What is said during a call (progress, log messages) goes to the one who
called, and to nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from modelplex.config.settings import McpConfig
from modelplex.mcp import era_translation, results, shapes
from modelplex.mcp.call_slots import CallSlots, SlotsFull
from modelplex.mcp.constants import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    META_LOG_LEVEL,
    META_RELATED,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    Era,
    Json,
    McpClient,
    McpReply,
    Unavailable,
)
from modelplex.mcp.request_context import tool_refused
from modelplex.mcp.request_state import RequestStateSealer, SealedRequestState
from modelplex.mcp.routing import RouteTarget
from modelplex.mcp.tasks import (
    EXTENSION,
    FIRST_VERSION,
    HeldTask,
    Tasks,
    declared,
    offered,
    related_to,
    takes,
)
from modelplex.mcp.tool_server import ToolServer

LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Of log messages, the least first (RFC 5424)."""
USUAL_LEVEL: Final = "info"
"""What a legacy client gets that never set a level: servers of that era say what they like."""
MAX_ROUNDS: Final = 10
"""Times that a server may ask something during one call."""
MAX_LOGS: Final = 10
"""Log messages a second and call that are passed on."""
RETRY_AFTER: Final = 1.0
"""Seconds after which a caller at its limit may try again: calls are mostly shorter."""
INPUT: Final = "input_required"
TASK: Final = "task"
MESSAGE: Final = "notifications/message"
PROGRESS: Final = "notifications/progress"

_encode = msgspec.json.Encoder().encode


class CallRoute(msgspec.Struct, frozen=True):
    """Where one call goes, and what the server may ask of the caller on it.

    `route` is the caller's. `tasks` says that the call may go on as a task; `held` is the task that
    is asked about.
    """

    client: McpClient
    method: str
    target: RouteTarget
    upstream: ToolServer
    scope: str
    era: Era
    capabilities: Json
    route: str | None = None
    tasks: bool = False
    held: HeldTask | None = None


class ProgressSink:
    """What a server says to one call, for the one who called. `level` is the least that they want
    to hear, None for no log messages at all.

    `related` gives what of a `_meta` says which task it is about. `plain` shows characters that
    nobody sees.
    """

    __slots__ = ("_client", "_clock", "_globs", "_logs", "_plain", "_related", "_second", "level")

    def __init__(
        self,
        client: McpClient,
        *,
        level: str | None,
        globs: tuple[str, ...],
        clock: Callable[[], float],
        related: Callable[[object], Json],
        plain: bool = False,
    ) -> None:
        self._client = client
        self._globs = globs
        self._clock = clock
        self._related = related
        self._plain = plain
        self._second = 0.0
        self._logs = 0
        self.level = level

    def __call__(self, message: Json) -> None:
        method = message.get("method")
        if method == PROGRESS or (method == MESSAGE and self._wanted(message)):
            shown = era_translation.notification(message, globs=self._globs, related=self._related)
            if self._plain and isinstance(params := shown.get("params"), dict):
                shown = {**shown, "params": results.plain_words(cast("Json", params))}
            self._client.send(shown)

    def _wanted(self, message: Json) -> bool:
        if self.level is None:
            return False
        params: object = message.get("params")
        level = cast("Json", params).get("level") if isinstance(params, dict) else None
        if level in LEVELS and LEVELS.index(cast("str", level)) < LEVELS.index(self.level):
            return False
        now = self._clock()
        if now - self._second >= 1.0:
            self._second, self._logs = now, 0
        self._logs += 1
        return self._logs <= MAX_LOGS


class ProcessUse:
    """A process of a session's or an agent's own, while calls run there. `place` is done when it
    may run.
    """

    def __init__(self, slot: asyncio.Task[None]) -> None:
        self.calls = 0
        self.slot = slot

    def __repr__(self) -> str:
        return f"<Used by {self.calls} calls{'' if self.slot.done() else ', waiting'}>"


class Relay:
    """The calls that run. `level` is what a legacy session has set, None where it has set nothing.
    `elders` are the hub's; `tasks` are kept here as they are made.
    """

    def __init__(
        self,
        config: McpConfig,
        *,
        legacy_servers: Mapping[str, ToolServer],
        sealer: RequestStateSealer,
        tasks: Tasks,
        clock: Callable[[], float],
        level: Callable[[McpClient], str | None],
        on_idle: Callable[[ToolServer], None],
    ) -> None:
        self.config = config
        self._legacy_servers = legacy_servers
        self._unstartable: set[ToolServer] = set()
        self._sealer = sealer
        self._tasks = tasks
        self._clock = clock
        self._level = level
        self._on_idle = on_idle
        self._callers: dict[str, int] = {}
        self._slots: dict[ToolServer, CallSlots] = {}
        self._log_receivers: dict[tuple[str, str], list[ProgressSink]] = {}
        self._processes = CallSlots(config.max_processes)
        self._processes_in_use: dict[tuple[ToolServer, str], ProcessUse] = {}

    def __repr__(self) -> str:
        return f"<Relay of {sum(slots.running for slots in self._slots.values())} calls>"

    def runs(self, upstream: ToolServer) -> int:
        """How many calls are at this server."""
        slots = self._slots.get(upstream)
        return slots.running if slots is not None else 0

    @contextmanager
    def count_request(self, owner: str) -> Generator[None]:
        """A caller's request, counted. Raises Unavailable where they have too many."""
        running = self._callers.get(owner, 0)
        if running >= self.config.max_in_flight:
            raise Unavailable(
                f"{running} requests of this caller are being answered, which is the limit.",
                server="",
                reason="limit",
                retry_after=RETRY_AFTER,
            )
        self._callers[owner] = running + 1
        try:
            yield
        finally:
            left = self._callers[owner] - 1
            if left:
                self._callers[owner] = left
            else:
                del self._callers[owner]

    def deliver_log(self, server: str, scope: str, message: Json) -> bool:
        """A log message that belongs to no call, for the one call that wants some, if there is one.
        False where nobody had it.
        """
        receivers = self._log_receivers.get((server, scope), [])
        if len(receivers) != 1:
            return False
        receivers[0](message)
        return True

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
        """Have the server answer; `set_` replaces members of the params. `held` is the task that is
        asked about. Raises Unavailable.
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
                return self._to_client(older, await self._exchange(older, outgoing, sink))
            except Unavailable as error:
                if error.reason != "start_failed":  # then nothing was sent yet
                    raise
                self._unstartable.add(legacy_server)
        if catalog.era == "modern" and client.era == "modern" and not self._resume(call, params, outgoing):
            return McpReply.failed(
                INVALID_PARAMS, "The requestState is not one that this caller was given.", reason="invalid"
            )
        return self._to_client(call, await self._exchange(call, outgoing, sink))

    def instance_of(self, upstream: ToolServer, client: McpClient) -> tuple[ToolServer, str]:
        """The server, and which of its processes, that this party's calls go to."""
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
        """Where a server of both eras is asked in the older one: for a legacy client that it may
        ask something, since many tools ask in the form of that era alone.
        """
        if client.era == "modern" or not capabilities or not client.session:
            return None
        legacy_server = self._legacy_servers.get(upstream.name)
        return legacy_server if legacy_server not in self._unstartable else None

    # --- up ---------------------------------------------------------------------------------------

    def _resume(self, call: CallRoute, params: Mapping[str, Any], outgoing: Json) -> bool:
        """Put a modern client's answers into the request, and what it was given to bring back.
        False where it brings what it was not given.
        """
        answers = era_translation.answers(params.get("inputResponses"), call.capabilities)
        if (state := params.get("requestState")) is not None:
            sealed = self._sealer.open(state, server=call.upstream.name, owner=call.client.caller.owner)
            if sealed is None:
                return False
            if sealed.state is not None:
                outgoing["requestState"] = sealed.state
            answers |= dict.fromkeys(sealed.roots, _roots(call.upstream))
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
            related=lambda meta: self._related(call, meta),
            plain=call.upstream.config.plain_text,
        )

    def _translate_related(self, call: CallRoute, params: Mapping[str, Any], outgoing: Json) -> None:
        """What a client says of the task that its request belongs to, with the server's
        id of that.
        """
        meta: object = params.get("_meta")
        name = related_to(meta)
        held = self._tasks.find(name, client=call.client, route=call.route) if isinstance(name, str) else None
        if held is not None and held.upstream is call.upstream:
            outgoing["_meta"] = {
                **outgoing.get("_meta", {}),
                META_RELATED: {**cast("Json", meta)[META_RELATED], "taskId": held.own},
            }

    def _related(self, call: CallRoute, meta: object) -> Json:
        if not call.tasks:
            return {}
        owner = call.client.caller.owner
        return self._tasks.related(
            meta, upstream=call.upstream, scope=call.scope, owner=owner, route=call.route
        )

    async def _exchange(self, call: CallRoute, params: Json, sink: ProgressSink) -> McpReply:
        """Ask, and answer what the server asks back, until it has answered or the client is to be
        asked by a result of its own.
        """
        for _ in range(MAX_ROUNDS):
            reply = await self._request_once(call, params, sink)
            result = reply.result
            if call.method == "tasks/get" and call.era == "modern" and result is not None:
                return await self._answer_task_questions(call, result, sink)
            if call.era == "legacy" or result is None or result.get("resultType") != INPUT:
                return reply
            questions: object = result.get("inputRequests")
            answers, left = await self._answer_questions(
                call, cast("Json", questions) if isinstance(questions, dict) else {}
            )
            if isinstance(left, McpReply):
                return left
            if left or (call.client.era == "modern" and not answers):
                return self._questions_for_client(call, result, left, tuple(answers))
            params = {k: v for k, v in params.items() if k != "requestState"}
            params["inputResponses"] = answers
            if "requestState" in result:
                params["requestState"] = result["requestState"]
        return failed(
            call, f"{call.upstream.name} asked more than {MAX_ROUNDS} times during one call.", "policy"
        )

    async def _answer_task_questions(self, call: CallRoute, result: Json, sink: ProgressSink) -> McpReply:
        """A task of a modern server, with what it waits for: what is known here it is told at once,
        and the rest is the client's.
        """
        questions: object = result.get("inputRequests")
        if not isinstance(questions, dict):
            return McpReply(result=result)
        answers, left = await self._answer_questions(call, cast("Json", questions))
        if isinstance(left, McpReply):
            return left
        if answers:
            update = msgspec.structs.replace(call, method="tasks/update")
            answered = {"taskId": cast("HeldTask", call.held).own, "inputResponses": answers}
            if (reply := await self._request_once(update, answered, sink)).error is not None:
                return reply
        return McpReply(result={**result, "inputRequests": left})

    async def _request_once(self, call: CallRoute, params: Json, sink: ProgressSink) -> McpReply:
        """One request to the server, which takes one of its places, or waits for one in turn. It
        waits as long as the call itself may be silent.
        """
        upstream, owner = call.upstream, call.client.caller.owner
        slots = self._slots.get(upstream)
        if slots is None:
            slots = self._slots[upstream] = CallSlots(self.config.max_server_in_flight)
        slots.limit = self.config.max_server_in_flight
        size = _text_of(params.get("arguments"))
        try:
            await slots.take(owner, patience=upstream.config.timeout, size=size)
        except SlotsFull as full:
            raise Unavailable(
                f"{upstream.name} {full.sentence}",
                server=upstream.name,
                reason="limit",
                retry_after=RETRY_AFTER,
            ) from None
        try:
            async with self._process_slot(call):
                with self._receiving_logs(call, sink):
                    return await self._send(call, params, sink)
        finally:
            slots.give_back(owner, size=size)
            if slots.idle:
                self._slots.pop(upstream, None)
                self._on_idle(upstream)

    @asynccontextmanager
    async def _process_slot(self, call: CallRoute) -> AsyncGenerator[None]:
        """While calls run in a process of a session's or an agent's own, it counts as its caller's:
        of all processes one caller has no more than a share in use.
        """
        if not call.scope or call.upstream.config.command is None:
            yield
            return
        key, owner = (call.upstream, call.scope), call.client.caller.owner
        self._processes.limit = self.config.max_processes
        used = self._processes_in_use.get(key)
        if used is None:
            taking = self._processes.take(owner, patience=call.upstream.config.timeout)
            used = self._processes_in_use[key] = ProcessUse(asyncio.create_task(taking))
        used.calls += 1
        try:
            await asyncio.shield(used.slot)
            yield
        except SlotsFull as full:
            sentence = f"{call.upstream.name} needs a process of its own for this session; the gateway {full.sentence}"
            raise Unavailable(
                sentence, server=call.upstream.name, reason="limit", retry_after=RETRY_AFTER
            ) from None
        finally:
            used.calls -= 1
            if not used.calls:
                del self._processes_in_use[key]
                used.slot.add_done_callback(lambda slot: self._release_process_slot(slot, owner))
                used.slot.cancel()

    def _release_process_slot(self, slot: asyncio.Task[None], owner: str) -> None:
        if not slot.cancelled() and slot.exception() is None:
            self._processes.give_back(owner)

    @contextmanager
    def _receiving_logs(self, call: CallRoute, sink: ProgressSink) -> Generator[None]:
        """While it runs, the call may have the log messages that belong to no call."""
        if sink.level is None:
            yield
            return
        key = (call.upstream.name, call.scope)
        receivers = self._log_receivers.setdefault(key, [])
        receivers.append(sink)
        try:
            yield
        finally:
            receivers.remove(sink)
            if not receivers:
                del self._log_receivers[key]

    async def _send(self, call: CallRoute, params: Json, sink: ProgressSink) -> McpReply:
        """A legacy server that asks something of a modern client has its call cancelled: no call is
        kept open for an answer that would come with another request.
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
                return await self._ask_client(call, method, question)
            return McpReply.failed(METHOD_NOT_FOUND, f"{method} is not answered here.")

        capabilities: Json = (
            {**call.capabilities, "roots": {}} if call.upstream.config.roots else call.capabilities
        )
        try:
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
            return self._refuse_question(call, era_translation.required(wanted[0]))

    # --- what a server asks -----------------------------------------------------------------------

    async def _answer_questions(self, call: CallRoute, questions: Json) -> tuple[Json, Json | McpReply]:
        """The answers that are known here or that a legacy client gave, and the questions that are
        a modern client's to answer; or why it ends.
        """
        answers: Json = {}
        left: Json = {}
        for key, question in questions.items():
            method, params = _question(question)
            if method == "roots/list" and call.upstream.config.roots:
                answers[key] = _roots(call.upstream)
            elif not era_translation.answerable(method, params, call.capabilities):
                return {}, self._refuse_question(call, era_translation.required(method))
            elif call.client.era == "modern":
                left[key] = question
            else:
                try:
                    async with asyncio.timeout(self.config.max_call_time):
                        answer = await self._ask_client(call, method, params)
                except TimeoutError:
                    answer = McpReply.failed(INTERNAL_ERROR, "no answer in time")
                if answer.result is None:
                    reason = (answer.error or {}).get("message", "no answer")
                    return {}, failed(call, f"The client did not answer {method}: {reason}", "client")
                answers[key] = answer.result
        return answers, left

    async def _ask_client(self, call: CallRoute, method: str, params: Json) -> McpReply:
        """Ask a legacy client what its server asks, without what a server has to say to this
        gateway alone.
        """
        if not era_translation.answerable(method, params, call.capabilities):
            return McpReply.failed(METHOD_NOT_FOUND, f"{method} is not answered here.")
        question = dict(params)
        original = question.pop("_meta", None)
        related = self._related(call, original)
        meta = {**era_translation.without_reserved(original, self.config.meta), **related}
        meta.pop("progressToken", None)
        if meta:
            question["_meta"] = meta
        reply = await call.client.ask(method, question)
        if reply.result is None:
            return reply
        answer = dict(reply.result)
        meta = era_translation.without_reserved(answer.pop("_meta", None), self.config.meta)
        if related:  # the answer belongs to what the question did
            meta[META_RELATED] = cast("Json", original)[META_RELATED]
        return McpReply(result={**answer, "_meta": meta} if meta else answer)

    def _refuse_question(self, call: CallRoute, required: Json) -> McpReply:
        """The server asked for what it is not allowed, or what this client cannot do: the client is
        told which of the two.
        """
        claimed = call.client.capabilities
        asks = " and ".join(era_translation.named(required)) or "something"
        if call.client.era == "modern" and not era_translation.claims(claimed, required):
            return McpReply.failed(
                MISSING_CAPABILITY,
                f"{call.upstream.name} has to ask the client for {asks}, which it did not declare.",
                {"requiredCapabilities": required},
                reason="capability",
            )
        return failed(
            call,
            f"{call.upstream.name} asked for {asks}, which the host does not allow this server.",
            "policy",
        )

    def _questions_for_client(
        self, call: CallRoute, result: Json, left: Json, roots: tuple[str, ...]
    ) -> McpReply:
        """A modern server's questions for a modern client. What the server wants brought back is
        sealed for this server and this caller.
        """
        handed = dict(result)
        if left:
            handed["inputRequests"] = left
        else:
            handed.pop("inputRequests", None)
        state: object = handed.pop("requestState", None)
        if state is not None or roots:
            handed["requestState"] = self._sealer.seal(
                SealedRequestState(
                    call.upstream.name,
                    call.client.caller.owner,
                    state if isinstance(state, str) else None,
                    roots,
                )
            )
        return McpReply(result=handed)

    # --- down -------------------------------------------------------------------------------------

    def _to_client(self, call: CallRoute, reply: McpReply) -> McpReply:
        """What the client reads. What the gateway itself said stays as it is, but for what a modern
        result always has.
        """
        modern = call.client.era == "modern"
        if reply.error is not None:
            if reply.reason:
                return reply
            code = reply.error.get("code")
            if code == MISSING_CAPABILITY and call.era == "modern":
                return self._refuse_question(call, _required(reply.error))
            shown = era_translation.error(reply.error, era=call.client.era, method=call.method)
            return McpReply(error=results.plain_words(shown) if call.upstream.config.plain_text else shown)
        if not isinstance(reply.result, dict):  # pyright: ignore[reportUnnecessaryIsInstance] - a server may say anything
            return failed(call, f"{call.upstream.name} answered with what is no result.", "invalid_answer")
        kind = reply.result.get("resultType", "complete")
        if call.era == "modern" and kind not in ("complete", INPUT) and not (kind == TASK and call.tasks):
            return failed(
                call,
                f"{call.upstream.name} answered with a {str(kind)[:40]!r}, which is not relayed.",
                "invalid_answer",
            )
        converted = era_translation.downwards(
            reply.result,
            era=call.client.era,
            server_era=call.era,
            globs=self.config.meta,
            ttl=era_translation.READ_TTL if call.method == "resources/read" and modern else None,
        )
        if call.tasks:
            self._translate_task_ids(call, reply.result, converted)
        if kind == "complete" and not reply.reason:
            try:
                converted = shapes.answered(call.method, converted, era=call.client.era)
            except shapes.Malformed as fault:
                sentence = f"{call.upstream.name} answered with a result that no client can read: {fault}."
                return failed(call, sentence, "invalid_answer")
        if call.upstream.config.plain_text:
            converted = results.plain_words(converted)
        return McpReply(result=converted, reason=reply.reason)

    def _translate_task_ids(self, call: CallRoute, result: Json, converted: Json) -> None:
        """The ids of tasks in a result, as the caller knows them. A task that is made here is the
        caller's from now on.
        """
        task: object = result.get("task")
        if call.era == "modern":
            task = result if result.get("resultType") == TASK else None
        if call.method != "tools/call":
            if call.held is not None and result.get("taskId") == call.held.own:
                converted["taskId"] = call.held.shown(call.route)
            if call.era == "modern" and isinstance(inner := result.get("result"), dict):
                converted["result"] = era_translation.inner(cast("Json", inner), globs=self.config.meta)
        elif isinstance(task, dict) and isinstance(own := cast("Json", task).get("taskId"), str):
            held = self._tasks.made(
                call.upstream, own, scope=call.scope, client=call.client, route=call.route
            )
            if call.era == "modern":
                converted["taskId"] = held.shown(call.route)
            else:
                converted["task"] = {**cast("Json", task), "taskId": held.shown(call.route)}
        if related := self._related(call, result.get("_meta")):
            converted["_meta"] = {**converted.get("_meta", {}), **related}


def scope_of(upstream: ToolServer, client: McpClient) -> str:
    """Which of a server's processes this party is served by; "" is the one for all.

    A legacy server that may ask its client has one for each legacy session: on a shared one nobody
    could tell whom it asks.
    """
    kind = upstream.config.scope
    if kind == "agent":
        return client.caller.owner
    asks = bool(upstream.config.asks) and upstream.catalog is not None and upstream.catalog.era == "legacy"
    if client.era == "legacy" and client.session and (kind == "session" or asks):
        return session_scope(client)
    return client.caller.owner if kind == "session" else ""


def may_be_task(upstream: ToolServer, client: McpClient) -> bool:
    """Whether this party's calls of the server may go on as tasks, which both must know in the same
    era's form.
    """
    offer = offered(upstream, client.era)
    if offer is None:
        return False
    if client.era == "modern":
        return declared(client.capabilities)
    return client.version >= FIRST_VERSION and takes(offer)


def session_scope(client: McpClient) -> str:
    """The name of a session's processes. It is shown in the status, and a session's id is not."""
    return "session:" + sha256(client.session.encode()).hexdigest()[:16] if client.session else "session:"


def failed(call: CallRoute, sentence: str, reason: str) -> McpReply:
    """What the gateway itself says of a call: for a tool a result that the model can read."""
    if call.method == "tools/call":
        return tool_refused(sentence, reason=reason, era=call.client.era)
    return McpReply.failed(
        INTERNAL_ERROR, sentence, {"reason": reason, "server": call.upstream.name}, reason=reason
    )


def size(result: object) -> tuple[int, bytes]:
    """Bytes of a result as JSON, and those bytes. A lone surrogate cannot be written: then it has
    no size.
    """
    try:
        body = _encode(result)
    except (UnicodeEncodeError, RecursionError):
        return 0, b""
    return len(body), body


def _question(question: object) -> tuple[str, Json]:
    if not isinstance(question, dict):
        return "", {}
    asked = cast("Json", question)
    params: object = asked.get("params")
    return str(asked.get("method", "")), cast("Json", params) if isinstance(params, dict) else {}


def _required(error: Json) -> Json:
    data: object = error.get("data")
    required: object = cast("Json", data).get("requiredCapabilities") if isinstance(data, dict) else None
    return cast("Json", required) if isinstance(required, dict) else {}


def _roots(upstream: ToolServer) -> Json:
    """The folders of the config, whatever a client would have said."""
    return {
        "roots": [
            {"uri": Path(path).as_uri(), "name": Path(path).name or path} for path in upstream.config.roots
        ]
    }


def _text_of(arguments: object) -> int:
    """Characters in the texts that a tool is given, not looking into lists and objects."""
    if not isinstance(arguments, dict):
        return 0
    return sum(len(value) for value in cast("Json", arguments).values() if isinstance(value, str))
