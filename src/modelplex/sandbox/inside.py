"""The processes of a sandbox, below the one that the user started:

    bridge       in the empty network namespace, in the host's tree and process list; carries
                 connections to the gateway; the program can neither see nor signal it
    supervisor   the first process of the program's own process list; builds its tree, answers its
                 `connect`, passes signals on, collects what has ended
    program      without capabilities, behind the filter

All three begin in an interpreter that was started with an empty environment, so that none holds a
key. `control` is a socket of packets to the process above:

    up    U  a user namespace is made, and its maps are asked for       R  there is none, and root
          does without
          D  the tree is built                                          E  something failed: JSON
             follows
    down  M  the maps are written      G  go      S  a signal: its number follows
"""

from __future__ import annotations

import array
import errno
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

from modelplex.sandbox import kernel, mounts, seccomp
from modelplex.sandbox.bridge import (
    Bridge,
    BridgeEndpoint,
    complain,
    listen,
    place,
    raise_descriptors,
    raise_loopback,
)
from modelplex.sandbox.connects import Connects
from modelplex.sandbox.folders import OWN, SOCKET, Mount

LISTEN: Final = "127.0.0.1:11435"
IGNORED: Final = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
"""What a terminal or a shell sends to the whole group: the program decides what it means, these two
go on until it has ended.
"""
MOST_COMPLAINTS: Final = 1000
"""Of the bridge in one run: each is some hundred bytes on the host's disk, and a program can make
as many as it likes.
"""
KILLED: Final = 128 + signal.SIGKILL


