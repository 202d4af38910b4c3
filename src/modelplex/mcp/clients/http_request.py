"""One HTTP request to the MCP routes: what its path and its headers mean.

PURE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from modelplex.core.caller import Caller
from modelplex.mcp.constants import LEGACY_VERSIONS

BASE: Final = "/mcp/v1"
PARAM: Final = b"mcp-param-"
PROTOCOL_HEADERS: Final = frozenset(
    {b"accept", b"last-event-id", b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"mcp-session-id"}
)

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case, in the order in which they came."""


class McpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose Host and Origin have been checked. `length` is the declared body length."""

    method: str
    path: str
    query: bytes
    headers: Headers
    caller: Caller
    length: int | None


class McpRoute(msgspec.Struct, frozen=True):
    """What a path means. `form` "mcp" is the MCP endpoint, "sse" the HTTP+SSE endpoint of
    2024-11-05, "tools" and "call" the REST routes; `name` is the server or the tool.
    """

    form: str
    name: str | None = None


def route_of(path: str) -> McpRoute | None:
    parts = path.removeprefix(BASE).strip("/").split("/")
    match parts:
        case [""]:
            return McpRoute("mcp")
        case ["sse"]:
            return McpRoute("sse")
        case ["tools"]:
            return McpRoute("tools")
        case ["tools", *name, "call"] if name:
            return McpRoute("call", "/".join(name))
        case ["servers", name]:
            return McpRoute("mcp", name)
        case ["servers", name, "sse"]:
            return McpRoute("sse", name)
        case _:
            return None


class McpHeaders(msgspec.Struct, frozen=True, kw_only=True):
    """The headers that the protocol uses. Those that may occur once are kept as often as they
    occur.
    """

    accept: str = ""
    versions: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    last_event: str = ""
    arguments: tuple[tuple[str, str], ...] = ()

    @property
    def version(self) -> str | None:
        return self.versions[0] if self.versions else None

    @property
    def session(self) -> str:
        return self.sessions[0] if len(self.sessions) == 1 else ""

    @property
    def is_modern(self) -> bool:
        """The version header alone decides. An unknown version counts too, so that the error lists
        the known ones.
        """
        return any(version not in LEGACY_VERSIONS for version in self.versions)


def read_head(headers: Headers) -> McpHeaders:
    found: dict[bytes, list[str]] = {}
    arguments: list[tuple[str, str]] = []
    for name, value in headers:
        if name in PROTOCOL_HEADERS or name.startswith(PARAM):
            text = value.decode("latin-1").strip()
            if name.startswith(PARAM):
                arguments.append((name[len(PARAM) :].decode("latin-1"), text))
            else:
                found.setdefault(name, []).append(text)
    return McpHeaders(
        accept=",".join(found.get(b"accept", ())),
        versions=tuple(found.get(b"mcp-protocol-version", ())),
        methods=tuple(found.get(b"mcp-method", ())),
        names=tuple(found.get(b"mcp-name", ())),
        sessions=tuple(found.get(b"mcp-session-id", ())),
        last_event=(found.get(b"last-event-id") or [""])[0],
        arguments=tuple(arguments),
    )


class Accepted(msgspec.Struct, frozen=True):
    """The response forms that the client accepts."""

    json: bool
    events: bool


def accepted(accept: str) -> Accepted:
    """By media type; `q=0` means no. An absent header accepts nothing; the caller decides what
    follows.
    """
    types: set[str] = set()
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        if not any(each.replace(" ", "") in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for each in parameters):
            types.add(kind)
    return Accepted(
        json=bool(types & {"application/json", "application/*", "*/*"}),
        events=bool(types & {"text/event-stream", "text/*", "*/*"}),
    )
