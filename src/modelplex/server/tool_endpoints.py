"""Opens, reloads and closes the tool service, MCP over HTTP and the stdio socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Generator, Iterator
from time import perf_counter, time

from modelplex.config import Config
from modelplex.core.caller import Caller
from modelplex.core.errors import ModelplexError
from modelplex.http_client import HttpClient
from modelplex.limits.agent_limits import AgentLimits
from modelplex.mcp.call_recording import CallRecording
from modelplex.mcp.clients import McpHttp, StdioConnections
from modelplex.mcp.constants import Unavailable
from modelplex.mcp.service import ToolService
from modelplex.pipeline.offload import Offload
from modelplex.server.address import ListenError, Unix
from modelplex.server.app import App
from modelplex.server.connection_shares import ConnectionShares
from modelplex.server.mcp_stdio import McpStdioListener
from modelplex.server.reports import Reports


class ToolEndpoints:
    """`service` is None where [mcp] is not enabled. `keep_bodies` is how many bytes of each tool
    call's body the log keeps.
    """

    def __init__(
        self,
        app: App,
        limits: AgentLimits,
        reports: Reports,
        *,
        client: HttpClient,
        offload: Offload,
        shares: Callable[[], ConnectionShares],
        keep_bodies: Callable[[Config], int],
    ) -> None:
        self.service: ToolService | None = None
        self._app = app
        self._limits = limits
        self._reports = reports
        self._client = client
        self._offload = offload
        self._shares = shares
        self._keep_bodies = keep_bodies
        self._stdio: McpStdioListener | None = None
        self._background: set[asyncio.Task[None]] = set()

    async def open(self, config: Config) -> None:
        """Serve tools, if the config enables them. Raises ListenError for the stdio socket."""
        if not config.mcp.enabled:
            return
        self.service = service = self._new_service(config)
        ids = session_ids()
        self._app.mcp = McpHttp(
            service.gateway,
            config.mcp,
            ids=ids,
            clock=perf_counter,
            open_to_all=config.server.allow_unauthenticated,
            offload=self._offload,
        )
        if config.mcp.stdio_socket is not None:
            address = Unix(
                config.mcp.stdio_socket,
                mode=int(config.server.socket_mode, 8),
                group=config.server.socket_group,
            )
            self._stdio = McpStdioListener(
                address,
                StdioConnections(service.gateway, config.mcp, ids=ids, offload=self._offload),
                callers=self._app.callers,
                shares=self._shares(),
                bodies=self._app.bodies,
            )
            await self._stdio.open()
        service.start()

    def reload(self, config: Config) -> None:
        """Apply another [mcp]. If it is enabled or disabled, servers start or stop in the
        background. Another stdio socket needs a restart.
        """
        if self.service is not None and config.mcp.enabled:
            self.service.adopt(config)
            if (mcp := self._app.mcp) is not None:
                mcp.config, mcp.open_to_all = config.mcp, config.server.allow_unauthenticated
        elif self.service is not None or config.mcp.enabled:
            task = asyncio.create_task(
                self._close() if self.service is not None else self._open_or_report(config)
            )
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _open_or_report(self, config: Config) -> None:
        try:
            await self.open(config)
        except ListenError as error:
            self._reports.log.events.error(error.sentence)

    async def close(self) -> None:
        """Close everything, after what a reload has started in the background."""
        if self._background:
            await asyncio.wait(self._background)
        await self._close()

    async def _close(self) -> None:
        service, mcp, stdio = self.service, self._app.mcp, self._stdio
        self.service = self._app.mcp = self._stdio = None
        if stdio is not None:
            await stdio.close()
        if mcp is not None:
            await mcp.close()
        if service is not None:
            await service.close()

    def drain(self) -> None:
        if self._app.mcp is not None:
            self._app.mcp.drain()

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

    def _new_service(self, config: Config) -> ToolService:
        return ToolService(
            config,
            environ=os.environ,
            client=self._client,
            events=self._reports.log.events,
            recording=CallRecording(
                ids=request_ids(),
                clock=perf_counter,
                wall=time,
                on_record=self._reports.record,
                keep_bodies=self._keep_bodies(config),
            ),
            key=os.urandom(32),
            admit=self._admit,
        )

    @contextlib.contextmanager
    def _admit(self, caller: Caller) -> Generator[None]:
        """Count a tool call as a request of its agent. Raises Unavailable above a limit."""
        try:
            ticket = self._limits.admit(caller)
        except ModelplexError as error:
            raise Unavailable(
                error.message, server="", reason="limit", retry_after=error.retry_after
            ) from None
        try:
            yield
        finally:
            self._limits.settle(ticket)


def request_ids() -> Iterator[str]:
    """Ids of requests: ascending, and different from those of any other run."""
    run = os.urandom(4).hex()
    return (f"mpx-{run}-{number:06x}" for number in itertools.count(1))


def session_ids() -> Callable[[], str]:
    """Ids of sessions that cannot be guessed: 128 random bits."""
    return lambda: os.urandom(16).hex()
