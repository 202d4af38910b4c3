"""The process at the other end of a Unix socket: who it is, and whether it has a network.

Above it stands `callers`; below it the kernel. It knows no config and decides nothing. What it
finds is of the process that connected, as it was when it was accepted: it may have handed the
connection on, and sockets that it opened earlier, in another namespace, are not seen. So this finds
mistakes in a setup, and proves nothing.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import Protocol

from modelplex.core.caller import Peer, PeerNetwork

SO_PEERPIDFD = 77
"""A descriptor of the connecting process, by which a reused pid is noticed. Linux 6.5 and later."""
CREDENTIALS = struct.Struct("3i")
"""pid, uid, gid (unix(7)). The uid of nobody that is known here is read as the number that it
stands for.
"""
DESCRIPTOR = struct.Struct("i")
UNSIGNED = 2**32
MOST_THREADS = 512
"""Threads that are looked at: 10 us each, or 40 where the kernel hides which of them share a
namespace. A process with more is not judged, since all wait meanwhile.
"""
LOOPBACK = "lo"
UNKNOWN = PeerNetwork("unknown")


class PeerSocket(Protocol):
    """A socket, or what an event loop gives for one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


def credentials(sock: PeerSocket) -> Peer | None:
    """Who connected, None where the kernel does not say."""
    try:
        pid, uid, gid = CREDENTIALS.unpack(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        )
    except (OSError, struct.error):
        return None
    return Peer(pid, uid % UNSIGNED, gid % UNSIGNED)


def attest(sock: PeerSocket, peer: Peer | None) -> PeerNetwork:
    """What network the threads of the connecting process see. Unknown for a process that is gone,
    or of another PID namespace (pid 0).
    """
    if peer is None or peer.pid <= 0:
        return UNKNOWN
    process = _descriptor(sock)
    try:
        seen = interfaces(peer.pid)
        # Whoever had the pid when we looked, was it the caller? As long as the caller lives, nobody
        # else has it.
        if seen is None or (process is not None and _has_exited(process)):
            return UNKNOWN
    finally:
        if process is not None:
            os.close(process)
    return PeerNetwork("networked", seen) if seen else PeerNetwork("isolated")


def interfaces(pid: int) -> tuple[str, ...] | None:
    """The interfaces beside `lo` that the first thread with any sees; none where no thread sees
    one, None where that cannot be told.

    Each thread may have a namespace of its own. `/proc/PID/net/dev` says what the kernel thinks;
    `/sys/class/net` would show what was mounted.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - a tenth of the time
    except OSError:
        return None
    if len(threads) > MOST_THREADS:
        return None
    looked: set[str] = set()
    for thread in threads:
        try:
            namespace = _namespace(pid, thread)
            if namespace in looked:
                continue
            if found := _interfaces(pid, thread):
                return found
        except (FileNotFoundError, ProcessLookupError):
            continue  # this thread has just ended
        except OSError:
            return None
        looked.add(namespace)
    return () if looked else None


def _namespace(pid: int, thread: str) -> str:
    """What its network namespace is called; for a thread that does not let us see that, a name that
    no other has.
    """
    try:
        return os.readlink(f"/proc/{pid}/task/{thread}/ns/net")  # noqa: PTH115 - a tenth of the time
    except PermissionError:
        return thread


def _interfaces(pid: int, thread: str) -> tuple[str, ...]:
    with open(f"/proc/{pid}/task/{thread}/net/dev", "rb", buffering=0) as file:  # noqa: PTH123 - a tenth of the time
        lines = file.readall().splitlines()
    # Two lines of heads; then a name, a colon, and numbers.
    names = (line.partition(b":")[0].strip().decode("utf-8", "replace") for line in lines[2:])
    return tuple(name for name in names if name != LOOPBACK)


def _descriptor(sock: PeerSocket) -> int | None:
    try:
        (descriptor,) = DESCRIPTOR.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, DESCRIPTOR.size))
    except (OSError, struct.error):
        return None
    return descriptor if descriptor >= 0 else None


def _has_exited(process: int) -> bool:
    """A pidfd can be read once its process is no more."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(0))
