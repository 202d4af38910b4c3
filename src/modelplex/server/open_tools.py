"""The tool service of an enabled [mcp], with MCP over HTTP and the stdio socket.

Imports the package mcp. `tool_endpoints` imports this module when [mcp] is enabled, so that other
gateways do not load it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from time import perf_counter, time

from modelplex.config import Config
from modelplex.core.caller import Caller
from modelplex.core.errors import ModelplexError
from modelplex.limits.agent_limits import AgentLimits
from modelplex.mcp.call_recording import CallRecording
from modelplex.mcp.clients.http import McpHttp
from modelplex.mcp.clients.stdio import StdioConnections
from modelplex.mcp.constants import Unavailable
from modelplex.mcp.service import ServerMachine, ToolService
from modelplex.server import from_config
from modelplex.server.mcp_stdio import McpStdioListener
from modelplex.server.tool_endpoints import ToolParts, request_ids


class OpenTools:
    """Serves tools from `open` until `close`."""

    def __init__(self, config: Config, parts: ToolParts) -> None:
        self._config = config
        self._parts = parts
        self._ids = session_ids()
        self.service = _new_service(config, parts)
        self._http = McpHttp(
            self.service.gateway,
            config.mcp,
            ids=self._ids,
            clock=perf_counter,
            open_to_all=config.server.allow_unauthenticated,
            offload=parts.offload,
        )
        self._stdio: McpStdioListener | None = None

    def __repr__(self) -> str:
        return f"<OpenTools {self._http!r}>"

    async def open(self) -> None:
        """Raises ListenError for the stdio socket."""
        config, parts = self._config, self._parts
        parts.app.mcp = self._http
        address = from_config.stdio_address(config)
        if address is not None and (bound := parts.bind_stdio(address)) is not None:
            self._stdio = McpStdioListener(
                bound,
                StdioConnections(self.service.gateway, config.mcp, ids=self._ids, offload=parts.offload),
                callers=parts.app.callers,
                shares=parts.shares(),
                bodies=parts.app.bodies,
            )
            await self._stdio.open()
        self.service.start()

    def adopt(self, config: Config) -> None:
        """Apply another [mcp], which is enabled too. Another stdio socket needs a restart."""
        self.service.adopt(config)
        self._http.config, self._http.open_to_all = config.mcp, config.server.allow_unauthenticated

    async def close(self) -> None:
        self._parts.app.mcp = None
        if self._stdio is not None:
            await self._stdio.close()
        await self._http.close()
        await self.service.close()


def _new_service(config: Config, parts: ToolParts) -> ToolService:
    return ToolService(
        config,
        machine=ServerMachine(os.environ, parts.new_host),
        client=parts.client,
        events=parts.reports.log.events,
        recording=CallRecording(
            ids=request_ids(),
            clock=perf_counter,
            wall=time,
            on_record=parts.reports.record,
            keep_bodies=parts.store.kept_body(config) or 0,
            on_session=parts.store.on_session,
        ),
        key=os.urandom(32),
        admit=lambda caller: _admit(parts.limits, caller),
        record_place=from_config.record_place,
    )


@contextlib.asynccontextmanager
async def _admit(limits: AgentLimits, caller: Caller) -> AsyncGenerator[None]:
    """Count a tool call as a request of its agent. Raises Unavailable above a limit."""
    try:
        shared = limits.shared
        if shared is None:
            ticket = limits.admit(caller)
        else:
            ticket = await limits.admit_shared(caller, shared, id=f"tool-{os.urandom(12).hex()}")
    except ModelplexError as error:
        raise Unavailable(error.message, server="", reason="limit", retry_after=error.retry_after) from None
    try:
        yield
    finally:
        limits.settle(ticket)


def session_ids() -> Callable[[], str]:
    """Ids of sessions that cannot be guessed: 128 random bits."""
    return lambda: os.urandom(16).hex()
