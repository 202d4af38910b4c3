"""One call of a tool, a prompt, a resource or a completion: found, decided on, relayed, and kept.

Above it stands the hub; below it the routes, the policy and the relay. What a caller may not have
is answered as what is not there, unless they can see it in the list.
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
from modelplex.mcp.constants import INTERNAL_ERROR, INVALID_PARAMS, Json, McpReply, Unavailable
from modelplex.mcp.policy import decide
from modelplex.mcp.relay import Relay, size
from modelplex.mcp.request_context import (
    ToolRequestContext,
    invalid,
    tool_refused,
    unavailable,
    unknown,
    unlisted,
)
from modelplex.mcp.routing import RouteTarget, ToolRoutes
from modelplex.mcp.tasks import HeldTask, Tasks, offered, only_as_task
from modelplex.mcp.tool_server import ToolServer
from modelplex.records.tool_call import ToolRecord, ToolRecordBuilder, measured

NAME_LIMIT: Final = 1_024
"""Characters of a name or URI in a Record; what is longer is cut there, and nowhere else."""
ERROR_LIMIT: Final = 4_096
"""Characters of a server's error in a Record: a log keeps thousands of Records in memory."""

TASKS_PAGE: Final = 100
"""Tasks of a page; there are hardly ever more."""
MOST_DIGITS: Final = 20
"""Of a cursor of tasks, which is a number."""

Admit = Callable[[Caller], AbstractContextManager[object]]
"""An agent's own limits: what is entered while one of its calls runs. Raises Unavailable with the
reason "limit" where it may not begin.
"""


def admit_all(caller: Caller) -> AbstractContextManager[object]:
    """Where no agent has limits of its own."""
    del caller
    return nullcontext()


