"""The launcher of a confined gateway: a process with the rights that the gateway has given up.

It is forked before the gateway gives them up, and ends with it. It starts the programs of the
config, connects to and listens on its Unix sockets, and loads the config again; it decides from its
own copy of the config, so that a gateway that runs somebody else's code gets no more. It reads
packets of the gateway, and nothing that a client sent.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from modelplex.config import Config, ConfigError
from modelplex.confinement.messages import (
    EXIT,
    REQUESTS,
    BindSocket,
    CheckSocket,
    ConnectSocket,
    EndProcesses,
    FindProcesses,
    ForgetProcess,
    LauncherDone,
    LauncherFailed,
    LauncherReply,
    LauncherRequest,
    LoadConfig,
    LockSocket,
    PrintCredential,
    ProcessesFound,
    ProgramStarted,
    RenameSocket,
    RereadConfig,
    SignalProcesses,
    SignalProcessGroup,
    SocketRequest,
    StartProgram,
    UnlinkSocket,
    receive,
    send,
)
from modelplex.mcp.servers import process_reaper
from modelplex.mcp.servers.process_host import LocalChild, LocalProcesses, Spawned

if TYPE_CHECKING:
    from modelplex.confinement.permitted import Permitted

Outcome = tuple[LauncherReply, tuple[int, ...]]
"""A reply, and descriptors that are closed once it is sent."""


class Launcher:
    """`load` reads the config again, and raises ConfigError; None where it is not reloaded.
    `do_socket` does what is asked for the path of a socket.
    """

    def __init__(
        self,
        config: Config,
        *,
        environ: Mapping[str, str],
        load: Callable[[], Config] | None,
        do_socket: Callable[[SocketRequest], Outcome],
    ) -> None:
        self._environ = environ
        self._load_config = load
        self._do_socket = do_socket
        self._config = config
        self._known: Permitted | None = None
        self._is_old = False
        self._hosts: dict[str, LocalProcesses] = {}
        """By the mark of a table of processes; a reload may make another table."""
        self._children: dict[int, tuple[LocalChild, LocalProcesses | None]] = {}
        self._found: dict[int, str] = {}
        """What the gateway may signal."""

    def __repr__(self) -> str:
        return f"<Launcher of {len(self._children)} processes>"

    @property
    def _permitted(self) -> Permitted:
        """Loaded when it is first used: most configs start no program."""
        if self._is_old and self._load_config is not None:
            with contextlib.suppress(ConfigError):
                self._config = self._load_config()
            self._is_old = False
        if self._known is None:
            from modelplex.confinement.permitted import Permitted

            self._known = Permitted(self._config, environ=self._environ)
        return self._known

    def serve(self, end: socket.socket) -> None:
        """Answer until the gateway has ended, and kill what is left of it."""
        try:
            while True:
                data, descriptors = receive(end)
                for each in descriptors:
                    os.close(each)
                if not data:
                    break
                reply, passed = self._answer(data)
                try:
                    send(end, reply, passed)
                except OSError as error:  # it is too large, or too many descriptors are on their way
                    with contextlib.suppress(OSError):
                        send(end, LauncherFailed(error.errno or errno.EIO, error.strerror or str(error)))
                for each in passed:
                    os.close(each)
        finally:
            for host in self._hosts.values():
                host.close()

    def _answer(self, data: bytes) -> Outcome:
        try:
            return self._do(REQUESTS.decode(data))
        except msgspec.DecodeError:
            return LauncherFailed(errno.EINVAL, "no request"), ()
        except OSError as error:
            return LauncherFailed(error.errno or errno.EIO, error.strerror or str(error)), ()
        except ValueError as error:  # a NUL in an argument
            return LauncherFailed(errno.EINVAL, str(error)), ()

    def _do(self, request: LauncherRequest) -> Outcome:
        match request:
            case StartProgram(key, mark):
                return self._start(key, mark)
            case PrintCredential(key):
                return self._output(key)
            case (
                FindProcesses() | SignalProcesses() | SignalProcessGroup() | ForgetProcess() | EndProcesses()
            ):
                return self._tend(request), ()
            case CheckSocket() | LockSocket() | BindSocket() | UnlinkSocket():
                return self._socket(request, request.path)
            case RenameSocket(hidden, path):
                return self._socket(request, hidden, path)
            case ConnectSocket(path):
                return self._connect(path)
            case LoadConfig():
                return self._load()
            case RereadConfig():
                self._known, self._is_old = None, self._load_config is not None
                return LauncherDone(), ()

    def _start(self, key: str, mark: str) -> Outcome:
        command = self._permitted.command(key)
        if command is None or command.env is None:
            return _not_permitted("a command that the config does not have")
        table = mark.partition("-")[0]
        host = self._hosts.get(table) or self._hosts.setdefault(table, LocalProcesses(table))
        spawned = host.spawn(command.argv, env=command.env, cwd=command.cwd, mark=mark)
        assert isinstance(spawned.child, LocalChild)
        if spawned.ended is not None:
            os.close(spawned.ended)
        return self._started(spawned.child, host, spawned)

    def _output(self, key: str) -> Outcome:
        command = self._permitted.command(key)
        if command is None or command.env is not None:
            return _not_permitted("a command that the config does not have")
        popen = subprocess.Popen(  # noqa: S603 - no shell
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(self._environ),
            start_new_session=True,
        )
        assert popen.stdout is not None
        assert popen.stderr is not None
        child = LocalChild(popen)
        spawned = Spawned(
            child,
            "",
            os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC),
            os.dup(popen.stdout.fileno()),
            os.dup(popen.stderr.fileno()),
            None,
        )
        popen.stdout.close()
        popen.stderr.close()
        return self._started(child, None, spawned)

    def _started(self, child: LocalChild, host: LocalProcesses | None, spawned: Spawned) -> Outcome:
        """Report its end at a pipe, from a thread that waits for it."""
        life, end = os.pipe()

        def wait() -> None:
            code = child.wait()
            with contextlib.suppress(OSError):
                os.write(end, EXIT.pack(code))
            os.close(end)

        self._children[child.pid] = child, host
        threading.Thread(target=wait, daemon=True).start()
        return ProgramStarted(child.pid), (spawned.stdin, spawned.stdout, spawned.stderr, life)

    def _tend(
        self, request: FindProcesses | SignalProcesses | SignalProcessGroup | ForgetProcess | EndProcesses
    ) -> LauncherReply:
        match request:
            case FindProcesses("", _, known):
                return ProcessesFound(process_reaper.alive(dict(known)))
            case FindProcesses(mark, pid, known):
                _, host = self._children.get(pid, (None, None))
                if host is None:
                    return ProcessesFound({})
                found = host.find(mark, pid, self._own(known))
                self._found.update(found)
                return ProcessesFound(found)
            case SignalProcesses(number, processes):
                process_reaper.kill(self._own(processes), number)
            case SignalProcessGroup(pid, number):
                if pid in self._children:
                    self._children[pid][0].signal_group(number)
            case ForgetProcess(pid):
                self._forget(pid)
            case EndProcesses(mark):
                if (host := self._hosts.pop(mark, None)) is not None:
                    host.close()
        return LauncherDone()

    def _forget(self, pid: int) -> None:
        _, host = self._children.pop(pid, (None, None))
        self._found = process_reaper.alive(self._found)
        if host is not None:
            host.ended(pid)

    def _own(self, processes: Mapping[int, str]) -> dict[int, str]:
        """Those that were found here."""
        return {pid: began for pid, began in processes.items() if self._found.get(pid) == began}

    def _socket(self, request: SocketRequest, *paths: str) -> Outcome:
        if not all(map(self._permitted.may_listen_at, paths)):
            return _not_permitted("a socket in a folder where the config has none")
        return self._do_socket(request)

    def _connect(self, path: str) -> Outcome:
        if not self._permitted.may_connect(path):
            return _not_permitted("a socket that the config does not have")
        with socket.socket(socket.AF_UNIX) as connected:
            connected.setblocking(False)
            connected.connect(path)
            return LauncherDone(), (connected.detach(),)

    def _load(self) -> Outcome:
        if self._load_config is None:
            return LauncherFailed(errno.EPERM, "the config is not loaded again"), ()
        try:
            config = self._load_config()
            content = pickle.dumps((config, None))
            self._config, self._known = config, None
        except ConfigError as error:
            content = pickle.dumps((None, error.faults))
        number = os.memfd_create("modelplex config", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(number), "wb") as file:
            file.write(content)
        os.lseek(number, 0, os.SEEK_SET)
        return LauncherDone(), (number,)


def _not_permitted(what: str) -> Outcome:
    return LauncherFailed(errno.EPERM, f"the launcher was asked for {what}"), ()
