"""Serves what is below /_internal/: each request by its route, its admin and the right of that
admin, in this order; then the part that has the route. What changes something is recorded, whatever
becomes of it.

Agents' sockets have none of it: the app does not ask this module for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from modelplex.core.caller import Caller
from modelplex.dashboard.access import check_change, check_own_page
from modelplex.dashboard.request import PageRequest
from modelplex.pipeline.gateway import Gateway
from modelplex.server.admin import JSON, AdminRoutes
from modelplex.server.agents_api import MAX_BODY, AgentsApi
from modelplex.server.http_exchange import HttpExchange
from modelplex.server.internal_access import Admin, InternalAccess
from modelplex.server.internal_acts import InternalActs
from modelplex.server.internal_routes import FoundRoute, InternalRoute, find_route
from modelplex.server.response_writer import ResponseWriter

if TYPE_CHECKING:
    from modelplex.dashboard.page import Dashboard

BASE = "/_internal/"
_VIEW = InternalRoute("GET", "status", "read", "view")
"""For what is not below BASE, but tells as much."""


class Internal:
    """`gateway` gives the present one. `page` makes the page, once somebody opens it."""

    def __init__(
        self,
        views: AdminRoutes,
        agents: AgentsApi,
        access: InternalAccess,
        acts: InternalActs,
        *,
        gateway: Callable[[], Gateway],
        page: Callable[[], Dashboard],
    ) -> None:
        self._views = views
        self._agents = agents
        self.access = access
        self._acts = acts
        self._gateway = gateway
        self._make_page = page
        self._page: Dashboard | None = None

    def __repr__(self) -> str:
        return f"<Internal {self.access!r}, page {self._page!r}>"

    def has(self, path: str) -> bool:
        return path.startswith(BASE) or path == BASE.rstrip("/")

    async def may_read(self, caller: Caller, authorization: str | None) -> bool:
        """Whether this caller may read what is below BASE."""
        if caller.kind not in {"tcp", "admin"}:
            return False
        headers = {"authorization": authorization or ""}
        admin = await self.access.identify(_VIEW, caller, headers)
        return admin is not None and admin.has("read")

    async def serve(
        self, exchange: HttpExchange, response: ResponseWriter, caller: Caller, *, request_id: str
    ) -> None:
        """Raises ModelplexError."""
        head = exchange.head
        if head.path == BASE.rstrip("/"):
            await response.respond(308, [(b"location", BASE.encode())], b"")
            return
        path = head.path.removeprefix(BASE)
        found = find_route(head.method, path)
        request = PageRequest(
            method=head.method,
            path=path,
            query=head.query.decode("latin-1"),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
            read=lambda limit: response.body(limit=limit, declared=exchange.length),
            value=found.value,
        )
        if found.route.act:
            await self._change(found, caller, request, response, request_id)
            return
        admin = await self._admitted(found.route, caller, request)
        known = {} if admin is None else {"admin": admin.name, "may": admin.may}
        await self._show(found, msgspec.structs.replace(request, **known), response, request_id)

    async def _admitted(self, route: InternalRoute, caller: Caller, request: PageRequest) -> Admin | None:
        admin = await self.access.identify(route, caller, request.headers)
        self.access.check(route, caller, admin)
        if route.part == "page" and route.right != "anybody":
            check_own_page(request.headers)
        return admin

    async def _show(
        self, found: FoundRoute, request: PageRequest, response: ResponseWriter, request_id: str
    ) -> None:
        route = found.route
        if route.part == "page":
            await self.page.answer(route.path, request, response)
            return
        if route.part == "agent":
            label, body = JSON, await self._agents.show(found.value)
        else:
            view = self._views.view(route.path)
            assert view is not None
            label, body = await view(self._gateway())
        await response.respond(200, _headers(label, request_id), body)

    async def _change(
        self,
        found: FoundRoute,
        caller: Caller,
        request: PageRequest,
        response: ResponseWriter,
        request_id: str,
    ) -> None:
        """What is done is recorded before the client is told."""
        if found.value:
            request.note.target = f"agent {found.value}"
        act = self._acts.begin(request_id, found.route, request.path, caller, note=request.note)
        try:
            act.admin = await self.access.identify(found.route, caller, request.headers)
            self.access.check(found.route, caller, act.admin)
            assert act.admin is not None
            check_change(request.headers, by_cookie=act.admin.by_cookie)
            headers, body = await self._changed(found, request, request_id)
        except BaseException as error:
            act.end(error)
            raise
        act.end(None)
        await response.respond(200, headers, body)

    async def _changed(
        self, found: FoundRoute, request: PageRequest, request_id: str
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """The head and the body of the response."""
        route = found.route
        if route.part == "page":
            from modelplex.dashboard.page import encode

            return page_headers(), encode(await self.page.views[route.path](request))
        if route.method == "PUT":
            body = await self._agents.put(found.value, await request.read(MAX_BODY), request.note)
        else:
            body = await self._agents.delete(found.value, request.note)
        return _headers(JSON, request_id), body

    @property
    def page(self) -> Dashboard:
        if self._page is None:
            self._page = self._make_page()
        return self._page


def page_headers() -> list[tuple[bytes, bytes]]:
    from modelplex.dashboard import assets

    return [*assets.FRESH, (b"content-type", JSON)]


def _headers(label: bytes, request_id: str) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", label), (b"x-request-id", request_id.encode())]
