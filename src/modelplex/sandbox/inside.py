"""The processes of a sandbox, children of run.py:

    bridge       in the empty network namespace and the host's tree and PID namespace; forwards
                 connections to the gateway; the program can neither see nor signal it
    supervisor   PID 1 of the program's PID namespace; builds its tree, makes its `connect` calls,
                 forwards signals, reaps processes
    program      without capabilities, behind the seccomp filter

The interpreter is started with an empty environment, so that none of them holds a key. `control` is
a socket of packets to run.py:

    up    U  a user namespace is made and needs its maps    R  root runs without one
          D  the tree is built, with measure_network        E  a failure, as JSON
    down  M  the maps are written    G  start the program    S  a signal, with its number
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, NoReturn

from modelplex.confinement.system_calls import forbid_new_privileges
from modelplex.sandbox import kernel, mounts, seccomp
from modelplex.sandbox.bridge import (
    DEFAULT_LISTEN,
    Bridge,
    BridgeEndpoint,
    listen,
    loopback_port,
    parse_endpoint,
    raise_descriptor_limit,
    raise_loopback,
    report,
    shell_status,
    wakeup_on_signals,
)
from modelplex.sandbox.connects import CallSupervisor
from modelplex.sandbox.folders import OWN, SOCKET, Mount
from modelplex.sandbox.home_files import HomeFile, write_home
from modelplex.sandbox.ports import LOOPBACK

IGNORED: Final = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
"""Signals of a terminal or shell to the whole group: the program decides, the bridge and the
supervisor run until it has ended.
"""
MAX_REPORTS: Final = 1000
"""Of the bridge in one run. Each is some hundred bytes on the host's disk, and the program can
cause any number.
"""
KILLED: Final = 128 + signal.SIGKILL


class SandboxPlan(NamedTuple):
    """From plan.py, as JSON."""

    command: list[str]
    environ: dict[str, str]
    folder: str
    """The working folder."""
    gateway: str
    root: str
    mounts: list[Mount]
    files: dict[str, str]
    """Text files to create, by path."""
    home: str
    home_files: list[HomeFile]
    netlink: bool
    is_root: bool
    terminal: str | None
    ignored: list[int]
    """Signals."""
    bwrap: list[str] | None
    cgroup: int
    """The open file by which the program enters its control group, or -1."""
    rlimits: dict[str, int]
    affinity: list[int]
    """CPUs; empty for all."""
    published: list[tuple[int, int]]
    """Listening sockets of the host, and the ports inside to which their connections go."""
    allowed: list[tuple[int, str]]
    """Ports inside, and the Unix sockets of the host to which their connections go."""


def main(arguments: Sequence[str]) -> int:
    """`arguments`: "bridge" or "supervisor", and numbers of inherited descriptors. Returns the
    program's status.
    """
    stage, *numbers = arguments
    descriptors = [int(number) for number in numbers]
    control = socket.socket(fileno=descriptors[0])
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        plan = _read_plan(descriptors[1])
        if stage == "bridge":
            return _bridge(plan, control, descriptors[1], descriptors[2])
        return _supervisor(plan, control, socket.socket(fileno=descriptors[2]), _own_devices(plan))
    except OSError as fault:
        _send_failure(control, fault)
        return 1


def _read_plan(number: int) -> SandboxPlan:
    with open(os.dup(number), encoding="utf-8") as file:  # noqa: PTH123
        file.seek(0)
        data: dict[str, Any] = json.load(file)
    steps, files = [Mount(*step) for step in data["mounts"]], [HomeFile(*file) for file in data["home_files"]]
    return SandboxPlan(**data)._replace(mounts=steps, home_files=files)


def _send_failure(control: socket.socket, fault: OSError) -> None:
    packet = {"errno": fault.errno, "text": fault.strerror, "call": str(fault.filename or "")}
    with suppress(OSError):
        control.send(b"E" + json.dumps(packet).encode())


# --- bridge ---


def _bridge(plan: SandboxPlan, control: socket.socket, plan_number: int, log: int) -> int:
    _make_namespaces(plan, control)
    kernel.die_with_parent(signal.SIGKILL)
    for ignored in IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    with suppress(OSError):
        raise_loopback()
    listener = listen(parse_endpoint(DEFAULT_LISTEN))
    allowed = [
        (listen(BridgeEndpoint(socket.AF_INET, (LOOPBACK, port))), BridgeEndpoint(socket.AF_UNIX, path))
        for port, path in plan.allowed
    ]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        for each in (listener, ours, *(each for each, _ in allowed)):
            each.close()
        for number in (log, *(number for number, _ in plan.published)):
            os.close(number)
        os._exit(_start_supervisor(plan, control, theirs, plan_number))
    theirs.close()
    control.close()
    os.close(plan_number)
    _close_group(plan)
    woken = wakeup_on_signals()
    kernel.drop_capabilities()
    kernel.make_undumpable()
    kernel.die_with_parent(signal.SIGKILL)  # dropping capabilities resets it
    null = os.open(os.devnull, os.O_RDWR)
    for number, source in ((0, null), (1, null), (2, log)):
        os.dup2(source, number)
    raise_descriptor_limit()
    bridge = Bridge(GatewaySocket(plan.gateway), [listener], report=LimitedReports())
    for each, target in allowed:
        bridge.add(each, target)
    for number, port in plan.published:
        bridge.add(socket.socket(fileno=number), loopback_port(port))
    inner = _receive_descriptor(ours)
    if inner is not None:
        bridge.add(socket.socket(fileno=inner))
    statuses: list[int] = []

    def is_over() -> bool:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            statuses.append(_exit_status(status))
        return bool(statuses)

    bridge.run(woken, is_over)
    return statuses[0]


class GatewaySocket(BridgeEndpoint):
    """The gateway's socket, opened again for each connection, since the gateway may be restarted.
    Without following links: in a shared folder the program could replace it with a link to any
    socket of the host.
    """

    def __init__(self, path: str) -> None:
        self.family = socket.AF_UNIX
        self._path = path
        self._found = -1

    def __str__(self) -> str:
        return self._path

    @property
    def address(self) -> str:  # type: ignore[override]
        """Valid until the next call."""
        if self._found >= 0:
            os.close(self._found)
            self._found = -1
        with suppress(OSError):
            self._found = kernel.open_without_links(self._path)
        return f"/proc/self/fd/{self._found}"


class LimitedReports:
    """Prints the first MAX_REPORTS failed connections."""

    def __init__(self) -> None:
        self._left = MAX_REPORTS

    def __call__(self, sentence: str) -> None:
        if self._left > 0:
            self._left -= 1
            report(sentence if self._left else f"{sentence}; further failures are not reported")


def _make_namespaces(plan: SandboxPlan, control: socket.socket) -> None:
    flags = kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWPID
    try:
        kernel.unshare(flags | kernel.CLONE_NEWUSER)
    except OSError:
        if not plan.is_root:
            raise
        kernel.unshare(flags)
        control.send(b"R")
    else:
        control.send(b"U")
    if control.recv(1) != b"M":
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), "uid_map")


def _exit_status(status: int) -> int:
    return shell_status(os.waitstatus_to_exitcode(status))


# --- supervisor ---


def _start_supervisor(
    plan: SandboxPlan, control: socket.socket, parent: socket.socket, plan_number: int
) -> int:
    """PID 1 of the new namespace. `parent` is a socket to the bridge."""
    try:
        kernel.die_with_parent(signal.SIGKILL)
        kernel.unshare(kernel.CLONE_NEWNS)
        mounts.protect_streams(os.path.dirname(plan.root))  # noqa: PTH120
        if plan.bwrap is not None:
            _exec_bwrap(plan, control, parent, plan_number)
        own = mounts.enter(plan.root, plan.mounts, is_root=plan.is_root, terminal=plan.terminal)
        return _supervisor(plan, control, parent, own)
    except OSError as fault:
        _send_failure(control, fault)
        return 1


def _exec_bwrap(
    plan: SandboxPlan, control: socket.socket, parent: socket.socket, plan_number: int
) -> NoReturn:
    """Bubblewrap builds the tree, and starts the supervisor in it."""
    assert plan.bwrap is not None
    for number in (control.fileno(), parent.fileno(), plan_number, plan.cgroup):
        if number >= 0:
            os.set_inheritable(number, True)
    argv = [*plan.bwrap, "supervisor", *map(str, (control.fileno(), plan_number, parent.fileno()))]
    os.execve(argv[0], argv, {})  # noqa: S606 - no shell is wanted


def _own_devices(plan: SandboxPlan) -> frozenset[int]:
    """The sandbox's own file systems in a tree of bubblewrap's, without those under a mount."""
    shared = {step.target for step in plan.mounts if step.kind in {"ro", "rw"}}
    empty = {step.target for step in plan.mounts if step.kind == "empty"} | set(OWN)
    return frozenset(os.stat(path).st_dev for path in empty - shared)  # noqa: PTH116


def _supervisor(plan: SandboxPlan, control: socket.socket, parent: socket.socket, own: frozenset[int]) -> int:
    _write_files(plan.files)
    write_home(plan.home, plan.home_files)
    listener = listen(BridgeEndpoint(socket.AF_UNIX, SOCKET))
    socket.send_fds(parent, [b"L"], [listener.fileno()])
    listener.close()
    for ignored in IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    kernel.drop_capabilities(keep=(kernel.CAP_SYS_PTRACE, kernel.CAP_NET_ADMIN))
    kernel.make_undumpable()
    kernel.die_with_parent(signal.SIGKILL)
    woken = wakeup_on_signals()
    control.send(b"D" + json.dumps(measure_network()).encode())
    if control.recv(1) != b"G":
        return 1
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        _program(plan, theirs)
    theirs.close()
    _close_group(plan)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    return _supervise(child, control, woken, _receive_descriptor(ours), own)


def measure_network() -> dict[str, Any]:
    """The interfaces of this process's network namespace, how many routes do not end at `lo`, and
    the number of the namespace. Raises OSError.
    """
    return {
        "interfaces": [name for _, name in socket.if_nameindex()],
        "routes": sum(map(_routes_out, ("route", "ipv6_route"))),
        "namespace": os.stat("/proc/self/ns/net").st_ino,  # noqa: PTH116
    }


def _routes_out(name: str) -> int:
    """Rows of a table of routes in /proc/net whose interface is not `lo`."""
    try:
        with open(f"/proc/self/net/{name}", encoding="ascii") as file:  # noqa: PTH123
            rows = [row.split() for row in file]
    except FileNotFoundError:  # a kernel without IPv6
        return 0
    if name == "route":
        return sum(1 for row in rows[1:] if row[0] != "lo")
    return sum(1 for row in rows if row[-1] != "lo")


def _close_group(plan: SandboxPlan) -> None:
    if plan.cgroup >= 0:
        os.close(plan.cgroup)


def _write_files(files: dict[str, str]) -> None:
    os.makedirs(os.path.dirname(SOCKET), exist_ok=True)  # noqa: PTH103, PTH120
    for path, text in files.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)


def _receive_descriptor(child: socket.socket) -> int | None:
    """None where the other process ended before it sent one."""
    _, numbers, _, _ = socket.recv_fds(child, 1, 1)
    return numbers[0] if numbers else None


def _supervise(
    child: int, control: socket.socket, woken: socket.socket, notify: int | None, own: frozenset[int]
) -> int:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(woken, select.POLLIN)
    if notify is not None:
        CallSupervisor(notify, own).start()
    while True:
        for number, _ in poll.poll():
            if number == control.fileno():
                packet = control.recv(2)
                if len(packet) < 2:
                    return KILLED  # run.py has ended, and so does the sandbox
                with suppress(ProcessLookupError):
                    os.kill(child, packet[1])
            else:
                with suppress(BlockingIOError):
                    while woken.recv(4096):
                        pass
        status = _reap(child)
        if status is not None:
            return status


def _reap(child: int) -> int | None:
    """Reap ended processes. Returns the child's status once it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = _exit_status(status)


