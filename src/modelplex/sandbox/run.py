"""`modelplex run`: starts a gateway and a sandbox around a program, passes signals on, and returns
the program's status.

Above it the command line. This process stays on the host; it holds what the user's environment
holds, and gives the sandbox only what folders.py and environment.py name.
"""

# Paths of another root, and links that are not to be followed, are text.
# ruff: noqa: PTH100, PTH109, PTH110, PTH112, PTH115, PTH118, PTH120, PTH123, PTH207
from __future__ import annotations

import argparse
import fcntl
import glob
import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
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
from modelplex.sandbox.environment import NODE, PYTHON, environment
from modelplex.sandbox.folders import (
    HIDDEN_OF_PROC,
    RUN,
    SOCKET,
    Mount,
    MountRequest,
    has_path,
    is_read_only,
    mounts,
    nearest,
    of_program,
    other_paths,
    pinned,
    programs,
    read_mounts,
    works_in,
)
from modelplex.sandbox.gateway import MORE, RUNS

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
MEMORY: Final = 1
OF_THE_KERNEL: Final = frozenset(
    {
        *(0x9FA0, 0x6265_6572, 0x6E73_6673, 0x27_E0EB, 0x6367_7270),  # proc, sysfs, nsfs, cgroup, cgroup2
        *(0x6462_6720, 0x7472_6163, 0xCAFE_4A11, 0x7363_6673),  # debugfs, tracefs, bpf, securityfs
        *(0xF97C_FF8C, 0x4341_5D53, 0x6165_676C, 0xDE5E_81E4),  # selinuxfs, smackfs, pstore, efivarfs
        *(0x6265_6570, 0x4249_4E4D, 0x0765_5821, 0x1980_0202),  # configfs, binfmt_misc, resctrl, mqueue
        *(
            0x5049_4446,
            0x0904_1934,
            0x9FA1,
            0x9FA2,
            0x6573_5543,
        ),  # pidfs, anonymous inodes, openprom, usbdevice, fusectl
        *(0x6E66_7364, 0xABBA_1974, 0x444D_4142, 0x474D_454D),  # nfsd, xenfs, dma-buf, guest memory
    }
)
"""File systems without storage, by their numbers: linux/magic.h of the kernel's source."""
STORAGE_WITHOUT_A_SIZE: Final = frozenset(
    {0x0102_1994, 0x8584_58F6, 0x9584_58F6, 0x6573_5546, 0x0102_1997, 0x6969, 0xFF53_4D42, 0xFE53_4D42}
)
"""tmpfs, ramfs, hugetlbfs, FUSE, 9p, NFS, CIFS and SMB 2: they hold data, and some of them say of
no size.
"""
NOWHERE: Final = (3, 5, 7, 8, 9)
"""/dev/null, zero, full, random and urandom among the devices of that number."""
_LOCK: Final = "modelplex.mcp.lock"
_READ_HERE: Final = (CONFIG, _LOCK)
"""What a gateway that is started here believes."""
SENT_BY_THE_KERNEL: Final = 0x80
"""si_code of what a terminal sends: to the whole group, so that the program has had it already."""
SWITCHES: Final = {
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "user.max_user_namespaces": ("0", "15000"),
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
}
"""Kernel settings that forbid a user namespace: the value that does, and one that does not."""

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_START: Final = (
    f"import sys; sys.path.insert(0, {str(_PACKAGE.parent)!r}); "
    "from modelplex.sandbox.{module} import main; sys.exit(main(sys.argv[1:]))"
)


