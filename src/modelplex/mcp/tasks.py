"""Calls that outlast their answer: whose each task is, where it runs, and what the one who made it
calls it.

Above it stand the relay, which sees tasks being made, and the hub, which is asked for them; below
it the names and the words. A task belongs to its caller: for everybody else it does not exist. What
is known here is lost with the process, as the tasks of most servers are. Source: the
specification's "Tasks" of revision 2025-11-25, and the extension io.modelcontextprotocol/tasks of
2026-07-28, which have little more in common than the name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Final, cast

import msgspec

from modelplex.mcp.constants import META_RELATED, RESERVED, Era, Json, McpClient
from modelplex.mcp.names import SEPARATOR
from modelplex.mcp.tool_server import ToolServer

EXTENSION: Final = RESERVED + "tasks"
"""The modern form, as clients and servers declare it."""
STATUS: Final[Mapping[Era, str]] = {"legacy": "notifications/tasks/status", "modern": "notifications/tasks"}
FIRST_VERSION: Final = "2025-11-25"
"""The legacy revision that has tasks."""
METHODS: Final[Mapping[Era, tuple[str, ...]]] = {
    "legacy": ("tasks/get", "tasks/result", "tasks/list", "tasks/cancel"),
    "modern": ("tasks/get", "tasks/update", "tasks/cancel"),
}
OF_CALLER: Final = 1_000
ALL: Final = 10_000
"""Tasks that are known of one caller, and of all: of more, the oldest are forgotten. A server
forgets its own sooner.
"""


class HeldTask(msgspec.Struct, frozen=True, eq=False):
    """A task that somebody made. `own` is the server's id of it, `route` where it was made,
    `number` grows with time.
    """

    upstream: ToolServer
    scope: str
    own: str
    owner: str
    session: str
    route: str | None
    number: int

    def shown(self, route: str | None) -> str:
        """Its id, as it is called on this route."""
        return self.own if route is not None else f"{self.upstream.name}{SEPARATOR}{self.own}"


class Tasks:
    """Every task that is known."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._all: dict[int, HeldTask] = {}
        self._by_place: dict[tuple[ToolServer, str, str], HeldTask] = {}
        self._by_owner: dict[str, dict[int, HeldTask]] = {}

    def __repr__(self) -> str:
        return f"<Tasks: {len(self._all)}>"

    def __len__(self) -> int:
        return len(self._all)

    def made(
        self, upstream: ToolServer, own: str, *, scope: str, client: McpClient, route: str | None
    ) -> HeldTask:
        """It is this party's from now on."""
        if (before := self._by_place.get((upstream, scope, own))) is not None:
            self.forget(before)
        owner = client.caller.owner
        held = HeldTask(upstream, scope, own, owner, client.session, route, next(self._numbers))
        mine = self._by_owner.setdefault(owner, {})
        self._all[held.number] = mine[held.number] = self._by_place[upstream, scope, own] = held
        if len(mine) > OF_CALLER:
            self.forget(next(iter(mine.values())))
        if len(self._all) > ALL:
            self.forget(next(iter(self._all.values())))
        return held

    def find(self, id: str, *, client: McpClient, route: str | None) -> HeldTask | None:
        """The task that this party calls so. Where two processes of one server gave one id, it is
        that of the party's own session, or the last.
        """
        server, own = (
            (route, id) if route is not None else id.split(SEPARATOR, 1) if SEPARATOR in id else ("", "")
        )
        found = [
            held
            for held in self._by_owner.get(client.caller.owner, {}).values()
            if held.own == own and held.upstream.name == server
        ]
        same = [held for held in found if held.session == client.session]
        last = (same or found)[-1:]
        return last[0] if last else None

    def at(self, upstream: ToolServer, scope: str, own: object) -> HeldTask | None:
        """The task of this id in that process."""
        return self._by_place.get((upstream, scope, own)) if isinstance(own, str) else None

    def of(self, owner: str, *, after: int) -> Iterator[HeldTask]:
        """A caller's tasks, the oldest first, from the one after this number."""
        return (held for number, held in tuple(self._by_owner.get(owner, {}).items()) if number > after)

    def forget(self, held: HeldTask) -> None:
        if self._all.pop(held.number, None) is None:
            return
        del self._by_place[held.upstream, held.scope, held.own]
        mine = self._by_owner[held.owner]
        del mine[held.number]
        if not mine:
            del self._by_owner[held.owner]

    def ended(self, upstream: ToolServer, scope: str | None = None) -> None:
        """A server's processes are gone, or that of one scope, and their tasks with them."""
        for held in tuple(self._all.values()):
            if held.upstream is upstream and scope in (None, held.scope):
                self.forget(held)

    def related(
        self, meta: object, *, upstream: ToolServer, scope: str, owner: str, route: str | None
    ) -> Json:
        """Of the `_meta` of a server's message, which task it belongs to, as its owner calls that;
        {} where that is none of theirs.
        """
        held = self.at(upstream, scope, related_to(meta))
        if held is None or held.owner != owner:
            return {}
        return {META_RELATED: {**cast("Json", cast("Json", meta)[META_RELATED]), "taskId": held.shown(route)}}


def related_to(meta: object) -> object:
    """The id in a `_meta` that says which task a message belongs to, or None."""
    related: object = cast("Json", meta).get(META_RELATED) if isinstance(meta, dict) else None
    return cast("Json", related).get("taskId") if isinstance(related, dict) else None


def offered(upstream: ToolServer, era: Era) -> Json | None:
    """What a server offers of tasks to clients of this era, as it says it itself; None for nothing,
    or where the host does not allow it.

    The eras' tasks are not translated: a server of the other one offers none.
    """
    catalog = upstream.catalog
    if not upstream.config.tasks or catalog is None or catalog.era != era:
        return None
    if era == "modern":
        claimed: object = _object(catalog.capabilities.get("extensions")).get(EXTENSION)
    else:
        claimed = catalog.capabilities.get("tasks")
    return cast("Json", claimed) if isinstance(claimed, dict) else None


def takes(offer: Json | None) -> bool:
    """Whether a legacy server that offers this runs tools as tasks."""
    return "call" in _object(_object((offer or {}).get("requests")).get("tools"))


def merged(offers: list[Json], era: Era) -> Json:
    """The capability that stands for all of these, to be put beside the others."""
    if not offers:
        return {}
    if era == "modern":
        return {"extensions": {EXTENSION: {}}}
    told: Json = {name: {} for name in ("list", "cancel") if any(name in offer for offer in offers)}
    if any(takes(offer) for offer in offers):
        told["requests"] = {"tools": {"call": {}}}
    return {"tasks": told}


def declared(capabilities: Mapping[str, Any]) -> bool:
    """Whether a modern client says that it knows tasks."""
    return EXTENSION in _object(capabilities.get("extensions"))


def only_as_task(definition: Json) -> bool:
    """Whether a legacy tool cannot be called in the usual way."""
    return _object(definition.get("execution")).get("taskSupport") == "required"


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}
