"""Finds the owner of a name: the merged catalog as each caller sees it, cached until a server's
catalog changes.

Waits for lists that are not known, and not more than once for a server that fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from modelplex.config.mcp_settings import McpConfig
from modelplex.mcp import search
from modelplex.mcp.approvals import Approvals, Lock
from modelplex.mcp.catalog import MergedCatalog, ServerOffer, merge
from modelplex.mcp.checked_catalogs import CheckedCatalogs, Report, RouteTarget
from modelplex.mcp.constants import Catalog, Era, Json, Unavailable
from modelplex.mcp.names import SEPARATOR, ServerToolName
from modelplex.mcp.policy import any_of_server
from modelplex.mcp.shapes import Kind
from modelplex.mcp.tool_server import ToolServer

LIST_WAIT_SECONDS = 0.8
"""Seconds that `initialize` and a list of all servers wait for unknown lists. Some agents wait a
second for all tools and go on without. Later tools come with `list_changed`.
"""

CALL_WAIT_SECONDS = 10.0
"""Seconds that a call waits for lists that it needs, and the list of the REST form, which has no
`list_changed`.
"""

MAX_VIEWS = 256
"""Cached views: one for each route and each agent's globs, so far fewer than callers."""

MAX_CHECKED_ON_LOOP = 200
"""Entries of a catalog that are checked on the event loop; a larger catalog is checked
in a thread.
"""


class CatalogView:
    """What callers with the same globs see on one route."""

    def __init__(self, merged: MergedCatalog, *, checks: CheckedCatalogs, searched: bool) -> None:
        self.merged = merged
        self._checks = checks
        self.index = (
            search.ToolIndex([entry.definition for entry in merged.entries("tools")]) if searched else None
        )
        self._targets: dict[tuple[str, str], RouteTarget | None] = {}

    def __repr__(self) -> str:
        return f"<CatalogView {self.merged!r}{' to be searched' if self.index else ''}>"

    def page(self, kind: Kind, *, era: Era, cursor: str | None) -> Json:
        """Raises BadCursor."""
        if kind == "tools" and self.index is not None:
            return {"tools": list(search.DEFINITIONS)}
        return self.merged.page(kind, era=era, cursor=cursor)

    def tool(self, name: str) -> RouteTarget | None:
        """The tool of this name, also one that is held back or denied: the policy decides. None if
        it is unknown.
        """
        return self._target("tool", name)

    def prompt(self, name: str) -> RouteTarget | None:
        return self._target("prompt", name)

    def _target(self, kind: Literal["tool", "prompt"], name: str) -> RouteTarget | None:
        cached = self._targets.get((kind, name))
        if cached is not None:
            return cached
        entry = self.merged.tool(name) if kind == "tool" else self.merged.prompt(name)
        names = self.merged.names if kind == "tool" else self.merged.prompt_names
        own = ServerToolName(entry.server, entry.own) if entry is not None else names.find(name)
        if own is None:
            return None
        target = self._targets[kind, name] = self._checks.target_of(kind, own, name, entry)
        return target


