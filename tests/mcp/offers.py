"""Catalogs of servers as a merge takes them."""

from typing import Any

from modelplex.mcp.catalog import (
    MergedCatalog,
    ServerOffer,
)
from modelplex.mcp.constants import Catalog, Json
from modelplex.mcp.shapes import Kind


def tool(name: str, **members: Any) -> Json:
    return {"name": name, "inputSchema": {"type": "object"}, **members}


HELD = ("globs", "held_tools", "held_prompts", "held_instructions")


def offer(server: str, *tools: str, **members: Any) -> ServerOffer:
    held = {name: members.pop(name) for name in HELD if name in members}
    members = {"tools": tuple(tool(name) for name in tools), **members}
    return ServerOffer(server=server, catalog=Catalog(era="legacy", version="2025-11-25", **members), **held)


def resource(uri: str) -> Json:
    return {"uri": uri, "name": uri}


def template(uri: str) -> Json:
    return {"uriTemplate": uri, "name": uri}


def listed(merged: MergedCatalog, kind: Kind = "tools") -> list[str]:
    return [entry.name for entry in merged.entries(kind)]


def sentences(merged: MergedCatalog) -> list[str]:
    return [f"{warned.server}: {warned.sentence}" for warned in merged.warnings]


def headed(**properties: Json) -> Json:
    return {"type": "object", "properties": properties}
