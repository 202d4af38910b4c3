"""The listening sockets of all workers, which the supervisor holds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence

import msgspec

from modelplex.config import Config
from modelplex.config.workers import Assignment
from modelplex.server import from_config, process_setup
from modelplex.server.address import Tcp, Unix, Vsock
from modelplex.server.agent_sockets import SocketUpdate, agent_sockets
from modelplex.server.listeners import BoundSocket, bind_all, close_all, share_port
from modelplex.server.socket_file import BACKLOG, claim
from modelplex.server.systemd import not_passed


class SocketShare(msgspec.Struct):
    """What of a change concerns one worker: sockets, and paths of sockets."""

    opened: list[BoundSocket] = []
    closed: list[str] = []


class HeldSockets:
    """`assignment` says which worker serves which; `of_worker` has the sockets of each. `stdio` is
    that of [mcp], which the first worker serves. `addresses` are the listeners as they are shown.
    """

    def __init__(self, config: Config, assignment: Assignment, passed: Sequence[BoundSocket] = ()) -> None:
        """Bind all that are not `passed`. Raises ListenError; then none is bound."""
        self.assignment = assignment
        # In a loop of its own, which ends with its threads before the first fork.
        addresses = not_passed(from_config.configured_addresses(config), passed)
        process_setup.allow_listeners(len(addresses) * assignment.count)
        self._bound = [*passed, *asyncio.run(bind_all(addresses, may_be_none=bool(passed)))]
        self.of_worker: dict[int, list[BoundSocket]] = {n: [] for n in range(1, assignment.count + 1)}
        self.stdio: BoundSocket | None = None
        self._copies: set[int] = set()
        """Further sockets of a port."""
        try:
            for bound in tuple(self._bound):
                self._give(bound)
            if (address := from_config.stdio_address(config)) is not None:
                self.stdio = BoundSocket(address, claim(address))
                self._bound.append(self.stdio)
        except BaseException:
            self.close()
            raise

    @property
    def addresses(self) -> list[str]:
        hidden = {id(self.stdio), *self._copies}
        return [each.url for each in self._bound if id(each) not in hidden]

    def __repr__(self) -> str:
        return f"<HeldSockets {self.addresses}>"

    def _give(self, bound: BoundSocket) -> None:
        """To the worker that serves it; a port to all workers, unless they are tied to one."""
        match bound.address:
            case Tcp():
                self.of_worker[1].append(bound)
                for number in range(2, 1 if self.assignment.tied else self.assignment.count + 1):
                    shared = share_port(bound)
                    self._bound.append(shared)
                    self._copies.add(id(shared))
                    self.of_worker[number].append(shared)
            case Unix(path):
                self.of_worker[self.assignment.worker_of_socket(path)].append(bound)
            case Vsock():
                self.of_worker[self.assignment.sockets[bound.address.name]].append(bound)

    def update(self, config: Config) -> SocketUpdate:
        """What another config changes of the sockets of agents."""
        process_setup.allow_listeners(len(self._bound) + len(config.agents))
        return SocketUpdate(agent_sockets(self._bound), config)

    def adopt(self, update: SocketUpdate, assignment: Assignment) -> dict[int, SocketShare]:
        """Hold the claimed sockets, and close those that are gone. Returns what changes for each
        worker.
        """
        shares = {number: SocketShare() for number in self.of_worker}
        former, self.assignment = self.assignment, assignment
        for bound in update.gone:
            number = former.worker_of_socket(str(bound.address))
            shares[number].closed.append(str(bound.address))
            self.of_worker[number].remove(bound)
            self._bound.remove(bound)
            bound.close()
        for bound in update.claimed:
            self._bound.append(bound)
            self._give(bound)
            shares[assignment.sockets[str(bound.address)]].opened.append(bound)
        return shares

    def publish(self) -> None:
        """Put the socket files at their paths. Raises ListenError."""
        for bound in self._bound:
            bound.publish()

    def listen_again(self, number: int) -> None:
        """Make this process the one that SO_PEERCRED names, and that a second gateway says is in
        the way: the kernel names the one that listened last, which was the worker.
        """
        for bound in self.of_worker[number]:
            if isinstance(bound.address, Unix):
                bound.socket.listen(BACKLOG)

    def close(self) -> None:
        """Remove the files, and accept no more."""
        close_all(self._bound)
        self._bound = []

    def keep_only(self, kept: Iterable[BoundSocket]) -> None:
        """In a worker: close the sockets of others, and all locks: the supervisor has them."""
        own = [id(each) for each in kept]
        for bound in self._bound:
            if id(bound) not in own:
                bound.socket.close()
            if bound.file is not None and bound.file.lock >= 0:
                os.close(bound.file.lock)
