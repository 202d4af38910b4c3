"""Identifies the process at the other end of a Unix socket, and the network that it sees.

It knows no config and decides nothing. It reads the state of the process that connected, when the
connection is accepted: that process may hand the connection on, and sockets that it opened earlier
in another namespace are not seen. So this finds mistakes in a setup; it is not a proof.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import Protocol

from modelplex.core.caller import Peer, PeerNetwork

SO_PEERPIDFD = 77
"""A pidfd of the connecting process, to detect that its pid was reused. Linux 6.5 and later."""
CREDENTIALS = struct.Struct("3i")
"""pid, uid, gid (unix(7)). The kernel writes -1 for a user that it cannot map."""
DESCRIPTOR = struct.Struct("i")
UNSIGNED = 2**32
MOST_THREADS = 512
"""Threads that are read: 10 µs each, or 40 where the kernel hides which of them share a namespace.
A process with more is unknown, since the event loop waits meanwhile.
"""
LOOPBACK = "lo"
UNKNOWN = PeerNetwork("unknown")


class PeerSocket(Protocol):
    """A socket, or an event loop's wrapper of one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


def credentials(sock: PeerSocket) -> Peer | None:
    """The process that connected; None if the kernel does not tell."""
    try:
        pid, uid, gid = CREDENTIALS.unpack(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        )
    except (OSError, struct.error):
        return None
    return Peer(pid, uid % UNSIGNED, gid % UNSIGNED)


def attest(sock: PeerSocket, peer: Peer | None) -> PeerNetwork:
    """The network that the threads of the connecting process see. Unknown for a process that has
    exited, or that is in another PID namespace (pid 0).
    """
    if peer is None or peer.pid <= 0:
        return UNKNOWN
    pidfd = _pidfd(sock)
    try:
        seen = interfaces(peer.pid)
        # While the caller lives, no other process has its pid.
        if seen is None or (pidfd is not None and _has_exited(pidfd)):
            return UNKNOWN
    finally:
        if pidfd is not None:
            os.close(pidfd)
    return PeerNetwork("networked", seen) if seen else PeerNetwork("isolated")


def interfaces(pid: int) -> tuple[str, ...] | None:
    """The interfaces beside `lo` of the first thread that sees any; empty if no thread does, None
    if they cannot be read.

    Each thread may have its own namespace. `/proc/PID/net/dev` is the kernel's view;
    `/sys/class/net` would show what was mounted.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - a tenth of the time
    except OSError:
        return None
    if len(threads) > MOST_THREADS:
        return None
    namespaces: set[str] = set()
    for thread in threads:
        try:
            namespace = _namespace(pid, thread)
            if namespace in namespaces:
                continue
            if found := _interfaces(pid, thread):
                return found
        except (FileNotFoundError, ProcessLookupError):
            continue  # this thread has just ended
        except OSError:
            return None
        namespaces.add(namespace)
    return () if namespaces else None


def _namespace(pid: int, thread: str) -> str:
    """The name of a thread's network namespace; a unique name if it may not be read."""
    try:
        return os.readlink(f"/proc/{pid}/task/{thread}/ns/net")  # noqa: PTH115 - a tenth of the time
    except PermissionError:
        return thread


def _interfaces(pid: int, thread: str) -> tuple[str, ...]:
    with open(f"/proc/{pid}/task/{thread}/net/dev", "rb", buffering=0) as file:  # noqa: PTH123 - a tenth of the time
        lines = file.readall().splitlines()
    # Two header lines, then a name, a colon and numbers.
    names = (line.partition(b":")[0].strip().decode("utf-8", "replace") for line in lines[2:])
    return tuple(name for name in names if name != LOOPBACK)


def _pidfd(sock: PeerSocket) -> int | None:
    try:
        (pidfd,) = DESCRIPTOR.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, DESCRIPTOR.size))
    except (OSError, struct.error):
        return None
    return pidfd if pidfd >= 0 else None


def _has_exited(pidfd: int) -> bool:
    """A pidfd becomes readable when its process exits."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
