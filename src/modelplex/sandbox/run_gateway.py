"""The gateway of a run: the host's that runs already, one shared by the runs of an agent, or one
started for this run. It serves a socket that this process makes, and no program inside.
"""

# Paths that may be links are text.
# ruff: noqa: PTH100, PTH123
from __future__ import annotations

import argparse
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from modelplex.config.run_sockets import is_listening, new_run_socket
from modelplex.sandbox import kernel
from modelplex.sandbox.agent import Agent
from modelplex.sandbox.arguments import CONFIG
from modelplex.sandbox.errors import CannotRun
from modelplex.sandbox.notices import Notices
from modelplex.sandbox.plan import print_error, working_folder
from modelplex.sandbox.recording import Recording
from modelplex.sandbox.replayed import options_of
from modelplex.sandbox.run_link import RunLink, connect
from modelplex.server.run_messages import SUFFIX, RunEnded, RunRequest, attach_path

START_TIMEOUT_S: Final = 30.0
"""Until the gateway listens: far above what it needs, also on a busy machine."""
STOP_TIMEOUT_S: Final = 10.0
"""Until it ends after the program has, when it has no connections."""
POLL_S: Final = 0.01
BACKLOG: Final = 1024
"""Connections that wait at a run's socket."""
IN_USE: Final = re.compile(r"(/?\S+) is in use by (?!another process)")
"""From a gateway's error (server/socket_file.py): the path of a socket with another listener."""


class RunGateway:
    """A gateway at `path`; `popen` where this run started it, `link` where it serves this run by a
    socket of its own. `read_log` returns its output.
    """

    def __init__(
        self,
        path: str,
        popen: subprocess.Popen[bytes] | None,
        read_log: Callable[[], str],
        *,
        link: RunLink | None = None,
    ) -> None:
        self.path = path
        self.link = link
        self.notices = Notices()
        self._is_gone = False
        self._popen = popen
        self._read_log = read_log

    @property
    def status(self) -> int | None:
        """Its exit status, once it has ended."""
        return None if self._popen is None else self._popen.poll()

    @property
    def ended(self) -> RunEnded | None:
        """What it has said at the end of this run."""
        return None if self.link is None else self.link.ended

    def wait_until_listening(self) -> None:
        """Until it serves this run, or, where it ran before, has ended. Raises CannotRun."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_serving():
            if self.status is not None:
                raise CannotRun(f"the gateway did not start (status {self.status}):\n{self._explanation()}")
            if time.monotonic() > deadline:
                raise CannotRun(
                    f"the gateway did not listen within {START_TIMEOUT_S:.0f} s.\n{self._explanation()}"
                )
            if self.link is None or self.link.is_over:
                if self.link is not None and self._popen is None:
                    return
                time.sleep(POLL_S)

    def _is_serving(self) -> bool:
        if self.link is None:
            return is_listening(self.path)
        if self.link.reply is None:
            self.link.read(wait_s=POLL_S)
        if self.link.reply is not None and self.link.reply.refused:
            raise CannotRun(f"the gateway does not take this run: {self.link.reply.refused}")
        return self.link.reply is not None

    def _explanation(self) -> str:
        output = self._read_log().rstrip() or "It printed nothing. Its log is in /tmp, which may be full."
        if taken := IN_USE.search(output):
            output += f"\nIf that is a gateway, use it: modelplex run --socket {taken[1]} -- COMMAND"
        return output

    def signal_with(self, number: signal.Signals) -> None:
        """Send this process the signal, which is blocked, when there is something to read."""
        if self.link is not None:
            self.link.signal_with(number)
            self.read()  # what came before

    def no_signals(self) -> None:
        if self.link is not None:
            self.link.no_signals()

    def read(self) -> None:
        """Take what the gateway says. The end of one that this run did not start is reported."""
        if self.link is None:
            return
        self.link.read()
        self.notices.take(self.link.take_notices())
        if self.link.is_over and self._popen is None and not self._is_gone:
            self._is_gone = True
            print_error(
                "the gateway that it used has ended: the program reaches no model until it is started again, in a new gateway"
            )

    def leave(self) -> None:
        """End this run's use. Waits for a gateway that it started and that nobody else uses."""
        if self.link is not None:
            self.link.leave(timeout_s=STOP_TIMEOUT_S)
            self.notices.take(self.link.take_notices())
            self.link.close()
        if self._popen is not None and (self.ended is None or self.ended.is_last):
            _wait(self._popen)

    def save_log(self) -> str:
        """Copy its output to a file that stays, and return the file's name."""
        number, name = tempfile.mkstemp(prefix="modelplex-", suffix=".log")
        with open(number, "w", encoding="utf-8") as file:
            file.write(self._read_log())
        return name


