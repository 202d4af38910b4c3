"""The tool servers of a running process: makes servers, approvals and the gateway from `[mcp]`, and
adopts a changed config.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from modelplex.config.mcp_settings import McpServer
from modelplex.config.settings import Config
from modelplex.config.state_folder import state_folder
from modelplex.core.errors import without_name
from modelplex.http_client import HttpClient
from modelplex.mcp.approvals import Approvals, Lock
from modelplex.mcp.call_recording import CallRecording
from modelplex.mcp.calls import Admit
from modelplex.mcp.constants import Json
from modelplex.mcp.gateway import ToolGateway
from modelplex.mcp.lockfile import (
    SEEN_FILE,
    LockError,
    launch_of,
    load_approvals,
    lock_path,
    record_seen,
)
from modelplex.mcp.oauth.store import SignInFiles
from modelplex.mcp.replay import recorded_tools
from modelplex.mcp.review import (
    ChosenDefinition,
    DefinitionReview,
    ReviewError,
    keep_approved,
    review,
    store_approval,
)
from modelplex.mcp.servers.cache import CACHE_FOLDER, DiskCache
from modelplex.mcp.servers.events import ServerEvent
from modelplex.mcp.servers.process_host import LocalProcesses, ProcessHost
from modelplex.mcp.servers.process_table import ProcessTable
from modelplex.mcp.servers.server import ManagedServer, ServerRuntime
from modelplex.mcp.tool_server import ToolServers
from modelplex.records.log import EventLog
from modelplex.replay.source import RecordingSource

LEVELS: Final = {
    "stderr": "info",
    "stdout": "warning",
    "state": "info",
    "list": "debug",
    "warning": "warning",
}
"""The log level of each kind of server event."""


class ServerMachine(msgspec.Struct, frozen=True):
    """What processes of tool servers need: the gateway's environment, of which they get an
    allow-list, and what makes that which starts them.
    """

    environ: Mapping[str, str]
    new_host: Callable[[str], ProcessHost] = LocalProcesses


class ToolService:
    """`gateway` stays the same object. `record_place` finds the record store of a config."""

    def __init__(
        self,
        config: Config,
        *,
        machine: ServerMachine,
        client: HttpClient,
        events: EventLog,
        recording: CallRecording,
        key: bytes,
        admit: Admit,
        record_place: Callable[[Config], str],
    ) -> None:
        self._config = config
        environ = self._environ = machine.environ
        self._events = events
        self._children = ProcessTable(config.mcp.max_processes, new_host=machine.new_host)
        folder = self._folder(config)
        self._runtime = ServerRuntime(
            environ=environ,
            children=self._children,
            client=client,
            on_event=self._log_event,
            sign_ins=None if folder is None else SignInFiles(folder),
        )
        self._servers: dict[str, ManagedServer] = {}
        self._stamps: tuple[object, object] = (None, None)
        """Of the lock file and of what was first seen, when they were read."""
        self._writing: asyncio.Task[None] | None = None
        self._unwritten: Lock | None = None
        self._legacy_servers: dict[str, ManagedServer] = {}
        self._make_servers(config)
        self._record_place = record_place
        self.gateway = ToolGateway(
            config.mcp,
            self._tool_servers(),
            recording=recording,
            key=key,
            report=self._report,
            on_first_seen=self._store_first_seen,
            admit=admit,
        )
        self.gateway.replay.sources = self._recordings(config)

    def __repr__(self) -> str:
        return f"<ToolService of {self.gateway!r}>"

    @property
    def servers(self) -> list[str]:
        return list(self._servers)

    def status(self) -> list[Json]:
        return self.gateway.status()

    def start(self) -> None:
        """Returns at once."""
        self.gateway.start()

    def adopt(self, config: Config) -> None:
        """Go on with another config. A server with the same settings keeps running."""
        self._config = config
        self._children.limit = config.mcp.max_processes
        self._make_servers(config)
        self.gateway.adopt(config.mcp, self._tool_servers())
        self.gateway.replay.sources = self._recordings(config)
        self.gateway.start()

    def reload_approvals(self) -> None:
        """Reload approvals if the lock file has changed, or if another process has seen something
        first: two `stat`.
        """
        before, now = self._stamps, self._present_stamps(self._config)
        if now != before:
            self.gateway.approvals = self._load_approvals(self._config)
            if now[0] != before[0]:
                self._events.info("approvals of tools read anew", mode=self.gateway.approvals.mode)

    async def definitions(self) -> list[DefinitionReview]:
        """Every definition with its state, its text now and the approved one."""
        folder, judged = self._folder(self._config), self.gateway.judged()
        return await asyncio.to_thread(review, judged, folder)

    async def approve(self, server: str, chosen: Sequence[ChosenDefinition]) -> int:
        """Approve these definitions of one server, as they are now. Returns how many. Raises
        ReviewError, and LockError and OSError where they cannot be stored.
        """
        found = next((each for each in self.gateway.judged() if each[1].server == server), None)
        configured = next((each for each in self._config.mcp.servers if each.name == server), None)
        if found is None or configured is None:
            raise ReviewError(f"no catalog of a server {server!r} is known.")
        folder = self._folder(self._config)
        if folder is None and found[1].mode != "locked":
            raise ReviewError("there is no state folder in which an approval could be kept.")
        await asyncio.to_thread(
            store_approval, configured, *found, chosen, path=lock_path(self._config), folder=folder
        )
        self.gateway.approvals = self._load_approvals(self._config)
        self._events.info(
            "definitions approved", server=server, names=[f"{each.kind} {each.name}" for each in chosen]
        )
        return len(chosen)

    async def close(self) -> None:
        await self.gateway.close()
        await self._children.aclose()
        if self._writing is not None:
            await self._writing

    def _make_servers(self, config: Config) -> None:
        """The servers of the config in its order. One with the same settings is the same object.

        A server that may speak both eras, and may ask a client something, also exists in the legacy
        era. That one has no cache: the disk has one place for both.
        """
        folder = self._folder(config)
        cache = DiskCache(folder / CACHE_FOLDER) if folder is not None else None
        before, legacy_servers = self._servers, self._legacy_servers
        self._servers, self._legacy_servers = {}, {}
        for each in config.mcp.servers:
            self._servers[each.name] = self._server(each, before.get(each.name), config, cache)
            if each.client_requests and each.protocol == "auto":
                older = msgspec.structs.replace(each, protocol="legacy", start="lazy")
                self._legacy_servers[each.name] = self._server(
                    older, legacy_servers.get(each.name), config, None
                )

    def _recordings(self, config: Config) -> list[RecordingSource]:
        """Of the providers of the type "replay", but for those whose tools are live."""
        return [
            RecordingSource(each, store=partial(self._record_place, config), select=recorded_tools)
            for each in config.providers
            if each.type == "replay" and not each.live_tools
        ]

    def _tool_servers(self) -> ToolServers:
        return ToolServers(
            current=self._servers,
            legacy=self._legacy_servers,
            approvals=self._load_approvals(self._config),
            launches={server.name: launch_of(server) for server in self._config.mcp.servers},
        )

    def _server(
        self, each: McpServer, before: ManagedServer | None, config: Config, cache: DiskCache | None
    ) -> ManagedServer:
        if before is not None and before.config == each:
            before.limits = config.mcp
            return before
        return ManagedServer(
            each,
            limits=config.mcp,
            cache=cache,
            runtime=self._runtime,
        )

    def _log_event(self, event: ServerEvent) -> None:
        level = LEVELS[event.kind] if event.level == "info" else event.level
        on_record = getattr(self._events, level)
        scope: dict[str, str] = {"scope": event.scope} if event.scope else {}
        on_record(f"tool server {event.kind}", server=event.server, text=event.text, **scope)

    def _report(self, server: str, sentence: str) -> None:
        self._events.warning("tool server", server=server, text=without_name(sentence, server))

    def _load_approvals(self, config: Config) -> Approvals:
        """The approvals of the present files. Nothing is approved if they cannot be trusted."""
        self._stamps = self._present_stamps(config)
        try:
            return load_approvals(config, state_folder=self._folder(config) or Path("/nonexistent"))
        except LockError as error:
            self._events.error("approvals of tools cannot be read: none is approved", text=error.sentence)
            return Approvals(mode="locked")

    def _present_stamps(self, config: Config) -> tuple[object, object]:
        folder = self._folder(config)
        seen = None if folder is None else _file_stamp(folder / SEEN_FILE)
        return _file_stamp(lock_path(config)), seen

    def _store_first_seen(self, seen: Lock) -> None:
        """Store without waiting; only the last of several."""
        self._unwritten = seen
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_first_seen())

    async def _write_first_seen(self) -> None:
        folder = self._folder(self._config)
        while folder is not None and (seen := self._unwritten) is not None:
            self._unwritten = None
            try:
                await asyncio.to_thread(record_seen, folder, seen)
                await asyncio.to_thread(keep_approved, self.gateway.judged(), folder)
            except (OSError, LockError) as error:
                text = error.sentence if isinstance(error, LockError) else error.strerror or str(error)
                self._events.warning("what was first seen of tool servers cannot be kept", text=text)

    def _folder(self, config: Config) -> Path | None:
        """None for a user without a home; nothing is stored then."""
        with suppress(RuntimeError):
            return state_folder(config.server.state_folder, environ=self._environ)
        return None


def _file_stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
