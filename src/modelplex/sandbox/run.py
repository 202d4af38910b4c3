"""`modelplex run`: starts a gateway and a sandbox around a program, passes signals on, and returns
the program's status.

Above it the command line. This process stays on the host; it holds what the user's environment
holds, and gives the sandbox only what folders.py and environment.py name.
"""

# Paths of another root, and links that are not to be followed, are text.
# ruff: noqa: PTH100, PTH123
from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from modelplex.sandbox import kernel, seccomp
from modelplex.sandbox.agent import Agent, WrongChoice, chosen
from modelplex.sandbox.arguments import CONFIG
from modelplex.sandbox.bridge import command_of, in_foreground
from modelplex.sandbox.cannot_run import CannotRun
from modelplex.sandbox.folders import SOCKET
from modelplex.sandbox.gateway import MORE, RUNS
from modelplex.sandbox.plan import (
    LOCK,
    START,
    files_of_config,
    interpreter_words,
    plan_of,
    say,
    working_folder,
)
from modelplex.sandbox.streams import check_streams

WRONG: Final = 2
START_SECONDS: Final = 30.0
"""How long the gateway may take to listen: far above what it needs, on a busy machine too."""
END_SECONDS: Final = 10.0
"""How long it may take to stop after the program has ended, when nobody is connected any more."""
PRIVATE: Final = "modelplex-run-"
HELD: Final = "held"
"""A run's own folder, and the file in it that is locked for as long as the run lives."""
JUST_MADE_S: Final = 60.0
"""The age of a folder from which on its file would be locked if anybody were there."""
LOOK_SECONDS: Final = 0.01
IN_USE: Final = re.compile(r"(/?\S+) is in use by (?!another process)")
"""What a gateway says of a socket's path at which another process listens (socket_file.py)."""
PASSED_ON: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)
_READ_HERE: Final = (CONFIG, LOCK)
"""What a gateway that is started here believes."""
SENT_BY_THE_KERNEL: Final = 0x80
"""si_code of what a terminal sends: to the whole group, so that the program has had it already."""
SWITCHES: Final = {
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "user.max_user_namespaces": ("0", "15000"),
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
}
"""Kernel settings that forbid a user namespace: the value that does, and one that does not."""


def run(arguments: argparse.Namespace) -> int:
    """Returns the program's status, 128 and the signal's number where one ended it, 126 and 127 as
    a shell does. Raises CannotRun and UnknownMachine.
    """
    command = command_of(arguments.command_line)
    if arguments.check:
        command = [sys.executable, "-I", "-S", "-c", START.format(module="check")]
    if not command:
        say("it needs a program: modelplex run -- COMMAND")
        return WRONG
    if not sys.platform.startswith("linux"):
        raise CannotRun("modelplex run needs Linux: its walls are the kernel's namespaces.")
    if any(word.startswith("=") for word in arguments.env):
        say("--env needs a variable's name: --env NAME, or --env NAME=VALUE")
        return WRONG
    seccomp.machine()
    if os.environ.get("MODELPLEX_SOCKET") == SOCKET and _answers(SOCKET):
        raise CannotRun(
            "this is inside modelplex run already, and one within another has no supervisor: start the program itself, which reaches the gateway as this does."
        )
    check_streams()
    working_folder()
    from modelplex.config import ConfigError

    try:
        agent = chosen(arguments, _config(arguments))
    except WrongChoice as fault:
        say(fault.sentence)
        return WRONG
    except ConfigError as fault:
        raise CannotRun(f"the gateway did not start, since the config is wrong: {fault.sentence}") from None
    before = {name: _stamp(name) for name in _READ_HERE}
    with (
        _private_folder() as private,
        _log(private, verbose=arguments.verbose) as log,
        _gateway(arguments, agent, private, log) as gateway,
    ):
        status = _sandbox(arguments, command, private, log, gateway)
    for name, stamp in before.items():
        if (now := _stamp(name)) is not None and now != stamp:
            done = "the program has made a" if stamp is None else "while the program ran this has changed:"
            say(f"{done} {name} here, which the next start would take for yours: look at it first")
    return status


def _stamp(name: str) -> tuple[int, ...] | None:
    """What changes with a file, or with the link that stands for it; None where there is none."""
    try:
        facts = os.lstat(name)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


