"""A tool server as the hub needs it: what mcp/upstream's Server offers, and what a scripted one in
a test offers too.

Above it stands the hub; below it the words. It knows no process and no address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from modelplex.config.settings import McpServer
from modelplex.mcp.constants import Catalog, Json, McpReply, NotificationHandler, RequestHandler


class ToolServer(Protocol):
    """One server; `modelplex.mcp.servers.Server` says what each of these means."""

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
    async def notify(self, method: str, params: Json, *, scope: str = "") -> None: ...
    async def watch(self, uris: frozenset[str], *, scope: str = "") -> None: ...
    def listen(self, callback: Callable[[str, Json], None]) -> Callable[[], None]: ...
    def status(self) -> Any: ...
    async def end_scope(self, scope: str) -> None: ...
    async def close(self) -> None: ...
