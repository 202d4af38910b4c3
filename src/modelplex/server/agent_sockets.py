"""The sockets of agents while the gateway runs: which of them a new config opens, replaces and
closes, all or none.

A socket whose address is the same is not touched. A process that serves with an event loop uses
`AgentListeners`; a supervisor claims by itself and passes the sockets to its workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from modelplex.config import Config
from modelplex.server import from_config, process_setup
from modelplex.server.address import ListenError, Unix
from modelplex.server.callers import CallerResolver
from modelplex.server.http_exchange import App
from modelplex.server.listeners import BoundSocket, Listening, serve
from modelplex.server.socket_file import SocketFile, claim, succeed

AT_ONCE: Final = 8
"""Sockets that are claimed or served between two turns of the event loop: each takes a third of a
millisecond.
"""


class SocketChanges(msgspec.Struct, frozen=True):
    """`replaced` has the new address of a path whose mode, group or agent is another one."""

    opened: tuple[Unix, ...] = ()
    replaced: tuple[Unix, ...] = ()
    closed: tuple[Unix, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.opened or self.replaced or self.closed)


def socket_changes(bound: Mapping[str, Unix], wanted: Mapping[str, Unix]) -> SocketChanges:
    """From the sockets that are there to those of a config, both by path. Pure."""
    return SocketChanges(
        opened=tuple(address for path, address in wanted.items() if path not in bound),
        replaced=tuple(
            address for path, address in wanted.items() if path in bound and bound[path] != address
        ),
        closed=tuple(address for path, address in bound.items() if path not in wanted),
    )


def agent_sockets(sockets: Iterable[BoundSocket]) -> dict[str, BoundSocket]:
    """Those of agents of the config, by path."""
    return {
        each.address.path: each
        for each in sockets
        if isinstance(each.address, Unix) and each.address.agent and each.address.run is None
    }


def _of_others(addresses: Mapping[str, Unix], agents: Collection[str]) -> dict[str, Unix]:
    return {path: each for path, each in addresses.items() if each.agent not in agents}


class SocketUpdate:
    """The sockets of one change: claimed beside their paths, then published, or discarded. A socket
    that systemd passed stays as it is while its agent is configured, in place of the agent's own.
    """

    def __init__(self, bound: Mapping[str, BoundSocket], config: Config) -> None:
        there = {path: each.address for path, each in bound.items() if isinstance(each.address, Unix)}
        agents = {agent.name for agent in config.agents}
        passed = {each.agent for path, each in there.items() if bound[path].file is None} & agents
        wanted = from_config.agent_addresses(config)
        self.changes = socket_changes(_of_others(there, passed), _of_others(wanted, passed))
        self._bound = bound
        self.claimed: list[BoundSocket] = []

    def __repr__(self) -> str:
        return f"<SocketUpdate {len(self.claimed)} claimed of {self.changes!r}>"

    def claim(self) -> Iterator[None]:
        """Claim one socket after the other. Raises ListenError; then none is claimed."""
        path = ""
        try:
            for address in (*self.changes.opened, *self.changes.replaced):
                path = address.path
                self.claimed.append(BoundSocket(address, self._claim(address)))
                yield
        except OSError as fault:  # of the socket itself: there are too many files
            self.discard()
            raise ListenError(f"cannot listen on {path}: {fault.strerror}.") from None
        except BaseException:
            self.discard()
            raise

    def _claim(self, address: Unix) -> SocketFile:
        former = self._bound.get(address.path)
        if former is None or former.file is None:
            return claim(address)
        return succeed(former.file, address)

    def publish(self) -> list[ListenError]:
        """Put the sockets at their paths. One whose path was taken meanwhile is closed."""
        faults: list[ListenError] = []
        for each in tuple(self.claimed):
            try:
                each.publish()
            except ListenError as fault:
                faults.append(fault)
                self.claimed.remove(each)
                each.close()
        return faults

    def discard(self) -> None:
        for each in self.claimed:
            each.close()
        self.claimed.clear()

    @property
    def gone(self) -> list[BoundSocket]:
        """Those that are no longer served, once the others are."""
        there = {each.address.name for each in self.claimed}
        replaced = [each for each in self.changes.replaced if each.name in there]
        return [self._bound[each.path] for each in (*self.changes.closed, *replaced)]


class AgentListeners:
    """Serves the sockets of agents in this process."""

    def __init__(self, app: App, callers: CallerResolver, listening: Listening) -> None:
        self._app = app
        self._callers = callers
        self._listening = listening

    def __repr__(self) -> str:
        return f"<AgentListeners of {self._listening!r}>"

    async def prepare(self, config: Config) -> SocketUpdate:
        """Claim the sockets that a config adds. Raises ListenError; then nothing has changed."""
        update = SocketUpdate(agent_sockets(self._listening.sockets), config)
        count = len(self._listening.sockets) + len(update.changes.opened)
        process_setup.allow_listeners(count, connections=self._listening.traffic.limits.max_connections)
        for number, _ in enumerate(update.claim()):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return update

    async def commit(self, update: SocketUpdate) -> list[ListenError]:
        """Serve the claimed sockets, put them at their paths, and close the others."""
        claimed = {id(each): each for each in update.claimed}
        await self.adopt(claimed.values())
        faults = update.publish()
        lost = claimed.keys() - set(map(id, update.claimed))
        self._listening.sockets[:] = [each for each in self._listening.sockets if id(each) not in lost]
        self.close(update.gone)
        return faults

    async def adopt(self, sockets: Iterable[BoundSocket]) -> None:
        """Serve sockets that are bound."""
        loop = asyncio.get_running_loop()
        for number, each in enumerate(sockets):
            each.server = await serve(
                each, self._app, listening=self._listening, loop=loop, callers=self._callers
            )
            self._listening.sockets.append(each)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    def close(self, gone: Iterable[BoundSocket]) -> None:
        """Stop serving them. Running requests end as they would; idle connections are closed."""
        closed = {id(each): each for each in gone}
        if not closed:
            return
        listening = self._listening
        listening.sockets[:] = [each for each in listening.sockets if id(each) not in closed]
        served = {each.address.name: each.address for each in listening.sockets}
        names: set[object] = set()
        for each in closed.values():
            each.close()
            now = served.get(each.address.name)
            if not (
                isinstance(now, Unix) and isinstance(each.address, Unix) and now.agent == each.address.agent
            ):
                names.add(each.address.name)
        for connection in tuple(listening.traffic.open):
            if connection.state["listener"] in names:
                connection.close_when_idle()
