"""Every `connect` of the sandbox is made here, by its supervisor, which knows the path that a
filter cannot see.

A Unix socket may be connected to where it lies in a folder that is the sandbox's own (its /tmp,
say): nobody outside can have made it. One in a folder that is shared with the host is refused,
whoever made it and whenever. Connections of other kinds, abstract names among them, belong to the
network namespace, which is empty, and are made as asked for.

Nothing that the asking program may still change is trusted: its address is copied once, its
descriptor is taken as our own, and a path is opened, looked at, and connected to by that same open
file.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import threading
from contextlib import suppress
from typing import Final

from modelplex.sandbox import kernel

RECEIVE, SEND, STILL_THERE = 0xC050_2100, 0xC018_2101, 0x4008_2102
NOTICE: Final = struct.Struct("=QII iIQ 6Q")
ANSWER: Final = struct.Struct("=QqiI")
PATH_AT: Final = 2
"""Where the path begins in an address of AF_UNIX: behind the family."""
LONGEST_ADDRESS: Final = 128
"""sizeof(struct sockaddr_storage); the kernel refuses longer ones."""


class Connects:
    """`own` are the devices (st_dev) of the folders that nobody outside shares."""

    def __init__(self, listener: int, own: frozenset[int]) -> None:
        self._listener = listener
        self._own = own

    def __repr__(self) -> str:
        return f"<Connects, {len(self._own)} own file systems>"

    def serve_one(self) -> None:
        """Take one request and have it answered in a thread of its own, since a connection may have
        to be waited for.
        """
        notice = bytearray(NOTICE.size)
        try:
            kernel.ioctl(self._listener, RECEIVE, notice)
        except OSError:
            return  # who asked has been killed meanwhile
        try:
            threading.Thread(target=self._answer, args=(notice,), daemon=True).start()
        except RuntimeError:
            self._answer(notice)  # no thread is left for this user

    def _answer(self, notice: bytearray) -> None:
        ident, tid, _, _, _, _, number, address_at, length, *_ = NOTICE.unpack(notice)
        try:
            code = self._connect(ident, tid, _signed(number), address_at, length & 0xFFFF_FFFF)
        except OSError as fault:
            code = fault.errno or errno.EACCES
        with suppress(OSError):  # who asked has been killed meanwhile
            kernel.ioctl(self._listener, SEND, bytearray(ANSWER.pack(ident, 0, -code, 0)))

    def _connect(self, ident: int, tid: int, number: int, address_at: int, length: int) -> int:
        """0 or the number of an error."""
        if length > LONGEST_ADDRESS:
            return errno.EINVAL
        pidfd = kernel.pidfd_of_thread(tid)
        try:
            address = kernel.memory_of(tid, address_at, length) if length else b""
            # Only now is it certain that the thread which was looked at is the one that asked: a
            # number may be given to another.
            kernel.ioctl(self._listener, STILL_THERE, bytearray(struct.pack("=Q", ident)))
            ours = kernel.descriptor_of(pidfd, number)
        finally:
            os.close(pidfd)
        try:
            if not stat.S_ISSOCK(os.fstat(ours).st_mode):
                return errno.ENOTSOCK
            if _family(ours) != socket.AF_UNIX or address[PATH_AT : PATH_AT + 1] in {b"", b"\0"}:
                return kernel.connect(ours, address)
            return self._connect_path(ours, tid, address)
        finally:
            os.close(ours)

    def _connect_path(self, ours: int, tid: int, address: bytes) -> int:
        if address[:PATH_AT] != struct.pack("=H", socket.AF_UNIX):
            return errno.EINVAL
        path = os.fsdecode(address[PATH_AT:].split(b"\0", 1)[0])
        found = os.open(_seen_from(tid, path), os.O_PATH | os.O_CLOEXEC)
        try:
            status = os.fstat(found)
            if not stat.S_ISSOCK(status.st_mode):
                return errno.ECONNREFUSED
            if status.st_dev not in self._own:
                return errno.EACCES
            opened = os.fsencode(f"/proc/self/fd/{found}")
            return kernel.connect(ours, address[:PATH_AT] + opened + b"\0")
        finally:
            os.close(found)


def _seen_from(tid: int, path: str) -> str:
    """The path as that thread means it. Where it lives in a tree of its own making this one may
    find nothing, or something that is refused.
    """
    if path.startswith(("/proc/self/", "/proc/thread-self/")):
        return f"/proc/{tid}/{path.split('/', 3)[3]}"
    return path if path.startswith("/") else f"/proc/{tid}/cwd/{path}"


def _family(number: int) -> int:
    with socket.socket(fileno=os.dup(number)) as looked_at:
        return looked_at.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)


def _signed(word: int) -> int:
    """A register as the int that the call reads of it."""
    return (word & 0xFFFF_FFFF) - ((word & 0x8000_0000) << 1)
