"""Puts another config to use in one process: a reload of the file, or an agent of the API. One
after the other, and each as a whole or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from modelplex.config import Config
from modelplex.config.api_agents import JoinedAgents
from modelplex.core.errors import Conflict, GatewayFault
from modelplex.records.log import EventLog
from modelplex.server.address import ListenError
from modelplex.server.agent_sockets import AgentListeners
from modelplex.server.config_source import AgentOutcome, ConfigSource
from modelplex.server.from_config import by_priority
from modelplex.server.service_manager import ServiceManager
from modelplex.server.stored_agents import StoredAgents


class AgentChanges(Protocol):
    """Adds and removes agents while the gateway runs."""

    @property
    def added(self) -> frozenset[str]: ...

    async def change(self, name: str, body: bytes | None) -> AgentOutcome:
        """Add the agent of this body, or remove it. Raises ModelplexError."""
        ...


class ConfigChanges:
    """`apply` is called with each config of the file that is used, `apply_agents` with one in which
    only agents differ; `listeners` once the gateway listens.
    """

    def __init__(
        self,
        source: ConfigSource,
        *,
        apply: Callable[[Config], None],
        apply_agents: Callable[[Config], None],
        listeners: Callable[[], AgentListeners],
        events: EventLog,
        manager: ServiceManager,
    ) -> None:
        self._source = source
        self._apply = apply
        self._apply_agents = apply_agents
        self._listeners = listeners
        self._events = events
        self._manager = manager
        self._one_by_one = asyncio.Lock()
        self._reload: asyncio.Task[None] | None = None
        self._reading = False

    def __repr__(self) -> str:
        return f"<ConfigChanges of {self._source!r}>"

    @property
    def added(self) -> frozenset[str]:
        return self._source.added

    def reload(self) -> asyncio.Task[None]:
        """Load the file again. What is asked for before it is read needs no second load."""
        if self._reload is None or self._reload.done() or self._reading:
            self._reading = False
            self._reload = asyncio.create_task(self._load())
        return self._reload

    def look(self, *, is_writable: bool) -> None:
        """Load the file if it has changed, unless a program can write to its folder now."""
        if not self._source.file.has_changed():
            return
        if is_writable:
            self._events.warning(
                "the config has changed while a program could write to its folder, and is not loaded; SIGHUP loads it"
            )
        else:
            self.reload()

    async def _load(self) -> None:
        async with self._one_by_one:
            self._reading = True
            self._manager.reloading()
            try:
                await self._load_file()
            finally:
                self._manager.ready()

    async def _load_file(self) -> None:
        joined = await asyncio.to_thread(self._source.load, events=self._events)
        if joined is None:
            return
        try:
            await self._use(joined)
        except ListenError as error:
            self._events.error("reload refused, the old config stays", faults=[error.sentence])
            return
        providers = [each.name for each in by_priority(joined.config)]
        self._events.info("config reloaded", providers=providers)

    async def change(self, name: str, body: bytes | None) -> AgentOutcome:
        """Add the agent of this body, or remove it. Raises ModelplexError."""
        async with self._one_by_one:
            change = self._source.delete(name) if body is None else self._source.put(name, body)
            if change.joined is not None:
                try:
                    await self._use(change.joined, change.stored)
                except ListenError as error:
                    raise Conflict(error.sentence, code="agent_socket_unusable") from None
                except OSError as error:
                    raise GatewayFault(
                        f"The agent cannot be kept in {change.stored.path}: {error.strerror}.",
                        code="agents_not_stored",
                    ) from None
            return change.outcome

    async def _use(self, joined: JoinedAgents, stored: StoredAgents | None = None) -> None:
        """Raises ListenError, and OSError where the agents cannot be kept; then nothing changes."""
        listeners = self._listeners()
        update = await listeners.prepare(joined.config)
        try:
            if stored is not None:
                await asyncio.to_thread(stored.save)
        except BaseException:
            update.discard()
            raise
        self._source.use(joined, stored)
        (self._apply if stored is None else self._apply_agents)(joined.config)
        for fault in await listeners.commit(update):
            self._events.error(fault.sentence)

    async def close(self) -> None:
        """Wait for the change that is being put to use."""
        if self._reload is not None:
            self._reload.cancel()
        async with self._one_by_one:
            pass
