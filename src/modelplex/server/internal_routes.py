"""The one table of the paths below /_internal/: method, path, the right that it needs, and the name
of what it changes. Pure.

Only what has a row is served, and a row cannot be made without a right.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from modelplex.config.settings import AdminRight
from modelplex.core.errors import MethodNotAllowed, NotFound

Part = Literal["view", "agent", "page"]
"""What serves it: admin.py, agents_api.py or dashboard/. Only a page takes cookies, and a process
at the admin socket is not known by its user there: `modelplex page` passes on what comes to a port.
"""
RIGHTS: Final[tuple[AdminRight, ...]] = ("metrics", "read", "stop", "change")


class InternalRoute(msgspec.Struct, frozen=True):
    """`path` is below /_internal/; `{name}` is one segment of it. `right` "anybody" is for the
    sign-in and for files that tell nothing. `act` names what is recorded; "" for what only reads.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    right: AdminRight | Literal["anybody"]
    part: Part
    act: str = ""

    def __post_init__(self) -> None:
        if (self.right in {"stop", "change"}) != bool(self.act):
            raise ValueError(f"{self.path}: what changes something is recorded, and only that")
        if self.act and self.method == "GET":
            raise ValueError(f"{self.path}: GET changes nothing")


def _view(path: str, right: AdminRight) -> InternalRoute:
    return InternalRoute("GET", path, right, "view")


def _page(path: str, right: AdminRight | Literal["anybody"] = "read") -> InternalRoute:
    return InternalRoute("GET", path, right, "page")


ROUTES: Final = (
    _view("metrics", "metrics"),
    _view("status", "read"),
    _view("config", "read"),
    _view("agents", "read"),
    _view("mcp", "read"),
    InternalRoute("GET", "agents/{name}", "read", "agent"),
    InternalRoute("PUT", "agents/{name}", "change", "agent", "put agent"),
    InternalRoute("DELETE", "agents/{name}", "change", "agent", "delete agent"),
    _page("", "anybody"),
    _page("page/static/{name}", "anybody"),
    InternalRoute("POST", "page/login", "anybody", "page"),
    _page("page/api/me"),
    _page("page/api/now"),
    _page("page/api/calls"),
    _page("page/api/calls/live"),
    _page("page/api/runs"),
    _page("page/api/spend"),
    _page("page/api/health"),
    _page("page/api/tools"),
    _page("page/api/acts"),
    _page("page/api/call/{id}"),
    _page("page/api/call/{id}/content"),
    _page("page/api/call/{id}/request"),
    _page("page/api/call/{id}/response"),
    _page("page/api/call/{id}/sent"),
    _page("page/api/run/{id}"),
    _page("page/api/run/{id}/search"),
    _page("page/api/run/{id}/export"),
    InternalRoute("POST", "page/api/stop", "stop", "page", "stop"),
    InternalRoute("POST", "page/api/reset", "change", "page", "reset circuits"),
    InternalRoute("POST", "page/api/approve", "change", "page", "approve definitions"),
)


class FoundRoute(msgspec.Struct, frozen=True):
    """`value` is the segment that the path of the route leaves open."""

    route: InternalRoute
    value: str = ""


_OPEN: Final = re.compile(r"\{\w+\}")


def _compiled() -> tuple[dict[str, list[InternalRoute]], list[tuple[re.Pattern[str], list[InternalRoute]]]]:
    by_path: dict[str, list[InternalRoute]] = {}
    for route in ROUTES:
        by_path.setdefault(route.path, []).append(route)
    whole = {path: routes for path, routes in by_path.items() if not _OPEN.search(path)}
    open_ = [
        (re.compile(_OPEN.sub("([^/]+)", path)), routes)
        for path, routes in by_path.items()
        if path not in whole
    ]
    return whole, open_


_WHOLE, _WITH_NAME = _compiled()


def find_route(method: str, path: str) -> FoundRoute:
    """The route of a path below /_internal/. Raises NotFound and MethodNotAllowed. HEAD is served
    as GET is; no header changes the method.
    """
    routes, value = _routes_at(path)
    if not routes:
        raise NotFound(f"There is nothing at /_internal/{path}.")
    wanted = "GET" if method == "HEAD" else method
    for route in routes:
        if route.method == wanted:
            return FoundRoute(route, value)
    takes = " and ".join(route.method for route in routes)
    raise MethodNotAllowed(f"/_internal/{path} takes {takes}, not {method}.")


def _routes_at(path: str) -> tuple[list[InternalRoute], str]:
    if (whole := _WHOLE.get(path)) is not None:
        return whole, ""
    for pattern, routes in _WITH_NAME:
        if found := pattern.fullmatch(path):
            return routes, found[1]
    return [], ""
