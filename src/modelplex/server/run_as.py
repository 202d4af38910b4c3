"""Changes from root to an unprivileged user at the start, where MODELPLEX_RUN_AS says so: in a
container.

An image that sets a user cannot write into a folder that people mount for the socket: it belongs to
them, or to root where Docker made it. So the image starts as root, and the process becomes the
folder's owner, or the image's own user, before it opens or starts anything. It imports nothing of
ours.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

IDENTITY = ["0", "0", "4294967295"]
"""The first row of /proc/self/uid_map where root is the host's root (user_namespaces(7)).
Elsewhere, as in a rootless container, it is an unprivileged user of the host already.
"""


class User(NamedTuple):
    uid: int
    gid: int


class RunAsError(Exception):
    """The user cannot be changed. `sentence` says what to do."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


def give_up_root(default: str, *, sockets: Sequence[str] = (), config: str | None = None) -> None:
    """Become the owner of the folder of `sockets`, or of the sockets that the file `config` names;
    `default` (`uid:gid`) where root owns it or there is none. Does nothing where the process is not
    the host's root. A mounted folder of root's is given to `default`.

    Raises:
        RunAsError
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
            if _is_roots_mount(folder) and not _may_write(folder, user):
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
    """Whom the first of the folders belongs to that is not root's; `default` where there
    is none.
    """
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


def _is_roots_mount(folder: Path) -> bool:
    """Whether root owns it and something is mounted there (proc_pid_mountinfo(5)): a folder that
    Docker made for a volume. No folder of the image itself is given away.
    """
    try:
        rows = Path("/proc/self/mountinfo").read_text().splitlines()
        return folder.stat().st_uid == 0 and any(row.split()[4] == str(folder) for row in rows)
    except OSError:
        return False


def _may_write(folder: Path, user: User) -> bool:
    """Whether the user may make files in it."""
    status = folder.stat()
    bits = stat.S_IWGRP | stat.S_IXGRP if status.st_gid == user.gid else stat.S_IWOTH | stat.S_IXOTH
    return status.st_mode & bits == bits


def _sockets_of(config: str | None) -> list[str]:
    """The sockets that a config names. What is wrong with it is told where it is loaded."""
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
