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

    party: McpClient
    method: str
    target: RouteTarget
    back: ToolServer
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

    __slots__ = ("_clock", "_globs", "_logs", "_party", "_plain", "_related", "_second", "level")

    def __init__(
        self,
        party: McpClient,
        *,
        level: str | None,
        globs: tuple[str, ...],
        clock: Callable[[], float],
        related: Callable[[object], Json],
        plain: bool = False,
    ) -> None:
        self._party = party
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
            told = era_translation.notification(message, globs=self._globs, related=self._related)
            if self._plain and isinstance(params := told.get("params"), dict):
                told = {**told, "params": results.plain_words(cast("Json", params))}
            self._party.send(told)

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

    def __init__(self, place: asyncio.Task[None]) -> None:
        self.calls = 0
        self.place = place

    def __repr__(self) -> str:
        return f"<Used by {self.calls} calls{'' if self.place.done() else ', waiting'}>"


class Relay:
    """The calls that run. `level` is what a legacy session has set, None where it has set nothing.
    `elders` are the hub's; `tasks` are kept here as they are made.
    """

    def __init__(
        self,
        config: McpConfig,
        *,
        elders: Mapping[str, ToolServer],
        seals: RequestStateSealer,
        tasks: Tasks,
        clock: Callable[[], float],
        level: Callable[[McpClient], str | None],
        emptied: Callable[[ToolServer], None],
    ) -> None:
        self.config = config
        self._elders = elders
        self._young: set[ToolServer] = set()
        self._seals = seals
        self._tasks = tasks
        self._clock = clock
        self._level = level
        self._emptied = emptied
        self._callers: dict[str, int] = {}
        self._places: dict[ToolServer, CallSlots] = {}
        self._listening: dict[tuple[str, str], list[ProgressSink]] = {}
        self._processes = CallSlots(config.max_processes)
        self._used: dict[tuple[ToolServer, str], ProcessUse] = {}

    def __repr__(self) -> str:
        return f"<Relay of {sum(places.running for places in self._places.values())} calls>"

    def runs(self, back: ToolServer) -> int:
        """How many calls are at this server."""
        places = self._places.get(back)
        return places.running if places is not None else 0

    @contextmanager
    def admitted(self, owner: str) -> Generator[None]:
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

    def heard(self, server: str, scope: str, message: Json) -> bool:
        """A log message that belongs to no call, for the one call that wants some, if there is one.
        False where nobody had it.
        """
        listening = self._listening.get((server, scope), [])
        if len(listening) != 1:
            return False
        listening[0](message)
        return True

    async def call(
        self,
        party: McpClient,
        method: str,
        params: Mapping[str, Any],
        *,
        target: RouteTarget,
        back: ToolServer,
        route: str | None = None,
        held: HeldTask | None = None,
        **set_: Any,
    ) -> McpReply:
        """Have the server answer; `set_` replaces members of the params. `held` is the task that is
        asked about. Raises Unavailable.
        """
        catalog = back.catalog or await back.lists()
        allow = back.config.asks
        capabilities = era_translation.may_be_asked(allow, claimed=party.capabilities) if allow else {}
        if tasks := may_be_task(back, party):
            if catalog.era == "modern":
                capabilities["extensions"] = {EXTENSION: {}}
            elif method == "tools/call" and "task" in params:
                set_["task"] = params["task"]
        scope = scope_of(back, party) if held is None else held.scope
        way = CallRoute(party, method, target, back, scope, catalog.era, capabilities, route, tasks, held)
        up = era_translation.upwards(params, globs=self.config.meta, **set_)
        if tasks and catalog.era == "legacy":
            self._relate(way, params, up)
        heard = self._heard(way, params, catalog.capabilities)
        if (elder := self._elder(way)) is not None:
            older = msgspec.structs.replace(way, back=elder, scope=session_scope(party), era="legacy")
            try:
                return self._down(older, await self._exchange(older, up, heard))
            except Unavailable as error:
                if error.reason != "start_failed":  # then nothing was sent yet
                    raise
                self._young.add(elder)
        if catalog.era == "modern" and party.era == "modern" and not self._resume(way, params, up):
            return McpReply.failed(
                INVALID_PARAMS, "The requestState is not one that this caller was given.", reason="invalid"
            )
        return self._down(way, await self._exchange(way, up, heard))

    def seat(self, back: ToolServer, party: McpClient) -> tuple[ToolServer, str]:
        """The server, and which of its processes, that this party's calls go to."""
        if back.catalog is not None and back.catalog.era == "modern":
            asks = era_translation.may_be_asked(back.config.asks, claimed=party.capabilities)
            if (elder := self._elder_of(back, party, asks)) is not None:
                return elder, session_scope(party)
        return back, scope_of(back, party)

    def _elder(self, way: CallRoute) -> ToolServer | None:
        return None if way.era == "legacy" else self._elder_of(way.back, way.party, way.capabilities)

    def _elder_of(self, back: ToolServer, party: McpClient, capabilities: Json) -> ToolServer | None:
        """Where a server of both eras is asked in the older one: for a legacy client that it may
        ask something, since many tools ask in the form of that era alone.
        """
        if party.era == "modern" or not capabilities or not party.session:
            return None
        elder = self._elders.get(back.name)
        return elder if elder not in self._young else None

    # --- up ---------------------------------------------------------------------------------------

    def _resume(self, way: CallRoute, params: Mapping[str, Any], up: Json) -> bool:
        """Put a modern client's answers into the request, and what it was given to bring back.
        False where it brings what it was not given.
        """
        answers = era_translation.answers(params.get("inputResponses"), way.capabilities)
        if (state := params.get("requestState")) is not None:
            sealed = self._seals.open(state, server=way.back.name, owner=way.party.caller.owner)
            if sealed is None:
                return False
            if sealed.state is not None:
                up["requestState"] = sealed.state
            answers |= dict.fromkeys(sealed.roots, _roots(way.back))
        if answers or "inputResponses" in params:
            up["inputResponses"] = answers
        return True

    def _heard(self, way: CallRoute, params: Mapping[str, Any], offered: Mapping[str, Any]) -> ProgressSink:
        level: str | None
        if way.party.era == "modern":
            meta = params.get("_meta")
            wanted = cast("Json", meta).get(META_LOG_LEVEL) if isinstance(meta, dict) else None
            level = wanted if wanted in LEVELS else None
        else:
            level = self._level(way.party) or (USUAL_LEVEL if "logging" in offered else None)
        return ProgressSink(
            way.party,
            level=level,
            globs=self.config.meta,
            clock=self._clock,
            related=lambda meta: self._related(way, meta),
            plain=way.back.config.plain_text,
        )

    def _relate(self, way: CallRoute, params: Mapping[str, Any], up: Json) -> None:
        """What a client says of the task that its request belongs to, with the server's
        id of that.
        """
        meta: object = params.get("_meta")
        name = related_to(meta)
        held = self._tasks.find(name, party=way.party, route=way.route) if isinstance(name, str) else None
        if held is not None and held.back is way.back:
            up["_meta"] = {
                **up.get("_meta", {}),
                META_RELATED: {**cast("Json", meta)[META_RELATED], "taskId": held.own},
            }

    def _related(self, way: CallRoute, meta: object) -> Json:
        if not way.tasks:
            return {}
        owner = way.party.caller.owner
        return self._tasks.related(meta, back=way.back, scope=way.scope, owner=owner, route=way.route)

    async def _exchange(self, way: CallRoute, params: Json, heard: ProgressSink) -> McpReply:
        """Ask, and answer what the server asks back, until it has answered or the client is to be
        asked by a result of its own.
        """
        for _ in range(MAX_ROUNDS):
            reply = await self._once(way, params, heard)
            result = reply.result
            if way.method == "tasks/get" and way.era == "modern" and result is not None:
                return await self._waiting(way, result, heard)
            if way.era == "legacy" or result is None or result.get("resultType") != INPUT:
                return reply
            questions: object = result.get("inputRequests")
            answers, left = await self._answered(
                way, cast("Json", questions) if isinstance(questions, dict) else {}
            )
            if isinstance(left, McpReply):
                return left
            if left or (way.party.era == "modern" and not answers):
                return self._handed_on(way, result, left, tuple(answers))
            params = {k: v for k, v in params.items() if k != "requestState"}
            params["inputResponses"] = answers
            if "requestState" in result:
                params["requestState"] = result["requestState"]
        return failed(way, f"{way.back.name} asked more than {MAX_ROUNDS} times during one call.", "policy")

    async def _waiting(self, way: CallRoute, result: Json, heard: ProgressSink) -> McpReply:
        """A task of a modern server, with what it waits for: what is known here it is told at once,
        and the rest is the client's.
        """
        questions: object = result.get("inputRequests")
        if not isinstance(questions, dict):
            return McpReply(result=result)
        answers, left = await self._answered(way, cast("Json", questions))
        if isinstance(left, McpReply):
            return left
        if answers:
            update = msgspec.structs.replace(way, method="tasks/update")
            told = {"taskId": cast("HeldTask", way.held).own, "inputResponses": answers}
            if (reply := await self._once(update, told, heard)).error is not None:
                return reply
        return McpReply(result={**result, "inputRequests": left})

    async def _once(self, way: CallRoute, params: Json, heard: ProgressSink) -> McpReply:
        """One request to the server, which takes one of its places, or waits for one in turn. It
        waits as long as the call itself may be silent.
        """
        back, owner = way.back, way.party.caller.owner
        places = self._places.get(back)
        if places is None:
            places = self._places[back] = CallSlots(self.config.max_server_in_flight)
        places.limit = self.config.max_server_in_flight
        size = _text_of(params.get("arguments"))
        try:
            await places.take(owner, patience=back.config.timeout, size=size)
        except SlotsFull as full:
            raise Unavailable(
                f"{back.name} {full.sentence}", server=back.name, reason="limit", retry_after=RETRY_AFTER
            ) from None
        try:
            async with self._process(way):
                with self._listened(way, heard):
                    return await self._sent(way, params, heard)
        finally:
            places.give_back(owner, size=size)
            if places.idle:
                self._places.pop(back, None)
                self._emptied(back)

    @asynccontextmanager
    async def _process(self, way: CallRoute) -> AsyncGenerator[None]:
        """While calls run in a process of a session's or an agent's own, it counts as its caller's:
        of all processes one caller has no more than a share in use.
        """
        if not way.scope or way.back.config.command is None:
            yield
            return
        key, owner = (way.back, way.scope), way.party.caller.owner
        self._processes.limit = self.config.max_processes
        used = self._used.get(key)
        if used is None:
            taking = self._processes.take(owner, patience=way.back.config.timeout)
            used = self._used[key] = ProcessUse(asyncio.create_task(taking))
        used.calls += 1
        try:
            await asyncio.shield(used.place)
            yield
        except SlotsFull as full:
            sentence = (
                f"{way.back.name} needs a process of its own for this session; the gateway {full.sentence}"
            )
            raise Unavailable(
                sentence, server=way.back.name, reason="limit", retry_after=RETRY_AFTER
            ) from None
        finally:
            used.calls -= 1
            if not used.calls:
                del self._used[key]
                used.place.add_done_callback(lambda place: self._place_free(place, owner))
                used.place.cancel()

    def _place_free(self, place: asyncio.Task[None], owner: str) -> None:
        if not place.cancelled() and place.exception() is None:
            self._processes.give_back(owner)

    @contextmanager
    def _listened(self, way: CallRoute, heard: ProgressSink) -> Generator[None]:
        """While it runs, the call may have the log messages that belong to no call."""
        if heard.level is None:
            yield
            return
        key = (way.back.name, way.scope)
        listening = self._listening.setdefault(key, [])
        listening.append(heard)
        try:
            yield
        finally:
            listening.remove(heard)
            if not listening:
                del self._listening[key]

    async def _sent(self, way: CallRoute, params: Json, heard: ProgressSink) -> McpReply:
        """A legacy server that asks something of a modern client has its call cancelled: no call is
        kept open for an answer that would come with another request.
        """
        task = asyncio.current_task()
        wanted: list[str] = []

        async def asked(method: str, question: Json) -> McpReply:
            if (
                way.party.era == "modern"
                and method in era_translation.FEATURES
                and task is not None
                and not wanted
            ):
                wanted.append(method)
                task.cancel()
            elif way.scope == session_scope(way.party):
                return await self._ask(way, method, question)
            return McpReply.failed(METHOD_NOT_FOUND, f"{method} is not answered here.")

        capabilities: Json = {**way.capabilities, "roots": {}} if way.back.config.roots else way.capabilities
        try:
            return await way.back.request(
                way.method,
                params,
                scope=way.scope,
                told=heard,
                asked=asked,
                capabilities=capabilities,
                timeout=self.config.max_call_time
                if way.method == "tasks/result"
                else way.back.config.timeout,
                log_level=heard.level,
                client_version=way.party.version,
            )
        except asyncio.CancelledError:
            if not wanted or task is None or task.uncancel() > 0:
                raise
            return self._may_not_ask(way, era_translation.required(wanted[0]))

    # --- what a server asks -----------------------------------------------------------------------

    async def _answered(self, way: CallRoute, questions: Json) -> tuple[Json, Json | McpReply]:
        """The answers that are known here or that a legacy client gave, and the questions that are
        a modern client's to answer; or why it ends.
        """
        answers: Json = {}
        left: Json = {}
        for key, question in questions.items():
            method, params = _question(question)
            if method == "roots/list" and way.back.config.roots:
                answers[key] = _roots(way.back)
            elif not era_translation.answerable(method, params, way.capabilities):
                return {}, self._may_not_ask(way, era_translation.required(method))
            elif way.party.era == "modern":
                left[key] = question
            else:
                try:
                    async with asyncio.timeout(self.config.max_call_time):
                        answer = await self._ask(way, method, params)
                except TimeoutError:
                    answer = McpReply.failed(INTERNAL_ERROR, "no answer in time")
                if answer.result is None:
                    said = (answer.error or {}).get("message", "no answer")
                    return {}, failed(way, f"The client did not answer {method}: {said}", "client")
                answers[key] = answer.result
        return answers, left

    async def _ask(self, way: CallRoute, method: str, params: Json) -> McpReply:
        """Ask a legacy client what its server asks, without what a server has to say to this
        gateway alone.
        """
        if not era_translation.answerable(method, params, way.capabilities):
            return McpReply.failed(METHOD_NOT_FOUND, f"{method} is not answered here.")
        asked = dict(params)
        said = asked.pop("_meta", None)
        related = self._related(way, said)
        meta = {**era_translation.without_reserved(said, self.config.meta), **related}
        meta.pop("progressToken", None)
        if meta:
            asked["_meta"] = meta
        reply = await way.party.ask(method, asked)
        if reply.result is None:
            return reply
        answer = dict(reply.result)
        meta = era_translation.without_reserved(answer.pop("_meta", None), self.config.meta)
        if related:  # the answer belongs to what the question did
            meta[META_RELATED] = cast("Json", said)[META_RELATED]
        return McpReply(result={**answer, "_meta": meta} if meta else answer)

    def _may_not_ask(self, way: CallRoute, required: Json) -> McpReply:
        """The server asked for what it is not allowed, or what this client cannot do: the client is
        told which of the two.
        """
        claimed = way.party.capabilities
        asks = " and ".join(era_translation.named(required)) or "something"
        if way.party.era == "modern" and not era_translation.claims(claimed, required):
            return McpReply.failed(
                MISSING_CAPABILITY,
                f"{way.back.name} has to ask the client for {asks}, which it did not declare.",
                {"requiredCapabilities": required},
                reason="capability",
            )
        return failed(
            way, f"{way.back.name} asked for {asks}, which the host does not allow this server.", "policy"
        )

    def _handed_on(self, way: CallRoute, result: Json, left: Json, roots: tuple[str, ...]) -> McpReply:
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
            handed["requestState"] = self._seals.seal(
                SealedRequestState(
                    way.back.name,
                    way.party.caller.owner,
                    state if isinstance(state, str) else None,
                    roots,
                )
            )
        return McpReply(result=handed)

    # --- down -------------------------------------------------------------------------------------

    def _down(self, way: CallRoute, reply: McpReply) -> McpReply:
        """What the client reads. What the gateway itself said stays as it is, but for what a modern
        result always has.
        """
        modern = way.party.era == "modern"
        if reply.error is not None:
            if reply.reason:
                return reply
            code = reply.error.get("code")
            if code == MISSING_CAPABILITY and way.era == "modern":
                return self._may_not_ask(way, _required(reply.error))
            told = era_translation.error(reply.error, era=way.party.era, method=way.method)
            return McpReply(error=results.plain_words(told) if way.back.config.plain_text else told)
        if not isinstance(reply.result, dict):  # pyright: ignore[reportUnnecessaryIsInstance] - a server may say anything
            return failed(way, f"{way.back.name} answered with what is no result.", "invalid_answer")
        kind = reply.result.get("resultType", "complete")
        if way.era == "modern" and kind not in ("complete", INPUT) and not (kind == TASK and way.tasks):
            return failed(
                way,
                f"{way.back.name} answered with a {str(kind)[:40]!r}, which is not relayed.",
                "invalid_answer",
            )
        down = era_translation.downwards(
            reply.result,
            era=way.party.era,
            server_era=way.era,
            globs=self.config.meta,
            ttl=era_translation.READ_TTL if way.method == "resources/read" and modern else None,
        )
        if way.tasks:
            self._as_task(way, reply.result, down)
        if kind == "complete" and not reply.reason:
            try:
                down = shapes.answered(way.method, down, era=way.party.era)
            except shapes.Malformed as fault:
                sentence = f"{way.back.name} answered with a result that no client can read: {fault}."
                return failed(way, sentence, "invalid_answer")
        if way.back.config.plain_text:
            down = results.plain_words(down)
        return McpReply(result=down, reason=reply.reason)

    def _as_task(self, way: CallRoute, result: Json, down: Json) -> None:
        """The ids of tasks in a result, as the caller knows them. A task that is made here is the
        caller's from now on.
        """
        task: object = result.get("task")
        if way.era == "modern":
            task = result if result.get("resultType") == TASK else None
        if way.method != "tools/call":
            if way.held is not None and result.get("taskId") == way.held.own:
                down["taskId"] = way.held.shown(way.route)
            if way.era == "modern" and isinstance(inner := result.get("result"), dict):
                down["result"] = era_translation.inner(cast("Json", inner), globs=self.config.meta)
        elif isinstance(task, dict) and isinstance(own := cast("Json", task).get("taskId"), str):
            held = self._tasks.made(way.back, own, scope=way.scope, party=way.party, route=way.route)
            if way.era == "modern":
                down["taskId"] = held.shown(way.route)
            else:
                down["task"] = {**cast("Json", task), "taskId": held.shown(way.route)}
        if related := self._related(way, result.get("_meta")):
            down["_meta"] = {**down.get("_meta", {}), **related}