def config_path(arguments: argparse.Namespace) -> str | None:
    return arguments.config or (CONFIG if os.path.lexists(CONFIG) else None)


class RunSocket:
    """The socket of a run, in its private folder: made by this process, and handed to the gateway
    that serves it.
    """

    def __init__(self, private: Path, request: Callable[[str], RunRequest]) -> None:
        folder = private / "gateway"
        folder.mkdir(mode=0o700)
        self.path = str(folder / "modelplex.socket")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(BACKLOG)
        self._request = request(self.path)

    def hand_to(self, link: RunLink) -> RunLink | None:
        """None where the gateway is gone."""
        try:
            link.send(self._request, self._listener)
        except OSError:
            link.close()
            return None
        return link

    def close(self) -> None:
        """This process's copy: without a gateway a client is then refused."""
        self._listener.close()


@contextmanager
def gateway_of_run(
    arguments: argparse.Namespace, agent: Agent | None, private: Path, log: IO[bytes], *, recording: Recording
) -> Generator[RunGateway]:
    """The gateway that the arguments name. One that a run has started ends with its last run.
    Raises CannotRun.
    """

    def read_log() -> str:
        return "" if arguments.verbose else (private / "log").read_text(errors="replace")

    if arguments.socket is not None:
        path = os.path.abspath(arguments.socket)
        if not is_listening(path):
            raise CannotRun(f"no gateway listens on {path}: start one there, or leave out --socket.")
        yield RunGateway(path, None, lambda: "")
        return
    may_write = may_write_config(arguments)
    sock = RunSocket(private, lambda path: recording.request(path, agent, may_write_config=may_write))
    start = GatewayStart(arguments, agent, log, recording)
    try:
        gateway = None
        if not arguments.is_replay and arguments.record is None:  # these need one of their own
            gateway = _of_host(arguments, sock) or _shared(arguments, agent, sock, start, read_log)
        if gateway is None:
            popen, link = start(sock)
            gateway = RunGateway(sock.path, popen, read_log, link=link)
    finally:
        sock.close()
    try:
        if gateway.link is None and arguments.budget is not None:
            raise CannotRun(
                f"the gateway at {gateway.path} takes no --budget: it is of another user, or has several workers. Use the budget of [[agents]]."
            )
        yield gateway
    finally:
        gateway.leave()


class GatewayStart:
    """Starts the gateway of a run, or of the runs of an agent."""

    def __init__(
        self, arguments: argparse.Namespace, agent: Agent | None, log: IO[bytes], recording: Recording
    ) -> None:
        self._options = [] if agent is None else ["--agent", agent.name]
        if agent is not None and agent.socket is not None:
            self._options += ["--socket", os.path.abspath(agent.socket)]
        self._options += _forwarded_options(arguments)
        self._log = log
        self._recording = recording
        self._name = recording.name

    def __call__(
        self, sock: RunSocket, *, runs: str | None = None
    ) -> tuple[subprocess.Popen[bytes], RunLink]:
        """`runs` is where others attach. A gateway that nobody shares ends with this process."""
        argv = ["modelplex.sandbox.gateway", *self._options]
        argv += _admin_socket(self._name if runs is None else str(os.getpid()))
        argv += [] if runs is None else ["--runs", runs]
        environ = self._recording.environ if runs is None else self._recording.gateway_environ
        ours, theirs = socket.socketpair()
        with theirs:
            link = sock.hand_to(RunLink(ours))
            assert link is not None
            popen = subprocess.Popen(  # noqa: S603 - our own program
                # -P: do not import from the working folder, which the program may write to.
                [sys.executable, "-P", "-m", *argv],
                stdin=theirs.fileno(),
                stdout=self._log,
                stderr=self._log,
                env={**os.environ, **environ},
                start_new_session=True,
                preexec_fn=None if runs is not None else (lambda: kernel.die_with_parent(signal.SIGTERM)),  # noqa: PLW1509 - there is no other thread here
            )
        return popen, link


# --- a gateway that runs already ---


def _of_host(arguments: argparse.Namespace, sock: RunSocket) -> RunGateway | None:
    """That of the same config, which somebody has started. None where there is none."""
    config = config_path(arguments)
    real = None if config is None else os.path.realpath(config)
    path = attach_path(real, environ=os.environ)
    link = None if path is None else connect(path)
    if link is None or (link := sock.hand_to(link)) is None:
        return None
    gateway = RunGateway(sock.path, None, lambda: "", link=link)
    gateway.wait_until_listening()
    if link.reply is None:
        return None
    print_error(f"it uses the gateway of {config} that runs already (process {link.reply.pid})")
    return gateway