class CannotRun(Exception):
    """The program was not started; `sentence` says why."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(sentence)


def run(arguments: argparse.Namespace) -> int:
    """Returns the program's status, 128 and the signal's number where one ended it, 126 and 127 as
    a shell does. Raises CannotRun and UnknownMachine.
    """
    command = command_of(arguments.command_line)
    if arguments.check:
        command = [sys.executable, "-I", "-S", "-c", _START.format(module="check")]
    if not command:
        _say("it needs a program: modelplex run -- COMMAND")
        return WRONG
    if not sys.platform.startswith("linux"):
        raise CannotRun("modelplex run needs Linux: its walls are the kernel's namespaces.")
    if any(word.startswith("=") for word in arguments.env):
        _say("--env needs a variable's name: --env NAME, or --env NAME=VALUE")
        return WRONG
    seccomp.machine()
    if os.environ.get("MODELPLEX_SOCKET") == SOCKET and _answers(SOCKET):
        raise CannotRun(
            "this is inside modelplex run already, and one within another has no supervisor: start the program itself, which reaches the gateway as this does."
        )
    _check_streams()
    _working_folder()
    from modelplex.config import ConfigError

    try:
        agent = chosen(arguments, _config(arguments))
    except WrongChoice as fault:
        _say(fault.sentence)
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
            _say(f"{done} {name} here, which the next start would take for yours: look at it first")
    return status


def _stamp(name: str) -> tuple[int, ...] | None:
    """What changes with a file, or with the link that stands for it; None where there is none."""
    try:
        facts = os.lstat(name)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _working_folder() -> str:
    try:
        return os.path.realpath(os.getcwd())
    except FileNotFoundError:
        raise CannotRun("the working folder has been removed: start in one that is there.") from None


def _say(sentence: str) -> None:
    sys.stderr.write(f"modelplex run: {sentence}\n")
    sys.stderr.flush()


def _check_streams() -> None:
    """A socket, a folder or a device that the program is given as a stream is a way out of what is
    built around it.
    """
    for number, name in enumerate(("input", "output", "error")):
        # One that was closed is /dev/null by now, which children would find closed again: what they
        # open next, a socket of ours, would get its number.
        os.set_inheritable(number, True)
        facts = os.fstat(number)
        mode = facts.st_mode
        if stat.S_ISDIR(mode):
            raise CannotRun(f"its standard {name} is a folder, through which it would see the host's files.")
        if stat.S_ISSOCK(mode) and not _is_harmless(number):
            raise CannotRun(
                f"its standard {name} is a socket that could reach the host's network: give it a pipe or a file."
            )
        is_file = stat.S_ISREG(mode)
        if not (
            (is_file and not _is_of_the_kernel(number))
            or stat.S_ISFIFO(mode)
            or stat.S_ISSOCK(mode)
            or _is_stream(number, facts)
        ):
            raise CannotRun(
                f"its standard {name} is {_name_of(number)}, by which it might leave the sandbox: give it a pipe or a file."
            )
        if is_file and is_read_only(number) and not has_path(number):
            raise CannotRun(
                f"its standard {name} is a file that this user does not find at {_name_of(number)}, so that nothing keeps it from being written to: give it a pipe."
            )


def _is_of_the_kernel(number: int) -> bool:
    """Whether a file holds no data of anybody's, but is a way to speak to the kernel, as those of
    /proc and /sys are. By its file system, since such files look like any other.

    A file system that this list does not know is one of those if it has no size: that is how the
    kernel's own ones answer.
    """
    kind = kernel.file_system(number)
    return kind in OF_THE_KERNEL or (kind not in STORAGE_WITHOUT_A_SIZE and os.fstatvfs(number).f_blocks == 0)


def _is_stream(number: int, facts: os.stat_result) -> bool:
    """A terminal, or a device that leads nowhere. Others do: a network's (/dev/net/tun), a disk's,
    the kernel's memory.
    """
    if not stat.S_ISCHR(facts.st_mode):
        return False
    return os.isatty(number) or (os.major(facts.st_rdev) == MEMORY and os.minor(facts.st_rdev) in NOWHERE)


def _name_of(number: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return "of an unknown kind"


def _is_harmless(number: int) -> bool:
    """A connected stream of AF_UNIX, which leads to one peer and nowhere else."""
    with socket.socket(fileno=os.dup(number)) as looked_at:
        try:
            looked_at.getpeername()
        except OSError:
            return False
        return looked_at.family == socket.AF_UNIX and looked_at.type == socket.SOCK_STREAM


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
    writable = [*map(os.path.realpath, arguments.rw), _working_folder()]
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
    if _remembered(os.path.realpath(arguments.config or CONFIG)):
        gateway.wait()  # only then is there what is to be covered
    plan = _plan(arguments, command, private, gateway.path)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memory = os.memfd_create("modelplex-plan")
    try:
        os.write(memory, json.dumps(plan).encode())
        numbers = [theirs.fileno(), memory, log.fileno()]
        words = [*_interpreter("inside"), "bridge", *map(str, numbers)]
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


def _interpreter(module: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _START.format(module=module)]


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
                    _say(f"the gateway has ended (status {gateway.ended}); what it said: {gateway.keep()}")
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


# --- the plan ---


def _plan(arguments: argparse.Namespace, command: list[str], private: Path, gateway: str) -> dict[str, Any]:
    home = _home()
    here = _working_folder()
    files = _files()
    own = [str(_PACKAGE), *of_program(sys.executable, home=home), sys.prefix, sys.base_prefix]
    config = os.path.realpath(arguments.config or CONFIG)
    folder = here if works_in(here, homes=[home, *_homes()]) else ""
    read_only, writable = _named(arguments, here=folder)
    wanted = MountRequest(
        way=arguments.fs or "private",
        folder=folder,
        home=home,
        read_only=read_only,
        writable=writable,
        own=[os.path.abspath(path) for path in own],
        programs=programs(command[0], environ=os.environ, home=home),
        covered=[
            *_covered(config, gateway),
            *([str(private)] if nearest(str(private), [*read_only, *writable]) else []),
        ],
        is_root=os.geteuid() == 0,
    )
    is_shared = nearest(here, [folder, *read_only, *writable] if folder else [*read_only, *writable]) > 0
    if not is_shared and wanted.way != "host":
        _say(
            f"{here} is not shared, since it is, or holds, a home folder or the system's: start in a folder of a project's, or name one by --rw PATH"
        )
    is_seen = wanted.way != "private" or is_shared
    steps = pinned(mounts(wanted), named=read_only)
    root = private / "root"
    root.mkdir()
    environ = environment(
        os.environ, named=arguments.env, has_python=f"{PYTHON}/client.py" in files, has_node=NODE in files
    )
    environ["HOME"] = home
    # At its end, so that `python` is there where the system has only a `python3`.
    environ["PATH"] = os.pathsep.join(
        [*filter(None, [environ.get("PATH")]), str(Path(os.path.abspath(sys.executable)).parent)]
    )
    return {
        "command": command,
        "environ": environ,
        "folder": here if is_seen else home,
        "gateway": os.path.realpath(gateway),
        "root": str(root),
        "mounts": steps,
        "files": files,
        "netlink": arguments.netlink,
        "is_root": wanted.is_root,
        "terminal": _terminal(),
        "ignored": _ignored(),
        "bwrap": _bwrap(steps) if arguments.bwrap else None,
    }


def _home() -> str:
    named = os.environ.get("HOME", "")
    if not named.startswith("/"):
        with suppress(KeyError):
            named = pwd.getpwuid(os.geteuid()).pw_dir
    return os.path.realpath(named) if named.startswith("/") else "/"


def _homes() -> list[str]:
    """The home folders of who we are, and of who became that (by sudo, say), whatever HOME says."""
    numbers = {os.geteuid()}
    with suppress(OSError, ValueError):
        numbers.add(int(Path("/proc/self/loginuid").read_text()))
    with suppress(ValueError):
        numbers.add(int(os.environ.get("SUDO_UID", "")))
    found: list[str] = []
    for number in numbers:
        with suppress(KeyError, OverflowError):
            folder = os.path.realpath(pwd.getpwuid(number).pw_dir)
            found += [folder] if folder != "/" else []
    return found


def _named(arguments: argparse.Namespace, *, here: str) -> tuple[list[str], list[str]]:
    """The folders and files of --ro and --rw, each by the one path that it has. Raises CannotRun
    where one is named as both, under whatever name.
    """
    read_only = list(dict.fromkeys(_existing(path) for path in arguments.ro))
    writable = list(dict.fromkeys(_existing(path) for path in arguments.rw))
    for path in writable:
        if any(Path(path).samefile(other) for other in read_only):
            raise CannotRun(f"{path} is named by --ro and by --rw: it can be one of the two.")
    # A folder has two paths where it is mounted twice; what is said of one holds for the other.
    mounted = read_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))
    within = [*writable, *filter(None, [here])]
    read_only += [
        other
        for path in tuple(read_only)
        for other in other_paths(path, mounted, within=within)
        if other not in writable
    ]
    return list(dict.fromkeys(read_only)), writable


def _existing(path: str) -> str:
    real = os.path.realpath(path)
    if real == "/":
        raise CannotRun("the whole tree is shown by --fs ro, or by --fs host.")
    if any(f"{real}/".startswith(f"{own}/") for own in ("/proc", "/sys", "/dev")):
        raise CannotRun(f"{path} cannot be shown: /proc, /sys and /dev are the sandbox's own.")
    if real == "/run" or nearest(real, [RUN]):
        raise CannotRun(f"{path} cannot be shown: {RUN} is the sandbox's own. Name what you need below /run.")
    if not os.path.lexists(real):
        raise CannotRun(f"{path} is to be shown, and is not there.")
    return real


def _covered(config: str, gateway: str) -> list[str]:
    """What the program is not to see, or not to put something else in the place of: the config,
    what approves tools, the gateway's sockets, and what it keeps, with the files beside it that are
    of the same name.
    """
    from modelplex.config.state_folder import state_folder

    found = [config, os.path.join(os.path.dirname(config), _LOCK), gateway]
    with suppress(RuntimeError):
        found.append(str(state_folder(None, environ=os.environ)))
    for path in _remembered(config):
        # An older log (.1), a database's journal (-wal).
        found += [path, *glob.glob(f"{glob.escape(path)}[.-]*")]
    return list(dict.fromkeys(os.path.realpath(path) for path in found if os.path.lexists(path)))


def _remembered(config: str) -> list[str]:
    """The files and sockets that a config has the gateway make. A config that cannot be read is the
    gateway's to complain of.
    """
    import tomllib

    try:
        read: dict[str, Any] = tomllib.loads(Path(config).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    found: list[str] = []
    for table, name in (
        ("server", "state_folder"),
        ("server", "keep_responses"),
        ("log", "file"),
        ("mcp", "lock_file"),
    ):
        try:
            value: Any = read[table][name]
        except (LookupError, TypeError):
            continue
        if not isinstance(value, str) or (name == "keep_responses" and value == "memory"):
            continue
        # This one alone is looked for beside the config.
        found.append(os.path.join(os.path.dirname(config), value) if name == "lock_file" else value)
    return found + _sockets(read)


def _sockets(read: dict[str, Any]) -> list[str]:
    """Of the agents. The gateway's own is the one that we name."""
    agents: Any = read.get("agents")
    named: list[Any] = [agent.get("socket") for agent in agents] if _is_tables(agents) else []
    return [path for path in named if isinstance(path, str)]


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)  # pyright: ignore[reportUnknownVariableType]


