"""`modelplex run`: starts a gateway and a sandbox around a program, forwards signals, and returns
the program's status.

This process stays on the host with the user's environment. It gives the sandbox only what
folders.py and environment.py list.
"""

# Paths that may be links are text.
# ruff: noqa: PTH123
from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from modelplex.config.run_sockets import is_listening
from modelplex.core.trace_context import span_id_of, trace_id_of, traceparent
from modelplex.sandbox import seccomp
from modelplex.sandbox.agent import choose_agent
from modelplex.sandbox.agent_home import AgentHome
from modelplex.sandbox.arguments import CONFIG
from modelplex.sandbox.bridge import command_of, in_foreground, shell_status
from modelplex.sandbox.errors import CannotRun, WrongArguments
from modelplex.sandbox.folders import SOCKET
from modelplex.sandbox.limits import GRACE_S, TIME_STATUS, duration_text
from modelplex.sandbox.package_mirror import lock_files, package_mirror, package_options, with_mirror
from modelplex.sandbox.plan import (
    LOCK,
    START,
    build_plan,
    files_of_config,
    home_of_user,
    interpreter_command,
    print_error,
    working_folder,
)
from modelplex.sandbox.preset_run import (
    PresetRun,
    choose_preset,
    map_found_models,
    model_from_config,
    release_line,
    takes_telemetry,
)
from modelplex.sandbox.profile import apply_profiles
from modelplex.sandbox.protection import file_state
from modelplex.sandbox.provided import Provided, provided
from modelplex.sandbox.recording import Recording, is_tag, sandbox_facts
from modelplex.sandbox.replayed import open_target, read_plan, recording_to
from modelplex.sandbox.run_gateway import RunGateway, config_path, gateway_of_run
from modelplex.sandbox.streams import check_streams

if TYPE_CHECKING:
    from modelplex.packages.plan import MirrorPlan

WRONG: Final = 2
PREFIX: Final = "modelplex-run-"
LOCK_FILE: Final = "held"
"""In the private folder of a run, locked while the run lives."""
MIN_AGE_S: Final = 60.0
"""Of a private folder: a younger one may not have its lock yet."""
FORWARDED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)
TRUSTED_FILES: Final = (CONFIG, LOCK)
"""Files of the working folder that a gateway reads at its next start."""
SI_KERNEL: Final = 0x80
"""si_code of a terminal's signals, which the whole group has received, the program included."""
OTHER_SYSTEM: Final = (
    "modelplex run needs Linux, for its namespaces: on macOS and Windows run the agent in a container or a VM without a network and give it the gateway's socket,"
    " or use Linux in WSL2: docs/how-to/other-systems.md."
)
SETTINGS: Final = {
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "user.max_user_namespaces": ("0", "15000"),
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
}
"""Kernel settings that may forbid user namespaces: the value that does, and one that does not."""


SENDS_TELEMETRY: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACEPARENT: Final = "TRACEPARENT"
"""The variable by which a program goes on with a trace, here below the span of the run:
https://opentelemetry.io/docs/specs/otel/context/env-carriers/ (2026-12-01).
"""