# --- program ---


def _program(plan: SandboxPlan, supervisor: socket.socket) -> NoReturn:
    status = 126
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if number in {signal.SIGKILL, signal.SIGSTOP}:
                continue
            with suppress(OSError):
                signal.signal(number, signal.SIG_IGN if number in plan.ignored else signal.SIG_DFL)
        forbid_new_privileges()
        _limit(plan)
        kernel.drop_capabilities()
        _change_folder(plan.folder)
        listener = seccomp.install(
            seccomp.program(seccomp.machine(), netlink=plan.netlink, users=not plan.is_root)
        )
        socket.send_fds(supervisor, [b"L"], [listener])
        kernel.close_from(3)
        os.execvpe(plan.command[0], plan.command, plan.environ)  # noqa: S606
    except FileNotFoundError:
        status = 127
        _print_error(f"there is no program {plan.command[0]} inside the sandbox (--ro PATH mounts a folder)")
    except OSError as fault:
        _print_error(f"cannot run {plan.command[0]}: {fault.strerror}")
    finally:
        os._exit(status)


def _limit(plan: SandboxPlan) -> None:
    import resource

    if plan.cgroup >= 0:
        os.write(plan.cgroup, b"0")  # this process
    if plan.affinity:
        os.sched_setaffinity(0, plan.affinity)
    for name, value in plan.rlimits.items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (lowest, lowest))


def _change_folder(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as fault:
        _print_error(f"cannot start in {folder}: {fault.strerror}")
        os._exit(126)


def _print_error(sentence: str) -> None:
    with suppress(OSError):
        os.write(2, f"modelplex run: {sentence}\n".encode(errors="replace"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