class ToolCalls:
    """The parameters are the hub's, which says what they are."""

    def __init__(
        self,
        config: McpConfig,
        backs: Mapping[str, ToolServer],
        *,
        routes: ToolRoutes,
        relay: Relay,
        tasks: Tasks,
        ids: Iterator[str],
        clock: Callable[[], float],
        wall: Callable[[], float],
        tell: Callable[[ToolRecord], None],
        admit: Admit,
        keep_bodies: int,
    ) -> None:
        self.config = config
        self._backs = backs
        self._routes = routes
        self._relay = relay
        self._tasks = tasks
        self._ids = ids
        self._clock = clock
        self._wall = wall
        self._tell = tell
        self._admit = admit
        self._keep_bodies = keep_bodies
        self.methods: Mapping[str, Callable[[ToolRequestContext], Coroutine[Any, Any, McpReply]]] = {
            "tools/call": self._tool,
            "prompts/get": self._prompt,
            "resources/read": self._read,
            "completion/complete": self._complete,
            **dict.fromkeys(("tasks/get", "tasks/result", "tasks/update", "tasks/cancel"), self._task),
            "tasks/list": self._task_list,
        }

    def __repr__(self) -> str:
        return f"<Calls by {self._relay!r}>"

    async def answer(self, turn: ToolRequestContext) -> McpReply:
        """Within the caller's limits, and with a ToolCall at the end, however it ends."""
        caller = turn.party.caller
        journal = turn.journal = ToolRecordBuilder(
            id=next(self._ids),
            method=turn.method,
            era=turn.party.era,
            listener=caller.listener,
            client=caller.client,
            agent=caller.agent,
            started=self._clock(),
            wall=self._wall(),
        )
        try:
            reply = self._measured(turn, await self._admitted(turn), journal)
            _note(journal, reply)
            return reply
        finally:
            self._tell(journal.record(now=self._clock()))

    async def _admitted(self, turn: ToolRequestContext) -> McpReply:
        try:
            with self._relay.admitted(turn.party.caller.owner), self._admit(turn.party.caller):
                return await self.methods[turn.method](turn)
        except Unavailable as error:
            if error.server:
                turn.journal.server = error.server
            return unavailable(error)

    def _measured(self, turn: ToolRequestContext, reply: McpReply, journal: ToolRecordBuilder) -> McpReply:
        """The reply, unless it is larger than anybody wants to read."""
        journal.bytes_out, body = size(reply.result if reply.result is not None else reply.error)
        if self._keep_bodies:
            journal.response_body = body[: self._keep_bodies]
        if journal.bytes_out <= self.config.max_result:
            return reply
        sentence = (
            f"The result has {journal.bytes_out} bytes, and at most {self.config.max_result} are passed on."
        )
        of_tool = reply.result is not None and turn.method in ("tools/call", "tasks/result")
        if reply.result is not None and of_tool and self.config.oversized == "cut":
            shorter = results.cut(reply.result, limit=self.config.max_result, size=journal.bytes_out)
            if shorter is not None:
                return msgspec.structs.replace(reply, result=shorter)
        if of_tool:
            return tool_refused(sentence, reason="size", era=turn.party.era)
        return McpReply.failed(
            INTERNAL_ERROR, sentence, {"reason": "size", "server": journal.server}, reason="size"
        )

    async def _tool(self, turn: ToolRequestContext) -> McpReply:
        name, arguments = turn.params.get("name"), turn.params.get("arguments")
        if not isinstance(name, str) or (arguments is not None and not isinstance(arguments, dict)):
            return invalid("tools/call takes a name and an object of arguments")
        self._asked(turn, name, cast("Json | None", arguments))
        view = await self._routes.of_name(name, turn.globs, turn.route)
        params: Json = turn.params
        if view.index is not None and name in search.NAMES:
            inner = view.index.answer(name, cast("Json | None", arguments))
            if isinstance(inner, McpReply):
                return _ours(inner, turn)
            name, params = inner.name, {**params, "arguments": inner.arguments}
            self._asked(turn, name, inner.arguments)
        target = view.tool(name)
        if target is None:
            return unknown("tool", name)
        seen = view.merged.tool(name)
        if seen is not None and only_as_task(seen.definition) and (refusal := self._no_task(turn, target)):
            return refusal
        return await self._decided(turn, target, params, {"name": target.own})

    def _no_task(self, turn: ToolRequestContext, target: RouteTarget) -> McpReply | None:
        """Why a tool that runs only as a task cannot run, or None. Where it can, and the call does
        not ask for one, the server says so itself.
        """
        back = self._backs[target.server]
        if offered(back, turn.party.era) is not None or back.catalog is None:
            return None
        turn.journal.server, turn.journal.definition = target.server, target.definition
        if back.config.tasks and back.catalog.era != turn.party.era:
            sentence = f"{target.name} runs only as a task, and {target.server} speaks another era of tasks than this client."
            return tool_refused(sentence, reason="capability", era=turn.party.era)
        sentence = f"{target.name} runs only as a task, which the host does not allow of {target.server}, or which it does not offer."
        return tool_refused(sentence, reason="policy", era=turn.party.era)

    # --- tasks ------------------------------------------------------------------------------------

    async def _task(self, turn: ToolRequestContext) -> McpReply:
        """Ask the server about one of the caller's tasks."""
        name = turn.params.get("taskId")
        if not isinstance(name, str):
            return invalid(f"{turn.method} takes a taskId")
        self._asked(turn, name, turn.params.get("inputResponses"))
        held = self._tasks.find(name, party=turn.party, route=turn.route)
        if held is None or self._backs.get(held.back.name) is not held.back:
            return unknown("task", name)
        turn.journal.server = held.back.name
        reply = await self._relay.call(
            turn.party,
            turn.method,
            turn.params,
            target=RouteTarget(held.back.name, held.own, name),
            back=held.back,
            route=turn.route,
            held=held,
            taskId=held.own,
        )
        expired = reply.error is not None and reply.error.get("code") == INVALID_PARAMS and not reply.reason
        if expired and turn.method == "tasks/get":  # or its process has ended
            self._tasks.forget(held)
        return reply

    async def _task_list(self, turn: ToolRequestContext) -> McpReply:
        """The caller's tasks of all servers that list theirs, the oldest first. A server that fails
        hides no other's.
        """
        cursor = turn.params.get("cursor")
        if cursor is not None and not (
            isinstance(cursor, str) and cursor.isdecimal() and len(cursor) < MOST_DIGITS
        ):
            return invalid(BadCursor.sentence)
        self._asked(turn, "", None)
        listing = {
            back
            for back in self._routes.reach(turn.globs, turn.route)
            if "list" in (offered(back, turn.party.era) or {})
        }
        mine = [
            held
            for held in self._tasks.of(turn.party.caller.owner, after=int(cursor or 0))
            if held.back in listing
        ]
        page = mine[:TASKS_PAGE]
        places = {(held.back, held.scope): held for held in page}
        found: dict[HeldTask, Json] = {}
        for held in places.values():
            found |= await self._listed(turn, held)
        tasks = [{**found[held], "taskId": held.shown(turn.route)} for held in page if held in found]
        more = {"nextCursor": str(page[-1].number)} if len(mine) > len(page) else {}
        return McpReply(result={"tasks": tasks, **more})

    async def _listed(self, turn: ToolRequestContext, place: HeldTask) -> dict[HeldTask, Json]:
        """What a server says of the caller's tasks in one of its processes."""
        found: dict[HeldTask, Json] = {}
        params: Json = {}
        for _ in range(self.config.max_pages):
            try:
                reply = await self._relay.call(
                    turn.party,
                    turn.method,
                    params,
                    target=RouteTarget(place.back.name, "", ""),
                    back=place.back,
                    route=turn.route,
                    held=place,
                )
            except Unavailable:
                break
            told = reply.result or {}
            listed: object = told.get("tasks")
            for task in cast("list[object]", listed) if isinstance(listed, list) else []:
                own: object = cast("Json", task).get("taskId") if isinstance(task, dict) else None
                held = self._tasks.at(place.back, place.scope, own)
                if held is not None and held.owner == turn.party.caller.owner:
                    found[held] = cast("Json", task)
            if told.get("nextCursor") in (None, params.get("cursor")):
                break
            params = {"cursor": told["nextCursor"]}
        return found

    async def _prompt(self, turn: ToolRequestContext) -> McpReply:
        name = turn.params.get("name")
        if not isinstance(name, str):
            return invalid("prompts/get takes a name")
        self._asked(turn, name, turn.params.get("arguments"))
        view = await self._routes.of_name(name, turn.globs, turn.route)
        target = view.prompt(name)
        if target is None:
            return unknown("prompt", name)
        return await self._decided(turn, target, turn.params, {"name": target.own})

    async def _read(self, turn: ToolRequestContext) -> McpReply:
        uri = turn.params.get("uri")
        if not isinstance(uri, str):
            return invalid("resources/read takes a uri")
        self._asked(turn, uri, None)
        owner = (await self._routes.loaded(turn.globs, turn.route)).merged.owner(uri)
        if owner is None:
            turn.journal.decision, turn.journal.rule = "deny", "unlisted"
            return unlisted(turn, uri)
        return await self._decided(turn, RouteTarget(owner, uri, uri), turn.params, {})

    async def _complete(self, turn: ToolRequestContext) -> McpReply:
        ref: object = turn.params.get("ref")
        if not isinstance(ref, dict):
            return invalid("completion/complete takes a ref")
        told = cast("Json", ref)
        name = str(told.get("name", told.get("uri", "")))
        self._asked(turn, name, turn.params.get("argument"))
        view = await self._routes.loaded(turn.globs, turn.route)
        found = view.merged.completed(told)
        if found is None:
            return unknown("reference", name)
        server, own = found
        return await self._relayed(turn, RouteTarget(server, name, name), turn.params, {"ref": own})

    async def _decided(
        self, turn: ToolRequestContext, target: RouteTarget, params: Json, set_: Json
    ) -> McpReply:
        """Ask the policy, and go on or say why not."""
        back = self._backs[target.server]
        decision = decide(
            turn.party.caller,
            server=target.server,
            method=turn.method,
            name=target.own,
            globs=back.config.tools,
            shown=target.name,
            pinned=target.pinned,
            locked=self._routes.pins.mode == "locked",
        )
        journal = turn.journal
        journal.rule = decision.rule
        if decision.allowed:
            return await self._relayed(turn, target, params, set_)
        journal.decision, journal.server, journal.definition = "deny", target.server, target.definition
        if decision.hidden:
            return unknown("tool" if turn.method == "tools/call" else "prompt", target.name)
        if turn.method == "tools/call":
            sentence = f"Policy ({decision.rule}): {decision.reason}"
            return tool_refused(sentence, reason="policy", era=turn.party.era)
        return McpReply.failed(
            INVALID_PARAMS,
            f"Policy ({decision.rule}): {decision.reason}",
            {"reason": "policy", "server": target.server},
            reason="policy",
        )

    async def _relayed(
        self, turn: ToolRequestContext, target: RouteTarget, params: Json, set_: Json
    ) -> McpReply:
        journal = turn.journal
        journal.server, journal.definition = target.server, target.definition
        back = self._backs[target.server]
        return await self._relay.call(
            turn.party, turn.method, params, target=target, back=back, route=turn.route, **set_
        )

    def _asked(self, turn: ToolRequestContext, name: str, arguments: object) -> None:
        """Note what was asked for."""
        journal = turn.journal
        journal.tool = name[:NAME_LIMIT]
        journal.arguments, body = measured({} if arguments is None else arguments)
        journal.bytes_in = len(body)
        if self._keep_bodies:
            journal.request_body = body[: self._keep_bodies]


def _ours(reply: McpReply, turn: ToolRequestContext) -> McpReply:
    """An answer of the gateway's own, in the form of the client's era."""
    if reply.result is None:
        return msgspec.structs.replace(reply, reason="unknown")
    return McpReply(result=era_translation.modern(dict(reply.result))) if turn.modern else reply


_REFUSED: Final = frozenset({"unknown", "policy", "limit", "invalid", "capability"})
"""Reasons that are this gateway's decision, and no failure of a server."""


def _note(journal: ToolRecordBuilder, reply: McpReply) -> None:
    """What it came to."""
    journal.reason = reply.reason
    if reply.error is not None:
        code: object = reply.error.get("code")
        journal.code = code if isinstance(code, int) else None
        journal.error = str(reply.error.get("message", ""))[:ERROR_LIMIT]
    else:
        journal.is_error = (reply.result or {}).get("isError") is True
        if reply.reason:
            journal.error = reply.sentence
    if reply.reason in _REFUSED:
        journal.outcome = "refused"
    elif reply.error is not None or reply.reason:
        journal.outcome = "error"
    else:
        journal.outcome = "tool_error" if journal.is_error else "ok"
