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
from modelplex.server.app import ADMIN, App
from modelplex.server.http_exchange import HttpExchange
from modelplex.server.page_token import load_token
from modelplex.server.record_store import RecordStore
from modelplex.server.reports import Reports
from modelplex.server.response_writer import ResponseWriter
from modelplex.server.tool_endpoints import ToolEndpoints

if TYPE_CHECKING:
    from modelplex.dashboard.page import Dashboard
    from modelplex.dashboard.request import PageSources
    from modelplex.server.page_sources import ServerSources

OWN_PATHS = frozenset({ADMIN, ADMIN.rstrip("/")})


class OperatorPage:
    """Made before the gateway listens. `stopping` tells that it drains: then no page waits for more
    events.
    """

    def __init__(
        self,
        app: App,
        reports: Reports,
        tools: ToolEndpoints,
        store: RecordStore,
        *,
        stopping: Callable[[], bool],
    ) -> None:
        self._app = app
        self.reports = reports
        self._tools = tools
        self._store = store
        self._stopping = stopping
        self._own_token = ""
        self._dashboard: Dashboard | None = None
        self.sources: Callable[[], PageSources] = self.own_sources

    def __repr__(self) -> str:
        return f"<OperatorPage {self._dashboard!r}>"

    def open(self, own_token: str) -> None:
        """Serve the page from now on, with this token unless the config has one."""
        self._own_token = own_token
        self._app.page = self

    def token(self) -> str:
        """`[server] internal_token`, else the gateway's own."""
        configured = self._app.admin.token
        return configured.reveal() if configured is not None else self._own_token

    def links(self, addresses: Sequence[str]) -> list[str]:
        """The page on each HTTP listener: with the token, if the gateway has made it."""
        return page_links(addresses, token=self._own_token if self._app.admin.token is None else "")

    def own_sources(self) -> ServerSources:
        """Of this process."""
        from modelplex.server.page_sources import ServerSources

        return ServerSources(self._app, self.reports, self._tools, self._store, stopping=self._stopping)

    def has(self, path: str) -> bool:
        return path in OWN_PATHS or path.startswith(f"{ADMIN}page/")

    async def serve(self, exchange: HttpExchange, response: ResponseWriter) -> None:
        """Raises ModelplexError."""
        from modelplex.dashboard.page import Dashboard
        from modelplex.dashboard.request import PageRequest

        if self._dashboard is None:
            self._dashboard = Dashboard(self.sources(), self.token)
        head = exchange.head
        if head.path == ADMIN.rstrip("/"):
            await response.respond(308, [(b"location", ADMIN.encode())], b"")
            return
        request = PageRequest(
            method=head.method,
            path=head.path.removeprefix(ADMIN),
            query=head.query.decode("latin-1"),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
            read=lambda limit: response.body(limit=limit, declared=exchange.length),
        )
        await self._dashboard.answer(request, response)


def own_token(config: Config) -> str:
    """The gateway's own token, read or made; "" if no listener has the page."""
    if not (config.server.http or config.server.admin_socket):
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