def run(arguments: argparse.Namespace) -> int:
    """Returns the program's status, 128 plus the number of the signal that ended it, 126 and 127 as
    a shell does, 2 where the arguments are wrong. Raises CannotRun.
    """
    from modelplex.config import ConfigError

    try:
        replay = read_plan(arguments, config_path(arguments))
        preset = choose_preset(arguments)
        command = _command(arguments)
        _check_system()
        apply_profiles(arguments, report=print_error)
        agent = choose_agent(arguments, config_path(arguments))
        if replay is not None and agent is not None:
            agent = agent._replace(socket=None)  # a gateway of its own, with the agent's limits
        target = open_target(arguments, agent, config_path(arguments))
        packages = package_options(arguments)
    except WrongArguments as fault:
        print_error(fault.sentence)
        return WRONG
    except ConfigError as fault:
        raise CannotRun(f"the gateway did not start, since the config is wrong: {fault.sentence}") from None
    before = {name: file_state(name) for name in (*TRUSTED_FILES, *lock_files(packages))}
    agent_home: AgentHome | None = None
    if preset is not None:
        command, agent_home = _prepare_preset(preset, arguments)
    recording = Recording(arguments, command, agent, config_path(arguments))
    if agent_home is not None and SENDS_TELEMETRY in agent_home.environ:
        agent_home.environ[TRACEPARENT] = traceparent(trace_id_of(recording.id), span_id_of(recording.id))
    with (
        recording_to(target, recording.id, config_path(arguments)),
        _private_folder() as private,
        _log(private, verbose=arguments.verbose) as log,
        provided(arguments, private, log) as found,
    ):
        if preset is not None and config_path(arguments) is None and arguments.socket is None and not replay:
            arguments.config = _map_models(preset, private)
        gateway = gateway_of_run(arguments, agent, private, log, recording=recording)
        mirrored = package_mirror(arguments, packages, private, log, environ=recording.environ)
        with gateway as running, mirrored as mirror:
            status = _run(
                arguments, command, private, log, gateway=running, found=found, home=agent_home, mirror=mirror
            )
    running.notices.show_held()
    recording.print_summary(running.ended, is_attached=running.link is not None)
    for name in dict.fromkeys([*before, *lock_files(packages)]):
        state = before.get(name)
        if (now := file_state(name)) is not None and now != state:
            what = "the program made" if state is None else "while the program ran, something changed"
            print_error(f"{what} {name} here, which the next start would trust: look at it first")
    return status


def _prepare_preset(preset: PresetRun, arguments: argparse.Namespace) -> tuple[list[str], AgentHome]:
    if (line := release_line(preset)) is not None:
        print_error(line)
    model: str | None = arguments.model
    file = config_path(arguments)
    if model is None and file is not None and arguments.socket is None:
        mapped = model_from_config(preset, file, agent=arguments.agent)
        if mapped is not None:
            model, line = mapped
            print_error(line)
    return preset.prepare(
        home=home_of_user(),
        folder=working_folder(),
        model=model,
        has_instructions=arguments.instructions,
        sends_telemetry=file is not None and bool(preset.preset.telemetry) and takes_telemetry(file),
    )


def _map_models(preset: PresetRun, private: Path) -> str | None:
    """The config of a run without one."""
    if (mapped := map_found_models(preset, private)) is None:
        return None
    file, line = mapped
    print_error(line)
    return str(file)


def _command(arguments: argparse.Namespace) -> list[str]:
    command = command_of(arguments.command_line)
    if arguments.check:
        command = [sys.executable, "-I", "-S", "-c", START.format(module="check")]
    if not command:
        raise WrongArguments("it needs a program: modelplex run -- COMMAND")
    if wrong := [tag for tag in arguments.tag if not is_tag(tag)]:
        raise WrongArguments(f'--tag needs a name and a value: --tag pr=12, and not "{wrong[0]}"')
    if arguments.budget is not None and arguments.socket is not None:
        raise WrongArguments(
            "--socket names a gateway's socket, which decides the budget: leave out --budget."
        )
    if arguments.seed is not None and arguments.socket is not None:
        raise WrongArguments("--socket names a gateway's socket, which decides the seed: leave out --seed.")
    if any(variable.startswith("=") for variable in arguments.env):
        raise WrongArguments("--env needs a variable's name: --env NAME, or --env NAME=VALUE")
    return command


def _check_system() -> None:
    """Raises CannotRun where no sandbox can be made here."""
    if not sys.platform.startswith("linux"):
        raise CannotRun(OTHER_SYSTEM)
    seccomp.machine()
    if os.environ.get("MODELPLEX_SOCKET") == SOCKET and is_listening(SOCKET):
        raise CannotRun(
            "this is inside modelplex run already, and a second sandbox in it would have no supervisor: start the program itself, which reaches the same gateway."
        )
    check_streams()
    working_folder()


