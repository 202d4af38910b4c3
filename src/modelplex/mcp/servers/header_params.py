"""Headers that repeat parts of a message, for modern HTTP servers.

PURE. Headers are built from the outgoing body only. Source: the specification 2026-07-28,
"Transports", standard and custom headers.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Final, cast

from modelplex.mcp.constants import Json

ANNOTATION: Final = "x-mcp-header"
NAMED_BY: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    **dict.fromkeys(("tasks/get", "tasks/update", "tasks/cancel"), "taskId"),
}
"""By method: the parameter that `Mcp-Name` repeats."""
TYPES: Final = frozenset({"string", "integer", "boolean"})
"""Types that a header may repeat; a `number` has several spellings."""

_PLAIN: Final = re.compile(r"[\x20-\x7e]*")
_ENCODED: Final = re.compile(r"=\?base64\?.*\?=")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ONE: Final = frozenset(
    "items contains unevaluatedItems additionalProperties propertyNames unevaluatedProperties not if then else contentSchema".split()
)
_LIST: Final = frozenset("allOf anyOf oneOf prefixItems".split())
_MAP: Final = frozenset("patternProperties dependentSchemas $defs definitions".split())

Path = tuple[str, ...]


def header_value(text: str) -> str:
    """The text itself if a header can carry it, else `=?base64?...?=` over its UTF-8."""
    if _PLAIN.fullmatch(text) and text == text.strip() and not _ENCODED.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode('utf-8', 'replace')).decode('ascii')}?="


def annotated_params(schema: object) -> dict[Path, str]:
    """The properties of an input schema that `Mcp-Param-*` headers repeat: path to the header's
    last part.

    Raises: ValueError for an annotation that the specification does not allow. Such a tool is not
    listed.
    """
    found: dict[Path, str] = {}
    names: set[str] = set()
    for path, node in _subschemas(schema):
        if ANNOTATION not in node:
            continue
        name = node[ANNOTATION]
        if not path:
            raise ValueError(f"{ANNOTATION} is not on a property")
        where = ".".join(path)[:80]
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ValueError(f"{ANNOTATION} of {where} is not a header name")
        kind = node.get("type")
        if not isinstance(kind, str) or kind not in TYPES:
            raise ValueError(f"{ANNOTATION} of {where} is on a type other than string, integer or boolean")
        if name.lower() in names:
            raise ValueError(f"{ANNOTATION} of {where} is used twice")
        names.add(name.lower())
        found[path] = name
    return found


def _subschemas(schema: object) -> Iterator[tuple[Path | None, Json]]:
    """Every subschema with its path of `properties`, None below another keyword. References are not
    followed.
    """
    left: list[tuple[Path | None, object]] = [((), schema)]
    while left:
        path, value = left.pop()
        if not isinstance(value, dict):
            continue
        node = cast("Json", value)
        yield path, node
        for keyword, below in node.items():
            if keyword == "properties" and isinstance(below, dict):
                for name, sub in cast("Json", below).items():
                    left.append((None if path is None else (*path, name), sub))
            elif keyword in _ONE:
                left.append((None, below))
            elif keyword in _LIST and isinstance(below, list):
                left += [(None, sub) for sub in cast("list[object]", below)]
            elif keyword in _MAP and isinstance(below, dict):
                left += [(None, sub) for sub in cast("Json", below).values()]


def argument_headers(schema: object, arguments: object) -> dict[str, str]:
    """The `Mcp-Param-*` headers of a call; null and absent arguments have none. Skips invalid
    annotations.
    """
    try:
        paths = annotated_params(schema)
    except ValueError:
        return {}
    headers: dict[str, str] = {}
    for path, name in paths.items():
        value = arguments
        for key in path:
            value = cast("Json", value).get(key) if isinstance(value, dict) else None
        if isinstance(value, bool):
            headers[f"Mcp-Param-{name}"] = "true" if value else "false"
        elif isinstance(value, str | int | float):
            headers[f"Mcp-Param-{name}"] = header_value(str(value))
    return headers


def standard_headers(method: str, params: Mapping[str, object]) -> dict[str, str]:
    """`Mcp-Method`, and `Mcp-Name` where the method has one."""
    headers = {"Mcp-Method": header_value(method)}
    name = params.get(NAMED_BY.get(method, ""))
    if isinstance(name, str):
        headers["Mcp-Name"] = header_value(name)
    return headers
