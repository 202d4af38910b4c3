"""The life of a socket file: claimed, published, removed. It knows neither HTTP nor an event loop.

`claim` acts on what is at the path:

    nothing, or a socket that refuses connections   dead: the new socket is made beside it and
                                                    renamed onto the path
    any other socket                                live: ListenError names its process
    a file, fifo, directory, symlink                ListenError; it is left as it is

A lock file beside it (`PATH.lock`) is held from the first check until the removal, so that of two
processes that start at once one gets the path. Abstract names are not used: a network namespace
hides them, and no file mode protects them.
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
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from modelplex.confinement.launcher_process import NAME as LAUNCHER
from modelplex.server.address import ListenError, Unix

PATH_LIMIT = 107
"""Bytes: `sun_path` has 108 on Linux, and the last is the NUL."""

BACKLOG = 1024
"""Connections that the kernel queues until they are accepted: a thousand agents may start at once.
"""

LOCK_TRIES = 10
"""The holder of a lock file may remove it between our open and our lock; then we open it again."""

TEMPORARY_TRIES = 100
"""Hidden names that are tried. A file that a crashed process left at one is left alone."""

HIDDEN_LENGTH = 16
"""Characters of a hidden name, a dot and 60 random bits: it collides with no chosen name."""

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
the server closes. Here `SocketFile.remove` does that, if the file is still ours; a port of AF_VSOCK
has no file, and the loop's attempt raises TypeError.
"""

Identity = tuple[int, int]
"""Device and inode."""


class SocketHost(Protocol):
    """Makes and removes socket files. Each raises OSError, the first three ListenError."""

    def check_not_live(self, path: str) -> None:
        """Raises ListenError for a live socket. Only a refused connection means that it is dead;
        after a full backlog, a missing permission or another type of socket it may be live.
        """
        ...

    def lock(self, path: str) -> int:
        """A descriptor that holds the lock file. Raises ListenError if another process holds it."""
        ...

    def bind(self, address: Unix) -> tuple[socket.socket, str, Identity]:
        """A socket that listens, its hidden name, and its file."""
        ...

    def rename(self, hidden: str, path: str) -> None: ...
    def unlink(self, path: str, identity: Identity) -> None:
        """Remove the file, if it is this one."""
        ...


