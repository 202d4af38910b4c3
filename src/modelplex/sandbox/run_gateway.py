"""The gateway of a run: started for it, shared by the runs of an agent, or running already."""

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
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from modelplex.config.run_sockets import is_listening, new_run_socket
from modelplex.sandbox import kernel
from modelplex.sandbox.agent import Agent
from modelplex.sandbox.arguments import CONFIG
from modelplex.sandbox.errors import CannotRun
from modelplex.sandbox.gateway import MORE, RUNS
from modelplex.sandbox.plan import working_folder
from modelplex.sandbox.replayed import options_of

START_TIMEOUT_S: Final = 30.0
"""Until the gateway listens: far above what it needs, also on a busy machine."""
STOP_TIMEOUT_S: Final = 10.0
"""Until it ends after the program has, when it has no connections."""
POLL_S: Final = 0.01
IN_USE: Final = re.compile(r"(/?\S+) is in use by (?!another process)")
"""From a gateway's error (server/socket_file.py): the path of a socket with another listener."""


class RunGateway:
    """A gateway at `path`; `popen` where this run started it. `read_log` returns its output."""

    def __init__(self, path: str, popen: subprocess.Popen[bytes] | None, read_log: Callable[[], str]) -> None:
        self.path = path
        self._popen = popen
        self._read_log = read_log

    @property
    def status(self) -> int | None:
        """Its exit status, once it has ended."""
        return None if self._popen is None else self._popen.poll()

    def wait_until_listening(self) -> None:
        """Raises CannotRun."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_listening(self.path):
            if self.status is not None:
                raise CannotRun(f"the gateway did not start (status {self.status}):\n{self._explanation()}")
            if time.monotonic() > deadline:
                raise CannotRun(
                    f"the gateway did not listen within {START_TIMEOUT_S:.0f} s.\n{self._explanation()}"
                )
            time.sleep(POLL_S)

    def _explanation(self) -> str:
        output = self._read_log().rstrip() or "It printed nothing. Its log is in /tmp, which may be full."
        if taken := IN_USE.search(output):
            output += f"\nIf that is a gateway, use it: modelplex run --socket {taken[1]} -- COMMAND"
        return output

    def save_log(self) -> str:
        """Copy its output to a file that stays, and return the file's name."""
        number, name = tempfile.mkstemp(prefix="modelplex-", suffix=".log")
        with open(number, "w", encoding="utf-8") as file:
            file.write(self._read_log())
        return name


def config_path(arguments: argparse.Namespace) -> str | None:
    return arguments.config or (CONFIG if os.path.lexists(CONFIG) else None)


@contextmanager
def gateway_of_run(
    arguments: argparse.Namespace,
    agent: Agent | None,
    private: Path,
    log: IO[bytes],
    *,
    name: str,
    environ: Mapping[str, str],
) -> Generator[RunGateway]:
    """The gateway that the arguments name. Stops one that it started and nobody else uses. `name`
    is that of its admin socket, `environ` are variables of one that is started. Raises CannotRun.
    """

    def read_log() -> str:
        return "" if arguments.verbose else (private / "log").read_text(errors="replace")

    if arguments.socket is not None:
        path = os.path.abspath(arguments.socket)
        if not is_listening(path):
            raise CannotRun(f"no gateway listens on {path}: start one there, or leave out --socket.")
        yield RunGateway(path, None, lambda: "")
    elif agent is not None and agent.socket is not None:
        path = os.path.abspath(agent.socket)
        with _shared_gateway(arguments, agent, path, read_log, log, environ=environ) as shared:
            yield shared
    else:
        folder = private / "gateway"
        folder.mkdir(mode=0o700)
        path = str(folder / "modelplex.socket")
        is_plain = config_path(arguments) is None and not arguments.is_replay
        argv = ["modelplex" if is_plain else "modelplex.sandbox.gateway"]
        argv += ["--socket", path, *(["--agent", agent.name] if agent is not None else [])]
        argv += _admin_socket(name)
        popen = _start([*argv, *_forwarded_options(arguments)], log, environ=environ)
        try:
            yield RunGateway(path, popen, read_log)
        finally:
            popen.terminate()
            _wait(popen)


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
        no_reload = no_reload or _is_writable_inside(real, arguments)
    argv += options_of(arguments)
    return [*argv, *["--no-reload"] * no_reload, *["--verbose"] * arguments.verbose]


def _is_writable_inside(config: str, arguments: argparse.Namespace) -> bool:
    """Whether the program may write to the config's folder. There the config is masked only until
    the host replaces the file, as editors do.
    """
    writable = [*map(os.path.realpath, arguments.rw), working_folder()]
    return arguments.fs == "host" or any(config.startswith(f"{folder}/") for folder in writable)