class ToolRoutes:
    """The catalogs of `upstreams`, in the config's order.

    Arguments are those of `CheckedCatalogs`. `on_catalog` takes a server whose lists came after
    clients were answered without them.
    """

    def __init__(
        self,
        config: McpConfig,
        upstreams: Mapping[str, ToolServer],
        *,
        approvals: Approvals,
        launches: Mapping[str, str],
        report: Report,
        on_first_seen: Callable[[Lock], None],
        on_catalog: Callable[[str], None],
    ) -> None:
        self._config = config
        self._upstreams = upstreams
        self.checks = CheckedCatalogs(
            upstreams, approvals=approvals, launches=launches, report=report, on_first_seen=on_first_seen
        )
        self._on_catalog = on_catalog
        self._catalogs: list[Catalog | None] = []
        self._views: dict[tuple[str | None, tuple[str, ...]], CatalogView] = {}
        self._loading: dict[str, asyncio.Task[Catalog | None]] = {}
        self._failed: set[str] = set()
        self._missed: set[str] = set()
        self._preparing = asyncio.Lock()

    def __repr__(self) -> str:
        known = sum(upstream.catalog is not None for upstream in self._upstreams.values())
        return f"<ToolRoutes to {known} of {len(self._upstreams)} servers, {len(self._views)} views>"

    @property
    def approvals(self) -> Approvals:
        return self.checks.approvals

    @approvals.setter
    def approvals(self, approvals: Approvals) -> None:
        self.checks.set_approvals(approvals)
        self._views.clear()

    def adopt(self, config: McpConfig, *, approvals: Approvals, launches: Mapping[str, str]) -> None:
        """Go on with another config, after `upstreams` has changed."""
        self.close()
        self._config = config
        self._failed.clear()
        self._missed.clear()
        self.checks.set_approvals(approvals, launches)
        self._views.clear()

    def reach(self, globs: Sequence[str], route: str | None) -> list[ToolServer]:
        """The servers of which such a caller can see anything on this route, in the
        config's order.
        """
        return [
            upstream
            for name, upstream in self._upstreams.items()
            if route in (None, name) and any_of_server(name, globs, prefixed=self._config.prefix)
        ]

    def complete(self, globs: Sequence[str], route: str | None) -> bool:
        """Whether all catalogs of a view are known."""
        return all(upstream.catalog is not None for upstream in self.reach(globs, route))

    def any_unknown(self, globs: Sequence[str], route: str | None) -> bool:
        """Whether some server's catalog is not known and has not failed to load."""
        return any(
            upstream.catalog is None and upstream.name not in self._failed
            for upstream in self.reach(globs, route)
        )

    def view(self, globs: tuple[str, ...], route: str | None) -> CatalogView:
        """The present view. Starts and waits for nothing."""
        self._drop_outdated()
        view = self._views.get((route, globs))
        if view is None:
            view = self._new_view(globs, route)
            self._store(globs, route, view)
        return view

    def _drop_outdated(self) -> None:
        """Drop all views if a catalog has changed."""
        catalogs = [upstream.catalog for upstream in self._upstreams.values()]
        if len(catalogs) != len(self._catalogs) or any(
            a is not b for a, b in zip(catalogs, self._catalogs, strict=True)
        ):
            self._catalogs = catalogs
            self._views.clear()

    def _store(self, globs: tuple[str, ...], route: str | None, view: CatalogView) -> None:
        if len(self._views) >= MAX_VIEWS:
            self._views.clear()
        self._views[route, globs] = view
        if not globs:
            for warning in view.merged.warnings:
                self.checks.report_once(warning.server, warning.sentence)

    async def complete_view(self, globs: tuple[str, ...], route: str | None) -> CatalogView:
        """The view after unknown lists were loaded. A failure is raised on the route of one server;
        otherwise that server is left out.

        Raises: Unavailable
        """
        if route is not None:
            upstream = self._upstreams[route]
            if upstream.catalog is None:
                await self._fetch(upstream)
            return await self._prepared(globs, route)
        await self._load(self.reach(globs, None), patience=CALL_WAIT_SECONDS)
        return await self._prepared(globs, None)

    async def view_soon(self, globs: tuple[str, ...], route: str | None) -> CatalogView:
        """The view after a short wait. A slower server is left out and announced when it comes."""
        await self._load(self.reach(globs, route), patience=LIST_WAIT_SECONDS)
        return await self._prepared(globs, route)

    async def view_for_list(self, globs: tuple[str, ...]) -> CatalogView:
        """`view_soon` for all servers, with a longer wait if the list would be empty."""
        view = await self.view_soon(globs, None)
        reached = self.reach(globs, None)
        if any(upstream.catalog is not None for upstream in reached):
            return view
        await self._load(reached, patience=CALL_WAIT_SECONDS)
        return await self._prepared(globs, None)

    async def stored_view(self, globs: tuple[str, ...], route: str | None) -> CatalogView:
        """The view with catalogs that are stored on disk; starts nothing."""
        for upstream in self.reach(globs, route):
            if upstream.catalog is None:
                await upstream.load()
        return await self._prepared(globs, route)

    async def view_for_name(self, name: str, globs: tuple[str, ...], route: str | None) -> CatalogView:
        """The view for a prefixed name: waits only for the server that the name begins with."""
        if route is None and self._config.prefix:
            upstream = self._upstreams.get(name.partition(SEPARATOR)[0])
            if upstream is not None:
                if upstream.catalog is None and any_of_server(upstream.name, globs):
                    await self._fetch(upstream)
                return await self._prepared(globs, None)
        return await self.complete_view(globs, route)

    async def load_unknown(self, upstream: ToolServer) -> None:
        """Begin to load a server's lists if they are unknown. Returns once the disk was read."""
        if await upstream.load() is None:
            self._load_in_background(upstream)

    def _load_in_background(self, upstream: ToolServer) -> asyncio.Task[Catalog | None]:
        """One load per server at a time."""
        task = self._loading.get(upstream.name)
        if task is None:
            task = self._loading[upstream.name] = asyncio.create_task(self._load_one(upstream))
        return task

    async def _load(self, upstreams: Sequence[ToolServer], *, patience: float) -> None:
        """Load the lists of these servers, waiting at most `patience` seconds. A server whose last
        load failed is tried again without waiting; so is a slow one in a short wait.
        """
        missing = [
            upstream for upstream in upstreams if upstream.catalog is None and await upstream.load() is None
        ]
        waited: dict[asyncio.Task[Catalog | None], ToolServer] = {}
        for upstream in sorted(missing, key=lambda upstream: upstream.late):
            task = self._load_in_background(upstream)
            if upstream.name not in self._failed and not (upstream.late and patience <= LIST_WAIT_SECONDS):
                waited[task] = upstream
            else:
                self._missed.add(upstream.name)
        if not waited:
            return
        _, late = await asyncio.wait(waited, timeout=patience)
        for task in late:
            upstream = waited[task]
            self._missed.add(upstream.name)
            if patience <= LIST_WAIT_SECONDS:
                upstream.set_late()
            else:
                self._failed.add(upstream.name)

    async def _load_one(self, upstream: ToolServer) -> Catalog | None:
        try:
            return await self._fetch(upstream)
        except Unavailable as error:
            self._failed.add(upstream.name)
            self.checks.report_once(upstream.name, error.sentence)
            return None
        finally:
            self._loading.pop(upstream.name, None)

    async def _fetch(self, upstream: ToolServer) -> Catalog:
        catalog = await upstream.lists()
        if upstream.name in self._failed or upstream.name in self._missed:
            self._failed.discard(upstream.name)
            self._missed.discard(upstream.name)
            self._on_catalog(upstream.name)
        return catalog

    def close(self) -> None:
        for name in self._loading:
            self.checks.report_once(
                name,
                "its lists were not loaded yet; `modelplex mcp list` waits for them and stores them",
            )
        for task in tuple(self._loading.values()):
            task.cancel()

    def _new_view(self, globs: tuple[str, ...], route: str | None) -> CatalogView:
        if not globs:
            return self._merged(self.checks.offers(route), route)
        return self._view_of(self.view((), route).merged.visible_to(globs), route)

    def _merged(self, offers: Sequence[ServerOffer], route: str | None) -> CatalogView:
        """The view of everybody. Changes nothing, so it can run in a thread."""
        merged = merge(
            offers,
            prefix=self._config.prefix,
            limit=self._config.name_limit,
            reserved=search.NAMES if self._config.search != "off" and route is None else (),
            single=route is not None,
        )
        return self._view_of(merged, route)

    def _view_of(self, merged: MergedCatalog, route: str | None) -> CatalogView:
        searched = route is None and search.is_enabled(
            self._config.search, above=self._config.search_above, tools=len(merged.entries("tools"))
        )
        return CatalogView(merged, checks=self.checks, searched=searched)

    async def _prepared(self, globs: tuple[str, ...], route: str | None) -> CatalogView:
        """The view. Large catalogs are checked and merged in a thread first: ten thousand tools
        take a second.
        """
        if not any(_is_large(upstream.catalog) for upstream in self._upstreams.values()):
            return self.view(globs, route)
        async with self._preparing:
            for upstream in tuple(self._upstreams.values()):
                if _is_large(upstream.catalog):
                    await self.checks.prepare(upstream)
            await self._merge(route)
        return self.view(globs, route)

    async def _merge(self, route: str | None) -> None:
        """Make the view of everybody, unless it exists."""
        self._drop_outdated()
        catalogs = self._catalogs
        if (route, ()) not in self._views:
            offers = self.checks.offers(route)
            view = await asyncio.to_thread(self._merged, offers, route)
            self._drop_outdated()
            if self._catalogs is catalogs:  # else a list has changed meanwhile
                self._store((), route, view)


def _is_large(catalog: Catalog | None) -> bool:
    if catalog is None:
        return False
    entries = len(catalog.tools) + len(catalog.prompts) + len(catalog.resources) + len(catalog.templates)
    return entries > MAX_CHECKED_ON_LOOP
