"""The confinement of this process: its launcher, and what it does in place of the gateway."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modelplex.config import Config, load
from modelplex.confinement.confine import Confinement, ConfinementError, confine, word_of
from modelplex.confinement.launcher_client import LauncherClient, SocketRefused
from modelplex.confinement.messages import (
    BindSocket,
    CheckSocket,
    LauncherDone,
    LauncherRefused,
    LauncherReply,
    LockSocket,
    RenameSocket,
    SocketBound,
    SocketRequest,
    UnlinkSocket,
)
from modelplex.server import socket_file
from modelplex.server.address import ListenError, Unix

if TYPE_CHECKING:
    from modelplex.confinement.check import ConfinementCheck
    from modelplex.confinement.launcher import Launcher
    from modelplex.http_client import HttpClient
    from modelplex.records.log import EventLog


def confine_process(
    config: Config, *, config_path: str | None, adapt: Callable[[Config], Config]
) -> Confinement:
    """Confine this process, before it has threads or sockets. Raises ConfinementError, OSError."""

    def new_launcher() -> Launcher:
        from modelplex.confinement.launcher import Launcher

        def load_again() -> Config:
            assert config_path is not None
            return adapt(load(config_path, environ=os.environ))

        return Launcher(
            config,
            environ=os.environ,
            load=None if config_path is None else load_again,
            do_socket=SocketMaker(),
        )

    confinement = confine(config, environ=os.environ, new_launcher=new_launcher)
    if confinement.launcher is not None:
        socket_file.use_host(LauncherSockets(confinement.launcher))
    return confinement


def check_confinement(config: Config) -> ConfinementCheck:
    """`modelplex check --confine`: what a process that is confined for this config can still do of
    what a gateway gives up. Raises OSError.
    """
    from modelplex.confinement.check import ConfinementCheck, attempts

    try:
        status, trials = attempts(
            lambda: confine_process(config, config_path=config.path, adapt=lambda same: same)
        )
    except ConfinementError as error:
        return ConfinementCheck(confined=f"no: {error.sentence}", ok=False, trials=())
    ok = all(each.failed or not _holds(status, each.needs) for each in trials)
    return ConfinementCheck(confined=word_of(config), ok=ok, trials=tuple(trials))


def _holds(status: Mapping[str, object], needs: str) -> bool:
    """Whether this kernel has what refuses an attempt."""
    key = {"calls": "system_calls"}.get(needs, needs)
    return status[key] not in {False, "all"}


def new_client(confinement: Confinement) -> HttpClient:
    """The client of this process. A Unix socket is connected to by the launcher."""
    from modelplex.http_client import HttpClient

    client = HttpClient()
    if confinement.launcher is not None:
        client.connect_unix = confinement.launcher.connect
    return client


def report_lacking(confinement: Confinement, config: Config, events: EventLog) -> None:
    """Log what another config needs that this process has given up."""
    if needs := confinement.lacking(config, environ=os.environ):
        events.warning("the new config needs a restart: the gateway is confined to less", needs=needs)


class SocketMaker:
    """In the launcher: makes, renames and removes socket files, its own alone."""

    def __init__(self) -> None:
        self._host = socket_file.LocalSockets()
        self._made: set[tuple[int, int]] = set()
        """Sockets, by device and inode."""
        self._locks: set[tuple[int, int]] = set()

    def __repr__(self) -> str:
        return f"<SocketMaker of {len(self._made)} files>"

    def __call__(self, request: SocketRequest) -> tuple[LauncherReply, tuple[int, ...]]:
        """Raises OSError."""
        try:
            return self._do(request)
        except ListenError as error:
            return LauncherRefused(error.sentence), ()

    def _do(self, request: SocketRequest) -> tuple[LauncherReply, tuple[int, ...]]:
        match request:
            case CheckSocket(path):
                self._host.check_not_live(path)
            case LockSocket(path):
                lock = self._host.lock(path)
                self._locks.add(socket_file.identity_of(os.fstat(lock)))
                return LauncherDone(), (lock,)
            case BindSocket(path, mode, group):
                bound, name, identity = self._host.bind(Unix(path, mode=mode, group=group))
                self._made.add(identity)
                return SocketBound(name, identity), (bound.detach(),)
            case RenameSocket(hidden, path):
                self._rename(hidden, path)
            case UnlinkSocket(path, identity):
                if self._is_own_socket(path, identity) or self._is_own_lock(path, identity):
                    self._host.unlink(path, identity)
                    self._made.discard(identity)
                    self._locks.discard(identity)
        return LauncherDone(), ()

    def _rename(self, hidden: str, path: str) -> None:
        """Within its folder, and in place of a socket that is dead or one of these: another program
        may listen there.
        """
        socket_file.check_kind(path)
        within = os.path.dirname(hidden) == os.path.dirname(path)  # noqa: PTH120 - text is compared
        if not within or not self._is_own_socket(hidden, socket_file.identity_at(hidden)):
            raise PermissionError(errno.EPERM, "the launcher has not made this socket")
        if socket_file.identity_at(path) not in self._made:
            self._host.check_not_live(path)
        self._host.rename(hidden, path)

    def _is_own_socket(self, path: str, identity: tuple[int, int] | None) -> bool:
        """The inode of one that was removed may be another file's."""
        return identity in self._made and Path(path).is_socket()

    def _is_own_lock(self, path: str, identity: tuple[int, int]) -> bool:
        return identity in self._locks and path.endswith(".lock") and Path(path).stat().st_size == 0


class LauncherSockets:
    """A SocketHost."""

    def __init__(self, launcher: LauncherClient) -> None:
        self._launcher = launcher

    def __repr__(self) -> str:
        return "<LauncherSockets>"

    def check_not_live(self, path: str) -> None:
        self._ask(CheckSocket(path))

    def lock(self, path: str) -> int:
        _, (number,) = self._ask(LockSocket(path))
        return number

    def bind(self, address: Unix) -> tuple[socket.socket, str, tuple[int, int]]:
        reply, (number,) = self._ask(BindSocket(address.path, address.mode, address.group))
        assert isinstance(reply, SocketBound)
        return socket.socket(fileno=number), reply.hidden, reply.identity

    def rename(self, hidden: str, path: str) -> None:
        self._ask(RenameSocket(hidden, path))

    def unlink(self, path: str, identity: tuple[int, int]) -> None:
        self._ask(UnlinkSocket(path, identity))

    def _ask(self, request: SocketRequest) -> tuple[LauncherReply, list[int]]:
        """Raises ListenError, OSError."""
        try:
            return self._launcher.ask(request)
        except SocketRefused as refused:
            raise ListenError(refused.sentence) from None
