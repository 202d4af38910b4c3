"""Capabilities and lists of all servers, merged from their catalogs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from modelplex.mcp import era_translation, search, tasks
from modelplex.mcp.catalog import LIST_TTL_MS
from modelplex.mcp.constants import LEGACY_VERSIONS, MODERN_VERSIONS, NEWEST_LEGACY, Era, Json, McpReply
from modelplex.mcp.request_context import ToolRequestContext, invalid
from modelplex.mcp.routing import CatalogView, ToolRoutes
from modelplex.mcp.shapes import Kind

ASSUMED: Final = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "completions": {},
    "logging": {},
}
"""Capabilities assumed of servers whose lists are unknown: a client reads capabilities once, and
could not use a server that is only slow to start.
"""
ASSUMED_TASKS: Final[Mapping[Era, Json]] = {
    "legacy": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}},
    "modern": {},
}
"""The same for tasks, if the config allows them."""

LISTS: Final[Mapping[str, Kind]] = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
REST_LIST: Final = "GET /mcp/v1/tools"
"""The list of the REST form, as a method of its own."""
REST_MEMBERS: Final = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
"""Members of a tool in the REST form."""


class AdvertisedCapabilities:
    """Answers `initialize`, `server/discover` and the list methods from the catalogs of
    `routes`.
    """

    def __init__(self, routes: ToolRoutes) -> None:
        self._routes = routes

    def __repr__(self) -> str:
        return f"<AdvertisedCapabilities of {self._routes!r}>"

    async def initialize(self, context: ToolRequestContext) -> McpReply:
        requested = context.params.get("protocolVersion")
        view = await self._routes.view_soon(context.globs, context.route)
        version = requested if requested in LEGACY_VERSIONS else NEWEST_LEGACY
        capabilities = self.capabilities(context, view)
        if version >= tasks.FIRST_VERSION:
            capabilities |= self.tasks(context)
        result: Json = {
            "protocolVersion": version,
            "capabilities": capabilities,
            "serverInfo": era_translation.SERVER_INFO,
        }
        if (instructions := view.merged.instructions) is not None:
            result["instructions"] = instructions
        return McpReply(result=result)

    async def discover(self, context: ToolRequestContext) -> McpReply:
        view = await self._routes.stored_view(context.globs, context.route)
        result: Json = {
            "supportedVersions": [*reversed(MODERN_VERSIONS), *reversed(LEGACY_VERSIONS)],
            "capabilities": self.capabilities(context, view) | self.tasks(context),
        }
        if (instructions := view.merged.instructions) is not None:
            result["instructions"] = instructions
        return McpReply(result=era_translation.modern_result(result, ttl=self._ttl(context)))

    def capabilities(self, context: ToolRequestContext, view: CatalogView) -> Json:
        capabilities = view.merged.capabilities()
        if self._routes.any_unknown(context.globs, context.route):
            capabilities = {**ASSUMED, **capabilities}
        for kind in ("tools", "prompts", "resources"):  # a server may offer this kind later
            if kind in capabilities:
                capabilities[kind] = {**capabilities[kind], "listChanged": True}
        if view.index is not None:
            capabilities["tools"] = {}
        return capabilities

    def tasks(self, context: ToolRequestContext) -> Json:
        """The capability for tasks; {} if no server offers tasks to this protocol era."""
        reached = self._routes.reach(context.globs, context.route)
        era = context.client.era
        offers = [offer for upstream in reached if (offer := tasks.offered(upstream, era)) is not None]
        if any(upstream.catalog is None and upstream.config.tasks for upstream in reached):
            offers.append(ASSUMED_TASKS[era])
        return tasks.merge_offers(offers, era)

    async def list(self, context: ToolRequestContext) -> McpReply:
        cursor = context.params.get("cursor")
        if cursor is not None and not isinstance(cursor, str):
            return invalid("cursor must be a string")
        if context.route is None:
            view = await self._routes.view_for_list(context.globs)
        else:
            view = await self._routes.complete_view(context.globs, context.route)
        result = view.page(LISTS[context.method], era=context.client.era, cursor=cursor)
        return McpReply(
            result=era_translation.modern_result(result, ttl=self._ttl(context)) if context.modern else result
        )

    async def list_for_rest(self, context: ToolRequestContext) -> McpReply:
        view = await self._routes.complete_view(context.globs, None)
        if view.index is not None:
            return McpReply(
                result={"tools": [{**tool, "server": "modelplex"} for tool in search.DEFINITIONS]}
            )
        tools = [
            {key: entry.definition[key] for key in REST_MEMBERS if key in entry.definition}
            | {"server": entry.server}
            for entry in view.merged.entries("tools")
        ]
        return McpReply(result={"tools": tools})

    def _ttl(self, context: ToolRequestContext) -> int:
        """Milliseconds that a client may cache a list; 0 if a server is missing from it."""
        return LIST_TTL_MS if self._routes.complete(context.globs, context.route) else 0
