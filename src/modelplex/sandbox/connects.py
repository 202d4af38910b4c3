"""The supervisor's side of some system calls, which seccomp sends it, since a filter cannot decide
them.

`connect`     A Unix socket in a folder of the sandbox's own, such as its /tmp, is connected, and
              one on which a program of the sandbox listens, in a shared folder too. Another one in
              a shared folder is the host's, and is refused. Other connections, abstract names
              included, are limited by the network namespace, which is empty.
`listen`      The file of a Unix socket is noted as the sandbox's own, and the call goes on.
`socket`      of routing netlink: the supervisor makes one, for reading only.
`kill`        of the process group in which `modelplex run` was started: the supervisor signals its
              processes that are in the sandbox.
`socketpair`  of datagrams: the supervisor makes one of SOCK_SEQPACKET, which sends nowhere else.

Nothing that the caller can still change is trusted: its address is copied once, its descriptor is
duplicated, and a path is opened, checked and connected to by the same open file. The kernel itself
says which file a listening socket is bound to, and while that file is held open no other gets its
number.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import stat
import struct
import sys
import threading
from contextlib import suppress
from typing import Final, TypeAlias

from modelplex.sandbox import kernel, seccomp

RECEIVE, SEND, ID_VALID, ADD_DESCRIPTOR, SET_FLAGS = (
    *(0xC050_2100, 0xC018_2101, 0x4008_2102, 0x4018_2103, 0x4008_2104),
)
"""ioctl numbers of seccomp_unotify(2), and its three structs."""
NOTIFICATION: Final = struct.Struct("=QII iIQ 6Q")
RESPONSE: Final = struct.Struct("=QqiI")
DESCRIPTOR: Final = struct.Struct("=QIIII")
CONTINUE: Final = 1
SYNC_WAKE_UP: Final = 1
"""Run the supervisor on the caller's processor, which waits for it. Linux 6.6."""
FILE_OF_SOCKET: Final = 0x89E0
"""SIOCUNIXFILE: opens the file that a Unix socket is bound to."""
UNIX_FAMILY: Final = struct.pack("=H", socket.AF_UNIX)
PATH_OFFSET: Final = 2
"""In an address of AF_UNIX, after the family."""
MAX_ADDRESS: Final = 128
"""sizeof(struct sockaddr_storage); the kernel refuses longer ones."""
MAX_SOCKETS: Final = 256
"""Files of listening sockets in shared folders, each with a descriptor. Beyond that the oldest can
no longer be connected to.
"""
OUTER_GROUP: Final = 0
"""Number of a process group that was made outside of the PID namespace."""
JOB_CONTROL: Final = (signal.SIGTSTP, signal.SIGSTOP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT)
"""By these an editor suspends its whole job, `modelplex run` included, as Ctrl-Z does."""
IDLE_THREADS: Final = 2
"""That wait for a call. One more is started when all are busy, since connecting may block."""


_Arguments: TypeAlias = tuple[int, int, int, int]


class OwnSockets:
    """Files of Unix sockets on which the sandbox listens. Each is held open, so that its number
    stays its own.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], int] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<OwnSockets, {len(self._held)} files>"

    def __contains__(self, status: os.stat_result) -> bool:
        with self._lock:
            return (status.st_dev, status.st_ino) in self._held

    def add(self, number: int) -> None:
        """`number`, a descriptor of the file, is the set's from now on."""
        status = os.fstat(number)
        with self._lock:
            self._drop_removed()
            former = self._held.pop((status.st_dev, status.st_ino), None)
            self._held[status.st_dev, status.st_ino] = number
            if former is not None:
                os.close(former)
            while len(self._held) > MAX_SOCKETS:
                os.close(self._held.pop(next(iter(self._held))))

    def _drop_removed(self) -> None:
        for key, number in list(self._held.items()):
            if os.fstat(number).st_nlink == 0:
                os.close(self._held.pop(key))


