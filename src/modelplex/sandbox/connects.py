"""The supervisor's side of `connect`: seccomp sends it every call, since a filter cannot see paths.

A Unix socket in a folder of the sandbox's own, such as its /tmp, is connected: nobody outside can
have made it. One in a folder that is shared with the host is refused. Other connections, abstract
names included, are limited by the network namespace, which is empty, and are made as requested.

Nothing that the caller can still change is trusted: its address is copied once, its descriptor is
duplicated, and a path is opened, checked and connected to by the same open file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
import threading
from contextlib import suppress
from typing import Final

from modelplex.sandbox import kernel

RECEIVE, SEND, ID_VALID = 0xC050_2100, 0xC018_2101, 0x4008_2102
"""ioctl numbers of seccomp_unotify(2), and its two structs."""
NOTIFICATION: Final = struct.Struct("=QII iIQ 6Q")
RESPONSE: Final = struct.Struct("=QqiI")
PATH_OFFSET: Final = 2
"""In an address of AF_UNIX, after the family."""
MAX_ADDRESS: Final = 128
"""sizeof(struct sockaddr_storage); the kernel refuses longer ones."""


class ConnectSupervisor:
    """`own` are the devices (st_dev) of the sandbox's own folders."""

    def __init__(self, listener: int, own: frozenset[int]) -> None:
        self._listener = listener
        self._own = own

    def __repr__(self) -> str:
        return f"<ConnectSupervisor, {len(self._own)} own file systems>"

    def serve_one(self) -> None:
        """Receive one call, and answer it in a thread, since connecting may block."""
        notification = bytearray(NOTIFICATION.size)
        try:
            fcntl.ioctl(self._listener, RECEIVE, notification)
        except OSError:
            return  # the caller was killed
        try:
            threading.Thread(target=self._answer, args=(notification,), daemon=True).start()
        except RuntimeError:
            self._answer(notification)  # the user has no thread left

    def _answer(self, notification: bytearray) -> None:
        ident, tid, _, _, _, _, number, address_at, length, *_ = NOTIFICATION.unpack(notification)
        try:
            code = self._connect(ident, tid, _signed(number), address_at, length & 0xFFFF_FFFF)
        except OSError as fault:
            code = fault.errno or errno.EACCES
        with suppress(OSError):  # the caller was killed
            fcntl.ioctl(self._listener, SEND, bytearray(RESPONSE.pack(ident, 0, -code, 0)))

    def _connect(self, ident: int, tid: int, number: int, address_at: int, length: int) -> int:
        """0 or an errno."""
        if length > MAX_ADDRESS:
            return errno.EINVAL
        pidfd = kernel.pidfd_of_thread(tid)
        try:
            address = kernel.memory_of(tid, address_at, length) if length else b""
            # Now the thread we read is certain to be the caller: a thread id may be reused.
            fcntl.ioctl(self._listener, ID_VALID, bytearray(struct.pack("=Q", ident)))
            own_fd = kernel.descriptor_of(pidfd, number)
        finally:
            os.close(pidfd)
        try:
            if not stat.S_ISSOCK(os.fstat(own_fd).st_mode):
                return errno.ENOTSOCK
            if _family(own_fd) != socket.AF_UNIX or address[PATH_OFFSET : PATH_OFFSET + 1] in {b"", b"\0"}:
                return kernel.connect(own_fd, address)
            return self._connect_path(own_fd, tid, address)
        finally:
            os.close(own_fd)

    def _connect_path(self, own_fd: int, tid: int, address: bytes) -> int:
        if address[:PATH_OFFSET] != struct.pack("=H", socket.AF_UNIX):
            return errno.EINVAL
        path = os.fsdecode(address[PATH_OFFSET:].split(b"\0", 1)[0])
        found = os.open(_seen_from(tid, path), os.O_PATH | os.O_CLOEXEC)
        try:
            status = os.fstat(found)
            if not stat.S_ISSOCK(status.st_mode):
                return errno.ECONNREFUSED
            if status.st_dev not in self._own:
                return errno.EACCES
            opened = os.fsencode(f"/proc/self/fd/{found}")
            return kernel.connect(own_fd, address[:PATH_OFFSET] + opened + b"\0")
        finally:
            os.close(found)


def _seen_from(tid: int, path: str) -> str:
    """The path as that thread resolves it. If it made a mount namespace of its own, we may find
    nothing, or a socket that is refused.
    """
    if path.startswith(("/proc/self/", "/proc/thread-self/")):
        return f"/proc/{tid}/{path.split('/', 3)[3]}"
    return path if path.startswith("/") else f"/proc/{tid}/cwd/{path}"


def _family(number: int) -> int:
    with socket.socket(fileno=os.dup(number)) as copy:
        return copy.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)


def _signed(word: int) -> int:
    """A register as the int that the kernel reads."""
    return (word & 0xFFFF_FFFF) - ((word & 0x8000_0000) << 1)
