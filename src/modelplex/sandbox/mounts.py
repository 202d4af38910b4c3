"""Builds the root of a sandbox from the mounts of folders.py, and moves into it. The process has a
mount namespace of its own.
"""

# Paths of another root, and links that must not be followed, are text.
# ruff: noqa: PTH102, PTH103, PTH108, PTH112, PTH115, PTH116, PTH120, PTH211
from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Final

from modelplex.sandbox import kernel
from modelplex.sandbox.folders import HIDDEN_OF_PROC, SHOWN_OF_SYS, Mount, is_read_only

DEVICES: Final = "null zero full random urandom tty".split()
LINKS: Final = {
    "fd": "/proc/self/fd",
    "stdin": "fd/0",
    "stdout": "fd/1",
    "stderr": "fd/2",
    "ptmx": "pts/ptmx",
}
NO_SUID_NO_DEV: Final = kernel.MS_NOSUID | kernel.MS_NODEV


def protect_streams(folder: str) -> None:
    """Reopen standard streams that are files open for reading only, through a read-only mount:
    otherwise the program could reopen them for writing by /proc/self/fd.

    `folder` is a private one for the temporary mounts. Raises OSError.
    """
    kernel.mount("", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    for number in (0, 1, 2):
        facts = os.fstat(number)
        if not (stat.S_ISREG(facts.st_mode) and facts.st_nlink and is_read_only(number)):
            continue
        place = f"{folder}/stream{number}"
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        kernel.bind(os.readlink(f"/proc/self/fd/{number}"), place)
        kernel.make_read_only(place)
        _reopen(number, place)
        kernel.detach(place)
        os.unlink(place)


def _reopen(number: int, place: str) -> None:
    try:
        opened = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        if os.access(place, os.W_OK):
            raise
        return  # opened by another user; the program may not open it either
    if not os.path.samestat(os.fstat(number), os.fstat(opened)):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), place)
    os.lseek(opened, os.lseek(number, 0, os.SEEK_CUR), os.SEEK_SET)
    os.dup2(opened, number)
    os.close(opened)


def enter(root: str, steps: Sequence[Mount], *, is_root: bool, terminal: str | None) -> frozenset[int]:
    """Make `root` (an empty folder) the root of this process, with these steps, /proc, /dev and
    /sys. Returns the devices of the sandbox's own file systems. Raises OSError.
    """
    kernel.mount("", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", root, "tmpfs", NO_SUID_NO_DEV, "mode=0755")
    own: set[int] = set()
    for step in steps:
        _step(root, step)
        if step.kind == "empty":
            own.add(os.stat(root + step.target).st_dev)
    for name in ("proc", "dev", "sys"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    kernel.mount("proc", f"{root}/proc", "proc", NO_SUID_NO_DEV | kernel.MS_NOEXEC)
    _devices(f"{root}/dev", terminal)
    own.add(os.stat(f"{root}/dev/shm").st_dev)  # noqa: S108 - the sandbox's own
    _sys(f"{root}/sys")
    if is_root:
        _mask_proc(f"{root}/proc")
    # The old root is stacked on the new one and detached, which needs no folder for it.
    os.chdir(root)
    kernel.pivot_root(".", ".")
    kernel.detach(".")
    os.chdir("/")
    return frozenset(own)


def _step(root: str, step: Mount) -> None:
    target = root + step.target.rstrip("/")
    match step.kind:
        case "empty":
            os.makedirs(target, exist_ok=True)
            mode = "1777" if step.target in {"/tmp", "/var/tmp"} else "0755"  # noqa: S108
            kernel.mount("tmpfs", target, "tmpfs", NO_SUID_NO_DEV, f"mode={mode}")
        case "link":
            if not os.path.lexists(target):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.symlink(step.source, target)
        case "mask":
            _mask(target)
        case "ro" | "rw":
            _make_mount_point(step.source, target)
            kernel.bind(step.source, target)
            if step.kind == "ro":
                kernel.make_read_only(target)
            else:
                kernel.ignore_setuid_and_devices(target)


def _make_mount_point(source: str, target: str) -> None:
    if os.path.lexists(target):
        return
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))


def _mask(target: str) -> None:
    try:
        mode = os.stat(target).st_mode
    except OSError:
        return  # there is nothing to hide
    if stat.S_ISDIR(mode):
        kernel.mount("tmpfs", target, "tmpfs", NO_SUID_NO_DEV | kernel.MS_RDONLY, "mode=0555")
    else:
        kernel.bind("/dev/null", target)


def _devices(folder: str, terminal: str | None) -> None:
    kernel.mount("tmpfs", folder, "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=0755")
    for name in DEVICES:
        os.close(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY, 0o600))
        kernel.mount(f"/dev/{name}", f"{folder}/{name}", "", kernel.MS_BIND)
    for name in ("pts", "shm"):
        os.mkdir(f"{folder}/{name}")
    flags = kernel.MS_NOSUID | kernel.MS_NOEXEC
    kernel.mount("devpts", f"{folder}/pts", "devpts", flags, "newinstance,ptmxmode=0666,mode=0620")
    kernel.mount("tmpfs", f"{folder}/shm", "tmpfs", NO_SUID_NO_DEV, "mode=1777")
    for name, target in LINKS.items():
        os.symlink(target, f"{folder}/{name}")
    if terminal is not None:
        os.close(os.open(f"{folder}/console", os.O_CREAT | os.O_WRONLY, 0o600))
        kernel.mount(terminal, f"{folder}/console", "", kernel.MS_BIND)


def _sys(folder: str) -> None:
    """Empty, but for what tells the processors."""
    kernel.mount("tmpfs", folder, "tmpfs", NO_SUID_NO_DEV | kernel.MS_NOEXEC, "mode=0755")
    for path in SHOWN_OF_SYS:
        if os.path.isdir(path):
            target = folder + path.removeprefix("/sys")
            os.makedirs(target)
            kernel.bind(path, target)
    kernel.make_read_only(folder)


def _mask_proc(proc: str) -> None:
    """Uid 0 owns the host's settings, and may write them without any capability."""
    kernel.bind(f"{proc}/sys", f"{proc}/sys")
    kernel.make_read_only(f"{proc}/sys")
    for name in HIDDEN_OF_PROC:
        _mask(f"{proc}/{name}")
