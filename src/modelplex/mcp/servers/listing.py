"""Loads a server's lists page by page into one catalog.

A list that fails does not affect the others: many servers advertise lists that they lack.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Literal, cast

import msgspec

from modelplex.config.mcp_settings import McpConfig
from modelplex.mcp.constants import METHOD_NOT_FOUND, Catalog, Json
from modelplex.mcp.servers.channel import HttpRefused, SignInNeeded
from modelplex.mcp.servers.session import ServerSession

Kind = Literal["tools", "prompts", "resources", "templates"]
METHODS: Final[dict[Kind, tuple[str, str, str]]] = {
    "tools": ("tools", "tools/list", "tools"),
    "prompts": ("prompts", "prompts/list", "prompts"),
    "resources": ("resources", "resources/list", "resources"),
    "templates": ("resources", "resources/templates/list", "resourceTemplates"),
}
"""The capability of a list, the method, and the member of the result."""
KEYS: Final[dict[str, str]] = {
    "tools": "name",
    "prompts": "name",
    "resources": "uri",
    "resourceTemplates": "uriTemplate",
}
"""The member that identifies an entry."""
CHANGES: Final[dict[str, tuple[Kind, ...]]] = {
    "notifications/tools/list_changed": ("tools",),
    "notifications/prompts/list_changed": ("prompts",),
    "notifications/resources/list_changed": ("resources", "templates"),
}
MAX_ENTRIES: Final = 10_000
"""Entries of one list. The largest servers have some hundred tools."""
MAX_LIST_BYTES: Final = 8 * 1024 * 1024
"""Bytes of all pages of one list: the list is kept, hashed and scanned."""

Warn = Callable[[str], None]


async def load(
    session: ServerSession,
    *,
    limits: McpConfig,
    old: Catalog | None,
    kinds: tuple[Kind, ...],
    warn: Warn,
) -> Catalog:
    """The catalog of the server: `kinds` are loaded, the others are taken from `old`.

    Raises: ConnectionLost. Other errors are logged, and the old list stays.
    """
    lists: dict[str, tuple[Json, ...]] = {}
    for kind in METHODS:
        before: tuple[Json, ...] = getattr(old, kind) if old is not None else ()
        if kind in kinds and METHODS[kind][0] in session.capabilities:
            got = await _list(session, kind, limits=limits, warn=warn)
            lists[kind] = before if got is None else got
        elif kind not in kinds:
            lists[kind] = before
    return Catalog(
        era=session.era,
        version=session.version,
        info=session.info,
        capabilities=session.capabilities,
        instructions=session.instructions,
        **lists,
    )


async def _list(
    session: ServerSession, kind: Kind, *, limits: McpConfig, warn: Warn
) -> tuple[Json, ...] | None:
    """All pages of one list; None if the list failed."""
    _, method, member = METHODS[kind]
    try:
        async with asyncio.timeout(limits.list_timeout):
            return await _pages(session, method, member, limits=limits, warn=warn)
    except TimeoutError:
        warn(f"{method} had no response within {limits.list_timeout:g} seconds.")
    except SignInNeeded:
        raise  # an empty list would hide what the host has to do
    except HttpRefused as refused:
        warn(f"{method}: {refused.sentence}")
    return None


async def _pages(
    session: ServerSession, method: str, member: str, *, limits: McpConfig, warn: Warn
) -> tuple[Json, ...] | None:
    entries: dict[object, Json] = {}
    cursor: str | None = None
    seen: set[str] = set()
    size = 0
    for _ in range(limits.max_pages):
        reply = await session.request(method, {} if cursor is None else {"cursor": cursor})
        if reply.error is not None:
            if reply.error["code"] == METHOD_NOT_FOUND and cursor is None:
                return ()  # advertised, but missing
            warn(f"{method} failed with error {reply.error['code']}.")
            return tuple(entries.values()) if entries else None
        result = reply.result or {}
        size += len(msgspec.json.encode(result.get(member)))
        if size > MAX_LIST_BYTES:
            warn(f"{method} has more than {MAX_LIST_BYTES} bytes; the list ends before that page.")
            return tuple(entries.values())[:MAX_ENTRIES]
        if not isinstance(result.get(member), list):
            warn(f"The result of {method} has no list of {member}.")
        _add(entries, result.get(member), key=KEYS[member])
        following = result.get("nextCursor")
        if not isinstance(following, str):
            return tuple(entries.values())
        if following in seen:
            warn(f"{method} repeats a page; the list ends there.")
            return tuple(entries.values())
        if len(entries) > MAX_ENTRIES:
            break
        seen.add(following)
        cursor = following
    warn(f"{method} has more than {limits.max_pages} pages or {MAX_ENTRIES} entries; the list ends there.")
    return tuple(entries.values())[:MAX_ENTRIES]


def _add(entries: dict[object, Json], page: object, *, key: str) -> None:
    """Add the new entries of a page: some servers repeat their first page forever."""
    for value in cast("list[object]", page) if isinstance(page, list) else []:
        if isinstance(value, dict):
            entry = cast("Json", value)
            name = entry.get(key)
            entries.setdefault(name if isinstance(name, str) else len(entries), entry)
