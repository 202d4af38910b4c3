"""Opens, reloads and closes the tools as [mcp] says. `open_tools` has them, and is imported when
[mcp] is enabled.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from modelplex.config import Config
from modelplex.http_client import HttpClient
from modelplex.limits.agent_limits import AgentLimits
from modelplex.pipeline.offload import Offload
from modelplex.server.address import ListenError, Unix
from modelplex.server.app import App
from modelplex.server.connection_shares import ConnectionShares
from modelplex.server.listeners import BoundSocket
from modelplex.server.record_store import RecordStore
from modelplex.server.reports import Reports

if TYPE_CHECKING:
    from modelplex.mcp.servers.process_host import ProcessHost
    from modelplex.mcp.service import ToolService
    from modelplex.server.open_tools import OpenTools


class ToolParts(msgspec.Struct, frozen=True, kw_only=True):
    """What the tools share with the rest of the process. `shares` may be called once the
    process listens. `bind_stdio` gives the stdio socket, or None where this process does
    not serve it; it raises ListenError. `new_host` makes what starts the processes of tool
    servers.
    """

    app: App
    limits: AgentLimits
    reports: Reports
    client: HttpClient
    offload: Offload
    shares: Callable[[], ConnectionShares]
    store: RecordStore
    bind_stdio: Callable[[Unix], BoundSocket | None]
    new_host: Callable[[str], ProcessHost]


class ToolEndpoints:
    """The tools of a process, open while [mcp] is enabled."""

    def __init__(self, parts: ToolParts) -> None:
        self._parts = parts
        self._tools: OpenTools | None = None
        self._background: set[asyncio.Task[None]] = set()

    @property
    def service(self) -> ToolService | None:
        """None where [mcp] is not enabled."""
        return self._tools.service if self._tools is not None else None

    def load(self, config: Config) -> None:
        """Load the code of the tools, if the config enables them: before the process listens, since
        a client that reaches one socket expects the stdio socket too.
        """
        if config.mcp.enabled:
            _load_tools()

    async def open(self, config: Config) -> None:
        """Serve tools, if the config enables them. Raises ListenError for the stdio socket."""
        if not config.mcp.enabled:
            return
        # Not in a thread, since no request may come before it is open.
        self._tools = _load_tools()(config, self._parts)
        await self._tools.open()

    def reload(self, config: Config) -> None:
        """Apply another [mcp]. If it is enabled or disabled, servers start or stop in the
        background. Another stdio socket needs a restart.
        """
        if self._tools is not None and config.mcp.enabled:
            self._tools.adopt(config)
        elif self._tools is not None or config.mcp.enabled:
            task = asyncio.create_task(
                self._close() if self._tools is not None else self._open_or_report(config)
            )
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _open_or_report(self, config: Config) -> None:
        await asyncio.to_thread(_load_tools)  # takes 50 ms, in which requests are served
        try:
            await self.open(config)
        except ListenError as error:
            self._parts.reports.log.events.error(error.sentence)

    async def close(self) -> None:
        """Close everything, after what a reload has started in the background."""
        if self._background:
            await asyncio.wait(self._background)
        await self._close()

    async def _close(self) -> None:
        tools, self._tools = self._tools, None
        if tools is not None:
            await tools.close()

    def drain(self) -> None:
        if (mcp := self._parts.app.mcp) is not None:
            mcp.drain()

    @property
    def servers(self) -> list[str]:
        return self.service.servers if self.service is not None else []

    def reload_approvals(self) -> None:
        """Read the approvals again, if their file has changed."""
        if self.service is not None:
            self.service.reload_approvals()

    def status(self) -> list[dict[str, object]]:
        """For `/_internal/mcp`."""
        return self.service.status() if self.service is not None else []

    def left_out(self) -> dict[str, int]:
        """For `/metrics`."""
        return self.service.gateway.left_out() if self.service is not None else {}


def _load_tools() -> type[OpenTools]:
    from modelplex.server.open_tools import OpenTools

    return OpenTools


def request_ids() -> Iterator[str]:
    """Ids of requests: ascending, and different from those of any other run."""
    run = os.urandom(4).hex()
    return (f"mpx-{run}-{number:06x}" for number in itertools.count(1))