class LocalSockets:
    """Does it in this process."""

    def check_not_live(self, path: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except (ConnectionRefusedError, FileNotFoundError):
                return
            except OSError as fault:
                raise ListenError(f"{path} is in use: connecting to it says {fault.strerror!r}.") from None
            raise ListenError(f"{path} is in use by {holder(probe)}.")

    def lock(self, path: str) -> int:
        name = f"{path}.lock"
        for _ in range(LOCK_TRIES):
            lock = open_lock(name, os.O_RDONLY)
            try:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if error.errno != errno.EBADF:
                        raise
                    # NFS locks only what may be written to (flock(2)).
                    os.close(lock)
                    lock = open_lock(name, os.O_RDWR)
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                self.check_not_live(path)
                raise ListenError(
                    f"another process is just starting or stopping on {path} and holds {name}."
                ) from None
            if identity_at(name) == identity_of(os.fstat(lock)):
                return lock
            os.close(lock)
        raise ListenError(f"{name} is removed again and again by other processes that start and stop.")

    def bind(self, address: Unix) -> tuple[socket.socket, str, Identity]:
        try:
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as fault:
            raise listen_error(address.path, fault) from None
        hidden: str | None = None
        try:
            hidden = bind_beside(bound, address)
            identity = identity_of(os.lstat(hidden))
            if address.group is not None:
                give_to_group(hidden, group=address.group, path=address.path)
            bound.listen(BACKLOG)
        except BaseException:
            bound.close()
            if hidden is not None:
                with contextlib.suppress(OSError):
                    Path(hidden).unlink()
            raise
        return bound, hidden, identity

    def rename(self, hidden: str, path: str) -> None:
        Path(hidden).rename(path)

    def unlink(self, path: str, identity: Identity) -> None:
        if identity_at(path) == identity:
            Path(path).unlink()


_host: SocketHost = LocalSockets()
"""Of the process, as its confinement: see server/confined.py."""


def use_host(host: SocketHost) -> None:
    """From now on `host` makes and removes the socket files of this process."""
    global _host  # noqa: PLW0603 - see _host
    _host = host


class SocketFile:
    """A listening socket. `publish` renames it to its path; `remove` removes it, if it is still
    ours.
    """

    def __init__(self, address: Unix, *, lock: int) -> None:
        self.address = address
        self.lock = lock
        self._socket: socket.socket | None = None
        self.hidden: str | None = None
        self.identity: Identity | None = None
        self.replaces: Identity | None = None
        self.follows: SocketFile | None = None
        """One of this process at the same path."""

    def __repr__(self) -> str:
        stage = "hidden" if self.hidden else "published" if self.identity else "gone"
        return f"<SocketFile {self.address.path} {stage}>"

    @property
    def socket(self) -> socket.socket:
        """Once it is bound."""
        assert self._socket is not None
        return self._socket

    def bind(self) -> None:
        """Listen under a hidden name beside the path. Raises ListenError."""
        with listen_errors(self.address.path):
            self._socket, self.hidden, self.identity = _host.bind(self.address)

    def close(self) -> None:
        """Remove the file, close the socket and release the lock."""
        self.remove()
        if self._socket is not None:
            self._socket.close()
        self.release()

    def publish(self) -> None:
        """Rename the finished socket to its path. Raises ListenError if another file was put there
        meanwhile.
        """
        path, hidden = self.address.path, self.hidden
        if hidden is None:
            raise RuntimeError(f"{self!r} is published already, or removed")
        if identity_at(path) != self.replaces:
            raise ListenError(
                f"something was put at {path} while this process was starting; it was left as it is."
            )
        with listen_errors(path):
            _host.rename(hidden, path)
        self.hidden = None
        if (former := self.follows) is not None:
            self.lock, former.lock, self.follows = former.lock, -1, None

    def remove(self) -> None:
        """Remove the file, if it is still the one that this object made. Idempotent."""
        if self.identity is not None:
            with contextlib.suppress(OSError):
                _host.unlink(self.hidden or self.address.path, self.identity)
        self.hidden = self.identity = None

    def release(self) -> None:
        """Release the lock, so that another process may claim the path. Idempotent."""
        if self.lock >= 0:
            unlock(f"{self.address.path}.lock", lock=self.lock)
            self.lock = -1


def claim(address: Unix) -> SocketFile:
    """A socket that listens under a hidden name beside its path, with the mode and group of
    `address`. Raises ListenError; then nothing at the path was changed.
    """
    path = address.path
    check_path(path)
    check_kind(path)
    with listen_errors(path):
        file = SocketFile(address, lock=_host.lock(path))
    try:
        check_kind(path)
        with listen_errors(path):
            _host.check_not_live(path)
        file.replaces = identity_at(path)
        file.bind()
    except BaseException:
        file.close()
        raise
    return file


def succeed(file: SocketFile, address: Unix) -> SocketFile:
    """A socket for the path of `file`, which this process serves, with another mode or group. It
    replaces the file when it is published, and takes over its lock: nobody finds the path empty.
    Raises ListenError.
    """
    follower = SocketFile(address, lock=-1)
    follower.follows = file
    try:
        with listen_errors(address.path):
            follower.replaces = identity_at(address.path)
        follower.bind()
    except BaseException:
        follower.close()
        raise
    return follower


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
    with listen_errors(path):
        there = directory.is_dir()
    if not there:
        raise ListenError(f"the directory {directory} for the socket {path} does not exist; create it first.")


def check_kind(path: str) -> None:
    with listen_errors(path):
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
    if not stat.S_ISSOCK(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "something else than a socket")
        raise ListenError(
            f"{path} is {kind}, not a socket; it was left as it is. Choose another path or remove it."
        )


def holder(probe: socket.socket) -> str:
    """The process that called `listen` on the other end, by SO_PEERCRED (pid, uid, gid)."""
    pid, uid, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    pid = _gateway_of(pid)
    # A pid of 0 is a process outside of our pid namespace.
    return f"process {pid} (uid {uid})" if pid else f"a process in another pid namespace (uid {uid})"


def _gateway_of(pid: int) -> int:
    """The process whose launcher this is, or itself: who ends the launcher ends no gateway."""
    with contextlib.suppress(OSError, ValueError):
        if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").rstrip("\n") == LAUNCHER:
            status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
            return int(status.rpartition(")")[2].split()[1])
    return pid


def open_lock(name: str, access: int) -> int:
    """An empty file: a program may have one of this name with something in it."""
    with listen_errors(name):
        lock = os.open(name, access | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    status = os.fstat(lock)
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        return lock
    os.close(lock)
    what = "not empty" if stat.S_ISREG(status.st_mode) else "not a regular file"
    raise ListenError(f"{name} is {what}, so it cannot serve as a lock.")


def unlock(name: str, *, lock: int) -> None:
    # Removed while it is held: a process that opened it before notices, and opens a new one.
    with contextlib.suppress(OSError):
        _host.unlink(name, identity_of(os.fstat(lock)))
    os.close(lock)


def bind_beside(bound: socket.socket, address: Unix) -> str:
    """Bind to a hidden name beside the path, which is returned. Raises ListenError."""
    # By the umask the file has its mode from the start; between bind and chmod it would not.
    mask = os.umask(0o777 & ~address.mode)
    try:
        for name in hidden_names(address.path):
            try:
                bound.bind(name)
            except OSError as fault:
                if fault.errno == errno.EADDRINUSE:
                    continue
                raise listen_error(address.path, fault) from None
            return name
    finally:
        os.umask(mask)
    raise ListenError(f"no free name for a temporary socket beside {address.path}.")


def hidden_names(path: str) -> Iterator[str]:
    """Random names beside the path, as long as PATH_LIMIT allows: a short one might be the name of
    another file.
    """
    name = Path(path).name
    directory = path.removesuffix(name)
    length = min(HIDDEN_LENGTH, PATH_LIMIT - len(os.fsencode(directory)))
    # A leading dot hides it from listings; a name of one character must not be ".".
    dot = "." if length > 2 else ""
    names = (dot + secrets.token_hex(length)[: length - len(dot)] for _ in range(TEMPORARY_TRIES))
    return (directory + each for each in names if each != name)


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


def identity_of(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def identity_at(path: str) -> Identity | None:
    """Of the file at the path, links not followed; None if there is none."""
    try:
        return identity_of(os.lstat(path))
    except FileNotFoundError:
        return None


def listen_error(path: str, fault: OSError) -> ListenError:
    folder = Path(path).parent
    if fault.errno in {errno.EACCES, errno.EPERM, errno.EROFS} and not os.access(folder, os.W_OK | os.X_OK):
        return ListenError(f"cannot listen on {path}: {not_writable(folder, number=fault.errno)}")
    return ListenError(f"cannot listen on {path}: {fault.strerror}.")


def not_writable(folder: Path, *, number: int) -> str:
    """Why no socket can be made in the folder, and what to do."""
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
def listen_errors(path: str) -> Generator[None, None, None]:
    """Turns an OSError about the path into a ListenError."""
    try:
        yield
    except OSError as fault:
        raise listen_error(path, fault) from None
