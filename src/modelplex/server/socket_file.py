"""The life of a socket file: claimed, published, removed. Above it `serve`; it knows nothing of
HTTP or of an event loop.

What is found at the path decides (`claim`):

    nothing, or a socket that refuses a connection   dead: ours is made beside it and renamed onto
    the path
    a socket that answers in any other way           live: refused, naming who holds it
    a file, fifo, directory, symlink                 refused and left as it is

A lock file beside it (`PATH.lock`) is held from the first look until the removal, so that of two
starters one wins. The names are in the file system and never abstract ones, which a network
namespace would hide and no mode would guard.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import secrets
import socket
import stat
import struct
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from modelplex.server.address import ListenError, Unix

PATH_LIMIT = 107
"""Bytes: `sun_path` has 108 on Linux, and the last is the NUL."""

BACKLOG = 1024
"""Connections that the kernel holds for us until accepted: a start of a thousand agents at once is
not turned away.
"""

LOCK_TRIES = 10
"""A lock file may be removed by its last holder between our open and our lock; then it is opened
again.
"""

TEMPORARY_TRIES = 100
"""Names tried for the half-made socket; one taken by a crashed predecessor is left alone."""

HIDDEN_LENGTH = 16
"""A dot and 60 random bits: nobody chose that name."""

KINDS = {
    stat.S_IFREG: "a regular file",
    stat.S_IFIFO: "a fifo",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}

NO_CLEANUP: Final[dict[str, Any]] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"""For an event loop's `create_unix_server`. Since Python 3.13 a loop removes the socket's file when
the server closes, unless told not to. Ours is removed here, and only while it is still ours; a port
of AF_VSOCK has none, and looking for it raises TypeError.
"""

Identity = tuple[int, int]
"""Device and inode."""


class SocketFile:
    """A listening socket that `publish` makes visible at its path and `remove` takes away again, if
    it is still ours.
    """

    def __init__(self, address: Unix, *, lock: int) -> None:
        self.address = address
        self.lock = lock
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.hidden: str | None = None
        self.identity: Identity | None = None
        self.replaces: Identity | None = None

    def __repr__(self) -> str:
        stage = "hidden" if self.hidden else "published" if self.identity else "gone"
        return f"<SocketFile {self.address.path} {stage}>"

    def publish(self) -> None:
        """Rename the finished socket onto the path. Raises ListenError if something else has come
        to stand there.
        """
        path, hidden = self.address.path, self.hidden
        if hidden is None:
            raise RuntimeError(f"{self!r} has nothing left to publish")
        if look(path) != self.replaces:
            raise ListenError(
                f"something was put at {path} while this process was starting; it was left as it is."
            )
        with refusing(path):
            Path(hidden).rename(path)
        self.hidden = None

    def remove(self) -> None:
        """Take the file away if it is still the one that we made. Safe to call twice."""
        file = Path(self.hidden or self.address.path)
        with contextlib.suppress(OSError):
            if self.identity is not None and identify(file.lstat()) == self.identity:
                file.unlink()
        self.hidden = self.identity = None

    def release(self) -> None:
        """Let another process have the path. Safe to call twice."""
        if self.lock >= 0:
            unlock(lock_name(self.address.path), lock=self.lock)
            self.lock = -1


def claim(address: Unix) -> SocketFile:
    """A socket that listens under a hidden name beside its path, with mode and group as asked for.

    Raises ListenError with a sentence; then nothing of what stood there was touched.
    """
    path = address.path
    check_path(path)
    check_kind(path)
    file = SocketFile(address, lock=take_lock(path))
    try:
        check_kind(path)
        check_dead(path)
        file.replaces = look(path)
        bind_hidden(file)
    except BaseException:
        file.remove()
        file.socket.close()
        file.release()
        raise
    return file


def check_path(path: str) -> None:
    if not path:
        raise ListenError("a socket needs a path.")
    if "\0" in path:
        raise ListenError("the socket's path holds a NUL byte: abstract names are not served, only files.")
    length = len(os.fsencode(path))
    if length > PATH_LIMIT:
        raise ListenError(
            f"the socket's path is {length} bytes long, and the system's limit is {PATH_LIMIT}: {path}"
        )
    directory = Path(path).parent
    with refusing(path):
        there = directory.is_dir()
    if not there:
        raise ListenError(f"the directory {directory} for the socket {path} does not exist; create it first.")


def check_kind(path: str) -> None:
    with refusing(path):
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
    if not stat.S_ISSOCK(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "something else than a socket")
        raise ListenError(
            f"{path} is {kind}, not a socket; it was left as it is. Choose another path or remove it."
        )


def check_dead(path: str) -> None:
    """A refused connection alone is death: a full backlog, a missing permission or another kind of
    socket are signs of life.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as fault:
            raise ListenError(f"{path} is in use: connecting to it says {fault.strerror!r}.") from None
        raise ListenError(f"{path} is in use by {holder(probe)}.")


