"""The interface of a tool server that the gateway uses, and the set of servers of one config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from modelplex.config.mcp_settings import McpServer
from modelplex.mcp.approvals import Approvals
from modelplex.mcp.constants import Catalog, Json, McpReply, NotificationHandler, RequestHandler


class ToolServer(Protocol):
    """One server. `modelplex.mcp.servers.ManagedServer` documents the members."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> McpServer: ...
    @property
    def catalog(self) -> Catalog | None: ...
    @property
    def late(self) -> bool: ...
    def set_late(self) -> None: ...
    async def load(self) -> Catalog | None: ...
    async def lists(self, *, fresh: bool = False) -> Catalog: ...
    async def request(
        self,
        method: str,
        params: Json,
        *,
        scope: str = "",
        on_notification: NotificationHandler | None = None,
        on_request: RequestHandler | None = None,
        capabilities: Json | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it bounds the server's silence, and progress renews it
        log_level: str | None = None,
        client_version: str | None = None,
    ) -> McpReply: ...
    async def watch(self, uris: frozenset[str], *, scope: str = "") -> None: ...
    def listen(self, callback: Callable[[str, Json], None]) -> Callable[[], None]: ...
    def status(self) -> Any: ...
    async def end_scope(self, scope: str) -> None: ...
    async def close(self) -> None: ...


class ToolServers(msgspec.Struct, frozen=True, kw_only=True):
    """The tool servers that one config names.

    current    by name, in the config's order
    legacy     those that may speak both protocol eras and may ask a client something, in the legacy
               era, for legacy sessions
    approvals  which definitions are approved
    launches   by name: the hash of how a server is started, which its approvals belong to
    """

    current: Mapping[str, ToolServer]
    legacy: Mapping[str, ToolServer] = {}
    approvals: Approvals
    launches: Mapping[str, str]