class CallSupervisor:
    """`own` are the devices (st_dev) of the sandbox's own folders."""

    def __init__(self, listener: int, own: frozenset[int]) -> None:
        self._listener = listener
        self._own = own
        self._sockets = OwnSockets()
        self._lock = threading.Lock()
        self._idle = 0
        of = seccomp.machine()
        self._answers = {
            of.connect: self._connect,
            of.listen: self._listen,
            of.kill: self._kill,
            of.socket: self._socket,
            of.socketpair: self._socketpair,
        }
        with suppress(OSError):
            fcntl.ioctl(listener, SET_FLAGS, SYNC_WAKE_UP)

    def __repr__(self) -> str:
        return f"<CallSupervisor, {len(self._own)} own file systems, {self._sockets}>"

    def start(self) -> None:
        """Answer calls in threads, until the process ends. Raises RuntimeError where the user has
        no thread left.
        """
        with self._lock:
            self._idle += 1
        try:
            threading.Thread(target=self._work, daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._idle -= 1
            raise

    def _work(self) -> None:
        while (notification := self._receive()) is not None:
            with self._lock:
                self._idle -= 1
                is_last = self._idle == 0
            if is_last:
                with suppress(RuntimeError):
                    self.start()
            response = self._answer(notification)
            # Before the caller goes on: its next call would find one idle thread fewer.
            with self._lock:
                is_surplus = self._idle >= IDLE_THREADS
                self._idle += not is_surplus
            with suppress(OSError):  # the caller was killed
                fcntl.ioctl(self._listener, SEND, response)
            if is_surplus:
                return

    def _receive(self) -> bytearray | None:
        """None once no filtered process is left."""
        while True:
            notification = bytearray(NOTIFICATION.size)
            try:
                fcntl.ioctl(self._listener, RECEIVE, notification)
            except OSError:  # the caller was killed
                poll = select.poll()
                poll.register(self._listener, 0)
                if poll.poll(0):
                    return None
            else:
                return notification

    def _answer(self, notification: bytearray) -> bytearray:
        ident, tid, _, call, *_, one, two, three, four, _, _ = NOTIFICATION.unpack(notification)
        value = flags = code = 0
        try:
            value, flags = self._answers[call](ident, tid, (_signed(one), two, three, four))
        except OSError as fault:
            code = fault.errno or errno.EACCES
        except Exception as fault:  # noqa: BLE001 - its caller would wait for ever
            code = errno.EACCES
            sys.stderr.write(f"modelplex run: a system call was refused by a defect: {fault!r}\n")
        return bytearray(RESPONSE.pack(ident, value, -code, flags))

    def _check_alive(self, ident: int) -> None:
        """Until now the thread that was looked at is certain to be the caller: a thread id may be
        reused.
        """
        fcntl.ioctl(self._listener, ID_VALID, struct.pack("=Q", ident))

    # --- connect ---

    def _connect(self, ident: int, tid: int, arguments: _Arguments) -> tuple[int, int]:
        number, address_at, length, _ = arguments
        length &= 0xFFFF_FFFF
        if length > MAX_ADDRESS:
            raise _error(errno.EINVAL)
        pidfd = kernel.pidfd_of_thread(tid)
        try:
            address = kernel.memory_of(tid, address_at, length) if length else b""
            self._check_alive(ident)
            own_fd = kernel.descriptor_of(pidfd, number)
        finally:
            os.close(pidfd)
        try:
            # A Unix socket refuses an address of another family, and this is the only copy.
            is_unix = address[:PATH_OFFSET] == UNIX_FAMILY
            if is_unix and address[PATH_OFFSET : PATH_OFFSET + 1] not in {b"", b"\0"}:
                code = self._connect_path(own_fd, tid, address)
            else:
                code = kernel.connect(own_fd, address)
        finally:
            os.close(own_fd)
        if code:
            raise _error(code)
        return 0, 0

    def _connect_path(self, own_fd: int, tid: int, address: bytes) -> int:
        path = os.fsdecode(address[PATH_OFFSET:].split(b"\0", 1)[0])
        found = os.open(_seen_from(tid, path), os.O_PATH | os.O_CLOEXEC)
        try:
            status = os.fstat(found)
            if not stat.S_ISSOCK(status.st_mode):
                return errno.ECONNREFUSED
            if status.st_dev not in self._own and status not in self._sockets:
                return errno.EACCES
            opened = os.fsencode(f"/proc/self/fd/{found}")
            return kernel.connect(own_fd, address[:PATH_OFFSET] + opened + b"\0")
        finally:
            os.close(found)

    # --- other calls ---

    def _listen(self, ident: int, tid: int, arguments: _Arguments) -> tuple[int, int]:
        """If another thread replaces the descriptor meanwhile, a socket listens that is unknown
        here, and is refused.
        """
        pidfd = kernel.pidfd_of_thread(tid)
        try:
            self._check_alive(ident)
            own_fd = kernel.descriptor_of(pidfd, arguments[0])
        finally:
            os.close(pidfd)
        try:
            if kernel.socket_family(own_fd) == socket.AF_UNIX:
                self._sockets.add(fcntl.ioctl(own_fd, FILE_OF_SOCKET))
        except OSError:
            pass  # not bound to a path, or no socket, which the call itself reports
        finally:
            os.close(own_fd)
        return 0, CONTINUE

    def _socket(self, ident: int, _tid: int, arguments: _Arguments) -> tuple[int, int]:
        family, kind, protocol, _ = arguments
        kind &= 0xFFFF_FFFF
        with socket.socket(family, kind & ~socket.SOCK_CLOEXEC, protocol & 0xFFFF_FFFF) as made:
            return self._give(ident, made, kind), 0

    def _socketpair(self, ident: int, tid: int, arguments: _Arguments) -> tuple[int, int]:
        family, kind, protocol, numbers_at = arguments
        kind &= 0xFFFF_FFFF
        made = socket.SOCK_SEQPACKET | kind & socket.SOCK_NONBLOCK
        one, other = socket.socketpair(family, made, protocol & 0xFFFF_FFFF)
        with one, other:
            self._check_alive(ident)
            kernel.write_memory(tid, numbers_at, bytes(8))  # fails before a descriptor is made
            numbers = [self._give(ident, each, kind) for each in (one, other)]
        kernel.write_memory(tid, numbers_at, struct.pack("=ii", *numbers))
        return 0, 0

    def _kill(self, ident: int, tid: int, arguments: _Arguments) -> tuple[int, int]:
        """A process of another group cannot enter the outer one, which has no number here, so that
        its call may go on.
        """
        number = _signed(arguments[1])
        group = os.getpgid(tid)
        self._check_alive(ident)
        if group != OUTER_GROUP or number in JOB_CONTROL:
            return 0, CONTINUE
        for name in os.listdir("/proc"):  # noqa: PTH208
            if name.isdigit() and int(name) != os.getpid():
                with suppress(ProcessLookupError):
                    if os.getpgid(int(name)) == OUTER_GROUP:
                        os.kill(int(name), number)
        return 0, 0

    def _give(self, ident: int, made: socket.socket, kind: int) -> int:
        """The caller's number of a copy."""
        flags = os.O_CLOEXEC if kind & socket.SOCK_CLOEXEC else 0
        packed = bytearray(DESCRIPTOR.pack(ident, 0, made.fileno(), 0, flags))
        number: int = fcntl.ioctl(self._listener, ADD_DESCRIPTOR, packed)
        return number


def _seen_from(tid: int, path: str) -> str:
    """The path as that thread resolves it. If it made a mount namespace of its own, we may find
    nothing, or a socket that is refused.
    """
    if path.startswith(("/proc/self/", "/proc/thread-self/")):
        return f"/proc/{tid}/{path.split('/', 3)[3]}"
    return path if path.startswith("/") else f"/proc/{tid}/cwd/{path}"


def _signed(word: int) -> int:
    """A register as the int that the kernel reads."""
    return (word & 0xFFFF_FFFF) - ((word & 0x8000_0000) << 1)


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
