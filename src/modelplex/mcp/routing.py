"""Whose a name is: the catalogues of the servers as each caller sees them, made when they are first
looked at and kept until one of them changes.

Above it stands the hub; below it the pure catalogue, its pins and its search. It waits for a
server's lists where they are not known, and for a bad one never longer than once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from modelplex.config.settings import McpConfig
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
"""Seconds that `initialize` and a list of all servers wait for servers whose lists nobody knows
yet. Some agents wait a second for all their tools, and go on without any after that. What comes
later is told of with `list_changed`.
"""

CALL_WAIT_SECONDS = 10.0
"""Seconds that a call waits for such lists, where they have to say whose it is, and the plain
form's list, which has no `list_changed`.
"""

VIEWS_LIMIT = 256
"""Different views that are kept: one for each route and each agent's globs, so far fewer than
callers.
"""

CHECKED_AT_ONCE = 200
"""Entries of a catalogue that are checked on the event loop. A larger one is checked in a thread.
"""


class CatalogView:
    """What one kind of caller sees on one route."""

    def __init__(self, merged: MergedCatalog, *, checks: CheckedCatalogs, searched: bool) -> None:
        self.merged = merged
        self._checks = checks
        self.index = (
            search.Index([entry.definition for entry in merged.entries("tools")]) if searched else None
        )
        self._targets: dict[tuple[str, str], RouteTarget | None] = {}

    def __repr__(self) -> str:
        return f"<View {self.merged!r}{' to be searched' if self.index else ''}>"

    def page(self, kind: Kind, *, era: Era, cursor: str | None) -> Json:
        """Raises BadCursor."""
        if kind == "tools" and self.index is not None:
            return {"tools": list(search.DEFINITIONS)}
        return self.merged.page(kind, era=era, cursor=cursor)

    def tool(self, name: str) -> RouteTarget | None:
        """The tool of this name, also one that is held back or that this caller may not have: the
        policy says so. None where nobody has it.
        """
        return self._target("tool", name)

    def prompt(self, name: str) -> RouteTarget | None:
        return self._target("prompt", name)

    def _target(self, kind: Literal["tool", "prompt"], name: str) -> RouteTarget | None:
        known = self._targets.get((kind, name))
        if known is not None:
            return known
        entry = self.merged.tool(name) if kind == "tool" else self.merged.prompt(name)
        names = self.merged.names if kind == "tool" else self.merged.prompt_names
        own = ServerToolName(entry.server, entry.own) if entry is not None else names.find(name)
        if own is None:
            return None
        target = self._targets[kind, name] = self._checks.target_of(kind, own, name, entry)
        return target


class ToolRoutes:
    """The catalogues of `backs`, in the config's order.

    launches   the hash of how each server is started, by its name
    report     takes a sentence about a server, each once
    seen       takes what was first seen of all servers, whenever there is something new
    came       takes a server whose lists came after others had been told that it has none
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
        return f"<Routes to {known} of {len(self._upstreams)} servers, {len(self._views)} views>"

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

    # --- what is known ----------------------------------------------------------------------------

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
        """Whether all catalogues that a view is made of are known."""
        return all(upstream.catalog is not None for upstream in self.reach(globs, route))

    def any_unknown(self, globs: Sequence[str], route: str | None) -> bool:
        """Whether there is a server of which nobody can say yet what it offers, or that it offers
        nothing.
        """
        return any(
            upstream.catalog is None and upstream.name not in self._failed
            for upstream in self.reach(globs, route)
        )

    def view(self, globs: tuple[str, ...], route: str | None) -> CatalogView:
        """What is seen now; starts and waits for nothing."""
        self._forget_old()
        view = self._views.get((route, globs))
        if view is None:
            view = self._made(globs, route)
            self._keep(globs, route, view)
        return view

    def _forget_old(self) -> None:
        """Forget all views where a catalogue is another one."""
        known = [upstream.catalog for upstream in self._upstreams.values()]
        if len(known) != len(self._catalogs) or any(
            a is not b for a, b in zip(known, self._catalogs, strict=True)
        ):
            self._catalogs = known
            self._views.clear()

    def _keep(self, globs: tuple[str, ...], route: str | None, view: CatalogView) -> None:
        if len(self._views) >= VIEWS_LIMIT:
            self._views.clear()
        self._views[route, globs] = view
        if not globs:
            for warned in view.merged.warnings:
                self.checks.report_once(warned.server, warned.sentence)

    async def loaded(self, globs: tuple[str, ...], route: str | None) -> CatalogView:
        """The same, after the lists that are not known were asked for. On the route of one server
        its failure is raised, else it is left out.

        Raises:
            Unavailable: the one server of the route could not be asked.
        """
        if route is not None:
            upstream = self._upstreams[route]
            if upstream.catalog is None:
                await self._fetch(upstream)
            return await self._prepared(globs, route)
        await self._load(self.reach(globs, None), patience=CALL_WAIT_SECONDS)
        return await self._prepared(globs, None)

    async def known_soon(self, globs: tuple[str, ...], route: str | None) -> CatalogView:
        """What is known after a short while: a server that needs longer is left out, and told of
        when it comes. Raises nothing.
        """
        await self._load(self.reach(globs, route), patience=LIST_WAIT_SECONDS)
        return await self._prepared(globs, route)

    async def listed(self, globs: tuple[str, ...]) -> CatalogView:
        """The same for a list of all servers, which waits longer where it would have nothing of any
        of them: an empty list helps nobody.
        """
        view = await self.known_soon(globs, None)
        reached = self.reach(globs, None)
        if any(upstream.catalog is not None for upstream in reached):
            return view
        await self._load(reached, patience=CALL_WAIT_SECONDS)
        return await self._prepared(globs, None)

    async def known_on_disk(self, globs: tuple[str, ...], route: str | None) -> CatalogView:
        """The same with what is kept on the disk; starts nothing."""
        for upstream in self.reach(globs, route):
            if upstream.catalog is None:
                await upstream.load()
        return await self._prepared(globs, route)

    async def of_name(self, name: str, globs: tuple[str, ...], route: str | None) -> CatalogView:
        """The view in which a prefixed name can be found: of all servers that are not known only
        its own is waited for.
        """
        if route is None and self._config.prefix:
            upstream = self._upstreams.get(name.partition(SEPARATOR)[0])
            if upstream is not None:
                if upstream.catalog is None and any_of_server(upstream.name, globs):
                    await self._fetch(upstream)
                return await self._prepared(globs, None)
        return await self.loaded(globs, route)

    async def learn(self, upstream: ToolServer) -> None:
        """Begin to ask a server for its lists where nobody knows them. Returns when the disk was
        looked at.
        """
        if await upstream.load() is None:
            self._load_in_background(upstream)

    def _load_in_background(self, upstream: ToolServer) -> asyncio.Task[Catalog | None]:
        """Each server has one load at a time."""
        task = self._loading.get(upstream.name)
        if task is None:
            task = self._loading[upstream.name] = asyncio.create_task(self._load_one(upstream))
        return task

    async def _load(self, upstreams: Sequence[ToolServer], *, patience: float) -> None:
        """Have the lists of these servers as far as they come within `patience` seconds. One whose
        last load failed is tried again, but not waited for, nor is one that is known to be slow
        where there is only the grace.
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
                "has not told its lists yet; `modelplex mcp list` waits for them, and they are remembered",
            )
        for task in tuple(self._loading.values()):
            task.cancel()

    # --- making a view ----------------------------------------------------------------------------

    def _made(self, globs: tuple[str, ...], route: str | None) -> CatalogView:
        if not globs:
            return self._merged(self.checks.offers(route), route)
        return self._view_of(self.view((), route).merged.seen_by(globs), route)

    def _merged(self, offers: Sequence[ServerOffer], route: str | None) -> CatalogView:
        """What everybody sees. Changes nothing, so that it can run in a thread."""
        merged = merge(
            offers,
            prefix=self._config.prefix,
            limit=self._config.name_limit,
            reserved=search.NAMES if self._config.search != "off" and route is None else (),
            alone=route is not None,
        )
        return self._view_of(merged, route)

    def _view_of(self, merged: MergedCatalog, route: str | None) -> CatalogView:
        searched = route is None and search.wanted(
            self._config.search, above=self._config.search_above, tools=len(merged.entries("tools"))
        )
        return CatalogView(merged, checks=self.checks, searched=searched)

    async def _prepared(self, globs: tuple[str, ...], route: str | None) -> CatalogView:
        """The view. What is large in it is worked through in a thread first: of ten thousand tools
        that takes a second, in which others are served.
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
        """Make the view of everybody, unless it is there."""
        self._forget_old()
        known = self._catalogs
        if (route, ()) not in self._views:
            offers = self.checks.offers(route)
            view = await asyncio.to_thread(self._merged, offers, route)
            self._forget_old()
            if self._catalogs is known:  # else a list has changed meanwhile
                self._keep((), route, view)


def _is_large(catalog: Catalog | None) -> bool:
    if catalog is None:
        return False
    entries = len(catalog.tools) + len(catalog.prompts) + len(catalog.resources) + len(catalog.templates)
    return entries > CHECKED_AT_ONCE