def _start(
    argv: Sequence[str],
    log: IO[bytes],
    *,
    environ: Mapping[str, str],
    stdin: int = subprocess.DEVNULL,
    is_shared: bool = False,
) -> subprocess.Popen[bytes]:
    """Run a module of ours. One that is not shared ends with this process."""
    return subprocess.Popen(  # noqa: S603 - our own program
        # -P: do not import from the working folder, which the program may write to.
        [sys.executable, "-P", "-m", *argv],
        stdin=stdin,
        stdout=log,
        stderr=log,
        env={**os.environ, **environ},
        start_new_session=True,
        preexec_fn=None if is_shared else (lambda: kernel.die_with_parent(signal.SIGTERM)),  # noqa: PLW1509 - there is no other thread here
    )


def _wait(popen: subprocess.Popen[bytes]) -> None:
    try:
        popen.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


# --- the gateway of an agent's socket ---


@contextmanager
def _shared_gateway(
    arguments: argparse.Namespace,
    agent: Agent,
    path: str,
    read_log: Callable[[], str],
    log: IO[bytes],
    *,
    environ: Mapping[str, str],
) -> Generator[RunGateway]:
    """One gateway for all programs of an agent, which share its rate, budget and concurrency. It is
    the host's, or the first run's, and then stays until the last run ends.
    """
    if Path(path).is_symlink():
        raise CannotRun(
            f"{path} is a link instead of the agent's socket, and a program may have made it: look at it, and remove it."
        )
    shared = SharedGateway(path, read_log)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not shared.is_ready():
            if shared.is_missing():
                argv = ["modelplex.sandbox.gateway", "--agent", agent.name, "--socket", path]
                argv += [
                    "--uses",
                    path + RUNS,
                    *_admin_socket(str(os.getpid())),
                    *_forwarded_options(arguments),
                ]
                shared.start(argv, log, environ=environ)
            if time.monotonic() > deadline:
                raise CannotRun(f"the gateway did not listen on {path} within {START_TIMEOUT_S:.0f} s.")
            time.sleep(POLL_S)
        yield RunGateway(path, shared.popen, read_log)
    finally:
        shared.leave()


class SharedGateway:
    """A gateway on an agent's socket. `popen` is set where this run started it; `use` is the
    connection by which it counts this run.
    """

    def __init__(self, path: str, read_log: Callable[[], str]) -> None:
        self.path = path
        self.popen: subprocess.Popen[bytes] | None = None
        self.use: socket.socket | None = None
        self._read_log = read_log
        self._is_counted = False

    def is_missing(self) -> bool:
        """Whether none is running, starting or ending."""
        return self.popen is None and not self._exists()

    def _exists(self) -> bool:
        return is_claimed(self.path + RUNS) or is_claimed(self.path) or is_listening(self.path)

    def start(self, argv: Sequence[str], log: IO[bytes], *, environ: Mapping[str, str]) -> None:
        self.use, theirs = socket.socketpair()
        self.use.setblocking(False)
        with theirs:
            self.popen = _start(argv, log, environ=environ, stdin=theirs.fileno(), is_shared=True)

    def is_ready(self) -> bool:
        """Whether it listens and has counted this run. Raises CannotRun where the one that this run
        started has ended, and no other exists.
        """
        if self.popen is None:
            return is_listening(self.path) and self._join()
        if self.popen.poll() is None:
            self._is_counted = self._is_counted or self._receive_count()
            return self._is_counted and is_listening(self.path)
        if not self._exists():
            RunGateway(self.path, self.popen, self._read_log).wait_until_listening()
        # Another run was faster: its gateway is used.
        self.popen, self.use = None, None
        return False

    def _receive_count(self) -> bool:
        assert self.use is not None
        try:
            return self.use.recv(1) != b""
        except OSError:
            return False

    def _join(self) -> bool:
        """Use the gateway of another run, unless it is starting or ending. The host's own does not
        count uses.
        """
        use = socket.socket(socket.AF_UNIX)
        use.settimeout(STOP_TIMEOUT_S)
        with suppress(OSError):
            use.connect(self.path + RUNS)
            if use.recv(1):
                self.use = use
                return True
        use.close()
        return not is_claimed(self.path + RUNS)

    def leave(self) -> None:
        """End this run's use. Waits for a gateway that it started and that nobody else uses."""
        is_last = self.use is None or _end_use(self.use)
        if self.popen is not None and is_last:
            _wait(self.popen)


def _end_use(use: socket.socket) -> bool:
    """Whether it was the last use, so that the gateway ends."""
    received = b""
    with use, suppress(OSError):
        use.settimeout(STOP_TIMEOUT_S)
        use.shutdown(socket.SHUT_WR)
        while data := use.recv(16):
            received += data
    return not received.endswith(MORE)


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