def _files() -> dict[str, str]:
    """What is put into the sandbox for Python and Node, by path: they learn `unix:` addresses from
    it.
    """
    found: dict[str, str] = {}
    client = _PACKAGE / "client.py"
    if client.is_file():
        found[f"{PYTHON}/sitecustomize.py"] = Path(__file__).with_name("sitecustomize.py").read_text()
        found[f"{PYTHON}/client.py"] = client.read_text()
    client = _PACKAGE / "client.mjs"
    if client.is_file():
        found[NODE] = client.read_text()
    return found


def _ignored() -> list[int]:
    """What the shell had us ignore (nohup does), which the program ignores too. Python's own two
    are not meant.
    """
    own = {signal.SIGPIPE, signal.SIGXFSZ}
    return [int(n) for n in signal.valid_signals() - own if signal.getsignal(n) is signal.SIG_IGN]


def _terminal() -> str | None:
    for number in (0, 1, 2):
        with suppress(OSError):
            return os.ttyname(number)
    return None


def _bwrap(steps: Sequence[Mount]) -> list[str]:
    """The words that have bubblewrap build the same tree. Raises CannotRun."""
    program = shutil.which("bwrap")
    if program is None:
        raise CannotRun(
            "bubblewrap is not installed: install it (apt-get install bubblewrap), or leave --bwrap out."
        )
    # Its own first process would be open to the program, and is behind no filter: the supervisor is
    # the first.
    words = [program, "--unshare-pid", "--as-pid-1", "--die-with-parent"]
    # The one capability by which the supervisor rids itself of the rest.
    words += ["--cap-drop", "ALL", "--cap-add", "CAP_SETPCAP"]
    for kind, target, source in steps:
        match kind:
            case "ro":
                words += ["--ro-bind", source, target]
            case "rw":
                words += ["--bind", source, target]
            case "empty":
                words += ["--perms", "1777" if target in {"/tmp", "/var/tmp"} else "0755", "--tmpfs", target]  # noqa: S108
            case "link":
                words += ["--symlink", source, target]
            case "cover":
                if os.path.isdir(target):
                    words += ["--tmpfs", target, "--remount-ro", target]
                else:
                    words += ["--ro-bind", "/dev/null", target]
        if target == "/":
            words += ["--tmpfs", "/sys"]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm", "--chdir", "/"]  # noqa: S108
    if os.geteuid() == 0:
        words += ["--ro-bind", "/proc/sys", "/proc/sys"]
        for path in (f"/proc/{name}" for name in HIDDEN_OF_PROC):
            if os.path.isdir(path):
                words += ["--tmpfs", path, "--remount-ro", path]
            elif os.path.exists(path):
                words += ["--ro-bind", "/dev/null", path]
    return [*words, "--", *_interpreter("inside")]