class SandboxPlan:
    """What run.py has decided, as it is read from JSON."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.command: list[str] = data["command"]
        self.environ: dict[str, str] = data["environ"]
        self.folder: str = data["folder"]
        self.gateway: str = data["gateway"]
        self.root: str = data["root"]
        self.mounts = [Mount(*step) for step in data["mounts"]]
        self.files: dict[str, str] = data["files"]
        self.netlink: bool = data["netlink"]
        self.is_root: bool = data["is_root"]
        self.terminal: str | None = data["terminal"]
        self.bwrap: list[str] | None = data["bwrap"]
        self.ignored: list[int] = data["ignored"]


def main(words: Sequence[str]) -> int:
    """`words`: which process, and the numbers of the descriptors that it was given. Returns the
    program's status.
    """
    stage, *numbers = words
    descriptors = [int(number) for number in numbers]
    control = socket.socket(fileno=descriptors[0])
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        if stage == "bridge":
            return _bridge(_plan(descriptors[1]), control, descriptors[1], descriptors[2])
        plan = _plan(descriptors[1])
        return _supervisor(plan, control, socket.socket(fileno=descriptors[2]), _devices_of(plan))
    except OSError as fault:
        _fail(control, fault)
        return 1


def _plan(number: int) -> SandboxPlan:
    with open(os.dup(number), encoding="utf-8") as file:  # noqa: PTH123
        file.seek(0)
        return SandboxPlan(json.load(file))


def _fail(control: socket.socket, fault: OSError) -> None:
    told = {"errno": fault.errno, "text": fault.strerror, "call": str(fault.filename or "")}
    with suppress(OSError):
        control.send(b"E" + json.dumps(told).encode())


# --- bridge ---


def _bridge(plan: SandboxPlan, control: socket.socket, plan_number: int, log: int) -> int:
    _namespaces(plan, control)
    kernel.die_with_parent(signal.SIGKILL)
    for ignored in IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    with suppress(OSError):
        raise_loopback()
    listener = listen(place(LISTEN))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        listener.close()
        ours.close()
        os.close(log)
        os._exit(_first(plan, control, theirs, plan_number))
    theirs.close()
    control.close()
    os.close(plan_number)
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    kernel.drop_capabilities()
    kernel.be_unreadable()
    kernel.die_with_parent(signal.SIGKILL)  # a change of capabilities forgets it
    null = os.open(os.devnull, os.O_RDWR)
    for number, source in ((0, null), (1, null), (2, log)):
        os.dup2(source, number)
    raise_descriptors()
    bridge = Bridge(GatewaySocket(plan.gateway), [listener], tell=Complaints())
    inner = _received(ours)
    if inner is not None:
        bridge.add(socket.socket(fileno=inner))
    ended: list[int] = []

    def over() -> bool:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            ended.append(_exit_status(status))
        return bool(ended)

    bridge.run(woken, over)
    return ended[0]


class GatewaySocket(BridgeEndpoint):
    """The gateway's socket, looked for anew each time, since it may have been started again. Where
    its folder is shared, the program could put a link in its place, and the bridge, which is
    outside, would follow it to any socket of the host's.
    """

    def __init__(self, path: str) -> None:
        self.family = socket.AF_UNIX
        self._path = path
        self._found = -1

    def __str__(self) -> str:
        return self._path

    @property
    def address(self) -> str:  # type: ignore[override]
        """Good until it is asked for again."""
        if self._found >= 0:
            os.close(self._found)
            self._found = -1
        with suppress(OSError):
            self._found = kernel.open_place(self._path)
        return f"/proc/self/fd/{self._found}"


class Complaints:
    """What the bridge says of connections that fail, up to a bound."""

    def __init__(self) -> None:
        self._left = MOST_COMPLAINTS

    def __call__(self, sentence: str) -> None:
        if self._left > 0:
            self._left -= 1
            complain(sentence if self._left else f"{sentence}; no more is said of such")


def _namespaces(plan: SandboxPlan, control: socket.socket) -> None:
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
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


# --- supervisor ---


def _first(plan: SandboxPlan, control: socket.socket, hand: socket.socket, plan_number: int) -> int:
    """The first process of the new process list."""
    try:
        kernel.die_with_parent(signal.SIGKILL)
        kernel.unshare(kernel.CLONE_NEWNS)
        mounts.hold_streams(os.path.dirname(plan.root))  # noqa: PTH120
        if plan.bwrap is not None:
            _through_bwrap(plan, control, hand, plan_number)
        own = mounts.enter(plan.root, plan.mounts, is_root=plan.is_root, terminal=plan.terminal)
        return _supervisor(plan, control, hand, own)
    except OSError as fault:
        _fail(control, fault)
        return 1


def _through_bwrap(
    plan: SandboxPlan, control: socket.socket, hand: socket.socket, plan_number: int
) -> NoReturn:
    """Bubblewrap builds the tree, and starts the supervisor in it."""
    assert plan.bwrap is not None
    for number in (control.fileno(), hand.fileno(), plan_number):
        os.set_inheritable(number, True)
    words = [*plan.bwrap, "supervisor", *map(str, (control.fileno(), plan_number, hand.fileno()))]
    os.execve(words[0], words, {})  # noqa: S606 - no shell is wanted


def _devices_of(plan: SandboxPlan) -> frozenset[int]:
    """Of a tree that bubblewrap built: the file systems at the places that are its own, unless
    something was put over them.
    """
    shared = {step.target for step in plan.mounts if step.kind in {"ro", "rw"}}
    empty = {step.target for step in plan.mounts if step.kind == "empty"} | set(OWN)
    return frozenset(os.stat(path).st_dev for path in empty - shared)  # noqa: PTH116


def _supervisor(plan: SandboxPlan, control: socket.socket, hand: socket.socket, own: frozenset[int]) -> int:
    _write(plan.files)
    listener = listen(BridgeEndpoint(socket.AF_UNIX, SOCKET))
    socket.send_fds(hand, [b"L"], [listener.fileno()])
    listener.close()
    for ignored in IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    kernel.drop_capabilities(keep=(kernel.CAP_SYS_PTRACE,))
    kernel.be_unreadable()
    kernel.die_with_parent(signal.SIGKILL)
    woken, wakes = socket.socketpair()
    woken.setblocking(False)
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    control.send(b"D")
    if control.recv(1) != b"G":
        return 1
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        _program(plan, theirs)
    theirs.close()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    asked = _received(ours)
    return _supervise(child, control, woken, asked, own)


def _write(files: dict[str, str]) -> None:
    os.makedirs(os.path.dirname(SOCKET), exist_ok=True)  # noqa: PTH103, PTH120
    for path, text in files.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)


def _received(hand: socket.socket) -> int | None:
    """The descriptor that the other process sent; None where it ended before."""
    data, ancillary, _, _ = hand.recvmsg(1, socket.CMSG_LEN(4))
    if not data:
        return None
    numbers = array.array("i")
    for _, _, piece in ancillary:
        numbers.frombytes(piece[: len(piece) - len(piece) % numbers.itemsize])
    return numbers[0] if numbers else None


def _supervise(
    child: int, control: socket.socket, woken: socket.socket, asked: int | None, own: frozenset[int]
) -> int:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(woken, select.POLLIN)
    connects = None
    if asked is not None:
        connects = Connects(asked, own)
        poll.register(asked, select.POLLIN)
    while True:
        for number, event in poll.poll():
            if asked is not None and connects is not None and number == asked:
                if event & select.POLLIN:
                    connects.serve_one()
                else:
                    poll.unregister(asked)  # nobody is left who could ask
            elif number == control.fileno():
                packet = control.recv(2)
                if len(packet) < 2:
                    return KILLED  # who started us is gone, and takes all of this along
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
    """Collect whatever has ended; the child's status once it is among them."""
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


def _program(plan: SandboxPlan, hand: socket.socket) -> NoReturn:
    status = 126
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if number in {signal.SIGKILL, signal.SIGSTOP}:
                continue
            with suppress(OSError):
                signal.signal(number, signal.SIG_IGN if number in plan.ignored else signal.SIG_DFL)
        kernel.forbid_new_privileges()
        kernel.drop_capabilities()
        _enter(plan.folder)
        listener = seccomp.install(
            seccomp.program(seccomp.machine(), netlink=plan.netlink, users=not plan.is_root)
        )
        socket.send_fds(hand, [b"L"], [listener])
        kernel.close_from(3)
        os.execvpe(plan.command[0], plan.command, plan.environ)  # noqa: S606
    except FileNotFoundError:
        status = 127
        _say(f"there is no {plan.command[0]} inside the sandbox (--ro PATH shows a folder)")
    except OSError as fault:
        _say(f"cannot run {plan.command[0]}: {fault.strerror}")
    finally:
        os._exit(status)


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as fault:
        _say(f"cannot start in {folder}: {fault.strerror}")
        os._exit(126)


def _say(sentence: str) -> None:
    with suppress(OSError):
        os.write(2, f"modelplex run: {sentence}\n".encode(errors="replace"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
