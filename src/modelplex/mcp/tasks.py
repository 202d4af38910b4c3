"""Tasks: calls that outlast their answer. Holds each task's owner, its server's instance and its
ids.

Only the caller who made a task knows it. The table is lost with the process, as the tasks of most
servers are. Source: the specification's "Tasks" of revision 2025-11-25, and the extension
io.modelcontextprotocol/tasks of 2026-07-28, which differ in nearly everything.
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
"""The modern form's extension."""
STATUS: Final[Mapping[Era, str]] = {"legacy": "notifications/tasks/status", "modern": "notifications/tasks"}
FIRST_VERSION: Final = "2025-11-25"
"""The legacy revision with tasks."""
METHODS: Final[Mapping[Era, tuple[str, ...]]] = {
    "legacy": ("tasks/get", "tasks/result", "tasks/list", "tasks/cancel"),
    "modern": ("tasks/get", "tasks/update", "tasks/cancel"),
}
OF_CALLER: Final = 1_000
ALL: Final = 10_000
"""Tasks of one caller, and of all: beyond, the oldest are forgotten. Servers forget their own
sooner.
"""


class HeldTask(msgspec.Struct, frozen=True, eq=False):
    """A task of a caller. `own` is the server's id, `route` where it was made, `number` grows with
    time.
    """

    upstream: ToolServer
    scope: str
    own: str
    owner: str
    session: str
    route: str | None
    number: int

    def shown(self, route: str | None) -> str:
        """Its id on this route."""
        return self.own if route is not None else f"{self.upstream.name}{SEPARATOR}{self.own}"


class Tasks:
    """All known tasks."""

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
        """Add a task of this client."""
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
        """The client's task with this id. If two instances of a server gave the same id, the one of
        the client's own session, else the last.
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
        """The task of this id at that instance."""
        return self._by_place.get((upstream, scope, own)) if isinstance(own, str) else None

    def of(self, owner: str, *, after: int) -> Iterator[HeldTask]:
        """A caller's tasks after this number, oldest first."""
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
        """Forget the tasks of a server, or of one instance."""
        for held in tuple(self._all.values()):
            if held.upstream is upstream and scope in (None, held.scope):
                self.forget(held)

    def related(
        self, meta: object, *, upstream: ToolServer, scope: str, owner: str, route: str | None
    ) -> Json:
        """The members of a server's `_meta` that name a task, with the owner's id; {} if it is not
        the owner's.
        """
        held = self.at(upstream, scope, related_to(meta))
        if held is None or held.owner != owner:
            return {}
        return {META_RELATED: {**cast("Json", cast("Json", meta)[META_RELATED]), "taskId": held.shown(route)}}


def related_to(meta: object) -> object:
    """The task id in a `_meta`, or None."""
    related: object = cast("Json", meta).get(META_RELATED) if isinstance(meta, dict) else None
    return cast("Json", related).get("taskId") if isinstance(related, dict) else None


def offered(upstream: ToolServer, era: Era) -> Json | None:
    """A server's task capability for clients of this era; None if there is none or the config does
    not allow tasks.

    Tasks are not translated between eras.
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
    """Whether a legacy server runs tools as tasks."""
    return "call" in _object(_object((offer or {}).get("requests")).get("tools"))


def merged(offers: list[Json], era: Era) -> Json:
    """The capability that stands for all of these."""
    if not offers:
        return {}
    if era == "modern":
        return {"extensions": {EXTENSION: {}}}
    capability: Json = {name: {} for name in ("list", "cancel") if any(name in offer for offer in offers)}
    if any(takes(offer) for offer in offers):
        capability["requests"] = {"tools": {"call": {}}}
    return {"tasks": capability}


def declared(capabilities: Mapping[str, Any]) -> bool:
    """Whether a modern client supports tasks."""
    return EXTENSION in _object(capabilities.get("extensions"))


def only_as_task(definition: Json) -> bool:
    """Whether a legacy tool runs only as a task."""
    return _object(definition.get("execution")).get("taskSupport") == "required"


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}
