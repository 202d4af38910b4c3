"""Tasks: calls that go on after their response. Holds each task's owner, its server's instance and
its ids.

Only the caller who made a task knows it. The table is lost with the process, as the tasks of most
servers are. Source: the specification's "Tasks" of revision 2025-11-25, and the extension
io.modelcontextprotocol/tasks of 2026-07-28, which differ in nearly everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Final, cast

import msgspec

from modelplex.dialects.core.json import as_object
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
MAX_OF_CALLER: Final = 1_000
MAX_TASKS: Final = 10_000
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

    def id_on(self, route: str | None) -> str:
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

    def add(
        self, upstream: ToolServer, own: str, *, scope: str, client: McpClient, route: str | None
    ) -> HeldTask:
        """Add a task of this client."""
        if (before := self._by_place.get((upstream, scope, own))) is not None:
            self.forget(before)
        owner = client.caller.owner
        task = HeldTask(upstream, scope, own, owner, client.session, route, next(self._numbers))
        own_tasks = self._by_owner.setdefault(owner, {})
        self._all[task.number] = own_tasks[task.number] = self._by_place[upstream, scope, own] = task
        if len(own_tasks) > MAX_OF_CALLER:
            self.forget(next(iter(own_tasks.values())))
        if len(self._all) > MAX_TASKS:
            self.forget(next(iter(self._all.values())))
        return task

    def find(self, id: str, *, client: McpClient, route: str | None) -> HeldTask | None:
        """The client's task with this id. If two instances of a server gave the same id, the one of
        the client's own session, else the last.
        """
        server, own = (
            (route, id) if route is not None else id.split(SEPARATOR, 1) if SEPARATOR in id else ("", "")
        )
        found = [
            task
            for task in self._by_owner.get(client.caller.owner, {}).values()
            if task.own == own and task.upstream.name == server
        ]
        of_session = [task for task in found if task.session == client.session]
        return next(reversed(of_session or found), None)

    def at(self, upstream: ToolServer, scope: str, own: object) -> HeldTask | None:
        """The task of this id at that instance."""
        return self._by_place.get((upstream, scope, own)) if isinstance(own, str) else None

    def of(self, owner: str, *, after: int) -> Iterator[HeldTask]:
        """A caller's tasks after this number, oldest first."""
        return (task for number, task in tuple(self._by_owner.get(owner, {}).items()) if number > after)

    def forget(self, task: HeldTask) -> None:
        if self._all.pop(task.number, None) is None:
            return
        del self._by_place[task.upstream, task.scope, task.own]
        own_tasks = self._by_owner[task.owner]
        del own_tasks[task.number]
        if not own_tasks:
            del self._by_owner[task.owner]

    def forget_server(self, upstream: ToolServer, scope: str | None = None) -> None:
        """Forget the tasks of a server, or of one instance."""
        for task in tuple(self._all.values()):
            if task.upstream is upstream and scope in (None, task.scope):
                self.forget(task)

    def related(
        self, meta: object, *, upstream: ToolServer, scope: str, owner: str, route: str | None
    ) -> Json:
        """The members of a server's `_meta` that name a task, with the owner's id; {} if it is not
        the owner's.
        """
        task = self.at(upstream, scope, related_task_id(meta))
        if task is None or task.owner != owner:
            return {}
        return {META_RELATED: {**cast("Json", cast("Json", meta)[META_RELATED]), "taskId": task.id_on(route)}}


def related_task_id(meta: object) -> object:
    """The task id in a `_meta`, or None."""
    return _object(_object(meta).get(META_RELATED)).get("taskId")


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
    return as_object(claimed)


def runs_tools(offer: Json | None) -> bool:
    """Whether a legacy server runs tools as tasks."""
    return "call" in _object(_object((offer or {}).get("requests")).get("tools"))


def merge_offers(offers: list[Json], era: Era) -> Json:
    """The capability that stands for all of these."""
    if not offers:
        return {}
    if era == "modern":
        return {"extensions": {EXTENSION: {}}}
    capability: Json = {name: {} for name in ("list", "cancel") if any(name in offer for offer in offers)}
    if any(runs_tools(offer) for offer in offers):
        capability["requests"] = {"tools": {"call": {}}}
    return {"tasks": capability}


def declares_tasks(capabilities: Mapping[str, Any]) -> bool:
    """Whether a modern client supports tasks."""
    return EXTENSION in _object(capabilities.get("extensions"))


def only_as_task(definition: Json) -> bool:
    """Whether a legacy tool runs only as a task."""
    return _object(definition.get("execution")).get("taskSupport") == "required"


def _object(value: object) -> Json:
    return as_object(value) or {}
