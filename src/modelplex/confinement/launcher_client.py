"""The gateway's side of its launcher. All calls block until the launcher has answered: they are for
a thread, except at the start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import signal
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from modelplex.config import Config, ConfigError
from modelplex.confinement.messages import (
    EXIT,
    REPLIES,
    ConnectSocket,
    DescriptorsLost,
    EndProcesses,
    FindProcesses,
    ForgetProcess,
    LauncherFailed,
    LauncherRefused,
    LauncherReply,
    LauncherRequest,
    LoadConfig,
    PrintCredential,
    ProcessesFound,
    ProgramStarted,
    RereadConfig,
    SignalProcesses,
    SignalProcessGroup,
    StartProgram,
    command_key,
    receive,
    send,
)

if TYPE_CHECKING:
    from modelplex.mcp.servers.process_host import Processes, Spawned


class LauncherGone(OSError):
    """The launcher has ended. The gateway can start no program until it is started again."""


class SocketRefused(Exception):
    """`sentence` says why the socket cannot be listened on."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class RemoteChild:
    """A process that the launcher has started. `life` becomes readable at its end, with its exit
    code.
    """

    def __init__(self, pid: int, life: int, launcher: LauncherClient) -> None:
        self._life: int | None = life
        self._launcher = launcher
        self._lock = threading.Lock()
        self.pid = pid
        self.returncode: int | None = None

    def __repr__(self) -> str:
        return f"<RemoteChild {self.pid}>"

    def poll(self) -> int | None:
        with self._lock:
            if self._life is not None:
                os.set_blocking(self._life, False)
                with contextlib.suppress(BlockingIOError):
                    self._read(self._life)
        return self.returncode

    def wait(self) -> int:
        with self._lock:
            if self._life is not None:
                os.set_blocking(self._life, True)
                self._read(self._life)
        assert self.returncode is not None
        return self.returncode

    def _read(self, life: int) -> None:
        data = os.read(life, EXIT.size)
        # Without a code the launcher has died, and the reaper has killed the process.
        self.returncode = EXIT.unpack(data)[0] if len(data) == EXIT.size else -9
        os.close(life)
        self._life = None

    def signal_group(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(OSError):
                self._launcher.ask(SignalProcessGroup(self.pid, number))


class LauncherClient:
    """The connection to the launcher."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "<LauncherClient>"

    def ask(self, request: LauncherRequest) -> tuple[LauncherReply, list[int]]:
        """The reply and its descriptors. Raises OSError, and SocketRefused."""
        is_lost = False
        with self._lock:
            try:
                send(self._end, request)
                data, descriptors = receive(self._end)
            except DescriptorsLost as lost:
                data, descriptors = lost.data, []
                is_lost = True
            except OSError as error:
                raise LauncherGone(
                    error.errno, f"the launcher does not answer, restart the gateway: {error.strerror}"
                ) from None
        if not data:
            raise LauncherGone(0, "the launcher has ended, restart the gateway")
        reply = REPLIES.decode(data)
        match reply:
            case LauncherFailed(number, text):
                raise OSError(number, text)
            case LauncherRefused(sentence):
                raise SocketRefused(sentence)
            case _:
                if is_lost:
                    self._abandon(reply)
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                return reply, descriptors

    def _abandon(self, reply: LauncherReply) -> None:
        """End what was started, since this process has no descriptors for it."""
        if isinstance(reply, ProgramStarted):
            with contextlib.suppress(OSError):
                self.ask(SignalProcessGroup(reply.pid, signal.SIGKILL))
                self.ask(ForgetProcess(reply.pid))

    def start(self, request: StartProgram | PrintCredential, mark: str) -> Spawned:
        """Raises OSError."""
        from modelplex.mcp.servers.process_host import Spawned

        reply, descriptors = self.ask(request)
        assert isinstance(reply, ProgramStarted)
        stdin, stdout, stderr, life = descriptors
        try:
            child = RemoteChild(reply.pid, os.dup(life), self)
        except OSError:
            for each in descriptors:
                os.close(each)
            self._abandon(reply)
            raise
        return Spawned(child, mark, stdin, stdout, stderr, life)

    def output(self, words: Sequence[str]) -> Spawned:
        """Start a command that prints a credential. Raises OSError."""
        return self.start(PrintCredential(command_key(words, None, None)), "")

    def connect(self, path: str) -> socket.socket:
        """A connection to a Unix socket of the config. Raises OSError."""
        _, (number,) = self.ask(ConnectSocket(path))
        return socket.socket(fileno=number)

    def reread(self) -> None:
        """The config file has changed, and somebody else has loaded it."""
        with contextlib.suppress(OSError):
            self.ask(RereadConfig())

    def load(self) -> Config:
        """Load the config file again. Raises ConfigError, OSError."""
        _, (number,) = self.ask(LoadConfig())
        with os.fdopen(number, "rb") as file:
            config, faults = pickle.loads(file.read())  # noqa: S301 - from our own process
        if config is None:
            raise ConfigError(faults)
        assert isinstance(config, Config)
        return config


class LauncherProcesses:
    """A ProcessHost: the processes with one mark."""

    def __init__(self, client: LauncherClient, mark: str) -> None:
        self._client = client
        self._mark = mark

    def __repr__(self) -> str:
        return f"<LauncherProcesses {self._mark}>"

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None, mark: str) -> Spawned:
        return self._client.start(StartProgram(command_key(argv, env, cwd), mark), mark)

    def find(self, mark: str, pid: int, known: Mapping[int, str]) -> Processes:
        return self._found(FindProcesses(mark, pid, known))

    def alive(self, known: Mapping[int, str]) -> Processes:
        return self._found(FindProcesses("", 0, known)) if known else {}

    def signal(self, number: int, processes: Mapping[int, str]) -> None:
        if processes:
            self._tell(SignalProcesses(number, processes))

    def ended(self, pid: int) -> None:
        self._tell(ForgetProcess(pid))

    def close(self) -> None:
        self._tell(EndProcesses(self._mark))

    def _tell(self, request: LauncherRequest) -> None:
        with contextlib.suppress(LauncherGone):  # the reaper ends what it started
            self._client.ask(request)

    def _found(self, request: FindProcesses) -> Processes:
        try:
            reply, _ = self._client.ask(request)
        except LauncherGone:
            return {}
        assert isinstance(reply, ProcessesFound)
        return reply.processes