@contextmanager
def _private_folder() -> Generator[Path]:
    base = "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else tempfile.gettempdir()  # noqa: S108 - mkdtemp makes it 0700
    _sweep(base)
    folder = Path(tempfile.mkdtemp(prefix=PRIVATE, dir=base))
    held = os.open(folder / HELD, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _sweep(base: str) -> None:
    """Take away what runs of ours left that were killed: nobody holds its file any more. One that
    is only just being made is left alone.
    """
    for folder in Path(base).glob(PRIVATE + "*"):
        try:
            found = folder.lstat()
            if found.st_uid != os.geteuid() or time.time() - found.st_mtime < JUST_MADE_S:
                continue
            held = os.open(folder / HELD, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(held)


@contextmanager
def _log(private: Path, *, verbose: bool) -> Generator[IO[bytes]]:
    """Where the gateway and the bridge speak: not into the program's terminal, unless that is asked
    for.
    """
    if verbose:
        with open(os.dup(2), "wb", buffering=0) as stream:
            yield stream
        return
    with (private / "log").open("wb", buffering=0) as file:
        yield file


# --- the gateway ---


@contextmanager
def _gateway(
    arguments: argparse.Namespace, agent: Agent | None, private: Path, log: IO[bytes]
) -> Generator[_Started]:
    if arguments.socket is not None:
        path = os.path.abspath(arguments.socket)
        if not _answers(path):
            raise CannotRun(f"no gateway listens on {path}: start one there, or leave --socket out.")
        yield _Started(path, None, lambda: "")
    elif agent is not None and agent.socket is not None:
        with _gateway_of_agent(arguments, agent, os.path.abspath(agent.socket), private, log) as started:
            yield started
    else:
        folder = private / "gateway"
        folder.mkdir(mode=0o700)
        path = str(folder / "modelplex.socket")
        words = ["modelplex" if _config(arguments) is None else "modelplex.sandbox.gateway"]
        words += ["--socket", path, *(["--agent", agent.name] if agent is not None else [])]
        popen = _start([*words, *_told_gateway(arguments)], log)
        try:
            yield _Started(path, popen, _said(arguments, private))
        finally:
            popen.terminate()
            _ended(popen)


def _told_gateway(arguments: argparse.Namespace) -> list[str]:
    """The options that a gateway which is started here is given."""
    words: list[str] = []
    no_reload: bool = arguments.no_reload
    config = _config(arguments)
    if config is not None:
        # Where it leads to: a link in the folder here is the program's to change, and the gateway
        # looks for changes.
        real = os.path.realpath(config)
        words += ["--config", real]
        no_reload = no_reload or _may_be_replaced(real, arguments)
    return [*words, *["--no-reload"] * no_reload, *["--verbose"] * arguments.verbose]


def _config(arguments: argparse.Namespace) -> str | None:
    return arguments.config or (CONFIG if os.path.lexists(CONFIG) else None)


def _start(
    words: Sequence[str], log: IO[bytes], *, stdin: int = subprocess.DEVNULL, alone: bool = True
) -> subprocess.Popen[bytes]:
    """A module of ours with its arguments. One that is for this run `alone` ends with us, however
    we end.
    """
    return subprocess.Popen(  # noqa: S603 - our own words
        # -P: the working folder, which the program may write to, is no place to import from.
        [sys.executable, "-P", "-m", *words],
        stdin=stdin,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=(lambda: kernel.die_with_parent(signal.SIGTERM)) if alone else None,  # noqa: PLW1509 - there is no other thread here
    )


def _said(arguments: argparse.Namespace, private: Path) -> Callable[[], str]:
    return lambda: "" if arguments.verbose else (private / "log").read_text(errors="replace")


def _ended(popen: subprocess.Popen[bytes]) -> None:
    """Wait for a gateway that has been told to end."""
    try:
        popen.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


@contextmanager
def _gateway_of_agent(
    arguments: argparse.Namespace, agent: Agent, path: str, private: Path, log: IO[bytes]
) -> Generator[_Started]:
    """The gateway that serves this agent's socket: rates, budgets and what may run at once hold for
    all of an agent's programs together, so there is one. It is the host's, or that of the run that
    came first, and then stays until the last run that uses it has ended.
    """
    if Path(path).is_symlink():
        raise CannotRun(
            f"{path} is a link where the agent's socket should be, and a program may have put it there: look at it, and remove it."
        )
    gateway = _Shared(path, said=_said(arguments, private))
    try:
        deadline = time.monotonic() + START_SECONDS
        while not gateway.is_ready():
            if gateway.is_wanted():
                words = ["modelplex.sandbox.gateway", "--agent", agent.name, "--socket", path]
                gateway.start([*words, "--uses", path + RUNS, *_told_gateway(arguments)], log)
            if time.monotonic() > deadline:
                raise CannotRun(f"the gateway did not listen on {path} within {START_SECONDS:.0f} s.")
            time.sleep(LOOK_SECONDS)
        yield _Started(path, gateway.popen, gateway.said)
    finally:
        gateway.leave()


class _Shared:
    """The gateway on an agent's socket, which several runs may use. `popen` is set where this one
    started it, `use` while it is used.
    """

    def __init__(self, path: str, *, said: Callable[[], str]) -> None:
        self.path = path
        self.said = said
        self.popen: subprocess.Popen[bytes] | None = None
        self.use: socket.socket | None = None
        self._is_counted = False

    def is_wanted(self) -> bool:
        """Whether there is none, and none that is just beginning or ending."""
        return self.popen is None and not (self._is_of_a_run() or _is_held(self.path) or _answers(self.path))

    def start(self, words: Sequence[str], log: IO[bytes]) -> None:
        self.use, theirs = socket.socketpair()
        self.use.setblocking(False)
        with theirs:
            self.popen = _start(words, log, stdin=theirs.fileno(), alone=False)

    def is_ready(self) -> bool:
        """Whether it listens and counts us among its uses. Raises CannotRun where ours has ended,
        and nobody else's is there or on its way.
        """
        if self.popen is None:
            return _answers(self.path) and self._begin()
        if self.popen.poll() is None:
            self._is_counted = self._is_counted or self._is_told()
            return self._is_counted and _answers(self.path)
        if not (_answers(self.path) or _is_held(self.path) or self._is_of_a_run()):
            _Started(self.path, self.popen, self.said).wait()
        # Another was quicker: its gateway is the one.
        self.popen, self.use = None, None
        return False

    def _is_told(self) -> bool:
        assert self.use is not None
        try:
            return self.use.recv(1) != b""
        except OSError:
            return False

    def _begin(self) -> bool:
        """Tell another run's gateway that we use it. The host's own needs no telling; one that is
        just beginning or ending cannot be told.
        """
        use = socket.socket(socket.AF_UNIX)
        use.settimeout(END_SECONDS)
        with suppress(OSError):
            use.connect(self.path + RUNS)
            if use.recv(1):
                self.use = use
                return True
        use.close()
        return not self._is_of_a_run()

    def _is_of_a_run(self) -> bool:
        return _is_held(self.path + RUNS)

    def leave(self) -> None:
        """Our use is over. Waits for the end of a gateway that we started and nobody else uses."""
        is_last = self.use is None or _end_use(self.use)
        if self.popen is not None and is_last:
            _ended(self.popen)


def _end_use(use: socket.socket) -> bool:
    """Whether it was the last use, so that the gateway ends now."""
    said = b""
    with use, suppress(OSError):
        use.settimeout(END_SECONDS)
        use.shutdown(socket.SHUT_WR)
        while piece := use.recv(16):
            said += piece
    return not said.endswith(MORE)


def _is_held(path: str) -> bool:
    """Whether a process claims this socket's path: it holds the file beside it locked."""
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


def _may_be_replaced(config: str, arguments: argparse.Namespace) -> bool:
    """Whether it lies in what the program writes to. A cover hides it only until an editor puts a
    new file there, which is the program's to change then.
    """
    writable = [*map(os.path.realpath, arguments.rw), working_folder()]
    return arguments.fs == "host" or any(config.startswith(f"{folder}/") for folder in writable)


class _Started:
    """A gateway: started by us (with `popen`), or somebody's."""

    def __init__(self, path: str, popen: subprocess.Popen[bytes] | None, said: Callable[[], str]) -> None:
        self.path = path
        self._popen = popen
        self._said = said

    def wait(self) -> None:
        """Until it listens. Raises CannotRun."""
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.path):
            if self.ended is not None:
                raise CannotRun(f"the gateway did not start (status {self.ended}):\n{self._told()}")
            if time.monotonic() > deadline:
                raise CannotRun(f"the gateway did not listen within {START_SECONDS:.0f} s.\n{self._told()}")
            time.sleep(LOOK_SECONDS)

    def _told(self) -> str:
        said = self._said().rstrip() or "It said nothing, as where there is no room for it (in /tmp)."
        if taken := IN_USE.search(said):
            said += f"\nIf that is a gateway, use it: modelplex run --socket {taken[1]} -- COMMAND"
        return said

    @property
    def ended(self) -> int | None:
        """Its status, once it has one."""
        return None if self._popen is None else self._popen.poll()

    def keep(self) -> str:
        """Copies what it said to a file that stays, and returns its name."""
        number, name = tempfile.mkstemp(prefix="modelplex-", suffix=".log")
        with open(number, "w", encoding="utf-8") as file:
            file.write(self._said())
        return name


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


# --- the sandbox ---


def _sandbox(
    arguments: argparse.Namespace, command: list[str], private: Path, log: IO[bytes], gateway: _Started
) -> int:
    if files_of_config(os.path.realpath(arguments.config or CONFIG)):
        gateway.wait()  # only then is there what is to be covered
    plan = plan_of(arguments, command, private, gateway.path)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memory = os.memfd_create("modelplex-plan")
    try:
        os.write(memory, json.dumps(plan).encode())
        numbers = [theirs.fileno(), memory, log.fileno()]
        words = [*interpreter_words("inside"), "bridge", *map(str, numbers)]
        popen = subprocess.Popen(words, env={}, pass_fds=numbers)  # noqa: S603 - our own words
    finally:
        theirs.close()
        os.close(memory)
    try:
        _prepare(ours, popen)
        gateway.wait()
        status = _pass_signals_on(ours, popen, gateway)
    except BaseException:
        popen.kill()
        popen.wait()
        raise
    finally:
        ours.close()
    return status


def _prepare(control: socket.socket, popen: subprocess.Popen[bytes]) -> None:
    """Answer what the sandbox asks while it is built. Raises CannotRun."""
    while (packet := control.recv(65536)) != b"D":
        match packet[:1]:
            case b"U":
                _write_maps(popen.pid)
                control.send(b"M")
            case b"R":
                control.send(b"M")
            case b"E":
                raise CannotRun(_refusal(json.loads(packet[1:])))
            case _:
                raise CannotRun(f"the sandbox ended while it was built (status {popen.wait()}).")


def _write_maps(pid: int) -> None:
    """Everybody keeps the number that they have on the host: root shows whom it may, another user
    only itself.
    """
    uid, gid = os.geteuid(), os.getegid()
    folder = Path("/proc", str(pid))
    if uid == 0:
        for name in ("uid_map", "gid_map"):
            rows = [row.split() for row in Path("/proc/self", name).read_text().splitlines()]
            try:
                (folder / name).write_text("".join(f"{row[0]} {row[0]} {row[2]}\n" for row in rows))
            except PermissionError:
                break  # a container's root, without the capability
        else:
            return
    with suppress(FileNotFoundError):
        (folder / "setgroups").write_text("deny")
    for name, number in (("uid_map", uid), ("gid_map", gid)):
        try:
            (folder / name).write_text(f"{number} {number} 1\n")
        except OSError as fault:
            raise CannotRun(_refusal({"errno": fault.errno, "text": fault.strerror, "call": name})) from None


def _refusal(told: dict[str, Any]) -> str:
    """What the kernel did not allow, and which of its settings may be why."""
    sentence = f"the kernel does not allow a sandbox here: {told['call'] or 'unshare'}: {told['text']}."
    hints: list[str] = []
    for name, (forbids, allows) in SWITCHES.items():
        with suppress(OSError):
            if Path("/proc/sys", name.replace(".", "/")).read_text().strip() == forbids:
                hints.append(f"{name} is {forbids} (sysctl -w {name}={allows} allows it)")
    if hints:
        return f"{sentence} {'; '.join(hints)}."
    release = ".".join(os.uname().release.split(".")[:2])
    return (
        f"{sentence} It needs user, network, IPC, mount and process namespaces (Linux 5.12 or newer, here {release}); a container's own filter"
        f" may forbid them, and so may {', '.join(SWITCHES)}."
    )


def _pass_signals_on(control: socket.socket, popen: subprocess.Popen[bytes], gateway: _Started) -> int:
    """Let the program go, and wait for its end."""
    terminal = 0 if os.isatty(0) and in_foreground() else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    noted = False
    try:
        control.send(b"G")
        while popen.poll() is None:
            found = signal.sigwaitinfo({*PASSED_ON, signal.SIGCHLD})
            if found.si_signo == signal.SIGCHLD:
                if not noted and gateway.ended is not None:
                    noted = True
                    say(f"the gateway has ended (status {gateway.ended}); what it said: {gateway.keep()}")
            elif found.si_code != SENT_BY_THE_KERNEL or _is_told_alone(found.si_signo):
                with suppress(OSError):
                    control.send(b"S" + bytes([found.si_signo]))
        if terminal is not None:
            _take_back(terminal)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return popen.returncode if popen.returncode >= 0 else 128 - popen.returncode


def _is_told_alone(number: int) -> bool:
    """A terminal that goes away tells its session's leader, and nobody else until that has ended:
    we are it where a terminal was opened for us.
    """
    return number == signal.SIGHUP and os.getsid(0) == os.getpid()


def _take_back(terminal: int) -> None:
    """A shell inside has made itself the terminal's foreground, and is gone."""
    ignored = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with suppress(OSError):
        os.tcsetpgrp(terminal, os.getpgrp())
    signal.signal(signal.SIGTTOU, ignored)