@contextmanager
def _private_folder() -> Generator[Path]:
    base = "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else tempfile.gettempdir()  # noqa: S108 - mkdtemp makes it 0700
    _remove_abandoned(base)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    lock = os.open(folder / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_abandoned(base: str) -> None:
    """Remove the private folders of this user's killed runs, whose lock is free."""
    for folder in Path(base).glob(PREFIX + "*"):
        try:
            facts = folder.lstat()
            if facts.st_uid != os.geteuid() or time.time() - facts.st_mtime < MIN_AGE_S:
                continue
            lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextmanager
def _log(private: Path, *, verbose: bool) -> Generator[IO[bytes]]:
    """The output of the gateway and the bridge: a private file, so that the terminal is the
    program's, or stderr.
    """
    with open(os.dup(2) if verbose else private / "log", "wb", buffering=0) as file:
        yield file


# --- the sandbox ---


def _run(
    arguments: argparse.Namespace,
    command: list[str],
    private: Path,
    log: IO[bytes],
    *,
    gateway: RunGateway,
    found: Provided,
    home: AgentHome | None,
    mirror: MirrorPlan | None,
) -> int:
    if files_of_config(os.path.realpath(arguments.config or CONFIG)):
        gateway.wait_until_listening()  # the files to be masked exist only then
    plan = build_plan(
        arguments,
        command,
        private,
        gateway.path,
        protected=found.protected,
        limits=found.limits,
        ports=found.ports,
        agent_home=home,
    )
    plan = with_mirror(plan, mirror, private)
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memory = os.memfd_create("modelplex-plan")
    try:
        os.write(memory, json.dumps(plan._asdict()).encode())
        numbers = [theirs.fileno(), memory, log.fileno()]
        argv = [*interpreter_command("inside"), "bridge", *map(str, numbers)]
        popen = subprocess.Popen(  # noqa: S603 - our own program
            [*found.limits.prefix, *argv],
            env=_environ_of_systemd() if found.limits.prefix else {},
            pass_fds=[*numbers, *found.descriptors],
        )
    finally:
        theirs.close()
        os.close(memory)
    with control:
        try:
            measured = _prepare(control, popen)
            gateway.wait_until_listening()
            if gateway.link is not None:
                gateway.link.report(sandbox_facts(measured, arguments))
            return _forward_signals(control, popen, gateway, limit_s=arguments.time)
        except BaseException:
            popen.kill()
            popen.wait()
            raise


def _prepare(control: socket.socket, popen: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Answer the sandbox while it is built: see inside.py. Returns what it measured. Raises
    CannotRun.
    """
    while not (packet := control.recv(65536)).startswith(b"D"):
        match packet[:1]:
            case b"U":
                _write_maps(popen.pid)
                control.send(b"M")
            case b"R":
                control.send(b"M")
            case b"E":
                raise CannotRun(_explain(json.loads(packet[1:])))
            case _:
                raise CannotRun(f"the sandbox ended while it was built (status {popen.wait()}).")
    measured: dict[str, Any] = json.loads(packet[1:])
    return measured


def _write_maps(pid: int) -> None:
    """Map ids to themselves: for root all that it has, for another user its own."""
    uid, gid = os.geteuid(), os.getegid()
    folder = Path("/proc", str(pid))
    if uid == 0:
        for name in ("uid_map", "gid_map"):
            rows = [row.split() for row in Path("/proc/self", name).read_text().splitlines()]
            try:
                (folder / name).write_text("".join(f"{row[0]} {row[0]} {row[2]}\n" for row in rows))
            except PermissionError:
                break  # root of a container, without the capability
        else:
            return
    with suppress(FileNotFoundError):
        (folder / "setgroups").write_text("deny")
    for name, number in (("uid_map", uid), ("gid_map", gid)):
        try:
            (folder / name).write_text(f"{number} {number} 1\n")
        except OSError as fault:
            raise CannotRun(_explain({"errno": fault.errno, "text": fault.strerror, "call": name})) from None


def _explain(fault: dict[str, Any]) -> str:
    """What the kernel refused, and which of its settings may be the reason."""
    sentence = f"the kernel does not allow a sandbox here: {fault['call'] or 'unshare'}: {fault['text']}."
    hints: list[str] = []
    for name, (forbids, allows) in SETTINGS.items():
        with suppress(OSError):
            if Path("/proc/sys", name.replace(".", "/")).read_text().strip() == forbids:
                hints.append(f"{name} is {forbids} (sysctl -w {name}={allows} allows it)")
    if hints:
        return f"{sentence} {'; '.join(hints)}."
    release = ".".join(os.uname().release.split(".")[:2])
    return (
        f"{sentence} It needs user, network, IPC, mount and PID namespaces (Linux 5.12 or newer, here {release}); the seccomp filter of a container"
        f" may forbid them, and so may {', '.join(SETTINGS)}."
    )


def _environ_of_systemd() -> dict[str, str]:
    names = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
    return {name: os.environ[name] for name in names if name in os.environ}


def _forward_signals(
    control: socket.socket, popen: subprocess.Popen[bytes], gateway: RunGateway, *, limit_s: float | None
) -> int:
    """Start the program, and wait for its end, which `limit_s` brings about."""
    terminal = 0 if os.isatty(0) and in_foreground() else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*FORWARDED, signal.SIGCHLD, signal.SIGIO})
    reported = False
    try:
        control.send(b"G")
        timer = TimeLimit(limit_s)
        gateway.signal_with(signal.SIGIO)
        while popen.poll() is None:
            found = timer.wait({*FORWARDED, signal.SIGCHLD, signal.SIGIO})
            if found is None:
                timer.end(control, popen)
            elif found.si_signo == signal.SIGIO:
                gateway.read()
            elif found.si_signo == signal.SIGCHLD:
                if not reported and gateway.status is not None:
                    reported = True
                    print_error(
                        f"the gateway has ended (status {gateway.status}); its log: {gateway.save_log()}"
                    )
            elif found.si_code != SI_KERNEL or _is_for_leader(found.si_signo):
                with suppress(OSError):
                    control.send(b"S" + bytes([found.si_signo]))
        if terminal is not None:
            _take_foreground(terminal)
    finally:
        gateway.no_signals()
        signal.sigtimedwait({signal.SIGIO}, 0)  # its default would end this process
        # What follows is short and its status is the program's, also while the interpreter ends.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return TIME_STATUS if timer.is_over else shell_status(popen.returncode)


class TimeLimit:
    """Waits for signals until a time, if there is a limit."""

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s = limit_s
        self._deadline = None if limit_s is None else time.monotonic() + limit_s
        self.is_over = False

    def wait(self, signals: set[signal.Signals]) -> signal.struct_siginfo | None:
        """None at the end of the time."""
        if self._deadline is None:
            return signal.sigwaitinfo(signals)
        return signal.sigtimedwait(signals, max(0.0, self._deadline - time.monotonic()))

    def end(self, control: socket.socket, popen: subprocess.Popen[bytes]) -> None:
        """Ask the program to end, and at the second call end the sandbox."""
        if self.is_over:
            self._deadline = None
            popen.kill()
            return
        self.is_over = True
        self._deadline = time.monotonic() + GRACE_S
        print_error(
            f"the time limit of {duration_text(self._limit_s or 0)} was reached: the program is ended"
        )
        with suppress(OSError):
            control.send(b"S" + bytes([signal.SIGTERM]))


def _is_for_leader(number: int) -> bool:
    """A terminal that hangs up signals only the session's leader, which this process may be."""
    return number == signal.SIGHUP and os.getsid(0) == os.getpid()


def _take_foreground(terminal: int) -> None:
    """A shell in the sandbox may have made itself the terminal's foreground group."""
    ignored = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with suppress(OSError):
        os.tcsetpgrp(terminal, os.getpgrp())
    signal.signal(signal.SIGTTOU, ignored)
