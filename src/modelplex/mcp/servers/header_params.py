"""Headers that repeat parts of a message, for modern HTTP servers.

PURE. Headers are built from the outgoing body only. Source: the specification 2026-07-28,
"Transports", standard and custom headers.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Final, cast

from modelplex.mcp.constants import Json
from modelplex.mcp.header_arguments import BadHeaderArgument, header_arguments

NAMED_BY: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    **dict.fromkeys(("tasks/get", "tasks/update", "tasks/cancel"), "taskId"),
}
"""By method: the parameter that `Mcp-Name` repeats."""
_PLAIN: Final = re.compile(r"[\x20-\x7e]*")
_ENCODED: Final = re.compile(r"=\?base64\?.*\?=")


def header_value(text: str) -> str:
    """The text itself if a header can carry it, else `=?base64?...?=` over its UTF-8."""
    if _PLAIN.fullmatch(text) and text == text.strip() and not _ENCODED.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode('utf-8', 'replace')).decode('ascii')}?="


def argument_headers(schema: Json, arguments: object) -> dict[str, str]:
    """The `Mcp-Param-*` headers of a call; null and absent arguments have none. An invalid schema
    has none: its tool is not listed.
    """
    try:
        paths = header_arguments(schema)
    except BadHeaderArgument:
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