def _shared(
    arguments: argparse.Namespace,
    agent: Agent | None,
    sock: RunSocket,
    start: GatewayStart,
    read_log: Callable[[], str],
) -> RunGateway | None:
    """One gateway for all runs of an agent, which share its rate, budget and concurrency. It is the
    first run's, and stays until the last one ends. None without an agent.
    """
    config = config_path(arguments)
    if agent is None or config is None:
        return None
    if agent.socket is not None:
        served: str | None = os.path.abspath(agent.socket)
        runs: str | None = f"{served}{SUFFIX}"
    else:
        served, runs = None, attach_path(os.path.realpath(config), environ=os.environ, agent=agent.name)
    if runs is None:
        return None
    if served is not None and Path(served).is_symlink():
        raise CannotRun(
            f"{served} is a link instead of the agent's socket, and a program may have made it: look at it, and remove it."
        )
    shared = SharedGateway(runs, served, sock, start, read_log)
    deadline = time.monotonic() + START_TIMEOUT_S
    while (gateway := shared.find()) is None:
        if time.monotonic() > deadline:
            raise CannotRun(f"the gateway did not listen on {runs} within {START_TIMEOUT_S:.0f} s.")
        time.sleep(POLL_S)
    return gateway


class SharedGateway:
    """The gateway of an agent, at which runs attach at `runs`. It, or one of the host, may serve
    the agent's own socket, `served`.
    """

    def __init__(
        self,
        runs: str,
        served: str | None,
        sock: RunSocket,
        start: GatewayStart,
        read_log: Callable[[], str],
    ) -> None:
        self._runs = runs
        self._served = served
        self._sock = sock
        self._start = start
        self._read_log = read_log

    def __repr__(self) -> str:
        return f"<SharedGateway {self._runs}>"

    def find(self) -> RunGateway | None:
        """None while another one starts or ends. Raises CannotRun."""
        if (link := connect(self._runs)) is not None:
            return self._attached(self._sock.hand_to(link), None)
        if is_claimed(self._runs):
            return None
        if self._served is not None and is_listening(self._served):
            return RunGateway(self._served, None, lambda: "")
        if self._served is not None and is_claimed(self._served):
            return None
        popen, started = self._start(self._sock, runs=self._runs)
        return self._attached(started, popen)

    def _attached(self, link: RunLink | None, popen: subprocess.Popen[bytes] | None) -> RunGateway | None:
        """None where the gateway is ending, or where another run was faster than `popen`."""
        if link is None:
            return None
        gateway = RunGateway(self._sock.path, popen, self._read_log, link=link)
        try:
            gateway.wait_until_listening()
        except CannotRun:
            if popen is None or not self._exists():
                raise
            return None
        return gateway if link.reply is not None else None

    def _exists(self) -> bool:
        served = self._served is not None and (is_claimed(self._served) or is_listening(self._served))
        return served or is_claimed(self._runs)


def _admin_socket(name: str) -> list[str]:
    """The option for the gateway's admin socket, which has its page, and by which its calls can be
    stopped.
    """
    path = new_run_socket(name, environ=os.environ)
    return [] if path is None else ["--admin-socket", path]


def _forwarded_options(arguments: argparse.Namespace) -> list[str]:
    argv: list[str] = []
    no_reload: bool = arguments.no_reload
    config = config_path(arguments)
    if config is not None:
        # The target of a link: the program can change a link in the working folder, and the gateway
        # would reload the config from the new target.
        real = os.path.realpath(config)
        argv += ["--config", real]
        no_reload = no_reload or may_write_config(arguments)
    argv += options_of(arguments)
    return [*argv, *["--no-reload"] * no_reload, *["--verbose"] * arguments.verbose]


def may_write_config(arguments: argparse.Namespace) -> bool:
    """Whether the program may write to the config's folder. There the config is masked only until
    the host replaces the file, as editors do.
    """
    config = config_path(arguments)
    if config is None:
        return False
    writable = [*map(os.path.realpath, arguments.rw), working_folder()]
    real = os.path.realpath(config)
    return arguments.fs == "host" or any(real.startswith(f"{folder}/") for folder in writable)


def _wait(popen: subprocess.Popen[bytes]) -> None:
    try:
        popen.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


def is_claimed(path: str) -> bool:
    """Whether a process holds the lock file beside this socket."""
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
