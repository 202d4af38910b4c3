"""One tool server as the hub sees it: asked, listed, listened to; started when it is needed and stopped when it is not.

Above it stands the hub; below it a link for each scope, which talks to one process or one address.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from modelplex.config.settings import McpConfig, McpServer
from modelplex.mcp.upstream.cache import CatalogCache
from modelplex.mcp.upstream.processes import Children
from modelplex.mcp.upstream.states import State
from modelplex.mcp.words import AskedOf, Catalog, Era, Json, Reply, Told
from modelplex.send import Client

Level = Literal["debug", "info", "warning", "error"]


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a server's handle tells of it, for the log. `text` holds no secret of its config.

    kind    "state" (`text` is the new one), "stderr" and "stdout" (a line of the server's own), "list" (a catalogue was loaded), "warning"
    """

    server: str
    kind: Literal["state", "stderr", "stdout", "list", "warning"]
    text: str
    level: Level = "info"
    scope: str = ""


class ServerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What `/_internal/mcp` shows. `uptime` in seconds, of the process that has run for longest; `retry_after` where it rests after failures."""

    name: str
    state: State
    era: Era | None = None
    version: str | None = None
    pids: tuple[int, ...] = ()
    scopes: tuple[str, ...] = ()
    uptime: float | None = None
    restarts: int = 0
    in_flight: int = 0
    tools: int | None = None
    last_error: str | None = None
    retry_after: float | None = None


class Server:
    """Belongs to one event loop. Nothing runs until it is needed.

    `environ` is the gateway's own environment, of which a process gets an allow-list. `children` bounds the processes of all servers together. `client` is the pool
    that remote servers are reached through; it is not closed here. `dice` gives numbers between 0 and 1, `clock` seconds.
    """

    def __init__(
        self,
        config: McpServer,
        *,
        limits: McpConfig,
        cache: CatalogCache | None = None,
        environ: Mapping[str, str] | None = None,
        children: Children | None = None,
        client: Client | None = None,
        clock: Callable[[], float] | None = None,
        dice: Callable[[], float] | None = None,
        tell: Callable[[ServerEvent], None] | None = None,
    ) -> None:
        self.config = config
        self.name: str = config.name
        self.catalog: Catalog | None = None
        """What is known of its lists: from the disk after `load`, or from itself. Replaced whole, never changed."""

    @property
    def state(self) -> State:
        """Of all its scopes together: the most alive."""
        raise NotImplementedError

    async def load(self) -> Catalog | None:
        """Look for what is kept on the disk; starts nothing. `lists` and `request` do it themselves where nobody did."""
        raise NotImplementedError

    async def lists(self, *, fresh: bool = False) -> Catalog:
        """The catalogue that is known; the server is started only where there is none, or `fresh` asks it again.

        Raises:
            Unavailable: it could not be started, or asked.
        """
        raise NotImplementedError

    async def request(
        self,
        method: str,
        params: Json,
        *,
        scope: str = "",
        told: Told | None = None,
        asked: AskedOf | None = None,
        capabilities: Json | None = None,
        timeout: float | None = None,
        log_level: str | None = None,
        client_version: str | None = None,
    ) -> Reply:
        """Ask the process of that scope, which is started if need be. Cancelling the awaiting task cancels the request at the server.

        Never sent twice, except a `tools/call` of a tool that the config calls idempotent, once, where the server was lost. `params` are not changed.

        told            takes what the server says to this request: progress (with the caller's own token), log messages
        asked           answers what a legacy server asks its client during this request; without it such questions are refused (-32601)
        capabilities    what a modern server may ask for in its answer; a legacy server was told at its start, from the config
        log_level       the least level of log messages that this request wants; None wants none
        client_version  the caller's revision: a modern server that speaks it is spoken to in it

        Raises:
            Unavailable: it could not be started ("start_failed", "crash_loop", "limit", "disabled", "quarantined"), did not answer in time ("timeout"), or went away
                while it was asked ("lost"): then the call may or may not have happened.
        """
        raise NotImplementedError

    async def notify(self, method: str, params: Json, *, scope: str = "") -> None:
        """Tell a running process of that scope; where none runs there is nobody to tell."""
        raise NotImplementedError

    def listen(self, callback: Callable[[str, Json], None]) -> Callable[[], None]:
        """Have what belongs to no request: (scope, whole message). After a `list_changed` the catalogue is loaded anew first. Returns what ends it."""
        raise NotImplementedError

    async def watch(self, uris: frozenset[str], *, scope: str = "") -> None:
        """The resources whose updates are wanted in that scope, all of them. Subscribes in the server's own way, and again after each start.

        Raises:
            Unavailable: as `request`, where something is wanted and it could not be started.
        """
        raise NotImplementedError

    def status(self) -> ServerStatus:
        raise NotImplementedError

    def revive(self) -> None:
        """Forget its failures, so that the next call starts it at once: the host's command."""
        raise NotImplementedError

    def quarantine(self, *, until_approved: bool) -> None:
        """Refuse every call from now on, or no longer."""
        raise NotImplementedError

    async def end_scope(self, scope: str) -> None:
        """Stop that scope's process and forget it. What is in flight there fails as lost."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop everything. Nothing of any process tree is left when this returns."""
        raise NotImplementedError
