"""The operator's page on this server: its token and link, and the gateway as the page sees it.

The page itself (dashboard/) is loaded when somebody opens it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from modelplex.config import Config
from modelplex.config.state_folder import state_folder
from modelplex.server.app import ADMIN, App, InternalPaths
from modelplex.server.internal_access import InternalAccess
from modelplex.server.page_token import load_token
from modelplex.server.record_store import RecordStore
from modelplex.server.reports import Reports
from modelplex.server.tool_endpoints import ToolEndpoints

if TYPE_CHECKING:
    from modelplex.dashboard.page import Dashboard
    from modelplex.dashboard.request import PageSources
    from modelplex.server.page_sources import ServerSources


class OperatorPage:
    """Made before the gateway listens, with what is below /_internal/: `internal` makes that, and
    is told how the page is made. `stopping` tells that the gateway drains: then no page waits for
    more events. `stop_run` is AttachedRuns.stop.
    """

    def __init__(
        self,
        app: App,
        reports: Reports,
        tools: ToolEndpoints,
        store: RecordStore,
        *,
        access: InternalAccess,
        internal: Callable[[Callable[[], Dashboard]], InternalPaths],
        stopping: Callable[[], bool],
        stop_run: Callable[[str], bool],
    ) -> None:
        self._app = app
        self.reports = reports
        self._tools = tools
        self._store = store
        self._stopping = stopping
        self._stop_run = stop_run
        self._access = access
        self._made: Dashboard | None = None
        app.internal = internal(self._dashboard)
        self.sources: Callable[[], PageSources] = self.own_sources

    def __repr__(self) -> str:
        return f"<OperatorPage {self._made!r}>"

    def open(self, own_token: str) -> None:
        """Let this token open the page from now on, unless the config has one, or has it configured
        away.
        """
        self._access.own_token = own_token

    def token(self) -> str:
        """`[server] internal_token`, else the gateway's own; "" for none."""
        return self._access.page_token

    def links(self, addresses: Sequence[str]) -> list[str]:
        """The page on each HTTP listener: with the token, if the gateway has made it."""
        is_own = self._app.admin.config.server.internal_token is None
        return page_links(addresses, token=self.token() if is_own else "")

    def own_sources(self) -> ServerSources:
        """Of this process."""
        from modelplex.server.page_sources import ServerSources

        parts = (self._app, self.reports, self._tools, self._store)
        return ServerSources(*parts, stopping=self._stopping, stop_run=self._stop_run)

    def _dashboard(self) -> Dashboard:
        from modelplex.dashboard.page import Dashboard

        self._made = Dashboard(self.sources(), self._is_token)
        return self._made

    async def _is_token(self, given: str) -> bool:
        return await self._access.find(given) is not None


def own_token(config: Config) -> str:
    """The gateway's own token, read or made; "" if no listener has the page, or the config has it
    away.
    """
    if not config.server.page_token or not (config.server.http or config.server.admin_socket):
        return ""
    return kept_token(config)


def kept_token(config: Config) -> str:
    """The token of the gateways with this state folder, read or made."""
    return load_token(_state_folder(config))


def page_links(addresses: Sequence[str], *, token: str) -> list[str]:
    """The page on each HTTP listener, with the token, unless that is "": then it is pasted."""
    secret = f"?token={token}" if token else ""
    return [f"{reachable(each)}{ADMIN}{secret}" for each in addresses if each.startswith("http://")]


def print_links(links: Sequence[str]) -> None:
    """On standard output, for whoever started the gateway. The log, which goes elsewhere, has no
    token.
    """
    for link in links:
        sys.stdout.write(f"Page: {link}\n")
    with suppress(OSError):
        sys.stdout.flush()


def reachable(address: str) -> str:
    """An address that a browser of this machine can open: a wildcard is none."""
    for wildcard in ("http://0.0.0.0:", "http://[::]:"):
        if address.startswith(wildcard):
            return f"http://localhost:{address.removeprefix(wildcard)}"
    return address


def _state_folder(config: Config) -> Path | None:
    with suppress(RuntimeError):
        return state_folder(config.server.state_folder, environ=os.environ)
    return None
