"""Changes from root to another user at the start of a container, if MODELPLEX_RUN_AS is set.

An image that sets a user cannot write into a folder that is mounted for the socket: it belongs to
the user who mounts it, or to root if Docker made it. So the image starts as root, and the process
becomes the folder's owner, or the image's own user, before it opens or starts anything. It imports
nothing of ours.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

IDENTITY = ["0", "0", "4294967295"]
"""The first row of /proc/self/uid_map where root is the host's root (user_namespaces(7)). In a
rootless container it is an unprivileged user of the host.
"""


class User(NamedTuple):
    uid: int
    gid: int


class RunAsError(Exception):
    """The user cannot be changed. `sentence` says what to do."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


def drop_root(default: str, *, sockets: Sequence[str] = (), config: str | None = None) -> None:
    """Become the owner of the folder of `sockets`, or of the sockets in the file `config`, or
    `default` (`uid:gid`) if root owns it or there is none. A mounted folder of root is given to
    `default`. Does nothing if the process is not the host's root. Raises RunAsError.
    """
    if os.geteuid() != 0 or not _is_host_root():
        return
    try:
        uid, gid = map(int, default.split(":"))
    except ValueError:
        raise RunAsError(f'MODELPLEX_RUN_AS is "{default}", and is to be two numbers, uid:gid.') from None
    folders = [Path(each).absolute().parent for each in (sockets or _sockets_of(config))]
    user = owner_of(folders, default=User(uid, gid))
    try:
        for folder in folders:
            if _is_root_mount(folder) and not _may_write(folder, user):
                os.chown(folder, user.uid, user.gid)
        os.setgroups([])
        os.setgid(user.gid)
        os.setuid(user.uid)
    except OSError as error:
        raise RunAsError(
            f"It was started as root and cannot become the user {user.uid} ({error.strerror}). Start it as that user: docker run --user {user.uid}:{user.gid} ..."
        ) from None
    os.environ["HOME"] = _home(user)


def owner_of(folders: Sequence[Path], *, default: User) -> User:
    """The owner of the first folder that is not root's; `default` if there is none."""
    for folder in folders:
        try:
            status = folder.stat()
        except OSError:
            continue
        if status.st_uid != 0:
            return User(status.st_uid, status.st_gid)
    return default


def _is_host_root() -> bool:
    try:
        first = Path("/proc/self/uid_map").read_text().split(maxsplit=3)[:3]
    except OSError:
        return True
    return first == IDENTITY


def _is_root_mount(folder: Path) -> bool:
    """Whether root owns the folder and it is a mount (proc_pid_mountinfo(5)), as one that Docker
    made for a volume. Folders of the image keep their owner.
    """
    try:
        rows = Path("/proc/self/mountinfo").read_text().splitlines()
        return folder.stat().st_uid == 0 and any(row.split()[4] == str(folder) for row in rows)
    except OSError:
        return False


def _may_write(folder: Path, user: User) -> bool:
    """Whether the user may create files in it."""
    status = folder.stat()
    bits = stat.S_IWGRP | stat.S_IXGRP if status.st_gid == user.gid else stat.S_IWOTH | stat.S_IXOTH
    return status.st_mode & bits == bits


def _sockets_of(config: str | None) -> list[str]:
    """The sockets of a config. Its errors are reported when it is loaded."""
    if config is None:
        return []
    import tomllib

    try:
        tree = tomllib.loads(Path(config).read_text())
    except (OSError, ValueError):
        return []
    return [each for table in _tables(tree) for each in _texts(table.get("socket")) if each]


def _tables(tree: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    agents = tree.get("agents")
    for each in [tree.get("server"), *(cast("list[object]", agents) if isinstance(agents, list) else [])]:
        if isinstance(each, dict):
            yield cast("dict[str, object]", each)


def _texts(value: object) -> list[str]:
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]


def _home(user: User) -> str:
    try:
        return pwd.getpwuid(user.uid).pw_dir
    except KeyError:
        return "/"
