"""The entries of one server's catalog that clients can read. Others are left out, with a warning.

PURE. One invalid entry would make a whole list unreadable for the official SDKs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, cast

import msgspec

from modelplex.mcp.constants import Catalog, Json
from modelplex.mcp.header_arguments import BadHeaderArgument, header_arguments
from modelplex.mcp.policy import permitted
from modelplex.mcp.shapes import Kind, Malformed, older, repair_entry
from modelplex.mcp.uri_templates import is_too_large

MAX_SCHEMA_BYTES: Final = 262_144
"""Bytes of a tool's input or output schema as JSON. No model reads a larger one."""
MAX_SCHEMA_DEPTH: Final = 32
"""Deeper schemas have crashed validators."""
MAX_TEMPLATES: Final = 200
"""Templates of one server: each is tried on every unlisted URI, and servers have a handful."""

_NAMES: Final[Mapping[Kind, tuple[str, str]]] = {
    "tools": ("tool", "name"),
    "prompts": ("prompt", "name"),
    "resources": ("resource", "uri"),
    "resourceTemplates": ("resource template", "uriTemplate"),
}
"""The name of an entry's kind, and the member that identifies an entry."""


class CatalogWarning(msgspec.Struct, frozen=True):
    """Entries of a server that were left out, for the log and the status. `count` is
    their number.
    """

    server: str
    sentence: str
    count: int = 0


class UsableCatalog(msgspec.Struct, frozen=True, kw_only=True):
    """A catalog without entries that clients reject and without tools that the host does not allow.
    `older_tools` are its tools for clients of older revisions, in the same order.
    """

    catalog: Catalog
    older_tools: tuple[Json, ...] = ()
    warnings: tuple[CatalogWarning, ...] = ()


def usable_catalog(server: str, catalog: Catalog, *, globs: Sequence[str] = ()) -> UsableCatalog:
    """The entries of a catalog that can be listed for any caller. `globs` are the `tools` of the
    server's config. Linear in the catalog's size.
    """
    warnings: list[CatalogWarning] = []

    def select(kind: Kind, definitions: Iterable[Json]) -> tuple[Json, ...]:
        return tuple(_usable_entries(server, kind, definitions, globs, warnings))

    tools = select("tools", catalog.tools)
    prompts = select("prompts", catalog.prompts)
    resources = select("resources", catalog.resources)
    templates = select("resourceTemplates", catalog.templates)
    if len(templates) > MAX_TEMPLATES:
        sentence = f"of {len(templates)} resource templates all but {MAX_TEMPLATES} are left out"
        warnings.append(CatalogWarning(server, sentence, len(templates) - MAX_TEMPLATES))
    return UsableCatalog(
        catalog=msgspec.structs.replace(
            catalog, tools=tools, prompts=prompts, resources=resources, templates=templates[:MAX_TEMPLATES]
        ),
        older_tools=tuple(older("tools", tool) for tool in tools),
        warnings=tuple(warnings),
    )


def _usable_entries(
    server: str,
    kind: Kind,
    definitions: Iterable[Json],
    globs: Sequence[str],
    warnings: list[CatalogWarning],
) -> Iterator[Json]:
    word, key = _NAMES[kind]
    for definition in definitions:
        missing = [name for name in dict.fromkeys((key, "name")) if not isinstance(definition.get(name), str)]
        if missing:
            sentence = f"a {word} without {' and '.join(missing)} is left out"
            warnings.append(CatalogWarning(server, sentence, 1))
            continue
        if kind == "tools" and not permitted(definition["name"], globs):
            continue
        label = f"the {word} {definition[key][:100]!r}"
        dropped: list[Malformed] = []
        try:
            fault: object = _fault(kind, definition)
            entry = repair_entry(kind, definition, dropped=dropped) if fault is None else None
        except Malformed as malformed:
            fault, entry = malformed, None
        if entry is None:
            warnings.append(CatalogWarning(server, f"{label} is left out: {fault}", 1))
            continue
        warnings.extend(
            CatalogWarning(server, f"{label} is listed without what clients refuse: {each}")
            for each in dropped
        )
        yield entry


def _fault(kind: Kind, definition: Json) -> str | None:
    """Why a definition cannot be passed on, or None."""
    if kind == "tools":
        return tool_fault(definition)
    if kind == "resourceTemplates" and is_too_large(definition["uriTemplate"]):
        return "it is too long"
    return None


def tool_fault(tool: Json) -> str | None:
    """Why a tool's definition cannot be passed on, or None."""
    if tool.get("inputSchema") is None:
        return "it has no inputSchema"
    for member in ("inputSchema", "outputSchema"):
        schema = tool.get(member)
        if schema is None:
            continue
        if _is_too_deep(schema):
            return f"its {member} is deeper than {MAX_SCHEMA_DEPTH}"
        if len(msgspec.json.encode(schema)) > MAX_SCHEMA_BYTES:
            return f"its {member} is larger than {MAX_SCHEMA_BYTES} bytes"
    try:
        header_arguments(tool["inputSchema"])
    except BadHeaderArgument as fault:
        return str(fault)
    return None


def _is_too_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(MAX_SCHEMA_DEPTH + 1):
        below: list[object] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(cast("Json", node).values())
            elif isinstance(node, list):
                below.extend(cast("list[object]", node))
        if not below:
            return False
        level = below
    return True