def holder(probe: socket.socket) -> str:
    """Who called `listen` on the other end, by SO_PEERCRED (three ints: pid, uid, gid)."""
    pid, uid, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    # A pid of 0 is a process outside of our pid namespace.
    return f"process {pid} (uid {uid})" if pid else f"a process in another pid namespace (uid {uid})"


def lock_name(path: str) -> str:
    return f"{path}.lock"


def take_lock(path: str) -> int:
    """A descriptor that holds the lock file. Raises ListenError if another process holds it."""
    name = lock_name(path)
    for _ in range(LOCK_TRIES):
        lock = open_lock(name)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            check_dead(path)
            raise ListenError(
                f"another process is just starting or stopping on {path} and holds {name}."
            ) from None
        if look(name) == identify(os.fstat(lock)):
            return lock
        os.close(lock)
    raise ListenError(f"{name} is removed again and again by other processes that start and stop.")


def open_lock(name: str) -> int:
    with refusing(name):
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if stat.S_ISREG(os.fstat(lock).st_mode):
        return lock
    os.close(lock)
    raise ListenError(f"{name} is not a regular file, so it cannot serve as a lock.")


def unlock(name: str, *, lock: int) -> None:
    with contextlib.suppress(OSError):
        # Removed while still held: who opened it before sees that it is gone, and opens anew.
        if look(name) == identify(os.fstat(lock)):
            Path(name).unlink()
    os.close(lock)


def bind_hidden(file: SocketFile) -> None:
    address = file.address
    # The mask makes the mode right from the start; a chmod after bind would leave a gap.
    mask = os.umask(0o777 & ~address.mode)
    try:
        for name in hidden_names(address.path):
            try:
                file.socket.bind(name)
            except OSError as fault:
                if fault.errno == errno.EADDRINUSE:
                    continue
                raise refusal(address.path, fault) from None
            file.hidden = name
            break
        else:
            raise ListenError(f"no free name for a half-made socket beside {address.path}.")
    finally:
        os.umask(mask)
    file.identity = identify(os.lstat(file.hidden))
    if address.group is not None:
        give_to_group(file.hidden, group=address.group, path=address.path)
    file.socket.listen(BACKLOG)


def hidden_names(path: str) -> list[str]:
    """As long as the limit leaves room for: a short one might be the name of somebody
    else's file.
    """
    name = Path(path).name
    directory = path.removesuffix(name)
    length = min(HIDDEN_LENGTH, PATH_LIMIT - len(os.fsencode(directory)))
    # A leading dot hides it from listings; a single character must not be the dot that means the
    # directory.
    dot = "." if length > 2 else ""
    names = (dot + secrets.token_hex(length)[: length - len(dot)] for _ in range(TEMPORARY_TRIES))
    return [directory + each for each in names if each != name]


def give_to_group(hidden: str, *, group: str, path: str) -> None:
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        raise ListenError(
            f'there is no group "{group}" on this machine, which the socket {path} should belong to.'
        ) from None
    try:
        os.chown(hidden, -1, gid)
    except OSError as fault:
        raise ListenError(
            f'the socket {path} cannot be given to the group "{group}": {fault.strerror}.'
            " A user may give it only to groups that the user is in."
        ) from None


def identify(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def look(path: str) -> Identity | None:
    """What stands at the path, links not followed; None where nothing does."""
    try:
        return identify(os.lstat(path))
    except FileNotFoundError:
        return None


def refusal(path: str, fault: OSError) -> ListenError:
    folder = Path(path).parent
    if fault.errno in {errno.EACCES, errno.EPERM, errno.EROFS} and not os.access(folder, os.W_OK | os.X_OK):
        return ListenError(f"cannot listen on {path}: {not_writable(folder, number=fault.errno)}")
    return ListenError(f"cannot listen on {path}: {fault.strerror}.")


def not_writable(folder: Path, *, number: int) -> str:
    """Why no socket can be made there, and what to do."""
    if number == errno.EROFS:
        return f"{folder} is read-only; a container needs it mounted without :ro."
    try:
        status = folder.stat()
    except OSError:
        return f"the user {os.geteuid()} may not enter {folder}."
    return (
        f"the user {os.geteuid()} may not write into {folder}, which belongs to the user {status.st_uid} (mode {stat.S_IMODE(status.st_mode):04o}). "
        f"Start it as that user (docker run --user {status.st_uid}:{status.st_gid} ...), or give the folder to the user {os.geteuid()}."
    )


@contextlib.contextmanager
def refusing(path: str) -> Generator[None, None, None]:
    """What the system says about the path, as a sentence."""
    try:
        yield
    except OSError as fault:
        raise refusal(path, fault) from None
