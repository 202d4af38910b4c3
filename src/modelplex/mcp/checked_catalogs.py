"""Checks the catalog of each server: which entries are usable, which definitions approved.

Each catalog is checked once for all callers; large ones in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec

from modelplex.mcp.approvals import PROMPT_MEMBERS, Approvals, Judgement, Lock, State, hash_of, other_tools
from modelplex.mcp.catalog import CatalogEntry, ServerOffer
from modelplex.mcp.constants import Catalog
from modelplex.mcp.names import ServerToolName
from modelplex.mcp.tool_server import ToolServer
from modelplex.mcp.usable_catalog import UsableCatalog, usable_catalog

MAX_SENTENCES: Final = 10_000
"""Different sentences about servers that are logged: servers could make up new ones forever."""
MAX_SENTENCE: Final = 1_000
"""Characters of one sentence, which may hold names that a server chose."""

Report = Callable[[str, str], None]
"""Takes a server's name and a sentence about it, for the log."""


class RouteTarget(msgspec.Struct, frozen=True):
    """The thing that a request names. `own` is the server's name for it; `definition` is the hash
    of its definition, "" if it has none.
    """

    server: str
    own: str
    name: str
    definition: str = ""
    state: State = "approved"


class CheckedCatalogs:
    """The catalogs of `upstreams`. `report` gets each sentence about a server once; `on_first_seen`
    gets the definitions first seen of all servers whenever there are new ones.
    """

    def __init__(
        self,
        upstreams: Mapping[str, ToolServer],
        *,
        approvals: Approvals,
        launches: Mapping[str, str],
        report: Report,
        on_first_seen: Callable[[Lock], None],
    ) -> None:
        self.approvals = approvals
        self.launches = launches
        self._upstreams = upstreams
        self._report = report
        self._on_first_seen = on_first_seen
        self._judgements: dict[str, tuple[Catalog, Judgement]] = {}
        self._checked: dict[str, tuple[Catalog, tuple[str, ...], UsableCatalog]] = {}
        self._reported: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"<CheckedCatalogs of {len(self._checked)} servers>"

    def set_approvals(self, approvals: Approvals, launches: Mapping[str, str] | None = None) -> None:
        """Judge all definitions again."""
        self.approvals = approvals
        if launches is not None:
            self.launches = launches
        self._judgements.clear()
        self._checked = {name: kept for name, kept in self._checked.items() if name in self._upstreams}

    def offers(self, route: str | None) -> list[ServerOffer]:
        """What the servers of a route offer, as far as their catalogs are known."""
        return [
            self.offer(name, upstream.catalog)
            for name, upstream in self._upstreams.items()
            if upstream.catalog is not None and route in (None, name)
        ]

    def offer(self, server: str, catalog: Catalog) -> ServerOffer:
        judgement = self.judgement(server, catalog)
        return ServerOffer(
            server=server,
            catalog=catalog,
            globs=self._upstreams[server].config.tools,
            held_tools=judgement.held_tools,
            held_prompts=judgement.held_prompts,
            held_instructions=judgement.held_instructions,
            checked=self.checked(server, catalog),
        )

    def checked(self, server: str, catalog: Catalog) -> UsableCatalog:
        """The entries of a catalog that can be listed, checked once for all callers."""
        globs = self._upstreams[server].config.tools
        cached = self._cached(server, catalog, globs)
        if cached is None:
            cached = usable_catalog(server, catalog, globs=globs)
            self._checked[server] = (catalog, globs, cached)
        return cached

    def _cached(self, server: str, catalog: Catalog, globs: tuple[str, ...]) -> UsableCatalog | None:
        of, of_globs, found = self._checked.get(server, (None, (), None))
        return found if of is catalog and of_globs == globs else None

    def left_out(self) -> dict[str, int]:
        """The number of entries left out by server, for checked catalogs. Safe on any thread."""
        return {
            server: sum(warning.count for warning in found.warnings)
            for server, (_, _, found) in tuple(self._checked.items())
        }

    async def prepare(self, upstream: ToolServer) -> None:
        """Check and judge a catalog in a thread, unless that is done."""
        catalog, globs = upstream.catalog, upstream.config.tools
        assert catalog is not None
        name = upstream.name
        if self._cached(name, catalog, globs) is None:
            found = await asyncio.to_thread(usable_catalog, name, catalog, globs=globs)
            self._checked[name] = (catalog, globs, found)
        if self._judgements.get(name, (None,))[0] is not catalog:
            approvals, launch, others = self.approvals, self.launches.get(name, ""), self._others(name)
            judgement = await asyncio.to_thread(approvals.judge, name, catalog, launch=launch, others=others)
            if approvals is self.approvals:  # else the approvals have changed meanwhile
                self._record(name, catalog, judgement)

    def judgement(self, server: str, catalog: Catalog) -> Judgement:
        """The state of each definition in a catalog; logged and recorded once."""
        cached = self._judgements.get(server)
        if cached is not None and cached[0] is catalog:
            return cached[1]
        launch = self.launches.get(server, "")
        judgement = self.approvals.judge(server, catalog, launch=launch, others=self._others(server))
        self._record(server, catalog, judgement)
        return judgement

    def _others(self, server: str) -> set[str]:
        known = {name: each.catalog for name, each in self._upstreams.items() if each.catalog is not None}
        return other_tools(known, server)

    def _record(self, server: str, catalog: Catalog, judgement: Judgement) -> None:
        """Keep a judgement, log its findings, and record definitions that are seen for the first
        time.
        """
        self._judgements[server] = (catalog, judgement)
        for each in judgement.changed:
            self.report_once(server, f"the {each.kind} {each.name!r} is not as it was approved")
        if judgement.mode == "locked" and judgement.pending:
            names = ", ".join(repr(each.name) for each in judgement.pending[:10])
            self.report_once(
                server, f"{len(judgement.pending)} definitions wait for `modelplex mcp approve`: {names}"
            )
        for each in judgement.entries:
            for finding in each.findings[:3]:
                self.report_once(server, f"the {each.kind} {each.name!r}: {finding.sentence}")
        if judgement.first is not None:
            self.approvals = msgspec.structs.replace(
                self.approvals, seen={**self.approvals.seen, server: judgement.first}
            )
            self._on_first_seen(self.approvals.seen)

    def target_of(
        self, kind: Literal["tool", "prompt"], own: ServerToolName, name: str, entry: CatalogEntry | None
    ) -> RouteTarget | None:
        """The target of a request, with its hash and approval."""
        catalog = self._upstreams[own.server].catalog
        if catalog is None:
            return None
        approval = self.judgement(own.server, catalog).find(kind, own.name)
        if approval is not None:
            return RouteTarget(own.server, own.name, name, approval.hash, approval.state)
        digest = ""
        if entry is not None:
            definition = {**entry.definition, "name": own.name}
            digest = hash_of(definition) if kind == "tool" else hash_of(definition, members=PROMPT_MEMBERS)
        return RouteTarget(own.server, own.name, name, digest)

    def report_once(self, server: str, sentence: str) -> None:
        """Log a sentence about a server once, however often views are rebuilt."""
        sentence = sentence[:MAX_SENTENCE]
        if (server, sentence) not in self._reported and len(self._reported) < MAX_SENTENCES:
            self._reported.add((server, sentence))
            self._report(server, sentence)
