"""The table of /_internal/: every route has a right, and nothing else is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelplex.core.errors import MethodNotAllowed, NotFound
from modelplex.server.admin import AdminRoutes
from modelplex.server.internal import Internal
from modelplex.server.internal_routes import RIGHTS, ROUTES, InternalRoute, find_route
from tests.gateways import gateway

DEMO = '[[providers]]\ntype = "demo"\n'


def paths_of(part: str) -> set[str]:
    return {route.path for route in ROUTES if route.part == part}


def test_every_route_has_a_right_and_each_is_there_once() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert {route.right for route in ROUTES} == {*RIGHTS, "anybody"}
    # Nothing but the sign-in and files of the package is for everybody.
    open_ = {route.path for route in ROUTES if route.right == "anybody"}
    assert open_ == {"", "page/static/{name}", "page/login"}
    for route in ROUTES:
        assert (route.method == "GET") == (not route.act and route.path != "page/login")


@pytest.mark.parametrize(
    ("method", "right", "act"),
    [("POST", "change", ""), ("GET", "read", "stop"), ("GET", "stop", "stop"), ("PUT", "stop", "")],
)
def test_a_route_that_changes_without_a_record_cannot_be_made(method: Any, right: Any, act: str) -> None:
    with pytest.raises(ValueError, match="x: "):
        InternalRoute(method, "x", right, "page", act)


def test_a_route_without_a_right_cannot_be_made() -> None:
    made: Any = InternalRoute
    with pytest.raises(TypeError):
        made("GET", "x")


async def test_what_is_served_is_what_the_table_has(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        internal = running.process.app.internal
        assert isinstance(internal, Internal)
        page = internal.page
        assert {*page.views, *page.streams, *page.files} == paths_of("page")
        views: AdminRoutes = running.process.app.admin
        assert {*views._views, "metrics"} == paths_of("view")
        assert paths_of("agent") == {"agents/{name}"}


@pytest.mark.parametrize(
    ("path", "value"),
    [("status", ""), ("agents/a b", "a b"), ("page/api/call/mpx-1/content", "mpx-1"), ("", "")],
)
def test_a_path_finds_its_route(path: str, value: str) -> None:
    assert find_route("GET", path).value == value
    assert find_route("HEAD", path) == find_route("GET", path)


@pytest.mark.parametrize(
    "path",
    ["nothing", "status/", "Status", "agents/", "agents/a/b", "page", "page/", "page/api/", "page/api/stop/",
     "page/api/call/", "page/api/call/a/nothing", "page/api/call//content", "page//api/stop", "//status"],
)  # fmt: skip
def test_no_other_path_is_there(path: str) -> None:
    with pytest.raises(NotFound):
        find_route("GET", path)


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "TRACE", "post", "CONNECT", "X"])
def test_no_other_method_is_taken(method: str) -> None:
    for route in ROUTES:
        with pytest.raises(MethodNotAllowed) as refused:
            find_route(method, route.path.replace("{name}", "a").replace("{id}", "a"))
        assert route.method in refused.value.message
