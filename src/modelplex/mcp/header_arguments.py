"""Finds the arguments of a tool that `Mcp-Param-*` headers repeat.

PURE. Source: revision 2026-07-28, Streamable HTTP, "Custom Headers from Tool Parameters".
"""

from __future__ import annotations

import re
from typing import Final, cast

from modelplex.mcp.constants import Json

ANNOTATION: Final = "x-mcp-header"

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 5.6.2."""
_DATA: Final = frozenset({"const", "default", "enum", "example", "examples"})
"""JSON Schema keywords that hold data, not schemas."""
_MAPS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords below which the keys are names, not keywords."""

ArgumentPath = tuple[str, ...]


class BadHeaderArgument(ValueError):
    """An annotation that the specification does not allow. Such a tool is not listed."""


def header_arguments(schema: Json) -> dict[ArgumentPath, str]:
    """The path of each annotated argument in an input schema, and the header's name after
    `Mcp-Param-`.

    Valid is a token that no other argument has, on a string, integer or boolean reached through
    `properties` alone. Raises BadHeaderArgument.
    """
    found: dict[ArgumentPath, str] = {}
    waiting: list[tuple[ArgumentPath | None, object]] = [((), schema)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, list):
            waiting.extend((None, element) for element in cast("list[object]", node))
        if not isinstance(node, dict):
            continue
        members = cast("Json", node)
        if ANNOTATION in members:
            found_names = {name.lower() for name in found.values()}
            found[path or ()] = _checked(members, path, others=found_names)
        for keyword, below in members.items():
            if keyword in _MAPS and isinstance(below, dict):
                through = keyword == "properties"
                for name, property_ in cast("Json", below).items():
                    waiting.append(((*path, name) if through and path is not None else None, property_))
            elif keyword not in _DATA and keyword != ANNOTATION:
                waiting.append((None, below))
    return found


def _checked(schema: Json, path: ArgumentPath | None, *, others: set[str]) -> str:
    """The header name of an annotated schema."""
    header = schema[ANNOTATION]
    if not isinstance(header, str) or not _TOKEN.fullmatch(header):
        raise BadHeaderArgument(f"its {ANNOTATION} is not the name of a header")
    if not path:
        raise BadHeaderArgument(f"its {ANNOTATION} {header} is where no argument is")
    if schema.get("type") not in ("string", "integer", "boolean"):
        raise BadHeaderArgument(
            f"its {ANNOTATION} {header} is on what is neither string, integer nor boolean"
        )
    if header.lower() in others:
        raise BadHeaderArgument(f"its {ANNOTATION} {header} is there twice")
    return header