def scope_of(back: ToolServer, party: McpClient) -> str:
    """Which of a server's processes this party is served by; "" is the one for all.

    A legacy server that may ask its client has one for each legacy session: on a shared one nobody
    could tell whom it asks.
    """
    kind = back.config.scope
    if kind == "agent":
        return party.caller.owner
    asks = bool(back.config.asks) and back.catalog is not None and back.catalog.era == "legacy"
    if party.era == "legacy" and party.session and (kind == "session" or asks):
        return session_scope(party)
    return party.caller.owner if kind == "session" else ""


def may_be_task(back: ToolServer, party: McpClient) -> bool:
    """Whether this party's calls of the server may go on as tasks, which both must know in the same
    era's form.
    """
    offer = offered(back, party.era)
    if offer is None:
        return False
    if party.era == "modern":
        return declared(party.capabilities)
    return party.version >= FIRST_VERSION and takes(offer)


def session_scope(party: McpClient) -> str:
    """The name of a session's processes. It is shown in the status, and a session's id is not."""
    return "session:" + sha256(party.session.encode()).hexdigest()[:16] if party.session else "session:"


def failed(way: CallRoute, sentence: str, reason: str) -> McpReply:
    """What the gateway itself says of a call: for a tool a result that the model can read."""
    if way.method == "tools/call":
        return tool_refused(sentence, reason=reason, era=way.party.era)
    return McpReply.failed(
        INTERNAL_ERROR, sentence, {"reason": reason, "server": way.back.name}, reason=reason
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


def _roots(back: ToolServer) -> Json:
    """The folders of the config, whatever a client would have said."""
    return {
        "roots": [{"uri": Path(path).as_uri(), "name": Path(path).name or path} for path in back.config.roots]
    }


def _text_of(arguments: object) -> int:
    """Characters in the texts that a tool is given, not looking into lists and objects."""
    if not isinstance(arguments, dict):
        return 0
    return sum(len(value) for value in cast("Json", arguments).values() if isinstance(value, str))
